"""serve_messages: a server for those who only want the messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from smtpstate import Bdat, Data, Rcpt
from smtpstate.policy import MX
from smtpstate_blocking._server import serve, serving
from smtpstate_parts.messages import Content, Incoming, IncompleteMessage, message_id, overdue, say, takes, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from ssl import SSLContext
    from threading import Event

    from smtpstate import Limits, Reply
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy, WireRules
    from smtpstate_blocking._auth import Authenticator, Users
    from smtpstate_blocking._observer import Observer
    from smtpstate_blocking._session import Session
    from smtpstate_parts.gate import Admission, Gate
    from smtpstate_parts.listen import BoundListener, Listener


@final
class MessageBody(Content, Iterator[bytes]):
    """The content, piece by piece as it arrives. It can be read once.

    It ends only when the whole message is there; else it raises IncompleteMessage. `octets` counts what was read, and
    `anomalies` names what was odd about it, once it has ended: bare newlines and NUL.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def __iter__(self) -> MessageBody:
        self.begin()
        return self

    def __next__(self) -> bytes:
        self.check()
        chunk = self._pull()
        if chunk is None:
            self.use_up()
            raise StopIteration
        return chunk

    def _pull(self) -> bytes | None:
        while not self.over:
            data = self.take(next(self._session, None))
            if data is not None:
                return data
        return None

    def skip(self) -> None:
        """Reads what nobody wanted; whether there is an end at all, `complete` tells."""
        with suppress(IncompleteMessage):
            while self._pull() is not None:
                pass


@final
@dataclass(frozen=True, slots=True)
class Message(Incoming[MessageBody]):
    """A message on its way in. `id` is unique, and fit for a file name.

    `mail` is the MAIL that opened it, and `rcpts` are the RCPTs that were accepted, in order: their parameters say what
    the client asked for, and `smtpstate.extensions` reads them. `forwarded` is what a trusted relay said of where it
    comes from: for the log, it decides nothing.
    """


def serve_messages(
    on_message: Callable[[Message], object],
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
    stop: Event | None = None,
    grace: float = 25.0,
    observer: Observer | None = None,
    offers: Iterable[str] = (),
    extensions: tuple[Extension, ...] = (),
    gate: Gate | Admission | None = None,
) -> None:
    """Calls `on_message` for every message to one of `domains`, or to anybody with `accept_any`; several at a time.

    Returning from it says 250, after the whole message is there; raising `Refusal` says that; any other exception says
    451 and leaves one log record. It may take `Limits.handler_seconds` between two pieces of the body and after it.
    Everything else is as in `serve`. A user may send to the same recipients as anybody: nothing is relayed. What
    `offers` and `extensions` let a client ask for is in `Message.mail` and `Message.rcpts`; a verb of your own needs a
    handler of `serve`, and is 451 here.
    """
    handler = _Messages(on_message, tuple(domains), observer, accept_any=accept_any)
    serve(
        handler.run,
        *listen,
        hostname=hostname,
        tls=tls,
        server_names=server_names,
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
    )


@contextmanager
def serving_messages(
    on_message: Callable[[Message], object],
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
) -> Generator[list[BoundListener], None, None]:
    """`serve_messages` for the time of a block, in threads beside it. Gives the addresses that it listens on."""
    handler = _Messages(on_message, tuple(domains), observer, accept_any=accept_any)
    with serving(
        handler.run,
        *listen,
        hostname=hostname,
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
    ) as bound:
        yield bound


@final
class _Messages:
    """The tier-2 handler behind `serve_messages`."""

    def __init__(
        self,
        on_message: Callable[[Message], object],
        domains: tuple[str, ...],
        observer: Observer | None,
        *,
        accept_any: bool,
    ) -> None:
        self.on_message = on_message
        self.domains = domains
        self.observer = observer
        self.accept_any = accept_any

    def run(self, session: Session) -> None:
        for event in session:
            match event:
                case Rcpt(recipient):
                    takes(session, recipient, self.domains, accept_any=self.accept_any)
                case Data() | Bdat():
                    self.message(session)
                case _:
                    pass  # the default verdicts are right

    def message(self, session: Session) -> None:
        transaction = session.transaction
        if transaction is None:
            return  # a first chunk that was refused already
        if session.owed is not None:
            session.accept()
            session.flush()  # nobody should wait for on_message to hear 354
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
        reply = self.answer(session, message)
        if self.observer is not None:
            self.observer.message_done(session, message, reply, message.body.octets)

    def answer(self, session: Session, message: Message) -> Reply | None:
        """Runs on_message and gives the verdict; None when nothing could be said."""
        body = message.body
        failure: Exception | None = None
        try:
            self.on_message(message)
        except Exception as error:
            failure = error
        body.expire()
        if session.overdue:
            return overdue(session, message, ended="its connection was closed")
        reply = verdict(message, failure)
        if body.broken:
            return None
        if not body.complete and reply.code // 100 != 2:
            return reply if session.refuse(reply) else None
        body.skip()
        return reply if body.complete and say(session, message, reply) else None
