"""ServerConnection: peers that speak for others, by XCLIENT and XFORWARD, and those that only try to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smtpstate import (
    Auth,
    CommandRefused,
    Connected,
    Ehlo,
    LocalProtocolError,
    Peer,
    Phase,
    Reply,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TlsInfo,
    Violation,
)
from smtpstate._config import OFFERS
from smtpstate._keys import ChannelBinding
from smtpstate.extensions import Absence, XClient, XForward
from tests.helpers import Seat, accept_all, codes, silent

REAL = Peer("127.0.0.1", 40_000)
CONFIG = ServerConfig("mx.example.org", offers=OFFERS | {"XCLIENT", "XFORWARD"}, starttls=True)
EHLO = b"EHLO c.example\r\n"
NAMED = b"XCLIENT NAME=c.example ADDR=192.0.2.9 PORT=9 LOGIN=joe HELO=c.example PROTO=ESMTP\r\n"
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
MESSAGE = ENVELOPE + b"DATA\r\n"


def seated(*, trusted: bool = True, config: ServerConfig = CONFIG) -> Seat:
    return Seat(config, peer=REAL, trusted=trusted)


def announced(seat: Seat) -> set[bytes]:
    return {line[4:].split()[0] for line in seat.say(EHLO).split(b"\r\n")[1:-1]}


def test_whom_xclient_names_is_greeted_and_begins_anew() -> None:
    seat = seated()
    assert {b"XCLIENT", b"XFORWARD"} <= announced(seat)
    seen: list[tuple[Peer | None, str | None, object, XClient | None]] = []

    def look(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Connected):
            seen.append((connection.peer, connection.identity, connection.hello, connection.xclient))
        accept_all(connection, event)

    seat.handler = look
    assert seat.say(NAMED) == b"220 mx.example.org ESMTP\r\n"
    client = XClient(name="c.example", address="192.0.2.9", port=9, login="joe", helo="c.example", protocol="ESMTP")
    peer = Peer("192.0.2.9", 9)
    assert seat.events[-2:] == [client, Connected(peer)]
    assert seen == [(peer, "joe", None, client)]
    assert seat.connection.phase is Phase.GREETED
    assert codes(seat.say(b"MAIL FROM:<>\r\n")) == [503]
    assert not {b"XCLIENT", b"XFORWARD"} & announced(seat)
    assert codes(seat.say(NAMED + b"XFORWARD HELO=a\r\n" + MESSAGE)) == [502, 502, 250, 250, 354]
    assert seat.connection.identity == "joe"


@pytest.mark.parametrize("line", [NAMED, b"XFORWARD ADDR=192.0.2.9\r\n", b"xclient\r\n", b"XFORWARD \xff\r\n"])
def test_from_anybody_else_it_is_no_command(line: bytes) -> None:
    seat = seated(trusted=False)
    assert not {b"XCLIENT", b"XFORWARD"} & announced(seat)
    assert codes(seat.say(line)) == [502]
    assert isinstance(refused := seat.events[-1], CommandRefused)
    assert refused.violation is Violation.NOT_IMPLEMENTED
    connection = seat.connection
    assert (connection.peer, connection.identity, connection.xclient, connection.forwarded) == (REAL, None, None, None)


def test_before_a_hello_only_xclient_makes_sense() -> None:
    seat = seated()
    assert codes(seat.say(b"XFORWARD HELO=a\r\nXCLIENT PORT=1\r\nXCLIENT PORT=2\r\n")) == [503, 220, 220]
    assert seat.connection.peer == Peer("127.0.0.1", 2)


def test_several_commands_add_up() -> None:
    seat = seated()
    seat.say(b"XCLIENT PORT=9 LOGIN=joe\r\n")
    assert seat.connection.identity == "joe"
    assert seat.connection.trusted
    seat.say(b"XCLIENT ADDR=192.0.2.9\r\n")
    assert seat.connection.peer == Peer("192.0.2.9", 9)
    assert seat.connection.identity is None, "as in Postfix: LOGIN counts in the last one alone"
    assert not seat.connection.trusted
    assert codes(seat.say(b"XCLIENT ADDR=127.0.0.1\r\n")) == [502]


def test_an_application_may_trust_the_new_address() -> None:
    def trust(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Connected) and event.peer == Peer("192.0.2.9", 9):
            connection.trusted = True
        accept_all(connection, event)

    seat = seated()
    seat.handler = trust
    assert codes(seat.say(NAMED + b"XCLIENT ADDR=192.0.2.10\r\n" + b"XCLIENT ADDR=192.0.2.11\r\n")) == [220, 220, 502]
    assert seat.connection.peer == Peer("192.0.2.10", 9)


def test_a_transaction_keeps_its_client() -> None:
    seat = seated()
    seat.say(EHLO + ENVELOPE)
    assert codes(seat.say(NAMED + b"XFORWARD HELO=a\r\n")) == [503, 503]
    assert (seat.connection.peer, seat.connection.forwarded) == (REAL, None)
    assert len(seat.connection.recipients) == 1


def test_what_is_malformed_changes_nothing() -> None:
    seat = seated()
    lines = b"XCLIENT\r\nXCLIENT ADDR=x\r\nXCLIENT SIZE=1\r\nXFORWARD NAME\r\n"
    assert codes(seat.say(EHLO + lines)) == [250, 501, 501, 501, 501]
    assert (seat.connection.peer, seat.connection.trusted, seat.connection.phase) == (REAL, True, Phase.READY)


@pytest.mark.parametrize(("code", "said"), [(550, b"521 No\r\n"), (450, b"421 No\r\n")])
def test_to_refuse_the_new_client_ends_the_session(code: int, said: bytes) -> None:
    """Both sides know from these codes that it is over; after 550 the other one would take it for a refused XCLIENT."""

    def refuse(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Connected):
            connection.reply(Reply(code, "No"))

    seat = seated()
    seat.handler = refuse
    assert seat.say(NAMED) == said
    assert seat.connection.phase is Phase.CLOSING


def test_silence_greets_the_new_client_too() -> None:
    seat = seated()
    seat.handler = silent
    assert codes(seat.say(NAMED)) == [220]


XFORWARD = b"XFORWARD NAME=a ADDR=192.0.2.9\r\nXFORWARD HELO=b\r\n"
FORWARDED = XForward(name="a", address="192.0.2.9", helo="b")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"RSET\r\n", "XFORWARD_README"),
        (EHLO, "section 4.1.4: a hello is a RSET, too"),
        (ENVELOPE + b"RSET\r\n", "the transaction is gone"),
        (MESSAGE + b"hello\r\n.\r\n", "the message was taken"),
        (ENVELOPE + b"BDAT 1\r\naBDAT 0 LAST\r\n", "the message was taken"),
        (b"XCLIENT NAME=b\r\n", "somebody else's session"),
    ],
)
def test_what_xforward_said_lasts_for_one_message(said: bytes, reason: str) -> None:
    seat = seated()
    assert set(codes(seat.say(EHLO + XFORWARD))) == {250}
    assert seat.connection.forwarded == FORWARDED
    seat.say(ENVELOPE.splitlines(keepends=True)[0])
    assert seat.connection.forwarded == FORWARDED
    seat.say(b"RSET\r\n" + XFORWARD)
    seat.say(said)
    assert seat.connection.forwarded is None, reason
    assert seat.connection.peer == REAL, "it decides nothing"


def test_it_lasts_as_long_as_the_message_is_under_way() -> None:
    seat = seated()
    seat.say(EHLO + XFORWARD + MESSAGE + b"hello\r\n")
    assert seat.connection.forwarded == FORWARDED


INFO = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")


def test_tls_is_kept_by_xclient() -> None:
    seat = seated()
    seat.say(EHLO + b"STARTTLS\r\n")
    seat.connection.tls_established(INFO)
    seat.say(EHLO + NAMED)
    assert (seat.connection.tls, seat.connection.peer) == (INFO, Peer("192.0.2.9", 9))
    assert b"STARTTLS" not in announced(seat)


def test_what_was_said_in_clear_gives_nothing_back_and_nobody_a_name() -> None:
    """A front end may pass on what its client sends after XCLIENT: STARTTLS must not make that one trusted."""
    seat = seated()
    seat.say(EHLO + NAMED + EHLO + b"STARTTLS\r\n")
    seat.connection.tls_established(INFO)
    connection = seat.connection
    assert (connection.peer, connection.identity, connection.trusted) == (Peer("192.0.2.9", 9), None, False)
    assert b"XCLIENT" not in announced(seat)


def test_xforward_in_clear_is_forgotten() -> None:
    seat = seated()
    seat.say(EHLO + XFORWARD + b"STARTTLS\r\n")
    seat.connection.tls_established(INFO)
    assert seat.connection.forwarded is None


SUBMISSION = ServerConfig(
    "mx.example.org",
    offers=OFFERS | {"XCLIENT"},
    mechanisms=("PLAIN",),
    auth_in_clear=True,
    requires_auth=True,
)


@pytest.mark.parametrize(
    ("login", "answers", "reason"),
    [
        (b"joe", [220, 250, 503, 250], "the front end has asked for the password"),
        (b"[UNAVAILABLE]", [220, 250, 235, 250], "it has not"),
    ],
)
def test_a_login_counts_as_one(login: bytes, answers: list[int], reason: str) -> None:
    def answer(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Auth):
            connection.authenticated("jane")
        else:
            accept_all(connection, event)

    seat = seated(config=SUBMISSION)
    seat.handler = answer
    said = b"XCLIENT LOGIN=" + login + b"\r\n" + EHLO + b"AUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@example.com>\r\n"
    assert codes(seat.say(said)) == answers, reason


def test_whoever_was_logged_in_is_forgotten() -> None:
    seat = seated(config=SUBMISSION)
    seat.say(b"XCLIENT LOGIN=joe\r\n" + EHLO)
    assert seat.connection.hello == Ehlo("c.example")
    seat.say(b"XCLIENT PORT=1\r\n")
    assert {seat.connection.identity, seat.connection.hello} == {None}
    assert codes(seat.say(EHLO + b"MAIL FROM:<a@example.com>\r\n")) == [250, 530]


def test_what_is_not_implemented_cannot_be_offered() -> None:
    with pytest.raises(LocalProtocolError, match="not implemented: XFROB"):
        ServerConfig("mx.example.org", offers=OFFERS | {"XCLIENT", "XFROB"})


def test_nothing_is_known_of_an_absent_address() -> None:
    seat = seated()
    seat.say(b"XCLIENT ADDR=[UNAVAILABLE]\r\n")
    assert seat.connection.peer is None
    assert seat.events[-2:] == [XClient(address=Absence.UNAVAILABLE), Connected()]


TLS = TlsInfo(
    "TLSv1.2", "x", bindings=(ChannelBinding("tls-unique", b"x"),), identities=("proxy.example",), verified=True
)
MANY = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "PLAIN")


@pytest.mark.parametrize("early", [False, True])
def test_whom_xclient_names_has_neither_certificate_nor_tls_session_of_who_names_him(early: bool) -> None:
    """Else anybody behind a front end could log in as the front end."""
    seat = seated(config=replace(CONFIG, mechanisms=MANY))
    if early:
        assert seat.say(EHLO + NAMED).endswith(b"220 mx.example.org ESMTP\r\n")
    seat.say(EHLO + b"STARTTLS\r\n")
    seat.connection.tls_established(TLS)
    if not early:
        assert b"EXTERNAL" in seat.say(EHLO)
        assert seat.connection.mechanisms == MANY
        assert seat.say(NAMED) == b"220 mx.example.org ESMTP\r\n"
    assert b"AUTH SCRAM-SHA-256 PLAIN\r\n" in seat.say(EHLO)
    assert seat.connection.mechanisms == ("SCRAM-SHA-256", "PLAIN")
    assert codes(seat.say(b"AUTH EXTERNAL =\r\n")) != [235]
    assert not seat.of_type(Auth)
