"""Observer: what a server tells whoever wants to log or show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smtpstate import ConnectionClosed, Reply, TraceLine
    from smtpstate_anyio._messages import Message
    from smtpstate_anyio._session import Session


class Observer:
    """Override what you want to know. Nothing here may wait; an exception ends the session that it comes from."""

    def session_opened(self, session: Session) -> None:
        """Somebody connected."""

    def trace(self, session: Session, line: TraceLine) -> None:
        """A line of the conversation. It costs nothing unless it is overridden."""

    def message_done(self, session: Session, message: Message, reply: Reply | None, octets: int) -> None:
        """A message was answered with `reply`; None when it never ended. `octets` is what was read of its content."""

    def session_closed(self, session: Session, closed: ConnectionClosed) -> None:
        """A session ended."""


def traces(observer: Observer | None) -> bool:
    """Whether `observer` wants to see the conversation."""
    return observer is not None and type(observer).trace is not Observer.trace
