"""Output: octets on their way to the peer, and how many have not left yet."""

from __future__ import annotations

from collections import deque
from typing import final


@final
class Output:
    """Collects pieces; `take()` hands them out as one, so that a group of replies leaves in one write.

    From `hold()` to `release()` what is put stays here.
    """

    __slots__ = ("_held", "_holds", "_in_flight", "_pieces", "_queued", "_taken")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._taken: int = 0  # octets of the first piece that were handed out
        self._held: list[bytes] = []
        self._holds: bool = False
        self._queued: int = 0
        self._in_flight: int = 0

    @property
    def size(self) -> int:
        """Octets that have not left: queued, or taken and not yet asked beyond."""
        return self._queued + self._in_flight

    @property
    def in_flight(self) -> int:
        """Octets that were taken last; asking beyond them says that they have left."""
        return self._in_flight

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return self._holds

    @property
    def has_left(self) -> bool:
        """Whether all has left but what is held back."""
        return not self._pieces and not self._in_flight

    def put(self, data: bytes) -> None:
        (self._held if self._holds else self._pieces).append(data)
        self._queued += len(data)

    def hold(self) -> None:
        """Keeps back what is put from here on."""
        self._holds = True

    def release(self) -> None:
        """Lets go what was held back."""
        self._holds = False
        self._pieces.extend(self._held)
        self._held.clear()

    def take(self, most: int | None = None) -> bytes:
        """What is queued, no more than `most` octets of it, b"" if nothing is; asking again says that it has left."""
        data = self._all() if most is None or self._queued <= most else self._some(most)
        self._in_flight = len(data)
        self._queued -= len(data)
        return data

    def clear(self) -> None:
        self.release()
        self._pieces.clear()
        self._taken = self._queued = self._in_flight = 0

    def _all(self) -> bytes:
        if self._taken:
            self._pieces[0] = self._pieces[0][self._taken :]
            self._taken = 0
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return data

    def _some(self, most: int) -> bytes:
        """Never the rest of a piece made anew, or a long one would be copied as often as it is cut."""
        parts: list[bytes] = []
        while most and self._pieces:
            first = self._pieces[0]
            part = first[self._taken : self._taken + most]
            parts.append(part)
            most -= len(part)
            self._taken += len(part)
            if self._taken == len(first):
                self._pieces.popleft()
                self._taken = 0
        return b"".join(parts)
