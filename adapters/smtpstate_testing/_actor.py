"""Actor: one connection of a scripted server, driven like any machine."""

from __future__ import annotations

import re
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final, final

from smtpstate import (
    Auth,
    AuthResponse,
    Bdat,
    CloseReason,
    CommandRefused,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    Flow,
    Helo,
    Lhlo,
    Mail,
    Phase,
    Quit,
    Rcpt,
    Reply,
    Rset,
    ServerEvent,
    StartTls,
    TlsInfo,
    Violation,
)
from smtpstate._errors import GrammarError
from smtpstate._syntax import find_verb, parse_command, parse_response
from smtpstate_testing._conversation import Conversation, Recorded
from smtpstate_testing._faucet import Faucet
from smtpstate_testing._rows import SILENT, End, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate_testing._patterns import Heard
    from smtpstate_testing._script import Course

_STUFFED: Final = re.compile(rb"(\A|\r\n)\.")
_NOT_UNDERSTOOD: Final = Reply(500, "Command not recognised", enhanced="5.5.2")


class _Mode(Enum):
    """What the next octets are."""

    COMMAND = "a command"
    RESPONSE = "an answer to a challenge"
    BODY = "a message, to its dot"
    CHUNK = "octets of a chunk"
    HANDSHAKE = "a handshake"


