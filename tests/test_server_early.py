"""Input that comes before the reply to a command that ends its group: named, and forbidden or noted."""

from __future__ import annotations

from base64 import b64encode

import pytest

from smtpstate import (
    Auth,
    AuthResponse,
    Body,
    CloseReason,
    ConnectionClosed,
    Flow,
    Peer,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TransactionReset,
    Violation,
)
from smtpstate._config import OFFERS
from smtpstate.policy import EarlyInput, WireRules
from tests.helpers import Seat, codes

CUTS = (1, 2, 3, 99, 100_000)
CONFIG = ServerConfig("mx.example.org", mechanisms=("PLAIN", "LOGIN"), auth_in_clear=True, starttls=True)
EHLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@example.com>\r\n"
RCPT = b"RCPT TO:<b@example.org>\r\n"
TEXT = b"Subject: hello\r\n\r\nhello\r\n.\r\n"
PASSWORD = b64encode(b"\0user\0secret")


def log_in(connection: ServerConnection, event: ServerEvent) -> None:
    """Yes to all, and to whoever logs in."""
    match event:
        case Auth("LOGIN"):
            connection.challenge(b"Username:")
        case Auth():
            connection.authenticated("user")
        case AuthResponse(b"user"):
            connection.challenge(b"Password:")
        case AuthResponse():
            connection.authenticated("user")
        case _ if connection.owed is event:
            connection.accept()
        case _:
            pass


def seat(config: ServerConfig = CONFIG, *, early_input: EarlyInput = EarlyInput.FORBID, greet: bool = True) -> Seat:
    return Seat(config, handler=log_in, early_input=early_input, greet=greet)


def ending(here: Seat) -> ConnectionClosed:
    """How it ends when the peer goes."""
    here.connection.receive_eof()
    here.settle()
    assert here.connection.closed is not None
    return here.connection.closed


# Each dialogue twice: in groups, after each of which the peer waits, and as what comes too early in it.

SYNCHRONISED = {
    "a message": [EHLO, MAIL + RCPT + b"DATA\r\n", TEXT + b"QUIT\r\n"],
    "two messages": [EHLO, MAIL + RCPT + b"DATA\r\n", TEXT + MAIL + RCPT + b"DATA\r\n", TEXT, b"QUIT\r\n"],
    "chunks": [EHLO, MAIL + RCPT + b"BDAT 5\r\nhelloBDAT 2 LAST\r\n\r\n" + MAIL + b"RSET\r\n", b"QUIT\r\n"],
    "without EHLO": [b"HELO client.example\r\n", MAIL, RCPT, b"DATA\r\n", TEXT + b"QUIT\r\n"],
    "AUTH PLAIN": [EHLO, b"AUTH PLAIN " + PASSWORD + b"\r\n", MAIL + RCPT + b"DATA\r\n", TEXT],
    "AUTH LOGIN": [EHLO, b"AUTH LOGIN\r\n", b64encode(b"user") + b"\r\n", b64encode(b"secret") + b"\r\n", MAIL],
    "AUTH that is called off": [EHLO, b"AUTH LOGIN\r\n", b"*\r\n", MAIL],
    "errors": [EHLO, b"NOOP\r\n", b"VRFY\r\n", b"DATA\r\n", b"FOO\r\nBAR\r\nNOOP\r\n", b"EHLO\r\n", b"HELP\r\n"],
    "no recipient": [EHLO, MAIL + b"RCPT TO:<>\r\nDATA\r\n", b"RSET\r\n"],
    "STARTTLS in a transaction": [EHLO, MAIL + b"STARTTLS\r\n", b"RSET\r\n"],
}


def played(groups: list[bytes], cut: int) -> tuple[list[ServerEvent], bytes]:
    here = seat()
    said = b""
    for group in groups:
        said += b"".join(here.say(group[at : at + cut]) for at in range(0, len(group), cut))
    assert here.connection.noted == frozenset()
    ending(here)
    events: list[ServerEvent] = []
    for event in here.events:
        if isinstance(event, Body) and events and isinstance(events[-1], Body):
            event = Body(events.pop().data + event.data)  # type: ignore[union-attr]  # it is one
        if event not in events or not isinstance(event, ConnectionClosed):
            events.append(event)
    return events, said


