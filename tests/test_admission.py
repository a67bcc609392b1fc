"""Admission, alone: each way in which a line fails, by name."""

from __future__ import annotations

import pytest

from smtpstate._admission import admit, admit_response, announced, refuse_bare_cr, refuse_long
from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Expn,
    Mail,
    Noop,
    OwnCommand,
    Rcpt,
    Verb,
    Vrfy,
    XClient,
)
from smtpstate._config import OFFERS
from smtpstate._events import CommandRefused, Violation
from smtpstate._evidence import masked
from smtpstate._lines import Line, LineEnding
from smtpstate._policy import MX, STRICT, Deviation, Policy, Treatment
from smtpstate._state import Phase, Session
from smtpstate._verbs import OwnVerb
from smtpstate.extensions import tables
from tests.deviations import DEVIANTS, Deviant
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
        (b"MAIL FROM:a@b.example", READY, Violation.ARGUMENT, 501, "5.5.4", "no brackets"),
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
    ("line", "code", "violation", "reason"),
    [
        (b"etrn example.net ", None, None, "offered, and in order"),
        (b"ATRN example.net", 502, Violation.NOT_IMPLEMENTED, "known to RFC 2645 and not offered"),
        (b"XRUN", 502, Violation.NOT_IMPLEMENTED, "one's own, and not offered here"),
        (b"FROB", 500, Violation.UNKNOWN_COMMAND, "nobody named it"),
        (b"ETRNX", 500, Violation.UNKNOWN_COMMAND, "another word"),
        (b"ETRN \xff", 500, Violation.SYNTAX, "8-bit octets stand in no command"),
        (b"NOOP", None, None, "a verb of the core is what it was"),
    ],
)
def test_a_verb_of_ones_own_is_a_command_where_it_is_offered(
    line: bytes, code: int | None, violation: Violation | None, reason: str
) -> None:
    session = session_at(Phase.READY, "esmtp")
    session.announce(own=frozenset({OwnVerb("ETRN")}))
    admitted = admit(line, session, OFFERS, own={"ETRN", "XRUN"})
    if isinstance(admitted, CommandRefused):
        assert (admitted.reply.code, admitted.violation) == (code, violation), reason
    else:
        assert code is None
        assert admitted in (OwnCommand("ETRN", "example.net"), Noop()), reason
    refused = admit(b"ETRN x", MAIL, OFFERS, own={"ETRN"})
    assert isinstance(refused, CommandRefused)


