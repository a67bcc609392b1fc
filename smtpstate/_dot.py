"""The dot: message content to wire and back (RFC 5321 section 4.5.2)."""

from __future__ import annotations

from typing import Final, final

from smtpstate._newlines import Newlines

_CONTEXT_LINE_START: Final = b"\r\n"
_CONTEXT_CR: Final = b"\r"
_CONTEXT_NONE: Final = b""
_END: Final = b"\r\n.\r\n"


@final
class DotDecoder:
    """Finds the end of one message, and takes off the dots that its sender put in front of lines.

    Only CRLF.CRLF ends a message, or .CRLF as the very first thing; the CRLF before the dot belongs to the content
    (RFC 6152 section 3 counts it so). Bare CR and LF are content here.
    """

    __slots__ = ("_context", "_ended", "_held")

    def __init__(self) -> None:
        self._context = _CONTEXT_LINE_START  # what the octets before the next one are, as far as it matters
        self._held = b""  # "." or ".CR" at the start of a line: not yet known to be content
        self._ended = False

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
class DotEncoder:
    """Puts one message on the wire: CRLF as the only newline, a dot before each line that starts with one.

    `size` counts the octets of the content as it will arrive.
    """

    __slots__ = ("_line_start", "_newlines", "size")

    def __init__(self) -> None:
        self.size = 0
        self._newlines = Newlines(normalize=True)
        self._line_start = True

    def encode(self, data: bytes) -> bytes:
        """The octets to send for a piece of content; the same object when there was nothing to change."""
        data = self._newlines.read(data)
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
