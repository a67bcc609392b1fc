"""The live conversation on a terminal: who says what, in which phase, and whether TLS covers it. Secrets are masked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TextIO, final

from smtpstate_server._log import printable

if TYPE_CHECKING:
    from smtpstate import Phase, TlsInfo, TraceLine

_MASK: Final = "********"

# AUTH SP mechanism [SP initial-response] ; RFC 4954 section 4
_AUTH: Final = re.compile(r"(\s*AUTH\s+\S+)(\s+\S.*)?", re.IGNORECASE)
_COMMAND: Final = re.compile(
    r"(?:EHLO|HELO|MAIL|RCPT|DATA|RSET|NOOP|QUIT|VRFY|EXPN|HELP|STARTTLS)(?: .*)?", re.IGNORECASE
)
_BODY: Final = re.compile(r"\([0-9]+ octets\) \.")


@final
class Conversation:
    """Shows the lines of one session as they are said."""

    def __init__(self, stream: TextIO, session: str) -> None:
        self._stream: Final = stream
        self._session: Final = session
        self._hides = False

    def show(self, line: TraceLine, phase: Phase, tls: TlsInfo | None) -> None:
        """Writes a line, or the lines of a reply. The phase is the one in which it was said."""
        security = "clear" if tls is None else printable(tls.version)
        head = f"{self._session}  {phase.name:<7} {security:<7} {line.side}: "
        text = line.line.decode("latin-1").removesuffix("\r\n")
        shown = self._masked(text) if line.side == "C" else text
        self._stream.write("".join(f"{head}{printable(part)}\n" for part in shown.split("\r\n")))
        self._stream.flush()

    def _masked(self, text: str) -> str:
        match = _AUTH.fullmatch(text)
        if match is not None:
            # Some clients go on with their secrets although AUTH was refused.
            self._hides = True
            return match[1] + (f" {_MASK}" if match[2] else "")
        if self._hides and _COMMAND.fullmatch(text) is None and _BODY.fullmatch(text) is None:
            return _MASK
        self._hides = False
        return text
