"""Recordings: what reached a server, and the same once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate import Auth, AuthResponse, Expn, Limits, Peer, ServerConfig, ServerConnection, ServerEvent, Vrfy
from smtpstate.extensions import OwnCommand
from smtpstate.policy import EarlyInput, WireRules
from smtpstate_testing._clock import ManualClock
from smtpstate_testing._link import End, Input

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate.trace import TraceRecord

Handler: TypeAlias = Callable[[ServerConnection, ServerEvent], None]

PEER: Final = Peer("192.0.2.1", 40_000)
HOSTNAME: Final = "mx.example.org"
# Whoever sends a whole dialogue in one piece wants to see what becomes of it.
DEFAULT: Final = ServerConfig(HOSTNAME, wire=WireRules(early_input=EarlyInput.NOTE))


def accept_everything(server: ServerConnection, event: ServerEvent) -> None:
    """A handler that says yes to all mail; nobody is authenticated by it."""
    if server.owed is event and not isinstance(event, Vrfy | Expn | OwnCommand | Auth | AuthResponse):
        server.accept()


@final
@dataclass(frozen=True)
class Replayed:
    """What came of a recording: what the server said, its events, and its trace."""

    received: bytes
    events: tuple[ServerEvent, ...] = field(repr=False)
    records: tuple[TraceRecord, ...] = field(repr=False)


@final
@dataclass(frozen=True)
class Recording:
    """What reached a server from outside, and when; `Pair.recording` is one. It holds octets, secrets among them."""

    inputs: tuple[Input, ...] = field(repr=False)
    config: ServerConfig
    trusted: bool = False

    def replay(self, handler: Handler = accept_everything) -> Replayed:
        """A new server is given the same at the same times. With the same verdicts it says and tells the same."""
        clock = ManualClock()
        events: list[ServerEvent] = []
        records: list[TraceRecord] = []
        connection = ServerConnection(
            self.config, clock=clock, peer=PEER, trusted=self.trusted, trace=lambda record: records.append(record)
        )

        def on_event(event: ServerEvent) -> None:
            events.append(event)
            handler(connection, event)

        server = End[ServerEvent](connection, clock, None, on_event)
        said = bytearray()
        server.pull(said.extend)
        for item in self.inputs:
            clock.jump_to(item.at)
            server.apply(item)
            server.pull(said.extend)
        return Replayed(bytes(said), tuple(events), tuple(records))


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
    config = replace(config, limits=config.limits if limits is None else limits)
    return Recording(tuple(inputs), config).replay(handler).received
