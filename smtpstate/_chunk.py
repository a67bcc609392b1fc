"""The chunk: an exact number of octets (RFC 3030 section 2)."""

from __future__ import annotations

from typing import final

from smtpstate._errors import LocalProtocolError
from smtpstate._newlines import Newlines


@final
class ChunkDecoder:
    """Counts off the octets of one chunk after another; all of them together are one message's content."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: int = 0

    def begin(self, size: int) -> None:
        """A chunk of `size` octets follows."""
        self._left = size

    def decode(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """The content in `data`, what follows the chunk, and whether the chunk has ended."""
        content, leftover = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(content)
        return content, leftover, not self._left


@final
class ChunkEncoder:
    """Sees that the octets of a chunk are as many as were announced, and its lines end with CRLF unless it is binary.

    A chunk may end between CR and LF, where another one follows. `left` are the octets that are missing.
    """

    __slots__ = ("_last", "_newlines", "left")

    def __init__(self) -> None:
        self._last: bool = False
        self._newlines: Newlines | None = None
        self.left: int = 0

    def begin(self, size: int, *, first: bool, last: bool, binary: bool) -> None:
        """A chunk of `size` octets was announced. Raises LocalProtocolError when it leaves a CR without its LF."""
        newlines = Newlines(normalize=False) if first and not binary else None if first else self._newlines
        self._newlines = _checked(newlines, b"", ends=last and not size)
        self._last, self.left = last, size

    def encode(self, data: bytes) -> bytes:
        """The octets to send: the same object. Raises LocalProtocolError for too many, and for a bare CR or LF."""
        if len(data) > self.left:
            raise LocalProtocolError(f"{len(data)} octets given, {self.left} are left of the chunk")
        self._newlines = _checked(self._newlines, data, ends=self._last and len(data) == self.left)
        self.left -= len(data)
        return data


def _checked(newlines: Newlines | None, data: bytes, *, ends: bool) -> Newlines | None:
    """`newlines` after `data`, and after the end of the message where it `ends`; itself it stays as it is."""
    if newlines is None:
        return None
    after = newlines.copy()
    after.read(data)
    if ends:
        after.finish()
    if after.bare:
        found = " and ".join(sorted(anomaly.value for anomaly in after.bare))
        raise LocalProtocolError(f"{found} in a chunk: lines end with CRLF where MAIL has no BODY=BINARYMIME")
    return after
