"""What the tests of this directory share: servers of each shape, and who is left when they are gone."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smtpstate import EndOfMessage, Mail, Rcpt
from smtpstate_asyncio import (
    Listener,
    Message,
    Observer,
    Session,
    serving,
    serving_messages,
    smtp_messages_protocol,
    smtp_server_protocol,
)
from tests.anyio.loopback import NOTING, SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from smtpstate import ConnectionClosed, Reply, ServerEvent
    from smtpstate_asyncio import ProtocolFactory

TO: Any = {"sender": "me@example.com", "recipients": ["you@example.org"]}


@dataclass
class Kept:
    """All that a server has taken, in whichever way."""

    bodies: list[bytes] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)  # what came of the next

    async def reads(self, message: Message) -> None:
        self.bodies.append(b"".join([chunk async for chunk in message.body]))

    def plain(self, message: Message) -> None:
        self.bodies.append(b"".join(message.body))

    async def iterates(self, session: Session) -> None:
        async for event in session:
            self.on_event(session, event)

    def on_event(self, session: Session, event: ServerEvent) -> None:
        match event:
            case Mail():
                self.body.clear()
            case Rcpt():
                session.accept()
            case EndOfMessage():
                self.bodies.append(b"".join(self.body))
                session.accept()
            case _:
                self.body += [event.data] if hasattr(event, "data") and isinstance(event.data, bytes) else []

    async def on_event_later(self, session: Session, event: ServerEvent) -> None:
        if isinstance(event, EndOfMessage):
            await asyncio.sleep(0)
        self.on_event(session, event)


SHAPES = ("serve_messages", "plain on_message", "serve", "on_event", "coroutine on_event", "messages protocol")


@asynccontextmanager
async def server(shape: str, kept: Kept, listener: Listener | None = None, **options: Any) -> AsyncIterator[int]:
    """A server on a free port of 127.0.0.1, and the port; everything inside has `SECONDS`.

    Clients say much in one piece here, so what comes early is only noted, unless a test asks for more.
    """
    listener = listener or Listener("127.0.0.1", 0)
    options = {"hostname": "mx.example.org", "wire": NOTING, **options}
    async with asyncio.timeout(SECONDS):
        match shape:
            case "serve_messages" | "plain on_message":
                on_message = kept.reads if shape == "serve_messages" else kept.plain
                async with serving_messages(on_message, listener, accept_any=True, **options) as bound:
                    yield bound[0].port
            case "serve":
                async with serving(kept.iterates, listener, **options) as bound:
                    yield bound[0].port
            case "on_event" | "coroutine on_event":
                on_event: Any = kept.on_event if shape == "on_event" else kept.on_event_later
                async with embedded(smtp_server_protocol(on_event, listener=listener, **options)) as port:
                    yield port
            case _:
                factory = smtp_messages_protocol(kept.reads, listener=listener, accept_any=True, **options)
                async with embedded(factory) as port:
                    yield port


@asynccontextmanager
async def embedded(factory: ProtocolFactory, grace: float = 5.0) -> AsyncIterator[int]:
    """A server of the loop's, with our protocol."""
    async with asyncio.timeout(SECONDS):
        listening = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()
            await factory.drain(grace)


@asynccontextmanager
async def nobody_left() -> AsyncIterator[None]:
    """Afterwards there are no more tasks than before, and nothing that was not closed."""
    before = asyncio.all_tasks()
    yield
    for _ in range(3):  # what was cancelled ends
        await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if "TestRunner" not in repr(task.get_coro())}  # is anyio's
    assert not left
    gc.collect()


@dataclass
class Log(Observer):
    opened: list[str] = field(default_factory=list)
    done: list[tuple[Reply | None, int]] = field(default_factory=list)
    closed: list[ConnectionClosed] = field(default_factory=list)
    somebody_left: asyncio.Event = field(default_factory=asyncio.Event)

    def session_opened(self, session: Session) -> None:
        self.opened.append(session.id)

    def message_done(self, session: Session, message: Message, reply: Reply | None, octets: int) -> None:
        self.done.append((reply, octets))

    def session_closed(self, session: Session, closed: ConnectionClosed) -> None:
        self.closed.append(closed)
        self.somebody_left.set()
