"""The server's seat: messages, their size, and refusing them."""

from __future__ import annotations

import pytest

from smtpstate import (
    Anomaly,
    Body,
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    Data,
    EndOfMessage,
    Limits,
    LocalProtocolError,
    Phase,
    Rcpt,
    Reply,
    ResetCause,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TransactionReset,
    Violation,
)
from smtpstate.policy import BareNewline, WireRules
from tests.helpers import Handler, Seat, accept_all, codes, in_body, in_transaction, ready

CUTS = (1, 2, 3, 99, 100_000)
NO = Reply(550, "No", enhanced="5.7.1")
SMALL = Limits(message=100)


def bodies(seat: Seat) -> bytes:
    return b"".join(event.data for event in seat.events if isinstance(event, Body))


def feed(seat: Seat, wire: bytes, cut: int) -> bytes:
    return b"".join(seat.say(wire[start : start + cut]) for start in range(0, len(wire), cut))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("wire", "content", "reason"),
    [
        (b".\r\n", b"", "an empty message"),
        (b"\r\n.\r\n", b"\r\n", "one empty line"),
        (b"a\r\n.\r\n", b"a\r\n", "one line; its CRLF belongs to it"),
        (b"..\r\n.\r\n", b".\r\n", "a stuffed dot"),
        (b".a\r\n.\r\n", b"a\r\n", "one dot comes off, whatever follows"),
        (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n", "a bare LF ends nothing"),
        (b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n", "nor a bare CR"),
        (b"x" * 998 + b"\r\n.\r\n", b"x" * 998 + b"\r\n", "a text line of 1000 octets, section 4.5.3.1.6"),
        (b"." + b"x" * 998 + b"\r\n.\r\n", b"x" * 998 + b"\r\n", "and a dot more"),
        (b"y" * 5000 + b"\r\n.\r\n", b"y" * 5000 + b"\r\n", "longer ones pass unchanged"),
        (bytes(range(256)) + b"\r\n.\r\n", bytes(range(256)) + b"\r\n", "any octet is content"),
        (b"MAIL FROM:<>\r\nQUIT\r\n.\r\n", b"MAIL FROM:<>\r\nQUIT\r\n", "commands are none here"),
    ],
)
def test_a_body_arrives_as_it_is(wire: bytes, content: bytes, reason: str, cut: int) -> None:
    seat = in_body(ServerConfig("mx.example.org", wire=WireRules(BareNewline.NOTE)))
    assert codes(feed(seat, wire + b"NOOP\r\n", cut)) == [250, 250], reason
    assert bodies(seat) == content, reason
    (end,) = seat.of_type(EndOfMessage)
    assert isinstance(end, EndOfMessage)
    assert end.size == len(content)


def test_a_piece_comes_out_as_the_same_object() -> None:
    seat = in_body()
    piece = b"line\r\n" * 1000
    seat.say(piece)
    body = seat.events[-1]
    assert isinstance(body, Body)
    assert body.data is piece


def test_what_is_odd_about_a_body_is_told() -> None:
    seat = in_body()
    seat.say(b"a\nb\rc\0\r\n.\r\n")
    end = seat.events[-1]
    assert isinstance(end, EndOfMessage)
    assert end.anomalies == {Anomaly.BARE_LF, Anomaly.BARE_CR, Anomaly.NUL}


def test_64_kib_pass() -> None:
    """Section 4.5.3.1.7, at the smallest limit that it allows."""
    seat = in_body(limits=Limits(message=65_536))
    content = (b"x" * 62 + b"\r\n") * 1024
    assert codes(seat.say(content + b".\r\n")) == [250]
    assert bodies(seat) == content


@pytest.mark.parametrize(
    ("size", "answer"), [(b"100", 250), (b"101", 552), (b"99999999999999999999", 552), (b"0", 250)]
)
def test_an_announced_size_is_refused_at_mail(size: bytes, answer: int) -> None:
    """RFC 1870 section 6.1."""
    seat = ready(limits=SMALL)
    assert codes(seat.say(b"MAIL FROM:<> SIZE=" + size + b"\r\n")) == [answer]
    if answer == 552:
        refused = seat.events[-1]
        assert isinstance(refused, CommandRefused)
        assert refused.violation is Violation.SIZE_TOO_LARGE
        assert seat.connection.phase is Phase.READY


@pytest.mark.parametrize("size", [b"", b"=", b"=-1", b"=+1", b"=1e3", b"=0x10", b"=100000000000000000000", b"=1.0"])
def test_a_size_is_digits_and_no_more_than_twenty(size: bytes) -> None:
    """RFC 1870 section 3."""
    assert codes(ready().say(b"MAIL FROM:<> SIZE" + size + b"\r\n")) == [501]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("length", "answers", "reason"),
    [
        (98, [250, 250], "with its CRLF the limit itself"),
        (99, [552, 250], "an octet over: answered at its end, and the session is in step"),
        (148, [552, 250], "one and a half times the limit"),
        (149, [552], "past that there is no end to wait for"),
        (5000, [552], "far past"),
    ],
)
def test_a_message_over_the_limit(length: int, answers: list[int], reason: str, cut: int) -> None:
    seat = in_body(limits=SMALL)
    assert codes(feed(seat, b"x" * length + b"\r\n.\r\nNOOP\r\n", cut)) == answers, reason
    if answers[0] == 250:
        return
    assert len(bodies(seat)) <= 100, "what is over is not handed out"
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.TOO_LARGE)]
    assert seat.of_type(EndOfMessage) == []
    seat.connection.receive_eof()
    closed = seat.pull()
    if len(answers) == 1:
        assert closed == ConnectionClosed(CloseReason.VIOLATION, Violation.MESSAGE_TOO_LARGE)
    else:
        assert closed == ConnectionClosed(CloseReason.EOF)


