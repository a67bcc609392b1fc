"""serve and serving: listeners, one thread for each session, and the drain."""

from __future__ import annotations

import selectors
import socket
from collections import deque
from contextlib import contextmanager, suppress
from math import inf
from threading import Condition, Event, Lock, Thread, current_thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, final

from smtpstate import CloseReason, ConnectionClosed, Flow
from smtpstate.policy import MX
from smtpstate_blocking._auth import Authenticator
from smtpstate_blocking._bell import Bell
from smtpstate_blocking._driver import Driver
from smtpstate_blocking._listen import close_listeners, open_listeners, peer_of
from smtpstate_blocking._session import Session
from smtpstate_parts.gate import Admission, Limit, StressChanged
from smtpstate_parts.listen import EXHAUSTED, EXHAUSTED_SECONDS, asked_listeners
from smtpstate_parts.observer import traces
from smtpstate_parts.seat import logger
from smtpstate_parts.setup import Setup, log_notice, may_be_proxy, proxy_header

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from ssl import SSLContext

    from smtpstate import Limits, Peer, ServerConnection, ServerEvent
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy, WireRules
    from smtpstate.proxy import ProxyEvent
    from smtpstate.trace import TraceRecord
    from smtpstate_blocking._auth import Users
    from smtpstate_blocking._listen import Opened
    from smtpstate_blocking._observer import Observer
    from smtpstate_parts.gate import Gate, Notice, Ticket
    from smtpstate_parts.listen import BoundListener, Listener, ListenerProxy

# A connection costs a thread, and each one that is turned away does for a moment.
_ADMISSION: Final = Admission(connections=100, refusals=20)
_JOIN_SECONDS: Final = 1.0  # for threads that have nothing to do but end


