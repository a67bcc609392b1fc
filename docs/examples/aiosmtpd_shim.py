"""For handlers that were written for aiosmtpd: a Controller that runs them on smtpstate. Copy it, and then outgrow it.

docs/coming-from.md says what is the same, and what is not.
"""

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import assert_never

import anyio
from anyio.from_thread import start_blocking_portal

from smtpstate import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Body,
    CommandRefused,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    EnhancedCode,
    Expn,
    Helo,
    Help,
    Lhlo,
    Limits,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reply,
    Rset,
    ServerEvent,
    StartTls,
    TlsInfo,
    TransactionReset,
    Vrfy,
)
from smtpstate.extensions import Extension, OwnCommand, XClient, XForward
from smtpstate_anyio import Listener, Users, serve
from smtpstate_anyio import Session as Conversation

Hook = Callable[..., Awaitable[object]]

logger = logging.getLogger(__name__)
FAILED = Reply(451, "Local error in processing", enhanced="4.3.0")
STATUS = re.compile(r"([2-5][0-5][0-9])(?:[ -](.*))?")


class Envelope:
    """What is known of the message that is under way. Hooks may give it attributes of their own."""

    def __init__(self) -> None:
        self.mail_from: str | None = None
        self.mail_options: list[str] = []
        self.rcpt_tos: list[str] = []
        self.rcpt_options: list[str] = []
        self.smtp_utf8 = False
        self.content: bytes | str | None = None
        self.original_content: bytes | None = None


class Session:
    """What is known of the client. Hooks may give it attributes of their own."""

    def __init__(self, conversation: Conversation) -> None:
        peer = conversation.peer
        self.peer = None if peer is None else (peer.address, peer.port)
        self.host_name: str | None = None
        self.extended_smtp = False
        self.loop = asyncio.get_running_loop()
        self._conversation = conversation

    @property
    def ssl(self) -> TlsInfo | None:
        """What TLS agreed on; None in clear text."""
        return self._conversation.tls

    @property
    def auth_data(self) -> str | None:
        """Who AUTH said it is."""
        return self._conversation.identity

    @property
    def authenticated(self) -> bool | None:
        return None if self.auth_data is None else True


