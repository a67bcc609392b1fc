"""Admission: what a line is worth where the session stands, a command or a refusal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from smtpstate._commands import Auth, Command, Mail, Rcpt, Verb, fault_reply, find_verb, parse_command
from smtpstate._config import UNKNOWN_MECHANISM
from smtpstate._errors import GrammarError
from smtpstate._events import FAULT_VIOLATIONS, CommandRefused, Violation
from smtpstate._params import MAIL_PARAMETERS, RCPT_PARAMETERS, check_parameters

# Only for lines that have been parsed.
_CHUNK_SIZE: Final = re.compile(rb"BDAT +([0-9]+)", re.IGNORECASE)

if TYPE_CHECKING:
    from collections.abc import Container

    from smtpstate._state import Session


def is_auth(line: bytes) -> bool:
    """Whether `line` may be as long as AUTH's (RFC 4954 section 4)."""
    return line[:5].upper() == b"AUTH "


def masked(line: bytes) -> bytes:
    """`line` as it may be shown: what follows the mechanism of an AUTH is a secret."""
    words = line.split(b" ", 2)
    return b" ".join((*words[:2], b"***")) if len(words) == 3 and is_auth(line) else line


def announced(refused: CommandRefused) -> int | None:
    """How many octets follow a refused line all the same: those of a BDAT (RFC 3030 section 2); None for others."""
    match = _CHUNK_SIZE.match(refused.line)
    return int(match[1]) if match else None


def admit(
    line: bytes, session: Session, offered: Container[str], mechanisms: Container[str] = ()
) -> Command | CommandRefused:
    """The command in `line`, which lacks its ending; or why it is none that may come now, and the reply to say so.

    Order comes before syntax: a verb out of sequence is 503 whatever follows it. `offered` are EHLO keywords and
    `mechanisms` those of AUTH. Never raises. RFC 5321 sections 4.1.4 and 4.2.4.
    """
    verb: Verb | None = None
    try:
        verb = find_verb(line)
        if verb is Verb.BDAT:
            parse_command(verb, line)  # out of order or not, its octets follow: how many has to be known
        refusal = session.check(verb)
        if refusal is not None:
            # A verb that is known but switched off is no disorder.
            violation = Violation.NOT_IMPLEMENTED if refusal.code == 502 else Violation.OUT_OF_SEQUENCE
            return CommandRefused(masked(line), violation, refusal)
        command = parse_command(verb, line)
        if isinstance(command, Mail):
            check_parameters(command.parameters, MAIL_PARAMETERS, offered if session.esmtp else ())
        elif isinstance(command, Rcpt):
            check_parameters(command.parameters, RCPT_PARAMETERS, offered if session.esmtp else ())
        elif isinstance(command, Auth) and command.mechanism not in mechanisms:
            return CommandRefused(masked(line), Violation.UNKNOWN_MECHANISM, UNKNOWN_MECHANISM)
    except GrammarError as error:
        return CommandRefused(masked(line), FAULT_VIOLATIONS[error.fault], fault_reply(verb, error.fault))
    return command
