"""The server's seat: how a session ends, from every phase and for every reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smtpstate import (
    CloseReason,
    Connected,
    ConnectionClosed,
    Data,
    Flow,
    Limits,
    LocalProtocolError,
    Mail,
    Phase,
    Rcpt,
    Reply,
    ResetCause,
    ServerConfig,
    ServerConnection,
    Timer,
    TlsInfo,
    TransactionReset,
)
from smtpstate.policy import EarlyInput, WireRules
from tests.helpers import ManualClock, Seat, codes, in_body, in_transaction, ready

CONFIG = ServerConfig("mx.example.org", starttls=True, mechanisms=("PLAIN",), auth_in_clear=True)
NOTING = replace(CONFIG, wire=WireRules(early_input=EarlyInput.NOTE))  # all is fed in one piece
EHLO = b"EHLO c.example\r\n"
MAIL = EHLO + b"MAIL FROM:<>\r\n"
RCPT = MAIL + b"RCPT TO:<postmaster>\r\n"

# What leads to each phase in which input may end or the transport be lost, and whether a transaction is open there.
PHASES = [
    (Phase.GREETED, b"", False),
    (Phase.READY, EHLO, False),
    (Phase.TLS, EHLO + b"STARTTLS\r\n", False),
    (Phase.MAIL, MAIL, True),
    (Phase.RCPT, RCPT, True),
    (Phase.BODY, RCPT + b"DATA\r\n", True),
    (Phase.CHUNK, RCPT + b"BDAT 5\r\nabc", True),
    (Phase.CHUNKED, RCPT + b"BDAT 3\r\nabc", True),
    (Phase.CLOSING, b"QUIT\r\n", False),
]


def reach(phase: Phase, said: bytes) -> Seat:
    seat = Seat(CONFIG)
    seat.say(said)
    assert seat.connection.phase is phase
    return seat


@pytest.mark.parametrize(("phase", "said", "transaction"), PHASES, ids=lambda value: getattr(value, "name", ""))
def test_an_end_of_input_ends_the_session(phase: Phase, said: bytes, transaction: bool) -> None:
    seat = reach(phase, said)
    seat.connection.receive_eof()
    reason = CloseReason.QUIT if phase is Phase.CLOSING else CloseReason.EOF
    assert seat.pull() == ConnectionClosed(reason)
    assert seat.connection.half_close
    assert seat.drain() == b"", "nobody was asked anything"
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)] * transaction
    assert (seat.connection.phase, seat.connection.deadline) == (Phase.CLOSED, None)


@pytest.mark.parametrize(("phase", "said", "transaction"), PHASES, ids=lambda value: getattr(value, "name", ""))
def test_a_lost_transport_ends_the_session_at_once(phase: Phase, said: bytes, transaction: bool) -> None:
    seat = reach(phase, said)
    seat.connection.connection_lost()
    reason = CloseReason.QUIT if phase is Phase.CLOSING else CloseReason.LOST
    closed = ConnectionClosed(reason)
    assert seat.connection.closed == closed
    assert seat.connection.deadline is None
    assert seat.pull() == closed
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)] * transaction
    assert seat.connection.deadline is None
    seat.connection.connection_lost()
    seat.connection.receive_eof()
    seat.connection.receive_data(b"NOOP\r\n")
    seat.connection.handle_timeout()
    seat.connection.close()
    assert seat.drain() == b""
    assert seat.connection.next_event() is seat.connection.next_event(), "asking again gives it again"


@pytest.mark.parametrize(("phase", "said", "transaction"), PHASES, ids=lambda value: getattr(value, "name", ""))
def test_we_can_close_at_any_time(phase: Phase, said: bytes, transaction: bool) -> None:
    seat = reach(phase, said)
    seat.connection.close()
    answer = b"" if phase in (Phase.TLS, Phase.CLOSING) else b"421 4.3.2 Service shutting down\r\n"
    assert seat.settle() == answer, "nothing in clear before a handshake, nothing after the last reply"
    assert seat.connection.phase is Phase.CLOSING
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)] * transaction
    seat.connection.close()
    seat.connection.receive_eof()
    reason = CloseReason.QUIT if phase is Phase.CLOSING else CloseReason.CLOSED
    assert seat.pull() == ConnectionClosed(reason)
    assert seat.drain() == b""


def test_we_can_close_before_anything_was_pulled() -> None:
    connection = ServerConnection(NOTING, clock=ManualClock())
    connection.close()
    assert connection.data_to_send() == b"421 Service shutting down\r\n"
    assert connection.next_event() is Flow.NEED_FLUSH


def test_before_an_implicit_handshake_closing_says_nothing() -> None:
    connection = ServerConnection(NOTING, clock=ManualClock(), implicit_tls=True)
    connection.close()
    assert connection.data_to_send() == b""
    assert connection.next_event() is Flow.NEED_DATA
    assert connection.half_close


def test_only_421_and_521_close() -> None:
    seat = ready()
    for code in (220, 354, 420, 422, 500, 520, 550):
        with pytest.raises(LocalProtocolError, match="only 421 and 521"):
            seat.connection.close(Reply(code))
    assert codes(seat.say(b"NOOP\r\n")) == [250]


def test_closing_goes_step_by_step() -> None:
    seat = ready()
    connection = seat.connection
    connection.receive_data(b"QUIT\r\n")
    assert seat.pull() is Flow.NEED_FLUSH
    assert not connection.half_close, "the last reply has not left"
    assert codes(connection.data_to_send()) == [221]
    assert seat.pull() is Flow.NEED_FLUSH, "taken, but who says that it has left?"
    assert connection.data_to_send() == b""
    assert seat.pull() is Flow.NEED_DATA
    assert connection.half_close
    assert connection.deadline == seat.clock.now + 2
    connection.receive_data(b"NOOP\r\n" * 1000)
    assert seat.pull() is Flow.NEED_DATA, "dropped"
    assert seat.drain() == b""
    connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.QUIT)


def test_the_linger_lasts_two_seconds() -> None:
    seat = ready()
    seat.say(b"QUIT\r\n")
    for _ in range(19):
        seat.clock.now += 0.1
        seat.connection.receive_data(b"x")
        assert seat.pull() is Flow.NEED_DATA
    seat.clock.now += 0.1
    seat.connection.receive_data(b"x")
    assert seat.pull() == ConnectionClosed(CloseReason.QUIT)


def test_the_linger_reads_256_kib_and_no_more() -> None:
    seat = ready()
    seat.say(b"QUIT\r\n")
    for _ in range(4):
        seat.connection.receive_data(b"x" * 65_536)
        assert seat.pull() is Flow.NEED_DATA
    seat.connection.receive_data(b"x")
    assert seat.pull() == ConnectionClosed(CloseReason.QUIT)


def test_what_quit_collected_may_be_read_slowly() -> None:
    seat = ready(limits=Limits(junk=1000))
    seat.connection.receive_data(b"NOOP\r\n" * 500 + b"QUIT\r\n")
    assert seat.pull() is Flow.NEED_FLUSH
    assert seat.connection.deadline == seat.clock.now + 300
    seat.clock.now += 299
    answers = seat.settle()
    assert codes(answers) == [250] * 500 + [221]
    assert seat.connection.deadline == seat.clock.now + 2


def test_what_was_said_before_the_end_of_input_is_still_answered() -> None:
    seat = in_transaction()
    seat.connection.receive_data(b"DATA\r\nhello\r\n.\r\nNOOP\r\nNOO")
    seat.connection.receive_eof()
    assert codes(seat.settle()) == [354, 250, 250]
    assert seat.connection.closed == ConnectionClosed(CloseReason.EOF)


def test_an_end_of_input_while_a_verdict_is_owed_waits_for_it() -> None:
    seat = ready()
    connection = seat.connection
    connection.receive_data(b"MAIL FROM:<>\r\n")
    assert connection.next_event() == Mail.of("")
    connection.receive_eof()
    assert connection.owed is not None
    assert connection.accept()
    assert codes(seat.settle()) == [250]
    assert connection.closed == ConnectionClosed(CloseReason.EOF)
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)]


def test_a_port_scanner_is_greeted_and_gone() -> None:
    seat = Seat(greet=False)
    seat.connection.receive_eof()
    assert codes(seat.settle()) == [220]
    assert seat.events == [Connected(), ConnectionClosed(CloseReason.EOF)]


@pytest.mark.parametrize("kind", [Connected, Mail, Rcpt, Data])
def test_a_verdict_that_comes_after_the_loss_does_nothing(kind: type) -> None:
    connection = ServerConnection(NOTING, clock=ManualClock())
    connection.receive_data(RCPT + b"DATA\r\n")
    while type(connection.next_event()) is not kind:
        connection.accept()
    transaction = connection.transaction
    connection.connection_lost()
    assert connection.owed is None
    assert connection.accept() is False
    assert connection.reply(Reply(550)) is False
    assert connection.refuse(Reply(550)) is False
    assert connection.data_to_send() == b""
    if transaction is not None:
        assert connection.next_event() == TransactionReset(ResetCause.CLOSED)
    assert connection.next_event() == ConnectionClosed(CloseReason.LOST)
    assert connection.transaction is None


def test_output_that_nobody_can_get_is_dropped() -> None:
    seat = ready()
    seat.connection.receive_data(b"NOOP\r\n")
    seat.pull()
    seat.connection.connection_lost()
    assert seat.connection.data_to_send() == b""


def test_a_peer_that_does_not_take_the_last_reply_is_left() -> None:
    seat = in_body()
    seat.connection.close()
    assert seat.pull() is Flow.NEED_FLUSH
    assert seat.connection.deadline == seat.clock.now + 2
    seat.clock.now += 2
    seat.connection.handle_timeout()
    assert seat.connection.closed == ConnectionClosed(CloseReason.CLOSED)
    assert seat.connection.data_to_send() == b""


def test_five_ways_to_end_are_told_apart() -> None:
    endings: list[ConnectionClosed | Flow] = []
    for end in ("eof", "lost", "violation", "timeout", "closed"):
        seat = Seat(limits=Limits(errors=0))
        if end == "violation":
            seat.say(b"FROB\r\n")
        elif end == "timeout":
            seat.wait(300)
        elif end == "closed":
            seat.connection.close()
        if end == "lost":
            seat.connection.connection_lost()
        else:
            seat.connection.receive_eof()
        seat.settle()
        endings.append(seat.pull())
    reasons = [ending.reason for ending in endings if isinstance(ending, ConnectionClosed)]
    assert reasons == [
        CloseReason.EOF,
        CloseReason.LOST,
        CloseReason.VIOLATION,
        CloseReason.TIMEOUT,
        CloseReason.CLOSED,
    ]
    timeout = endings[3]
    assert isinstance(timeout, ConnectionClosed)
    assert timeout.timer is Timer.COMMAND


def test_nothing_is_left_open_after_a_failed_handshake() -> None:
    seat = reach(Phase.TLS, EHLO + b"STARTTLS\r\n")
    seat.connection.tls_failed()
    with pytest.raises(LocalProtocolError):
        seat.connection.tls_established(TlsInfo("TLSv1.3", "x"))
    assert seat.settle() == b""
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.TLS_FAILED)
