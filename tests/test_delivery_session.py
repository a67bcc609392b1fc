"""The client procedures: opening a session, and saying goodbye."""

import pytest

from smtpstate._commands import Mail
from smtpstate._delivery import (
    ConnectionBroken,
    DeliveryError,
    SessionRefused,
    TlsMode,
    TlsUnavailable,
    open_session,
    quit_session,
)
from smtpstate._events import CloseReason, ConnectionClosed, Timer
from smtpstate._policy import STRICT
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, TLS, Script, Wire

GREETING = (b"", b"220 mx.example\r\n")
HELO = b"HELO me.example\r\n"
STARTTLS = b"STARTTLS\r\n"
PLAIN = (HELLO, b"250 mx.example\r\n")
OFFERS_TLS = (HELLO, b"250-mx.example\r\n250 STARTTLS\r\n")
GO = (STARTTLS, b"220 go\r\n")


def opened(*script: tuple[bytes, bytes], offers: bytes = b"PIPELINING", cut: int = 99, eof: bool = False) -> Wire:
    hello = (HELLO, b"250-mx.example\r\n250 " + offers + b"\r\n")
    wire = Wire([GREETING, hello, *script], cut=cut, eof=eof)
    wire.run(open_session(wire.client, TlsMode.OFF))
    return wire


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("tls", "script", "secure", "phase", "reason"),
    [
        (TlsMode.OFF, [GREETING, PLAIN], False, Phase.READY, "greeting and EHLO"),
        (TlsMode.OFF, [GREETING, OFFERS_TLS], False, Phase.READY, "an offer is no must"),
        (TlsMode.OFF, [(b"", b"220-a\r\n220 b\r\n"), PLAIN], False, Phase.READY, "a greeting of two lines"),
        (
            TlsMode.OFF,
            [GREETING, (HELLO, b"502 what\r\n"), (HELO, b"250 mx.example\r\n")],
            False,
            Phase.READY,
            "RFC 5321 section 3.2: HELO where EHLO is not known",
        ),
        (TlsMode.OPPORTUNISTIC, [GREETING, PLAIN], False, Phase.READY, "TLS is not offered"),
        (
            TlsMode.OPPORTUNISTIC,
            [GREETING, OFFERS_TLS, (STARTTLS, b"454 not now\r\n")],
            False,
            Phase.READY,
            "TLS is refused",
        ),
        (TlsMode.OPPORTUNISTIC, [GREETING, OFFERS_TLS, GO, PLAIN], True, Phase.READY, "TLS is offered and used"),
        (TlsMode.REQUIRED, [GREETING, OFFERS_TLS, GO, PLAIN], True, Phase.READY, "TLS is offered and used"),
        (
            TlsMode.REQUIRED,
            [GREETING, OFFERS_TLS, GO, (HELLO, b"502 what\r\n"), (HELO, b"250 mx.example\r\n")],
            True,
            Phase.READY,
            "HELO is enough inside TLS",
        ),
    ],
)
def test_a_session_opens(tls: TlsMode, script: Script, secure: bool, phase: Phase, reason: str, cut: int):
    wire = Wire(script, cut=cut)
    wire.run(open_session(wire.client, tls))
    assert (wire.client.tls == TLS, wire.client.phase) == (secure, phase), reason
    assert not wire.script


@pytest.mark.parametrize("tls", [TlsMode.IMPLICIT, TlsMode.REQUIRED, TlsMode.OPPORTUNISTIC])
def test_a_session_that_is_in_tls_already_asks_for_no_more(tls: TlsMode):
    wire = Wire([GREETING, OFFERS_TLS], implicit_tls=True)
    wire.run(open_session(wire.client, tls))
    assert (wire.client.phase, wire.in_clear) == (Phase.READY, [])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("tls", "script", "clear", "reason"),
    [
        (TlsMode.REQUIRED, [GREETING, PLAIN], HELLO, "not offered"),
        (
            TlsMode.REQUIRED,
            [GREETING, (HELLO, b"500 what\r\n")],
            HELLO,
            "a server that knows HELO only offers nothing, so HELO is not said",
        ),
        (TlsMode.REQUIRED, [GREETING, OFFERS_TLS, (STARTTLS, b"454 no\r\n")], HELLO + STARTTLS, "refused for now"),
        (TlsMode.REQUIRED, [GREETING, OFFERS_TLS, (STARTTLS, b"502 no\r\n")], HELLO + STARTTLS, "refused for good"),
        (TlsMode.REQUIRED, [GREETING, OFFERS_TLS, (STARTTLS, b"421 no\r\n")], HELLO + STARTTLS, "refused, and closed"),
        (TlsMode.IMPLICIT, [GREETING], b"", "the caller made a connection without it"),
    ],
)
def test_where_tls_is_required_and_not_to_be_had_nothing_goes_out_in_clear(
    tls: TlsMode, script: Script, clear: bytes, reason: str, cut: int
):
    wire = Wire(script, cut=cut)
    with pytest.raises(TlsUnavailable, match="TLS is required"):
        wire.run(open_session(wire.client, tls))
    assert wire.written == clear, reason


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("script", "reply", "reason"),
    [
        ([(b"", b"554 no\r\n")], Reply(554, "no"), "the greeting"),
        ([(b"", b"450 later\r\n")], Reply(450, "later"), "the greeting, for now"),
        ([(b"", b"421 busy\r\n")], Reply(421, "busy"), "the greeting, and closed"),
        ([GREETING, (HELLO, b"450 later\r\n")], Reply(450, "later"), "EHLO, for now: no reason to try HELO"),
        ([GREETING, (HELLO, b"421 busy\r\n")], Reply(421, "busy"), "EHLO, and closed"),
        ([GREETING, (HELLO, b"521 never\r\n")], Reply(521, "never"), "RFC 7504: EHLO, and closed"),
        ([GREETING, (HELLO, b"550 no\r\n"), (HELO, b"550 you\r\n")], Reply(550, "you"), "EHLO, and HELO too"),
    ],
)
def test_a_server_that_does_not_want_us_says_so(script: Script, reply: Reply, reason: str, cut: int):
    wire = Wire(script, cut=cut)
    with pytest.raises(SessionRefused) as caught:
        wire.run(open_session(wire.client, TlsMode.OFF))
    assert caught.value.reply == reply, reason
    assert str(reply) in str(caught.value)
    assert isinstance(caught.value, DeliveryError)