def test_the_next_message_starts_from_nothing() -> None:
    seat = in_body(limits=SMALL)
    assert codes(seat.say(b"x" * 120 + b"\r\n.\r\n")) == [552]
    again = b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\nfine\r\n.\r\n"
    assert codes(seat.say(again)) == [250, 250, 354, 250]


def refusing(kind: type, reply: Reply = NO) -> Handler:
    """Accepts all, and refuses at each event of this kind."""

    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, kind):
            assert connection.refuse(reply)
        else:
            accept_all(connection, event)

    return handler


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("kind", "answers", "reason"),
    [
        (
            Data,
            [250, 250, 550, 500, 221],
            "no 354: what follows are commands, and a dot is none that mail clients send",
        ),
        (Body, [250, 250, 354, 550, 221], "read to its end, and answered there"),
        (EndOfMessage, [250, 250, 354, 550, 221], "answered at once"),
    ],
)
def test_a_message_is_refused_from_data_to_its_end(kind: type, answers: list[int], reason: str, cut: int) -> None:
    seat = ready(handler=refusing(kind))
    wire = b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
    assert codes(feed(seat, wire, cut)) == answers, reason
    (reset,) = seat.of_type(TransactionReset)
    assert reset == TransactionReset(ResetCause.CLOSED if kind is Data else ResetCause.REFUSED)


def test_the_first_refusal_stands() -> None:
    seat = in_body()
    seat.connection.receive_data(b"x\r\n")
    seat.pull()
    assert seat.connection.refuse(NO)
    assert seat.connection.refuse(Reply(450, "Later", enhanced="4.7.1"))
    assert seat.connection.transaction is None
    assert seat.say(b"y\r\n.\r\n") == b"550 5.7.1 No\r\n"
    assert bodies(seat) == b"x\r\n", "the rest was dropped"


def test_a_refused_message_can_still_grow_too_large() -> None:
    seat = in_body(limits=SMALL)
    seat.connection.refuse(NO)
    assert codes(seat.say(b"x" * 120)) == []
    assert codes(seat.say(b"x" * 40)) == [552]
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.REFUSED)]


def test_a_421_in_a_refusal_closes_at_the_end() -> None:
    seat = in_body()
    seat.connection.refuse(Reply(421, "Full", enhanced="4.3.1"))
    assert codes(seat.say(b"x\r\n")) == []
    assert codes(seat.say(b".\r\nNOOP\r\n")) == [421]
    assert seat.connection.phase is Phase.CLOSING


@pytest.mark.parametrize("code", [250, 354, 200, 199, 600, 0])
def test_a_refusal_is_a_no(code: int) -> None:
    seat = in_body()
    with pytest.raises(LocalProtocolError, match="4yz or 5yz"):
        seat.connection.refuse(Reply(code))
    assert codes(seat.say(b".\r\n")) == [250]


def test_a_refusal_that_cannot_be_said_changes_nothing() -> None:
    seat = in_body()
    with pytest.raises(LocalProtocolError, match="control"):
        seat.connection.refuse(Reply(550, "a\r\nb"))
    assert seat.connection.transaction is not None
    assert codes(seat.say(b".\r\n")) == [250]


def test_without_a_message_there_is_nothing_to_refuse() -> None:
    seat = in_transaction()
    with pytest.raises(LocalProtocolError, match="no message to refuse in phase RCPT"):
        seat.connection.refuse(NO)
    seat.connection.receive_data(b"RCPT TO:<c@example.org>\r\n")
    assert isinstance(seat.connection.next_event(), Rcpt)
    with pytest.raises(LocalProtocolError, match="no message to refuse"):
        seat.connection.refuse(NO)
    seat.connection.connection_lost()
    assert seat.connection.refuse(NO) is False


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"", "nothing came"),
        (b"x", "in a line"),
        (b"x\r\n", "after a line"),
        (b"x\r\n.", "a dot is no end"),
        (b"x\r\n.\r", "nor is half of one"),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_a_body_without_an_end_is_no_message(tail: bytes, reason: str, lost: bool) -> None:
    seat = in_body()
    seat.say(tail)
    if lost:
        seat.connection.connection_lost()
    else:
        seat.connection.receive_eof()
    closed = seat.pull()
    assert closed == ConnectionClosed(CloseReason.LOST if lost else CloseReason.EOF), reason
    assert seat.of_type(EndOfMessage) == [], reason
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)]
