"""Where octets are cut means nothing: not to the events, not to the replies, and never to the end of a message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smtpstate import (
    ConnectionClosed,
    EndOfMessage,
    Mail,
    Rcpt,
    Reply,
    ResetCause,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TransactionReset,
    Violation,
)
from smtpstate_testing import Pair, accept_everything, replay
from tests.near_terminators import NEAR_TERMINATORS, NearTerminator
from tests.property.wire import CUTS, PATIENT, bodies, cuts, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

TO_THE_BODY: Final = b"EHLO c\r\nMAIL FROM:<me@example.com>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n"
SECOND_MESSAGE: Final = b"MAIL FROM:<eve@example.com>\r\nRCPT TO:<you@example.org>\r\nDATA\r\nforged\r\n"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("row", NEAR_TERMINATORS, ids=lambda row: row.reason)
def test_nothing_near_the_end_of_a_message_ends_it(row: NearTerminator, cut: int) -> None:
    pair = Pair(cut=cut)
    pair.talk(TO_THE_BODY)
    assert pair.talk(b"before" + row.near + SECOND_MESSAGE) == b""
    assert pair.talk(b".\r\n") == b"250 2.0.0 Message accepted\r\n"
    [end] = [event for event in pair.server_events if isinstance(event, EndOfMessage)]
    assert bodies(pair.server_events) == [b"before" + row.normalized + SECOND_MESSAGE]
    assert end.anomalies == row.anomalies
    assert sum(isinstance(event, Mail) for event in pair.server_events) == 1


# A group is what a client may send in one go before it has to wait (RFC 2920 section 3.1).

_ANY_TIME: Final = (
    b"MAIL FROM:<me@example.com>\r\n",
    b"MAIL FROM:<>\r\n",
    b"MAIL FROM:<no address>\r\n",
    b"MAIL FROM:<me@example.com> SIZE=99999999999\r\n",
    b"RCPT TO:<you@example.org>\r\n",
    b"RCPT TO:<refused@example.org>\r\n",
    b"rcpt to:<Postmaster>\r\n",
    b"RSET\r\n",
    b"RSET \t\r\n",
    b"NO\0OP\r\n",
    b"F\xffO\r\n",
    b"MAIL FROM:<me@example.com>\n",
    b"x" * 3000 + b"\r\n",
    b"\r\n",
)
_LAST: Final = (
    b"EHLO client.example.com\r\n",
    b"HELO client.example.com\r\n",
    b"EHLO\r\n",
    b"NOOP\r\n",
    b"VRFY you\r\n",
    b"HELP\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"DATA\r\n",
    b"AUTH PLAIN\r\n",
)
_CONTENT: Final = (
    b".\r\n",
    b"hello\r\n.\r\n",
    b"..hello\r\n\r\n.\n\r\n.\r\n",
    b"\r\n.\rhello\r\n.\r\n",
)

AFTER_HELO: Final = [
    b"EHLO client.example.com\r\n",
    b"HELO client.example.com\r\n",
    b"MAIL FROM:<me@example.com>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n",
    b"hello\r\n.\r\n",
]
ANSWERS: Final = (b"\r\n250 STARTTLS\r\n", b"250 mx.example.org\r\n")  # to EHLO, and to HELO
EARLY: Final = {Violation.EARLY_COMMAND, Violation.EARLY_GROUP, Violation.EARLY_PLAINTEXT}

_commands = st.lists(st.sampled_from(_ANY_TIME), max_size=4)
_group = st.tuples(_commands, st.sampled_from(_LAST)).map(lambda group: b"".join(group[0]) + group[1])
_message = st.tuples(st.sampled_from(_CONTENT)).map(
    lambda content: (b"MAIL FROM:<me@example.com>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n", content[0])
)
dialogues = st.lists(st.one_of(_group.map(lambda group: (group,)), _message), max_size=8).map(
    lambda parts: [b"EHLO client.example.com\r\n", *(group for part in parts for group in part)]
)


def refuse_one(server: ServerConnection, event: ServerEvent) -> None:
    """All but <refused@example.org>."""
    if isinstance(event, Rcpt) and event.recipient.address == "refused@example.org":
        server.reply(Reply(550))
    else:
        accept_everything(server, event)


def serving(cut: int | Sequence[int] | None) -> Pair:
    return Pair(ServerConfig("mx.example.org", starttls=True), limits=PATIENT, cut=cut, handler=refuse_one)


def hear_out(pair: Pair, said: bytes) -> bytes:
    """After too many errors replies are late, and who waits for them waits for that as well."""
    already = len(pair.received)
    while pair.late:
        pair.jump()
    return said + pair.received[already:]


def patient(groups: Sequence[bytes], cut: int | Sequence[int] | None) -> Pair:
    """Waits after each group. Where no PIPELINING is offered, as after HELO, a line is one (RFC 2920 section 3.1)."""
    pair = serving(cut)
    pipelining = False
    for group in groups:
        said = b""
        for piece in [group] if pipelining else re.findall(rb"[^\n]*\n", group):
            said = hear_out(pair, pair.talk(piece))
        if said.endswith(ANSWERS):
            pipelining = b"250-PIPELINING\r\n" in said
    hear_out(pair, pair.hang_up())
    return pair


def hasty(groups: Sequence[bytes], cut: int | Sequence[int] | None) -> Pair:
    """Waits for nothing."""
    pair = serving(cut)
    hear_out(pair, pair.talk(b"".join(groups)))
    hear_out(pair, pair.hang_up())
    return pair


@settings(max_examples=150, deadline=None)
@given(groups=dialogues)
@example(groups=AFTER_HELO)
def test_a_peer_that_keeps_the_sync_points_gets_the_same_however_its_octets_are_cut(groups: list[bytes]) -> None:
    whole = patient(groups, None)
    assert whole.server.closed is not None
    # Behind STARTTLS it speaks on in clear, whatever the answer was.
    assert whole.server.closed.violation in (None, Violation.EARLY_PLAINTEXT)
    for cut in CUTS:
        pair = patient(groups, cut)
        assert joined(pair.server_events) == joined(whole.server_events)
        assert pair.received == whole.received
        assert pair.server.closed == whole.server.closed


@settings(max_examples=100, deadline=None)
@given(groups=dialogues, cut=cuts)
@example(groups=AFTER_HELO, cut=None)
def test_a_peer_that_does_not_wait_gets_a_beginning_of_that_and_one_violation_at_most(
    groups: list[bytes], cut: int | list[int] | None
) -> None:
    whole = joined(patient(groups, None).server_events)
    events = joined(hasty(groups, cut).server_events)
    if events != whole:
        closed = events.pop()
        assert isinstance(closed, ConnectionClosed)
        assert closed.violation in EARLY
        if events and events[-1] == TransactionReset(ResetCause.CLOSED):
            events.pop()
        assert events == whole[: len(events)]


@settings(max_examples=150, deadline=None)
@given(
    groups=dialogues,
    cut=cuts,
    pauses=st.lists(st.floats(0, 200, allow_nan=False), min_size=1, max_size=5),
    lost=st.booleans(),
)
def test_a_recorded_session_replays_to_the_same_octets(
    groups: list[bytes], cut: int | list[int] | None, pauses: list[float], lost: bool
) -> None:
    config = ServerConfig("mx.example.org", PATIENT)
    pair = Pair(config, cut=cut, handler=refuse_one)
    for number, group in enumerate(groups):
        pair.talk(group)
        pause = pauses[number % len(pauses)]
        while pair.server.deadline is not None and pair.server.deadline <= pair.clock.now + pause:
            pair.jump()
        pair.clock.advance(pause)
    if lost:
        pair.lose()
    while pair.server.closed is None:
        pair.jump()
    assert replay(pair.inputs, config, handler=refuse_one) == pair.received
