"""The server's seat: STARTTLS and implicit TLS, as somebody sees them who brings their own TLS."""

from __future__ import annotations

import pytest

from smtpstate import (
    CloseReason,
    CommandRefused,
    Connected,
    ConnectionClosed,
    Ehlo,
    Flow,
    LocalProtocolError,
    Phase,
    ServerConfig,
    StartTls,
    TlsInfo,
    Violation,
)
from tests.helpers import Seat, codes, ready

CONFIG = ServerConfig("mx.example.org", starttls=True)
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")


def at_handshake() -> Seat:
    seat = ready(CONFIG)
    assert seat.say(b"STARTTLS\r\n") == b"220 2.0.0 Begin TLS\r\n"
    assert seat.flow is Flow.NEED_TLS
    return seat


def test_starttls_is_offered_and_answered() -> None:
    seat = Seat(CONFIG)
    assert b"250 STARTTLS\r\n" in seat.say(b"EHLO c.example\r\n")
    seat.say(b"STARTTLS\r\n")
    assert seat.events[-1] == StartTls()
    assert seat.connection.phase is Phase.TLS
    assert seat.connection.tls is None


def test_after_the_handshake_nothing_learnt_in_clear_is_left() -> None:
    """RFC 3207 section 4.2."""
    seat = at_handshake()
    seat.connection.tls_established(TLS)
    assert seat.settle() == b"", "no second greeting"
    assert (seat.connection.phase, seat.connection.tls, seat.connection.hello) == (Phase.GREETED, TLS, None)
    assert codes(seat.say(b"MAIL FROM:<>\r\n")) == [503], "a new EHLO comes first"
    assert b"STARTTLS" not in seat.say(b"EHLO d.example\r\n")
    assert seat.connection.hello == Ehlo("d.example")
    assert seat.say(b"STARTTLS\r\n") == b"503 5.5.1 TLS is active already\r\n"
    assert codes(seat.say(b"MAIL FROM:<>\r\nQUIT\r\n")) == [250, 221]


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (b"NOOP\r\n", "a command"),
        (b"EHLO", "half of one"),
        (b"\r\n", "an empty line"),
        (b"\0", "anything"),
        (b"\x16\x03\x01", "even the start of a handshake: nobody can send one before the 220"),
    ],
)
def test_octets_that_come_with_starttls_close_the_session(after: bytes, reason: str) -> None:
    seat = ready(CONFIG)
    answer = seat.say(b"STARTTLS\r\n" + after)
    assert codes(answer) == [554], reason
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)
    assert seat.of_type(StartTls) == []


@pytest.mark.parametrize("taken", [False, True])
def test_octets_that_come_before_the_handshake_close_the_session_without_a_word(taken: bool) -> None:
    seat = ready(CONFIG)
    seat.connection.receive_data(b"STARTTLS\r\n")
    assert seat.pull() is Flow.NEED_TLS
    if taken:
        assert codes(seat.drain()) == [220]
    seat.connection.receive_data(b"N")
    seat.pull()
    assert codes(seat.drain()) == ([] if taken else [220]), "nothing but what was said before"
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)


@pytest.mark.parametrize(
    ("said", "answer", "reason"),
    [
        (b"EHLO c.example\r\nSTARTTLS now\r\n", 501, "RFC 3207 section 4"),
        (b"HELO c.example\r\nSTARTTLS\r\n", 503, "an extension needs an EHLO"),
        (b"EHLO c.example\r\nHELO c.example\r\nSTARTTLS\r\n", 503, "the last hello counts"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\nSTARTTLS\r\n", 503, "not inside a transaction"),
        (b"STARTTLS\r\n", 503, "not before EHLO"),
    ],
)
def test_starttls_at_the_wrong_time(said: bytes, answer: int, reason: str) -> None:
    seat = Seat(CONFIG)
    assert codes(seat.say(said))[-1] == answer, reason
    assert isinstance(seat.events[-1], CommandRefused)
    assert seat.flow is Flow.NEED_DATA


def test_implicit_tls_comes_before_the_greeting() -> None:
    seat = Seat(CONFIG, implicit_tls=True)
    assert (seat.flow, seat.events, seat.connection.phase) == (Flow.NEED_TLS, [], Phase.CONNECT)
    seat.connection.tls_established(TLS)
    assert codes(seat.settle()) == [220]
    assert seat.events == [Connected()]
    assert seat.connection.tls is TLS
    assert b"STARTTLS" not in seat.say(b"EHLO c.example\r\n"), "RFC 8314: nothing to start"
    assert codes(seat.say(b"STARTTLS\r\n")) == [503]


def test_plaintext_where_implicit_tls_is_due_closes() -> None:
    seat = Seat(CONFIG, implicit_tls=True)
    assert seat.say(b"EHLO c.example\r\n") == b""
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_failed_handshake_closes_without_a_word(implicit: bool) -> None:
    seat = Seat(CONFIG, implicit_tls=True) if implicit else at_handshake()
    seat.connection.tls_failed()
    assert seat.settle() == b""
    assert seat.connection.half_close
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.TLS_FAILED)


def test_where_no_handshake_is_due_none_can_end() -> None:
    seat = ready(CONFIG)
    for ended in (seat.connection.tls_failed, lambda: seat.connection.tls_established(TLS)):
        with pytest.raises(LocalProtocolError, match="no TLS handshake is due in phase READY"):
            ended()
    assert codes(seat.say(b"NOOP\r\n")) == [250]


def test_where_tls_is_not_available_now_the_session_goes_on_in_clear() -> None:
    """RFC 3207 section 4: 454, and the client decides."""
    seat = ready(CONFIG)
    assert seat.connection.tls_available
    seat.connection.tls_available = False
    assert seat.say(b"STARTTLS\r\n") == b"454 4.7.0 TLS is not available now\r\n"
    assert not seat.connection.tls_available
    assert seat.connection.phase is Phase.READY
    seat.connection.tls_available = True
    assert codes(seat.say(b"STARTTLS\r\n")) == [220]