@pytest.mark.parametrize(
    ("line", "octets"),
    [
        (b"BDAT 3 LAST", 3),
        (b"bdat  0", 0),
        (b"BDAT\t 4", 4),
        (b"BDAT \t5", 5),
        (b"BDAT 9223372036854775807", 2**63 - 1),
        (b"DATA", None),
        (b"", None),
    ],
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


@pytest.mark.parametrize("octets", [b"YQ==", b"*"])
def test_a_line_of_an_exchange_that_ends_with_lf_is_what_the_policy_makes_of_it(octets: bytes) -> None:
    line = Line(octets, LineEnding.LF, too_long=False)
    taken, refused = admit_response(line, MX), admit_response(line, STRICT)
    assert isinstance(taken, AuthResponse | AuthCancel)
    assert taken.deviations == {Deviation.BARE_LF}
    assert isinstance(refused, CommandRefused)
    assert (refused.violation, refused.line, refused.reply.code) == (Violation.ARGUMENT, b"***", 501)
    assert refused.deviation is Deviation.BARE_LF


@pytest.mark.parametrize(
    ("line", "violation", "reason"),
    [
        (b"NOOP", None, "none"),
        (b"NOOP\r", Violation.BARE_NEWLINE, "CR CR LF"),
        (b"\rNOOP", Violation.BARE_NEWLINE, "in front"),
        (b"NOOP\rQUIT", Violation.BARE_NEWLINE, "two lines, to some"),
        (b"MAIL FROM:<a\r@b.example>", Violation.BARE_NEWLINE, "in an address"),
        (b"BDAT 5\r", Violation.CHUNK_SIZE, "octets follow, and nobody knows how many"),
        (b"bdat\r5", Violation.CHUNK_SIZE, "octets may follow"),
    ],
)
def test_a_bare_cr_is_500_wherever_it_stands(line: bytes, violation: Violation | None, reason: str) -> None:
    refused = refuse_bare_cr(line)
    assert (None if refused is None else refused.violation) is violation, reason
    if refused is not None:
        assert (refused.line, refused.reply.code, str(refused.reply.enhanced)) == (line, 500, "5.5.2")


def test_a_bare_cr_tells_no_secret() -> None:
    refused = refuse_bare_cr(b"AUTH PLAIN c2VjcmV0\r")
    assert refused is not None
    assert refused.line == b"AUTH PLAIN ***"


UTF8_OFFERED = OFFERS | {"SMTPUTF8"}


@pytest.mark.parametrize(
    ("line", "session", "asked", "expected", "reason"),
    [
        ("MAIL FROM:<\xe9@x.example> SMTPUTF8", READY, False, None, "asked for"),
        ("MAIL FROM:<a@x.example> SMTPUTF8", READY, False, None, "asked for, whatever for"),
        ("MAIL FROM:<\xe9@x.example>", READY, True, (Violation.NON_ASCII, 550), "RFC 6531 section 3.5"),
        ("MAIL FROM:<a@\xe9.example> SIZE=1", READY, False, (Violation.NON_ASCII, 550), "a domain, too"),
        ("RCPT TO:<\xe9@x.example>", MAIL, True, None, "its MAIL asked"),
        ("RCPT TO:<\xe9@x.example>", MAIL, False, (Violation.NON_ASCII, 553), "RFC 6531 section 3.5"),
        ("RCPT TO:<a@x.example>", MAIL, False, None, "ASCII as ever"),
        ("VRFY \xe9", READY, False, Vrfy("\xe9"), "the flag is about the reply"),
        ("EXPN \xe9 SMTPUTF8", READY, False, Expn("\xe9", smtputf8=True), "RFC 6531 section 3.7.4.2"),
        ("NOOP \xe9", READY, True, (Violation.SYNTAX, 500), "not there"),
    ],
)
def test_where_smtputf8_is_offered(line: str, session: Session, asked: bool, expected: object, reason: str) -> None:
    admitted = admit(line.encode(), session, UTF8_OFFERED, tables=tables()[:2], utf8=asked)
    if isinstance(admitted, CommandRefused):
        assert (admitted.violation, admitted.reply.code) == expected, reason
    elif expected is None:
        assert isinstance(admitted, Mail | Rcpt), reason
    else:
        assert admitted == expected, reason


@pytest.mark.parametrize(
    ("line", "session", "offered", "code", "reason"),
    [
        ("MAIL FROM:<\xe9@x.example>", READY, OFFERS, 550, "RFC 6531 section 3.5"),
        ("MAIL FROM:<a@\xe9.example> SIZE=1", READY, OFFERS, 550, "a domain, too"),
        ("MAIL FROM:<\xe9@x.example>", Session(Phase.READY), UTF8_OFFERED, 550, "nothing is, after HELO"),
        ("RCPT TO:<\xe9@x.example>", MAIL, OFFERS, 553, "RFC 6531 section 3.5"),
        ("MAIL FROM:<\xe9@x.example> SMTPUTF8", READY, OFFERS, 555, "RFC 5321 section 4.1.1.11: a parameter unknown"),
        ("MAIL FROM:<\xe9@x.example> SMTPUTF8", Session(Phase.READY), UTF8_OFFERED, 555, "nothing is, after HELO"),
        ("MAIL FROM:<a@x.example> SMTPUTF8", READY, OFFERS, 555, "not offered"),
        ("MAIL FROM:<\xe9@x_.example>", READY, OFFERS, 501, "an address in no alphabet"),
        ("MAIL FROM:<\x85@x.example>", READY, OFFERS, 500, "a control"),
        ("VRFY \xe9", READY, OFFERS, 500, "no mailbox, but any text"),
        ("VRFY a SMTPUTF8", READY, OFFERS, 504, "not offered"),
        ("EXPN a SMTPUTF8", Session(Phase.READY), UTF8_OFFERED, 504, "nothing is, after HELO"),
    ],
)
def test_where_smtputf8_is_not_offered(
    line: str, session: Session, offered: frozenset[str], code: int, reason: str
) -> None:
    refused = admit(line.encode(), session, offered, tables=tables()[:2])
    assert isinstance(refused, CommandRefused), reason
    assert refused.reply.code == code, reason
    assert (refused.violation is Violation.NON_ASCII) is (str(refused.reply.enhanced) == "5.6.7"), reason


@pytest.mark.parametrize("offered", [OFFERS, UTF8_OFFERED])
@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\xe9", "Latin-1"),
        (b"\xc3", "cut off"),
        (b"\xc0\xaf", "longer than it has to be"),
        (b"\xed\xa0\x80", "a surrogate"),
        (b"\xf4\x90\x80\x80", "past the last"),
        (b"\xc2\x85", "a control"),
    ],
)
def test_what_is_no_utf_8_is_no_command(octets: bytes, reason: str, offered: frozenset[str]) -> None:
    """RFC 3629 section 4."""
    for line, session in ((b"MAIL FROM:<%b@x.example>", READY), (b"RCPT TO:<%b@x.example>", MAIL)):
        refused = admit(line % octets, session, offered)
        assert isinstance(refused, CommandRefused), reason
        assert (refused.violation, refused.reply.code) == (Violation.SYNTAX, 500), reason


