"""Traces: what both seats tell is the same, none of it is secret, and a session can be put together again from it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate import (
    Auth,
    AuthResponse,
    Bdat,
    Body,
    Limits,
    Phase,
    Rcpt,
    Reply,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Timer,
    TlsMode,
    Verb,
    Violation,
)
from smtpstate.delivery import Envelope, open_session, quit_session, send_message
from smtpstate.trace import TraceBudget, TraceLine, TracePhase, TraceRecord, TraceVerdict, render
from smtpstate_testing import Pair, accept_everything, retrace, strategies

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate_testing import Handler
    from smtpstate_testing.strategies import Dialogue

CONFIG = ServerConfig(
    "mx.example.org", limits=Limits(errors=10_000, junk=10_000, commands=10_000, error_delay_seconds=0.0)
)


def said(records: Iterable[TraceRecord], side: str) -> list[bytes]:
    return [record.line for record in records if isinstance(record, TraceLine) and record.side == side]


verdicts = st.lists(
    st.sampled_from([None, None, Reply(250), Reply(450, "later"), Reply(550, "no", "never")]), max_size=12
)


def deciding(answers: list[Reply | None], *, silent: bool = False) -> Handler:
    left = list(reversed(answers))

    def handler(server: ServerConnection, event: ServerEvent) -> None:
        if server.owed is event and isinstance(event, Rcpt) and left:
            answer = left.pop()
            if answer is not None:
                server.reply(answer)
            elif not silent:
                server.accept()
        else:
            accept_everything(server, event)

    return handler


@settings(max_examples=80, deadline=None)
@given(
    bodies=st.lists(strategies.bodies(), max_size=3), answers=verdicts, cut=strategies.cuts(), pipelining=st.booleans()
)
def test_both_seats_tell_the_same_lines(
    bodies: list[bytes], answers: list[Reply | None], cut: strategies.Cut, *, pipelining: bool
) -> None:
    offers = frozenset({"8BITMIME", "SIZE"} | ({"PIPELINING"} if pipelining else set()))
    pair = Pair(ServerConfig("mx.example.org", offers=offers), cut=cut, handler=deciding(answers))
    pair.run(open_session(pair.client, TlsMode.OFF))
    for body in bodies:
        pair.run(send_message(pair.client, Envelope("me@example.com", ("a@example.org", "b@example.org"))), [body])
    pair.run(quit_session(pair.client))
    for side in "CS":
        assert said(pair.client_records, side) == said(pair.records, side)
    for records in (pair.records, pair.client_records):
        phases = [record.phase for record in records if isinstance(record, TracePhase)]
        assert all(before is not after for before, after in pairwise(phases))
        assert phases[-1] is Phase.CLOSED
    told = [record for record in pair.client_records if isinstance(record, TraceVerdict)]
    assert len(told) == len(said(pair.client_records, "S"))


@settings(max_examples=80, deadline=None)
@given(dialogue=strategies.dialogues(), answers=verdicts, pause=st.sampled_from([None, 0, 3]), silent=st.booleans())
def test_a_session_is_put_together_again_from_its_trace(
    dialogue: Dialogue, answers: list[Reply | None], pause: int | None, *, silent: bool
) -> None:
    pair = Pair(CONFIG, handler=deciding(answers, silent=silent))
    for index, piece in enumerate(dialogue.pieces):
        pair.talk(piece)
        if index == pause:
            pair.wait(400)
    retraced = retrace(pair.records, CONFIG)
    assert retraced.received == pair.received
    assert list(retraced.records) == pair.records
    replayed = pair.recording.replay(deciding(answers, silent=silent))
    assert (replayed.received, list(replayed.events)) == (pair.received, pair.server_events)
    assert list(replayed.records) == pair.records


def test_chunks_are_put_together_again() -> None:
    pair = Pair(CONFIG)
    pair.talk(b"EHLO c\r\n")
    pair.talk(b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nBDAT 3\r\nabcBDAT 0 LAST\r\nBDAT 4\r\nabcd")
    assert [message.data for message in pair.inbox] == [b"abc"]
    assert pair.received.splitlines()[-1].startswith(b"503 "), "the last chunk is no part of it"
    assert retrace(pair.records, CONFIG).received == pair.received


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_no_secret_is_told(mechanism: str) -> None:
    config = ServerConfig("mx.example.org", mechanisms=("PLAIN", "LOGIN"), auth_in_clear=True)

    def handler(server: ServerConnection, event: ServerEvent) -> None:
        match event:
            case Auth(initial_response=None):
                server.challenge(b"")
            case Auth() | AuthResponse():
                server.authenticated("me")
            case _:
                accept_everything(server, event)

    for initial in (None, b"\0me\0secret"):
        pair = Pair(config, handler=handler)
        pair.run(open_session(pair.client, TlsMode.OFF))
        pair.client.send(Auth(mechanism, initial))
        pair.drive()
        if initial is None:
            pair.client.send(AuthResponse(b"\0me\0secret"))
            pair.drive()
        for records in (pair.records, pair.client_records):
            assert "***" in render(records)
            assert "AG1lAHNlY3JldA==" not in render(records)
            assert b"secret" not in repr(records).encode()
        with pytest.raises(ValueError, match="secret"):
            retrace(pair.records, config)


def test_budgets_are_told_when_they_are_spent() -> None:
    pair = Pair(limits=Limits(errors=2))
    pair.talk(b"XYZZY\r\n" * 3)
    assert TraceBudget(Violation.TOO_MANY_ERRORS) in pair.records
    pair = Pair()
    pair.drive()
    while pair.jump():
        pass
    assert TraceBudget(Timer.COMMAND) in pair.records
    pair = Pair(timeout=10)
    pair.drive()
    pair.jump()
    assert pair.client_records[-2:] == [TraceBudget(Timer.SESSION), TracePhase(Phase.CLOSED)]


def test_a_handler_that_is_too_slow_is_told_and_not_traced_again() -> None:
    def slow(server: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Rcpt):
            pair.clock.advance(1000)
            server.handle_timeout()

    pair = Pair(handler=slow)
    pair.talk(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\n")
    budget = pair.records.index(TraceBudget(Timer.HANDLER))
    [verdict] = [record for record in pair.records[budget:] if isinstance(record, TraceVerdict)]
    assert (verdict.verb, verdict.reply.code, verdict.silent) == (Verb.RCPT, 451, True)
    with pytest.raises(ValueError, match="how slow"):
        retrace(pair.records)


def test_a_client_tells_its_chunks() -> None:
    pair = Pair()
    pair.run(open_session(pair.client, TlsMode.OFF))
    envelope = Envelope("me@example.com", ("you@example.org",), chunked=True)
    pair.run(send_message(pair.client, envelope), [b"hello"])
    assert "C: BDAT 7 LAST\nC: (7 octets) .\n" in render(pair.client_records)
    assert Body(b"hello\r\n") in pair.server_events
    assert Bdat(7, last=True) in pair.server_events
