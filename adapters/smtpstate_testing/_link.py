"""One end of a Pair: a machine, the pieces on their way to it, and what a driver would do for it."""

from __future__ import annotations

from collections import deque
from itertools import cycle
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, final

from smtpstate import ConnectionClosed, Flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from smtpstate_testing._clock import ManualClock

Cut: TypeAlias = "int | Sequence[int] | None"
What: TypeAlias = Literal["data", "eof", "lost", "timeout"]

Event = TypeVar("Event")
_Event_co = TypeVar("_Event_co", covariant=True)


@final
class Input(NamedTuple):
    """Something that reached a machine from outside, and when. `data` goes with "data"."""

    at: float
    what: What
    data: bytes = b""


class Machine(Protocol[_Event_co]):
    """What a driver is written against: either connection, bare or inside `smtpstate.tls.secure`."""

    @property
    def deadline(self) -> float | None: ...
    @property
    def half_close(self) -> bool: ...
    def receive_data(self, data: bytes, /) -> None: ...
    def receive_eof(self) -> None: ...
    def connection_lost(self) -> None: ...
    def handle_timeout(self) -> None: ...
    def next_event(self) -> _Event_co | Flow: ...
    def data_to_send(self) -> bytes: ...


@final
class Cutter:
    """Cuts what is written into what is read. Each write is cut anew: a piece never joins two."""

    __slots__ = ("_sizes",)

    def __init__(self, cut: Cut) -> None:
        sizes = (cut,) if isinstance(cut, int) else tuple(cut or ())
        if any(size < 1 for size in sizes):
            raise ValueError(f"a piece has at least one octet: {cut!r}")
        self._sizes: Final[Iterator[int] | None] = cycle(sizes) if sizes else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._sizes is None:
            yield data
            return
        start = 0
        while start < len(data):
            end = start + next(self._sizes)
            yield data[start:end]
            start = end


@final
class End(Generic[Event]):
    """Does for a machine what a driver does, with two queues for a socket.

    `on_event` gets each event once. `on_output` gets what the machine sends; when it is None, nobody reads it.
    """

    def __init__(
        self, machine: Machine[Event], clock: ManualClock, cut: Cut, on_event: Callable[[Event], None]
    ) -> None:
        self.machine: Final = machine
        self.inputs: Final[list[Input]] = []
        self.flow: Flow | None = None
        self.shut: bool = False  # it has closed its writing side, and all it had written was taken
        self.over: bool = False  # its ConnectionClosed has come
        self.reads: bool = True  # whether the other end takes what is sent
        self._clock: Final = clock
        self._cutter: Final = Cutter(cut)
        self._on_event: Final = on_event
        self._inbound: Final[deque[bytes]] = deque()
        self._eof: bool = False  # comes after what is inbound
        self._eof_told: bool = False
        self._held: bytes = b""  # taken from the machine while the other end does not read

    # What comes from the other end.

    def arrive(self, data: bytes) -> None:
        """Octets on their way; they get there piece by piece, one piece a turn."""
        self._inbound.extend(self._cutter.pieces(data))

    def arrive_eof(self) -> None:
        self._eof = True

    def lose(self) -> None:
        """The transport breaks; what was on its way is gone."""
        self._inbound.clear()
        self._held = b""
        self.apply(Input(self._clock.now, "lost"))

    def expire(self) -> None:
        """`handle_timeout()`, if the deadline has come."""
        deadline = self.machine.deadline
        if deadline is not None and deadline <= self._clock.now:
            self.apply(Input(self._clock.now, "timeout"))

    def feed(self) -> bool:
        """Hands over the next piece, or the end; whether there was anything. Only when the machine wants to read."""
        if self.over or self.flow in (Flow.NEED_FLUSH, Flow.WAIT):
            return False
        if self._inbound:
            self.apply(Input(self._clock.now, "data", self._inbound.popleft()))
            return True
        if self._eof and not self._eof_told:
            self._eof_told = True
            self.apply(Input(self._clock.now, "eof"))
            return True
        return False

    def apply(self, item: Input) -> None:
        """Gives the machine an input, and keeps it."""
        self.inputs.append(item)
        match item.what:
            case "data":
                self.machine.receive_data(item.data)
            case "eof":
                self.machine.receive_eof()
            case "lost":
                self.machine.connection_lost()
            case "timeout":
                self.machine.handle_timeout()

    # What goes to the other end.

    def pull(self, send: Callable[[bytes], None]) -> bool:
        """Takes all events and all octets until the machine has to wait; whether there were any."""
        moved = False
        idle_flushes = 0
        while not self.over:
            event = self.machine.next_event()
            if isinstance(event, Flow):
                self.flow = event
                drained = self._drain(send)
                moved |= drained
                if event is not Flow.NEED_FLUSH or not self.reads:
                    break
                # Hearing that nothing is left may be all that the machine waited for, but it cannot wait for it again.
                idle_flushes = 0 if drained else idle_flushes + 1
                if idle_flushes > 2:
                    raise RuntimeError("NEED_FLUSH again, and all is drained")
            else:
                moved = True
                idle_flushes = 0
                self.over = isinstance(event, ConnectionClosed)
                self._on_event(event)
        if self.over and not self.shut:
            self._drain(send)  # a close_notify (RFC 8446 section 6.1)
        if not self.shut and (self.over or (self.machine.half_close and not self._held)):
            self.shut = moved = True
        return moved

    def _drain(self, send: Callable[[bytes], None]) -> bool:
        drained = False
        if not self.reads:
            # A driver has taken one piece and is stuck with it: it cannot ask for the next one.
            if not self._held:
                self._held = self.machine.data_to_send()
            return False
        if self._held:
            send(self._held)
            self._held, drained = b"", True
        while data := self.machine.data_to_send():
            send(data)
            drained = True
        return drained
