"""A server that follows a script, a clock that is set by hand, and the loop between them and a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, final

from smtpstate._client import ClientConnection
from smtpstate._commands import Command, Ehlo, EndOfMessage, Lhlo
from smtpstate._delivery import Procedure, Wants
from smtpstate._events import Body, ClientEvent, ConnectionClosed, Flow, ReplyReceived, TlsInfo
from smtpstate._policy import MX, Leftover

if TYPE_CHECKING:
    from smtpstate._budget import Limits
    from smtpstate._policy import Policy

CUTS: Final = (1, 2, 3, 4, 99)
TLS: Final = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")
HELLO: Final = b"EHLO me.example\r\n"
LMTP_HELLO: Final = b"LHLO me.example\r\n"

# What the server waits for, and what it says then.
Script: TypeAlias = Sequence[tuple[bytes, bytes]]
Item: TypeAlias = Command | Body | EndOfMessage
_T = TypeVar("_T")


@final
class ManualClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@final
class Wire:
    """A client at one end, a script at the other. `cut` is how many octets of the server's arrive at once.

    When the script is at its end the server closes if `eof`, and otherwise says nothing until the client's deadline.
    """

    def __init__(
        self,
        script: Script,
        *,
        cut: int = 99,
        eof: bool = False,
        implicit_tls: bool = False,
        handshakes: bool = True,
        timeout: float | None = None,
        limits: Limits | None = None,
        lmtp: bool = False,
        policy: Policy = MX,
        leftover: Leftover = Leftover.CLOSE,
    ) -> None:
        self.clock = ManualClock()
        self.client = ClientConnection(
            "me.example",
            clock=self.clock,
            implicit_tls=implicit_tls,
            timeout=timeout,
            limits=limits,
            lmtp=lmtp,
            policy=policy,
            leftover=leftover,
        )
        self.script = list(script)
        self.cut = cut
        self.eof = eof
        self.handshakes = handshakes  # whether they succeed
        self.groups: list[bytes] = []  # what the client wrote, one entry for each write
        self.in_clear: list[bytes] = []  # what of it came before a handshake
        self._heard = b""
        self._pending = b""
        self._listen()

    @property
    def written(self) -> bytes:
        return b"".join(self.groups)

    def pull(self) -> ClientEvent | Flow:
        """Moves octets until there is an event, or nothing is outstanding and nothing on its way."""
        client = self.client
        while True:
            event = client.next_event()
            if not isinstance(event, Flow):
                return event
            self._drain()
            if event is Flow.NEED_TLS and self.handshakes:
                client.tls_established(TLS)
            elif event is Flow.NEED_TLS:
                client.tls_failed()
            elif self._pending:
                client.receive_data(self._pending[: self.cut])
                self._pending = self._pending[self.cut :]
            elif self.eof and not self.script:
                client.receive_eof()
            elif event is Flow.NEED_COMMAND:
                return event
            else:
                assert client.deadline is not None
                assert client.deadline > self.clock.now
                self.clock.now = client.deadline
                client.handle_timeout()

    def events(self) -> list[ClientEvent]:
        """All events until nothing is outstanding, or the end."""
        events: list[ClientEvent] = []
        while not isinstance(event := self.pull(), Flow):
            events.append(event)
            if isinstance(event, ConnectionClosed):
                break
        return events

    def say(self, *items: Item, at_once: bool = False) -> list[ClientEvent]:
        """Sends the items, each when nothing is outstanding or all in one go, until the end; gives all events."""
        events: list[ClientEvent] = []
        for item in items:
            if not self.client.send(item):
                break
            if not at_once:
                events += self.events()
        return events + (self.events() if at_once else [])

    def open(self) -> Wire:
        """Takes the greeting, and says EHLO, or LHLO."""
        self.events()
        self.say(Lhlo("me.example") if self.client.lmtp else Ehlo("me.example"))
        return self

    def run(self, procedure: Procedure[_T], *chunks: bytes) -> _T:
        """Gives a procedure what it wants, and returns its result."""
        return self.resume(procedure, None, *chunks)

    def resume(self, procedure: Procedure[_T], given: ClientEvent | Flow | bytes | None, *chunks: bytes) -> _T:
        """As `run`, for a procedure that has begun already, with what it waits for; None begins it."""
        body = list(chunks)
        try:
            wanted = next(procedure) if given is None else procedure.send(given)
            while True:
                if wanted is Wants.EVENT:
                    wanted = procedure.send(self.pull())
                elif wanted is Wants.CHUNK:
                    wanted = procedure.send(body.pop(0) if body else b"")
                else:
                    wanted = procedure.send(wanted.run())
        except StopIteration as stop:
            result: _T = stop.value
            return result

    def until_body(self, procedure: Procedure[_T]) -> None:
        """Begins a procedure, and goes on until it asks for a piece of the body."""
        wanted = next(procedure)
        while wanted is Wants.EVENT:
            wanted = procedure.send(self.pull())
        assert wanted is Wants.CHUNK

    def _drain(self) -> None:
        while data := self.client.data_to_send():
            self.groups.append(data)
            if self.client.tls is None:
                self.in_clear.append(data)
            self._heard += data
        self._listen()

    def _listen(self) -> None:
        while self.script:
            expected, reply = self.script[0]
            if not self._heard.startswith(expected):
                assert expected.startswith(self._heard), (self._heard, expected)
                return
            self._heard = self._heard[len(expected) :]
            self._pending += reply
            del self.script[0]


def codes(events: Sequence[ClientEvent]) -> list[tuple[str, int]]:
    """Which verb got which code."""
    return [(event.to.verb.name, event.reply.code) for event in events if isinstance(event, ReplyReceived)]
