"""The server's seat in time: each budget, to the second, on a clock that nobody waits for."""

from __future__ import annotations

import pytest

from smtpstate import (
    Body,
    CloseReason,
    Connected,
    ConnectionClosed,
    EndOfMessage,
    Flow,
    Limits,
    Mail,
    Noop,
    Phase,
    Quit,
    Rcpt,
    Reply,
    ResetCause,
    ServerConfig,
    ServerConnection,
    StartTls,
    Timer,
    TlsInfo,
    TransactionReset,
)
from tests.helpers import Seat, accept_all, codes, in_body, in_transaction, ready

TIMED_OUT = b"421 4.4.2 Timeout exceeded\r\n"


def cut_by(seat: Seat) -> Timer | None:
    """The budget that ended it, once the linger is over."""
    seat.connection.receive_eof()
    closed = seat.pull()
    assert isinstance(closed, ConnectionClosed)
    assert closed.reason is CloseReason.TIMEOUT
    assert seat.connection.deadline is None
    return closed.timer


@pytest.mark.parametrize(
    ("said", "phase"),
    [
        (b"", Phase.GREETED),
        (b"EHLO c.example\r\n", Phase.READY),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\n", Phase.MAIL),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n", Phase.RCPT),
        (b"EHLO c.example\r\nFROB\r\n", Phase.READY),
        (b"NOOP\r\nNOO", Phase.GREETED),
    ],
)
def test_a_silent_peer_is_cut_after_five_minutes(said: bytes, phase: Phase) -> None:
    seat = Seat()
    seat.clock.now += 299
    seat.say(said)
    assert seat.connection.phase is phase
    start = seat.clock.now if said else seat.clock.now - 299
    assert seat.connection.deadline == start + 300
    assert seat.wait(start + 299.999 - seat.clock.now) == b"", "early calls do nothing"
    assert seat.wait(start + 300 - seat.clock.now) == TIMED_OUT
    assert cut_by(seat) is Timer.COMMAND


def test_a_silent_peer_is_cut_in_a_refused_session_too() -> None:
    seat = Seat(handler=lambda connection, event: None if connection.owed is None else no(connection), greet=False)
    seat.settle()
    assert seat.connection.phase is Phase.REFUSED
    assert seat.wait(300) == TIMED_OUT


def no(connection: ServerConnection) -> None:
    connection.reply(Reply(554, "No"))


def test_a_drip_is_cut_at_300_s() -> None:
    """One octet a minute: no octet renews the deadline of a command."""
    seat = Seat()
    start = seat.clock.now
    for octet in b"NOOP\r":
        assert seat.say(bytes([octet])) == b""
        seat.clock.now += 60
    assert seat.clock.now == start + 300
    assert seat.say(b"\n") == TIMED_OUT, "the sixth comes too late, whether or not anybody looked at the clock"
    assert cut_by(seat) is Timer.COMMAND


def test_a_line_without_an_end_is_cut_at_300_s() -> None:
    seat = Seat()
    for _ in range(299):
        assert seat.say(b"x" * 10_000) == b""
        seat.clock.now += 1
    assert seat.wait(1) == TIMED_OUT


def test_the_time_of_a_command_starts_when_the_one_before_is_answered() -> None:
    seat = Seat()
    seat.clock.now += 200
    seat.say(b"NOOP\r\n")
    assert seat.connection.deadline == seat.clock.now + 300


def test_a_handler_s_time_is_not_the_peer_s() -> None:
    seat = Seat()
    seat.clock.now += 100
    seat.connection.receive_data(b"EHLO c.example\r\nMAIL FROM:<>\r\n")
    for _ in range(2):
        seat.connection.next_event()
        assert seat.connection.deadline == seat.clock.now + 120, "the handler's"
        seat.clock.now += 119
        seat.connection.accept()
    assert seat.pull() is Flow.NEED_DATA
    assert seat.connection.deadline == seat.clock.now + 300
    # The session's budget, 1800 s, has paid for the 100 s of waiting alone.
    for _ in range(5):
        seat.clock.now += 299
        seat.say(b"NOOP\r\n")
    assert seat.connection.deadline == seat.clock.now + 1800 - 100 - 5 * 299


def test_a_session_is_cut_after_half_an_hour_of_waiting() -> None:
    seat = Seat()
    answers = b""
    for _ in range(6):
        answers += seat.say(b"NOOP\r\n")
        answers += seat.wait(299)
    assert codes(answers) == [250] * 6
    answers = seat.say(b"NOOP\r\n")
    assert seat.connection.deadline == seat.clock.now + 6
    assert seat.wait(6) == TIMED_OUT
    assert cut_by(seat) is Timer.SESSION


@pytest.mark.parametrize(
    ("octets", "every", "reason"),
    [
        (500, 1.0, "500 octets a second, exactly"),
        (149_999, 299.0, "500 octets a second and a little more, in big pieces"),
        (5000, 1.0, "fast"),
    ],
)
def test_an_honest_slow_sender_is_never_cut(octets: int, every: float, reason: str) -> None:
    seat = in_body(limits=Limits(message=1 << 40))
    for _ in range(1000):
        seat.clock.now += every
        assert seat.say(b"x" * octets) == b"", reason
    assert codes(seat.say(b"\r\n.\r\n")) == [250], reason


