"""Listening: what becomes of a line of a reply, and what the words of a reply have to be like after what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate._commands import Expn, Mail, Vrfy
from smtpstate._errors import GrammarError
from smtpstate._events import FAULT_VIOLATIONS, CloseReason, ConnectionClosed
from smtpstate._replies import Reply, ReplyReader
from smtpstate._state import HELLOS
from smtpstate._verbs import Verb

if TYPE_CHECKING:
    from smtpstate._budget import Limits
    from smtpstate._capabilities import Capabilities
    from smtpstate._lines import Line
    from smtpstate._policy import Policy
    from smtpstate._questions import Question

# RFC 2034 section 4: all replies but these carry enhanced codes. That to XCLIENT is a greeting.
_UNCODED: Final = HELLOS | {Verb.CONNECT, Verb.XCLIENT}


@final
class Listening:
    """Puts replies together, in the light of what they answer; or says how the session ends."""

    __slots__ = ("_asked_utf8", "_reader")

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self._reader: Final = ReplyReader(limits.reply_lines, limits.reply, policy)
        self._asked_utf8: bool = False  # whether the last MAIL that was answered asked for SMTPUTF8

    @property
    def mid_reply(self) -> bool:
        """Whether lines of a reply were read and its last is missing."""
        return self._reader.midway

    def hear(self, line: Line, question: Question | None, offered: Capabilities) -> Reply | ConnectionClosed | None:
        """A line that answers `question`, of a server that made these offers: a reply, when it was its last line."""
        utf8 = self._asked_utf8
        match question:
            case Mail(smtputf8=asked):
                utf8 = self._asked_utf8 = asked
            case Vrfy(smtputf8=True) | Expn(smtputf8=True):
                utf8 = True
            case _:
                pass
        coded = question is not None and offered.enhanced_status_codes and question.verb not in _UNCODED
        try:
            return self._reader.add(line, utf8=utf8, coded=coded)
        except GrammarError as error:
            violation, deviation = FAULT_VIOLATIONS[error.fault], self._reader.rejected
            return ConnectionClosed(CloseReason.VIOLATION, violation, deviation=deviation)
