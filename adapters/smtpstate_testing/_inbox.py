"""SmtpServer: a real server in a thread, for code that sends mail; what arrives is in its inbox."""

from __future__ import annotations

import email
import email.policy
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, final

from smtpstate import Limits
from smtpstate_testing._conversation import rendered

if TYPE_CHECKING:
    from email.message import EmailMessage
    from ssl import SSLContext
    from types import TracebackType

    from smtpstate import TlsInfo
    from smtpstate.trace import TraceRecord
    from smtpstate_anyio import Message

# A test that forgets to close its connection should not have to wait for its end.
_LIMITS: Final = Limits(linger_seconds=0.1)
_GRACE: Final = 0.1

# What was said in the session whose task this is.
_said: Final[ContextVar[list[TraceRecord]]] = ContextVar("_said")


def _own_context(host: str) -> SSLContext:
    from smtpstate_testing._certificates import server_context

    return server_context(host)


@final
@dataclass(frozen=True)
class ReceivedMessage:
    """One message as it arrived. `sender` is "" for the null reverse-path; `data` has CRLF and no stuffing dots.

    `hello` is what the client called itself in EHLO or HELO. `transcript` is what was said in the session up to here.
    """

    sender: str
    recipients: tuple[str, ...]
    data: bytes = field(repr=False)
    hello: str
    tls: TlsInfo | None = None
    transcript: str = field(default="", repr=False, compare=False)

    @cached_property
    def message(self) -> EmailMessage:
        """`data`, parsed by the standard library with `email.policy.default`."""
        return email.message_from_bytes(self.data, policy=email.policy.default)


@final
class SmtpServer:
    """A server that takes all mail to anybody and keeps it in `inbox`. Listens while it is entered as a context.

    A message is in `inbox` before its client is told so. With `tls`, a server's SSLContext, it offers STARTTLS, or
    begins with TLS if `implicit_tls`; True makes a certificate for loopback, which `client_context` trusts. It runs in
    a thread of its own, so the test may be of any kind. Raises OSError when it cannot listen; what goes wrong later is
    raised when the context is left.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        hostname: str = "mx.example.org",
        tls: SSLContext | bool | None = None,
        implicit_tls: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.host: Final = host
        self.port: int = 0  # the real one, once it listens
        self.inbox: Final[list[ReceivedMessage]] = []
        self._hostname: Final = hostname
        self._tls: Final = _own_context(host) if tls is True else tls or None
        self._implicit_tls: Final = implicit_tls
        self._limits: Final = limits or _LIMITS
        self._stack: Final = ExitStack()

    @property
    def client_context(self) -> SSLContext:
        """A client's SSLContext that trusts a server made with `tls=True`, and checks its name."""
        from smtpstate_testing._certificates import client_context

        return client_context()

    def __enter__(self) -> SmtpServer:
        from anyio import Event
        from anyio.from_thread import start_blocking_portal

        from smtpstate_anyio import Listener, serve_messages
        from smtpstate_testing._traced import Tracing

        listener = Listener(self.host, 0, "implicit" if self._implicit_tls else None)
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stop = portal.call(Event)
            serving, [bound, *_] = portal.start_task(
                partial(
                    serve_messages,
                    self._keep,
                    listener,
                    hostname=self._hostname,
                    accept_any=True,
                    tls=self._tls,
                    limits=self._limits,
                    stop=stop,
                    grace=_GRACE,
                    observer=Tracing(_said),
                )
            )
            stack.callback(serving.result)
            stack.callback(portal.call, stop.set)
            self.port = bound.port
            self._stack.push(stack.pop_all())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    async def _keep(self, message: Message) -> None:
        pieces = [piece async for piece in message.body]
        self.inbox.append(
            ReceivedMessage(
                sender=message.sender.address,
                recipients=tuple(recipient.address for recipient in message.recipients),
                data=b"".join(pieces),
                hello=message.hello.domain if message.hello is not None else "",
                tls=message.tls,
                transcript=rendered(_said.get()),
            )
        )
