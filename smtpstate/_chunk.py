"""The chunk: an exact number of octets, whatever they are (RFC 3030 section 2)."""

from __future__ import annotations

from typing import final

from smtpstate._dot import Anomaly, AnomalyFinder


@final
class ChunkDecoder:
    """Counts off the octets of one chunk after another; all of them together are one message's content.

    Where that is `binary` (RFC 3030 section 3) nothing in it is an anomaly.
    """

    __slots__ = ("_binary", "_finder", "_left", "_size")

    def __init__(self, *, binary: bool = False) -> None:
        self._binary: bool = binary
        self._left: int = 0
        self._size: int = 0
        self._finder: AnomalyFinder = AnomalyFinder()

    @property
    def size(self) -> int:
        """Octets of content so far."""
        return self._size

    @property
    def anomalies(self) -> frozenset[Anomaly]:
        """What was found in the content so far."""
        return self._finder.found

    def begin(self, size: int) -> None:
        """A chunk of `size` octets follows."""
        self._left = size

    def decode(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """The content in `data`, what follows the chunk, and whether the chunk has ended."""
        content, leftover = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(content)
        self._size += len(content)
        if not self._binary:
            self._finder.look(content)
        return content, leftover, not self._left
