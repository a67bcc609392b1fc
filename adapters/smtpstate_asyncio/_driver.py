"""Driver: moves octets between a machine and a transport. It knows neither SMTP nor TLS, and keeps no time itself."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, final

from smtpstate import Flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate_parts.machine import Machine

Event = TypeVar("Event")


class Owner(Protocol):
    """Whoever polls the driver's machine. What is called here is called by the event loop."""

    def wake(self) -> None:
        """There is something to poll for."""

    def overdue(self) -> None:
        """The deadline has passed while nobody waited for the peer."""

    def failed(self, error: Exception) -> None:
        """`wake`, or something of the machine's, raised."""

    def gone(self) -> None:
        """The transport is closed."""


@final
class Driver(asyncio.Protocol, Generic[Event]):
    """Does what a Flow asks for. The machine's clock has to be the loop's `time`.

    What comes while nobody waits is held, one read at most, for then the transport is paused. With `duplex` it reads
    while it writes, so that two sides that both write do not wait for each other.
    """

    def __init__(self, machine: Machine[Event], owner: Owner, *, duplex: bool = False) -> None:
        self.machine: Final = machine
        self.full: bool = False  # a piece is under way; if that ends early, nothing can follow it
        self._owner: Final = owner
        self._duplex: Final = duplex
        self._loop: Final = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waits: bool = True  # the owner does, for `wake`
        self._wants: bool = True  # the machine does, for octets
        self._paused: bool = False
        self._looks: asyncio.Handle | None = None  # whether anything has arrived already
        self._held: list[Callable[[], None]] = []  # what came and was not wanted
        self._ended: bool = False  # there is nothing more to read
        self._shut: bool = False
        self._lost: bool = False
        self._due: float | None = None
        self._timer: asyncio.Handle | None = None
        self._rings: float = 0.0

    # For the owner.

    def poll(self) -> Event | Flow:
        """The next event, or what to do until there is one."""
        return self.machine.next_event()

    def move(self, flow: Flow) -> bool:
        """Begins what `flow` asks for. True: poll again; False: `owner.wake()` comes, at the deadline if not before."""
        if self.machine.reads_first and not self.full:
            self._feed()
            if self.machine.reads_first:  # what was held, if anything, was no more than a part of a record of TLS
                self._look()
                return False
            self._drain()
            return True
        fed = self._duplex and self._feed()
        drained = self._drain()
        if fed or (drained and flow is not Flow.NEED_DATA and flow is not Flow.WAIT):
            return True
        wants = self._duplex or (drained and flow is Flow.NEED_DATA)
        if wants and self._feed():
            return True
        self._wait(wants=wants)
        self.arm(self.machine.deadline)
        return False

    def rest(self) -> None:
        """The owner no longer waits."""
        self._waits = self._wants = False
        if self._looks is not None:
            self._looks.cancel()
            self._looks = None

    def nudge(self) -> None:
        """Wakes the owner, if it waits."""
        if self._waits:
            self._step()

    def arm(self, deadline: float | None) -> None:
        """It is by then that the owner has to hear from us. A timer that rings too early is set anew when it does."""
        self._due = deadline
        if self._timer is not None and (deadline is None or deadline < self._rings):
            self._timer.cancel()
            self._timer = None
        if deadline is not None and self._timer is None:
            self._rings = deadline
            self._timer = self._loop.call_at(deadline, self._ring)

    def close(self) -> None:
        """Closes the transport; what has not left by now will not."""
        self.rest()
        self.arm(None)
        if self._transport is not None:
            self._transport.abort() if self.full else self._transport.close()

    def abort(self) -> None:
        """Gives up: the transport is gone, now or soon."""
        self._lost, self.full = True, False
        self.machine.connection_lost()
        if self._transport is not None:
            self._transport.abort()

    # For the event loop.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream has no other
        self._transport = transport
        transport.set_write_buffer_limits(0)  # so that what is not in the buffer has left
        self._look()

    def data_received(self, data: bytes) -> None:
        self._receive(partial(self.machine.receive_data, data))

    def eof_received(self) -> bool:
        self._ended = True
        self._receive(self.machine.receive_eof)
        return True  # the transport stays open until we close it

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost, self.full = True, False
        self._step(self._feed, self.machine.connection_lost)
        self._owner.gone()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.nudge()

    def _wait(self, *, wants: bool) -> None:
        if wants and self._paused and not self._ended and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._waits, self._wants = True, wants

    def _look(self, turns: int = 2) -> None:
        """Waits for what has arrived already, and not for more: within two turns each loop has called us for it."""
        if turns:
            self._wait(wants=True)
            self._looks = self._loop.call_soon(self._look, turns - 1)
        else:
            self._step()

    def _receive(self, what: Callable[[], None]) -> None:
        if self._wants:
            self._step(what)
            return
        self._held.append(what)
        if not self._paused and not self._ended and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _ring(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self.arm(self._due)
        elif self._waits:
            self._step(self.machine.handle_timeout, *([self.abort] if self.full else []))
        else:
            self._due = None
            self._owner.overdue()

    def _step(self, *inputs: Callable[[], object]) -> None:
        looked = self._looks is not None
        self.rest()
        try:
            for give in inputs:
                give()
            if looked and self.machine.reads_first:
                self._drain()
            self._owner.wake()
        except Exception as error:
            self._owner.failed(error)

    def _feed(self) -> bool:
        """Gives the machine what was held; whether there was anything."""
        held, self._held = self._held, []
        for give in held:
            give()
        return bool(held)

    def _drain(self) -> bool:
        """Writes what there is to write; whether all of it has left."""
        machine, transport = self.machine, self._transport
        if self._lost or transport is None:
            return True
        while not self.full and not transport.is_closing() and (data := machine.data_to_send()):
            transport.write(data)
        if self.full or transport.is_closing():
            return False
        if machine.half_close and not self._shut:
            self._shut = True
            try:
                transport.write_eof()
            except OSError:  # it was reset, and nobody has told us yet
                self.abort()
        return True
