"""Server: who is in, who may not come in, and the drain."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

from smtpstate import Flow
from smtpstate_asyncio._driver import Driver
from smtpstate_asyncio._listen import peer_of
from smtpstate_asyncio._running import Runner
from smtpstate_asyncio._session import Session
from smtpstate_parts.gate import Limit, StressChanged
from smtpstate_parts.observer import traces
from smtpstate_parts.seat import logger
from smtpstate_parts.setup import Setup, log_notice, may_be_proxy, proxy_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate import ConnectionClosed, Peer, ServerConnection, ServerEvent
    from smtpstate.proxy import ProxyEvent, ProxyReader
    from smtpstate.trace import TraceRecord
    from smtpstate_asyncio._auth import Authenticator
    from smtpstate_asyncio._observer import Observer
    from smtpstate_asyncio._session import Handler, OnEvent
    from smtpstate_parts.gate import Notice, Ticket
    from smtpstate_parts.listen import BoundListener
    from smtpstate_parts.machine import Machine

_Event = TypeVar("_Event")


@final
class Server:
    """Who is in, and what all have in common."""

    def __init__(
        self,
        setup: Setup,
        authenticator: Authenticator | None,
        observer: Observer | None,
        *,
        handler: Handler | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.setup: Final = setup
        self.authenticator: Final = authenticator
        self.observer: Final = observer
        self.runner: Final = Runner()
        self.sessions: Final[set[Session]] = set()
        self.draining: bool = False
        self._handler: Final = handler
        self._on_event: Final = on_event
        self._unready: Final[set[_Prelude[ServerEvent] | _Prelude[ProxyEvent]]] = set()  # has no session yet, or ever
        self._empty: Final = asyncio.Event()  # no session is left
        self._empty.set()

    def open(self) -> None:
        """From now on connections may come."""
        self.setup.gate.watch(self._heed)

    def at(self, listener: BoundListener) -> Callable[[], asyncio.Protocol]:
        """What makes the protocols of the connections that come in there."""
        return lambda: _Door(self, listener)

    async def drain(self, grace: float) -> None:
        """Nobody is let in any more; at the end nobody is in."""
        self.draining = True
        try:
            for session in [*self.sessions]:
                session.drain()
            if not await self._is_empty(grace):
                for session in [*self.sessions]:
                    session.kill()
                await self._is_empty(self.setup.limits.linger_seconds + 1.0)
        finally:
            for one in (*self.sessions, *self._unready):
                one.driver.abort()
            self.runner.close()
            with suppress(ValueError):  # it was drained before, or never open
                self.setup.gate.unwatch(self._heed)
            await asyncio.sleep(0)  # the event loop closes what was aborted

    async def _is_empty(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        return not self.sessions

    def _heed(self, notice: Notice) -> None:
        """The gate has something to say."""
        log_notice(notice)
        if isinstance(notice, StressChanged):
            for session in self.sessions:
                session.under_stress(notice.stress)

    # For the door.

    def enter(self, transport: asyncio.Transport, listener: BoundListener) -> None:
        """A connection was accepted: a session, the header of a proxy first, or 421."""
        if self.draining:
            transport.abort()
            return
        peer, proxy, ticket = peer_of(transport), listener.asked.proxy, self.setup.gate.enter()
        if ticket is None:
            full = Limit.CONNECTIONS if self.setup.hears(listener, peer) else None
            self._turn_away(transport, listener, full)
        elif proxy is None:
            self._start(transport, listener, peer, ticket)
        elif not may_be_proxy(listener, peer, proxy):
            ticket.leave()
            transport.abort()
        else:
            self._behind_proxy(transport, listener, peer, ticket, self.setup.proxy_reader(proxy))

    def _start(
        self,
        transport: asyncio.Transport,
        listener: BoundListener,
        peer: Peer | None,
        ticket: Ticket,
        early: bytes = b"",
    ) -> None:
        """A session, or 421 where the share of `peer` is used up. `early` is what was read already."""
        full = self.setup.claim(ticket, listener, peer)
        if full is not None:
            ticket.leave()
            self._turn_away(transport, listener, full)
            return
        session = self._session(listener, peer, early, ticket)
        session.under_stress(self.setup.gate.stress)
        self.sessions.add(session)
        self._empty.clear()
        _hand_over(transport, session.driver)

    def _turn_away(self, transport: asyncio.Transport, listener: BoundListener, full: Limit | None) -> None:
        """421 in place of a greeting, and no more than that."""
        connection = self.setup.refusal(listener, full)
        if connection is None:
            transport.abort()
            return

        def ended(_: object) -> None:
            prelude.driver.close()

        def gone() -> None:
            self._unready.discard(prelude)
            self.setup.gate.end_refusal()

        prelude: _Prelude[ServerEvent] = _Prelude(connection, ended, gone)
        self._unready.add(prelude)
        _hand_over(transport, prelude.driver)

    def _behind_proxy(
        self,
        transport: asyncio.Transport,
        listener: BoundListener,
        sender: Peer | None,
        ticket: Ticket,
        reader: ProxyReader,
    ) -> None:
        """A session with whom the header names, or no session. A drain does not wait for a header."""

        def ended(event: ProxyEvent) -> None:
            header = proxy_header(listener, sender, reader, event)
            if header is None or self.draining:
                prelude.driver.close()
                return
            self._unready.discard(prelude)
            self._start(transport, listener, header.source, ticket, reader.trailing_data)

        def gone() -> None:
            self._unready.discard(prelude)
            ticket.leave()

        prelude: _Prelude[ProxyEvent] = _Prelude(reader, ended, gone)
        self._unready.add(prelude)
        _hand_over(transport, prelude.driver)

    def _session(self, listener: BoundListener, peer: Peer | None, early: bytes, ticket: Ticket) -> Session:
        session: Session | None = None

        def trace(record: TraceRecord) -> None:
            if self.observer is not None and session is not None:
                self.observer.trace(session, record)

        connection: ServerConnection = self.setup.connection(listener, peer, trace if traces(self.observer) else None)
        machine = self.setup.machine(connection, listener, early)
        session = Session(
            connection, machine, listener, self, handler=self._handler, on_event=self._on_event, ticket=ticket
        )
        return session

    # For sessions.

    def opened(self, session: Session) -> None:
        """It is about to say its first word."""
        if self.observer is not None:
            self.observer.session_opened(session)

    def ended(self, session: Session, closed: ConnectionClosed) -> None:
        """All was said."""
        session.complain()
        if self.observer is not None:
            self.observer.session_closed(session, closed)

    def gone(self, session: Session) -> None:
        """Its transport is closed, and nobody is at it any more."""
        self.sessions.discard(session)
        session.leave()
        if not self.sessions:
            self._empty.set()
            self.runner.close()


def _hand_over(transport: asyncio.Transport, driver: asyncio.Protocol) -> None:
    """From now on the transport calls `driver`."""
    transport.set_protocol(driver)
    driver.connection_made(transport)


@final
class _Door(asyncio.Protocol):
    """The protocol of a connection until it is known who handles it."""

    def __init__(self, server: Server, listener: BoundListener) -> None:
        self._server: Final = server
        self._listener: Final = listener

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream has no other
        self._server.enter(transport, self._listener)


@final
class _Prelude(Generic[_Event]):
    """Runs a machine up to its first event."""

    def __init__(self, machine: Machine[_Event], ended: Callable[[_Event], None], gone: Callable[[], None]) -> None:
        self.driver: Final = Driver(machine, self)
        self._ended: Callable[[_Event], None] | None = ended
        self._gone: Final = gone

    def wake(self) -> None:
        ended, event = self._ended, self.driver.poll()
        while ended is not None and isinstance(event, Flow):
            if not self.driver.move(event):
                return
            event = self.driver.poll()
        if ended is not None and not isinstance(event, Flow):
            self._ended = None
            self.driver.rest()
            self.driver.arm(None)
            ended(event)

    def overdue(self) -> None:
        """It waits for the peer alone."""

    def failed(self, error: Exception) -> None:
        logger.error("a connection failed", exc_info=error)
        self.driver.abort()

    def gone(self) -> None:
        self._gone()
