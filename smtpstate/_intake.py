"""Intake: one message on its way in, its size held against the limit, and the refusal it may have earned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate._chunk import ChunkDecoder
from smtpstate._commands import EndOfMessage
from smtpstate._dot import DotDecoder
from smtpstate._newlines import BareNewline, Newlines

if TYPE_CHECKING:
    from smtpstate._commands import Bdat
    from smtpstate._lines import LineReader
    from smtpstate._replies import Reply

# Past this multiple of the size limit nobody is being told anything useful any more.
_HOPELESS: Final = 1.5


@final
class Intake:
    """Reads one message of at most `limit` octets, whole (DATA) or in chunks; a longer one is read on, and counted.

    `newline` says what is done about its bare newlines; in one that is `binary` there are none, and nothing is an
    anomaly (RFC 3030 section 3). `ended` says that its lone dot or the end of its chunk was read, `last` that the
    message ends with that. `refusal` is what will answer the message whatever is still to come; None while it is
    wanted. RFC 1870 section 6.3.
    """

    __slots__ = (
        "_announced",
        "_chunks",
        "_decoder",
        "_limit",
        "_newlines",
        "_rejects",
        "_size",
        "ended",
        "last",
        "refusal",
    )

    def __init__(
        self, limit: int, *, chunked: bool = False, binary: bool = False, newline: BareNewline = BareNewline.NOTE
    ) -> None:
        self._limit: Final = limit
        self._chunks: Final = ChunkDecoder()
        self._decoder: Final = self._chunks if chunked else DotDecoder()
        self._newlines: Final = None if binary else Newlines(normalize=newline is BareNewline.NORMALIZE)
        self._rejects: Final = newline is BareNewline.REJECT
        self._size: int = 0
        self._announced: int = 0
        self.ended: bool = False
        self.last: bool = not chunked
        self.refusal: Reply | None = None

    def begin_chunk(self, chunk: Bdat) -> None:
        """The octets of `chunk` follow."""
        self._chunks.begin(chunk.size)
        self._announced += chunk.size
        self.ended, self.last = not chunk.size, chunk.last

    @property
    def size(self) -> int:
        """Octets of content so far, as they were handed on."""
        return self._size

    @property
    def too_large(self) -> bool:
        """Whether it passes the limit, or says that it will."""
        return max(self._size, self._announced) > self._limit

    @property
    def hopeless(self) -> bool:
        """Whether it is so large that reading on serves nobody."""
        return self._size > self._limit * _HOPELESS

    @property
    def end(self) -> EndOfMessage:
        """The event for its end."""
        return EndOfMessage(self._size, frozenset() if self._newlines is None else self._newlines.found)

    @property
    def misspelled(self) -> bool:
        """Whether a bare newline was found where none is taken."""
        return self._rejects and self._newlines is not None and bool(self._newlines.bare)

    def read(self, lines: LineReader) -> bytes:
        """Takes from `lines` what belongs to the message, and returns its content."""
        content, leftover, self.ended = self._decoder.decode(lines.take())
        if leftover:
            lines.push_back(leftover)
        if self._newlines is not None:
            content = self._newlines.read(content)
        self._size += len(content)
        return content

    def finish(self) -> None:
        """The message or chunk was read: a CR that came last in a whole message is bare."""
        if self._newlines is not None and self.last:
            self._newlines.finish()