def test_too_slow_a_sender_is_cut() -> None:
    """250 octets a second earn half of what they cost: 300 s of budget last for 600."""
    seat = in_body()
    start = seat.clock.now
    while True:
        seat.clock.now += 1
        if answer := seat.say(b"x" * 250):
            break
    assert answer == TIMED_OUT
    # One second earlier than 600: what comes with the last octets comes too late to earn.
    assert 598 <= seat.clock.now - start <= 600
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)]
    assert cut_by(seat) is Timer.BODY


def test_a_burst_buys_no_more_than_a_full_budget() -> None:
    seat = in_body()
    seat.clock.now += 100
    seat.say(b"x" * 10_000_000)
    assert seat.connection.deadline == seat.clock.now + 300
    assert seat.wait(299.999) == b""
    assert seat.wait(0.001) == TIMED_OUT
    assert cut_by(seat) is Timer.BODY


def test_short_lines_do_not_renew_the_time_of_a_body() -> None:
    seat = in_body()
    start = seat.clock.now
    while not seat.say(b"x\r\n"):
        seat.clock.now += 10
    assert 300 <= seat.clock.now - start <= 310


def test_after_a_refused_message_the_time_of_a_command_runs() -> None:
    seat = in_body()
    seat.connection.receive_data(b"x")
    seat.pull()
    seat.connection.refuse(Reply(550, "No", enhanced="5.7.1"))
    seat.settle()
    seat.clock.now += 10
    assert codes(seat.say(b"y\r\n.\r\n")) == [550]
    assert seat.connection.deadline == seat.clock.now + 300
    assert seat.wait(300) == TIMED_OUT
    assert cut_by(seat) is Timer.COMMAND


