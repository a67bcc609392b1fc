"""Joint: a client's machine and a server's, the wire between them, and time that passes when told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from smtpstate import ClientConnection, ClientEvent, Flow, ServerEvent
from smtpstate.delivery import Wants
from smtpstate_testing._link import End

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from smtpstate.delivery import Procedure
    from smtpstate_testing._clock import ManualClock
    from smtpstate_testing._link import Cut, Machine

_T = TypeVar("_T")


class Joint:
    """A client and something that serves it, joined in memory. No socket, no thread, no sleep.

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
        self.clock: Final = clock
        self.client: Final = client
        self.server_events: Final[list[ServerEvent]] = []
        self.client_events: Final[list[ClientEvent]] = []
        self._received: Final = bytearray()
        self._claimed: int = 0  # how many of the client's events a procedure has seen
        self._raw: bool = False  # the client is out of it
        self._on_server_event: Final = on_server_event
        self._server: Final = End(server_machine, clock, cut, self._note_server_event)
        self._client: Final = End(client_machine, clock, cut, self.client_events.append)

    def _note_server_event(self, event: ServerEvent) -> None:
        self.server_events.append(event)
        self._on_server_event(event)

    @property
    def received(self) -> bytes:
        """All octets that the server has sent so far, as they were on the wire."""
        return bytes(self._received)

    def step(self) -> bool:
        """One turn each: takes events and output, then feeds one piece. Whether anything has happened."""
        server, client = self._server, self._client
        if self._raw:
            moved = server.pull(self._received.extend)
            if server.shut:
                server.arrive_eof()  # nobody keeps a connection that the other side has closed
            return server.feed() or moved
        moved = client.pull(server.arrive)
        if client.shut:
            server.arrive_eof()
        moved |= client.feed()
        moved |= server.pull(self._to_client)
        if server.shut:
            self._server_left()
        return server.feed() or moved

    def _server_left(self) -> None:
        """The server's side is shut, and all it had to say is on its way."""
        self._client.arrive_eof()

    def _to_client(self, data: bytes) -> None:
        self._received.extend(data)
        self._client.arrive(data)

    def drive(self) -> None:
        """Steps until nothing happens any more without time passing."""
        while self.step():
            pass

    def jump(self) -> bool:
        """Lets time pass until the next deadline of either side, lets it expire, and drives. False if there is none."""
        ends = (self._server,) if self._raw else (self._server, self._client)
        deadlines = [end.machine.deadline for end in ends]
        earliest = min((deadline for deadline in deadlines if deadline is not None), default=None)
        if earliest is None:
            return False
        self.clock.jump_to(max(earliest, self.clock.now))
        for end in ends:
            end.expire()
        self.drive()
        return True

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

    def lose(self) -> None:
        """The connection breaks for both sides; what was on its way is gone. Drives."""
        self._server.lose()
        self._client.lose()
        self.drive()
