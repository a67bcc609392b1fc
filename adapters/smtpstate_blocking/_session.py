"""Session: a server's side of one connection, as an iterator of its events."""

from __future__ import annotations

from math import inf
from threading import Lock, RLock
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, final

from smtpstate import Auth, AuthCancel, AuthResponse, ConnectionClosed, Flow
from smtpstate._config import HANDLER_TIMED_OUT, SHUTTING_DOWN
from smtpstate_blocking._driver import Driver
from smtpstate_parts.auth import Exchange
from smtpstate_parts.seat import Seat, logger

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from smtpstate import Reply, ServerConnection, ServerEvent
    from smtpstate_blocking._auth import Authenticator
    from smtpstate_parts.gate import Ticket
    from smtpstate_parts.listen import BoundListener
    from smtpstate_parts.machine import Machine


class Server(Protocol):
    """What a session knows of its server."""

    @property
    def authenticator(self) -> Authenticator | None: ...
    @property
    def gate_lock(self) -> Lock: ...
    def expect(self, deadline: float, /) -> None: ...


@final
class Session(Seat):
    """One connection. Iterate it for the events, the last of which is `ConnectionClosed`; answer with the verdicts.

    Between two events you have `Limits.handler_seconds`. No thread can be stopped from outside: when the time is up,
    the peer is told 451 or 421 and its connection is closed, the verdict that comes too late does nothing and returns
    False, and the thread goes on until the handler returns; it counts as a connection for as long. Silence is never a
    yes.
    """

    def __init__(
        self,
        connection: ServerConnection,
        machine: Machine[ServerEvent],
        sock: socket.socket,
        listener: BoundListener,
        server: Server,
        ticket: Ticket | None = None,
    ) -> None:
        super().__init__(connection, listener, ticket)
        # Whoever touches the machine holds it: this session's thread except while it waits or runs the handler, and
        # the server's, which keeps the handler's time and drains.
        self._lock: Final = RLock()
        self._driver: Final[Driver[ServerEvent]] = Driver(
            machine, sock, interruptible=True, waiting=_Released(self._lock)
        )
        self._server: Final = server
        authenticator = server.authenticator
        self._authenticator: Final = authenticator  # answers AUTH; without, the handler does
        self._exchange: Final = None if authenticator is None else Exchange(authenticator.secret)
        self._over: bool = False
        self._draining: bool = False
        self.busy_until: float = inf  # the handler has to be back by then
        self.overdue: bool = False  # it was not, or the grace of a drain is over

    # Verdicts: see ServerConnection.

    def accept(self, text: str = "") -> bool:
        """Says yes to what is owed. False when the session ended meanwhile. Raises LocalProtocolError."""
        with self._lock:
            return super().accept(text)

    def reply(self, reply: Reply) -> bool:
        """Answers what is owed with `reply`. False when the session ended meanwhile. Raises LocalProtocolError."""
        with self._lock:
            return super().reply(reply)

    def challenge(self, data: bytes) -> bool:
        """Goes on with an AUTH exchange. False when the session ended meanwhile. Raises LocalProtocolError."""
        with self._lock:
            return super().challenge(data)

    def authenticated(self, identity: str) -> bool:
        """Ends an AUTH exchange well. False when the session ended meanwhile. Raises LocalProtocolError."""
        with self._lock:
            return super().authenticated(identity)

    def refuse(self, reply: Reply) -> bool:
        """Refuses the message, from its DATA to its end. Raises LocalProtocolError."""
        with self._lock:
            return super().refuse(reply)

    def close(self, reply: Reply = SHUTTING_DOWN) -> None:
        """Says `reply`, a 421 or 521, and ends the session. Raises LocalProtocolError."""
        with self._lock:
            super().close(reply)

    # Events.

    def __iter__(self) -> Session:
        return self

    def __next__(self) -> ServerEvent:
        """The next event. What is still owed for the last one gets its default verdict first.

        AUTH is answered on the way, and not shown, where `serve` was given users.
        """
        event = self._next()
        while self._authenticator is not None and isinstance(event, Auth | AuthResponse | AuthCancel):
            self._authenticate(self._authenticator, event)
            event = self._next()
        return event

    def _authenticate(self, authenticator: Authenticator, event: Auth | AuthResponse | AuthCancel) -> None:
        assert self._exchange is not None
        exchange = self._exchange.answer(self, event)
        try:
            question = next(exchange)
            while True:
                try:
                    answer = authenticator.ask(question)
                except Exception as error:
                    question = exchange.throw(error)
                else:
                    question = exchange.send(answer)
        except StopIteration:
            return

    def _next(self) -> ServerEvent:
        if self._over:
            raise StopIteration
        with self._lock:
            self.busy_until = inf
            event = self._poll()
            while isinstance(event, Flow):
                if self._draining and self.idle:
                    self.connection.close()
                else:
                    self._driver.move(event)
                event = self._poll()
            self._over = isinstance(event, ConnectionClosed)
            self._begin_work()
            return event

    def _poll(self) -> ServerEvent | Flow:
        """What comes next; where that is more than the server has room for, 421 and the end."""
        event = self._driver.poll()
        return event if self.admitted(event) else self._driver.poll()

    def admitted(self, event: ServerEvent | Flow) -> bool:
        with self._server.gate_lock:
            return super().admitted(event)

    def flush(self) -> None:
        """Sends what was said so far. The next event does that too: this is for work that comes before it."""
        with self._lock:
            self.busy_until = inf
            self._driver.move(Flow.NEED_FLUSH)
            self._begin_work()

    def _begin_work(self) -> None:
        """From now on it is the handler that takes its time."""
        deadline = self._driver.machine.deadline
        if deadline is not None and not self._over and not self.overdue:
            self.busy_until = deadline
            self._server.expect(deadline)

    # What the server does with it, in this session's thread.

    def run(self, handler: Callable[[Session], object]) -> None:
        """The whole session: the handler, what is still to be said when it fails, and the end."""
        failure: Exception | None = None
        try:
            handler(self)
        except Exception as error:
            failure = error
        with self._lock:
            self.busy_until = inf
            self.conclude(failure)
        for _ in self:
            pass

    def leave(self) -> None:
        """The thread is done with it."""
        with self._lock:
            self._driver.close()

    # What the server does with it, in its own thread.

    def under_stress(self, stress: bool) -> None:  # noqa: FBT001
        """From now on the limits are those of stress, or are not."""
        with self._lock:
            self.connection.stress = stress
            if self.busy_until < inf:
                self._begin_work()
            self._driver.interrupt()

    def drain(self) -> None:
        """From now on ends as soon as no message is under way."""
        with self._lock:
            self._draining = True
            self._driver.interrupt()

    def expire(self) -> None:
        """Looks at the clock: the time of the handler may be up."""
        with self._lock:
            if self.busy_until <= monotonic():
                logger.error("session %s: the handler took too long, and its connection was closed", self.id)
                self._driver.machine.handle_timeout()
                self._cut(HANDLER_TIMED_OUT)

    def kill(self) -> None:
        """Ends at once: 421, and what the handler says no longer matters."""
        with self._lock:
            self.killed = True
            self._cut(SHUTTING_DOWN)

    def _cut(self, reply: Reply) -> None:
        self.connection.close(reply)
        if self.busy_until < inf:
            self.overdue = True
            self.busy_until = inf
            self._driver.push()
        else:
            self._driver.interrupt()

    def abandon(self) -> None:
        """Ends whatever its thread waits for."""
        with self._lock:
            self._driver.sever()


@final
class _Released:
    """Lets go of a lock for the time of a block. The lock has to be held, and once only."""

    def __init__(self, lock: RLock) -> None:
        self._lock: Final = lock

    def __enter__(self) -> None:
        self._lock.release()

    def __exit__(self, *_: object) -> None:
        self._lock.acquire()