def test_octets_that_follow_a_body_earn_nothing() -> None:
    seat = ready(limits=Limits(session_seconds=1000, handler_seconds=10_000))

    def hold(connection: ServerConnection, event: object) -> None:
        if isinstance(event, EndOfMessage):
            connection.receive_data(b"NOOP\r\n" * 90)
        if connection.owed is event:
            connection.accept()

    seat.say(b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n")
    seat.clock.now += 250
    seat.handler = hold
    seat.say(b"DATA\r\n.\r\n")
    for _ in range(2):
        seat.clock.now += 299
        seat.say(b"NOOP\r\n")
    assert seat.connection.deadline == seat.clock.now + 1000 - 250 - 2 * 299


def owing(kind: type, said: bytes, config: ServerConfig | None = None) -> Seat:
    """A seat whose handler hangs in the event of this kind."""
    seat = Seat(config, greet=False)
    seat.connection.receive_data(said)
    while type(event := seat.connection.next_event()) is not kind:
        assert not isinstance(event, Flow | ConnectionClosed)
        accept_all(seat.connection, event)
    seat.drain()
    return seat


ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n"


@pytest.mark.parametrize(
    ("kind", "said", "phase", "reason"),
    [
        (Mail, ENVELOPE, Phase.READY, "no transaction was opened"),
        (Rcpt, ENVELOPE, Phase.MAIL, "no recipient was added"),
        (EndOfMessage, ENVELOPE + b"DATA\r\n.\r\n", Phase.READY, "nothing was taken, and the session is in step"),
    ],
)
def test_a_handler_that_hangs_costs_a_451(kind: type, said: bytes, phase: Phase, reason: str) -> None:
    seat = owing(kind, said)
    connection = seat.connection
    assert connection.deadline == seat.clock.now + 120
    seat.clock.now += 119.999
    connection.handle_timeout()
    assert seat.drain() == b""
    seat.clock.now += 0.001
    connection.handle_timeout()
    assert seat.drain() == b"451 4.3.0 Local error in processing\r\n"
    assert connection.phase is phase, reason
    assert connection.deadline is None, "until the handler is gone nobody pays"
    assert connection.accept() is False, "too late"
    assert connection.reply(Reply(550)) is False
    assert connection.refuse(Reply(550)) is False
    assert seat.drain() == b""
    assert codes(seat.say(b"QUIT\r\n"))[-1] == 221, "the session goes on"


@pytest.mark.parametrize(
    ("kind", "said", "answer", "reason"),
    [
        (Connected, b"", b"421 Local error in processing\r\n", "there is no 451 greeting that leads on"),
        (Body, ENVELOPE + b"DATA\r\nx\r\n", b"421 4.3.0 Local error in processing\r\n", "a body has begun"),
        (Noop, b"NOOP\r\n", b"421 4.3.0 Local error in processing\r\n", "nothing is owed, and nobody can go on"),
    ],
)
def test_a_handler_that_hangs_where_the_session_cannot_go_on_closes_it(
    kind: type, said: bytes, answer: bytes, reason: str
) -> None:
    seat = owing(kind, said)
    seat.clock.now += 120
    seat.connection.handle_timeout()
    assert seat.drain() == answer, reason
    assert seat.connection.accept() is False
    assert seat.connection.refuse(Reply(550)) is False
    assert cut_by(seat) is Timer.HANDLER


def test_a_hello_that_hangs_gets_its_451_without_an_enhanced_code() -> None:
    seat = Seat()
    seat.connection.receive_data(b"EHLO c.example\r\n")
    seat.connection.next_event()
    seat.clock.now += 120
    seat.connection.handle_timeout()
    assert seat.drain() == b"451 Local error in processing\r\n"


def test_octets_that_come_while_a_handler_hangs_are_not_lost() -> None:
    seat = owing(Mail, b"EHLO c.example\r\nMAIL FROM:<>\r\n")
    seat.clock.now += 121
    seat.connection.receive_data(b"NOOP\r\n")
    assert codes(seat.settle()) == [451, 250]


def test_a_handler_that_hangs_when_all_is_said_adds_nothing() -> None:
    seat = in_transaction()
    seat.connection.receive_data(b"QUIT\r\n")
    assert seat.connection.next_event() == Quit()
    assert codes(seat.drain()) == [221]
    seat.clock.now += 120
    seat.connection.handle_timeout()
    assert seat.drain() == b""
    assert seat.connection.deadline is None
    assert seat.connection.next_event() == TransactionReset(ResetCause.CLOSED)
    seat.connection.connection_lost()
    seat.clock.now += 120
    seat.connection.handle_timeout()
    assert seat.drain() == b""
    assert seat.connection.next_event() == ConnectionClosed(CloseReason.QUIT)


def test_a_handler_that_hangs_before_a_handshake_says_nothing_in_clear() -> None:
    config = ServerConfig("mx.example.org", starttls=True)
    seat = owing(StartTls, b"EHLO c.example\r\nSTARTTLS\r\n", config)
    seat.clock.now += 120
    seat.connection.handle_timeout()
    assert seat.drain() == b""
    assert cut_by(seat) is Timer.HANDLER


@pytest.mark.parametrize(
    ("limits", "timer", "seconds", "reason"),
    [
        (Limits(), Timer.HANDSHAKE, 60, "its own budget"),
        (Limits(session_seconds=20), Timer.SESSION, 20, "the session's, and still nothing is said in clear"),
    ],
)
@pytest.mark.parametrize("implicit", [False, True])
def test_a_handshake_that_never_ends_is_cut_without_a_word(
    limits: Limits, timer: Timer, seconds: float, reason: str, implicit: bool
) -> None:
    config = ServerConfig("mx.example.org", limits, starttls=True)
    seat = Seat(config, implicit_tls=implicit)
    if not implicit:
        seat.say(b"EHLO c.example\r\nSTARTTLS\r\n")
    assert seat.flow is Flow.NEED_TLS
    assert seat.connection.deadline == seat.clock.now + seconds
    assert seat.wait(seconds) == b"", reason
    assert cut_by(seat) is timer


def test_after_a_handshake_the_time_of_a_command_starts_anew() -> None:
    seat = Seat(ServerConfig("mx.example.org"), implicit_tls=True)
    seat.clock.now += 59
    seat.connection.tls_established(TlsInfo("TLSv1.3", "x"))
    seat.settle()
    assert seat.connection.deadline == seat.clock.now + 300


def test_a_peer_that_reads_nothing_is_cut() -> None:
    seat = Seat(limits=Limits(unsent=100, junk=1000))
    seat.connection.receive_data(b"HELP\r\n" * 50)
    assert seat.pull() is Flow.NEED_FLUSH
    assert seat.connection.deadline == seat.clock.now + 300
    seat.clock.now += 299
    seat.connection.data_to_send()
    assert seat.pull() is Flow.NEED_FLUSH, "taken, but not gone"
    seat.clock.now += 1
    seat.connection.handle_timeout()
    assert seat.pull() is Flow.NEED_FLUSH, "the 421 waits, too"
    assert seat.connection.deadline == seat.clock.now + 2
    seat.clock.now += 2
    seat.connection.handle_timeout()
    assert seat.pull() == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)
    assert seat.connection.data_to_send() == b""


def test_the_clock_is_read_only_when_something_happens() -> None:
    seat = ready()
    reads = seat.clock.reads
    for _ in range(10):
        assert seat.pull() is Flow.NEED_DATA
        assert seat.connection.deadline is not None
        assert seat.connection.data_to_send() == b""
        seat.connection.receive_data(b"")
    assert seat.clock.reads == reads


def test_a_deadline_is_never_past_after_it_was_handled() -> None:
    for said in (b"", ENVELOPE, ENVELOPE + b"DATA\r\n", ENVELOPE + b"DATA\r\nx\r\n.\r\n", b"QUIT\r\n"):
        seat = Seat()
        seat.say(said)
        while (deadline := seat.connection.deadline) is not None:
            seat.clock.now = deadline
            seat.connection.handle_timeout()
            later = seat.connection.deadline
            assert later is None or later > seat.clock.now
            seat.settle()
        assert seat.connection.closed is not None
