"""Faucet: output that may leave slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class Faucet:
    """Octets on their way out: all at once, or so many a second."""

    __slots__ = ("_clock", "_next", "_out", "_rate")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._out: Final = bytearray()
        self._rate: float | None = None
        self._next: float = 0.0  # when the next octet may leave

    def __len__(self) -> int:
        return len(self._out)

    @property
    def next_time(self) -> float | None:
        """When the next octet may leave; None when there is none, or all leave at once."""
        return self._next if self._out and self._rate is not None else None

    def slow(self, octets_per_second: float) -> None:
        """From here on so many octets leave in a second; the first does at once."""
        self._rate = octets_per_second
        self._next = self._clock()

    def put(self, octets: bytes) -> None:
        if not self._out:
            self._next = max(self._next, self._clock())
        self._out.extend(octets)

    def take(self) -> bytes:
        """What may leave now."""
        if self._rate is None:
            return self._cut(len(self._out))
        now = self._clock()
        if not self._out or now < self._next:
            return b""
        # One at least: what a deadline was for is due when it comes, however its seconds are rounded.
        count = min(len(self._out), 1 + int((now - self._next) * self._rate))
        self._next += count / self._rate
        return self._cut(count)

    def clear(self) -> None:
        self._out.clear()

    def _cut(self, size: int) -> bytes:
        taken = bytes(self._out[:size])
        del self._out[:size]
        return taken
