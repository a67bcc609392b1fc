"""Admission, alone: each way in which a line fails, by name."""

from __future__ import annotations

import pytest

from smtpstate._admission import admit, admit_response, announced, masked, refuse_long
from smtpstate._commands import Auth, AuthCancel, AuthResponse, Bdat, Mail, Noop, Rcpt, XClient
from smtpstate._config import OFFERS
from smtpstate._events import CommandRefused, Violation
from smtpstate._lines import Line, LineEnding
from smtpstate._state import Phase, Session
from tests.helpers import session_at

READY = session_at(Phase.READY, "esmtp")
MAIL = session_at(Phase.MAIL, "esmtp")
RCPT = session_at(Phase.RCPT, "esmtp", "offers_chunking")
TRUSTED = session_at(Phase.GREETED, "offers_xclient")
AUTH = session_at(Phase.READY, "esmtp", "offers_auth")


@pytest.mark.parametrize(
    ("line", "session", "violation", "code", "enhanced", "reason"),
    [
        (b"", READY, Violation.UNKNOWN_COMMAND, 500, "5.5.2", "no verb"),
        (b"FROB x", READY, Violation.UNKNOWN_COMMAND, 500, "5.5.2", "RFC 5321 section 4.2.4"),
        (b"ETRN X", READY, Violation.NOT_IMPLEMENTED, 502, "5.5.1", "known, and nobody enables it"),
        (b"XCLIENT X", READY, Violation.NOT_IMPLEMENTED, 502, "5.5.1", "known, and nobody else is told more"),
        (b"XCLIENT X", TRUSTED, Violation.PARAMETER_SYNTAX, 501, "5.5.4", "no attribute"),
        (b"XCLIENT COLOUR=red", TRUSTED, Violation.PARAMETER_UNKNOWN, 501, "5.5.4", "555 is for MAIL and RCPT"),
        (b"AUTH PLAIN", READY, Violation.NOT_IMPLEMENTED, 502, "5.5.1", "known, and not offered"),
        (b"AUTH NTLM", AUTH, Violation.UNKNOWN_MECHANISM, 504, "5.5.4", "offered, but not this one"),
        (b"AUTH", AUTH, Violation.ARGUMENT, 501, "5.5.4", "no mechanism"),
        (b"BDAT 3 LAST", READY, Violation.OUT_OF_SEQUENCE, 503, "5.5.1", "no transaction"),
        (b"BDAT x", RCPT, Violation.CHUNK_SIZE, 501, "5.5.4", "RFC 3030 section 2"),
        (b"BDAT x", READY, Violation.CHUNK_SIZE, 501, "5.5.4", "how many octets follow comes before order"),
        (b"BDAT 5 \xff", RCPT, Violation.CHUNK_SIZE, 501, "5.5.4", "whatever is wrong with it"),
        (b"STARTTLS", READY, Violation.NOT_IMPLEMENTED, 502, "5.5.1", "known, and not offered"),
        (b"DATA", READY, Violation.OUT_OF_SEQUENCE, 503, "5.5.1", "no transaction"),
        (b"DATA", MAIL, Violation.OUT_OF_SEQUENCE, 554, "5.5.1", "no recipient"),
        (b"RCPT garbage", READY, Violation.OUT_OF_SEQUENCE, 503, "5.5.1", "order comes before syntax"),
        (b"NOOP \xff", READY, Violation.SYNTAX, 500, "5.5.2", "8-bit octets stand in no command"),
        (b"MAIL <a@b.example>", READY, Violation.ARGUMENT, 501, "5.5.4", "no FROM:"),
        (b"MAIL FROM:<a@@b>", READY, Violation.ADDRESS, 501, "5.1.7", "RFC 3463 has a code for senders"),
        (b"RCPT TO:<a@@b>", MAIL, Violation.ADDRESS, 501, "5.1.3", "and one for recipients"),
        (b"EHLO", READY, Violation.ADDRESS, 501, "5.5.4", "which a hello is neither of"),
        (b"MAIL FROM:<a@b.example> =", READY, Violation.PARAMETER_SYNTAX, 501, "5.5.4", "no keyword"),
        (b"MAIL FROM:<a@b.example> SIZE=x", READY, Violation.PARAMETER_VALUE, 501, "5.5.4", "no number"),
        (b"MAIL FROM:<a@b.example> RET=FULL", READY, Violation.PARAMETER_UNKNOWN, 555, "5.5.4", "DSN is not offered"),
        (b"RCPT TO:<a@b.example> SIZE=1", MAIL, Violation.PARAMETER_UNKNOWN, 555, "5.5.4", "belongs to MAIL"),
    ],
)
def test_what_a_bad_line_has_earned(
    line: bytes, session: Session, violation: Violation, code: int, enhanced: str, reason: str
) -> None:
    refused = admit(line, session, OFFERS, ("PLAIN",))
    assert isinstance(refused, CommandRefused), reason
    assert (refused.line, refused.violation) == (line, violation), reason
    assert (refused.reply.code, str(refused.reply.enhanced)) == (code, enhanced), reason


