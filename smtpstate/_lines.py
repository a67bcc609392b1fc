"""Framing: lines out of bytes, however they were cut, in bounded memory and linear time."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, final

_CR: Final = 0x0D
_KEPT: Final = 128  # octets kept of a line that is dropped


@final
class LineEnding(Enum):
    """What stood at the end of a line. A bare CR ends none."""

    CRLF = "CRLF"
    LF = "LF"


@final
class Line(NamedTuple):
    """One line: its octets without the ending, how it ended, and whether it was longer than allowed (and dropped)."""

    data: bytes
    ending: LineEnding
    too_long: bool


@final
class LineReader:
    """Holds what came in, and hands it out as lines or as it is.

    A line ends at LF, RFC 5321 section 2.3.8 or not; `ending` tells, and what it means is for the caller. Each octet is
    searched once and copied a few times at most, in pieces of any size, and a line over its limit is dropped while it
    grows: what is held stays below the limit plus what one `receive_data()` brought. `dropped` has the first octets of
    such a line, its verb among them.
    """

    # Everything held is _buffer[_start:] + _tail. The first piece is kept as it came, later ones gather in _tail until
    # a line ends there.
    __slots__ = ("_buffer", "_dropped_cr", "_dropping", "_searched", "_start", "_tail", "_tail_searched", "dropped")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        self._searched = 0  # no LF in _buffer[_start:_searched]
        self._tail = bytearray()
        self._tail_searched = 0  # no LF in _tail[:_tail_searched]
        self._dropping = False
        self._dropped_cr = False  # the last octet dropped was a CR
        self.dropped = b""

    def __len__(self) -> int:
        """How many octets are held."""
        return len(self._buffer) - self._start + len(self._tail)

    def receive_data(self, data: bytes) -> None:
        """Add what came in. Empty data does nothing."""
        if len(self):
            self._tail += data
        else:
            self._hold(data)

    def push_back(self, data: bytes) -> None:
        """Put octets in front of everything that is held."""
        self._hold(data + self.take() if len(self) else data)

    def clear(self) -> None:
        """Forget everything, a line being dropped too."""
        self._hold(b"")
        self._dropping = False
        self._dropped_cr = False

    def take(self) -> bytes:
        """Everything that is held, which is then held no more.

        The very object that was fed, if it came in one piece and nothing of it was consumed.
        """
        if self._tail:
            data = b"".join((self._buffer[self._start :], self._tail))
        elif self._start:
            data = self._buffer[self._start :]
        else:
            data = self._buffer
        self.clear()
        return data

    def peek(self, most: int) -> bytes:
        """The first octets of what is held, `most` at most; it stays held."""
        return (self._buffer[self._start : self._start + most] + self._tail[:most])[:most]

    def next_line(self, limit: int) -> Line | None:
        """The next line, or None when more octets are needed.

        `limit` is in octets, the ending included. A longer line comes out once, when its end is there, without data.
        """
        end = self._find()
        if end < 0:
            held = len(self)
            # Even if the next octet were its LF, the line would be too long.
            if self._dropping or held >= limit:
                if not self._dropping:
                    self.dropped = self.peek(min(_KEPT, limit))
                self._dropping = True
                if held:
                    self._dropped_cr = (self._tail or self._buffer)[-1] == _CR
                self._hold(b"")
            return None
        start = self._start
        ending = LineEnding.LF
        data_end = end
        if end > start:
            if self._buffer[end - 1] == _CR:
                ending = LineEnding.CRLF
                data_end = end - 1
        elif self._dropped_cr:
            ending = LineEnding.CRLF
        too_long = self._dropping or end + 1 - start > limit
        if too_long and not self._dropping:
            self.dropped = self._buffer[start : min(end, start + min(_KEPT, limit))]
        data = b"" if too_long else self._buffer[start:data_end]
        self._start = self._searched = end + 1
        self._dropping = False
        self._dropped_cr = False
        return Line(data, ending, too_long)

    def _hold(self, data: bytes) -> None:
        self._buffer = data
        self._start = 0
        self._searched = 0
        if self._tail:
            self._tail = bytearray()
        self._tail_searched = 0

    def _find(self) -> int:
        """Where the next LF is in _buffer, after moving it there from _tail if need be; -1 if there is none."""
        end = self._buffer.find(b"\n", self._searched)
        if end >= 0:
            return end
        self._searched = len(self._buffer)
        end = self._tail.find(b"\n", self._tail_searched)
        if end < 0:
            self._tail_searched = len(self._tail)
            return -1
        rest = len(self._buffer) - self._start
        self._hold(b"".join((self._buffer[self._start :], self._tail)))
        return rest + end
