"""Plays scenarios in memory, under a clock that moves when told: one seat against a counterpart, or both together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

from smtpstate import ClientConnection, ClientEvent, ConnectionClosed, Flow, Peer, ServerConnection, ServerEvent
from smtpstate.delivery import Wants
from smtpstate.tls import secure
from smtpstate_testing import ManualClock, Pair
from smtpstate_testing._certificates import client_context, server_context
from smtpstate_testing._counterpart import Counterpart
from smtpstate_testing._dialogue import Act
from smtpstate_testing._link import End
from smtpstate_testing._opposite import plain_context
from smtpstate_testing._scenario import (
    CLIENT,
    HOSTNAME,
    Host,
    check_client,
    check_server,
    whole_session,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate.delivery import Procedure
    from smtpstate_testing._link import Cut, Machine
    from smtpstate_testing._pair import PairTls
    from smtpstate_testing._scenario import Mode, Scenario

_Event = TypeVar("_Event")


@final
class Table(Generic[_Event]):
    """A machine on one side, a counterpart on the other, and time, which passes when neither has anything to do."""

    def __init__(
        self,
        machine: Machine[_Event],
        counterpart: Counterpart,
        clock: ManualClock,
        cut: Cut,
        on_event: Callable[[_Event], None],
    ) -> None:
        self.end: Final = End(machine, clock, cut, on_event)
        self.counterpart: Final = counterpart
        self.clock: Final = clock
        self._told: bool = False
        self._lost: bool = False

    def step(self) -> bool:
        """One turn each; whether anything has happened."""
        end, counterpart = self.end, self.counterpart
        heard: list[bytes] = []
        moved = end.pull(heard.append)
        for piece in heard:
            counterpart.receive(piece)
        if end.shut and not self._told:
            self._told = moved = True
            counterpart.receive(b"")
        while data := counterpart.to_send():
            end.arrive(data)
        if counterpart.ends is Act.FIN:
            end.arrive_eof()
        moved |= end.feed()
        if not moved and counterpart.ends is Act.RESET and not self._lost:
            self._lost = moved = True
            end.lose()
        return moved

    def jump(self) -> None:
        """Lets time pass. Raises AssertionError where both would wait for ever."""
        deadline = self.end.machine.deadline
        if deadline is None:
            self.counterpart.check_finished()
            raise AssertionError("both sides wait, and nothing will ever happen")
        self.clock.jump_to(max(deadline, self.clock.now))
        self.end.expire()

    def finish(self) -> None:
        """Until the connection is closed."""
        while not self.end.over:
            if not self.step():
                self.jump()
        self.step()
        self.counterpart.check_finished()


def play_server(scenario: Scenario, mode: Mode, cut: Cut = None) -> None:
    """Our server, and a client that was written down. Raises AssertionError."""
    clock = ManualClock()
    connection = ServerConnection(
        scenario.server_config(mode), clock=clock, peer=Peer("192.0.2.1"), implicit_tls=mode == "implicit"
    )
    machine: Machine[ServerEvent] = connection
    if mode != "plain":
        machine = secure(connection, server_context(HOSTNAME))

    def late() -> None:
        assert machine.deadline is not None
        clock.jump_to(machine.deadline)
        machine.handle_timeout()

    host = Host(scenario, late=late)

    def on_event(event: ServerEvent) -> None:
        host.on_event(connection, event)
        host.log_in(connection, event)

    counterpart = Counterpart("C", scenario.steps(mode), context=plain_context("C"))
    Table(machine, counterpart, clock, cut, on_event).finish()
    check_server(scenario, host, connection.closed)


def play_client(scenario: Scenario, mode: Mode, cut: Cut = None) -> None:
    """Our client, and a server that was written down. Raises AssertionError."""
    clock = ManualClock()
    connection = ClientConnection(
        CLIENT,
        clock=clock,
        limits=scenario.limits,
        implicit_tls=mode == "implicit",
        timeout=scenario.timeout,
        lmtp=scenario.config.lmtp,
    )
    machine: Machine[ClientEvent] = connection
    if mode != "plain":
        machine = secure(connection, client_context(), server_hostname=HOSTNAME)
    events: list[ClientEvent] = []
    counterpart = Counterpart("S", scenario.steps(mode), context=plain_context("S"))
    table = Table(machine, counterpart, clock, cut, events.append)

    def next_event() -> ClientEvent | Flow:
        while not events:
            if connection.closed is not None and table.end.over:
                return connection.closed
            if table.step():
                continue
            if table.end.flow is Flow.NEED_COMMAND:
                return Flow.NEED_COMMAND
            table.jump()
        return events.pop(0)

    told = follow(whole_session(connection, scenario, mode), next_event)
    table.finish()
    check_client(scenario, told, connection.closed)


def follow(procedure: Procedure[list[str]], next_event: Callable[[], ClientEvent | Flow]) -> list[str]:
    """What a procedure that wants nothing but events returns."""
    try:
        wanted = next(procedure)
        while True:
            assert wanted is Wants.EVENT
            wanted = procedure.send(next_event())
    except StopIteration as stop:
        told: list[str] = stop.value
        return told


def play_both(scenario: Scenario, mode: Mode, cut: Cut = None) -> None:
    """Our client and our server: what comes of it is the same. Raises AssertionError."""
    host = Host(scenario)

    def handler(server: ServerConnection, event: ServerEvent) -> None:
        host.on_event(server, event)
        host.log_in(server, event)

    tls: PairTls | None = None if mode == "plain" else "implicit" if mode == "implicit" else "starttls"
    pair = Pair(
        scenario.server_config(mode),
        client_limits=scenario.limits,
        client_hostname=CLIENT,
        timeout=scenario.timeout,
        cut=cut,
        tls=tls,
        handler=handler,
    )
    told = pair.run(whole_session(pair.client, scenario, mode))
    while pair.server.closed is None:
        assert pair.jump(), "the server waits for ever"
    check_client(scenario, told, pair.client.closed)
    # Our server offers PIPELINING, so commands have left by when a refusal comes that a dialogue in lock-step has not.
    check_server(replace(scenario, refused=tuple(host.refused)), host, _closed(pair.server_events))


def _closed(events: list[ServerEvent]) -> ConnectionClosed | None:
    last = events[-1]
    return last if isinstance(last, ConnectionClosed) else None