@final
class Actor:
    """A scripted server on one connection. What it hears is handed out as events; nobody owes it a verdict.

    `on_message` is given each message that is answered 2yz, before the answer leaves; `recorded` is what was said.
    `resets` says that the end is no clean one.
    """

    def __init__(
        self, course: Course, clock: Callable[[], float], *, offers_tls: bool = False, implicit_tls: bool = False
    ) -> None:
        self.closed: ConnectionClosed | None = None
        self.resets: bool = False
        self.tls: TlsInfo | None = None
        self.recorded: Final = Conversation()
        self.on_message: Callable[[Recorded], None] = lambda message: None
        self._course: Final = course
        self._clock: Final = clock
        self._offers_tls: Final = offers_tls
        self._out: Final = Faucet(clock)
        self._in: Final = bytearray()
        self._searched: int = 0  # of those octets, how many are no end of a body
        self._events: Final[deque[ServerEvent]] = deque()
        self._pending: Final[deque[tuple[Heard, Step, bool]]] = deque()  # whether it answers
        self._wake: float | None = None
        self._mode: _Mode = _Mode.HANDSHAKE if implicit_tls else _Mode.COMMAND
        self._greeted: bool = False
        self._stalled: bool = False
        self._eof: bool = False
        self._login: Auth | None = None
        self._chunk: Bdat | None = None
        self._thresholds: list[tuple[int, int]] = []
        self._hello: str = ""
        self._sender: str = ""
        self._recipients: list[str] = []
        self._data: bytes = b""

    # What a driver asks.

    @property
    def phase(self) -> Phase:
        """As much of it as a layer of TLS has to know."""
        if self.closed is not None:
            return Phase.CLOSED
        return Phase.TLS if self._mode is _Mode.HANDSHAKE and not self._course.script.stalls_handshake else Phase.READY

    @property
    def half_close(self) -> bool:
        """Whether all is said."""
        return self.closed is not None and not len(self._out)

    @property
    def reads_first(self) -> bool:
        """Never: it waits where its script says so."""
        return False

    @property
    def deadline(self) -> float | None:
        """When it wants to go on: it is patient, and only waits for what its script lets wait."""
        times = [time for time in (self._wake, self._out.next_time) if time is not None and not self._stalled]
        return min(times, default=None)

    # Inputs.

    def receive_data(self, data: bytes) -> None:
        if self.closed is None and not self._stalled and self._mode is not _Mode.HANDSHAKE:
            self._in.extend(data)

    def receive_eof(self) -> None:
        self._eof = True

    def connection_lost(self) -> None:
        self._out.clear()
        self._end(CloseReason.LOST)

    def handle_timeout(self) -> None:
        """Nothing ends by it: whoever pulls again finds what waited."""

    def tls_established(self, info: TlsInfo) -> None:
        self.tls = info
        self._mode = _Mode.COMMAND

    def tls_failed(self) -> None:
        self._end(CloseReason.TLS_FAILED)

    # Events.

    def next_event(self) -> ServerEvent | Flow:
        """The next thing heard, or what to do until there is one."""
        while True:
            if self._events:
                return self._events.popleft()
            if self.closed is not None:
                if len(self._out):
                    return Flow.WAIT if self._out.next_time is not None else Flow.NEED_FLUSH
                return self.closed
            flow = self._step()
            if flow is not None:
                return flow

    def data_to_send(self) -> bytes:
        return b"" if self._stalled else self._out.take()

    def _step(self) -> Flow | None:
        if self._stalled:
            return Flow.WAIT
        if self._pending:
            return self._do_next()
        if self._mode is _Mode.HANDSHAKE:
            if self._eof:
                self._end(CloseReason.EOF)
                return None
            return Flow.NEED_DATA if self._course.script.stalls_handshake else Flow.NEED_TLS
        if not self._greeted:
            self._greeted = True
            self._hear(Connected())
            return None
        if self._read():
            return None
        if self._eof:
            self._end(CloseReason.EOF)
            return None
        return Flow.NEED_DATA

    # What is heard.

    def _read(self) -> bool:
        """Reads what is whole; whether there was anything."""
        if self._mode is _Mode.BODY:
            return self._read_body()
        if self._mode is _Mode.CHUNK:
            return self._read_chunk()
        end = self._in.find(b"\n")
        if end < 0:
            return False
        line = self._take(end + 1)
        self.recorded.heard(line if self._mode is _Mode.COMMAND else b"***\r\n")
        self._hear(self._parsed(line.rstrip(b"\r\n")))
        return True

    def _take(self, size: int) -> bytes:
        taken = bytes(self._in[:size])
        del self._in[:size]
        return taken

    def _parsed(self, line: bytes) -> Heard:
        try:
            if self._mode is _Mode.RESPONSE:
                return parse_response(line)
            return parse_command(find_verb(line), line, utf8=True)
        except GrammarError:
            return CommandRefused(line, Violation.UNKNOWN_COMMAND, _NOT_UNDERSTOOD)

    def _read_body(self) -> bool:
        body = self._in
        end = 0 if body.startswith(b".\r\n") else body.find(b"\r\n.\r\n", max(0, self._searched - 4)) + 2
        whole = end != 1
        if self._thresholds and (end if whole else len(body)) >= self._thresholds[0][0]:
            _, index = self._thresholds.pop(0)
            self._pending.append((Data(), self._course.at(index), False))
            return True
        if not whole:
            self._searched = len(body)
            return False
        wire = self._take(end + 3)
        self._searched = 0
        self.recorded.heard(wire)
        self._data = _STUFFED.sub(rb"\1", wire[:-3])
        self._mode = _Mode.COMMAND
        self._hear(EndOfMessage(len(self._data)))
        return True

    def _read_chunk(self) -> bool:
        chunk = self._chunk
        assert chunk is not None
        if len(self._in) < chunk.size:
            return False
        octets = self._take(chunk.size)
        self.recorded.heard(octets)
        self._data += octets
        self._mode = _Mode.COMMAND
        self._pending.append((chunk, self._course.answer(chunk), True))
        return True

    def _hear(self, heard: Heard) -> None:
        self._events.append(heard)
        if isinstance(heard, Bdat):
            self._chunk, self._mode = heard, _Mode.CHUNK
        else:
            self._pending.append((heard, self._course.answer(heard), True))

    # What is done.

    def _do_next(self) -> Flow | None:
        heard, step, answers = self._pending[0]
        if step.delay and self._wake is None:
            self._wake = self._clock() + step.delay
        if self._wake is not None and self._clock() < self._wake:
            return Flow.WAIT
        self._wake = None
        self._pending.popleft()
        if step.rate is not None:
            self._out.slow(step.rate)
        said = self._said(heard, step) if answers else self._extra(step)
        if step.garbage:
            said += self._course.random.randbytes(step.garbage)
        self._put(said)
        if answers:
            self._pending.extendleft((heard, after, False) for after in reversed(list(self._course.afterwards(heard))))
            self._move(heard, said)
        self._leave(step.end)
        return None

    def _said(self, heard: Heard, step: Step) -> bytes:
        script = self._course.script
        match step.answer:
            case bytes() as octets:
                return octets
            case Reply() as reply:
                return script.encode(reply, heard)
            case None if script.lmtp and isinstance(heard, EndOfMessage):
                return script.encode(script.usual(heard, tls=False), heard) * max(1, len(self._recipients))
            case None if isinstance(heard, AuthResponse) and self._asks_twice():
                return script.encode(Reply(334, "UGFzc3dvcmQ6"), heard)
            case None:
                return script.encode(script.usual(heard, tls=self._offers_tls and self.tls is None), heard)
            case _:
                assert step.answer is SILENT
                return b""

    def _asks_twice(self) -> bool:
        """LOGIN wants a name and a password, and this was the name."""
        asked = self._login is not None and self._login == Auth("LOGIN")
        self._login = None
        return asked

    @staticmethod
    def _extra(step: Step) -> bytes:
        return step.answer if isinstance(step.answer, bytes) else b""

    def _put(self, octets: bytes) -> None:
        self._out.put(octets)
        self.recorded.said(octets)

    def _move(self, heard: Heard, said: bytes) -> None:
        """What comes next is what the first digit means to whoever reads it."""
        digit = said[:1]
        if said[:3] in (b"421", b"521"):
            self._end(CloseReason.CLOSED)
            return
        match heard:
            case Auth() | AuthResponse():
                self._mode = _Mode.RESPONSE if digit == b"3" else _Mode.COMMAND
                if isinstance(heard, Auth):
                    self._login = heard
            case Data() if digit == b"3":
                self._mode = _Mode.BODY
                self._thresholds = self._course.thresholds(heard)
            case StartTls() if digit == b"2":
                self._mode = _Mode.HANDSHAKE
                self._in.clear()
            case Quit() if digit == b"2":
                self._end(CloseReason.QUIT)
            case Ehlo(domain) | Helo(domain) | Lhlo(domain) if digit == b"2":
                self._hello = domain
                self._begin("")
            case Rset() if digit == b"2":
                self._begin("")
            case Mail(path) if digit == b"2":
                self._begin(path.address)
            case Rcpt(path) if digit == b"2":
                self._recipients.append(path.address)
            case EndOfMessage() | Bdat(last=True):
                if digit == b"2":
                    recipients = tuple(self._recipients)
                    self.on_message(Recorded(self._sender, recipients, self._data, self._hello, self.tls))
                self._begin("")
            case _:
                self._mode = _Mode.COMMAND

    def _begin(self, sender: str) -> None:
        self._sender, self._data = sender, b""
        self._recipients.clear()

    def _leave(self, end: End) -> None:
        match end:
            case End.GOES_ON:
                pass
            case End.DROPS:
                self._end(CloseReason.CLOSED)
            case End.RESETS:
                self.resets = True
                self._end(CloseReason.LOST)
            case End.STALLS:
                self._stalled = True

    def _end(self, reason: CloseReason) -> None:
        if self.closed is None:
            self.closed = ConnectionClosed(reason)
            self._pending.clear()
            self._in.clear()
