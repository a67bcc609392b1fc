"""Session: a server's side of one connection, as an async iterator of its events."""

from __future__ import annotations

import logging
import secrets
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Final, final

from anyio import CancelScope, current_time

from smtpstate import Auth, AuthCancel, AuthResponse, Bdat, Connected, ConnectionClosed, Data, Flow, Phase
from smtpstate._config import HANDLER_TIMED_OUT, SHUTTING_DOWN
from smtpstate._syntax import LOCAL_ERROR
from smtpstate_anyio._driver import deadline_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from smtpstate import Ehlo, Helo, Lhlo, Peer, Reply, ServerConnection, ServerEvent, TlsInfo, Transaction
    from smtpstate._events import Owed
    from smtpstate.extensions import XClient, XForward
    from smtpstate_anyio._auth import Exchange
    from smtpstate_anyio._driver import Driver
    from smtpstate_anyio._listen import BoundListener
    from smtpstate_parts.gate import Ticket

logger: Final = logging.getLogger("smtpstate")

# While one of these lasts a message is under way.
_UNDER_WAY: Final = frozenset({Phase.BODY, Phase.CHUNK, Phase.CHUNKED})


@final
class Session:
    """One connection. Iterate it for the events, the last of which is `ConnectionClosed`; answer with the verdicts.

    Between two events you have `Limits.handler_seconds`; then the handler is cancelled, the peer is told 451 or 421,
    and the session ends. Silence is never a yes.
    """

    def __init__(
        self,
        connection: ServerConnection,
        driver: Driver[ServerEvent],
        listener: BoundListener,
        exchange: Exchange | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        self.id: Final = secrets.token_hex(4)
        self.connection: Final = connection
        self.listener: Final = listener
        self.via: Final = connection.peer  # who connected, whoever XCLIENT says that it speaks for
        self._driver: Final = driver
        self._exchange: Final = exchange  # answers AUTH; without, the handler does
        self._ticket: Final = ticket  # what the server lets it have of what all sessions share
        self._scope: CancelScope = CancelScope()  # the handler's; its deadline moves with every event
        self._over: bool = False
        self._draining: bool = False
        self.killed: bool = False  # by a drain whose grace is over

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end, or whom it speaks for; None when it went before anybody could look."""
        return self.connection.peer

    @property
    def tls(self) -> TlsInfo | None:
        """What was agreed on; None in clear text."""
        return self.connection.tls

    @property
    def hello(self) -> Ehlo | Helo | Lhlo | None:
        """What the client said in its hello; None before, and again after STARTTLS."""
        return self.connection.hello

    @property
    def identity(self) -> str | None:
        """Who AUTH, or XCLIENT, said it is; None before."""
        return self.connection.identity

    @property
    def xclient(self) -> XClient | None:
        """All that XCLIENT has said so far; None without any."""
        return self.connection.xclient

    @property
    def forwarded(self) -> XForward | None:
        """What XFORWARD said of the message that is next or under way. For the log: it decides nothing."""
        return self.connection.forwarded

    @property
    def phase(self) -> Phase:
        """Where in the table the session is."""
        return self.connection.phase

    @property
    def transaction(self) -> Transaction | None:
        """MAIL and the accepted recipients so far; None outside of a transaction."""
        return self.connection.transaction

    @property
    def owed(self) -> Owed | None:
        """The event that waits for a verdict."""
        return self.connection.owed

    @property
    def closed(self) -> ConnectionClosed | None:
        """How it ended, once it has."""
        return self.connection.closed

    # Verdicts: see ServerConnection.

    def accept(self, text: str = "") -> bool:
        """Says yes to what is owed. False when the session ended meanwhile. Raises LocalProtocolError."""
        return self.connection.accept(text)

    def reply(self, reply: Reply) -> bool:
        """Answers what is owed with `reply`. False when the session ended meanwhile. Raises LocalProtocolError."""
        return self.connection.reply(reply)

    def challenge(self, data: bytes) -> bool:
        """Goes on with an AUTH exchange. False when the session ended meanwhile. Raises LocalProtocolError."""
        return self.connection.challenge(data)

    def authenticated(self, identity: str) -> bool:
        """Ends an AUTH exchange well. False when the session ended meanwhile. Raises LocalProtocolError."""
        return self.connection.authenticated(identity)

    def refuse(self, reply: Reply) -> bool:
        """Refuses the message, from its DATA to its end. Raises LocalProtocolError."""
        return self.connection.refuse(reply)

    def close(self, reply: Reply = SHUTTING_DOWN) -> None:
        """Says `reply`, a 421 or 521, and ends the session. Raises LocalProtocolError."""
        self.connection.close(reply)

    # Events.

    def __aiter__(self) -> Session:
        return self

    async def __anext__(self) -> ServerEvent:
        """The next event. What is still owed for the last one gets its default verdict first.

        AUTH is answered on the way, and not shown, where `serve` was given users.
        """
        event = await self._next()
        while self._exchange is not None and isinstance(event, Auth | AuthResponse | AuthCancel):
            await self._exchange.answer(self, event)
            event = await self._next()
        return event

    async def _next(self) -> ServerEvent:
        if self._over:
            raise StopAsyncIteration
        driver = self._driver
        event = self._poll()
        if isinstance(event, Flow):
            self._scope.deadline = inf  # we wait for the peer, and the driver bounds that
            while isinstance(event, Flow):
                if self._draining and self._idle:
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
        event, ticket = self._driver.poll(), self._ticket
        if ticket is None:
            return event
        full = None
        match event:
            case Connected(peer) if peer != self.via:  # XCLIENT has said who it is
                full = ticket.claim(None if peer is None else peer.address)
            case Data() | Bdat():
                full = ticket.begin_body()
            case _ if self.phase not in _UNDER_WAY:
                ticket.end_body()
            case _:
                pass
        if full is None:
            return event
        self.connection.close(full.value)
        return self._driver.poll()

    async def flush(self) -> None:
        """Sends what was said so far. The next event does that too: this is for work that comes before it."""
        await self._driver.move(Flow.NEED_FLUSH)

    def _handler_deadline(self) -> float:
        if self._over:  # there is nobody left to answer, but a handler that never ends is no better for it
            return current_time() + self.connection.config.limits.handler_seconds
        return deadline_of(self._driver.machine)

    @property
    def _idle(self) -> bool:
        """Whether nobody loses anything by 421."""
        connection = self.connection
        return connection.transaction is None and connection.phase < Phase.CLOSING and connection.phase != Phase.BODY

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
        if failure is not None:
            logger.error("session %s: the handler failed", self.id, exc_info=failure)
            if self.owed is not None and not isinstance(self.owed, Connected):
                self.connection.reply(LOCAL_ERROR)
            self.connection.close(HANDLER_TIMED_OUT)
        elif scope.cancelled_caught and not self.killed:
            logger.error("session %s: the handler took too long and was cancelled", self.id)
            self.connection.close(HANDLER_TIMED_OUT)
        else:
            self.connection.close()
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
        if self._idle:
            self._driver.interrupt()

    def kill(self) -> None:
        """Ends at once: 421, and the handler is cancelled."""
        self.killed = True
        self.connection.close()
        self._scope.cancel()
        self._driver.interrupt()
