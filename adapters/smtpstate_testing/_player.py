"""Player: one connection of a scripted client, driven like any machine."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, final

from smtpstate import CloseReason, ConnectionClosed, Flow, Phase, ServerEvent, TlsInfo
from smtpstate_testing._conversation import Conversation
from smtpstate_testing._faucet import Faucet
from smtpstate_testing._patterns import fits

if TYPE_CHECKING:
    from collections.abc import Callable

_LAST_LINE: Final = re.compile(rb"^(?:\d{3}(?: [^\n]*)?|(?!\d{3}-)[^\n]*)\r?\n", re.MULTILINE)


@final
@dataclass(frozen=True, slots=True)
class Say:
    octets: bytes


@final
@dataclass(frozen=True, slots=True)
class ExpectReply:
    what: int | str


@final
@dataclass(frozen=True, slots=True)
class ExpectClose:
    pass


@final
@dataclass(frozen=True, slots=True)
class SlowDown:
    octets_per_second: float


@final
@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@final
@dataclass(frozen=True, slots=True)
class ShakeHands:
    pass


@final
@dataclass(frozen=True, slots=True)
class Leave:
    resets: bool


Act: TypeAlias = Say | ExpectReply | ExpectClose | SlowDown | Wait | ShakeHands | Leave
PlayerEvent: TypeAlias = ConnectionClosed


@final
@dataclass(frozen=True)
class Played:
    """How it went: what was said, the replies, how many seconds it took, and the server's events, if that was ours."""

    transcript: str
    replies: tuple[str, ...]
    seconds: float
    events: tuple[ServerEvent, ...] = field(default=(), repr=False)


@final
class Player:
    """A scripted client on one connection. Expectations that fail raise AssertionError out of `next_event()`."""

    def __init__(
        self,
        acts: tuple[Act, ...],
        clock: Callable[[], float],
        *,
        patience: float | None = None,
    ) -> None:
        self.acts: Final = acts
        self.closed: ConnectionClosed | None = None
        self.resets: bool = False
        self.recorded: Final = Conversation()
        self.replies: Final[list[str]] = []
        self._pending: Final[deque[Act]] = deque(acts)
        self._clock: Final = clock
        self._patience: Final = patience
        self._out: Final = Faucet(clock)
        self._in: Final = bytearray()
        self._wake: float | None = None  # when a pause ends, or patience does
        self._eof: bool = False
        self._shaking: bool = False  # it is the handshake's turn
        self._handshake: bool = False  # and it is not done

    # What a driver asks.

    @property
    def phase(self) -> Phase:
        """As much of it as a layer of TLS has to know."""
        if self.closed is not None:
            return Phase.CLOSED
        return Phase.TLS if self._handshake else Phase.READY

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
        """When a pause or the patience ends, or the next octet may leave."""
        return min((time for time in (self._wake, self._out.next_time) if time is not None), default=None)

    # Inputs.

    def receive_data(self, data: bytes) -> None:
        """Octets from the server."""
        self._in.extend(data)
        self.recorded.said(data)

    def receive_eof(self) -> None:
        """The server sends no more."""
        self._eof = True

    def connection_lost(self) -> None:
        """The connection broke."""
        self._eof = True
        self._out.clear()

    def handle_timeout(self) -> None:
        """Nothing ends by it: whoever pulls again finds what waited."""

    def tls_established(self, info: TlsInfo) -> None:
        """The handshake is done."""
        self._handshake = False

    def tls_failed(self) -> None:
        """The handshake failed."""
        self.give_up("and the handshake failed")

    # Acts.

    def next_event(self) -> PlayerEvent | Flow:
        """The end, or what to do until there is one."""
        while True:
            if self.closed is not None:
                return self.closed
            flow = self._act()
            if flow is not None:
                return flow

    def data_to_send(self) -> bytes:
        """Octets for the server."""
        return self._out.take()

    def _act(self) -> Flow | None:
        act = self._pending[0] if self._pending else Leave(resets=False)
        match act:
            case Say(octets):
                self._out.put(octets)
                self.recorded.heard(octets)
            case SlowDown(octets_per_second):
                self._out.slow(octets_per_second)
            case ExpectReply(what):
                if (last := _LAST_LINE.search(self._in)) is None:
                    return self._wait_for(f"a reply that is {what!r}")
                self._check(what, last.end())
            case ExpectClose():
                if self._in:
                    self.give_up("this came where the end was expected:", bytes(self._in).decode("latin-1"))
                if not self._eof:
                    return self._wait_for("the end of the connection")
            case Wait(seconds):
                if len(self._out):
                    return Flow.WAIT if self._out.next_time is not None else Flow.NEED_FLUSH
                if self._wake is None:
                    self._wake = self._clock() + seconds
                if self._clock() < self._wake:
                    return Flow.WAIT
            case ShakeHands():
                if not self._shaking:
                    self._shaking = self._handshake = True
                if self._handshake:
                    return Flow.NEED_TLS
                self._shaking = False
            case Leave(resets):
                if self._eof:
                    self._out.clear()  # nobody reads it any more
                if len(self._out):
                    return Flow.WAIT if self._out.next_time is not None else Flow.NEED_FLUSH
                self.resets = resets
                self.closed = ConnectionClosed(CloseReason.CLOSED)
        self._wake = None
        if self._pending:
            self._pending.popleft()
        return None

    def _check(self, what: int | str, end: int) -> None:
        reply = bytes(self._in[:end]).decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n")
        del self._in[:end]
        if not (reply.startswith(str(what)) if isinstance(what, int) else fits(what, reply)):
            self.give_up(f"a reply that is {what!r} was expected, and this came:", reply)
        self.replies.append(reply)

    def _wait_for(self, what: str) -> Flow:
        if self._eof:
            self.give_up(f"{what} was expected, and the connection ended")
        if self._patience is not None:
            if self._wake is None:
                self._wake = self._clock() + self._patience
            if self._clock() >= self._wake:
                self.give_up(f"{what} was expected, and did not come in {self._patience} seconds")
        return Flow.NEED_DATA

    def give_up(self, *why: str) -> NoReturn:
        """It did not go as the table says."""
        raise AssertionError("\n".join((*why, "what was said:", str(self.recorded))))
