"""Driver: moves octets between a machine and a socket. It knows neither SMTP nor TLS, and keeps no time of its own."""

from __future__ import annotations

import selectors
import socket
from contextlib import nullcontext, suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

from smtpstate import Flow
from smtpstate_blocking._bell import Bell

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from smtpstate_parts.machine import Machine

_RECEIVE: Final = 65_536  # octets a read
_AHEAD: Final = 65_536  # octets read while one piece is being sent
_READ: Final = selectors.EVENT_READ
_WRITE: Final = selectors.EVENT_WRITE
# It needs no descriptor of its own, as epoll does, and one for each connection would be many.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)

Event = TypeVar("Event")


@final
class Driver(Generic[Event]):
    """Does what a Flow asks for. The machine's clock has to be `time.monotonic`.

    With `duplex` it reads while it writes, so that two sides that both write do not wait for each other. `waiting` is
    entered around each wait. Only where it is `interruptible` may another thread call `interrupt()`.
    """

    def __init__(
        self,
        machine: Machine[Event],
        sock: socket.socket,
        *,
        duplex: bool = False,
        interruptible: bool = False,
        waiting: AbstractContextManager[object] | None = None,
    ) -> None:
        self.machine: Final = machine
        self.sock: Final = sock
        self.limit: float | None = None  # when to give up, whatever the machine's deadline is
        self._duplex: bool = duplex
        self._waiting: Final = waiting or nullcontext()
        self._selector: Final[selectors.BaseSelector] = _Selector()
        self._bell: Final = Bell() if interruptible else None
        self._awaited: int = 0  # what the selector waits for at `sock`
        self._unsent: memoryview = memoryview(b"")  # of a piece that is under way
        self._shut: bool = False
        self._ended: bool = False  # the peer's side
        self._early: Final[list[Event]] = []  # read while writing
        sock.settimeout(0)
        if self._bell is not None:
            self._selector.register(self._bell, _READ, self._bell)

    def poll(self) -> Event | Flow:
        """The next event, or what to do until there is one."""
        return self._early.pop(0) if self._early else self.machine.next_event()

    def move(self, flow: Flow) -> None:
        """Drains, and reads once where `flow` says so; then `poll()` again. No longer than the machine's deadline."""
        machine = self.machine
        try:
            first = machine.reads_first and not self._unsent and self._read()
            if not self._drain() or self._early:
                return
            if flow is Flow.NEED_DATA and not first:
                if self._wait(_READ):
                    self._read()
            elif flow is Flow.WAIT:
                self._wait(0)
        except OSError:
            with suppress(OSError):  # the peer may have said why
                while self._duplex and not self._ended and machine.closed is None and self._read():
                    self._look_ahead()
            self._lose()

    def push(self) -> None:
        """Sends what the system takes at once, and nothing after that: for when the session's thread cannot."""
        self._look_ahead()
        self._shut = True
        with suppress(OSError):
            while not self._unsent and (data := self.machine.data_to_send()):
                self._unsent = memoryview(data)[self.sock.send(data) :]
            self.sock.shutdown(socket.SHUT_WR)

    def interrupt(self) -> None:
        """Ends a wait, if there is one: `move` returns, and the machine is asked again."""
        if self._bell is not None:
            self._bell.ring()

    def sever(self) -> None:
        """Ends the connection, and with it any wait; `close` is still due."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The socket, and what belongs to it."""
        self._selector.close()
        self.sock.close()
        if self._bell is not None:
            self._bell.close()

    def _drain(self) -> bool:
        """Whether all that there was to say has left."""
        machine, ahead = self.machine, 0
        while True:
            if not self._unsent:
                self._unsent, ahead = memoryview(machine.data_to_send()), 0
            if not self._unsent:
                break
            reads = self._duplex and not self._ended and ahead < _AHEAD
            try:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            except BlockingIOError:
                if not self._wait(_WRITE | _READ if reads else _WRITE):
                    return False
            if reads and (octets := self._read()):  # the peer may have had enough, though it takes more
                ahead += octets
                self._look_ahead()
            if self._unsent and machine.closed is not None:
                raise BrokenPipeError
        if machine.half_close and not self._shut:
            self._shut = True
            self.sock.shutdown(socket.SHUT_WR)
        return True

    def _look_ahead(self) -> None:
        """Takes what has come of what was read, though there is more to send first."""
        while not self._early or self._early[-1] is not self.machine.closed:
            event = self.machine.next_event()
            if isinstance(event, Flow):
                return
            self._early.append(event)

    def _read(self) -> int:
        with suppress(BlockingIOError):
            octets = self.sock.recv(_RECEIVE)
            if octets:
                self.machine.receive_data(octets)
            else:
                self._ended = True
                self.machine.receive_eof()
            return len(octets)
        return 0

    def _wait(self, awaited: int) -> int:
        """What of `awaited` is possible now; nothing when the time was up, or somebody has interrupted."""
        if awaited != self._awaited:
            if self._awaited:
                self._selector.unregister(self.sock)
            if awaited:
                self._selector.register(self.sock, awaited)
            self._awaited = awaited
        times = [time for time in (self.machine.deadline, self.limit) if time is not None]
        end = min(times, default=inf)
        with self._waiting:
            ready = self._selector.select(None if end == inf else max(0.0, end - monotonic()))
        found = 0
        for key, events in ready:
            if key.data is None:
                found = events
            else:
                key.data.hear()
        if monotonic() >= end:
            self.machine.handle_timeout()
            if self._unsent or self.limit is not None:
                self._lose()
                return 0
        return found

    def _lose(self) -> None:
        """Nothing can follow what has left in part."""
        self._unsent = memoryview(b"")
        self.machine.connection_lost()
