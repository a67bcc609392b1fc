"""serve: listeners, one task for each session, and the drain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from anyio import (
    TASK_STATUS_IGNORED,
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    Event,
    TypedAttributeLookupError,
    create_task_group,
    current_time,
    move_on_after,
    sleep,
    sleep_forever,
)
from anyio.abc import SocketAttribute

from smtpstate import CloseReason, ConnectionClosed, Flow
from smtpstate.policy import MX
from smtpstate_anyio._auth import Authenticator
from smtpstate_anyio._driver import Driver
from smtpstate_anyio._listen import close_listeners, internet_address, open_listeners
from smtpstate_anyio._session import Session
from smtpstate_parts.gate import Limit, StressChanged
from smtpstate_parts.listen import EXHAUSTED, EXHAUSTED_SECONDS, asked_listeners, peer_at
from smtpstate_parts.observer import traces
from smtpstate_parts.seat import logger
from smtpstate_parts.setup import Setup, log_notice, may_be_proxy, proxy_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from ssl import SSLContext

    from anyio.abc import SocketStream, TaskGroup, TaskStatus

    from smtpstate import Limits, Peer, ServerEvent
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy, WireRules
    from smtpstate.proxy import ProxyEvent
    from smtpstate.trace import TraceRecord
    from smtpstate_anyio._auth import Users
    from smtpstate_anyio._listen import Opened
    from smtpstate_anyio._observer import Observer
    from smtpstate_parts.gate import Admission, Gate, Notice, Ticket
    from smtpstate_parts.listen import BoundListener, Listener, ListenerProxy


async def serve(
    handler: Callable[[Session], Awaitable[None]],
    *listen: str | Listener,
    hostname: str,
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
    asks_vrfy: bool = False,
    asks_expn: bool = False,
    gate: Gate | Admission | None = None,
    task_status: TaskStatus[list[BoundListener]] = TASK_STATUS_IGNORED,
) -> None:
    """Runs `handler` for every connection until it is cancelled or `stop` is set; then drains.

    `listen` holds HOST:PORT strings or `Listener`s; with `tls` the strings offer STARTTLS. Where `tls` makes contexts,
    each listener has its own, and a session can be resumed only where it began. With `server_names` a client has to ask
    for one of them in its handshake, where "*" for a first label is any. With `users`, AUTH is offered inside TLS, and
    answered for the handler: `Session.identity` is who it was. `policy` says what becomes of command lines that break
    the grammar, and `wire` what becomes of octets that break the rules whatever they say. `task_status` gets the
    addresses once they are bound. To drain is to stop listening, to tell idle sessions 421, to let the others finish
    their message for `grace` seconds, and to tell the rest 421. `offers` are EHLO keywords beside the usual ones, as
    "SMTPUTF8", and `extensions` those of your own: what they promise is for the handler to keep. With `asks_vrfy` and
    `asks_expn` the handler answers these, too. `gate` says how many may come in at once, and tells how many there are;
    a `Gate` serves one server at a time. Raises OSError when an address cannot be bound, ValueError when one makes no
    sense, LocalProtocolError for an offer that cannot be made, and what `tls` raises.
    """
    authenticator = users if isinstance(users, Authenticator) or users is None else Authenticator(users)
    setup = Setup(
        hostname,
        clock=current_time,
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
    await _Server(handler, setup, authenticator, observer).run(listen, stop, grace, task_status)


@final
class _Server:
    def __init__(
        self,
        handler: Callable[[Session], Awaitable[None]],
        setup: Setup,
        authenticator: Authenticator | None,
        observer: Observer | None,
    ) -> None:
        self.handler: Final = handler
        self.setup: Final = setup
        self.authenticator: Final = authenticator
        self.observer: Final = observer
        self.gate: Final = setup.gate
        self.sessions: Final[set[Session]] = set()
        self.draining: bool = False
        self.finished: Final = Event()

    async def run(
        self,
        listen: tuple[str | Listener, ...],
        stop: Event | None,
        grace: float,
        task_status: TaskStatus[list[BoundListener]],
    ) -> None:
        has_tls = self.setup.tls is not None
        asked = asked_listeners(listen, has_tls=has_tls, has_users=self.authenticator is not None)
        self.setup.prepare(asked)
        opened = await open_listeners(asked, has_tls=has_tls)
        self.gate.watch(self._heed)
        try:
            await self._run(opened, stop, grace, task_status)
        finally:
            self.gate.unwatch(self._heed)

    async def _run(
        self, opened: list[Opened], stop: Event | None, grace: float, task_status: TaskStatus[list[BoundListener]]
    ) -> None:
        async with create_task_group() as outer:
            # Sessions live in a shielded group beside the accept loops, so that cancelling us leaves them to the drain.
            sessions: TaskGroup = await outer.start(self._host)
            try:
                async with create_task_group() as accepting:
                    for item in opened:
                        accepting.start_soon(self._accept, item, sessions)
                    task_status.started([item.bound for item in opened])
                    await (sleep_forever() if stop is None else stop.wait())
                    accepting.cancel_scope.cancel()
            finally:
                with CancelScope(shield=True):
                    await close_listeners(opened)
                    await self._drain(grace)
                    sessions.cancel_scope.cancel()

    def _heed(self, notice: Notice) -> None:
        """The gate has something to say."""
        log_notice(notice)
        if isinstance(notice, StressChanged):
            for session in self.sessions:
                session.under_stress(notice.stress)

    async def _host(self, *, task_status: TaskStatus[TaskGroup]) -> None:
        with CancelScope(shield=True):
            async with create_task_group() as sessions:
                task_status.started(sessions)
                await sleep_forever()

    async def _drain(self, grace: float) -> None:
        self.draining = True
        if not self.sessions:
            return
        for session in self.sessions:
            session.drain()
        with move_on_after(grace):
            await self.finished.wait()
        for session in self.sessions:
            session.kill()
        with move_on_after(self.setup.limits.linger_seconds + 1.0):
            if self.sessions:
                await self.finished.wait()

    async def _accept(self, opened: Opened, sessions: TaskGroup) -> None:
        listener = opened.socket
        complained = False
        while True:
            try:
                stream = await listener.accept()
            except ClosedResourceError:
                return
            except (BrokenResourceError, OSError) as error:
                cause = error if isinstance(error, OSError) else error.__cause__
                if isinstance(cause, OSError) and cause.errno in EXHAUSTED:
                    if not complained:
                        logger.error("no connection can be accepted on %s: %s", opened.bound.address, cause)
                        complained = True
                    await sleep(EXHAUSTED_SECONDS)
                continue
            complained = False
            self._enter(sessions, stream, opened.bound)

    def _enter(self, sessions: TaskGroup, stream: SocketStream, listener: BoundListener) -> None:
        """A connection was accepted: a session, the header of a proxy first, or 421."""
        peer, proxy, ticket = _peer(stream), listener.asked.proxy, self.gate.enter()
        if ticket is None:
            full = Limit.CONNECTIONS if self.setup.hears(listener, peer) else None
            sessions.start_soon(self._turn_away, stream, listener, full)
        elif proxy is None:
            self._start(sessions, stream, listener, peer, ticket)
        else:
            sessions.start_soon(self._behind_proxy, sessions, stream, listener, proxy, peer, ticket)

    def _start(
        self,
        sessions: TaskGroup,
        stream: SocketStream,
        listener: BoundListener,
        peer: Peer | None,
        ticket: Ticket,
        early: bytes = b"",
    ) -> None:
        """A session, or 421 where the share of `peer` is used up. `early` is what was read already."""
        full = self.setup.claim(ticket, listener, peer)
        if full is not None:
            ticket.leave()
            sessions.start_soon(self._turn_away, stream, listener, full)
            return
        session = self._session(stream, listener, peer, early, ticket)
        session.under_stress(self.gate.stress)
        self.sessions.add(session)
        sessions.start_soon(self._serve, session, stream, ticket)

    async def _turn_away(self, stream: SocketStream, listener: BoundListener, full: Limit | None) -> None:
        """421 in place of a greeting, and no more than that."""
        connection = self.setup.refusal(listener, full)
        try:
            if connection is not None:
                driver: Driver[ServerEvent] = Driver(connection, stream)
                while isinstance(flow := driver.poll(), Flow):
                    await driver.move(flow)
        finally:
            if connection is not None:
                self.gate.end_refusal()
            with CancelScope(shield=True):
                await stream.aclose()

    async def _behind_proxy(
        self,
        sessions: TaskGroup,
        stream: SocketStream,
        listener: BoundListener,
        proxy: ListenerProxy,
        sender: Peer | None,
        ticket: Ticket,
    ) -> None:
        """A session with whom the header names, or no session. A drain does not wait for a header."""
        started = False
        try:
            if not may_be_proxy(listener, sender, proxy):
                return
            reader = self.setup.proxy_reader(proxy)
            driver: Driver[ProxyEvent] = Driver(reader, stream)
            while isinstance(event := driver.poll(), Flow):
                await driver.move(event)
            header = proxy_header(listener, sender, reader, event)
            if header is not None and not self.draining:
                self._start(sessions, stream, listener, header.source, ticket, reader.trailing_data)
                started = True
        finally:
            if not started:
                ticket.leave()
                with CancelScope(shield=True):
                    await stream.aclose()

    async def _serve(self, session: Session, stream: SocketStream, ticket: Ticket) -> None:
        try:
            if self.observer is not None:
                self.observer.session_opened(session)
            await session.run(self.handler)
            session.complain()
            if self.observer is not None:
                self.observer.session_closed(session, session.closed or ConnectionClosed(CloseReason.LOST))
        except Exception as error:
            logger.error("session %s failed", session.id, exc_info=error)
        finally:
            self.sessions.discard(session)
            ticket.leave()
            if self.draining and not self.sessions:
                self.finished.set()
            with CancelScope(shield=True):
                await stream.aclose()

    def _session(
        self, stream: SocketStream, listener: BoundListener, peer: Peer | None, early: bytes, ticket: Ticket
    ) -> Session:
        session: Session | None = None

        def trace(record: TraceRecord) -> None:
            if self.observer is not None and session is not None:
                self.observer.trace(session, record)

        connection = self.setup.connection(listener, peer, trace if traces(self.observer) else None)
        machine = self.setup.machine(connection, listener, early)
        session = Session(connection, Driver(machine, stream), listener, self.authenticator, ticket)
        return session


def _peer(stream: SocketStream) -> Peer | None:
    try:
        address, port = internet_address(stream.extra(SocketAttribute.remote_address))
    except (OSError, TypedAttributeLookupError):
        return None  # gone already
    return peer_at(address, port)