def test_after_helo_there_are_no_parameters() -> None:
    refused = admit(b"MAIL FROM:<a@b.example> SIZE=1", Session(Phase.READY), OFFERS)
    assert isinstance(refused, CommandRefused)
    assert refused.violation is Violation.PARAMETER_UNKNOWN


PLACES = {Verb.RCPT: MAIL, Verb.DATA: RCPT, Verb.AUTH: AUTH}


@pytest.mark.parametrize("row", DEVIANTS, ids=lambda row: row.deviation.name)
@pytest.mark.parametrize("profile", ["mx", "strict", "accept"])
def test_what_becomes_of_a_deviation(row: Deviant, profile: str) -> None:
    policies: dict[str, tuple[Policy, Treatment]] = {
        "mx": (MX, row.mx),
        "strict": (STRICT, row.strict),
        "accept": (STRICT.but(Treatment.ACCEPT, row.deviation), Treatment.ACCEPT),
    }
    policy, treatment = policies[profile]
    line = row.wire.rstrip(b"\r\n")
    ending = CRLF if row.wire.endswith(b"\r\n") else LineEnding.LF
    session = PLACES.get(row.command.verb, READY)
    found = admit(line, session, OFFERS, ("PLAIN",), policy=policy, ending=ending)
    if treatment is Treatment.REJECT:
        assert isinstance(found, CommandRefused)
        assert (found.line, found.deviation) == (line, row.deviation)
        assert found.violation in (Violation.ARGUMENT, Violation.ADDRESS)
        assert (found.reply.code, str(found.reply.enhanced)) == (501, row.enhanced)
    else:
        assert found == row.command
        assert not isinstance(found, AuthResponse | AuthCancel | CommandRefused)
        assert found.raw == line
        assert found.deviations == ({row.deviation} if treatment is Treatment.FLAG else set())


def test_order_comes_before_deviations() -> None:
    refused = admit(b"RCPT TO: <a@b.example>", READY, OFFERS, policy=STRICT, ending=LineEnding.LF)
    assert isinstance(refused, CommandRefused)
    assert (refused.violation, refused.deviation) == (Violation.OUT_OF_SEQUENCE, None)


def test_a_size_that_is_spelled_against_the_grammar_is_not_relied_on() -> None:
    for line, ending, deviation in (
        (b"BDAT  5", CRLF, Deviation.EXTRA_SPACE),
        (b"BDAT 5", LineEnding.LF, Deviation.BARE_LF),
    ):
        refused = admit(line, RCPT, OFFERS, policy=STRICT, ending=ending)
        assert isinstance(refused, CommandRefused)
        assert (refused.violation, refused.deviation) == (Violation.CHUNK_SIZE, deviation)
        assert admit(line, RCPT, OFFERS, ending=ending) == Bdat(5)


def test_what_is_no_command_is_no_deviation() -> None:
    refused = admit(b"MAIL FROM: <a@@b>", READY, OFFERS)
    assert isinstance(refused, CommandRefused)
    assert (refused.violation, refused.deviation) == (Violation.ADDRESS, None)
