"""Pair: a server and a client joined in memory, under a clock that moves when told."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, final

from smtpstate import (
    Auth,
    AuthResponse,
    ClientConnection,
    ClientEvent,
    Expn,
    Flow,
    Limits,
    Peer,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TraceLine,
    Vrfy,
)
from smtpstate.delivery import Wants
from smtpstate.extensions import OwnCommand
from smtpstate.policy import MX, EarlyInput, WireRules
from smtpstate_testing._clock import ManualClock
from smtpstate_testing._link import End, Input

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from smtpstate.delivery import Procedure
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy
    from smtpstate_testing._link import Cut, Machine

_T = TypeVar("_T")

Handler: TypeAlias = Callable[[ServerConnection, ServerEvent], None]
PairTls: TypeAlias = Literal["starttls", "implicit"]

HOSTNAME: Final = "mx.example.org"
# Whoever sends a whole dialogue in one piece wants to see what becomes of it.
DEFAULT: Final = ServerConfig(HOSTNAME, wire=WireRules(early_input=EarlyInput.NOTE))
PEER: Final = Peer("192.0.2.1", 40_000)


def accept_everything(server: ServerConnection, event: ServerEvent) -> None:
    """A handler that says yes to all mail; nobody is authenticated by it."""
    if server.owed is event and not isinstance(event, Vrfy | Expn | OwnCommand | Auth | AuthResponse):
        server.accept()


@final
class Pair:
    """A `ServerConnection` and a `ClientConnection`, and the wire between them. No socket, no thread, no sleep.

    `config` and `limits` are the server's; without a `config`, a client that does not wait for replies is let go on
    (`EarlyInput.NOTE`). `handler` sees the server's events and gives its verdicts, and what it raises comes out here.
    `cut` says how what one side writes is cut into what the other reads: into pieces of that many octets, or of those
    sizes in turn; None leaves it whole. With `tls` both sides use real TLS, with certificates that trustme makes
    ("starttls" offers it, "implicit" begins with it). `timeout` bounds the client's session. A `trusted` client may say
    XCLIENT and XFORWARD, if `config` offers them. `client_policy` is about the server's replies.

    Two ways to use it. As a pair: `client.send(...)` and `drive()`, or `run(procedure)`. Raw: `talk(...)` and
    `drip(...)` send the server whatever octets you like; from then on the client is out of it.
    """

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        limits: Limits | None = None,
        client_limits: Limits | None = None,
        client_hostname: str = "client.example.com",
        timeout: float | None = None,
        cut: Cut = None,
        tls: PairTls | None = None,
        trusted: bool = False,
        handler: Handler = accept_everything,
        client_extensions: tuple[Extension, ...] = (),
        client_policy: Policy = MX,
    ) -> None:
        config = config or DEFAULT
        config = replace(
            config, limits=config.limits if limits is None else limits, starttls=config.starttls or tls == "starttls"
        )
        implicit = tls == "implicit"
        self.clock: Final = ManualClock()
        self.server: Final = ServerConnection(
            config,
            clock=self.clock,
            peer=PEER,
            implicit_tls=implicit,
            trusted=trusted,
            trace=self._trace,
        )
        self.client: Final = ClientConnection(
            client_hostname,
            clock=self.clock,
            limits=client_limits,
            implicit_tls=implicit,
            timeout=timeout,
            lmtp=config.lmtp,
            extensions=client_extensions,
            policy=client_policy,
        )
        self.server_events: Final[list[ServerEvent]] = []
        self.client_events: Final[list[ClientEvent]] = []
        self._handler: Final = handler
        self._lines: Final[list[TraceLine]] = []
        self._received: Final = bytearray()
        self._claimed: int = 0  # how many of the client's events a procedure has seen
        self._raw: bool = False
        server_machine: Machine[ServerEvent] = self.server
        client_machine: Machine[ClientEvent] = self.client
        if tls is not None:
            from smtpstate.tls import secure
            from smtpstate_testing._certificates import client_context, server_context

            server_machine = secure(self.server, server_context(config.hostname))
            client_machine = secure(self.client, client_context(), server_hostname=config.hostname)
        self._server: Final = End(server_machine, self.clock, cut, self._on_server_event)
        self._client: Final = End(client_machine, self.clock, cut, self.client_events.append)

    # What was said.

    @property
    def received(self) -> bytes:
        """All octets that the server has sent so far, as they were on the wire."""
        return bytes(self._received)

    @property
    def transcript(self) -> str:
        """The conversation, one "C: " or "S: " before each line; in clear text, whatever the wire carried."""
        return "".join(
            f"{line.side}: {text}\n" for line in self._lines for text in _printable(line.line.removesuffix(b"\r\n"))
        )

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

    def _trace(self, line: TraceLine) -> None:
        self._lines.append(line)

    def _on_server_event(self, event: ServerEvent) -> None:
        self.server_events.append(event)
        self._handler(self.server, event)

    # As a pair.

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
            client.arrive_eof()
        return server.feed() or moved

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
                wanted = procedure.send(next(body, b"") if wanted is Wants.CHUNK else self._next_client_event())
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


# Whatever could make a line look like two, or like something else.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


def _printable(data: bytes) -> list[str]:
    lines = [line.decode("ascii", "backslashreplace") for line in data.split(b"\r\n")]
    return [_UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", line) for line in lines]


def replay(
    inputs: Iterable[Input],
    config: ServerConfig | None = None,
    *,
    limits: Limits | None = None,
    handler: Handler = accept_everything,
) -> bytes:
    """What a new server says when the same inputs reach it at the same times.

    With the same `config` and `handler` it is what the old one said, if nothing was encrypted and the peer did read.
    """
    config = config or DEFAULT
    clock = ManualClock()
    connection = ServerConnection(
        replace(config, limits=config.limits if limits is None else limits), clock=clock, peer=PEER
    )
    server = End[ServerEvent](connection, clock, None, lambda event: handler(connection, event))
    said = bytearray()
    server.pull(said.extend)
    for item in inputs:
        clock.jump_to(item.at)
        server.apply(item)
        server.pull(said.extend)
    return bytes(said)