@pytest.mark.parametrize(
    ("script", "eof", "tls", "words", "reason"),
    [
        ([], True, TlsMode.OFF, ["the peer closed its side"], "no greeting"),
        ([], False, TlsMode.OFF, ["a time budget was spent", "greeting"], "no greeting in time"),
        ([(b"", b"hello\r\n")], False, TlsMode.OFF, ["REPLY_SYNTAX"], "no SMTP"),
        ([GREETING, (HELLO, b"250-half\r\n")], True, TlsMode.OFF, ["the peer closed"], "half an answer to EHLO"),
        (
            [GREETING, OFFERS_TLS, (STARTTLS, b"421 bye\r\n")],
            False,
            TlsMode.OPPORTUNISTIC,
            ["421", "bye"],
            "421 to STARTTLS",
        ),
        (
            [GREETING, OFFERS_TLS, (STARTTLS, b"220 go\r\n250 injected\r\n")],
            False,
            TlsMode.REQUIRED,
            ["EARLY_PLAINTEXT"],
            "octets behind the 220",
        ),
        ([GREETING, OFFERS_TLS, GO], True, TlsMode.REQUIRED, ["the peer closed"], "gone after the handshake"),
    ],
)
def test_a_connection_that_breaks_while_it_opens_says_how(
    script: Script, eof: bool, tls: TlsMode, words: list[str], reason: str
):
    wire = Wire(script, eof=eof)
    with pytest.raises(ConnectionBroken) as caught:
        wire.run(open_session(wire.client, tls))
    assert all(word in str(caught.value) for word in words), reason
    assert caught.value.closed == wire.client.closed


def test_a_reply_that_the_policy_rejects_breaks_the_connection_and_says_why():
    wire = Wire([(b"", b"220 mx.example\n")], policy=STRICT)
    with pytest.raises(ConnectionBroken, match="REPLY_SYNTAX, BARE_LF"):
        wire.run(open_session(wire.client, TlsMode.OFF))


def test_a_handshake_that_fails_breaks_the_connection():
    wire = Wire([GREETING, OFFERS_TLS, GO], handshakes=False)
    with pytest.raises(ConnectionBroken, match="TLS handshake failed"):
        wire.run(open_session(wire.client, TlsMode.OPPORTUNISTIC))
    assert wire.written == HELLO + STARTTLS, "whether to try again without TLS is for the caller to say"


@pytest.mark.parametrize(
    ("answer", "how", "reason"),
    [
        (b"221 bye\r\n", CloseReason.QUIT, "as it should be"),
        (b"250 bye\r\n", CloseReason.QUIT, "the first digit decides"),
        (b"500 what\r\n", CloseReason.CLOSED, "refused: then we go without"),
        (b"421 bye\r\n", CloseReason.GOING_AWAY, "gone before"),
        (b"what\r\n", CloseReason.VIOLATION, "no reply"),
        (b"", CloseReason.EOF, "no answer at all"),
    ],
)
def test_goodbye_always_ends_and_never_raises(answer: bytes, how: CloseReason, reason: str):
    wire = opened((b"QUIT\r\n", answer), eof=True)
    wire.run(quit_session(wire.client))
    assert wire.client.closed is not None
    assert wire.client.closed.reason is how, reason


def test_goodbye_to_a_server_that_is_silent_ends_in_time():
    wire = opened((b"QUIT\r\n", b""))
    wire.run(quit_session(wire.client))
    assert wire.client.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)


def test_goodbye_where_quit_could_be_misunderstood_is_silent():
    wire = opened()
    written = wire.written
    wire.client.send(Mail.of("me@me.example"))
    wire.run(quit_session(wire.client))
    assert wire.client.closed == ConnectionClosed(CloseReason.CLOSED)
    assert wire.written == written


def test_goodbye_in_the_middle_of_a_handshake_is_silent():
    wire = Wire([GREETING, OFFERS_TLS, GO])
    procedure = open_session(wire.client, TlsMode.REQUIRED)
    next(procedure)
    while wire.client.phase is not Phase.TLS:
        procedure.send(wire.pull())
    wire.run(quit_session(wire.client))
    assert wire.client.closed == ConnectionClosed(CloseReason.CLOSED)
    assert not wire.written.endswith(b"QUIT\r\n")


def test_goodbye_after_a_refusing_greeting_is_said():
    wire = Wire([(b"", b"554 no\r\n"), (b"QUIT\r\n", b"221 bye\r\n")])
    with pytest.raises(SessionRefused):
        wire.run(open_session(wire.client, TlsMode.OFF))
    wire.run(quit_session(wire.client))
    assert wire.client.closed == ConnectionClosed(CloseReason.QUIT)