def test_what_is_in_order_is_a_command() -> None:
    assert admit(b"noop x", READY, OFFERS) == Noop("x")
    assert admit(b"mail from:<a@b.example> size=1", READY, OFFERS) == Mail.of("a@b.example", size=1)
    assert admit(b"rcpt to:<a@b.example>", MAIL, OFFERS) == Rcpt.of("a@b.example")
    assert admit(b"bdat 3 last", RCPT, OFFERS) == Bdat(3, last=True)
    assert admit(b"xclient port=1", TRUSTED, OFFERS) == XClient(port=1)
    assert admit(b"auth plain", AUTH, OFFERS, ("PLAIN",)) == Auth("PLAIN")


@pytest.mark.parametrize(
    ("line", "octets"),
    [(b"BDAT 3 LAST", 3), (b"bdat  0", 0), (b"BDAT 9223372036854775807", 2**63 - 1), (b"DATA", None), (b"", None)],
)
def test_only_a_refused_bdat_has_octets_that_follow(line: bytes, octets: int | None) -> None:
    refused = admit(line, READY, OFFERS)
    assert isinstance(refused, CommandRefused)
    assert announced(refused) == octets


@pytest.mark.parametrize(
    ("line", "shown", "reason"),
    [
        (b"NOOP x y", b"NOOP x y", "no secret in it"),
        (b"AUTH", b"AUTH", "nothing there"),
        (b"AUTHOR x y", b"AUTHOR x y", "another verb"),
        (b"AUTH PLAIN", b"AUTH PLAIN", "a mechanism is none"),
        (b"auth  plain ", b"auth  plain ", "in any spelling"),
        (b"AUTH PLAIN x", b"AUTH PLAIN ***", "what follows it is"),
        (b"auth  plain\t x y", b"auth  plain\t ***", "in any spelling"),
        (b"\tAUTH\tPLAIN\tx", b"\tAUTH\tPLAIN\t***", "in a line that is no command, too"),
        (b"AUTH PLAIN \n", b"AUTH PLAIN ***", "any octets"),
        (b"AUTH X.Y", b"AUTH ***", "what is no mechanism's name may be one"),
        (b"AUTH " + b"x" * 21, b"AUTH ***", "what is no mechanism's name may be one"),
    ],
)
def test_what_of_a_line_is_shown(line: bytes, shown: bytes, reason: str) -> None:
    assert masked(line) == shown, reason


CRLF = LineEnding.CRLF


@pytest.mark.parametrize(
    ("line", "dropped", "violation", "reason"),
    [
        (Line(b"NOOP x", CRLF, False), b"BDAT", None, "as long as allowed, whatever was dropped before"),
        (Line(b"NOOP xx", CRLF, False), b"", Violation.LINE_TOO_LONG, "an octet too long"),
        (Line(b"AUTH xx", CRLF, False), b"", None, "which AUTH may be"),
        (Line(b"BDAT 5 ", CRLF, False), b"NOOP", Violation.CHUNK_SIZE, "octets follow"),
        (Line(b"", CRLF, True), b"AUTH", Violation.LINE_TOO_LONG, "longer than anything"),
        (Line(b"", CRLF, True), b"bdat", Violation.CHUNK_SIZE, "octets follow, and nobody knows how many"),
    ],
)
def test_lines_that_are_too_long(line: Line, dropped: bytes, violation: Violation | None, reason: str) -> None:
    refused = refuse_long(line, dropped, 8)
    assert (None if refused is None else refused.violation) is violation, reason
    if refused is not None:
        assert (refused.line, refused.reply.code) == (b"", 500)


@pytest.mark.parametrize(
    ("line", "response", "reason"),
    [
        (Line(b"YQ==", CRLF, False), AuthResponse(b"a"), "an answer"),
        (Line(b"*", CRLF, False), AuthCancel(), "no more of it"),
        (Line(b"YQ", CRLF, False), Violation.BASE64, "no padding"),
        (Line(b"", CRLF, True), Violation.LINE_TOO_LONG, "RFC 4954 section 4"),
    ],
)
def test_what_a_line_of_an_exchange_is(line: Line, response: object, reason: str) -> None:
    found = admit_response(line)
    assert (found.violation if isinstance(found, CommandRefused) else found) == response, reason


def test_after_helo_there_are_no_parameters() -> None:
    refused = admit(b"MAIL FROM:<a@b.example> SIZE=1", Session(Phase.READY), OFFERS)
    assert isinstance(refused, CommandRefused)
    assert refused.violation is Violation.PARAMETER_UNKNOWN
