"""serve_messages: a server for those who only want the messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from anyio import TASK_STATUS_IGNORED

from smtpstate import Bdat, Data, Rcpt
from smtpstate.policy import MX
from smtpstate_anyio._server import serve
from smtpstate_parts.messages import Content, Incoming, IncompleteMessage, message_id, overdue, say, takes, verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from ssl import SSLContext

    from anyio import Event
    from anyio.abc import TaskStatus

    from smtpstate import Limits, Reply
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy
    from smtpstate_anyio._auth import Authenticator, Users
    from smtpstate_anyio._observer import Observer
    from smtpstate_anyio._session import Session
    from smtpstate_parts.gate import Admission, Gate
    from smtpstate_parts.listen import BoundListener, Listener


@final
class MessageBody(Content, AsyncIterator[bytes]):
    """The content, piece by piece as it arrives. It can be read once.

    It ends only when the whole message is there; else it raises IncompleteMessage. `octets` counts what was read.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def __aiter__(self) -> MessageBody:
        self.begin()
        return self

    async def __anext__(self) -> bytes:
        self.check()
        chunk = await self._pull()
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
    on_message: Callable[[Message], Awaitable[None]],
    *listen: str | Listener,
    hostname: str,
    domains: Iterable[str] = (),
    accept_any: bool = False,
    tls: SSLContext | None = None,
    users: Users | Authenticator | None = None,
    limits: Limits | None = None,
    policy: Policy = MX,
    stop: Event | None = None,
    grace: float = 25.0,
    observer: Observer | None = None,
    offers: Iterable[str] = (),
    extensions: tuple[Extension, ...] = (),
    gate: Gate | Admission | None = None,
    task_status: TaskStatus[list[BoundListener]] = TASK_STATUS_IGNORED,
) -> None:
    """Calls `on_message` for every message to one of `domains`, or to anybody with `accept_any`.

    Returning from it says 250, after the whole message is there; raising `Refusal` says that; any other exception says
    451 and leaves one log record. It may take `Limits.handler_seconds` between two pieces of the body and after it.
    Everything else is as in `serve`. A user may send to the same recipients as anybody: nothing is relayed. What
    `offers` and `extensions` let a client ask for is in `Message.mail` and `Message.rcpts`; a verb of your own needs a
    handler of `serve`, and is 451 here.
    """
    handler = _Messages(on_message, tuple(domains), observer, accept_any=accept_any)
    await serve(
        handler.run,
        *listen,
        hostname=hostname,
        tls=tls,
        users=users,
        limits=limits,
        policy=policy,
        stop=stop,
        grace=grace,
        observer=observer,
        offers=offers,
        extensions=extensions,
        gate=gate,
        task_status=task_status,
    )


@final
class _Messages:
    """The tier-2 handler behind `serve_messages`."""

    def __init__(
        self,
        on_message: Callable[[Message], Awaitable[None]],
        domains: tuple[str, ...],
        observer: Observer | None,
        *,
        accept_any: bool,
    ) -> None:
        self.on_message = on_message
        self.domains = domains
        self.observer = observer
        self.accept_any = accept_any

    async def run(self, session: Session) -> None:
        async for event in session:
            match event:
                case Rcpt(recipient):
                    takes(session, recipient, self.domains, accept_any=self.accept_any)
                case Data() | Bdat():
                    await self.message(session)
                case _:
                    pass  # the default verdicts are right

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
        with session.budget() as scope:
            try:
                await self.on_message(message)
            except Exception as error:
                failure = error
        body.expire()
        if scope.cancelled_caught:
            return overdue(session, message)
        reply = verdict(message, failure)
        if body.broken:
            return None
        if not body.complete and reply.code // 100 != 2:
            return reply if session.refuse(reply) else None
        await body.skip()
        return reply if body.complete and say(session, message, reply) else None
