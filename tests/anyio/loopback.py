"""What the tests of this directory share: a server in the background, and a peer that speaks raw lines."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio import EndOfStream, Event, connect_tcp, create_task_group, fail_after

from smtpstate import TraceLine
from smtpstate.policy import EarlyInput, WireRules
from smtpstate_anyio import BoundListener, Message, Observer, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from ssl import SSLContext

    from anyio.abc import ByteStream

    from smtpstate import ConnectionClosed, Reply
    from smtpstate.trace import TraceRecord

NOTING = WireRules(early_input=EarlyInput.NOTE)
SECONDS = 20.0  # for a whole test; reached only when something hangs


@dataclass
class Certificates:
    server: SSLContext
    misnamed: SSLContext  # a server's, for another name
    trusting: SSLContext
    suspicious: SSLContext


@dataclass
class Recorder(Observer):
    opened: list[str] = field(default_factory=list)
    lines: list[TraceLine] = field(default_factory=list)
    done: list[tuple[Reply | None, int]] = field(default_factory=list)
    closed: list[ConnectionClosed] = field(default_factory=list)
    somebody_left: Event = field(default_factory=Event)

    def session_opened(self, session: Session) -> None:
        self.opened.append(session.id)

    def trace(self, session: Session, record: TraceRecord) -> None:
        if isinstance(record, TraceLine):
            self.lines.append(record)

    def message_done(self, session: Session, message: Message, reply: Reply | None, octets: int) -> None:
        self.done.append((reply, octets))

    def session_closed(self, session: Session, closed: ConnectionClosed) -> None:
        self.closed.append(closed)
        self.somebody_left.set()


@dataclass
class Inbox:
    """An on_message that keeps everything."""

    messages: list[Message] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        body = b"".join([chunk async for chunk in message.body])
        self.messages.append(message)
        self.bodies.append(body)


@asynccontextmanager
async def background(serve_it: Callable[..., Awaitable[None]], *args: Any, **kwargs: Any) -> AsyncIterator[int]:
    """Runs a server on a free port of 127.0.0.1 and gives the port; everything inside has `SECONDS`.

    Clients say much in one piece here, so what comes early is only noted, unless a test asks for more.
    """
    arguments = args if args[1:] else (*args, "127.0.0.1:0")
    options = {"hostname": "mx.example.org", "grace": 5.0, "wire": NOTING, **kwargs}

    async def run(*, task_status: Any) -> None:
        await serve_it(*arguments, **options, task_status=task_status)

    with fail_after(SECONDS):
        async with create_task_group() as group:
            bound: list[BoundListener] = await group.start(run)
            yield bound[0].port
            group.cancel_scope.cancel()


class Wire:
    """A client that says what it is told to."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def line(self) -> bytes:
        while b"\n" not in self.buffer:
            self.buffer += await self.stream.receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    async def reply(self) -> str:
        """The next reply: its code and the text of its last line."""
        while (line := await self.line())[3:4] == b"-":
            pass
        return line.decode()

    async def ask(self, line: bytes) -> str:
        await self.say(line)
        return await self.reply()

    async def say(self, line: bytes) -> None:
        await self.stream.send(line + b"\r\n")

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        try:
            while True:
                self.buffer += await self.stream.receive()
        except EndOfStream:
            return self.buffer

    async def open(self) -> None:
        """Greeting and EHLO."""
        assert (await self.reply()).startswith("220 ")
        assert (await self.ask(b"EHLO client.example")).startswith("250 ")

    async def to_body(self) -> None:
        """Up to the 354."""
        await self.open()
        assert (await self.ask(b"MAIL FROM:<a@example.com>")).startswith("250 ")
        assert (await self.ask(b"RCPT TO:<b@example.org>")).startswith("250 ")
        assert (await self.ask(b"DATA")).startswith("354 ")


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    async with await connect_tcp("127.0.0.1", port) as stream:
        yield Wire(stream)
