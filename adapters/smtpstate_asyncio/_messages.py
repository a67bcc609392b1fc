"""serve_messages: a server for those who only want the messages."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate import Bdat, Data, Rcpt
from smtpstate.policy import MX
from smtpstate_asyncio._server import ProtocolFactory, run_until, server_of, serving_with
from smtpstate_parts.messages import Content, Incoming, IncompleteMessage, message_id, overdue, say, takes, verdict

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Iterable
    from ssl import SSLContext

    from smtpstate import Limits, Reply, ServerEvent
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy, WireRules
    from smtpstate_asyncio._auth import Authenticator, Users
    from smtpstate_asyncio._observer import Observer
    from smtpstate_asyncio._session import Session
    from smtpstate_parts.gate import Admission, Gate
    from smtpstate_parts.listen import BoundListener, Listener

    OnMessage: TypeAlias = Callable[["Message"], Awaitable[object] | None]


@final
class MessageBody(Content, AsyncIterator[bytes]):
    """The content, piece by piece as it arrives: `async for`. In a plain function it is all there: `for`.

    It can be read once, and ends only when the whole message is there; else `async for` raises IncompleteMessage.
    `octets` counts what was read, and `anomalies` names what was odd about it, once it has ended: bare newlines and
    NUL.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session: Final = session
        self._kept: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        """What a plain function reads. Raises RuntimeError elsewhere, and for the second time."""
        self.begin()
        self.check()
        if self._kept is None:
            raise RuntimeError("the body of a message that arrives is read with `async for`")
        self.use_up()
        return self._kept

    def __aiter__(self) -> MessageBody:
        self.begin()
        return self

    async def __anext__(self) -> bytes:
        self.check()
        chunk = await self._pull() if self._kept is None else next(self._kept, None)
        if chunk is None:
            self.use_up()
            raise StopAsyncIteration
        return chunk

    async def _pull(self) -> bytes | None:
        while not self.over:
            data = self.take(await anext(self._session, None))
            if data is not None:
                return data
        return None

    async def keep(self) -> None:
        """Reads all of it into memory, for somebody who cannot wait. Raises IncompleteMessage."""
        kept: list[bytes] = []
        while (data := await self._pull()) is not None:
            kept.append(data)
        self._kept = iter(kept)

    async def skip(self) -> None:
        """Reads what nobody wanted; whether there is an end at all, `complete` tells."""
        with suppress(IncompleteMessage):
            while await self._pull() is not None:
                pass


@final
@dataclass(frozen=True, slots=True)
class Message(Incoming[MessageBody]):
    """A message on its way in. `id` is unique, and fit for a file name.

    `mail` is the MAIL that opened it, and `rcpts` are the RCPTs that were accepted, in order: their parameters say what
    the client asked for, and `smtpstate.extensions` reads them. `forwarded` is what a trusted relay said of where it
    comes from: for the log, it decides nothing.
    """


async def serve_messages(
    on_message: OnMessage,
    *listen: str | Listener,
    hostname: str,
    domains: Iterable[str] = (),
    accept_any: bool = False,
    tls: SSLContext | Callable[[], SSLContext] | None = None,
    server_names: Iterable[str] | None = None,
    users: Users | Authenticator | None = None,
    limits: Limits | None = None,
    policy: Policy = MX,
    wire: WireRules | None = None,
    stop: asyncio.Event | None = None,
    grace: float = 25.0,
    observer: Observer | None = None,
    offers: Iterable[str] = (),
    extensions: tuple[Extension, ...] = (),
    gate: Gate | Admission | None = None,
) -> None:
    """Calls `on_message` for every message to one of `domains`, or to anybody with `accept_any`.

    Returning from it says 250, after the whole message is there; raising `Refusal` says that; any other exception says
    451 and leaves one log record. A coroutine function is called when the message begins, and may take
    `Limits.handler_seconds` between two pieces of the body and after it. A plain function is called at the end of the
    message, which is in memory then. Everything else is as in `serve`. A user may send to the same recipients as
    anybody: nothing is relayed. What `offers` and `extensions` let a client ask for is in `Message.mail` and
    `Message.rcpts`; a verb of your own needs a handler of `serve`, and is 451 here.
    """
    async with serving_messages(
        on_message,
        *listen,
        hostname=hostname,
        domains=domains,
        accept_any=accept_any,
        tls=tls,
        server_names=server_names,
        users=users,
        limits=limits,
        policy=policy,
        wire=wire,
        grace=grace,
        observer=observer,
        offers=offers,
        extensions=extensions,
        gate=gate,
    ):
        await run_until(stop)


