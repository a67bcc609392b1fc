"""serve, serving and the protocol factory: a server, and what it listens on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, final

from smtpstate.policy import MX
from smtpstate_asyncio._auth import Authenticator
from smtpstate_asyncio._host import Server
from smtpstate_asyncio._listen import BACKLOG, open_listeners
from smtpstate_parts.listen import Listener, asked_listeners, bound_listener
from smtpstate_parts.setup import Setup

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from ssl import SSLContext

    from smtpstate import Limits
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy, WireRules
    from smtpstate_asyncio._auth import Users
    from smtpstate_asyncio._observer import Observer
    from smtpstate_asyncio._session import Handler, OnEvent, Session
    from smtpstate_parts.gate import Admission, Gate
    from smtpstate_parts.listen import BoundListener


async def serve(
    handler: Handler,
    *listen: str | Listener,
    hostname: str,
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
    asks_vrfy: bool = False,
    asks_expn: bool = False,
    gate: Gate | Admission | None = None,
) -> None:
    """Runs the coroutine `handler` for every connection until it is cancelled or `stop` is set; then drains.

    `listen` holds HOST:PORT strings or `Listener`s; with `tls` the strings offer STARTTLS. Where `tls` makes contexts,
    each listener has its own, and a session can be resumed only where it began. With `server_names` a client has to ask
    for one of them in its handshake, where "*" for a first label is any. With `users`, AUTH is offered inside TLS, and
    answered for the handler: `Session.identity` is who it was. `policy` says what becomes of command lines that break
    the grammar, and `wire` what becomes of octets that break the rules whatever they say. To drain is to stop
    listening, to tell idle sessions 421, to let the others finish their message for `grace` seconds, and to tell the
    rest 421; being cancelled a second time cuts it short. `offers` are EHLO keywords beside the usual ones, as
    "SMTPUTF8", and `extensions` those of your own: what they promise is for the handler to keep. With `asks_vrfy` and
    `asks_expn` the handler answers these, too. `gate` says how many may come in at once, and tells how many there are;
    a `Gate` serves one server at a time. Raises OSError when an address cannot be bound, ValueError when one makes no
    sense, LocalProtocolError for an offer that cannot be made, and what `tls` raises.
    """
    async with serving(
        handler,
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
        asks_vrfy=asks_vrfy,
        asks_expn=asks_expn,
        gate=gate,
    ):
        await run_until(stop)


@asynccontextmanager
async def serving(
    handler: Handler,
    *listen: str | Listener,
    hostname: str,
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
    asks_vrfy: bool = False,
    asks_expn: bool = False,
    gate: Gate | Admission | None = None,
) -> AsyncGenerator[list[BoundListener], None]:
    """`serve` for the time of a block. Gives the addresses that it listens on; drains at the end.

    Raises what `serve` does.
    """
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
        asks_vrfy=asks_vrfy,
        asks_expn=asks_expn,
        gate=gate,
        handler=handler,
    )
    async with serving_with(server, listen, grace) as bound:
        yield bound


def smtp_server_protocol(
    on_event: OnEvent,
    *,
    hostname: str,
    listener: Listener | None = None,
    tls: SSLContext | Callable[[], SSLContext] | None = None,
    server_names: Iterable[str] | None = None,
    users: Users | Authenticator | None = None,
    limits: Limits | None = None,
    policy: Policy = MX,
    wire: WireRules | None = None,
    observer: Observer | None = None,
    offers: Iterable[str] = (),
    extensions: tuple[Extension, ...] = (),
    asks_vrfy: bool = False,
    asks_expn: bool = False,
    gate: Gate | Admission | None = None,
) -> ProtocolFactory:
    """What `loop.create_server` takes: `on_event(session, event)` is called for every event of every connection.

    It may be a plain function, or a coroutine function, which has `Limits.handler_seconds` for each event and may
    iterate over `session` for those that follow. `listener` says what is special about where you listen, as TLS from
    the first octet; its host and port are for the log. Do not give `create_server` an `ssl` of its own. Everything else
    is as in `serve`, and raises what that does. Needs a running event loop. To end it well close your server, then
    `await factory.drain()`.
    """
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
        asks_vrfy=asks_vrfy,
        asks_expn=asks_expn,
        gate=gate,
        on_event=on_event,
    )
    return ProtocolFactory(server, listener)


def server_of(
    hostname: str,
    *,
    tls: SSLContext | Callable[[], SSLContext] | None,
    server_names: Iterable[str] | None,
    users: Users | Authenticator | None,
    limits: Limits | None,
    policy: Policy,
    wire: WireRules | None,
    observer: Observer | None,
    offers: Iterable[str],
    extensions: tuple[Extension, ...],
    gate: Gate | Admission | None,
    asks_vrfy: bool = False,
    asks_expn: bool = False,
    handler: Handler | None = None,
    on_event: OnEvent | None = None,
) -> Server:
    """One on the running loop; with a `handler` for each connection or `on_event` for each event of all."""
    authenticator = users if isinstance(users, Authenticator) or users is None else Authenticator(users)
    setup = Setup(
        hostname,
        clock=asyncio.get_running_loop().time,
        tls=tls,
        server_names=server_names,
        authenticator=authenticator,
        limits=limits,
        policy=policy,
        wire=wire,
        offers=offers,
        extensions=extensions,
        asks_vrfy=asks_vrfy,
        asks_expn=asks_expn,
        gate=gate,
    )
    return Server(setup, authenticator, observer, handler=handler, on_event=on_event)


async def run_until(stop: asyncio.Event | None) -> None:
    """Waits for `stop`; without one, until it is cancelled."""
    await (asyncio.Event() if stop is None else stop).wait()


@asynccontextmanager
async def serving_with(
    host: Server, listen: tuple[str | Listener, ...], grace: float
) -> AsyncGenerator[list[BoundListener], None]:
    """Listens for the time of a block, and drains at its end."""
    has_tls, has_users = host.setup.tls is not None, host.authenticator is not None
    servers: list[asyncio.Server] = []
    try:
        asked = asked_listeners(listen, has_tls=has_tls, has_users=has_users)
        host.setup.prepare(asked)
        opened = await open_listeners(asked, has_tls=has_tls)
        host.open()
        for bound, sock in opened:
            server = await asyncio.get_running_loop().create_server(host.at(bound), sock=sock, backlog=BACKLOG)
            servers.append(server)
        yield [bound for bound, _ in opened]
    finally:
        for server in servers:
            server.close()
        await host.drain(grace)


@final
class ProtocolFactory:
    """Makes the protocol of each connection, and knows all sessions. `smtp_server_protocol` makes one."""

    def __init__(self, server: Server, listener: Listener | None) -> None:
        has_tls = server.setup.tls is not None
        listener = listener or Listener("", 0)
        server.setup.prepare(asked_listeners([listener], has_tls=has_tls, has_users=server.authenticator is not None))
        self._server: Final = server
        self._make: Final = server.at(bound_listener(listener, listener.host, listener.port, has_tls=has_tls))
        server.open()

    def __call__(self) -> asyncio.Protocol:
        """The protocol of the next connection."""
        return self._make()

    @property
    def sessions(self) -> frozenset[Session]:
        """Those that there are now."""
        return frozenset(self._server.sessions)

    async def drain(self, grace: float = 25.0) -> None:
        """Tells idle sessions 421, lets the others finish their message for `grace` seconds, and tells the rest 421.

        From now on nobody is let in. To stop listening is for whoever began it. Whatever interrupts the drain, no
        connection is left.
        """
        await self._server.drain(grace)
