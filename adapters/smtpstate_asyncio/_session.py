"""Session: a server's side of one connection, whose events a callback is shown, or a coroutine iterates over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final

from smtpstate import Auth, AuthCancel, AuthResponse, CloseReason, ConnectionClosed, Flow
from smtpstate_asyncio._driver import Driver
from smtpstate_parts.auth import Exchange
from smtpstate_parts.machine import tls_failure
from smtpstate_parts.seat import Seat, logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from ssl import SSLError
    from types import TracebackType
    from typing import Any

    from smtpstate import ServerConnection, ServerEvent
    from smtpstate_asyncio._auth import Authenticator
    from smtpstate_asyncio._running import Runner
    from smtpstate_parts.gate import Ticket
    from smtpstate_parts.listen import BoundListener
    from smtpstate_parts.machine import Machine

    # Called for each event. What it returns, if anything, is awaited before the next.
    OnEvent: TypeAlias = Callable[["Session", ServerEvent], Awaitable[object] | None]
    # Called once. It iterates over the session.
    Handler: TypeAlias = Callable[["Session"], Awaitable[object]]


class Host(Protocol):
    """What a session knows of its server."""

    @property
    def runner(self) -> Runner: ...
    @property
    def authenticator(self) -> Authenticator | None: ...
    def opened(self, session: Session, /) -> None: ...
    def ended(self, session: Session, closed: ConnectionClosed, /) -> None: ...
    def gone(self, session: Session, /) -> None: ...


@final
class Session(Seat):
    """One connection. A coroutine that was called for it may iterate it for the events; answer with the verdicts.

    Between two events a coroutine has `Limits.handler_seconds`; then it is cancelled, and the peer is told 451 or 421.
    A plain function answers at once. The last event is `ConnectionClosed`. Silence is never a yes.
    """

    def __init__(
        self,
        connection: ServerConnection,
        machine: Machine[ServerEvent],
        listener: BoundListener,
        host: Host,
        *,
        handler: Handler | None = None,
        on_event: OnEvent | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        super().__init__(connection, listener, ticket)
        self.driver: Final = Driver(machine, self)
        self._loop: Final = asyncio.get_running_loop()
        self._host: Final = host
        self._handler: Handler | None = handler
        self._on_event: OnEvent | None = on_event
        authenticator = host.authenticator
        self._authenticator: Final = authenticator  # answers AUTH; without, whoever sees the events does
        self._exchange: Final = None if authenticator is None else Exchange(authenticator.secret)
        self._begun: bool = False
        self._busy: bool = False  # a coroutine is at it, and whatever comes is for it to ask for
        self._waiter: asyncio.Future[None] | None = None  # where it waits for the peer
        self._budget: Budget | None = None  # the innermost
        self._over: bool = False
        self._ended: bool = False
        self._lost: bool = False
        self._draining: bool = False

    @property
    def tls_failure(self) -> SSLError | None:
        """What ended the handshake, or the session after it, as far as that was TLS. For a log: it may quote the peer.

        A `smtpstate.tls.HandshakeRefused` is ours: the client did not want SMTP, or not this server.
        """
        return tls_failure(self.driver.machine)

    # Events, for the coroutine that is at it.

    def __aiter__(self) -> Session:
        return self

    async def __anext__(self) -> ServerEvent:
        """The next event. What is still owed for the last one gets its default verdict first.

        AUTH is answered on the way, and not shown, where the server was given users.
        """
        event = await self._next()
        while self._authenticator is not None and isinstance(event, Auth | AuthResponse | AuthCancel):
            await self._authenticate(self._authenticator, event)
            event = await self._next()
        return event

    async def flush(self) -> None:
        """Sends what was said so far. The next event does that too: this is for work that comes before it."""
        while not self.driver.move(Flow.NEED_FLUSH):
            await self._woken()
        self.driver.arm(self._handler_deadline())

    async def _next(self) -> ServerEvent:
        if self._over:
            raise StopAsyncIteration
        while isinstance(event := self._poll(), Flow):
            if not self._go_on(event):
                await self._woken()
        self._over = isinstance(event, ConnectionClosed)
        self.driver.arm(self._handler_deadline())
        return event

    async def _woken(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.driver.rest()

    async def _authenticate(self, authenticator: Authenticator, event: Auth | AuthResponse | AuthCancel) -> None:
        assert self._exchange is not None
        exchange = self._exchange.answer(self, event)
        with self.budget() as budget:
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
        if budget.expired:
            self._exchange.overdue(self)

    def budget(self) -> Budget:
        """Cancels the block when it takes longer than the core allows, and has the core answer for that.

        The session goes on where the core can (451); inside a body it ends (421). `expired` tells. It is for the
        coroutine that is at it. Raises nothing by itself.
        """
        return Budget(self)

    def swap_budget(self, budget: Budget | None) -> Budget | None:
        """Makes `budget` the one that expires, and returns the last one. For `Budget`."""
        last, self._budget = self._budget, budget
        return last

    def rearm(self) -> None:
        """The deadline may be another one now."""
        waits = self._waiter is not None or not self._busy
        self.driver.arm(self.driver.machine.deadline if waits else self._handler_deadline())

    def _handler_deadline(self) -> float | None:
        if self._over:  # there is nobody left to answer, but a handler that never ends is no better for it
            return self._loop.time() + self.connection.config.limits.handler_seconds
        return self.driver.machine.deadline

    # Events, for the callback.

    def _pump(self) -> None:
        """Shows the callback what there is, until somebody has to wait."""
        while not self._busy and not self._over:
            event = self._poll()
            if not isinstance(event, Flow):
                self._over = isinstance(event, ConnectionClosed)
                self._show(event)
            elif not self._go_on(event):
                return
        if self._over and not self._busy and not self._ended:
            self._ended = True
            try:
                self._host.ended(self, self.closed or ConnectionClosed(CloseReason.LOST))
            except Exception as error:
                logger.error("session %s failed", self.id, exc_info=error)
            self.driver.close()
            self._leave()

    def _show(self, event: ServerEvent) -> None:
        if self._authenticator is not None and isinstance(event, Auth | AuthResponse | AuthCancel):
            self._begin(self._authenticate(self._authenticator, event))
        elif self._on_event is not None:
            try:
                work = self._on_event(self, event)
            except Exception as error:
                self._give_up(error)
            else:
                if work is not None:
                    self._begin(self._attend(work))

    async def _attend(self, work: Awaitable[object]) -> None:
        """What the callback returned for an event."""
        failure: Exception | None = None
        with self.budget() as budget:
            try:
                await work
            except Exception as error:
                failure = error
        if failure is not None:
            self._give_up(failure)
        elif budget.expired and not self.killed:
            logger.error("session %s: the handler took too long and was cancelled", self.id)

    async def _run(self, handler: Handler) -> None:
        """The handler, and what is still to be said when it fails."""
        failure: Exception | None = None
        with self.budget() as budget:
            try:
                await handler(self)
            except Exception as error:
                failure = error
        self.conclude(failure, overdue=budget.expired)

    def _give_up(self, error: Exception) -> None:
        """The callback failed, and is shown no more."""
        self._on_event = None
        self.conclude(error)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._busy = True
        try:
            self._busy = not self._host.runner.start(work, self._finish)
        except BaseException:
            self._busy = False
            raise
        if self._busy and self._waiter is None:
            self.driver.arm(self._handler_deadline())

    def _finish(self, task: asyncio.Task[None]) -> None:
        """What had to wait is done."""
        self._busy = False
        if task.cancelled():  # by somebody else, who ends it all
            self.driver.abort()
        elif (error := task.exception()) is not None:
            self.failed(error)
            return
        self.wake()

    # What both have in common.

    def _poll(self) -> ServerEvent | Flow:
        """What comes next; where that is more than the server has room for, 421 and the end."""
        event = self.driver.poll()
        return event if self.admitted(event) else self.driver.poll()

    def _go_on(self, flow: Flow) -> bool:
        """Does what `flow` says, or ends what a drain need not wait for. False when there is something to wait for."""
        if self._draining and self.idle:
            self.connection.close()
            return True
        return self.driver.move(flow)

    # What its driver says.

    def wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            return
        if self._busy or self._ended:
            return
        try:
            if not self._begun:
                self._begun = True
                self._host.opened(self)
                if self._handler is not None:
                    self._begin(self._run(self._handler))
            self._pump()
        except Exception as error:
            self.failed(error)

    def overdue(self) -> None:
        try:
            if self._budget is not None:
                self._budget.expire()
        except Exception as error:  # of an observer: `trace` hears what is said
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        if self._ended:
            return
        self._ended = self.killed = True
        logger.error("session %s failed", self.id, exc_info=error)
        self.overdue()
        self.driver.abort()
        self.driver.close()
        self._leave()

    def gone(self) -> None:
        self._lost = True
        self._leave()

    def _leave(self) -> None:
        if self._lost and self._ended:
            self._host.gone(self)

    # What the server does with it.

    def leave(self) -> None:
        """Gives back what it had of what all sessions share."""
        if self._ticket is not None:
            self._ticket.leave()

    def under_stress(self, stress: bool) -> None:  # noqa: FBT001
        """From now on the limits are those of stress, or are not."""
        self.connection.stress = stress
        self.rearm()

    def drain(self) -> None:
        """From now on ends as soon as no message is under way."""
        self._draining = True
        self._loop.call_soon(self.driver.nudge)

    def kill(self) -> None:
        """Ends at once: 421, and the coroutine that is at it is cancelled."""
        self.killed = True
        self.connection.close()
        self.overdue()
        self._loop.call_soon(self.driver.nudge)


@final
class Budget:
    """The time that a block of a coroutine has, as the core counts it."""

    def __init__(self, session: Session) -> None:
        self.expired: bool = False
        self._session: Final = session
        self._outer: Budget | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling: int = 0

    def __enter__(self) -> Budget:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._outer = self._session.swap_budget(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        session, task = self._session, self._task
        session.swap_budget(self._outer)
        session.rearm()
        if not self.expired:
            return False
        # As asyncio.timeout does it: somebody else may have cancelled the task, too.
        assert task is not None
        return task.uncancel() <= self._cancelling and kind is asyncio.CancelledError

    def expire(self) -> None:
        """Has the core answer, so that what the block still says is too late, and cancels it. Once."""
        if not self.expired and self._task is not None:
            self.expired = True
            self._task.cancel()
            self._session.driver.machine.handle_timeout()
