"""A LocalProtocolError changes nothing: whatever the caller gets wrong, at whatever moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate import (
    Body,
    Command,
    Data,
    Ehlo,
    EndOfMessage,
    Mail,
    Mailbox,
    Noop,
    Quit,
    Rcpt,
    Reply,
    ReversePath,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    TlsInfo,
    Vrfy,
)
from smtpstate.policy import EarlyInput, Forbidden, WireRules
from smtpstate_testing import Pair
from tests.property.snapshots import attempt, snapshot
from tests.property.wire import PATIENT, cuts


def test_a_snapshot_tells_states_apart() -> None:
    pair = Pair()
    seen = [snapshot(pair.server)]
    for data in (b"", b"HELO c\r\n", b"MAIL", b" FROM:<>\r\n", b"RCPT TO:<you@example.org>\r\n", b"DATA\r\n", b"."):
        pair.talk(data)
        assert snapshot(pair.server) not in seen
        assert snapshot(pair.server) == snapshot(pair.server)
        seen.append(snapshot(pair.server))


# The server's seat.

Verdict: TypeAlias = Callable[[ServerConnection], object]

TLS: Final = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")
VERDICTS: Final[tuple[Verdict, ...]] = (
    lambda server: server.accept(),
    lambda server: server.accept("two\r\nlines"),
    lambda server: server.accept("x" * 600),
    lambda server: server.reply(Reply(250)),
    lambda server: server.reply(Reply(354)),
    lambda server: server.reply(Reply(450, "no", enhanced="4.2.0")),
    lambda server: server.reply(Reply(450, "no", enhanced="5.2.0")),
    lambda server: server.reply(Reply(550, "bell \a")),
    lambda server: server.reply(Reply(199)),
    lambda server: server.reply(Reply(999)),
    lambda server: server.refuse(Reply(250)),
    lambda server: server.refuse(Reply(552, "full")),
    lambda server: server.refuse(Reply(552, "\0")),
    lambda server: server.close(Reply(250)),
    lambda server: server.close(Reply(421, "\ud800")),
    lambda server: server.close(Reply(421, enhanced="5.0.0")),
    lambda server: server.tls_established(TLS),
    lambda server: server.tls_failed(),
)
# Each of these is a mistake whenever nobody waits for it and nothing has ended.
ALWAYS_WRONG: Final = tuple(VERDICTS[index] for index in (1, 2, 8, 9, 10, 12, 13, 14, 15))

GROUPS: Final = (
    b"EHLO c\r\n",
    b"MAIL FROM:<me@example.com>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n",
    b"MAIL FROM:<me@example.com>\r\n",
    b"RCPT TO:<you@example.org>\r\n",
    b"DATA\r\n",
    b"hello\r\n",
    b".\r\n",
    b"hello\r\n.\r\nRSET\r\n",
    b"STARTTLS\r\n",
    b"VRFY you\r\n",
    b"FOO\r\nNOOP\r\n",
    b"QUIT\r\n",
)
# Whatever a group is where it comes, the session goes on.
LENIENT: Final = WireRules(forbidden=Forbidden(), early_input=EarlyInput.NOTE)
verdicts = st.lists(st.sampled_from(VERDICTS), max_size=3)


@settings(max_examples=300, deadline=None)
@given(
    groups=st.lists(st.sampled_from(GROUPS), max_size=8),
    inside=st.lists(verdicts, min_size=1, max_size=6),
    between=st.lists(verdicts, min_size=1, max_size=6),
    cut=cuts,
)
def test_a_wrong_verdict_changes_nothing(
    groups: list[bytes], inside: list[list[Verdict]], between: list[list[Verdict]], cut: int | list[int] | None
) -> None:
    turn = 0

    def handler(server: ServerConnection, event: ServerEvent) -> None:
        nonlocal turn
        turn += 1
        for verdict in inside[turn % len(inside)]:
            attempt(server, lambda verdict=verdict: verdict(server))  # type: ignore[misc]  # mypy cannot infer the default
        if server.owed is event and not isinstance(event, Vrfy):
            server.accept()

    config = ServerConfig("mx.example.org", PATIENT, starttls=True, asks_vrfy=True)
    pair = Pair(config, cut=cut, handler=handler)
    pair.talk()
    for number, group in enumerate(groups):
        pair.talk(group)
        for verdict in between[number % len(between)]:
            attempt(pair.server, lambda verdict=verdict: verdict(pair.server))  # type: ignore[misc]  # as above


@pytest.mark.parametrize("verdict", ALWAYS_WRONG)
@pytest.mark.parametrize("length", range(len(GROUPS)))
def test_some_verdicts_are_always_wrong(verdict: Verdict, length: int) -> None:
    def handler(server: ServerConnection, event: ServerEvent) -> None:
        if server.owed is event:
            assert attempt(server, lambda: verdict(server))
            if not isinstance(event, Vrfy):
                server.accept()

    pair = Pair(ServerConfig("mx.example.org", PATIENT, asks_vrfy=True, wire=LENIENT), handler=handler)
    pair.talk()
    for group in GROUPS[:length]:
        pair.talk(group)
    assert attempt(pair.server, lambda: verdict(pair.server))


# The client's seat.

ITEMS: Final[tuple[Command | Body | EndOfMessage, ...]] = (
    Ehlo("client.example.com"),
    Ehlo("two\r\nlines"),
    Ehlo(""),
    Mail.of("me@example.com"),
    Mail.of("me@example.com", size=100),
    Mail(ReversePath(Mailbox("a\r\nb", "example.com"))),
    Mail(ReversePath(Mailbox("me", "example.com")), (("NOSUCH", None),)),
    Mail(ReversePath(Mailbox("me", "example.com")), (("SIZE", "many"),)),
    Mail(ReversePath(Mailbox("x" * 3000, "example.com"))),
    Rcpt.of("you@example.org"),
    Rcpt.of("postmaster"),
    Data(),
    Body(b"hello"),
    EndOfMessage(),
    Rset(),
    Noop("\0"),
    Noop("x" * 3000),
    Noop(),
    Vrfy(""),
    StartTls(),
    Quit(),
)


@settings(max_examples=300, deadline=None)
@given(items=st.lists(st.one_of(st.none(), st.sampled_from(ITEMS)), max_size=30), cut=cuts, pipelining=st.booleans())
def test_a_wrong_command_changes_nothing(
    items: list[Command | Body | EndOfMessage | None], cut: int | list[int] | None, pipelining: bool
) -> None:
    offers = frozenset({"PIPELINING"} if pipelining else ())
    pair = Pair(ServerConfig("mx.example.org", PATIENT, offers=offers), cut=cut)
    for item in items:
        if item is None:
            pair.drive()
        else:
            attempt(pair.client, lambda item=item: pair.client.send(item))  # type: ignore[misc]  # as above
            attempt(pair.client, pair.client.tls_failed)
            attempt(pair.client, lambda: pair.client.tls_established(TLS))
    pair.drive()
    assert pair.client.broken is None
    assert pair.client.phase is pair.server.phase
