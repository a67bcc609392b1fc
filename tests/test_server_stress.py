"""ServerConnection: stress, replies that are late, and what else holds a nuisance off."""

from __future__ import annotations

import pytest

from smtpstate import (
    CloseReason,
    ConnectionClosed,
    EndOfMessage,
    Flow,
    Limits,
    Rcpt,
    Reply,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Timer,
    TlsInfo,
    Violation,
)
from tests.helpers import Handler, Seat, accept_all, codes, in_transaction, ready

NO_SUCH_USER = Reply(550, "No such user", enhanced="5.1.1")
GREYLISTED = Reply(450, "Come again", enhanced="4.7.1")


def answering(to: type, reply: Reply) -> Handler:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, to):
            connection.reply(reply)
        else:
            accept_all(connection, event)

    return handler


def closed(seat: Seat) -> ConnectionClosed | None:
    seat.connection.receive_eof()
    seat.pull()
    return seat.connection.closed


# Stress.


@pytest.mark.parametrize("waited", [0, 100, 295])
def test_under_stress_a_command_has_ten_seconds_from_now_on(waited: float) -> None:
    seat = ready()
    seat.clock.now += waited
    seat.connection.stress = True
    assert seat.connection.stress
    assert seat.connection.deadline == seat.clock.now + min(10, 300 - waited)


def test_a_body_under_stress_has_ten_seconds_and_what_it_earns() -> None:
    seat = in_transaction()
    seat.say(b"DATA\r\n")
    seat.connection.stress = True
    for _ in range(100):
        assert seat.connection.deadline == seat.clock.now + 10
        seat.clock.now += 9
        seat.say(b"x" * 4500)
    assert seat.wait(10) == b"421 4.4.2 Timeout exceeded\r\n"


def test_saying_it_again_changes_nothing_and_taking_it_back_lasts_for_what_comes() -> None:
    seat = ready()
    seat.connection.stress = True
    seat.clock.now += 4
    seat.connection.stress = True
    assert seat.connection.deadline == seat.clock.now + 6
    seat.connection.stress = False
    assert seat.connection.deadline == seat.clock.now + 6
    seat.say(b"NOOP\r\n")
    assert seat.connection.deadline == seat.clock.now + 300


def test_under_stress_the_second_error_is_the_last_as_in_postfix() -> None:
    seat = ready()
    seat.connection.stress = True
    assert codes(seat.say(b"FROB\r\nFROB\r\n")) == [500, 421]
    assert closed(seat) == ConnectionClosed(CloseReason.VIOLATION, Violation.TOO_MANY_ERRORS)