class Server:
    """What hooks get as their first argument."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname


class Controller:
    """Runs `handler` in a thread, from `start()` to `stop()`, or as a context. `port` 0 takes a free one.

    `tls_context` offers STARTTLS, `ssl_context` begins with TLS; `users` are those of `serve`. `start()` raises what
    keeps it from listening.
    """

    def __init__(
        self,
        handler: object,
        hostname: str = "127.0.0.1",
        port: int = 8025,
        *,
        server_hostname: str = "localhost",
        data_size_limit: int = 33_554_432,
        timeout: float = 300,
        decode_data: bool = False,
        enable_SMTPUTF8: bool = True,
        tls_context: SSLContext | None = None,
        ssl_context: SSLContext | None = None,
        users: Users | None = None,
        extensions: tuple[Extension, ...] = (),
    ) -> None:
        self.handler = handler
        self.hostname = hostname
        self.port = port
        self.server = Server(server_hostname)
        self.decode_data = decode_data
        self._serve = partial(
            serve,
            self._converse,
            Listener(hostname, port, None if ssl_context is None else "implicit"),
            hostname=server_hostname,
            tls=tls_context or ssl_context,
            users=users,
            limits=Limits(message=data_size_limit, command_seconds=timeout),
            offers=("SMTPUTF8",) if enable_SMTPUTF8 else (),
            extensions=extensions,
            asks_vrfy=hasattr(handler, "handle_VRFY"),
            grace=1,
        )
        self._stack = ExitStack()

    def start(self) -> None:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            stop = portal.call(anyio.Event)
            serving, [bound] = portal.start_task(partial(self._serve, stop=stop))
            stack.callback(serving.result)
            stack.callback(portal.call, stop.set)
            self.port = bound.port
            self._stack.push(stack.pop_all())

    def stop(self) -> None:
        """Says 421 to who is idle, and waits a second for messages that are under way."""
        self._stack.close()

    def __enter__(self) -> "Controller":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def _converse(self, conversation: Conversation) -> None:
        dialogue = _Dialogue(self, conversation)
        async for event in conversation:
            try:
                await dialogue.on_event(event)
            except Exception as error:
                await dialogue.on_error(error)


class _Dialogue:
    """One connection: each event to the hook that is named after it."""

    def __init__(self, controller: Controller, conversation: Conversation) -> None:
        self.handler = controller.handler
        self.server = controller.server
        self.decode_data = controller.decode_data
        self.conversation = conversation
        self.session = Session(conversation)
        self.envelope = Envelope()
        self.pieces: list[bytes] = []

    async def on_event(self, event: ServerEvent) -> None:
        envelope = self.envelope
        match event:
            case Ehlo(domain) | Lhlo(domain):
                self.hello(domain)
                self.session.extended_smtp = True
                await self.ehlo(domain)
            case Helo(domain):
                self.hello(domain)
                self.answer(await self.call("HELO", domain))
            case Mail():
                address, options = event.reverse_path.address or "<>", spelled(event.parameters)
                envelope.smtp_utf8 = event.smtputf8
                status = await self.call("MAIL", address, options)
                if self.answer(status).code // 100 != 2:
                    self.forget()
                elif envelope.mail_from is None:  # nobody has to remember it
                    envelope.mail_from = address
                if status is None:
                    envelope.mail_options += options
            case Rcpt():
                options, before = spelled(event.parameters), len(envelope.rcpt_tos)
                status = await self.call("RCPT", event.recipient.address, options)
                reply = self.answer(status)
                if reply.code // 100 == 2 and len(envelope.rcpt_tos) == before:
                    envelope.rcpt_tos.append(event.recipient.address)
                if status is None:
                    envelope.rcpt_options += options
            case Body(data):
                self.pieces.append(data)  # no more of them than data_size_limit allows
            case EndOfMessage():
                content = b"".join(self.pieces)
                envelope.original_content = content
                envelope.content = content.decode("utf-8", "surrogateescape") if self.decode_data else content
                self.forget()
                self.answer(await self.call("DATA", of=envelope))
            case TransactionReset():
                self.forget()
            case Vrfy(text):
                status = await self.call("VRFY", text)
                if status is not None:  # else nothing is owed
                    self.answer(status)
            case Noop(text):
                await self.call("NOOP", text or None)  # answered already, as all that follows
            case Rset():
                await self.call("RSET")
            case Quit():
                await self.call("QUIT")
            case Connected() | Data() | Bdat() | StartTls() | Expn() | Help() | CommandRefused() | ConnectionClosed():
                pass  # there is no hook for it; silence is right
            case Auth() | AuthResponse() | AuthCancel() | XClient() | XForward() | OwnCommand():
                pass  # `users` answer AUTH; nobody is trusted with the others
            case _:
                assert_never(event)

    def hello(self, domain: str) -> None:
        self.session.host_name = domain  # nobody has to remember it
        self.forget()

    async def ehlo(self, domain: str) -> None:
        hook = self.hook("EHLO")
        if hook is None:
            self.conversation.accept()
        elif len(inspect.signature(hook).parameters) < 5:
            self.answer(await self.call("EHLO", domain))
        else:
            connection = self.conversation.connection
            offers = connection.config.capabilities(secure=connection.tls is not None, mechanisms=connection.mechanisms)
            planned = [f"250-{line}" for line in (self.server.hostname, *offers.format())] + ["250 HELP"]
            said = await hook(self.server, self.session, self.envelope, domain, list(planned))
            match said:
                case [str(line)]:
                    self.answer(line)  # a refusal
                case _ if said == planned:
                    self.conversation.accept()
                case _:  # a keyword is a promise; the core keeps those that it knows of
                    raise TypeError("handle_EHLO cannot change what is offered: give Controller its extensions")

    def hook(self, name: str) -> Hook | None:
        found: Hook | None = getattr(self.handler, f"handle_{name}", None)
        return found

    async def call(self, name: str, *arguments: object, of: Envelope | None = None) -> str | None:
        """What the hook says; None where there is none."""
        hook = self.hook(name)
        if hook is None:
            return None
        status = await hook(self.server, self.session, of or self.envelope, *arguments)
        if not isinstance(status, str):
            raise TypeError(f"handle_{name} has to return a status, not {status!r}")
        return status

    def answer(self, status: str | None) -> Reply:
        """Says what the hook said, and yes where there is none: whoever has no handle_RCPT takes mail for anybody."""
        reply = Reply(250) if status is None else reply_of(status)
        if status is None or (isinstance(self.conversation.owed, Ehlo | Helo | Lhlo) and reply.code == 250):
            self.conversation.accept()
        else:
            self.conversation.reply(reply)
        return reply

    async def on_error(self, error: Exception) -> None:
        """A hook failed, or said what cannot be said: handle_exception has the word."""
        reply = FAILED
        try:
            hook: Callable[[Exception], object] | None = getattr(self.handler, "handle_exception", None)
            status = None if hook is None else hook(error)
            if inspect.isawaitable(status):  # documented is a function; a coroutine works, too
                status = await status
            if isinstance(status, str):
                reply = reply_of(status)
        except Exception as another:
            error = another
        if reply is FAILED:
            logger.error("session %s: a hook failed", self.conversation.id, exc_info=error)
        if self.conversation.owed is not None:
            self.conversation.reply(reply)

    def forget(self) -> None:
        self.envelope = Envelope()
        self.pieces = []


def spelled(parameters: tuple[tuple[str, str | None], ...]) -> list[str]:
    return [keyword if value is None else f"{keyword}={value}" for keyword, value in parameters]


def reply_of(status: str) -> Reply:
    """The reply in a status line, or in several. Raises ValueError."""
    code, texts = "", list[str]()
    for line in status.splitlines():
        match = STATUS.fullmatch(line)
        if match is None or (texts and match[1] != code):
            raise ValueError(f"not a status: {status!r}")
        code = match[1]
        texts.append(match[2] or "")
    if not texts:
        raise ValueError("an empty status")
    first, _, rest = texts[0].partition(" ")
    enhanced = EnhancedCode.parse(first)
    if enhanced is None or enhanced.class_ != int(code) // 100:
        return Reply(int(code), *texts)
    return Reply(int(code), rest, *(text.removeprefix(f"{first} ") for text in texts[1:]), enhanced=enhanced)
