"""Output: octets on their way to the peer, and how many have not left yet."""

from __future__ import annotations

from typing import final


@final
class Output:
    """Collects pieces; `take()` hands them out as one, so that a group of replies leaves in one write."""

    __slots__ = ("_in_flight", "_pieces", "_queued")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._queued: int = 0
        self._in_flight: int = 0

    @property
    def size(self) -> int:
        """Octets that have not left: queued, or taken and not yet asked beyond."""
        return self._queued + self._in_flight

    def put(self, data: bytes) -> None:
        self._pieces.append(data)
        self._queued += len(data)

    def take(self) -> bytes:
        """Everything queued, b"" if nothing is; asking again says that the last piece has left."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._in_flight, self._queued = self._queued, 0
        return data

    def clear(self) -> None:
        self._pieces.clear()
        self._queued = self._in_flight = 0