@asynccontextmanager
async def serving_messages(
    on_message: OnMessage,
    *listen: str | Listener,
    hostname: str,
    domains: Iterable[str] = (),
    accept_any: bool = False,
    tls: SSLContext | Callable[[], SSLContext] | None = None,
    server_names: Iterable[str] | None = None,
    users: Users | Authenticator | None = None,
    limits: Limits | None = None,
    policy: Policy = MX,
    wire: WireRules | None = None,
    grace: float = 25.0,
    observer: Observer | None = None,
    offers: Iterable[str] = (),
    extensions: tuple[Extension, ...] = (),
    gate: Gate | Admission | None = None,
) -> AsyncGenerator[list[BoundListener], None]:
    """`serve_messages` for the time of a block. Gives the addresses that it listens on; drains at the end."""
    messages = _Messages(on_message, tuple(domains), observer, accept_any=accept_any)
    server = server_of(
        hostname,
        tls=tls,
        server_names=server_names,
        users=users,
        limits=limits,
        policy=policy,
        wire=wire,
        observer=observer,
        offers=offers,
        extensions=extensions,
        gate=gate,
        on_event=messages.on_event,
    )
    async with serving_with(server, listen, grace) as bound:
        yield bound


def smtp_messages_protocol(
    on_message: OnMessage,
    *,
    hostname: str,
    listener: Listener | None = None,
    domains: Iterable[str] = (),
    accept_any: bool = False,
    tls: SSLContext | Callable[[], SSLContext] | None = None,
    server_names: Iterable[str] | None = None,
    users: Users | Authenticator | None = None,
    limits: Limits | None = None,
    policy: Policy = MX,
    wire: WireRules | None = None,
    observer: Observer | None = None,
    offers: Iterable[str] = (),
    extensions: tuple[Extension, ...] = (),
    gate: Gate | Admission | None = None,
) -> ProtocolFactory:
    """What `loop.create_server` takes for the sessions of `serve_messages`. Everything else is as in
    `smtp_server_protocol`."""
    messages = _Messages(on_message, tuple(domains), observer, accept_any=accept_any)
    server = server_of(
        hostname,
        tls=tls,
        server_names=server_names,
        users=users,
        limits=limits,
        policy=policy,
        wire=wire,
        observer=observer,
        offers=offers,
        extensions=extensions,
        gate=gate,
        on_event=messages.on_event,
    )
    return ProtocolFactory(server, listener)


@final
class _Messages:
    """The callback behind `serve_messages`."""

    def __init__(
        self, on_message: OnMessage, domains: tuple[str, ...], observer: Observer | None, *, accept_any: bool
    ) -> None:
        self.on_message: Final = on_message
        self.reads: Final = inspect.iscoroutinefunction(on_message) or inspect.iscoroutinefunction(
            getattr(on_message, "__call__", None)  # noqa: B004 - an object with `async def __call__` is one, too
        )
        self.domains: Final = domains
        self.observer: Final = observer
        self.accept_any: Final = accept_any

    def on_event(self, session: Session, event: ServerEvent) -> Awaitable[None] | None:
        match event:
            case Rcpt(recipient):
                takes(session, recipient, self.domains, accept_any=self.accept_any)
            case Data() | Bdat():
                return self.message(session)
            case _:
                pass  # the default verdicts are right
        return None

    async def message(self, session: Session) -> None:
        transaction = session.transaction
        if transaction is None:
            return  # a first chunk that was refused already
        if session.owed is not None:
            session.accept()
            await session.flush()  # nobody should wait for on_message to hear 354
        message = Message(
            id=message_id(),
            mail=transaction.mail,
            rcpts=transaction.recipients,
            body=MessageBody(session),
            peer=session.peer,
            tls=session.tls,
            hello=session.hello,
            identity=session.identity,
            forwarded=session.forwarded,
        )
        reply = await self.answer(session, message)
        if self.observer is not None:
            self.observer.message_done(session, message, reply, message.body.octets)

    async def answer(self, session: Session, message: Message) -> Reply | None:
        """Runs on_message and gives the verdict; None when nothing could be said."""
        body = message.body
        failure: Exception | None = None
        with session.budget() as budget:
            try:
                if not self.reads:
                    await body.keep()
                work = self.on_message(message)
                if work is not None:
                    await work
            except Exception as error:
                failure = error
        body.expire()
        if budget.expired:
            return overdue(session, message)
        reply = verdict(message, failure)
        if body.broken:
            return None
        if not body.complete and reply.code // 100 != 2:
            return reply if session.refuse(reply) else None
        await body.skip()
        return reply if body.complete and say(session, message, reply) else None