@pytest.mark.parametrize("name", SYNCHRONISED)
def test_who_keeps_the_sync_points_is_told_the_same_however_it_is_cut(name: str) -> None:
    groups = SYNCHRONISED[name]
    events, said = played(groups, 100_000)
    closed = events[-1]
    assert isinstance(closed, ConnectionClosed)
    assert closed.violation is None
    for cut in CUTS:
        assert played(groups, cut) == (events, said)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", [name for name, groups in SYNCHRONISED.items() if len(groups) > 1])
def test_who_does_not_gets_a_prefix_of_that_and_one_violation_at_most(name: str, cut: int) -> None:
    groups = SYNCHRONISED[name]
    whole, _ = played(groups, 100_000)
    events, said = played([b"".join(groups)], cut)
    closed = events.pop()
    assert isinstance(closed, ConnectionClosed)
    if closed.violation is None:
        assert [closed, *events] == [whole[-1], *whole[:-1]], "each piece happened to come after a reply"
    else:
        assert closed.violation in {Violation.EARLY_COMMAND, Violation.EARLY_GROUP}
        assert codes(said)[-1] == 554
        told = [event for event in events if not isinstance(event, TransactionReset)]
        assert told == whole[: len(told)]
    if cut == 100_000:
        assert closed.violation is not None


EARLY = [
    ([EHLO + MAIL], Violation.EARLY_COMMAND, [554], "before EHLO's answer it is unknown what is offered"),
    ([EHLO * 2], Violation.EARLY_COMMAND, [554], "RFC 2920 section 3.1"),
    ([b"HELO x\r\nM"], Violation.EARLY_COMMAND, [554], "an octet is enough"),
    ([EHLO, b"LHLO x\r\nNOOP\r\n"], Violation.EARLY_COMMAND, [554], "a hello of another protocol is one"),
    ([EHLO, b"NOOP\r\nNOOP\r\n"], Violation.EARLY_GROUP, [554], "RFC 2920 section 3.1"),
    ([EHLO, b"VRFY b\r\nRSET\r\n"], Violation.EARLY_GROUP, [554], "RFC 2920 section 3.1"),
    ([EHLO, b"EXPN b\r\nRSET\r\n"], Violation.EARLY_GROUP, [554], "RFC 2920 section 3.1"),
    ([EHLO, MAIL + RCPT + b"DATA\r\n" + TEXT], Violation.EARLY_GROUP, [250, 250, 554], "RFC 2920 section 3.1"),
    ([EHLO, b"DATA\r\n" + TEXT], Violation.EARLY_GROUP, [554], "out of order it is early all the same"),
    ([EHLO, b"NOOP \xff\r\nRSET\r\n"], Violation.EARLY_GROUP, [554], "malformed it is early all the same"),
    ([EHLO, b"AUTH LOGIN\r\ndXNlcg==\r\n"], Violation.EARLY_GROUP, [554], "RFC 4954 section 4"),
    ([EHLO, b"AUTH LOGIN\r\n", b"dXNlcg==\r\nc2VjcmV0\r\n"], Violation.EARLY_GROUP, [554], "RFC 4954 section 4"),
    ([EHLO, MAIL + b"STARTTLS\r\nRSET\r\n"], Violation.EARLY_GROUP, [250, 554], "refused it has no handshake"),
    ([EHLO, b"STARTTLS\r\nRSET\r\n"], Violation.EARLY_PLAINTEXT, [554], "RFC 3207 section 4"),
    ([b"HELO x\r\n", MAIL + RCPT], Violation.EARLY_GROUP, [554], "HELO is offered nothing"),
    ([b"HELO x\r\n", b"RSET\r\nRSET\r\n"], Violation.EARLY_GROUP, [554], "HELO is offered nothing"),
    ([b"RSET\r\n" + EHLO], Violation.EARLY_GROUP, [554], "nothing is offered yet"),
]


