"""Wire: two machines joined in memory, and time that passes when told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from smtpstate import ServerEvent
    from smtpstate_testing._clock import ManualClock
    from smtpstate_testing._link import End

Event = TypeVar("Event")


class Wire(Generic[Event]):
    """A client's end and a server's, joined. No socket, no thread, no sleep."""

    def __init__(self, clock: ManualClock, client: End[Event], server: End[ServerEvent]) -> None:
        self.clock: Final = clock
        self._client: Final = client
        self._server: Final = server
        self._received: Final = bytearray()
        self._raw: bool = False  # the client is out of it

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
            self._client_left()
        moved |= client.feed()
        moved |= server.pull(self._to_client)
        if server.shut:
            self._server_left()
        return server.feed() or moved

    def _client_left(self) -> None:
        """The client's side is shut, and all it had to say is on its way."""
        self._server.arrive_eof()

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

    def lose(self) -> None:
        """The connection breaks for both sides; what was on its way is gone. Drives."""
        self._server.lose()
        self._client.lose()
        self.drive()