def serve(
    handler: Callable[[Session], object],
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
) -> None:
    """Runs `handler` for every connection, in a thread of its own, until `stop` is set or an exception is raised here.

    Then it drains. KeyboardInterrupt is such an exception. `listen` holds HOST:PORT strings or `Listener`s; with `tls`
    the strings offer STARTTLS. Where `tls` makes contexts, each listener has its own, and a session can be resumed only
    where it began. With `server_names` a client has to ask for one of them in its handshake, where "*" for a first
    label is any. With `users`, AUTH is offered inside TLS, and answered for the handler: `Session.identity` is who it
    was. `policy` says what becomes of command lines that break the grammar, and `wire` what becomes of octets that
    break the rules whatever they say. To drain is to stop listening, to tell idle sessions 421, to let the others
    finish their message for `grace` seconds, and to tell the rest 421. `offers` are EHLO keywords beside the usual
    ones, as "SMTPUTF8", and `extensions` those of your own: what they promise is for the handler to keep. With
    `asks_vrfy` and `asks_expn` the handler answers these, too. `gate` says how many may come in at once, and so how
    many threads there are, and tells how many there are; a `Gate` serves one server at a time, and by default it is
    100. Raises OSError when an address cannot be bound, ValueError when one makes no sense, LocalProtocolError for an
    offer that cannot be made, and what `tls` raises.

    A handler that does not return cannot be stopped: see `Session`. `serve` leaves its thread behind, and says so in
    the log; it is a daemon, and does not keep the process.
    """
    stop = stop or Event()
    with serving(
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
        stop.wait()


@contextmanager
def serving(
    handler: Callable[[Session], object],
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
) -> Generator[list[BoundListener], None, None]:
    """`serve` for the time of a block, in threads beside it. Gives the addresses that it listens on; drains at the end.

    Raises what `serve` does.
    """
    authenticator = users if isinstance(users, Authenticator) or users is None else Authenticator(users)
    setup = Setup(
        hostname,
        clock=monotonic,
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
        gate=gate or _ADMISSION,
    )
    asked = asked_listeners(listen, has_tls=tls is not None, has_users=authenticator is not None)
    setup.prepare(asked)
    opened = open_listeners(asked, has_tls=tls is not None)
    server = _Server(handler, setup, authenticator, observer, opened)
    try:
        server.start()
        yield [item.bound for item in opened]
    finally:
        server.stop(grace)


@final
class _Server:
    """Its own thread accepts, keeps the handlers' time, and passes on when there is stress."""

    def __init__(
        self,
        handler: Callable[[Session], object],
        setup: Setup,
        authenticator: Authenticator | None,
        observer: Observer | None,
        opened: list[Opened],
    ) -> None:
        self.handler: Final = handler
        self.setup: Final = setup
        self.authenticator: Final = authenticator
        self.observer: Final = observer
        self.opened: Final = opened
        self.gate_lock: Final = Lock()  # a gate knows nothing of threads
        self.sessions: Final[dict[Session, Thread]] = {}
        self.draining: bool = False
        # Of `sessions`, `_others` and `draining`. Whoever holds it asks for no other lock.
        self._changed: Final = Condition()
        self._others: Final[set[socket.socket]] = set()  # connections that have no session yet, or will have none
        self._threads: Final[set[Thread]] = set()  # for the accepting thread, and when that is gone for `stop`
        self._finished: Final[deque[Thread]] = deque()
        self._accepting: Final = Thread(target=self._accept, name="smtpstate accepting", daemon=True)
        self._bell: Final = Bell()
        self._alarm: float = inf  # when the accepting thread looks at the handlers' time
        self._stress: bool = setup.gate.stress
        self._done: bool = False

    def start(self) -> None:
        with self.gate_lock:
            self.setup.gate.watch(self._heed)
        self._accepting.start()

    def stop(self, grace: float) -> None:
        """Drains. Whatever interrupts that, nobody is let in any more, and nothing stays open."""
        try:
            with self._changed:
                self.draining = True
            self._bell.ring()
            if not self._empty(grace):
                self._each(Session.kill)
                self._empty(self.setup.limits.linger_seconds + 1.0)
        finally:
            self._done = True
            self._bell.ring()
            if self._accepting.ident is not None:
                self._accepting.join()
            self._end()

    def _end(self) -> None:
        """Whoever still waits for a peer does so no longer; handlers that do not return are left behind."""
        close_listeners(self.opened)
        with self._changed:
            others = [*self._others]
        for sock in others:  # before the sessions: it may be one by then
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._each(Session.abandon)
        with self._changed:
            stuck = {session: thread for session, thread in self.sessions.items() if session.overdue}
        end = monotonic() + _JOIN_SECONDS
        for thread in self._threads.difference(stuck.values()):
            thread.join(max(0.0, end - monotonic()))
        with self._changed:
            left = [*self.sessions]
        for session in left:
            logger.error("session %s: the handler has not returned, and is left behind", session.id)
        with self.gate_lock:
            self.setup.gate.unwatch(self._heed)
        self._bell.close()

    def _each(self, act: Callable[[Session], None]) -> None:
        with self._changed:
            sessions = [*self.sessions]
        for session in sessions:
            try:
                act(session)
            except Exception as error:  # of an observer: `trace` hears what is said
                logger.error("session %s failed", session.id, exc_info=error)
                session.abandon()

    def _empty(self, seconds: float) -> bool:
        """Waits until no session is left; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.sessions, seconds)

    # For the gate, which calls with its lock held, and for sessions, which call with theirs.

    def _heed(self, notice: Notice) -> None:
        """The gate has something to say."""
        log_notice(notice)
        if isinstance(notice, StressChanged):
            self._bell.ring()

    def expect(self, deadline: float) -> None:
        """The time of a handler will be up."""
        if deadline < self._alarm:
            self._bell.ring()

    # The accepting thread.

    def _accept(self) -> None:
        complained: set[Opened] = set()
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            for item in self.opened:
                selector.register(item.socket, selectors.EVENT_READ, item)
            listens = True
            while not self._done:
                if self.draining and listens:
                    listens = False
                    for item in self.opened:
                        selector.unregister(item.socket)
                    close_listeners(self.opened)
                    self._each(Session.drain)
                self._watch_time()
                for key, _ in selector.select(None if self._alarm == inf else max(0.0, self._alarm - monotonic())):
                    if key.data is None:
                        self._bell.hear()
                    else:
                        self._accept_one(key.data, complained)
                self._pass_on_stress()
                self._reap()

    def _accept_one(self, item: Opened, complained: set[Opened]) -> None:
        try:
            sock, _ = item.socket.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                if item not in complained:
                    complained.add(item)
                    logger.error("no connection can be accepted on %s: %s", item.bound.address, error)
                sleep(EXHAUSTED_SECONDS)
            return
        complained.discard(item)
        self._enter(sock, item.bound)

    def _watch_time(self) -> None:
        """Looks whose handler is late, and when to look again."""
        self._alarm = inf  # first, so that whoever begins to work meanwhile rings
        self._each(Session.expire)
        with self._changed:
            self._alarm = min((session.busy_until for session in self.sessions), default=inf)

    def _pass_on_stress(self) -> None:
        stress = self.setup.gate.stress
        if stress is not self._stress:
            self._stress = stress
            self._each(lambda session: session.under_stress(stress))

    def _reap(self) -> None:
        while self._finished:
            thread = self._finished.popleft()
            thread.join()
            self._threads.discard(thread)

    def _enter(self, sock: socket.socket, listener: BoundListener) -> None:
        """A connection was accepted: a thread for it, unless nothing at all is to be said."""
        peer = peer_of(sock)
        with self.gate_lock:
            ticket = self.setup.gate.enter()
            full = Limit.CONNECTIONS if ticket is None and self.setup.hears(listener, peer) else None
            refusal = self.setup.refusal(listener, full)
        if ticket is None and refusal is None:
            sock.close()
            return
        guest = _Guest(self, sock, listener, peer, ticket, refusal)
        with self._changed:
            self._others.add(sock)
        thread = Thread(target=guest.run, name=f"smtpstate with {peer}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has none left
            logger.error("%s: no thread for %s: %s", listener.address, peer, error)
            guest.leave()
        else:
            self._threads.add(thread)

    # For the threads of connections.

    @contextmanager
    def hosts(self, session: Session, sock: socket.socket) -> Generator[None, None, None]:
        """For as long as a session lasts."""
        with self._changed:
            self._others.discard(sock)
            self.sessions[session] = current_thread()
            draining = self.draining
        if self.setup.gate.stress:
            session.under_stress(True)  # noqa: FBT003
        if draining:
            session.drain()
        try:
            yield
        finally:
            with self._changed:
                del self.sessions[session]
                self._changed.notify_all()

    def gone(self, sock: socket.socket) -> None:
        """A connection is over."""
        with self._changed:
            self._others.discard(sock)
        sock.close()

    def finished(self) -> None:
        """This thread is about to end."""
        self._finished.append(current_thread())


@final
class _Guest:
    """One connection, and the thread that it has: a session, the header of a proxy first, or 421."""

    def __init__(
        self,
        server: _Server,
        sock: socket.socket,
        listener: BoundListener,
        peer: Peer | None,
        ticket: Ticket | None,
        refusal: ServerConnection | None,
    ) -> None:
        self.server: Final = server
        self.setup: Final = server.setup
        self.sock: Final = sock
        self.listener: Final = listener
        self.peer: Final = peer
        self.ticket: Final = ticket
        self.refusal: ServerConnection | None = refusal

    def run(self) -> None:
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.ticket is None:
                self.turn_away()
            elif self.listener.asked.proxy is None:
                self.begin(self.ticket, self.peer)
            else:
                self.behind_proxy(self.ticket, self.listener.asked.proxy)
        except OSError:
            return  # it was gone before anything was said
        finally:
            self.leave()
            self.server.finished()

    def leave(self) -> None:
        """Gives back whatever it has."""
        with self.server.gate_lock:
            if self.ticket is not None:
                self.ticket.leave()
            if self.refusal is not None:
                self.setup.gate.end_refusal()
        self.server.gone(self.sock)

    def turn_away(self) -> None:
        """421 in place of a greeting, and no more than that."""
        if self.refusal is not None:
            driver: Driver[ServerEvent] = Driver(self.refusal, self.sock)
            while isinstance(flow := driver.poll(), Flow):
                driver.move(flow)

    def behind_proxy(self, ticket: Ticket, proxy: ListenerProxy) -> None:
        """A session with whom the header names, or no session. A drain does not wait for a header."""
        if not may_be_proxy(self.listener, self.peer, proxy):
            return
        reader = self.setup.proxy_reader(proxy)
        driver: Driver[ProxyEvent] = Driver(reader, self.sock)
        while isinstance(event := driver.poll(), Flow):
            driver.move(event)
        header = proxy_header(self.listener, self.peer, reader, event)
        if header is not None and not self.server.draining:
            self.begin(ticket, header.source, reader.trailing_data)

    def begin(self, ticket: Ticket, peer: Peer | None, early: bytes = b"") -> None:
        """A session, or 421 where the share of `peer` is used up. `early` is what was read already."""
        with self.server.gate_lock:
            full = self.setup.claim(ticket, self.listener, peer)
            if full is not None:
                ticket.leave()
                self.refusal = self.setup.refusal(self.listener, full)
        if full is not None:
            self.turn_away()
            return
        session = self.session(ticket, peer, early)
        observer = self.server.observer
        try:
            with self.server.hosts(session, self.sock):
                if observer is not None:
                    observer.session_opened(session)
                session.run(self.server.handler)
                session.complain()
                if observer is not None:
                    observer.session_closed(session, session.closed or ConnectionClosed(CloseReason.LOST))
        except Exception as error:
            logger.error("session %s failed", session.id, exc_info=error)
        finally:
            session.leave()

    def session(self, ticket: Ticket, peer: Peer | None, early: bytes) -> Session:
        session: Session | None = None
        observer = self.server.observer

        def trace(record: TraceRecord) -> None:
            if observer is not None and session is not None:
                observer.trace(session, record)

        connection = self.setup.connection(self.listener, peer, trace if traces(observer) else None)
        machine = self.setup.machine(connection, self.listener, early)
        session = Session(connection, machine, self.sock, self.listener, self.server, ticket)
        return session
