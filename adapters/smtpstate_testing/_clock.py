"""ManualClock: time that passes when a test says so."""

from __future__ import annotations

from typing import final


@final
class ManualClock:
    """A clock to hand to a connection: call it for the seconds. It stands still until told, and never goes back."""

    __slots__ = ("_now",)

    def __init__(self, start: float = 0.0) -> None:
        self._now: float = float(start)

    def __call__(self) -> float:
        return self._now

    @property
    def now(self) -> float:
        """Seconds; the same as calling it."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass. Raises ValueError when they are negative, or no number at all."""
        self.jump_to(self._now + seconds)

    def jump_to(self, time: float) -> None:
        """Makes it `time`. Raises ValueError when that is past already, or no number at all."""
        if not time >= self._now:
            raise ValueError(f"time does not go from {self._now} back to {time}")
        self._now = float(time)
