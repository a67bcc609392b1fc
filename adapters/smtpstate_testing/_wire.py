"""Wire: two machines joined in memory, and time that passes when told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from smtpstate import Flow
from smtpstate_testing._transcript import pieces, write

if TYPE_CHECKING:
    from smtpstate import ServerEvent
    from smtpstate_testing._clock import ManualClock
    from smtpstate_testing._link import End, Input

Event = TypeVar("Event")


class Wire(Generic[Event]):
    """A client's end and a server's, joined. No socket, no thread, no sleep."""

    def __init__(self, clock: ManualClock, client: End[Event], server: End[ServerEvent]) -> None:
        self.clock: Final = clock
        self._client: Final = client
        self._server: Final = server
        self._received: Final = bytearray()
        self._said: Final[list[tuple[int, bytes | None]]] = []  # by the server, after how many inputs; None is its end
        self._raw: bool = False  # the client is out of it

    @property
    def received(self) -> bytes:
        """All octets that the server has sent so far, as they were on the wire."""
        return bytes(self._received)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What reached the server from outside so far, and when: what `replay` needs."""
        return tuple(self._server.inputs)

    @property
    def deaf(self) -> bool:
        """Whether the server's peer has stopped reading; yours to set."""
        return not self._server.reads

    @deaf.setter
    def deaf(self, deaf: bool) -> None:
        self._server.reads = not deaf

    @property
    def late(self) -> bool:
        """Whether the server is late on purpose: it reads nothing until time has passed."""
        return self._server.flow is Flow.WAIT and not self._server.over

    @property
    def shut(self) -> bool:
        """Whether the server has closed its side, and all it said before was taken."""
        return self._server.shut

    def step(self) -> bool:
        """One turn each: takes events and output, then feeds one piece. Whether anything has happened."""
        server, client = self._server, self._client
        if self._raw:
            moved = server.pull(self._hear)
            if server.shut:
                self._note_shut()
                server.arrive_eof()  # nobody keeps a connection that the other side has closed
            return server.feed() or moved
        moved = client.pull(server.arrive)
        if client.shut:
            self._client_left()
        moved |= client.feed()
        moved |= server.pull(self._to_client)
        if server.shut:
            self._note_shut()
            self._server_left()
        return server.feed() or moved

    def _client_left(self) -> None:
        """The client's side is shut, and all it had to say is on its way."""
        self._server.arrive_eof()

    def _server_left(self) -> None:
        """The server's side is shut, and all it had to say is on its way."""
        self._client.arrive_eof()

    def _hear(self, data: bytes) -> None:
        self._received.extend(data)
        self._said.append((len(self._server.inputs), data))

    def _note_shut(self) -> None:
        if not self._said or self._said[-1][1] is not None:
            self._said.append((len(self._server.inputs), None))

    def _to_client(self, data: bytes) -> None:
        self._hear(data)
        self._client.arrive(data)

    def drive(self) -> None:
        """Steps until nothing happens any more without time passing."""
        while self.step():
            pass

    def wait(self, seconds: float) -> None:
        """Lets so many seconds pass; every deadline that comes meanwhile is kept when it comes. Drives."""
        self.drive()
        until = self.clock.now + seconds
        while (earliest := self._earliest()) is not None and earliest <= until:
            self.jump()
        self.clock.jump_to(max(until, self.clock.now))
        self.drive()

    def _earliest(self) -> float | None:
        """The next deadline of either side."""
        ends = (self._server,) if self._raw else (self._server, self._client)
        deadlines = [end.machine.deadline for end in ends]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def jump(self) -> bool:
        """Lets time pass until the next deadline of either side, lets it expire, and drives. False if there is none."""
        ends = (self._server,) if self._raw else (self._server, self._client)
        earliest = self._earliest()
        if earliest is None:
            return False
        self.clock.jump_to(max(earliest, self.clock.now))
        for end in ends:
            end.expire()
        self.drive()
        return True

    def as_transcript(self) -> str:
        """All that was said so far, so that `run_transcript` can say it again: nothing is left out, passwords neither.

        Raises ValueError for a session with TLS, of which only the ciphertext is there.
        """
        from smtpstate.tls import SecureConnection

        if isinstance(self._server.machine, SecureConnection):
            raise ValueError("what is inside TLS cannot be said again")
        return write(pieces(self.inputs, self._said))

    def lose(self) -> None:
        """The connection breaks for both sides; what was on its way is gone. Drives."""
        self._server.lose()
        self._client.lose()
        self.drive()

    # Raw.

    def talk(self, data: bytes = b"") -> bytes:
        """Sends the server these octets, cut as the Pair cuts, and drives; returns what the server says."""
        already = self._go_raw()
        if data:
            self._server.arrive(data)
        self.drive()
        return bytes(self._received[already:])

    def drip(self, data: bytes, seconds_per_octet: float) -> bytes:
        """Sends the server one octet each `seconds_per_octet`; a deadline that comes first is kept first.

        Ends with the data or with the session. Returns what the server said meanwhile.
        """
        already = self._go_raw()
        self.drive()
        server = self._server
        for position in range(len(data)):
            due = self.clock.now + seconds_per_octet
            while (deadline := server.machine.deadline) is not None and deadline <= due:
                self.jump()
            if server.over:
                break
            self.clock.jump_to(due)
            server.arrive(data[position : position + 1])
            self.drive()
        return bytes(self._received[already:])

    def hang_up(self) -> bytes:
        """Closes the connection as a client would, after all that it sent, and drives; returns what the server says."""
        already = self._go_raw()
        self._server.arrive_eof()
        self.drive()
        return bytes(self._received[already:])

    def _go_raw(self) -> int:
        self._raw = True
        return len(self._received)
