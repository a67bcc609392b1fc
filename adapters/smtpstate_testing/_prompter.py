"""Prompter: a server that says what stands in a transcript, and goes no further than the client does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate import ClientConnection, CloseReason, ConnectionClosed, Flow, ServerEvent
from smtpstate_testing._clock import ManualClock
from smtpstate_testing._joint import Joint
from smtpstate_testing._transcript import ANY, Line, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smtpstate_testing._link import Cut


@final
class Prompter:
    """Reads a transcript to a client. When that says something else it closes; `happened` is what was said."""

    def __init__(self, lines: Sequence[Line], clock: Callable[[], float]) -> None:
        self.closed: ConnectionClosed | None = None
        self.happened: Final[list[Line]] = []
        self._pending: Final = list(reversed(lines))
        self._clock: Final = clock
        self._out: bytes = b""
        self._in: bytes = b""
        self._wake: float | None = None
        self._eof: bool = False

    @property
    def half_close(self) -> bool:
        """Whether all is said."""
        return self.closed is not None and not self._out

    @property
    def deadline(self) -> float | None:
        """When the time that is to pass has passed."""
        return self._wake

    def receive_data(self, data: bytes) -> None:
        """Octets from the client."""
        self._in += data

    def receive_eof(self) -> None:
        """The client says no more."""
        self._eof = True

    def connection_lost(self) -> None:
        """The same."""
        self._eof = True

    def handle_timeout(self) -> None:
        """Nothing ends by it."""

    def data_to_send(self) -> bytes:
        """Octets for the client."""
        octets, self._out = self._out, b""
        return octets

    def next_event(self) -> ServerEvent | Flow:
        """The end, or what to do until there is one."""
        while self.closed is None:
            flow = self._go_on()
            if flow is not None:
                return flow
        return Flow.NEED_FLUSH if self._out else self.closed

    def _go_on(self) -> Flow | None:
        if not self._pending:
            return self._listen()
        line = self._pending[-1]
        if line.side == "T":
            if self._wake is None:
                self._wake = self._clock() + float(line.text)
            if self._clock() < self._wake:
                return Flow.WAIT
            self._wake = None
        elif line.side == "S" and line.closes:
            self._end()
        elif line.side == "S":
            self._out += line.octets
        elif line.closes:
            if self._in:
                return self._listen()
            if not self._eof:
                return Flow.NEED_DATA
        else:
            return self._hear(line)
        self.happened.append(self._pending.pop())
        return None

    def _hear(self, line: Line) -> Flow | None:
        """One line of the client's."""
        whole = line.octets.endswith(b"\r\n")
        end = self._in.find(b"\r\n") + 2 if whole else len(line.octets)
        if end < 2 or len(self._in) < end:
            return self._listen() if self._eof else Flow.NEED_DATA
        [heard] = lines_of("C", self._in[:end])
        self._in = self._in[end:]
        self.happened.append(heard)
        if line.fits(heard):
            self._pending.pop()
        else:
            self._listen()
            self._end()
        return None

    def _listen(self) -> Flow | None:
        """Notes what else the client says; it ends when the client does."""
        self.happened.extend(lines_of("C", self._in))
        self._in = b""
        if not self._eof:
            return Flow.NEED_DATA
        self.happened.append(Line("C", "", closes=True))
        self._end()
        return None

    def _end(self) -> None:
        self.closed = ConnectionClosed(CloseReason.CLOSED)


@final
class PromptedPair(Joint):
    """A `ClientConnection`, and a transcript that serves it."""

    def __init__(self, lines: Sequence[Line], *, cut: Cut = None, client_hostname: str = "client.example.com") -> None:
        if vague := next((line for line in lines if line.side == "S" and ANY in line.text), None):
            raise ValueError(f"this cannot be said as it stands: {vague}")
        clock = ManualClock()
        client = ClientConnection(client_hostname, clock=clock)
        self._prompter: Final = Prompter(lines, clock)
        super().__init__(clock, client, client, self._prompter, lambda event: None, cut)

    @property
    def happened(self) -> list[Line]:
        """What was said so far."""
        return self._prompter.happened