@pytest.mark.parametrize(("groups", "violation", "answers", "reason"), EARLY)
def test_it_ends_before_the_command_is_looked_at(
    groups: list[bytes], violation: Violation, answers: list[int], reason: str
) -> None:
    here = seat()
    for group in groups[:-1]:
        here.say(group)
    assert codes(here.say(groups[-1])) == answers, reason
    assert here.say(MAIL) == b"", "nobody reads on"
    assert ending(here) == ConnectionClosed(CloseReason.VIOLATION, violation)


FINE = [
    ([EHLO, MAIL + RCPT + b"RSET\r\n" + MAIL + RCPT + b"DATA\r\n"], [250] * 5 + [354], "groups"),
    ([EHLO, MAIL + RCPT + b"DATA\r\n", TEXT + MAIL], [250, 250], "behind the lone dot"),
    ([b"HELO x\r\n", MAIL, RCPT, b"DATA\r\n", TEXT + b"QUIT\r\n"], [250, 221], "behind the lone dot, for HELO, too"),
    ([EHLO, MAIL + RCPT + b"BDAT 2 LAST\r\n\r\nQUIT\r\n"], [250, 250, 250, 221], "behind the last chunk"),
    ([EHLO, b"QUIT\r\nNOOP\r\n"], [221], "nobody reads it"),
    ([b"HELO x\r\n", b"QUIT\r\nNOOP\r\n"], [221], "nobody reads it"),
    ([b"FOO\r\n" + EHLO], [500, 250], "an unknown verb ends no group"),
    ([b"NOOP " + b"x" * 5000 + b"\r\n" + EHLO], [500, 250], "and a line too long is no command"),
    ([b"HELO x\r\n", b"BDAT 3\r\nabc", b"RSET\r\n"], [250], "the octets of a chunk follow at once, offered or not"),
]


@pytest.mark.parametrize(("groups", "answers", "reason"), FINE)
def test_what_is_no_early_input(groups: list[bytes], answers: list[int], reason: str) -> None:
    here = seat()
    for group in groups[:-1]:
        here.say(group)
    assert codes(here.say(groups[-1])) == answers, reason
    assert here.connection.noted == frozenset()


def test_where_pipelining_is_not_offered_every_command_waits() -> None:
    here = seat(ServerConfig("mx.example.org", offers=OFFERS - {"PIPELINING"}))
    here.say(EHLO)
    assert codes(here.say(MAIL + RCPT)) == [554]
    assert ending(here).violation is Violation.EARLY_GROUP


# What is fed between the command and the moment when its reply is taken.


def test_octets_before_the_greeting_replace_it() -> None:
    here = seat(greet=False)
    here.connection.receive_data(EHLO)
    assert here.settle() == b"554 Not synchronised: wait for the reply\r\n"
    assert ending(here) == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_TALK)
    assert ending(here).evidence == EHLO


def test_a_greeting_that_was_not_taken_yet_has_not_left() -> None:
    here = seat(greet=False)
    assert here.pull() is Flow.NEED_DATA
    assert here.connection.reads_first
    here.connection.receive_data(EHLO)
    assert not here.connection.reads_first
    assert codes(here.settle()) == [554]
    assert ending(here).violation is Violation.EARLY_TALK


def test_a_greeting_that_was_taken_has_left() -> None:
    here = seat(greet=False)
    here.pull()
    assert here.connection.data_to_send().startswith(b"220 ")
    assert not here.connection.reads_first
    assert codes(here.say(EHLO)) == [250]


def test_a_verdict_that_is_owed_is_answered_by_the_end() -> None:
    here = seat()
    connection = here.connection
    connection.receive_data(EHLO)
    event = connection.next_event()
    assert connection.owed is event
    connection.receive_data(b"x")
    assert connection.accept() is False
    assert codes(here.settle()) == [554]
    assert ending(here).violation is Violation.EARLY_COMMAND


