"""STARTTLS in both seats: what comes with it, what is forgotten, when it is refused, and what is left if it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from smtpstate import (
    Auth,
    CapabilitiesChanged,
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    Ehlo,
    Flow,
    Limits,
    LocalProtocolError,
    Mail,
    Noop,
    Peer,
    Phase,
    Quit,
    Rcpt,
    Reply,
    ReplyReceived,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    TlsInfo,
    Violation,
)
from smtpstate._capabilities import NO_CAPABILITIES
from smtpstate.extensions import XClient, XForward
from smtpstate.policy import Leftover
from smtpstate_testing import accept_everything
from tests.helpers import Seat, codes
from tests.property.snapshots import names, snapshot
from tests.scripted_server import Wire

if TYPE_CHECKING:
    from smtpstate import ClientConnection

TLS: Final = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")
CUTS: Final = (1, 2, 3, 99)
GREETING: Final = (b"", b"220 mx.example\r\n")
EHLO: Final = b"EHLO me.example\r\n"
STARTTLS: Final = b"STARTTLS\r\n"
UTF8: Final = Mail.of("a@me.example", parameters=(("SMTPUTF8", None),))
PEER: Final = Peer("192.0.2.1", 40_000)


def lets_in(connection: ServerConnection, event: ServerEvent) -> None:
    """Accepts all mail, and everybody is joe."""
    if isinstance(event, Auth):
        connection.authenticated("joe")
    else:
        accept_everything(connection, event)


def server(leftover: Leftover = Leftover.CLOSE, *offers: str, trusted: bool = False) -> Seat:
    """A server that offers much, and has greeted."""
    plain = ServerConfig("mx.example")
    config = ServerConfig(
        "mx.example",
        Limits(transactions=5, recipient_domains=5),
        starttls=True,
        leftover=leftover,
        offers=plain.offers | set(offers),
        mechanisms=("PLAIN",),
        auth_in_clear=True,
    )
    return Seat(config, handler=lets_in, peer=PEER, trusted=trusted)


def client(*offers: str, script: tuple[tuple[bytes, bytes], ...] = ()) -> Wire:
    """A client after EHLO, of a server that offers STARTTLS and these."""
    reply = "".join(f"250-{offer}\r\n" for offer in ("mx.example", *offers)) + "250 STARTTLS\r\n"
    return Wire([GREETING, (EHLO, reply.encode()), *script]).open()


def held(machine: ServerConnection | ClientConnection, *but: str) -> dict[str, object]:
    """All that it holds, by attribute, whatever its depth; without those called like these."""

    def without(value: object) -> object:
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
            return value[0], {name: without(held) for name, held in value[1].items() if name not in but}
        return tuple(map(without, value)) if isinstance(value, tuple) else value

    return {name: without(snapshot(getattr(machine, name))) for name in names(machine) if name not in but}


def learnt(connection: ServerConnection) -> tuple[object, ...]:
    """What a client said of itself, or another one of it."""
    return connection.hello, connection.identity, connection.forwarded, connection.transaction, connection.owed


# What comes with it.


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("after", [b"RSET\r\n", b"EHL", b"\r\n", b"\0", b"\x16\x03\x01\x00", b"x" * 5000])
@pytest.mark.parametrize("leftover", Leftover)
def test_what_comes_with_starttls_is_never_a_command(leftover: Leftover, after: bytes, cut: int) -> None:
    seat = server(leftover)
    seat.say(EHLO)
    octets = STARTTLS + after
    for start in range(0, len(octets), cut):
        seat.connection.receive_data(octets[start : start + cut])
    answer = seat.settle()
    if leftover is Leftover.CLOSE:
        assert codes(answer) == [554]
        seat.connection.receive_eof()
        assert seat.pull() == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)
        assert StartTls() not in seat.events
        return
    assert answer == b"220 2.0.0 Begin TLS\r\n"
    assert seat.events[-1] == StartTls()
    assert seat.flow is Flow.NEED_TLS
    seat.connection.tls_established(TLS)
    assert seat.settle() == b""
    assert seat.events[-1] == StartTls(), "nothing of it is left, not half a line"
    assert codes(seat.say(EHLO)) == [250]


@pytest.mark.parametrize("leftover", Leftover)
def test_what_comes_later_is_not_discarded(leftover: Leftover) -> None:
    """Those who bring their own TLS have no business to give it to us; `tls.secure` has the handshake fail of it."""
    seat = server(leftover)
    seat.say(EHLO + STARTTLS)
    seat.connection.receive_data(b"RSET\r\n")
    seat.connection.receive_eof()
    assert seat.settle() == b""
    assert seat.events[-1] == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("after", [b"250-mx.example\r\n250 AUTH PLAIN\r\n", b"2", b"\r\n", b"\0", b"421 bye\r\n"])
@pytest.mark.parametrize("leftover", Leftover)
def test_what_comes_with_its_220_is_never_a_reply(leftover: Leftover, after: bytes, cut: int) -> None:
    wire = Wire([GREETING, (EHLO, b"250-mx.example\r\n250 STARTTLS\r\n")], leftover=leftover).open()
    wire.client.send(StartTls())
    assert wire.client.data_to_send() == STARTTLS
    octets = b"220 go\r\n" + after
    for start in range(0, len(octets), cut):
        wire.client.receive_data(octets[start : start + cut])
    assert wire.client.next_event() == ReplyReceived(StartTls(), Reply(220, "go"))
    if leftover is Leftover.CLOSE:
        assert wire.client.next_event() == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)
        return
    assert wire.client.next_event() is Flow.NEED_TLS
    wire.client.tls_established(TLS)
    assert wire.events() == [CapabilitiesChanged(NO_CAPABILITIES)]
    wire.script = [(EHLO, b"250-mx.example\r\n250 SIZE 7\r\n")]
    wire.say(Ehlo("me.example"))
    assert wire.client.capabilities.keywords == {"SIZE": ("7",)}


# What is forgotten.

# Kept on purpose: what was counted, since TLS must not buy five guesses more, the time that the session has had, and
# how a new line or message is read, which begins afresh each time.
KEPT: Final = frozenset(
    {"_tally", "conduct", "budgets", "_patience", "_clock", "clock", "_trace", "_intake", "_encoder"}
)
READ: Final = frozenset({"lines", "_lines"})  # what was read and consumed, of which nothing is left


def test_a_server_forgets_all_that_was_said_in_clear() -> None:
    """It is as one that was told nothing but EHLO and STARTTLS: every attribute of it, whatever is added to it."""
    seats = [server(Leftover.CLOSE, "XFORWARD", "SMTPUTF8"), server(Leftover.CLOSE, "XFORWARD", "SMTPUTF8")]
    for seat in seats:
        seat.connection.trusted = True
    talkative, terse = seats
    talkative.say(b"HELO other.example\r\nEHLO other.example\r\nAUTH PLAIN AGpvZQB4\r\n")
    talkative.say(b"XFORWARD NAME=x.example\r\nMAIL FROM:<a@c.example> SMTPUTF8\r\nRCPT TO:<b@mx.example>\r\n")
    talkative.say(b"DATA\r\nhello\r\n.\r\nMAIL FROM:<a@c.example> BODY=8BITMIME SMTPUTF8\r\nRSET\r\nFOO\r\n")
    talkative.say(b"XFORWARD NAME=x.example HELO=x.example\r\n" + STARTTLS)
    terse.say(EHLO + STARTTLS)
    connection = talkative.connection
    forwarded = XForward(name="x.example", helo="x.example")
    assert learnt(connection) == (Ehlo("other.example"), "joe", forwarded, None, None)
    assert held(connection, *KEPT, *READ) != held(terse.connection, *KEPT, *READ)
    for seat in seats:
        seat.connection.tls_established(TLS)
    assert held(connection, *KEPT, *READ) == held(terse.connection, *KEPT, *READ)
    assert learnt(connection) == (None,) * 5
    assert connection.phase is Phase.GREETED
    assert codes(talkative.say(b"MAIL FROM:<a@c.example>\r\n")) == [503]


def test_of_xclient_only_the_address_outlives_starttls() -> None:
    """It took the trust away. Were it forgotten, the peer would be who connected again, and perhaps be trusted."""
    seat = server(Leftover.CLOSE, "XCLIENT", trusted=True)
    seat.say(EHLO + b"XCLIENT NAME=x.example LOGIN=joe HELO=x.example PROTO=ESMTP ADDR=192.0.2.9 PORT=9\r\n")
    seat.say(EHLO + STARTTLS)
    assert "joe" in learnt(seat.connection)
    seat.connection.tls_established(TLS)
    assert seat.connection.xclient == XClient(address="192.0.2.9", port=9)
    assert learnt(seat.connection) == (None,) * 5
    assert not seat.connection.trusted
    assert seat.connection.peer == Peer("192.0.2.9", 9)


def test_a_client_forgets_all_that_it_was_told_in_clear() -> None:
    script = (
        (b"AUTH PLAIN AGpvZQB4\r\n", b"235 ok\r\n"),
        (b"MAIL FROM:<a@me.example> SMTPUTF8\r\n", b"250 ok\r\n"),
        (b"RCPT TO:<b@mx.example>\r\n", b"250 ok\r\n"),
        (b"RSET\r\n", b"250-ok\r\n250 ok\r\n"),
        (STARTTLS, b"220 go\r\n"),
    )
    talkative = client("AUTH PLAIN", "SMTPUTF8", "8BITMIME", "PIPELINING", "LIMITS MAILMAX=9", script=script)
    terse = client(script=script[-1:])
    talkative.say(Auth("PLAIN", b"\0joe\0x"), UTF8, Rcpt.of("b@mx.example"), Rset())
    for wire in (talkative, terse):
        wire.handshakes = False
        wire.client.send(StartTls())
        wire.client.data_to_send()
        wire.client.receive_data(b"220 go\r\n")
        assert wire.client.next_event() == ReplyReceived(StartTls(), Reply(220, "go"))
        assert wire.client.next_event() is Flow.NEED_TLS
    kept = (*KEPT, *READ, "tally")
    assert held(talkative.client, *kept) != held(terse.client, *kept)
    for wire in (talkative, terse):
        wire.client.tls_established(TLS)
    assert held(talkative.client, *kept) == held(terse.client, *kept)
    assert talkative.client.capabilities == NO_CAPABILITIES
    for command in (Mail.of("a@me.example"), Auth("PLAIN", b""), StartTls()):
        with pytest.raises(LocalProtocolError):
            talkative.client.send(command)


# When it is refused.

REFUSED: Final = [
    (b"STARTTLS\r\n", "503 5.5.1", "before EHLO"),
    (b"HELO c.example\r\nSTARTTLS\r\n", "503 5.5.1", "an extension needs an EHLO"),
    (EHLO + b"STARTTLS now\r\n", "501 5.5.4", "RFC 3207 section 4: it has no argument"),
    (EHLO + b"MAIL FROM:<>\r\nSTARTTLS\r\n", "503 5.5.1", "in a transaction"),
    (EHLO + b"MAIL FROM:<>\r\nRCPT TO:<b@mx.example>\r\nSTARTTLS\r\n", "503 5.5.1", "with a recipient, too"),
]


@pytest.mark.parametrize("leftover", Leftover)
@pytest.mark.parametrize(("said", "answer", "reason"), REFUSED)
def test_what_follows_a_refused_starttls_is_a_command(
    said: bytes, answer: str, reason: str, leftover: Leftover
) -> None:
    """It came in clear and stays there: nothing is mistaken for anything."""
    seat = server(leftover)
    last = seat.say(said + b"NOOP\r\n").splitlines()[-2:]
    assert last[0].startswith(answer.encode()), reason
    assert last[1] == b"250 2.0.0 OK"
    assert isinstance(seat.events[-2], CommandRefused)
    assert seat.flow is Flow.NEED_DATA


def test_where_there_is_no_tls_starttls_is_not_offered_and_refused() -> None:
    seat = Seat(ServerConfig("mx.example"))
    assert b"STARTTLS" not in seat.say(EHLO)
    assert seat.say(STARTTLS) == b"502 5.5.1 TLS is not available\r\n"


@pytest.mark.parametrize("leftover", Leftover)
def test_in_tls_it_is_neither_offered_nor_taken(leftover: Leftover) -> None:
    seat = server(leftover)
    seat.say(EHLO + STARTTLS)
    seat.connection.tls_established(TLS)
    assert b"STARTTLS" not in seat.say(EHLO)
    assert seat.say(b"STARTTLS\r\nNOOP\r\n") == b"503 5.5.1 TLS is active already\r\n250 2.0.0 OK\r\n"


@pytest.mark.parametrize("leftover", Leftover)
def test_a_server_that_cannot_now_says_454_and_stays_as_it_was(leftover: Leftover) -> None:
    """RFC 3207 section 4. It is the client's choice to go on in clear, or not."""
    seat = server(leftover)
    assert seat.connection.tls_available
    seat.connection.tls_available = False
    seat.say(EHLO)
    hello, deadline = seat.connection.hello, seat.connection.deadline
    assert seat.say(b"STARTTLS\r\nNOOP\r\n") == b"454 4.7.0 TLS is not available now\r\n250 2.0.0 OK\r\n"
    assert (seat.connection.phase, seat.connection.hello) == (Phase.READY, hello)
    assert seat.connection.deadline == deadline, "no handshake is waited for"
    with pytest.raises(LocalProtocolError, match="no TLS handshake is due"):
        seat.connection.tls_established(TLS)
    seat.connection.tls_available = True
    assert codes(seat.say(STARTTLS)) == [220]


