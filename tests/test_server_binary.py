"""The server's seat: BINARYMIME (RFC 3030 section 3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smtpstate import Body, EndOfMessage, ServerConfig
from smtpstate._config import OFFERS
from smtpstate._newlines import Anomaly
from smtpstate.policy import BareNewline, WireRules
from tests.helpers import Seat, codes, ready

CONFIG = ServerConfig("mx.example.org", offers=OFFERS | {"BINARYMIME"})
MAIL = b"MAIL FROM:<me@example.com> BODY=BINARYMIME\r\n"
RCPT = b"RCPT TO:<you@example.org>\r\n"
CONTENT = bytes(range(256)) + b"\r\n.\r\n\n\r\0 no line at its end"


def binary() -> Seat:
    seat = ready(CONFIG)
    assert codes(seat.say(MAIL + RCPT)) == [250, 250]
    return seat


def test_it_is_off_unless_asked_for() -> None:
    assert b"BINARYMIME" not in Seat().say(b"EHLO c.example\r\n")
    assert b"250-BINARYMIME\r\n" in Seat(CONFIG).say(b"EHLO c.example\r\n")
    assert codes(ready().say(MAIL)) == [501]


@pytest.mark.parametrize("body", [b" BODY=BINARYMIME", b""])
@pytest.mark.parametrize("cut", [1, 2, 3, 1000])
def test_content_comes_through_as_it_was_sent(body: bytes, cut: int) -> None:
    seat = ready(replace(CONFIG, wire=WireRules(BareNewline.NOTE)))
    seat.say(MAIL.replace(b" BODY=BINARYMIME", body) + RCPT)
    chunks = [CONTENT[:10], CONTENT[10:200], CONTENT[200:], b""]
    wire = b"".join(b"BDAT %d%b\r\n%b" % (len(chunk), b"" if chunk else b" LAST", chunk) for chunk in chunks)
    answers = b"".join(seat.say(wire[start : start + cut]) for start in range(0, len(wire), cut))
    assert codes(answers) == [250] * 4
    assert b"".join(event.data for event in seat.events if isinstance(event, Body)) == CONTENT
    (end,) = [event for event in seat.events if isinstance(event, EndOfMessage)]
    assert end.size == len(CONTENT)
    assert end.anomalies == (frozenset() if body else frozenset(Anomaly)), "lines are not promised, so none is odd"


@pytest.mark.parametrize("what", BareNewline)
def test_nothing_that_is_binary_is_touched_or_refused(what: BareNewline) -> None:
    seat = ready(replace(CONFIG, wire=WireRules(what)))
    seat.say(MAIL + RCPT)
    assert codes(seat.say(b"BDAT %d LAST\r\n%b" % (len(CONTENT), CONTENT))) == [250]
    assert [event.data for event in seat.events if isinstance(event, Body)] == [CONTENT]


def test_data_does_not_go_with_it_and_the_transaction_goes_on() -> None:
    seat = binary()
    assert seat.say(b"DATA\r\n") == b"503 5.5.1 BODY=BINARYMIME goes with BDAT only\r\n"
    assert codes(seat.say(b"BDAT 1 LAST\r\n\0")) == [250]


@pytest.mark.parametrize("between", [b"RSET\r\n", b"EHLO c.example\r\n", b"BDAT 0 LAST\r\n"])
def test_the_next_transaction_says_for_itself(between: bytes) -> None:
    seat = binary()
    seat.say(between)
    assert codes(seat.say(b"MAIL FROM:<>\r\n" + RCPT + b"DATA\r\n.\r\n")) == [250, 250, 354, 250]
