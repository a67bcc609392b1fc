"""The trickle attack in virtual time, on either seat: who is cut when, to the second.

T is the time for a request and R the rate that earns time, as docs/trickle.md has them. Whoever moves r octets a second
is cut after T / (1 - r/R) seconds where octets earn anything, after T where they do not, and never where r >= R.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import TypeAlias

import pytest

from smtpstate import (
    Auth,
    Bdat,
    Body,
    ClientConnection,
    CloseReason,
    Command,
    ConnectionClosed,
    Data,
    Ehlo,
    Flow,
    Limits,
    Mail,
    Noop,
    Rcpt,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Timer,
)
from tests.helpers import ManualClock, Seat, accept_all, in_transaction, ready

T, R = 4.0, 10.0
LIMITS = Limits(
    greeting_seconds=T,
    command_seconds=T,
    data_seconds=T,
    block_seconds=T,
    body_seconds=T,
    end_seconds=T,
    body_rate=R,
)

# Seconds of silence, and then so many octets at once.
Schedule: TypeAlias = Iterable[tuple[float, int]]
LONG = 2000  # arrivals; a peer that is still there after so many stays

# What the peer does, and the seconds after which it is cut; None: it is not.
REQUESTS: list[tuple[str, Schedule, float]] = [
    ("1 octet a second", repeat((1.0, 1)), T),
    ("3 s of silence, then 2 octets a second", [(3.0, 1), *[(0.5, 1)] * LONG], T),
    ("100 octets a second", repeat((0.01, 1)), T),
    ("nothing at all", repeat((9.0, 0)), T),
]
BODIES: list[tuple[str, Schedule, float | None]] = [
    ("5 octets a second", repeat((0.2, 1)), T / (1 - 5 / R)),
    ("9 octets a second", repeat((1 / 9, 1)), T / (1 - 9 / R)),
    ("10 octets a second", [(0.1, 1)] * LONG, None),
    ("20 octets a second", [(0.05, 1)] * LONG, None),
    ("30 octets every 3 s", [(3.0, 30)] * LONG, None),
    ("a burst of 1,000, then silence: time cannot be saved up", [(0.0, 1000), (9.0, 0)], T),
    ("nothing at all", repeat((9.0, 0)), T),
]
requests = pytest.mark.parametrize(("does", "schedule", "seconds"), REQUESTS, ids=[row[0] for row in REQUESTS])
bodies = pytest.mark.parametrize(("does", "schedule", "seconds"), BODIES, ids=[row[0] for row in BODIES])


def cut_after(
    machine: ServerConnection | ClientConnection, clock: ManualClock, schedule: Schedule, move: Callable[[int], None]
) -> float | None:
    """When `machine` hangs up on a peer that goes by `schedule` from now on; None if it does not.

    `move` is called with the octets that the peer moves at once.
    """
    start = clock.now
    for silence, octets in schedule:
        while not isinstance(event := machine.next_event(), Flow):
            assert not isinstance(event, ConnectionClosed)
        then = clock.now + silence
        if machine.deadline is not None and machine.deadline <= then:
            clock.now = machine.deadline
            machine.handle_timeout()
            return clock.now - start
        clock.now = then
        move(octets)
    return None


def close_to(seconds: float | None) -> object:
    """Octets come one by one, so the deadline may fall between two of them."""
    return None if seconds is None else pytest.approx(seconds, abs=1.2)


# The server's seat.


def said_and_ended(seat: Seat, timer: Timer) -> None:
    """The peer was told, where it can be, and the application as well."""
    assert seat.settle() == b"421 4.4.2 Timeout exceeded\r\n"
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.TIMEOUT, timer=timer)


def challenge(connection: ServerConnection, event: ServerEvent) -> None:
    if isinstance(event, Auth):
        connection.challenge(b"?")
    else:
        accept_all(connection, event)


def in_exchange() -> Seat:
    config = ServerConfig("mx.example.org", LIMITS, mechanisms=("LOGIN",), auth_in_clear=True)
    seat = ready(config, handler=challenge)
    seat.say(b"AUTH LOGIN\r\n")
    return seat


@requests
@pytest.mark.parametrize("begin", [lambda: ready(limits=LIMITS), in_exchange], ids=["a command", "an AUTH exchange"])
def test_a_client_that_drips_a_request(
    does: str, schedule: Schedule, seconds: float, begin: Callable[[], Seat]
) -> None:
    seat = begin()
    found = cut_after(seat.connection, seat.clock, schedule, lambda octets: seat.connection.receive_data(b"N" * octets))
    assert found == close_to(seconds), does
    said_and_ended(seat, Timer.COMMAND)


@bodies
@pytest.mark.parametrize("opening", [b"DATA\r\n", b"BDAT 1000000 LAST\r\n"], ids=["DATA", "BDAT"])
def test_a_client_that_drips_a_body(does: str, schedule: Schedule, seconds: float | None, opening: bytes) -> None:
    seat = in_transaction(limits=LIMITS)
    seat.say(opening)
    found = cut_after(seat.connection, seat.clock, schedule, lambda octets: seat.connection.receive_data(b"x" * octets))
    assert found == close_to(seconds), does
    if seconds is not None:
        said_and_ended(seat, Timer.BODY)


def test_a_client_that_reads_no_replies() -> None:
    seat = ready(limits=LIMITS)
    seat.connection.receive_data(b"NOOP\r\n")
    seat.pull()
    assert seat.connection.data_to_send() == b"250 2.0.0 OK\r\n"  # and there it stays
    assert cut_after(seat.connection, seat.clock, [(9.0, 0)], lambda octets: None) == T


# The client's seat.


def pull(client: ClientConnection) -> None:
    """All events, and all output leaves."""
    while not isinstance(event := client.next_event(), Flow):
        assert not isinstance(event, ConnectionClosed)
    while client.data_to_send():
        pass


def client_after(*exchange: tuple[Command | None, bytes]) -> tuple[ClientConnection, ManualClock]:
    """A client that has asked all this, None for the greeting, and was answered so; b"" is no answer."""
    clock = ManualClock()
    client = ClientConnection("me.example", clock=clock, limits=LIMITS)
    for asked, answer in exchange:
        if asked is not None:
            client.send(asked)
        pull(client)
        client.receive_data(answer)
        pull(client)
    return client, clock


GREETING = (None, b"220 mx.example\r\n")
EHLO, MAIL, RCPT = Ehlo("me.example"), Mail.of("me@me.example"), Rcpt.of("you@mx.example")
OPEN = (GREETING, (EHLO, b"250-mx.example\r\n250 CHUNKING\r\n"))
ADDRESSED = (*OPEN, (MAIL, b"250 OK\r\n"), (RCPT, b"250 OK\r\n"))
ASKED: list[tuple[str, tuple[tuple[Command | None, bytes], ...], Timer]] = [
    ("the greeting", ((None, b""),), Timer.GREETING),
    ("EHLO", (GREETING, (EHLO, b"")), Timer.COMMAND),
    ("EHLO, line by line", (GREETING, (EHLO, b"250-mx.example\r\n250-")), Timer.COMMAND),
    ("MAIL", (*OPEN, (MAIL, b"")), Timer.COMMAND),
    ("DATA", (*ADDRESSED, (Data(), b"")), Timer.DATA),
    ("BDAT 0 LAST", (*ADDRESSED, (Bdat(0, last=True), b"")), Timer.END),
]


@requests
@pytest.mark.parametrize(("what", "exchange", "timer"), ASKED, ids=[row[0] for row in ASKED])
def test_a_server_that_drips_a_reply(
    does: str,
    schedule: Schedule,
    seconds: float,
    what: str,
    exchange: tuple[tuple[Command | None, bytes], ...],
    timer: Timer,
) -> None:
    """It is one request, however many octets and lines it has."""
    client, clock = client_after(*exchange)
    found = cut_after(client, clock, schedule, lambda octets: client.receive_data(b"2" * octets))
    assert found == close_to(seconds), (does, what)
    assert client.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=timer)


@bodies
@pytest.mark.parametrize("opening", [(Data(), b"354 go\r\n"), (Bdat(1_000_000, last=True), b"")], ids=["DATA", "BDAT"])
def test_a_server_that_drips_a_body(
    does: str, schedule: Schedule, seconds: float | None, opening: tuple[Command, bytes]
) -> None:
    """It reads as slowly as others write: octets leave when it makes room for them."""
    client, clock = client_after(*ADDRESSED, opening)

    def read(octets: int) -> None:
        """So many leave, and one more is on its way, or nothing is waited for."""
        for _ in range(octets):
            client.send(Body(b"x"))
            assert client.data_to_send()

    client.send(Body(b"x"))
    client.data_to_send()
    assert cut_after(client, clock, schedule, read) == close_to(seconds), does
    if seconds is not None:
        assert client.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.BODY)


def test_a_server_that_is_quick_enough_each_time_and_slow_all_in_all() -> None:
    clock = ManualClock()
    client = ClientConnection("me.example", clock=clock, limits=LIMITS, timeout=10)
    found: list[float | None] = []
    for asked in (None, EHLO, Noop(), Noop()):
        if asked is not None:
            client.send(asked)
            pull(client)
        found.append(cut_after(client, clock, [(3.0, 0)], lambda _: client.receive_data(b"250 OK\r\n")))
        if client.closed is None:
            pull(client)
    assert found == [None, None, None, 1.0]
    assert client.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.SESSION)
