"""Admission, alone: each way in which a line fails, by name."""

from __future__ import annotations

import pytest

from smtpstate._admission import admit
from smtpstate._commands import Mail, Noop, Rcpt
from smtpstate._config import OFFERS
from smtpstate._events import CommandRefused, Violation
from smtpstate._state import Phase, Session

READY = Session(Phase.READY, esmtp=True)
MAIL = Session(Phase.MAIL, esmtp=True)


@pytest.mark.parametrize(
    ("line", "session", "violation", "code", "enhanced", "reason"),
    [
        (b"", READY, Violation.UNKNOWN_COMMAND, 500, "5.5.2", "no verb"),
        (b"FROB x", READY, Violation.UNKNOWN_COMMAND, 500, "5.5.2", "RFC 5321 section 4.2.4"),
        (b"BDAT 3 LAST", READY, Violation.NOT_IMPLEMENTED, 502, "5.5.1", "known, and nobody enables it"),
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
    refused = admit(line, session, OFFERS)
    assert isinstance(refused, CommandRefused), reason
    assert (refused.line, refused.violation) == (line, violation), reason
    assert (refused.reply.code, str(refused.reply.enhanced)) == (code, enhanced), reason


def test_what_is_in_order_is_a_command() -> None:
    assert admit(b"noop x", READY, OFFERS) == Noop("x")
    assert admit(b"mail from:<a@b.example> size=1", READY, OFFERS) == Mail.of("a@b.example", size=1)
    assert admit(b"rcpt to:<a@b.example>", MAIL, OFFERS) == Rcpt.of("a@b.example")


def test_after_helo_there_are_no_parameters() -> None:
    refused = admit(b"MAIL FROM:<a@b.example> SIZE=1", Session(Phase.READY), OFFERS)
    assert isinstance(refused, CommandRefused)
    assert refused.violation is Violation.PARAMETER_UNKNOWN
