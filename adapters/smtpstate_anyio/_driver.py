"""Driver: moves octets between a machine and a stream. It knows neither SMTP nor TLS, and keeps no time of its own."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
    sleep_forever,
)

from smtpstate import Flow

if TYPE_CHECKING:
    from anyio.abc import SocketStream, TaskGroup

    from smtpstate_parts.machine import Machine

_RECEIVE: Final = 65_536  # octets a read
_SMALL: Final = 4096  # octets that fit any socket's buffer, so that sending them cannot wait for the peer to be read
_AHEAD: Final = 65_536  # octets read while one piece is being sent

Event = TypeVar("Event")


def deadline_of(machine: Machine[object]) -> float:
    """The machine's deadline as anyio spells it."""
    deadline = machine.deadline
    return inf if deadline is None else deadline


@final
class Driver(Generic[Event]):
    """Does what a Flow asks for. The machine's clock has to be `anyio.current_time`.

    With `duplex` it reads while it writes, so that two sides that both write do not wait for each other.
    """

    def __init__(self, machine: Machine[Event], stream: SocketStream, *, duplex: bool = False) -> None:
        self.machine: Final = machine
        self.stream: Final = stream
        self._duplex: Final = duplex
        self._scope: CancelScope | None = None
        self._sending: bool = False  # a piece is under way; if that ends early, nothing can follow it
        self._shut: bool = False
        self._early: list[Event] = []  # read while writing

    def poll(self) -> Event | Flow:
        """The next event, or what to do until there is one."""
        return self._early.pop(0) if self._early else self.machine.next_event()

    async def move(self, flow: Flow) -> None:
        """Drains, and reads once where `flow` says so; then `poll()` again. No longer than the machine's deadline."""
        machine = self.machine
        if self._sending:
            machine.connection_lost()
            return
        with CancelScope(deadline=deadline_of(machine)) as scope:
            self._scope = scope
            try:
                await self._drain()
                if flow is Flow.NEED_DATA and not self._early:
                    machine.receive_data(await self.stream.receive(_RECEIVE))
                elif flow is Flow.WAIT:
                    await sleep_forever()
            except EndOfStream:
                machine.receive_eof()
            except (BrokenResourceError, ClosedResourceError, OSError):
                machine.connection_lost()
        self._scope = None
        if scope.cancelled_caught:
            machine.handle_timeout()
            if self._sending:
                machine.connection_lost()

    def interrupt(self) -> None:
        """Ends a wait for the peer, if there is one: `move` returns, and the machine is asked again."""
        if self._scope is not None and not self._sending:
            self._scope.cancel()

    def rearm(self) -> None:
        """The machine's deadline is another one now: a wait that is under way goes by it."""
        if self._scope is not None:
            self._scope.deadline = deadline_of(self.machine)

    async def _drain(self) -> None:
        machine, stream = self.machine, self.stream
        while data := machine.data_to_send():
            self.rearm()  # what has left may have earned time
            self._sending = True
            if self._duplex and len(data) > _SMALL:
                await self._send_and_read(data)
            else:
                await stream.send(data)
            self._sending = False
        if machine.half_close and not self._shut:
            self._shut = True
            await stream.send_eof()

    async def _send_and_read(self, data: bytes) -> None:
        """Sends `data`, and meanwhile reads. Once the machine is done it gives up, as if the stream had broken."""
        unsent = True

        async def send(group: TaskGroup) -> None:
            nonlocal unsent
            try:
                await self.stream.send(data)
            except (BrokenResourceError, ClosedResourceError, OSError):
                return  # the peer may have said why: read on, to the end
            unsent = False
            group.cancel_scope.cancel()

        async with create_task_group() as group:
            group.start_soon(send, group)
            await self._read_ahead()
            if self.machine.closed is not None:
                group.cancel_scope.cancel()
        if unsent:
            raise BrokenResourceError

    async def _read_ahead(self) -> None:
        """Reads until the machine is done, or enough is read; raises nothing: sending tells what there is to tell."""
        machine, ahead = self.machine, 0
        try:
            while ahead < _AHEAD and machine.closed is None:
                octets = await self.stream.receive(_RECEIVE)
                ahead += len(octets)
                machine.receive_data(octets)
                while not isinstance(event := machine.next_event(), Flow):
                    self._early.append(event)
                    if event is machine.closed:
                        break
                self.rearm()
        except EndOfStream:
            machine.receive_eof()
        except (BrokenResourceError, ClosedResourceError, OSError):
            return
