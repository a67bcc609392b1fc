"""Watching: what a server tells whoever wants to log or show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from smtpstate import ConnectionClosed, Reply
    from smtpstate.trace import TraceRecord

_Session = TypeVar("_Session")
_Message = TypeVar("_Message")


class Watching(Generic[_Session, _Message]):
    """What an adapter's `Observer` hears. Nothing here may wait; an exception ends the session that it comes from."""

    def session_opened(self, session: _Session) -> None:
        """Somebody connected."""

    def trace(self, session: _Session, record: TraceRecord) -> None:
        """A line of the conversation, or what else there is to know of it. It costs nothing unless it is overridden."""

    def message_done(self, session: _Session, message: _Message, reply: Reply | None, octets: int) -> None:
        """A message was answered with `reply`; None when it never ended. `octets` is what was read of its content."""

    def session_closed(self, session: _Session, closed: ConnectionClosed) -> None:
        """A session ended."""


def traces(observer: Watching[_Session, _Message] | None) -> bool:
    """Whether `observer` wants to see the conversation."""
    return observer is not None and type(observer).trace is not Watching[object, object].trace
