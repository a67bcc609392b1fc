"""serve_messages: a server for those who only want the messages."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from anyio import TASK_STATUS_IGNORED

from smtpstate import (
    Bdat,
    Body,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    ForwardPath,
    Helo,
    Lhlo,
    LocalProtocolError,
    Mail,
    Peer,
    Rcpt,
    Refusal,
    Reply,
    ReversePath,
    SMTPStateError,
    TlsInfo,
    TransactionReset,
)
from smtpstate._syntax import LOCAL_ERROR
from smtpstate.policy import MX
from smtpstate_anyio._server import serve
from smtpstate_anyio._session import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from enum import Enum
    from ssl import SSLContext

    from anyio import Event
    from anyio.abc import TaskStatus

    from smtpstate import Limits
    from smtpstate.extensions import Extension, XForward
    from smtpstate.policy import Deviation, Policy, WireRules
    from smtpstate_anyio._auth import Authenticator, Users
    from smtpstate_anyio._gate import Admission, Gate
    from smtpstate_anyio._listen import BoundListener, Listener
    from smtpstate_anyio._observer import Observer
    from smtpstate_anyio._session import Session

_NOT_HERE = Reply(550, "No mail is taken here for that address", enhanced="5.7.1")


@final
class IncompleteMessage(SMTPStateError):
    """The message ended before its end: the client went away, was too slow, or sent too much. Keep nothing of it."""


@final
class MessageBody(AsyncIterator[bytes]):
    """The content, piece by piece as it arrives. It can be read once.

    It ends only when the whole message is there; else it raises IncompleteMessage. `octets` counts what was read, and
    `anomalies` names what was odd about it, once it has ended: bare newlines and NUL.
    """

    def __init__(self, session: Session) -> None:
        self.octets: int = 0
        self.anomalies: frozenset[Enum] = frozenset()  # of smtpstate.Anomaly
        self.complete: bool = False  # its lone dot was read
        self.broken: bool = False  # it will never be complete
        self._session = session
        self._used_up: bool = False
        self._expired: bool = False

    def __aiter__(self) -> MessageBody:
        if self._used_up:
            raise RuntimeError("the body of a message can be read once")
        return self

    async def __anext__(self) -> bytes:
        if self._expired:
            raise RuntimeError("the body of a message is gone when on_message has returned")
        chunk = await self._pull()
        if chunk is None:
            self._used_up = True
            raise StopAsyncIteration
        return chunk

    async def _pull(self) -> bytes | None:
        if self.complete:
            return None
        while not self.broken:
            match await anext(self._session, None):
                case Body(data):
                    self.octets += len(data)
                    return data
                case EndOfMessage(anomalies=anomalies):
                    self.complete, self.anomalies = True, anomalies
                    return None
                case TransactionReset() | ConnectionClosed() | None:
                    self.broken = True
                case _:
                    pass  # the next chunk, or what may stand between two: NOOP, or a command that was refused
        raise IncompleteMessage("the message ended before its end")

    async def skip(self) -> None:
        """Reads what nobody wanted; whether there is an end at all, `complete` tells."""
        with suppress(IncompleteMessage):
            while await self._pull() is not None:
                pass

    def expire(self) -> None:
        """Nothing can be read any more."""
        self._expired = True


@final
@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way in. `id` is unique, and fit for a file name.

    `mail` is the MAIL that opened it, and `rcpts` are the RCPTs that were accepted, in order: their parameters say what
    the client asked for, and `smtpstate.extensions` reads them. `forwarded` is what a trusted relay said of where it
    comes from: for the log, it decides nothing.
    """

    id: str
    mail: Mail
    rcpts: tuple[Rcpt, ...]
    body: MessageBody
    peer: Peer | None
    tls: TlsInfo | None
    hello: Ehlo | Helo | Lhlo | None
    identity: str | None = None
    forwarded: XForward | None = None
    refusals: dict[int, Reply] = field(default_factory=dict[int, Reply])

    @property
    def sender(self) -> ReversePath:
        """Where reports go."""
        return self.mail.reverse_path

    @property
    def recipients(self) -> tuple[ForwardPath, ...]:
        """Whom it is for, as often as they were named."""
        return tuple(rcpt.recipient for rcpt in self.rcpts)

    @property
    def size(self) -> int | None:
        """The octets that the client announced, if it did."""
        return self.mail.size

    @property
    def smtputf8(self) -> bool:
        """Addresses and headers may hold UTF-8: it can go only to where SMTPUTF8 is offered (RFC 6531)."""
        return self.mail.smtputf8

    @property
    def deviations(self) -> frozenset[Deviation]:
        """What the policy flagged of its hello, of its MAIL and of its recipients' RCPTs."""
        said = self.mail.deviations.union(*(rcpt.deviations for rcpt in self.rcpts))
        return said if self.hello is None else said | self.hello.deviations

    @property
    def received_with(self) -> str:
        """The WITH of a Received line. RFC 3848 section 2, RFC 6531 section 4.3."""
        if not isinstance(self.hello, Ehlo | Lhlo):
            return "SMTP"
        if isinstance(self.hello, Lhlo):
            name = "UTF8LMTP" if self.smtputf8 else "LMTP"
        else:
            name = "UTF8SMTP" if self.smtputf8 else "ESMTP"
        return name + ("" if self.tls is None else "S") + ("" if self.identity is None else "A")

    def refuse(self, index: int, refusal: Refusal) -> None:
        """Answers the recipient at `index` with `refusal`, whatever the others get. RFC 2033 section 4.2.

        Raises LocalProtocolError outside LMTP, where one reply is for all, and for an index that no recipient has.
        """
        if not isinstance(self.hello, Lhlo) or not 0 <= index < len(self.rcpts):
            raise LocalProtocolError("only LMTP answers each recipient, and only those that were accepted")
        self.refusals[index] = refusal.reply.relayed()


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
    wire: WireRules | None = None,
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
        wire=wire,
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
        asked = session.listener.asked.accept_any
        accept_any = self.accept_any if asked is None else asked
        async for event in session:
            match event:
                case Rcpt(recipient):
                    if accept_any or any(recipient.within(domain) for domain in self.domains):
                        session.accept()
                    else:
                        session.reply(_NOT_HERE)
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
            id=f"{time.time_ns() // 1000:x}{secrets.token_hex(4)}",
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
        reply = Reply(250, f"Message accepted as {message.id}", enhanced="2.0.0")
        failure: Exception | None = None
        with session.budget() as scope:
            try:
                await self.on_message(message)
            except Exception as error:
                failure = _unwrap(error)
                reply = failure.reply.relayed() if isinstance(failure, Refusal) else LOCAL_ERROR
        body.expire()
        if scope.cancelled_caught:
            if not session.killed:
                logger.error("message %s: on_message took too long and was cancelled", message.id)
            return LOCAL_ERROR if body.complete else None
        expected = isinstance(failure, Refusal) or (body.broken and isinstance(failure, IncompleteMessage))
        if failure is not None and not expected:
            logger.error("message %s: on_message failed", message.id, exc_info=failure)
        if body.broken:
            return None
        if not body.complete and reply.code // 100 != 2:
            return reply if session.refuse(reply) else None
        await body.skip()
        return reply if body.complete and self.say(session, message, reply) else None

    def say(self, session: Session, message: Message, reply: Reply) -> bool:
        """Gives the verdict; in LMTP one for each recipient, in order."""
        if not isinstance(message.hello, Lhlo):
            return session.reply(reply)
        said = True
        for index in range(len(message.rcpts)):
            said = said and session.reply(message.refusals.get(index, reply))
        return said


def _unwrap(error: Exception) -> Exception:
    """What a task group has wrapped, if that is one exception."""
    wrapped: tuple[Exception, ...] = getattr(error, "exceptions", ())  # of an ExceptionGroup
    return _unwrap(wrapped[0]) if len(wrapped) == 1 else error
