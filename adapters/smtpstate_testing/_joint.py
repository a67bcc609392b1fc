"""Joint: a client's connection, and something that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from smtpstate import ClientConnection, ClientEvent, Flow, ServerEvent
from smtpstate.delivery import Wants
from smtpstate_testing._link import End
from smtpstate_testing._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from smtpstate.delivery import Procedure
    from smtpstate_testing._clock import ManualClock
    from smtpstate_testing._link import Cut, Machine

_T = TypeVar("_T")


class Joint(Wire[ClientEvent]):
    """A client and something that serves it, joined in memory.

    `client` is the connection that `client_machine` is, or wraps in TLS. `cut` is as a Pair's.
    """

    def __init__(
        self,
        clock: ManualClock,
        client: ClientConnection,
        client_machine: Machine[ClientEvent],
        server_machine: Machine[ServerEvent],
        on_server_event: Callable[[ServerEvent], None],
        cut: Cut,
    ) -> None:
        self.client: Final = client
        self.server_events: Final[list[ServerEvent]] = []
        self.client_events: Final[list[ClientEvent]] = []
        self._claimed: int = 0  # how many of the client's events a procedure has seen
        self._on_server_event: Final = on_server_event
        super().__init__(
            clock,
            End(client_machine, clock, cut, self.client_events.append),
            End(server_machine, clock, cut, self._note_server_event),
        )

    def _note_server_event(self, event: ServerEvent) -> None:
        self.server_events.append(event)
        self._on_server_event(event)

    def run(self, procedure: Procedure[_T], chunks: Iterable[bytes] = ()) -> _T:
        """Drives a client procedure to its result, and then until all is quiet; `chunks` is the body it may ask for.

        Where both sides wait, time passes until a deadline. Raises RuntimeError when there is none, and whatever the
        procedure raises.
        """
        body = (chunk for chunk in chunks if chunk)
        if len(self.client_events) > 1:
            # A greeting may wait for whoever opens the session; later events were for those who asked by hand.
            self._claimed = len(self.client_events)
        result = self._follow(procedure, body)
        self.drive()
        return result

    def _follow(self, procedure: Procedure[_T], body: Iterator[bytes]) -> _T:
        try:
            wanted = next(procedure)
            while True:
                if wanted is Wants.EVENT:
                    wanted = procedure.send(self._next_client_event())
                elif wanted is Wants.CHUNK:
                    wanted = procedure.send(next(body, b""))
                else:
                    wanted = procedure.send(wanted.run())
        except StopIteration as stop:
            result: _T = stop.value
            return result

    def _next_client_event(self) -> ClientEvent | Flow:
        while self._claimed == len(self.client_events):
            if self.client.closed is not None and self._client.over:
                return self.client.closed
            if self.step():
                continue
            if self._client.flow is Flow.NEED_COMMAND:
                return Flow.NEED_COMMAND
            if not self.jump():
                raise RuntimeError("the client waits, and nothing will ever happen")
        self._claimed += 1
        return self.client_events[self._claimed - 1]
