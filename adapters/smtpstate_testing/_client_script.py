"""ClientScript: a client written as a table, for a server in memory or on a port."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate import Command, Limits, ServerConfig, ServerConnection, ServerEvent
from smtpstate._syntax import encode_command
from smtpstate_testing._actor import Actor
from smtpstate_testing._clock import ManualClock
from smtpstate_testing._link import End
from smtpstate_testing._player import (
    Act,
    ExpectClose,
    ExpectReply,
    Leave,
    Played,
    Player,
    Say,
    ShakeHands,
    SlowDown,
    Wait,
)
from smtpstate_testing._recording import HOSTNAME, PEER, accept_everything
from smtpstate_testing._script import Course, Script
from smtpstate_testing._sockets import drive, reset
from smtpstate_testing._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from smtpstate_testing._link import Cut, Machine
    from smtpstate_testing._pair import PairTls
    from smtpstate_testing._player import PlayerEvent
    from smtpstate_testing._recording import Handler

_ANY_LENGTH: Final = 1 << 62  # a limit for lines that are allowed to be wrong

Server: TypeAlias = ServerConfig | Script | Course | None


@final
@dataclass(frozen=True, slots=True)
class ClientScript:
    """What a client does, in order: each method gives a table with one thing more. At its end it hangs up.

    `play()` runs it against a server in memory, `connect()` against anybody's on a port. What was expected and did not
    come raises AssertionError, with all that was said. `seed` is where garbage comes from.
    """

    acts: tuple[Act, ...] = ()
    seed: int = 0

    def _and(self, act: Act) -> ClientScript:
        return replace(self, acts=(*self.acts, act))

    def say(self, what: Command | str | bytes) -> ClientScript:
        """Sends a command, a line without its ending, or octets as they are. Waits for nothing."""
        match what:
            case bytes():
                octets = what
            case str():
                octets = what.encode("utf-8", "surrogateescape") + b"\r\n"
            case _:
                octets = encode_command(what, _ANY_LENGTH, utf8=True)
        return self._and(Say(octets))

    def expect(self, what: int | str = "*") -> ClientScript:
        """Waits for a whole reply: with this code, or that fits `2*` or `250 2.1.5 *`; a newline joins its lines."""
        return self._and(ExpectReply(what))

    def expect_close(self) -> ClientScript:
        """Waits for the end of the connection; a reply before it is one too many."""
        return self._and(ExpectClose())

    def garbage(self, octets: int = 64) -> ClientScript:
        """Sends so many octets that mean nothing, drawn by the seed and by what stands before."""
        return self._and(Say(Random(f"{self.seed} {len(self.acts)}").randbytes(octets)))

    def slow(self, octets_per_second: float) -> ClientScript:
        """Whatever is sent from here on leaves at this rate, octet by octet."""
        if not octets_per_second > 0:
            raise ValueError(f"no rate: {octets_per_second}")
        return self._and(SlowDown(octets_per_second))

    def wait(self, seconds: float) -> ClientScript:
        """Lets so many seconds pass, and reads nothing."""
        return self._and(Wait(seconds))

    def start_tls(self) -> ClientScript:
        """Shakes hands: after the reply to STARTTLS, or first of all."""
        return self._and(ShakeHands())

    def drop(self) -> ClientScript:
        """Closes the connection, once all has left."""
        return self._and(Leave(resets=False))

    def reset(self) -> ClientScript:
        """Resets the connection."""
        return self._and(Leave(resets=True))

    def play(
        self,
        server: Server = None,
        *,
        handler: Handler = accept_everything,
        limits: Limits | None = None,
        tls: PairTls | None = None,
        cut: Cut = None,
    ) -> Played:
        """Plays it in memory against our server, whose verdicts `handler` gives, or against a script.

        Where both wait time passes until one of them does not. The arguments are as a Pair's.
        """
        clock = ManualClock()
        player = Player(self.acts, clock)
        implicit = tls == "implicit"
        server_machine: Machine[ServerEvent]
        if isinstance(server, Script | Course):
            course = server if isinstance(server, Course) else Course(server)
            hostname = course.script.hostname
            actor = Actor(course, clock, offers_tls=tls is not None, implicit_tls=implicit)
            server_machine = _secured(actor, hostname) if tls is not None else actor
            return _joined(clock, player, server_machine, lambda event: None, cut, hostname)
        config = server or ServerConfig(HOSTNAME)
        config = replace(config, limits=limits or config.limits, starttls=config.starttls or tls == "starttls")
        connection = ServerConnection(config, clock=clock, peer=PEER, implicit_tls=implicit)
        server_machine = _secured(connection, config.hostname) if tls is not None else connection
        return _joined(clock, player, server_machine, lambda event: handler(connection, event), cut, config.hostname)

    def connect(self, host: str, port: int, *, tls: SSLContext | None = None, timeout: float = 30.0) -> Played:
        """Plays it against whoever listens there. What is expected has to come within `timeout` seconds."""
        player = Player(self.acts, time.monotonic, patience=timeout)
        machine: Machine[PlayerEvent] = player
        if tls is not None:
            from smtpstate.tls import secure

            machine = secure(player, tls, server_hostname=host, server_side=False)
        begun = time.monotonic()
        with socket.create_connection((host, port), timeout) as sock:
            drive(sock, machine, lambda event: None, threading.Event())
            if player.resets:
                reset(sock)
        return Played(str(player.recorded), tuple(player.replies), time.monotonic() - begun)


def _secured(connection: ServerConnection | Actor, hostname: str) -> Machine[ServerEvent]:
    from smtpstate.tls import secure
    from smtpstate_testing._certificates import server_context

    return secure(connection, server_context(hostname), server_side=True)


class _Stage(Wire["PlayerEvent"]):
    """A player and a server."""

    player: Player

    def _client_left(self) -> None:
        if self.player.resets:
            self._server.lose()
        else:
            super()._client_left()


def _joined(
    clock: ManualClock,
    player: Player,
    server: Machine[ServerEvent],
    on_event: Callable[[ServerEvent], None],
    cut: Cut,
    hostname: str,
) -> Played:
    events: list[ServerEvent] = []

    def note(event: ServerEvent) -> None:
        events.append(event)
        on_event(event)

    machine: Machine[PlayerEvent] = player
    if any(isinstance(act, ShakeHands) for act in player.acts):
        from smtpstate.tls import secure
        from smtpstate_testing._certificates import client_context

        machine = secure(player, client_context(), server_hostname=hostname, server_side=False)
    stage = _Stage(clock, End(machine, clock, cut, lambda event: None), End(server, clock, cut, note))
    stage.player = player
    stage.drive()
    while player.closed is None:
        if not stage.jump():
            player.give_up("and nothing will ever come")
    stage.drive()
    return Played(str(player.recorded), tuple(player.replies), clock.now, tuple(events))
