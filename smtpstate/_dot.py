"""The dot: message content to wire and back (RFC 5321 section 4.5.2)."""

from __future__ import annotations

from enum import Enum
from typing import Final, final

_CONTEXT_LINE_START: Final = b"\r\n"
_CONTEXT_CR: Final = b"\r"
_CONTEXT_NONE: Final = b""
_END: Final = b"\r\n.\r\n"
_NO_ANOMALIES: Final[frozenset[Anomaly]] = frozenset()


@final
class Anomaly(Enum):
    """What content should not hold; RFC 5321 sections 2.3.8 and 4.1.1.4, RFC 5322 section 4.1 for NUL."""

    BARE_CR = "bare CR"
    BARE_LF = "bare LF"
    NUL = "NUL"


@final
class AnomalyFinder:
    """Notes what content should not hold, however it is cut."""

    __slots__ = ("_last_cr", "found")

    def __init__(self) -> None:
        self._last_cr: bool = False
        self.found: frozenset[Anomaly] = _NO_ANOMALIES

    def look(self, content: bytes) -> None:
        """The next piece. A CR that comes last is not bare until the octet after it is known."""
        if not content:
            return
        pairs = content.count(b"\r\n")
        returns = content.count(b"\r") - pairs
        feeds = content.count(b"\n") - pairs
        if self._last_cr:
            if content.startswith(b"\n"):
                feeds -= 1
            else:
                returns += 1
        self._last_cr = content.endswith(b"\r")
        if self._last_cr:
            returns -= 1
        if returns:
            self.found |= {Anomaly.BARE_CR}
        if feeds:
            self.found |= {Anomaly.BARE_LF}
        if b"\0" in content:
            self.found |= {Anomaly.NUL}


@final
class DotDecoder:
    """Finds the end of one message, and takes off the dots that its sender put in front of lines.

    Only CRLF.CRLF ends a message, or .CRLF as the very first thing; the CRLF before the dot belongs to the content
    (RFC 6152 section 3 counts it so). Bare CR and LF are content, and noted in `anomalies`.
    """

    __slots__ = ("_context", "_ended", "_finder", "_held", "_size")

    def __init__(self) -> None:
        self._context = _CONTEXT_LINE_START  # what the octets before the next one are, as far as it matters
        self._held = b""  # "." or ".CR" at the start of a line: not yet known to be content
        self._ended = False
        self._size = 0
        self._finder = AnomalyFinder()

    @property
    def size(self) -> int:
        """Octets of content so far."""
        return self._size

    @property
    def anomalies(self) -> frozenset[Anomaly]:
        """What was found in the content so far. A CR that came last is not bare until the octet after it is known."""
        return self._finder.found

    def decode(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """The content in `data`, what follows the end of the message, and whether it has ended.

        Data without a dot at the start of a line comes out as the same object. After the end everything is left over.
        """
        if self._ended:
            return b"", data, True
        if not data:
            return b"", b"", False
        context = self._context
        # Where a dot may stand at the start of a line across the cut, look at both sides at once.
        if context == _CONTEXT_LINE_START:
            across = bool(self._held) or data.startswith(b".")
        else:
            across = context == _CONTEXT_CR and data.startswith(b"\n.")
        wire = b"".join((context, self._held, data)) if across else data
        leftover = b""
        first_dot = wire.find(b"\r\n.")
        end = wire.find(_END, first_dot) if first_dot >= 0 else -1
        if end >= 0:
            self._ended = True
            self._held = b""
            leftover = wire[end + len(_END) :]
            content = wire[: end + 2]
        else:
            content = self._hold_back(wire)
        if first_dot >= 0:
            # No match can overlap another, so this takes one dot off each line and never two.
            content = content.replace(b"\r\n.", b"\r\n")
        if across:
            content = content[len(context) :]
        if content:
            self._size += len(content)
            self._finder.look(content)
        return content, leftover, self._ended

    def _hold_back(self, wire: bytes) -> bytes:
        """Remember what the next octet depends on, and return what does not depend on it."""
        if wire.endswith(b"\r\n."):
            self._context, self._held = _CONTEXT_LINE_START, b"."
            return wire[:-1]
        if wire.endswith(b"\r\n.\r"):
            self._context, self._held = _CONTEXT_LINE_START, b".\r"
            return wire[:-2]
        self._held = b""
        if wire.endswith(b"\r\n") or (wire == b"\n" and self._context == _CONTEXT_CR):
            self._context = _CONTEXT_LINE_START
        elif wire.endswith(b"\r"):
            self._context = _CONTEXT_CR
        else:
            self._context = _CONTEXT_NONE
        return wire


@final
class NewlineNormalizer:
    """Makes each bare CR and each bare LF a CRLF, however the content is cut.

    A CRLF is never cut in what comes out: a CR at the end of the data comes out as CRLF at once, and an LF that follows
    it is then swallowed.
    """

    __slots__ = ("_after_cr",)

    def __init__(self) -> None:
        self._after_cr = False

    def normalize(self, data: bytes) -> bytes:
        """The data with CRLF as its only newline; the same object when there was nothing to change."""
        if not data:
            return data
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        pairs = data.count(b"\r\n")
        if data.count(b"\r") == pairs and data.count(b"\n") == pairs:
            return data
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


@final
class DotEncoder:
    """Puts one message on the wire: CRLF as the only newline, a dot before each line that starts with one.

    `size` counts the octets of the content as it will arrive.
    """

    __slots__ = ("_line_start", "_newlines", "size")

    def __init__(self) -> None:
        self.size = 0
        self._newlines = NewlineNormalizer()
        self._line_start = True

    def encode(self, data: bytes) -> bytes:
        """The octets to send for a piece of content; the same object when there was nothing to change."""
        data = self._newlines.normalize(data)
        if not data:
            return data
        self.size += len(data)
        stuffed = data
        if b"\r\n." in data:
            stuffed = data.replace(b"\r\n.", b"\r\n..")
        if self._line_start and data.startswith(b"."):
            stuffed = b"." + stuffed
        self._line_start = data.endswith(b"\r\n")
        return stuffed

    def finish(self) -> bytes:
        """The end of the message, after the CRLF that its last line may lack. An empty message lacks none."""
        if self._line_start:
            return b".\r\n"
        self.size += 2
        return _END
