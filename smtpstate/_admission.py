"""Admission: what a line is worth where the session stands, a command or a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtpstate._commands import Command, Mail, Rcpt, Verb, fault_reply, find_verb, parse_command
from smtpstate._errors import GrammarError
from smtpstate._events import FAULT_VIOLATIONS, CommandRefused, Violation
from smtpstate._params import MAIL_PARAMETERS, RCPT_PARAMETERS, check_parameters

if TYPE_CHECKING:
    from collections.abc import Container

    from smtpstate._state import Session


def admit(line: bytes, session: Session, offered: Container[str]) -> Command | CommandRefused:
    """The command in `line`, which lacks its ending; or why it is none that may come now, and the reply to say so.

    Order comes before syntax: a verb out of sequence is 503 whatever follows it. `offered` are EHLO keywords. Never
    raises. RFC 5321 sections 4.1.4 and 4.2.4.
    """
    verb: Verb | None = None
    try:
        verb = find_verb(line)
        refusal = session.check(verb)
        if refusal is not None:
            # A verb that is known but switched off is no disorder.
            violation = Violation.NOT_IMPLEMENTED if refusal.code == 502 else Violation.OUT_OF_SEQUENCE
            return CommandRefused(line, violation, refusal)
        command = parse_command(verb, line)
        if isinstance(command, Mail):
            check_parameters(command.parameters, MAIL_PARAMETERS, offered if session.esmtp else ())
        elif isinstance(command, Rcpt):
            check_parameters(command.parameters, RCPT_PARAMETERS, offered if session.esmtp else ())
    except GrammarError as error:
        return CommandRefused(line, FAULT_VIOLATIONS[error.fault], fault_reply(verb, error.fault))
    return command
