"""ServerConnection: verbs of one's own, where they may come and what can be said to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smtpstate import (
    CommandRefused,
    Limits,
    LocalProtocolError,
    Mail,
    Reply,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TlsInfo,
    TraceLine,
    Violation,
)
from smtpstate.extensions import Extension, OwnCommand, OwnVerb
from tests.helpers import Seat, codes, ready, silent

ETRN = Extension("ETRN", verb=OwnVerb("ETRN"))
CONFIG = ServerConfig("mx.example.org", starttls=True, mechanisms=("PLAIN",), auth_in_clear=True, extensions=(ETRN,))
EHLO = b"EHLO c.example\r\n"


def config(verb: OwnVerb, *, tls_only: bool = False) -> ServerConfig:
    extension = Extension("X-RUN", verb=verb, tls_only=tls_only)
    return ServerConfig(
        "mx.example.org", starttls=True, mechanisms=("PLAIN",), auth_in_clear=True, extensions=(extension,)
    )


def answering(code: int, limits: Limits | None = None) -> Seat:
    """A seat after EHLO, whose application answers its own verb with this code, and accepts the rest."""

    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, OwnCommand):
            connection.reply(Reply(code, "so"))
        elif connection.owed is event:
            connection.accept()

    return ready(replace(CONFIG, limits=limits or Limits()), handler=handler)


@pytest.mark.parametrize("code", [250, 251, 253, 259, 450, 459, 550, 559])
def test_the_application_answers_it(code: int) -> None:
    seat = answering(code)
    phase = seat.connection.phase
    assert codes(seat.say(b"etrn  example.net \r\n")) == [code]
    assert seat.events[-1] == OwnCommand("ETRN", "example.net")
    assert seat.connection.phase is phase
    assert codes(seat.say(b"MAIL FROM:<>\r\n")) == [250]


@pytest.mark.parametrize("code", [421, 521])
def test_closing_may_answer_it(code: int) -> None:
    seat = answering(code)
    assert codes(seat.say(b"ETRN x\r\nNOOP\r\n")) == [code]


def test_silence_is_no_yes() -> None:
    seat = ready(CONFIG, handler=silent)
    assert seat.say(b"ETRN x\r\n") == b"451 4.3.0 Local error in processing\r\n"


def test_a_handler_that_takes_too_long_is_no_yes() -> None:
    seat = ready(CONFIG)
    seat.connection.receive_data(b"ETRN x\r\n")
    assert isinstance(seat.connection.next_event(), OwnCommand)
    seat.clock.now += Limits().handler_seconds
    seat.connection.handle_timeout()
    assert seat.drain() == b"451 4.3.0 Local error in processing\r\n"
    assert seat.connection.reply(Reply(250)) is False


def test_a_yes_needs_words_and_a_3yz_is_none() -> None:
    seat = ready(CONFIG)
    seat.connection.receive_data(b"ETRN x\r\n")
    assert seat.connection.next_event() == seat.connection.owed == OwnCommand("ETRN", "x")
    with pytest.raises(LocalProtocolError, match="so many words"):
        seat.connection.accept()
    for code in (150, 334, 354, 600):
        with pytest.raises(LocalProtocolError, match="cannot answer"):
            seat.connection.reply(Reply(code))
    assert seat.drain() == b""
    assert seat.connection.reply(Reply(250))


@pytest.mark.parametrize(
    ("said", "answers", "reason"),
    [
        (b"ETRN x\r\n", [503], "no hello yet"),
        (b"HELO c.example\r\nETRN x\r\n", [250, 503], "HELO has no extensions"),
        (EHLO + b"MAIL FROM:<>\r\nETRN x\r\n", [250, 250, 503], "RFC 1985: not inside a transaction"),
        (EHLO + b"MAIL FROM:<>\r\nRSET\r\nETRN x\r\n", [250, 250, 250, 451], "which RSET ends"),
        (EHLO + b"ETRN \xff\r\n", [250, 500], "8-bit octets"),
        (EHLO + b"ATRN\r\nXRUN\r\n", [250, 502, 500], "what nobody named"),
        (EHLO + b"NOOP\r\nEXPN x\r\n", [250, 250, 502], "the core's are what they were"),
    ],
)
def test_where_it_may_come(said: bytes, answers: list[int], reason: str) -> None:
    seat = Seat(CONFIG, handler=silent)
    found = [code for line in said.splitlines(keepends=True) for code in codes(seat.say(line))[:1]]
    assert found == answers, reason


def test_it_may_come_inside_a_transaction_that_allows_it() -> None:
    seat = Seat(config(OwnVerb("XRUN", in_transaction=True)), handler=silent)
    seat.say(EHLO + b"MAIL FROM:<>\r\n")
    assert codes(seat.say(b"XRUN\r\nRCPT TO:<postmaster>\r\nXRUN\r\n")) == [451, 550, 451]
    assert isinstance(seat.connection.transaction and seat.connection.transaction.mail, Mail)


def secured(seat: Seat) -> None:
    seat.say(b"STARTTLS\r\n")
    seat.connection.tls_established(TlsInfo("TLSv1.3", "x"))
    seat.say(EHLO)


def test_one_that_needs_tls_is_refused_until_there_is_some() -> None:
    seat = Seat(config(OwnVerb("XRUN", needs_tls=True)), handler=silent)
    assert b"X-RUN" in seat.say(EHLO)
    assert seat.say(b"XRUN\r\n").startswith(b"530 5.7.0 ")
    secured(seat)
    assert codes(seat.say(b"XRUN\r\n")) == [451]


def test_one_that_is_for_tls_only_is_unknown_in_clear() -> None:
    seat = Seat(config(OwnVerb("XRUN"), tls_only=True), handler=silent)
    assert b"X-RUN" not in seat.say(EHLO)
    assert seat.say(b"XRUN\r\n").startswith(b"502 5.5.1 ")
    assert seat.of_type(CommandRefused)[-1].violation is Violation.NOT_IMPLEMENTED  # type: ignore[union-attr]
    secured(seat)
    assert codes(seat.say(b"XRUN\r\n")) == [451]


def test_one_that_needs_authentication_is_refused_until_it_is_known_who_asks() -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if connection.owed is event and hasattr(event, "mechanism"):
            connection.authenticated("me")

    seat = Seat(config(OwnVerb("XRUN", needs_auth=True)), handler=handler)
    seat.say(EHLO)
    assert seat.say(b"XRUN\r\n").startswith(b"530 5.7.0 ")
    assert codes(seat.say(b"AUTH PLAIN AGEAYg==\r\nXRUN\r\n")) == [235, 451]


def test_it_is_junk_and_shown() -> None:
    seat = answering(250, Limits(junk=3, errors=0))
    assert codes(seat.say(b"ETRN a\r\nETRN b\r\nETRN c\r\n")) == [250, 250, 421]
    assert TraceLine("C", b"ETRN a") in seat.traced
