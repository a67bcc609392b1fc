"""Intake: one message on its way in, its size held against the limit, and the refusal it may have earned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate._commands import EndOfMessage
from smtpstate._dot import DotDecoder

if TYPE_CHECKING:
    from smtpstate._lines import LineReader
    from smtpstate._replies import Reply

# Past this multiple of the size limit nobody is being told anything useful any more.
_HOPELESS: Final = 1.5


@final
class Intake:
    """Reads one message of at most `limit` octets; a longer one is read on, and counted.

    `ended` says that the lone dot was read. `refusal` is what will answer the message whatever is still to come; None
    while it is wanted. RFC 1870 section 6.3.
    """

    __slots__ = ("_dot", "_limit", "ended", "refusal")

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._dot: Final = DotDecoder()
        self.ended: bool = False
        self.refusal: Reply | None = None

    @property
    def size(self) -> int:
        """Octets of content so far."""
        return self._dot.size

    @property
    def too_large(self) -> bool:
        return self._dot.size > self._limit

    @property
    def hopeless(self) -> bool:
        """Whether it is so large that reading on serves nobody."""
        return self._dot.size > self._limit * _HOPELESS

    @property
    def end(self) -> EndOfMessage:
        """The event for the lone dot."""
        return EndOfMessage(self._dot.size, self._dot.anomalies)

    def read(self, lines: LineReader) -> bytes:
        """Takes from `lines` what belongs to the message, and returns its content."""
        content, leftover, self.ended = self._dot.decode(lines.take())
        if leftover:
            lines.push_back(leftover)
        return content
