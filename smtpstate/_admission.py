"""Admission: what a line is worth where the session stands, a command or a refusal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Command,
    Expn,
    Mail,
    Rcpt,
    Verb,
    Vrfy,
)
from smtpstate._config import AUTH_LINE_TOO_LONG, LINE_TOO_LONG, UNKNOWN_MECHANISM
from smtpstate._errors import Fault, GrammarError
from smtpstate._events import FAULT_VIOLATIONS, CommandRefused, Violation
from smtpstate._evidence import masked
from smtpstate._lines import LineEnding
from smtpstate._params import MAIL_PARAMETERS, RCPT_PARAMETERS, ParameterTable, check_parameters
from smtpstate._policy import MX, Deviation, Notes, Policy
from smtpstate._syntax import fault_reply, find_verb, first_word, may_be_international, parse_command, parse_response

_ADDRESSED: Final = frozenset({Verb.MAIL, Verb.RCPT})

# Only for lines that have been parsed.
_CHUNK_SIZE: Final = re.compile(rb"BDAT[ \t]+([0-9]+)", re.IGNORECASE)

if TYPE_CHECKING:
    from collections.abc import Container

    from smtpstate._lines import Line
    from smtpstate._state import Session


def refuse_long(line: Line, dropped: bytes, limit: int) -> CommandRefused | None:
    """The refusal of a line over `limit` octets, its ending included; None for one that is not.

    A line of AUTH may be as long as its reader lets it (RFC 4954 section 4). `dropped` is what is left of one that was
    longer: where that is BDAT, octets follow, and nobody knows how many.
    """
    if not line.too_long and (len(line.data) + 2 <= limit or line.data[:5].upper() == b"AUTH "):
        return None
    verb = dropped if line.too_long else line.data[:4]
    violation = Violation.CHUNK_SIZE if verb[:4].upper() == b"BDAT" else Violation.LINE_TOO_LONG
    return CommandRefused(b"", violation, LINE_TOO_LONG)


def refuse_bare_cr(line: bytes) -> CommandRefused | None:
    """The refusal of a line with a CR in it, whatever else is wrong; None for one without. RFC 5321 section 2.3.8.

    Others end a line there, and see two where we see one: so no octet that follows BDAT can be relied on.
    """
    if b"\r" not in line:
        return None
    violation = Violation.CHUNK_SIZE if line[:4].upper() == b"BDAT" else Violation.BARE_NEWLINE
    return CommandRefused(masked(line), violation, fault_reply(None, Fault.SYNTAX))


def admit_response(line: Line, policy: Policy = MX) -> AuthResponse | AuthCancel | CommandRefused:
    """What a line inside an AUTH exchange is; why it is nothing, and the reply to say so. RFC 4954 section 4.

    `policy` says what becomes of a deviation.
    """
    if line.too_long:
        return CommandRefused(b"", Violation.LINE_TOO_LONG, AUTH_LINE_TOO_LONG)
    notes = Notes(policy)
    try:
        if line.ending is LineEnding.LF:
            notes.add(Deviation.BARE_LF)
        return parse_response(line.data, notes)
    except GrammarError as error:
        reply = fault_reply(Verb.AUTH, error.fault)
        return CommandRefused(b"***", FAULT_VIOLATIONS[error.fault], reply, notes.rejected)


def announced(refused: CommandRefused) -> int | None:
    """How many octets follow a refused line all the same: those of a BDAT (RFC 3030 section 2); None for others."""
    match = _CHUNK_SIZE.match(refused.line)
    return int(match[1]) if match else None


def admit(
    line: bytes,
    session: Session,
    offered: Container[str],
    mechanisms: Container[str] = (),
    tables: tuple[ParameterTable, ParameterTable] = (MAIL_PARAMETERS, RCPT_PARAMETERS),
    own: Container[str] = (),
    *,
    utf8: bool = False,
    policy: Policy = MX,
    ending: LineEnding = LineEnding.CRLF,
) -> Command | CommandRefused:
    """The command in `line`, which lacks its ending; or why it is none that may come now, and the reply to say so.

    Order comes before syntax: a verb out of sequence is 503 whatever follows it. `offered` are EHLO keywords and
    `mechanisms` those of AUTH; `tables` have the parameters of MAIL and of RCPT; `own` names the verbs of one's own;
    `utf8` says that the open transaction asked for SMTPUTF8. `policy` says what becomes of a deviation, `ending` how
    the line ended. Never raises. RFC 5321 sections 4.1.4 and 4.2.4.
    """
    verb: Verb | None = None
    notes = Notes(policy)
    try:
        verb = find_verb(line, own)
        if verb is Verb.BDAT:
            parse_command(verb, line, notes)  # out of order or not, its octets follow: how many has to be known
        refusal = session.check(verb, first_word(line))
        if refusal is not None:
            # A verb that is known but switched off is no disorder.
            violation = Violation.NOT_IMPLEMENTED if refusal.code == 502 else Violation.OUT_OF_SEQUENCE
            return CommandRefused(masked(line), violation, refusal)
        if ending is LineEnding.LF:
            notes.add(Deviation.BARE_LF)
        offered = offered if session.esmtp else ()
        # RFC 6531 section 3.5: a mailbox that needs SMTPUTF8 is told so, whether that is offered or not.
        command = parse_command(verb, line, notes, utf8="SMTPUTF8" in offered or verb in _ADDRESSED)
        if isinstance(command, Mail):
            check_parameters(command.parameters, tables[0], offered)
        elif isinstance(command, Rcpt):
            check_parameters(command.parameters, tables[1], offered)
        elif isinstance(command, Vrfy | Expn) and command.smtputf8 and "SMTPUTF8" not in offered:
            raise GrammarError(Fault.PARAMETER_UNKNOWN)
        elif isinstance(command, Auth) and command.mechanism not in mechanisms:
            return CommandRefused(masked(line), Violation.UNKNOWN_MECHANISM, UNKNOWN_MECHANISM)
        if not line.isascii() and not may_be_international(command, asked=utf8):
            raise GrammarError(Fault.NON_ASCII)
    except GrammarError as error:
        # Whatever is wrong with a BDAT, its size cannot be relied on.
        fault = Fault.CHUNK_SIZE if verb is Verb.BDAT else error.fault
        return CommandRefused(masked(line), FAULT_VIOLATIONS[fault], fault_reply(verb, fault), notes.rejected)
    return command