def test_under_stress_an_honest_client_gets_through_with_tls_and_all() -> None:
    seat = Seat(ServerConfig("mx.example.org", starttls=True))
    seat.connection.stress = True
    assert codes(seat.say(b"EHLO client.example\r\n") + seat.say(b"STARTTLS\r\n")) == [250, 220]
    seat.connection.tls_established(TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
    assert codes(seat.say(b"EHLO client.example\r\n")) == [250]
    assert codes(seat.say(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")) == [250, 250, 354]
    assert codes(seat.say(b"x\r\n.\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")) == [
        *(250, 250, 250, 250, 354)
    ]


def test_a_session_that_begins_under_stress_is_held_to_it() -> None:
    seat = Seat(greet=False)
    seat.connection.stress = True
    seat.settle()
    assert seat.connection.deadline == seat.clock.now + 10


def test_what_stress_means_is_the_applications() -> None:
    class Relaxed(Limits):
        def under_stress(self) -> Limits:
            return Limits(command_seconds=60, errors=3)

    seat = ready(limits=Relaxed())
    seat.connection.stress = True
    assert seat.connection.deadline == seat.clock.now + 60
    assert codes(seat.say(b"FROB\r\n" * 5)) == [500] * 3 + [421]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"XFORWARD NAME=a ADDR=192.0.2.1\r\nXFORWARD PROTO=ESMTP HELO=a\r\n", "a relay that hands mail on"),
        (b"XCLIENT NAME=a ADDR=192.0.2.1\r\nEHLO client.example\r\n", "a front end, for each of its clients"),
    ],
)
def test_under_stress_those_who_speak_for_others_get_through(said: bytes, reason: str) -> None:
    config = ServerConfig("mx.example.org", offers=frozenset({"XCLIENT", "XFORWARD"}))
    seat = Seat(config, trusted=True)
    seat.connection.stress = True
    seat.say(b"EHLO client.example\r\n")
    assert set(codes(seat.say(said))) <= {220, 250}, reason
    assert codes(seat.say(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")) == [250, 250, 354], reason


def test_stress_does_not_wait_for_those_who_have_said_quit_and_read_nothing() -> None:
    seat = ready()
    seat.connection.receive_data(b"QUIT\r\n")
    seat.pull()
    seat.connection.data_to_send()
    assert seat.connection.deadline == seat.clock.now + 300
    seat.connection.stress = True
    assert seat.connection.deadline == seat.clock.now + 10


# Replies that are late.


def test_after_ten_errors_each_reply_is_a_second_late() -> None:
    seat = ready()
    clock, connection = seat.clock, seat.connection
    assert codes(seat.say(b"FROB\r\n" * 10)) == [500] * 10
    assert clock.now == 1000, "nothing was late yet"
    connection.receive_data(b"FROB\r\nNOOP\r\n")
    for code in (b"500", b"250"):
        before = clock.now
        assert seat.pull() is Flow.WAIT
        assert connection.data_to_send() == b""
        assert connection.deadline == before + 1
        clock.now += 0.9
        connection.handle_timeout()
        assert seat.pull() is Flow.WAIT
        assert connection.data_to_send() == b""
        clock.now = before + 1
        connection.handle_timeout()
        seat.pull()
        assert connection.data_to_send()[:3] == code
        assert connection.data_to_send() == b""
    assert seat.pull() is Flow.NEED_DATA
    assert connection.deadline == clock.now + 300, "and nobody has paid for it"


def test_octets_that_come_while_a_reply_is_late_wait_for_it() -> None:
    seat = ready(limits=Limits(soft_errors=1))
    seat.say(b"FROB\r\n")
    seat.connection.receive_data(b"FROB\r\n")
    assert seat.pull() is Flow.WAIT
    seat.connection.receive_data(b"NOOP\r\n")
    assert seat.pull() is Flow.WAIT
    assert codes(seat.settle()) == [500, 250]
    assert seat.clock.now == 1002


def test_what_was_said_before_is_not_late() -> None:
    seat = ready(limits=Limits(soft_errors=1))
    seat.connection.receive_data(b"FROB\r\nFROB\r\n")
    assert seat.pull() is Flow.NEED_FLUSH
    assert seat.connection.deadline == seat.clock.now + 300, "nor is there any hurry to read it"
    assert codes(seat.drain()) == [500]
    assert seat.pull() is Flow.WAIT
    assert seat.connection.deadline == seat.clock.now + 1


def test_the_last_word_is_never_late() -> None:
    seat = ready(limits=Limits(soft_errors=1, errors=1))
    assert codes(seat.say(b"FROB\r\n")) == [500]
    seat.connection.receive_data(b"FROB\r\n")
    assert seat.pull() is Flow.NEED_FLUSH
    assert codes(seat.drain()) == [421]
    quitting = ready(limits=Limits(soft_errors=1))
    quitting.say(b"FROB\r\n")
    before = quitting.clock.now
    assert codes(quitting.say(b"QUIT\r\n")) == [221]
    assert quitting.clock.now == before


def test_a_close_lets_go_what_is_late() -> None:
    seat = ready(limits=Limits(soft_errors=1))
    seat.say(b"FROB\r\n")
    seat.connection.receive_data(b"FROB\r\n")
    assert seat.pull() is Flow.WAIT
    seat.connection.close()
    assert codes(seat.settle()) == [500, 421]


def test_a_peer_that_leaves_meanwhile_is_gone() -> None:
    seat = ready(limits=Limits(soft_errors=1))
    seat.say(b"FROB\r\n")
    seat.connection.receive_data(b"FROB\r\n")
    assert seat.pull() is Flow.WAIT
    seat.connection.connection_lost()
    assert seat.pull() == ConnectionClosed(CloseReason.LOST)
    assert (seat.connection.deadline, seat.connection.data_to_send()) == (None, b"")


def test_a_message_that_is_taken_makes_up_for_errors() -> None:
    seat = in_transaction(limits=Limits(soft_errors=1))
    seat.say(b"FROB\r\n")
    seat.say(b"DATA\r\n.\r\n")
    before = seat.clock.now
    assert codes(seat.say(b"NOOP\r\n")) == [250]
    assert seat.clock.now == before


# What counts.


@pytest.mark.parametrize(
    ("reply", "answers", "reason"),
    [
        (NO_SUCH_USER, [550] * 4 + [421], "whoever guesses addresses is a nuisance"),
        (GREYLISTED, [450] * 10, "that it cannot be taken now is no fault of the peer"),
    ],
)
def test_recipients_that_the_application_refuses(reply: Reply, answers: list[int], reason: str) -> None:
    seat = ready(limits=Limits(errors=3), handler=answering(Rcpt, reply))
    seat.say(b"MAIL FROM:<>\r\n")
    assert codes(seat.say(b"RCPT TO:<a@b.example>\r\n" * 10)) == answers, reason


def test_messages_that_the_application_refuses() -> None:
    seat = ready(limits=Limits(errors=1), handler=answering(EndOfMessage, Reply(554, "Spam", enhanced="5.7.1")))
    message = b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n"
    assert codes(seat.say(message) + seat.say(b".\r\n")) == [250, 250, 354, 554]
    assert codes(seat.say(message) + seat.say(b".\r\n")) == [250, 250, 354, 554, 421]


@pytest.mark.parametrize("said", [b"DATA\r\n" + b"x" * 11 + b"\r\n.\r\n", b"BDAT 11 LAST\r\n" + b"x" * 11])
def test_messages_that_are_too_large(said: bytes) -> None:
    seat = in_transaction(limits=Limits(errors=0, message=10))
    assert codes(seat.say(said))[-2:] == [552, 421]


def test_recipients_above_the_limit_are_errors_after_an_overshoot() -> None:
    seat = ready(limits=Limits(recipients=1, recipient_overshoot=2, errors=1))
    transaction = b"MAIL FROM:<>\r\n" + b"RCPT TO:<a@b.example>\r\n" * 3
    for _ in range(3):
        assert codes(seat.say(transaction + b"RSET\r\n")) == [250, 250, 452, 452, 250], "each transaction has its own"
    assert codes(seat.say(transaction + b"RCPT TO:<a@b.example>\r\n" * 2)) == [250, 250, 452, 452, 452, 421]


def test_commands_without_a_message_end_the_session() -> None:
    seat = in_transaction(limits=Limits(commands=5))
    assert codes(seat.say(b"RCPT TO:<a@b.example>\r\n" * 3)) == [250, 250, 421]
    assert closed(seat) == ConnectionClosed(CloseReason.VIOLATION, Violation.TOO_MANY_COMMANDS)


def test_under_stress_the_deadline_is_never_past_once_it_was_handled() -> None:
    seat = ready()
    seat.clock.now += 299
    seat.connection.stress = True
    seat.clock.now += 1
    seat.connection.handle_timeout()
    assert codes(seat.settle()) == [421]
    assert closed(seat) == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)
