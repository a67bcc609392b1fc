"""The server's seat in LMTP: its own hello, and one verdict for each recipient. RFC 2033."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smtpstate import (
    Body,
    CloseReason,
    ConnectionClosed,
    EndOfMessage,
    Lhlo,
    Limits,
    LocalProtocolError,
    Phase,
    Reply,
    ResetCause,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TransactionReset,
)
from smtpstate._config import OFFERS
from tests.helpers import Handler, Seat, accept_all, codes

OK = Reply(250, "Delivered", enhanced="2.0.0")
FULL = Reply(452, "Mailbox full", enhanced="4.2.2")
NO = Reply(550, "No", enhanced="5.7.1")
WIRE = [b"DATA\r\nhi\r\n.\r\n", b"BDAT 1\r\nhBDAT 1 LAST\r\ni"]


def config(limits: Limits | None = None) -> ServerConfig:
    return ServerConfig("mx.example.org", limits or Limits(), lmtp=True)


def ready(handler: Handler = accept_all, limits: Limits | None = None) -> Seat:
    seat = Seat(config(limits), handler=handler)
    seat.say(b"LHLO c.example\r\n")
    return seat


def with_recipients(
    count: int, handler: Handler = accept_all, limits: Limits | None = None, name: bytes = b"r%d"
) -> Seat:
    """A seat with so many accepted recipients."""
    seat = ready(handler, limits)
    seat.say(b"MAIL FROM:<>\r\n")
    for number in range(count):
        local = name % number if b"%" in name else name
        assert codes(seat.say(b"RCPT TO:<" + local + b"@example.org>\r\n")) == [250]
    seat.events.clear()
    return seat


def at_the_end(*replies: Reply) -> Handler:
    """Accepts all, and answers the end of a message with these."""

    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, EndOfMessage):
            for reply in replies:
                assert connection.reply(reply)
        else:
            accept_all(connection, event)

    return handler


def final(answers: bytes) -> list[int]:
    """The codes after 354, or after the 250 of the first chunk."""
    return codes(answers)[1:]


def test_the_greeting_and_the_hello_say_lmtp() -> None:
    seat = Seat(config(), greet=False)
    seat.pull()
    assert seat.drain() == b"220 mx.example.org LMTP\r\n"
    assert seat.say(b"LHLO c.example\r\n").startswith(b"250-mx.example.org\r\n250-8BITMIME\r\n250-CHUNKING\r\n")
    assert seat.events[-1] == Lhlo("c.example") == seat.connection.hello


@pytest.mark.parametrize("line", [b"EHLO c.example", b"HELO c.example", b"EHLO"])
def test_smtps_hellos_are_none_in_lmtp(line: bytes) -> None:
    """RFC 2033 section 4.1."""
    seat = Seat(config())
    assert codes(seat.say(line + b"\r\nMAIL FROM:<>\r\n")) == [500, 503]


def test_lmtps_hello_is_none_in_smtp() -> None:
    seat = Seat()
    assert codes(seat.say(b"LHLO c.example\r\n")) == [500]


@pytest.mark.parametrize("line", [b"DATA", b"BDAT 0 LAST"])
def test_without_a_recipient_it_is_503(line: bytes) -> None:
    """RFC 2033 section 4.2, where SMTP has 554."""
    seat = ready()
    assert codes(seat.say(b"MAIL FROM:<>\r\n" + line + b"\r\n")) == [250, 503]


@pytest.mark.parametrize("wire", WIRE)
@pytest.mark.parametrize("name", [b"r%d", b"same"])
def test_each_recipient_has_its_answer_in_order(wire: bytes, name: bytes) -> None:
    """RFC 2033 section 4.2: duplicates are counted."""
    seat = with_recipients(3, at_the_end(OK, FULL, NO), name=name)
    answers = seat.say(wire)
    assert final(answers) == [250, 452, 550]
    assert answers.endswith(b"250 2.0.0 Delivered\r\n452 4.2.2 Mailbox full\r\n550 5.7.1 No\r\n")
    assert seat.connection.phase is Phase.READY
    assert seat.connection.transaction is None
    assert seat.of_type(TransactionReset) == [], "somebody has it"


def test_a_chunk_that_is_not_the_last_has_one_answer() -> None:
    seat = with_recipients(3)
    assert codes(seat.say(b"BDAT 1\r\nx")) == [250]
    assert codes(seat.say(b"BDAT 0 LAST\r\n")) == [250, 250, 250]


@pytest.mark.parametrize("wire", WIRE)
def test_a_yes_answers_all_that_are_left(wire: bytes) -> None:
    assert final(with_recipients(3).say(wire)) == [250, 250, 250]

    def one_by_itself(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, EndOfMessage):
            connection.reply(NO)
            assert connection.accept("Fine")
            with pytest.raises(LocalProtocolError):
                connection.accept()
        else:
            accept_all(connection, event)

    answers = with_recipients(3, one_by_itself).say(wire)
    assert answers.endswith(b"550 5.7.1 No\r\n250 2.0.0 Fine\r\n250 2.0.0 Fine\r\n")


@pytest.mark.parametrize("wire", WIRE)
@pytest.mark.parametrize(
    ("said", "answers", "reset"),
    [((), [451, 451, 451], 1), ((OK,), [250, 451, 451], 0), ((NO, OK), [550, 250, 451], 0)],
)
def test_silence_is_a_no_for_all_that_are_left(
    wire: bytes, said: tuple[Reply, ...], answers: list[int], reset: int
) -> None:
    seat = with_recipients(3, at_the_end(*said))
    assert final(seat.say(wire)) == answers
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.REFUSED)] * reset
    assert seat.connection.phase is Phase.READY


def test_one_message_after_another() -> None:
    """What was said to one message's recipients is no matter of the next one's."""
    seat = with_recipients(2, at_the_end(OK, NO))
    assert final(seat.say(WIRE[0])) == [250, 550]
    seat.handler = at_the_end(NO)
    assert codes(seat.say(b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\n" + WIRE[0])) == [250, 250, 354, 550]
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.REFUSED)]


@pytest.mark.parametrize("wire", WIRE)
@pytest.mark.parametrize("kind", [Body, EndOfMessage])
def test_a_refusal_is_said_for_each(wire: bytes, kind: type) -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, kind):
            connection.refuse(NO)
        else:
            accept_all(connection, event)

    seat = with_recipients(3, handler)
    answers = codes(seat.say(wire + b"RSET\r\n"))
    if wire is WIRE[1] and kind is Body:
        assert answers == [550, 503, 250], "the first chunk was refused, and has one answer"
    else:
        assert answers == [answers[0], 550, 550, 550, 250]
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.REFUSED)]


def test_a_refusal_in_the_last_chunk_is_said_for_each() -> None:
    seat = with_recipients(3)
    seat.say(b"BDAT 1\r\nx")
    assert seat.connection.refuse(NO)
    assert codes(seat.say(b"BDAT 0 LAST\r\n")) == [550, 550, 550]


@pytest.mark.parametrize("wire", [b"DATA\r\n" + b"x" * 120 + b"\r\n.\r\n", b"BDAT 120 LAST\r\n" + b"x" * 120])
def test_a_message_that_is_too_large_is_so_for_each(wire: bytes) -> None:
    seat = with_recipients(2, limits=Limits(message=100))
    assert codes(seat.say(wire + b"NOOP\r\n"))[-3:] == [552, 552, 250]


def test_a_421_is_the_last_word_for_all() -> None:
    seat = with_recipients(3, at_the_end(OK, Reply(421, "Bye", enhanced="4.3.2")))
    assert final(seat.say(WIRE[0])) == [250, 421]
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.CLOSED)
    assert seat.of_type(TransactionReset) == [], "the first one has it"


def test_a_421_before_any_yes_resets() -> None:
    seat = with_recipients(3, at_the_end(NO, Reply(421, "Bye", enhanced="4.3.2")))
    assert final(seat.say(WIRE[0])) == [550, 421]
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)]


@pytest.mark.parametrize("wire", WIRE)
def test_a_421_in_a_refusal_is_said_once(wire: bytes) -> None:
    seat = with_recipients(3)
    seat.connection.receive_data(wire[: len(wire) - 1])
    seat.pull()
    seat.drain()
    seat.connection.refuse(Reply(421, "Full", enhanced="4.3.1"))
    assert codes(seat.say(wire[-1:])) == [421]


@pytest.mark.parametrize("said", [0, 1])
def test_a_lost_connection_in_mid_answer_resets_only_what_nobody_has(said: int) -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, EndOfMessage):
            for _ in range(said):
                connection.reply(OK)
            connection.connection_lost()
            assert connection.accept() is False
        else:
            accept_all(connection, event)

    seat = with_recipients(3, handler)
    seat.connection.receive_data(WIRE[0])
    assert seat.pull() == ConnectionClosed(CloseReason.LOST)
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)] * (1 - said)


def test_a_handler_that_takes_too_long_has_answered_451_for_the_rest() -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, EndOfMessage):
            connection.reply(OK)
            seat.clock.now += 120
            connection.handle_timeout()
            assert connection.reply(OK) is connection.accept() is False, "too late"
        else:
            accept_all(connection, event)

    seat = with_recipients(3, handler)
    assert final(seat.say(WIRE[0])) == [250, 451, 451]
    assert codes(seat.say(b"NOOP\r\n")) == [250], "and the session goes on"


@pytest.mark.parametrize("reply", [Reply(354), Reply(199), Reply(250, "a\r\nb"), Reply(250, "x", enhanced="5.0.0")])
def test_a_mistake_leaves_the_answers_where_they_were(reply: Reply) -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, EndOfMessage):
            connection.reply(NO)
            with pytest.raises(LocalProtocolError):
                connection.reply(reply)
            assert connection.owed is event
            connection.reply(OK)
            connection.reply(FULL)
        else:
            accept_all(connection, event)

    assert final(with_recipients(3, handler).say(WIRE[0])) == [550, 250, 452]


def test_recipients_are_known_until_the_last_of_them_has_its_answer() -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, EndOfMessage):
            connection.reply(OK)
            counts = [len(connection.recipients)]
            connection.reply(OK)
            assert [*counts, len(connection.recipients)] == [2, 0]
        else:
            accept_all(connection, event)

    with_recipients(2, handler).say(WIRE[0])


def test_lmtp_may_need_tls_and_authentication() -> None:
    seat = Seat(replace(config(), requires_tls=True, requires_auth=True, starttls=True))
    assert codes(seat.say(b"LHLO c.example\r\nMAIL FROM:<>\r\n")) == [250, 530]


def test_without_chunking_a_chunk_is_502() -> None:
    seat = Seat(ServerConfig("mx.example.org", lmtp=True, offers=OFFERS - {"CHUNKING"}))
    assert codes(seat.say(b"LHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 1 LAST\r\nx")) == [
        *(250, 250, 250),
        502,
    ]