@pytest.mark.parametrize("leftover", Leftover)
@pytest.mark.parametrize("code", [454, 501, 502, 503, 554])
def test_a_client_that_is_refused_is_where_it_was(code: int, leftover: Leftover) -> None:
    reply = b"%d no\r\n" % code
    wire = Wire([GREETING, (EHLO, b"250-mx\r\n250 STARTTLS\r\n"), (STARTTLS, reply)], leftover=leftover).open()
    assert wire.say(StartTls()) == [ReplyReceived(StartTls(), Reply(code, "no"))]
    assert (wire.client.phase, wire.client.capabilities.starttls) == (Phase.READY, True)
    with pytest.raises(LocalProtocolError, match="no TLS handshake is due"):
        wire.client.tls_established(TLS)


@pytest.mark.parametrize("leftover", Leftover)
def test_a_second_reply_to_a_refused_starttls_is_one_too_many(leftover: Leftover) -> None:
    script = [GREETING, (EHLO, b"250-mx\r\n250 STARTTLS\r\n"), (STARTTLS, b"454 no\r\n250 OK\r\n")]
    wire = Wire(script, leftover=leftover).open()
    assert wire.say(StartTls())[-1] == ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)


def test_a_client_does_not_ask_for_it_where_it_cannot_have_it() -> None:
    mail = ((b"MAIL FROM:<a@me.example>\r\n", b"250 ok\r\n"),)
    in_mail = client(script=mail)
    in_mail.say(Mail.of("a@me.example"))
    in_tls = Wire([GREETING, (EHLO, b"250-mx\r\n250 STARTTLS\r\n")], implicit_tls=True).open()
    not_offered = Wire([GREETING, (EHLO, b"250 mx\r\n")]).open()
    for wire, reason in ((in_mail, "sequence"), (in_tls, "active"), (not_offered, "not available")):
        with pytest.raises(LocalProtocolError, match=reason):
            wire.client.send(StartTls())


# When it fails.


def test_a_server_whose_handshake_failed_says_and_hears_nothing_more() -> None:
    seat = server()
    seat.say(EHLO + STARTTLS)
    seat.connection.tls_failed()
    assert seat.say(b"NOOP\r\nMAIL FROM:<>\r\n") == b""
    assert not seat.connection.accept()
    seat.connection.close()
    assert seat.settle() == b""
    with pytest.raises(LocalProtocolError, match="no TLS handshake is due"):
        seat.connection.tls_established(TLS)
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.TLS_FAILED)


def test_a_client_whose_handshake_failed_says_and_hears_nothing_more() -> None:
    wire = client(script=((STARTTLS, b"220 go\r\n"),))
    wire.handshakes = False
    assert wire.say(StartTls())[-1] == ConnectionClosed(CloseReason.TLS_FAILED)
    for item in (Quit(), Noop(), Ehlo("me.example"), StartTls()):
        assert not wire.client.send(item)
    wire.client.receive_data(b"250 OK\r\n")
    assert wire.client.data_to_send() == b""
    assert wire.client.next_event() == ConnectionClosed(CloseReason.TLS_FAILED)
    with pytest.raises(LocalProtocolError, match="no TLS handshake is due"):
        wire.client.tls_established(TLS)