def test_a_reply_that_is_queued_may_leave_before_the_end() -> None:
    here = seat()
    here.connection.receive_data(EHLO)
    here.pull()
    here.connection.receive_data(MAIL)
    assert codes(here.settle()) == [250, 554]
    assert ending(here).violation is Violation.EARLY_COMMAND


def test_a_late_reply_has_not_left() -> None:
    here = seat()
    for _ in range(12):  # too many errors: replies are late now
        here.say(b"FOO\r\n")
    here.connection.receive_data(b"NOOP\r\n")
    assert here.pull() is Flow.WAIT
    assert not here.connection.reads_first, "nothing leaves now"
    here.connection.receive_data(b"NOOP\r\n")
    assert codes(here.settle()) == [250, 554]


def test_it_asks_to_read_first_only_where_that_can_tell_something() -> None:
    here = seat()
    connection = here.connection
    for said, asks in ((MAIL, True), (EHLO, True), (MAIL + RCPT, False), (b"DATA\r\n", True), (TEXT, False)):
        connection.receive_data(said)
        here.pull()
        assert connection.reads_first is ((asks and said != MAIL) or said == MAIL), said
        here.drain()
        assert not connection.reads_first
    connection.receive_data(b"NOOP\r\n")
    here.pull()
    assert connection.reads_first
    connection.receive_eof()
    assert not connection.reads_first, "nothing more comes"
    here = seat()
    here.connection.receive_data(EHLO)
    here.settle()
    here.connection.receive_data(b"STARTTLS\r\n")
    assert here.pull() is Flow.NEED_TLS
    assert not here.connection.reads_first, "that has a rule of its own"
    here = seat()
    here.connection.receive_data(b"QUIT\r\n")
    here.pull()
    assert not here.connection.reads_first


# What is kept of it.


@pytest.mark.parametrize(
    ("groups", "evidence"),
    [
        ([EHLO + b"MAIL FROM:<a@b>\r\n"], b"MAIL FROM:<a@b>\r\n"),
        ([EHLO, b"AUTH PLAIN " + PASSWORD + b"\r\nMAIL FROM:<a@b>\r\n"], b"***"),
        ([EHLO, b"AUTH LOGIN\r\n" + PASSWORD + b"\r\n"], b"***"),
        ([EHLO, b"AUTH LOGIN\r\n", PASSWORD + b"\r\n" + PASSWORD + b"\r\n"], b"***"),
        ([EHLO + b"AUTH PLAIN " + PASSWORD + b"\r\n"], b"AUTH PLAIN ***\r\n"),
        ([EHLO + b"x" * 1000], b"x" * 100),
    ],
)
def test_the_evidence_is_short_and_holds_no_secret(groups: list[bytes], evidence: bytes) -> None:
    here = seat()
    for group in groups:
        here.say(group)
    assert ending(here).evidence == evidence


# Noting.


def test_what_is_noted_goes_on() -> None:
    here = seat(early_input=EarlyInput.NOTE, greet=False)
    here.connection.receive_data(EHLO + MAIL + RCPT + b"DATA\r\n" + TEXT + b"QUIT\r\n")
    assert codes(here.settle()) == [220, 250, 250, 250, 354, 250, 221]
    assert here.connection.noted == {Violation.EARLY_TALK, Violation.EARLY_COMMAND, Violation.EARLY_GROUP}
    assert ending(here) == ConnectionClosed(CloseReason.QUIT)


def test_plaintext_behind_starttls_is_not_only_noted() -> None:
    here = seat(early_input=EarlyInput.NOTE)
    here.say(EHLO)
    assert codes(here.say(b"STARTTLS\r\nNOOP\r\n")) == [554]
    assert ending(here).violation is Violation.EARLY_PLAINTEXT


def test_by_default_it_is_forbidden() -> None:
    assert WireRules().early_input is EarlyInput.FORBID
    connection = ServerConnection(ServerConfig("mx.example.org"), clock=lambda: 0.0, peer=Peer("192.0.2.1"))
    connection.receive_data(b"EHLO x\r\n")
    assert connection.next_event() is Flow.NEED_FLUSH
    assert connection.data_to_send().startswith(b"554 ")
