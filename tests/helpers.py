"""What the tests of the server's seat share: a clock set by hand, and a seat with somebody in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, final

from smtpstate import (
    ConnectionClosed,
    Flow,
    Limits,
    Peer,
    Phase,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TraceLine,
)
from smtpstate._state import Session
from smtpstate.policy import EarlyInput

if TYPE_CHECKING:
    from smtpstate._trace import TraceRecord

Handler = Callable[[ServerConnection, ServerEvent], None]


@final
class ManualClock:
    """Shows the time it was set to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


def session_at(phase: Phase, *facts: str, lmtp: bool = False, tls: bool = False, auth: bool = False) -> Session:
    """A session in this phase of which these facts hold; `tls` and `auth` are what it needs before it takes mail."""
    session = Session(phase, lmtp=lmtp, needs_tls=tls, needs_auth=auth)
    for fact in facts:
        assert getattr(session, fact) is False
        setattr(session, fact, True)
    return session


def accept_all(connection: ServerConnection, event: ServerEvent) -> None:
    """Says yes to whatever a yes can be said to."""
    if connection.owed is event:
        connection.accept()


def silent(connection: ServerConnection, event: ServerEvent) -> None:
    """Leaves everything to the defaults."""


@final
class Seat:
    """A ServerConnection, a clock, and the least that a driver does around them.

    `events` are all events so far, `flow` is the last Flow. Dialogues are fed in one piece here, so what comes early is
    only noted, unless a test asks for more.
    """

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        limits: Limits | None = None,
        handler: Handler = accept_all,
        implicit_tls: bool = False,
        greet: bool = True,
        peer: Peer | None = None,
        trusted: bool = False,
        early_input: EarlyInput = EarlyInput.NOTE,
    ) -> None:
        if config is None:
            config = ServerConfig("mx.example.org", limits or Limits())
        if config.wire.early_input is not early_input:
            config = replace(config, wire=replace(config.wire, early_input=early_input))
        self.clock = ManualClock()
        self.traced: list[TraceLine] = []
        self.records: list[TraceRecord] = []
        self.connection = ServerConnection(
            config,
            clock=self.clock,
            peer=peer,
            implicit_tls=implicit_tls,
            trusted=trusted,
            trace=self._trace,
        )
        self.handler = handler
        self.events: list[ServerEvent] = []
        self.flow: Flow | None = None
        if greet:
            self.pull()
            self.drain()

    def _trace(self, record: TraceRecord) -> None:
        self.records.append(record)
        if isinstance(record, TraceLine):
            self.traced.append(record)

    def drain(self) -> bytes:
        """All output, which then has left."""
        pieces: list[bytes] = []
        while piece := self.connection.data_to_send():
            pieces.append(piece)
        return b"".join(pieces)

    def pull(self) -> Flow | ConnectionClosed:
        """Hands all events to the handler, until there is something else to do."""
        while not isinstance(event := self.connection.next_event(), Flow):
            if isinstance(event, ConnectionClosed):
                self.events.append(event)
                return event
            self.events.append(event)
            self.handler(self.connection, event)
        self.flow = event
        return event

    def say(self, data: bytes) -> bytes:
        """Feeds octets, and returns what is answered; nothing is read before all of it has left."""
        self.connection.receive_data(data)
        return self.settle()

    def settle(self) -> bytes:
        """Pulls and drains until input is all that is missing; waits for what is late."""
        answers = b""
        while True:
            result = self.pull()
            piece = self.drain()
            answers += piece
            if result is Flow.WAIT:
                self.clock.now = self.connection.deadline or self.clock.now
                self.connection.handle_timeout()
            elif result is not Flow.NEED_FLUSH and not piece:
                return answers

    def wait(self, seconds: float) -> bytes:
        """Lets time pass, handles it, and returns what is said."""
        self.clock.now += seconds
        self.connection.handle_timeout()
        return self.settle()

    def of_type(self, *kinds: type) -> list[ServerEvent]:
        """The events of these types, in order."""
        return [event for event in self.events if isinstance(event, kinds)]


def ready(config: ServerConfig | None = None, *, limits: Limits | None = None, handler: Handler = accept_all) -> Seat:
    """A seat after EHLO."""
    seat = Seat(config, limits=limits, handler=handler)
    seat.say(b"EHLO client.example\r\n")
    return seat


def in_transaction(
    config: ServerConfig | None = None, *, limits: Limits | None = None, handler: Handler = accept_all
) -> Seat:
    """A seat after MAIL and one accepted RCPT."""
    seat = ready(config, limits=limits, handler=handler)
    seat.say(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n")
    return seat


def in_body(config: ServerConfig | None = None, *, limits: Limits | None = None, handler: Handler = accept_all) -> Seat:
    """A seat after DATA."""
    seat = in_transaction(config, limits=limits, handler=handler)
    seat.say(b"DATA\r\n")
    return seat


def codes(answers: bytes) -> list[int]:
    """The code of each reply, checked to be well-formed (RFC 5321 section 4.2)."""
    found: list[int] = []
    assert answers == b"" or answers.endswith(b"\r\n")
    for line in answers.split(b"\r\n")[:-1]:
        assert len(line) <= 510
        assert line[:3].isdigit()
        assert line[3:4] in (b" ", b"-")
        assert all(0x20 <= octet < 0x7F for octet in line), line
        if line[3:4] == b" ":
            found.append(int(line[:3]))
    return found
