"""Closing: the last reply leaves, we say that no more will come, and what still comes in is dropped for a moment.

A transport that is closed with input unread resets the connection, and a reset takes back replies that the peer has
not read yet: hence the half-close and the linger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate._events import CloseReason, ConnectionClosed, Flow

if TYPE_CHECKING:
    from smtpstate._budget import Budgets

# After these the peer may still be reading what it asked for.
_READS_ON: Final = frozenset({CloseReason.QUIT, CloseReason.EOF})


@final
class Closing:
    """How a session ends. `ending` is how, once that is decided; `closed` is the same, once it is over."""

    __slots__ = ("_budgets", "_lingered", "closed", "ending", "eof", "half_close")

    def __init__(self, budgets: Budgets) -> None:
        self._budgets: Final = budgets
        self._lingered: int = 0
        self.ending: ConnectionClosed | None = None
        self.closed: ConnectionClosed | None = None
        self.eof: bool = False
        self.half_close: bool = False

    def begin(self, ending: ConnectionClosed) -> None:
        """Nothing more is read. Replies that are due may take their time; whoever was cut off has had his."""
        self.ending = ending
        patient = ending.reason in _READS_ON
        limits = self._budgets.limits
        self._budgets.only_linger(limits.command_seconds if patient else limits.linger_seconds)

    def drop(self, octets: int) -> None:
        """Octets came in that nobody reads any more."""
        self._lingered += octets

    def step(self, unsent: int) -> Flow | None:
        """What is missing, with `unsent` octets of output left; None: it is over."""
        if unsent:
            return Flow.NEED_FLUSH
        if not self.half_close:
            self.half_close = True
            self._budgets.only_linger(self._budgets.limits.linger_seconds)
        return None if self.eof or self._lingered > self._budgets.limits.linger else Flow.NEED_DATA

    def finish(self, closed: ConnectionClosed) -> None:
        """It is over."""
        self.closed = closed
        self._budgets.stop()
