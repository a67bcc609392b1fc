"""Session: a server's side of one connection, as an async iterator of its events."""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Final, final

from anyio import CancelScope, current_time

from smtpstate import Auth, AuthCancel, AuthResponse, ConnectionClosed, Flow
from smtpstate_anyio._driver import deadline_of
from smtpstate_parts.auth import Exchange
from smtpstate_parts.seat import Seat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from smtpstate import ServerConnection, ServerEvent
    from smtpstate_anyio._auth import Authenticator
    from smtpstate_anyio._driver import Driver
    from smtpstate_parts.gate import Ticket
    from smtpstate_parts.listen import BoundListener


@final
class Session(Seat):
    """One connection. Iterate it for the events, the last of which is `ConnectionClosed`; answer with the verdicts.

    Between two events you have `Limits.handler_seconds`; then the handler is cancelled, the peer is told 451 or 421,
    and the session ends. Silence is never a yes.
    """

    def __init__(
        self,
        connection: ServerConnection,
        driver: Driver[ServerEvent],
        listener: BoundListener,
        authenticator: Authenticator | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        super().__init__(connection, listener, ticket)
        self._driver: Final = driver
        self._authenticator: Final = authenticator  # answers AUTH; without, the handler does
        self._exchange: Final = None if authenticator is None else Exchange(authenticator.secret)
        self._scope: CancelScope = CancelScope()  # the handler's; its deadline moves with every event
        self._over: bool = False
        self._draining: bool = False

    # Events.

    def __aiter__(self) -> Session:
        return self

    async def __anext__(self) -> ServerEvent:
        """The next event. What is still owed for the last one gets its default verdict first.

        AUTH is answered on the way, and not shown, where `serve` was given users.
        """
        event = await self._next()
        while self._authenticator is not None and isinstance(event, Auth | AuthResponse | AuthCancel):
            await self._authenticate(self._authenticator, event)
            event = await self._next()
        return event

    async def _authenticate(self, authenticator: Authenticator, event: Auth | AuthResponse | AuthCancel) -> None:
        assert self._exchange is not None
        exchange = self._exchange.answer(self, event)
        with self.budget() as scope:
            try:
                question = next(exchange)
                while True:
                    try:
                        answer = await authenticator.ask(question)
                    except Exception as error:
                        question = exchange.throw(error)
                    else:
                        question = exchange.send(answer)
            except StopIteration:
                pass
        if scope.cancelled_caught:
            self._exchange.overdue(self)

    async def _next(self) -> ServerEvent:
        if self._over:
            raise StopAsyncIteration
        driver = self._driver
        event = self._poll()
        if isinstance(event, Flow):
            self._scope.deadline = inf  # we wait for the peer, and the driver bounds that
            while isinstance(event, Flow):
                if self._draining and self.idle:
                    self.connection.close()
                else:
                    await driver.move(event)
                event = self._poll()
        if isinstance(event, ConnectionClosed):
            self._over = True
        self._scope.deadline = self._handler_deadline()
        return event

    def _poll(self) -> ServerEvent | Flow:
        """What comes next; where that is more than the server has room for, 421 and the end."""
        event = self._driver.poll()
        return event if self.admitted(event) else self._driver.poll()

    async def flush(self) -> None:
        """Sends what was said so far. The next event does that too: this is for work that comes before it."""
        await self._driver.move(Flow.NEED_FLUSH)

    def _handler_deadline(self) -> float:
        if self._over:  # there is nobody left to answer, but a handler that never ends is no better for it
            return current_time() + self.connection.config.limits.handler_seconds
        return deadline_of(self._driver.machine)

    @contextmanager
    def budget(self) -> Generator[CancelScope, None, None]:
        """Cancels the block when it takes longer than the core allows, and has the core answer for that.

        The session goes on where the core can (451); inside a body it ends (421). `cancelled_caught` of the scope
        tells. Raises nothing by itself.
        """
        outer = self._scope
        outer.deadline = inf
        scope = self._scope = CancelScope(deadline=self._handler_deadline())
        try:
            with scope:
                yield scope
        finally:
            self._scope = outer
            if scope.cancelled_caught:
                self._driver.machine.handle_timeout()
            outer.deadline = self._handler_deadline()

    # What the server does with it.

    async def run(self, handler: Callable[[Session], Awaitable[None]]) -> None:
        """The whole session: the handler, what is still to be said when it fails, and the end."""
        failure: Exception | None = None
        with self.budget() as scope:
            try:
                await handler(self)
            except Exception as error:
                failure = error
        self.conclude(failure, overdue=scope.cancelled_caught)
        async for _ in self:
            pass

    def under_stress(self, stress: bool) -> None:  # noqa: FBT001
        """From now on the limits are those of stress, or are not."""
        self.connection.stress = stress
        self._driver.rearm()
        if self._scope.deadline != inf:  # the handler works, and nobody waits
            self._scope.deadline = self._handler_deadline()

    def drain(self) -> None:
        """From now on ends as soon as no message is under way."""
        self._draining = True
        if self.idle:
            self._driver.interrupt()

    def kill(self) -> None:
        """Ends at once: 421, and the handler is cancelled."""
        self.killed = True
        self.connection.close()
        self._scope.cancel()
        self._driver.interrupt()
