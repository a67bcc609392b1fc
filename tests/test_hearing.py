"""What becomes of a line: taken, answered with a refusal, or the end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from smtpstate import (
    AuthResponse,
    CloseReason,
    CommandRefused,
    Connected,
    ConnectionClosed,
    Flow,
    Limits,
    Mail,
    Noop,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    TlsInfo,
    TraceLine,
    Violation,
)
from smtpstate._xclient import XClient
from smtpstate.policy import MX, STRICT, BareNewline, Deviation, EarlyInput, Leftover, Policy, WireRules
from tests.helpers import Seat, codes, in_transaction, ready

if TYPE_CHECKING:
    from smtpstate.trace import TraceRecord


@pytest.mark.parametrize(
    ("said", "answers", "violation", "reason"),
    [
        (b"BDAT 3\r\nabcNOOP\r\n", [503, 250], Violation.OUT_OF_SEQUENCE, "a chunk out of order is read all the same"),
        (b"BDAT x\r\n", [501], Violation.CHUNK_SIZE, "where the octets after it end, nobody knows"),
        (b"STARTTLS\r\nNOOP\r\n", [554], Violation.EARLY_PLAINTEXT, "RFC 3207 section 4: nothing may follow"),
        (b"MAIL FROM:<> SIZE=99999999999\r\n", [552], Violation.SIZE_TOO_LARGE, "RFC 1870 section 6.1"),
        (b"HEAD / HTTP/1.1\r\nNOOP\r\n", [221], Violation.FORBIDDEN_COMMAND, "no mail client says that"),
        (b"Cookie: " + b"x" * 9999 + b"\r\n", [221], Violation.FORBIDDEN_COMMAND, "nor that"),
        (b"NOPE\r\nNOOP\r\n", [500, 250], Violation.UNKNOWN_COMMAND, "one line is answered, and the next one heard"),
    ],
)
def test_what_breaks_a_rule(said: bytes, answers: list[int], violation: Violation, reason: str) -> None:
    seat = ready(ServerConfig("mx.example.org", starttls=True))
    assert codes(seat.say(said)) == answers, reason
    refused = [event.violation for event in seat.events if isinstance(event, CommandRefused)]
    assert violation in refused or ended_by(seat) is violation


@pytest.mark.parametrize(("policy", "answer"), [(MX, 250), (STRICT, 501)])
def test_the_policy_of_the_configuration_says_what_becomes_of_a_deviation(policy: Policy, answer: int) -> None:
    seat = ready(ServerConfig("mx.example.org", policy=policy))
    assert codes(seat.say(b"MAIL FROM: <a@b.example>\r\nRSET\n")) == [answer, answer]
    flagged = [one for event in seat.events if isinstance(event, Mail | Rset) for one in event.deviations]
    rejected = [event.deviation for event in seat.events if isinstance(event, CommandRefused)]
    assert (flagged if answer == 250 else rejected) == [Deviation.SPACE_AFTER_COLON, Deviation.BARE_LF]
    assert len(flagged) + len(rejected) == 2


@pytest.mark.parametrize(
    ("limits", "said", "answers", "violation"),
    [
        (Limits(commands=4), b"NOOP\r\nNOOP\r\nNOOP\r\n", [250, 421], Violation.TOO_MANY_COMMANDS),
        (Limits(transactions=1), b"RSET\r\nMAIL FROM:<>\r\n", [250, 452], Violation.TOO_MANY_TRANSACTIONS),
        (Limits(recipients=1), b"RCPT TO:<a@b.example>\r\n", [452], Violation.TOO_MANY_RECIPIENTS),
        (Limits(recipient_domains=1), b"RCPT TO:<a@b.example>\r\n", [452], Violation.TOO_MANY_DOMAINS),
    ],
)
def test_what_is_too_much(limits: Limits, said: bytes, answers: list[int], violation: Violation) -> None:
    seat = in_transaction(limits=limits)
    assert codes(seat.say(said)) == answers
    refused = [event.violation for event in seat.events if isinstance(event, CommandRefused)]
    assert refused == [violation] if answers[-1] == 452 else ended_by(seat) is violation


def ended_by(seat: Seat) -> Violation | None:
    seat.connection.receive_eof()
    seat.pull()
    closed = seat.connection.closed
    assert closed is not None
    assert closed.reason is CloseReason.VIOLATION
    return closed.violation


TRUSTED = ServerConfig("mx.example.org", offers=frozenset({"XCLIENT"}), limits=Limits(commands=5))


def test_xclient_is_an_event_and_its_answer_a_greeting() -> None:
    seat = Seat(TRUSTED, trusted=True)
    assert seat.say(b"XCLIENT PORT=1\r\n") == b"220 mx.example.org ESMTP\r\n"
    assert seat.events[1:] == [XClient(port=1), Connected()]
    assert codes(seat.say(b"XCLIENT PORT=2\r\nXCLIENT PORT=x\r\nXCLIENT PORT=3\r\nEHLO a\r\n")) == [220, 501, 220, 250]
    assert codes(seat.say(b"NOOP\r\n")) == [421], "nobody is greeted without end"


def test_a_chunk_is_taken_where_a_recipient_was() -> None:
    assert codes(in_transaction().say(b"BDAT 2\r\nabBDAT 0 LAST\r\n")) == [250, 250]


AUTH = ServerConfig("mx.example.org", mechanisms=("LOGIN",), auth_in_clear=True, limits=Limits(auth_failures=3))


def challenge(connection: ServerConnection, event: ServerEvent) -> None:
    if connection.owed is event:
        connection.challenge(b"?")


def challenged(seat: Seat) -> Seat:
    seat.handler = challenge
    assert codes(seat.say(b"AUTH LOGIN\r\n")) == [334]
    return seat


@pytest.mark.parametrize(
    ("line", "answer", "reason"),
    [
        (b"*", 501, "RFC 4954 section 4: called off"),
        (b"YWJj", 334, "an answer, and another challenge"),
        (b"!", 501, "not base64"),
        (b"A" * 20_000, 500, "longer than RFC 4954 section 4 allows"),
    ],
)
def test_a_line_within_auth(line: bytes, answer: int, reason: str) -> None:
    assert codes(challenged(ready(AUTH)).say(line + b"\r\n")) == [answer], reason


def test_half_a_line_within_auth_is_waited_for() -> None:
    seat = challenged(ready(AUTH))
    assert seat.say(b"YW") == b""
    assert codes(seat.say(b"Jj\r\n")) == [334]


def test_calling_off_too_often_ends_the_session() -> None:
    seat = ready(AUTH)
    for _ in range(2):
        assert codes(challenged(seat).say(b"*\r\n")) == [501]
    assert codes(challenged(seat).say(b"*\r\n")) == [501, 421]
    assert ended_by(seat) is Violation.TOO_MANY_AUTH_FAILURES


@pytest.mark.parametrize("after", [b"", b"NOOP\r\n", b"NO"])
def test_what_comes_with_starttls_can_be_dropped(after: bytes) -> None:
    """Leftover.DISCARD: nothing is taken for anything, and the handshake begins."""
    seat = ready(ServerConfig("mx.example.org", starttls=True, leftover=Leftover.DISCARD))
    assert codes(seat.say(b"STARTTLS\r\n" + after)) == [220]
    assert seat.flow is Flow.NEED_TLS
    seat.connection.tls_established(TlsInfo("TLSv1.3", "x"))
    assert seat.settle() == b""
    assert codes(seat.say(b"EHLO c.example\r\n")) == [250]


def test_starttls_is_turned_away_where_there_is_no_tls_now() -> None:
    seat = ready(ServerConfig("mx.example.org", starttls=True))
    seat.connection.tls_available = False
    assert codes(seat.say(b"STARTTLS\r\nNOOP\r\n")) == [454, 250]
    assert seat.events[-2] == StartTls()


NEWLINES: list[tuple[BareNewline, bytes, list[int], Violation | None, str]] = [
    (BareNewline.NOTE, b"NOOP\nNOOP\r\n", [250, 250], None, "taken"),
    (BareNewline.NORMALIZE, b"NOOP\nNOOP\r\n", [250, 250], None, "taken"),
    (BareNewline.REJECT, b"NOOP\nNOOP\r\n", [550], Violation.BARE_NEWLINE, "the end"),
    (BareNewline.REJECT, b"NOPE\n", [550], Violation.BARE_NEWLINE, "whatever it says"),
    (BareNewline.REJECT, b"x" * 20_000 + b"\n", [550], Violation.BARE_NEWLINE, "however long it is"),
    (BareNewline.REJECT, b"BDAT 5\nNOOP\n", [550], Violation.BARE_NEWLINE, "its octets are no commands"),
    (BareNewline.NOTE, b"BDAT 5\r\r\nNOOP\n", [500], Violation.CHUNK_SIZE, "nobody knows where its octets begin"),
    (BareNewline.NOTE, b"NOOP\r\r\nNOOP\r\n", [500, 250], None, "a CR not before LF, whatever the rule"),
    (BareNewline.REJECT, b"NOOP\r\r\nNOOP\r\n", [500, 250], None, "a CR not before LF, whatever the rule"),
]


@pytest.mark.parametrize(("what", "said", "answers", "violation", "reason"), NEWLINES)
def test_what_becomes_of_a_bare_newline(
    what: BareNewline, said: bytes, answers: list[int], violation: Violation | None, reason: str
) -> None:
    seat = ready(ServerConfig("mx.example.org", wire=WireRules(what)))
    assert codes(seat.say(said)) == answers, reason
    if violation is None:
        flagged = [one for event in seat.events if isinstance(event, Noop) for one in event.deviations]
        assert flagged == ([Deviation.BARE_LF] if answers[0] == 250 else [])
        assert [event.violation for event in seat.events if isinstance(event, CommandRefused)] == (
            [] if answers[0] == 250 else [Violation.BARE_NEWLINE]
        )
    else:
        assert ended_by(seat) is violation


@pytest.mark.parametrize(("what", "answer"), [(BareNewline.NOTE, 334), (BareNewline.REJECT, 521)])
def test_a_response_that_ends_with_lf_is_as_a_command(what: BareNewline, answer: int) -> None:
    seat = challenged(ready(replace(AUTH, wire=WireRules(what, bare_newline_code=521))))
    assert codes(seat.say(b"YWJj\n")) == [answer]
    if answer == 334:
        assert [event.deviations for event in seat.events if isinstance(event, AuthResponse)] == [{Deviation.BARE_LF}]
    else:
        assert ended_by(seat) is Violation.BARE_NEWLINE


@pytest.mark.parametrize("said", [b"DATA\r\nx", b"NOOP\r\nx", b"EHLO\r\nx", b"AUTH PLAIN\r\nx"])
def test_a_command_that_ends_its_group_is_not_looked_at_when_more_is_there(said: bytes) -> None:
    config = ServerConfig("mx.example.org", mechanisms=("PLAIN",), auth_in_clear=True)
    seat = Seat(config, early_input=EarlyInput.FORBID)
    seat.say(b"EHLO client.example\r\n")
    seen = len(seat.events)
    assert codes(seat.say(said)) == [554]
    assert ended_by(seat) in {Violation.EARLY_COMMAND, Violation.EARLY_GROUP}
    assert len(seat.events) <= seen + 1, "nothing but the end"


def test_nor_is_a_response_that_more_follows() -> None:
    config = ServerConfig("mx.example.org", mechanisms=("PLAIN",), auth_in_clear=True)
    seat = Seat(config, early_input=EarlyInput.FORBID)
    seat.say(b"EHLO client.example\r\n")
    seat.handler = challenge
    assert codes(seat.say(b"AUTH PLAIN\r\n")) == [334]
    assert codes(seat.say(b"eA==\r\nx")) == [554]
    assert not seat.of_type(AuthResponse)


@pytest.mark.parametrize("auth", [b"AUTH LOGIN", b"auth LOGIN dXNlcg==", b"AUTH=LOGIN", b"AUTH " + b"x" * 20_000])
def test_what_follows_an_auth_that_was_refused_is_not_shown_until_a_command_comes(auth: bytes) -> None:
    """A client that does not listen goes on with its name and its password."""
    records: list[TraceRecord] = []
    connection = ServerConnection(ServerConfig("mx.example.org"), clock=lambda: 0.0, trace=records.append)

    def say(line: bytes) -> list[ServerEvent]:
        connection.receive_data(line)
        events: list[ServerEvent] = []
        while not isinstance(event := connection.next_event(), Flow | ConnectionClosed):
            events.append(event)
            if connection.owed is not None:
                connection.accept()
        connection.data_to_send()
        return events

    say(b"")
    say(b"EHLO c.example\r\n")
    say(auth + b"\r\n")
    for line in (b"c2VjcmV0\r\n", b"c2VjcmV0" + b"x" * 20_000 + b"\r\n"):
        (refused,) = say(line)
        assert isinstance(refused, CommandRefused)
        assert refused.line == b"***"
    said = [record.line for record in records if isinstance(record, TraceLine) and record.side == "C"]
    assert said[2:] == [b"***", b"***"]
    say(b"NOOP\r\n")
    (refused,) = say(b"NOPE\r\n")
    assert isinstance(refused, CommandRefused)
    assert refused.line == b"NOPE"
    say(auth + b"\r\n")
    say(b"0L/QsNGA0L7Qu9GM\r\n")
    connection.receive_eof()
    closed = connection.next_event()
    while isinstance(closed, Flow):
        connection.data_to_send()
        closed = connection.next_event()
    assert isinstance(closed, ConnectionClosed)
    assert (closed.violation, closed.evidence) == (Violation.FORBIDDEN_COMMAND, b"***")
