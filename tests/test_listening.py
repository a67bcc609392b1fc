"""What becomes of a line of a reply: part of one, one that is whole, or the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smtpstate._budget import Limits
from smtpstate._capabilities import NO_CAPABILITIES, Capabilities
from smtpstate._commands import Data, Ehlo, EndOfMessage, Expn, Helo, Lhlo, Mail, Noop, Rcpt, StartTls, Vrfy, XClient
from smtpstate._events import CloseReason, Connected, ConnectionClosed, Violation
from smtpstate._lines import Line, LineEnding
from smtpstate._listening import Listening
from smtpstate._policy import ALL_FLAGGED, MX, STRICT, Deviation
from smtpstate._replies import Reply

if TYPE_CHECKING:
    from smtpstate._questions import Question

CODED = Capabilities({"ENHANCEDSTATUSCODES": ()})
MAIL, MAIL_UTF8 = Mail.of("me@me.example"), Mail.of("me@me.example", parameters=(("SMTPUTF8", None),))


def crlf(data: bytes) -> Line:
    return Line(data, LineEnding.CRLF, too_long=False)


def flagged(
    listening: Listening, data: bytes, question: Question | None, offered: Capabilities = NO_CAPABILITIES
) -> frozenset[Deviation]:
    """The deviations of a reply of one line."""
    reply = listening.hear(crlf(data), question, offered)
    assert isinstance(reply, Reply)
    assert reply.raw == data + b"\r\n"
    return reply.deviations


def test_a_reply_is_whole_with_its_last_line() -> None:
    listening = Listening(Limits(), MX)
    assert not listening.mid_reply
    assert listening.hear(crlf(b"250-a"), Noop(), NO_CAPABILITIES) is None
    assert listening.mid_reply
    assert listening.hear(crlf(b"250 b"), Noop(), NO_CAPABILITIES) == Reply(250, "a", "b")
    assert not listening.mid_reply


@pytest.mark.parametrize(
    ("line", "violation"),
    [
        (crlf(b"hello"), Violation.REPLY_SYNTAX),
        (Line(b"", LineEnding.CRLF, too_long=True), Violation.REPLY_TOO_LONG),
        (crlf(b"250 " + b"x" * 100), Violation.REPLY_TOO_LONG),
    ],
)
def test_what_is_no_reply_is_the_end(line: Line, violation: Violation) -> None:
    heard = Listening(Limits(reply=100), MX).hear(line, Noop(), NO_CAPABILITIES)
    assert heard == ConnectionClosed(CloseReason.VIOLATION, violation)


@pytest.mark.parametrize(
    ("line", "violation", "deviation"),
    [
        (Line(b"250 ok", LineEnding.LF, too_long=False), Violation.REPLY_SYNTAX, Deviation.BARE_LF),
        (crlf(b"250 " + b"x" * 507), Violation.REPLY_TOO_LONG, Deviation.LONG_REPLY_LINE),
    ],
)
def test_what_the_policy_rejects_is_named(line: Line, violation: Violation, deviation: Deviation) -> None:
    heard = Listening(Limits(), STRICT).hear(line, Noop(), NO_CAPABILITIES)
    assert heard == ConnectionClosed(CloseReason.VIOLATION, violation, deviation=deviation)
    assert isinstance(Listening(Limits(), MX).hear(line, Noop(), NO_CAPABILITIES), Reply)


@pytest.mark.parametrize(
    ("question", "coded", "reason"),
    [
        (Noop(), True, "RFC 2034 section 4"),
        (MAIL, True, "RFC 2034 section 4"),
        (EndOfMessage(), True, "RFC 2034 section 4"),
        (StartTls(), True, "RFC 2034 section 4"),
        (Connected(), False, "a greeting"),
        (Ehlo("me.example"), False, "a hello"),
        (Helo("me.example"), False, "a hello"),
        (Lhlo("me.example"), False, "LMTP's hello"),
        (XClient(), False, "what answers it is a greeting"),
        (None, False, "nobody asked"),
    ],
)
def test_enhanced_codes_are_missed_where_they_have_to_be(question: Question | None, coded: bool, reason: str) -> None:
    expected = {Deviation.ENHANCED_MISSING} if coded else set[Deviation]()
    assert flagged(Listening(Limits(), ALL_FLAGGED), b"250 ok", question, CODED) == expected, reason
    assert flagged(Listening(Limits(), ALL_FLAGGED), b"250 ok", question) == frozenset(), "not announced"


@pytest.mark.parametrize(
    ("question", "utf8"),
    [
        (MAIL, False),
        (MAIL_UTF8, True),
        (Vrfy("x"), False),
        (Vrfy("x", smtputf8=True), True),
        (Expn("x"), False),
        (Expn("x", smtputf8=True), True),
        (Noop(), False),
    ],
)
def test_utf8_is_for_those_that_ask(question: Question, utf8: bool) -> None:
    """RFC 6531 section 3.7.4.2."""
    expected = set[Deviation]() if utf8 else {Deviation.EIGHT_BIT_REPLY}
    assert flagged(Listening(Limits(), ALL_FLAGGED), b"250 \xc3\xa4", question) == expected


def test_mail_asks_for_all_of_its_transaction_and_the_next_mail_for_its_own() -> None:
    listening = Listening(Limits(), ALL_FLAGGED)
    for question in (MAIL_UTF8, Rcpt.of("you@mx.example"), Data(), EndOfMessage()):
        assert flagged(listening, b"250 \xc3\xa4", question) == frozenset()
    for question in (MAIL, Rcpt.of("you@mx.example")):
        assert flagged(listening, b"250 \xc3\xa4", question) == {Deviation.EIGHT_BIT_REPLY}
