"""Tracing: notes what is said in each session, for the messages that come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final
from weakref import WeakKeyDictionary

from smtpstate_anyio import Observer

if TYPE_CHECKING:
    from contextvars import ContextVar

    from smtpstate.trace import TraceRecord
    from smtpstate_anyio import Session


@final
class Tracing(Observer):
    """Puts a list in `said` for each session, in the task that serves it, and what is said there into that."""

    def __init__(self, said: ContextVar[list[TraceRecord]]) -> None:
        self._said: Final = said
        self._sessions: Final[WeakKeyDictionary[Session, list[TraceRecord]]] = WeakKeyDictionary()

    def session_opened(self, session: Session) -> None:
        self._sessions[session] = []
        self._said.set(self._sessions[session])

    def trace(self, session: Session, record: TraceRecord) -> None:
        self._sessions[session].append(record)
