"""What holds for two machines that keep the rules, whatever is said and however its octets are cut."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate import (
    AuthCancel,
    AuthResponse,
    Body,
    CloseReason,
    Command,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    LocalProtocolError,
    Mail,
    Noop,
    Phase,
    Quit,
    Rcpt,
    Reply,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    TlsMode,
    Vrfy,
)
from smtpstate._config import OFFERS
from smtpstate._delivery import Envelope, open_session, quit_session, send_message
from smtpstate._syntax import COMMANDS
from smtpstate.extensions import XClient, XForward
from smtpstate_testing import Pair, accept_everything
from tests.property.wire import PATIENT, bodies, cuts

if TYPE_CHECKING:
    from collections.abc import Sequence

# What dots and newlines can do to each other, and what else a body may hold.
_ATOMS: Final = (
    b"\r",
    b"\n",
    b"\r\n",
    b".",
    b"..",
    b"\r\n.\r\n",
    b"\n.\n",
    b".\r\n",
    b"\0",
    b"\xff",
    b"a",
    b"word " * 9,
)
chunks = st.lists(st.lists(st.sampled_from(_ATOMS), min_size=1, max_size=8).map(b"".join), max_size=6)


def as_sent(body: bytes) -> bytes:
    """What has to arrive: every newline a CRLF, and one at the end."""
    body = re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    return body if not body or body.endswith(b"\r\n") else body + b"\r\n"


# Bodies.


@settings(max_examples=120, deadline=None)
@given(messages=st.lists(chunks, max_size=4), cut=cuts, pipelining=st.booleans())
def test_any_body_arrives_intact_and_both_phases_agree(
    messages: list[list[bytes]], cut: int | list[int] | None, pipelining: bool
) -> None:
    offers = {"8BITMIME", "SIZE", "ENHANCEDSTATUSCODES"} | ({"PIPELINING"} if pipelining else set())
    pair = Pair(ServerConfig("mx.example.org", offers=frozenset(offers)), cut=cut)
    pair.run(open_session(pair.client, TlsMode.OFF))
    envelope = Envelope("me@example.com", ("you@example.org", "him@example.org"), eight_bit=True)
    for message in messages:
        assert pair.run(send_message(pair.client, envelope), message).all_accepted
        assert pair.client.phase is pair.server.phase is Phase.READY
    pair.run(quit_session(pair.client))
    assert bodies(pair.server_events) == [as_sent(b"".join(message)) for message in messages]
    sizes = [event.size for event in pair.server_events if isinstance(event, EndOfMessage)]
    assert sizes == [len(body) for body in bodies(pair.server_events)]
    assert pair.client.closed == pair.server.closed == ConnectionClosed(CloseReason.QUIT)


@settings(max_examples=15, deadline=None)
@given(message=chunks, cut=cuts, starttls=st.booleans())
def test_any_body_arrives_intact_through_tls(message: list[bytes], cut: int | list[int] | None, starttls: bool) -> None:
    pair = Pair(cut=cut, tls="starttls" if starttls else "implicit")
    pair.run(open_session(pair.client, TlsMode.REQUIRED if starttls else TlsMode.IMPLICIT))
    assert pair.run(send_message(pair.client, Envelope("", ("you@example.org",))), message).all_accepted
    pair.run(quit_session(pair.client))
    assert bodies(pair.server_events) == [as_sent(b"".join(message))]
    assert pair.client.closed == pair.server.closed == ConnectionClosed(CloseReason.QUIT)


verdicts = st.sampled_from([None, Reply(250), Reply(450), Reply(550), Reply(550, "no", "and no")])


@settings(max_examples=120, deadline=None)
@given(
    answers=st.lists(verdicts, min_size=1, max_size=12),
    cut=cuts,
    pipelining=st.booleans(),
    recipients=st.integers(1, 4),
)
def test_whatever_is_refused_both_phases_agree_and_each_recipient_has_an_outcome(
    answers: list[Reply | None], cut: int | list[int] | None, pipelining: bool, recipients: int
) -> None:
    """Answers are taken in turn, None being a yes; a 250 that DATA cannot have is one, too."""
    taken = 0

    def handler(server: ServerConnection, event: ServerEvent) -> None:
        nonlocal taken
        if server.owed is None or isinstance(event, Ehlo) or server.phase is Phase.CONNECT:
            return
        answer = answers[taken % len(answers)]
        taken += 1
        if answer is None or (answer.code == 250 and isinstance(event, Data)):
            server.accept()
        else:
            server.reply(answer)

    config = ServerConfig("mx.example.org", offers=frozenset({"PIPELINING"} if pipelining else ()))
    pair = Pair(config, cut=cut, handler=handler)
    pair.run(open_session(pair.client, TlsMode.OFF))
    envelope = Envelope("me@example.com", tuple(f"{number}@example.org" for number in range(recipients)))
    for _ in range(2):
        delivery = pair.run(send_message(pair.client, envelope), [b"hello"])
        assert [result.address for result in delivery] == list(envelope.recipients)
        assert all(result.reply is not None for result in delivery)
        assert pair.client.phase is pair.server.phase is Phase.READY
        assert pair.client.in_sync


# Commands in any order that the client's seat lets through.

client_commands: st.SearchStrategy[Command | Body | EndOfMessage | None] = st.sampled_from(
    [
        None,  # drive
        Ehlo("client.example.com"),
        Mail.of("me@example.com"),
        Mail.of(""),
        Rcpt.of("you@example.org"),
        Rcpt.of("postmaster"),
        Data(),
        Body(b".hello\r\n"),
        EndOfMessage(),
        Rset(),
        Noop("text"),
        Vrfy("you"),
        StartTls(),
        XClient(helo="a"),
        XClient(address="192.0.2.9", login="joe"),
        XForward(helo="a"),
        Quit(),
    ]
)


TRUSTED = frozenset({"XCLIENT", "XFORWARD"})
TRUSTING = ServerConfig("mx.example.org", offers=OFFERS | TRUSTED)


@settings(max_examples=200, deadline=None)
@given(items=st.lists(client_commands, max_size=25), cut=cuts, refuse=st.booleans())
def test_what_the_client_lets_through_the_server_understands(
    items: Sequence[Command | Body | EndOfMessage | None], cut: int | list[int] | None, refuse: bool
) -> None:
    def every_second_recipient(server: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Rcpt) and refuse and sum(isinstance(e, Rcpt) for e in pair.server_events) % 2:
            server.reply(Reply(450))
        elif server.owed is not None:
            server.accept()

    pair = Pair(TRUSTING, limits=PATIENT, cut=cut, tls="starttls", trusted=True, handler=every_second_recipient)
    pair.drive()
    for item in items:
        if item is None:
            pair.drive()
        else:
            with suppress(LocalProtocolError):
                pair.client.send(item)
    pair.drive()
    assert pair.client.phase is pair.server.phase
    assert pair.client.outstanding == 0
    assert pair.client.broken is None


@settings(max_examples=200, deadline=None)
@given(items=st.lists(client_commands, max_size=25), pipelining=st.booleans())
def test_the_client_keeps_the_sync_points(
    items: Sequence[Command | Body | EndOfMessage | None], pipelining: bool
) -> None:
    """When a command that ends a group arrives, nothing has followed it yet. RFC 2920 section 3.1."""

    def handler(server: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, AuthResponse | AuthCancel):
            return  # nobody sends AUTH here
        if isinstance(event, Command) and (COMMANDS[event.verb].ends_group or not pipelining):
            assert b"".join(item.data for item in pair.inputs).endswith(event.raw + b"\r\n")
        accept_everything(server, event)

    offers = TRUSTED | {"PIPELINING"} if pipelining else TRUSTED
    pair = Pair(ServerConfig("mx.example.org", PATIENT, offers=offers), trusted=True, handler=handler)
    pair.drive()
    for item in [Ehlo("client.example.com"), *items]:
        if item is None:
            pair.drive()
        else:
            with suppress(LocalProtocolError):
                pair.client.send(item)
    pair.drive()
    assert pair.client.broken is None
