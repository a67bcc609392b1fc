"""For every schedule of arrivals: nobody stays longer than the formula of docs/trickle.md allows, nor is cut early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpstate import (
    Body,
    ClientConnection,
    ConnectionClosed,
    Data,
    Ehlo,
    Flow,
    Limits,
    Mail,
    Rcpt,
    ServerConnection,
)
from tests.helpers import ManualClock, in_transaction, ready

if TYPE_CHECKING:
    from collections.abc import Callable

Machine: TypeAlias = ServerConnection | ClientConnection
Schedule: TypeAlias = list[tuple[float, int]]  # seconds of silence, and then so many octets

SLACK = 1e-6  # what adding floats up may lose


@dataclass
class Peer:
    """Moves octets of a body: `move` is called with how many at once."""

    machine: Machine
    clock: ManualClock
    move: Callable[[int], None]


def writes(limits: Limits) -> Peer:
    """A client in the middle of DATA."""
    seat = in_transaction(limits=limits)
    seat.say(b"DATA\r\n")
    return Peer(seat.connection, seat.clock, lambda octets: seat.connection.receive_data(b"x" * octets))


def writes_a_chunk(limits: Limits) -> Peer:
    """A client in the middle of BDAT."""
    seat = in_transaction(limits=limits)
    seat.say(b"BDAT 1000000000\r\n")
    return Peer(seat.connection, seat.clock, lambda octets: seat.connection.receive_data(b"x" * octets))


def reads(limits: Limits) -> Peer:
    """A server that we send a body to: there is always an octet that it has not read yet."""
    clock = ManualClock()
    client = ClientConnection("me.example", clock=clock, limits=limits)
    for asked, answer in (
        (None, b"220 mx.example\r\n"),
        (Ehlo("me.example"), b"250 mx.example\r\n"),
        (Mail.of(""), b"250 OK\r\n"),
        (Rcpt.of("a@b.example"), b"250 OK\r\n"),
        (Data(), b"354 go\r\n"),
    ):
        if asked is not None:
            client.send(asked)
        while client.data_to_send():
            pass
        client.receive_data(answer)
        while not isinstance(client.next_event(), Flow):
            pass

    def read(octets: int) -> None:
        for _ in range(octets):
            client.send(Body(b"x"))
            assert client.data_to_send() == b"x"

    read(1)
    return Peer(client, clock, read)


def stays(peer: Peer, schedule: Schedule) -> tuple[float, int, bool]:
    """For how long a peer that goes by `schedule` stays, how many octets it moves, and whether it is still there."""
    start, moved = peer.clock.now, 0
    for silence, octets in schedule:
        while not isinstance(event := peer.machine.next_event(), Flow):
            assert not isinstance(event, ConnectionClosed)
        deadline = peer.machine.deadline
        assert deadline is not None
        assert deadline > peer.clock.now
        if deadline <= peer.clock.now + silence:
            peer.clock.now = deadline
            peer.machine.handle_timeout()
            return peer.clock.now - start, moved, False
        peer.clock.now += silence
        peer.move(octets)
        moved += octets
    return peer.clock.now - start, moved, True


def allowed(schedule: Schedule, seconds: float, rate: float) -> float:
    """The formula: octets earn 1/rate s each, and never is more than `seconds` left."""
    now, left = 0.0, seconds
    for silence, octets in schedule:
        if silence >= left:
            break
        now += silence
        left = min(seconds, left - silence + octets / rate)
    return now + left


schedules = st.lists(st.tuples(st.floats(0, 30, allow_nan=False), st.integers(0, 60)), max_size=40)
times = st.floats(1, 40, allow_nan=False)
rates = st.floats(0.5, 50, allow_nan=False)
peers = pytest.mark.parametrize("peer", [writes, writes_a_chunk, reads])


def limits_of(seconds: float, rate: float) -> Limits:
    return Limits(body_seconds=seconds, block_seconds=seconds, body_rate=rate, session_seconds=1e9)


@peers
@given(schedule=schedules, seconds=times, rate=rates)
def test_nobody_stays_longer_than_the_formula_allows(
    peer: Callable[[Limits], Peer], schedule: Schedule, seconds: float, rate: float
) -> None:
    stayed, moved, still_there = stays(peer(limits_of(seconds, rate)), schedule)
    assert stayed <= allowed(schedule, seconds, rate) + SLACK
    assert stayed <= seconds + moved / rate + SLACK
    if not still_there:
        assert stayed == pytest.approx(allowed(schedule, seconds, rate), abs=SLACK), "nor a moment less"


@peers
@given(
    silences=st.lists(st.floats(0, 0.9, allow_nan=False), max_size=40),
    more=st.integers(0, 10),
    seconds=times,
    rate=rates,
)
def test_whoever_meets_the_rate_is_never_cut(
    peer: Callable[[Limits], Peer], silences: list[float], more: int, seconds: float, rate: float
) -> None:
    """`silences` are shares of the time: who is silent for all of it has met no rate."""
    schedule = [(share * seconds, int(share * seconds * rate) + 1 + more) for share in silences]
    schedule = [(silence, min(octets, 3000)) for silence, octets in schedule if silence * rate < 3000]
    stayed, _, still_there = stays(peer(limits_of(seconds, rate)), schedule)
    assert still_there
    assert stayed == pytest.approx(sum(silence for silence, _ in schedule))


SAID = (
    b"N",
    b"NOOP\r\n",
    b"BDAT 50 LAST\r\n" + b"x" * 50,
    b"RSET\r\n",
    b"MAIL FROM:<>\r\n",
    b"RCPT TO:<a@b.example>\r\n",
    b"DATA\r\n",
    b"x" * 50,
    b"\r\n.\r\n",
)
MANY = 10**6


@given(
    said=st.lists(st.tuples(st.floats(0, 12, allow_nan=False), st.sampled_from(SAID)), max_size=60),
    stress_from=st.integers(0, 60),
)
def test_all_the_waiting_of_a_session_is_bounded(said: list[tuple[float, bytes]], stress_from: int) -> None:
    """By the session's time, and what octets of bodies have earned on top of it."""
    limits = Limits(
        command_seconds=10, body_seconds=10, session_seconds=60, body_rate=10, errors=MANY, soft_errors=MANY, junk=MANY
    )
    seat = ready(limits=limits)
    connection, clock = seat.connection, seat.clock
    start, octets = clock.now, 0
    for number, (silence, data) in enumerate(said):
        connection.stress = number >= stress_from
        if connection.deadline is not None and connection.deadline <= clock.now + silence:
            clock.now = connection.deadline
            connection.handle_timeout()
            break
        clock.now += silence
        seat.say(data)
        octets += len(data)
        if connection.half_close:  # an error too many, under stress
            break
    assert clock.now - start <= limits.session_seconds + octets / limits.body_rate + SLACK


@given(silences=st.lists(st.floats(0, 4.9, allow_nan=False), min_size=1, max_size=60))
def test_a_session_of_chunks_that_meet_the_rate_is_never_cut(silences: list[float]) -> None:
    """Each chunk comes in one piece with its BDAT."""
    limits = Limits(command_seconds=10, body_seconds=10, session_seconds=60, body_rate=10, junk=MANY, commands=MANY)
    seat = in_transaction(limits=limits)
    for silence in silences:
        assert seat.connection.deadline is not None
        assert seat.connection.deadline > seat.clock.now + silence
        seat.clock.now += silence
        assert seat.say(b"BDAT 50\r\n" + b"x" * 50).startswith(b"250 ")
