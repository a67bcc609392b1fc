"""serve: listeners, one task for each session, and the drain."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
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

from smtpstate import CloseReason, ConnectionClosed, Flow, Limits, Peer, ServerConfig, ServerConnection
from smtpstate import tls as tls_layer
from smtpstate._config import OFFERS
from smtpstate.policy import MX, WireRules
from smtpstate.proxy import ProxyHeader, ProxyReader, trusted
from smtpstate_anyio._auth import Authenticator
from smtpstate_anyio._driver import Driver
from smtpstate_anyio._gate import Gate, Limit, StressChanged
from smtpstate_anyio._listen import close_listeners, internet_address, open_listeners
from smtpstate_anyio._observer import traces
from smtpstate_anyio._session import Session, logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from ssl import SSLContext

    from anyio.abc import SocketStream, TaskGroup, TaskStatus

    from smtpstate import ServerEvent, TraceLine
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy
    from smtpstate.proxy import ProxyEvent
    from smtpstate_anyio._auth import Users
    from smtpstate_anyio._driver import Machine
    from smtpstate_anyio._gate import Admission, Notice, Ticket
    from smtpstate_anyio._listen import BoundListener, Listener, ListenerProxy, Opened
    from smtpstate_anyio._observer import Observer

# Out of descriptors or memory: accepting again at once would only burn the processor.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_EXHAUSTED_SECONDS: Final = 0.2
_MAPPED: Final = "::ffff:"  # how an IPv4 peer looks on a socket that takes both families


async def serve(
    handler: Callable[[Session], Awaitable[None]],
    *listen: str | Listener,
    hostname: str,
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
    """Runs `handler` for every connection until it is cancelled or `stop` is set; then drains.

    `listen` holds HOST:PORT strings or `Listener`s; with `tls` the strings offer STARTTLS. With `users`, AUTH is
    offered inside TLS, and answered for the handler: `Session.identity` is who it was. `policy` says what becomes of
    command lines that break the grammar, and `wire` what becomes of bare newlines. `task_status` gets the addresses
    once they are bound. To drain is to stop listening, to tell idle sessions 421, to let the others finish their
    message for `grace` seconds, and to tell the rest 421. `offers` are EHLO keywords beside the usual ones, as
    "SMTPUTF8", and `extensions` those of your own: what they promise is for the handler to keep. `gate` says how many
    may come in at once, and tells how many there are; a `Gate` serves one server at a time. Raises OSError when an
    address cannot be bound, ValueError when one makes no sense, LocalProtocolError for an offer that cannot be made.
    """
    authenticator = users if isinstance(users, Authenticator) or users is None else Authenticator(users)
    limits = limits or Limits()
    wire = wire or WireRules()
    server = _Server(handler, hostname, tls, authenticator, limits, policy, wire, observer, offers, extensions, gate)
    await server.run(listen, stop, grace, task_status)


@final
class _Server:
    def __init__(
        self,
        handler: Callable[[Session], Awaitable[None]],
        hostname: str,
        tls: SSLContext | None,
        authenticator: Authenticator | None,
        limits: Limits,
        policy: Policy,
        wire: WireRules,
        observer: Observer | None,
        offers: Iterable[str],
        extensions: tuple[Extension, ...],
        gate: Gate | Admission | None,
    ) -> None:
        self.handler: Final = handler
        self.tls: Final = tls
        self.authenticator: Final = authenticator
        self.limits: Final = limits
        self.observer: Final = observer
        self.gate: Final = gate if isinstance(gate, Gate) else Gate(gate)
        mechanisms = () if authenticator is None else authenticator.mechanisms
        self.config: Final = ServerConfig(
            hostname,
            limits,
            offers=OFFERS.union(offers),
            mechanisms=mechanisms,
            extensions=extensions,
            policy=policy,
            wire=wire,
        )
        self.configs: Final[dict[tuple[BoundListener, frozenset[str]], ServerConfig]] = {}
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
        if self.authenticator is None and any(
            not isinstance(one, str) and one.service == "submission" for one in listen
        ):
            raise ValueError("a submission listener needs users")
        opened = await open_listeners(listen, has_tls=self.tls is not None)
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
        if not isinstance(notice, StressChanged):
            logger.warning("%s", notice)
            return
        logger.log(logging.WARNING if notice.stress else logging.INFO, "%s", notice)
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
        with move_on_after(self.limits.linger_seconds + 1.0):
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
                if isinstance(cause, OSError) and cause.errno in _EXHAUSTED:
                    if not complained:
                        logger.error("no connection can be accepted on %s: %s", opened.bound.address, cause)
                        complained = True
                    await sleep(_EXHAUSTED_SECONDS)
                continue
            complained = False
            self._enter(sessions, stream, opened.bound)

    def _enter(self, sessions: TaskGroup, stream: SocketStream, listener: BoundListener) -> None:
        """A connection was accepted: a session, the header of a proxy first, or 421."""
        peer, proxy, ticket = _peer(stream), listener.asked.proxy, self.gate.enter()
        if ticket is None:
            tells = proxy is None or _is_trusted(peer, proxy)
            sessions.start_soon(self._turn_away, stream, listener, Limit.CONNECTIONS if tells else None)
        elif proxy is None:
            # Whom XCLIENT will name has a share, not the front end that connects for all of them.
            vouched = listener.asked.vouched(peer)
            self._start(sessions, stream, listener, peer, ticket, claims="XCLIENT" not in vouched)
        else:
            sessions.start_soon(self._behind_proxy, sessions, stream, listener, proxy, ticket)

    def _start(
        self,
        sessions: TaskGroup,
        stream: SocketStream,
        listener: BoundListener,
        peer: Peer | None,
        ticket: Ticket,
        early: bytes = b"",
        *,
        claims: bool = True,
    ) -> None:
        """A session, or 421 where the share of `peer` is used up. `early` is what was read already."""
        full = ticket.claim(peer.address) if claims and peer is not None else None
        if full is not None:
            ticket.leave()
            sessions.start_soon(self._turn_away, stream, listener, full)
            return
        session = self._session(stream, listener, peer, early, ticket)
        session.under_stress(self.gate.stress)
        self.sessions.add(session)
        sessions.start_soon(self._serve, session, stream, ticket)

    async def _turn_away(self, stream: SocketStream, listener: BoundListener, full: Limit | None) -> None:
        """421 in place of a greeting, and no more than that.

        Nothing at all is said to whom nothing may be said (None), inside TLS, which would need a handshake first, and
        while too many are being told already.
        """
        says = full is not None and listener.tls != "implicit" and self.gate.begin_refusal()
        try:
            if full is not None and says:
                connection = ServerConnection(self._config(listener, frozenset()), clock=current_time)
                connection.close(full.value)
                driver: Driver[ServerEvent] = Driver(connection, stream)
                while isinstance(flow := driver.poll(), Flow):
                    await driver.move(flow)
        finally:
            if says:
                self.gate.end_refusal()
            with CancelScope(shield=True):
                await stream.aclose()

    async def _behind_proxy(
        self,
        sessions: TaskGroup,
        stream: SocketStream,
        listener: BoundListener,
        proxy: ListenerProxy,
        ticket: Ticket,
    ) -> None:
        """A session with whom the header names, or no session. A drain does not wait for a header."""
        started = False
        try:
            reader = ProxyReader(proxy.version, clock=current_time, seconds=proxy.seconds)
            header = await _header(reader, stream, listener, proxy)
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
            _complain(session)
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

        def trace(line: TraceLine) -> None:
            if self.observer is not None and session is not None:
                self.observer.trace(session, line)

        vouched = listener.asked.vouched(peer)  # nothing behind a proxy, where `peer` is not who connected
        connection = ServerConnection(
            self._config(listener, vouched),
            clock=current_time,
            peer=peer,
            implicit_tls=listener.tls == "implicit",
            trusted=bool(vouched),
            trace=trace if traces(self.observer) else None,
        )
        machine: Machine[ServerEvent] = connection
        if self.tls is not None and listener.tls != "plain":
            certificate = None if self.authenticator is None else self.authenticator.certificate
            machine = tls_layer.secure(connection, self.tls, certificate=certificate)
        machine.receive_data(early)
        exchange = None if self.authenticator is None else self.authenticator.exchange()
        session = Session(connection, Driver(machine, stream), listener, exchange, ticket)
        return session

    def _config(self, listener: BoundListener, vouched: frozenset[str]) -> ServerConfig:
        """What is said there, to whom may say that much for others; made once for each."""
        config = self.configs.get((listener, vouched))
        if config is None:
            submission = listener.asked.service == "submission"
            config = self.configs[listener, vouched] = replace(
                self.config,
                offers=self.config.offers | vouched,
                starttls=listener.tls == "starttls",
                lmtp=listener.asked.service == "lmtp",
                requires_tls=submission,
                requires_auth=submission,
            )
        return config


def _complain(session: Session) -> None:
    """Logs what a session was ended for, where the core has kept it."""
    closed = session.closed
    if closed is not None and closed.violation is not None and closed.evidence:
        # repr() escapes all that is not printable ASCII: no line of a log is made by a client.
        logger.warning("session %s: %s from %s: %r", session.id, closed.violation.name, session.peer, closed.evidence)


def _is_trusted(sender: Peer | None, proxy: ListenerProxy) -> bool:
    """Whether whoever connected may say who the client is."""
    return sender is not None and trusted(sender.address, proxy.trusted)


async def _header(
    reader: ProxyReader, stream: SocketStream, listener: BoundListener, proxy: ListenerProxy
) -> ProxyHeader | None:
    """The header of a connection from somebody who is trusted; None when it is to be closed, and the log says why."""
    sender = _peer(stream)
    if not _is_trusted(sender, proxy):
        logger.info("%s: %s was cut off, for it is no trusted proxy", listener.address, sender)
        return None
    driver: Driver[ProxyEvent] = Driver(reader, stream)
    while isinstance(event := driver.poll(), Flow):
        await driver.move(event)
    if isinstance(event, ProxyHeader):
        return event
    # A balancer that only looks whether somebody listens says nothing and goes; many do so every few seconds.
    level = logging.DEBUG if event.reason in (CloseReason.EOF, CloseReason.LOST) else logging.INFO
    why = event.reason.value if reader.fault is None else reader.fault.value
    logger.log(level, "%s: no PROXY header from %s: %s", listener.address, sender, why)
    return None


def _peer(stream: SocketStream) -> Peer | None:
    try:
        address, port = internet_address(stream.extra(SocketAttribute.remote_address))
    except (OSError, TypedAttributeLookupError):
        return None  # gone already
    return Peer(address.removeprefix(_MAPPED) if "." in address else address, port)
