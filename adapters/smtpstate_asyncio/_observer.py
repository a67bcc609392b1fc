"""Observer: what a server tells whoever wants to log or show it."""

from __future__ import annotations

from smtpstate_asyncio._messages import Message
from smtpstate_asyncio._session import Session
from smtpstate_parts.observer import Watching


class Observer(Watching[Session, Message]):
    """Override what you want to know. Nothing here may wait; an exception ends the session that it comes from."""
