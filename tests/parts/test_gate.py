"""The gate alone, a machine without I/O: who comes in, whose share it is, when there is stress, and who hears of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpstate.proxy import parse_networks
from smtpstate_parts.gate import Admission, Gate, Gauge, Limit, Notice, Refused, StressChanged, Ticket

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B, C = "192.0.2.1", "192.0.2.2", "2001:db8::1"


def watched(**admission: Any) -> tuple[Gate, list[Notice]]:
    gate, heard = Gate(Admission(**admission)), list[Notice]()
    gate.watch(heard.append)
    return gate, heard


def enter(gate: Gate, address: str | None = None) -> Ticket:
    ticket = gate.enter()
    assert ticket is not None
    assert ticket.claim(address) is None
    return ticket


def shown(gate: Gate) -> tuple[int, int, int]:
    now = gate.snapshot()
    return now.connections.current, now.per_source.current, now.bodies.current


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"connections": 0}, "connections is at least 1, not 0"),
        ({"per_source": 0}, "per_source is at least 1"),
        ({"bodies": -1}, "bodies is at least 1"),
        ({"ipv4_prefix": 33}, "ipv4_prefix is 0 to 32"),
        ({"ipv6_prefix": -1}, "ipv6_prefix is 0 to 128"),
        ({"refusals": -1}, "refusals is at least 0"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Admission(**wrong)


def test_the_defaults_are_these() -> None:
    assert Gate().admission == Admission(1000, 50, 32, 64, parse_networks(["127.0.0.0/8", "::1/128"]), None, 100, None)
    assert all(limit.value.code == 421 for limit in Limit)


def test_no_more_come_in_than_there_is_room_for() -> None:
    gate = Gate(Admission(connections=2))
    first, second = enter(gate, A), enter(gate, B)
    assert gate.enter() is None
    first.leave()
    third = enter(gate, A)
    assert gate.enter() is None
    assert gate.snapshot().connections == Gauge(limit=2, current=2, peak=2, refused=2)
    for ticket in (first, second, third, third):
        ticket.leave()
    assert shown(gate) == (0, 0, 0)
    assert (gate.snapshot().total, gate.snapshot().sources) == (3, 0)


# What is one source: settings, two addresses, whether they are the same, and why.
SOURCES: Sequence[tuple[dict[str, Any], str | None, str | None, bool, str]] = [
    ({}, A, A, True, "one address"),
    ({}, A, B, False, "IPv4 counts by the address"),
    ({"ipv4_prefix": 24}, A, "192.0.2.200", True, "a network, when asked for"),
    ({"ipv4_prefix": 0}, A, "198.51.100.1", True, "all of IPv4"),
    ({"ipv4_prefix": 0, "ipv6_prefix": 0}, "0.0.0.1", "::1:0:0:1", False, "IPv4 is not IPv6"),
    ({}, "2001:db8::1", "2001:db8::ffff:1", True, "one customer has a /64 of IPv6"),
    ({}, "2001:db8::1", "2001:db8:0:1::1", False, "another /64"),
    ({"ipv6_prefix": 128}, "2001:db8::1", "2001:db8::2", False, "an address of IPv6, when asked for"),
    ({}, A, f"::ffff:{A}", True, "IPv4 mapped into IPv6"),
    ({}, "fe80::1%eth0", "fe80::2%eth1", True, "a scope is no part of it"),
    ({}, "elsewhere", "elsewhere", True, "what is no IP address, by what it is"),
    ({}, None, None, False, "nobody"),
    ({}, "127.0.0.1", "127.0.0.1", False, "this host is exempt"),
    ({}, "::1", "::1", False, "this host is exempt, by IPv6"),
    ({"exempt": ()}, "127.0.0.1", "127.0.0.1", True, "unless nobody is"),
    ({"exempt": parse_networks(["192.0.2.0/24"])}, A, A, False, "exempt"),
    ({"exempt": parse_networks(["192.0.2.0/24"])}, f"::ffff:{A}", f"::ffff:{A}", False, "exempt, mapped"),
    ({"exempt": parse_networks(["2001:db8::/32"])}, A, A, True, "others are exempt"),
]


@pytest.mark.parametrize(("settings", "first", "second", "same", "reason"), SOURCES)
def test_a_share_is_for_a_source(
    settings: dict[str, Any], first: str | None, second: str | None, same: bool, reason: str
) -> None:
    gate = Gate(Admission(per_source=1, **settings))
    one, other = enter(gate, first), gate.enter()
    assert other is not None
    assert (other.claim(second) is Limit.SOURCE) is same, reason
    one.leave()
    assert other.claim(second) is None, "there is room again"
    other.leave()
    assert shown(gate) == (0, 0, 0)
    assert gate.snapshot().sources == 0


def test_without_a_limit_for_a_source_there_is_none() -> None:
    gate = Gate(Admission(connections=100, per_source=None))
    tickets = [enter(gate, A) for _ in range(100)]
    assert gate.stress
    assert gate.snapshot().per_source == Gauge(limit=None, current=100, peak=100, refused=0)
    assert len(tickets) == 100


def test_who_turns_out_to_be_somebody_else_counts_as_that() -> None:
    gate = Gate(Admission(per_source=1))
    first, second = enter(gate, A), enter(gate, B)
    assert first.claim(A) is None, "once is enough"
    assert second.claim(A) is Limit.SOURCE
    third = enter(gate, B)
    third.leave()
    assert first.claim(None) is None
    assert second.claim(A) is None, "it was given back"
    first.leave()
    second.leave()
    assert first.claim(A) is None
    assert shown(gate) == (0, 0, 0), "nothing counts that has left"


def test_under_stress_a_source_has_no_more_than_an_equal_share() -> None:
    gate = Gate(Admission(connections=10, per_source=6))
    tickets = [enter(gate, A) for _ in range(6)] + [enter(gate, B) for _ in range(3)]
    assert gate.stress
    late = gate.enter()
    assert late is not None
    assert late.claim(A) is Limit.SOURCE, "the most that a source may have"
    assert late.claim(B) is None, "B has 3 of 10 // 2"
    late.leave()
    tickets.pop().leave()
    tickets += [enter(gate, C)]
    late = gate.enter()
    assert late is not None
    assert late.claim(A) is Limit.SOURCE, "A has more than 10 // 3"
    assert late.claim(B) is None, "B has 2 of 10 // 3"
    for ticket in (*tickets, late):
        ticket.leave()
    assert not gate.stress


# limit, when stress begins, when it ends: 90 % and 70 % of it, in whole connections.
@pytest.mark.parametrize(("limit", "begins", "ends"), [(1, 1, 0), (2, 2, 1), (3, 3, 2), (10, 9, 7), (1000, 900, 700)])
def test_stress_begins_at_90_percent_and_ends_at_70(limit: int, begins: int, ends: int) -> None:
    gate, heard = watched(connections=limit, per_source=None)
    tickets: list[Ticket] = []
    for count in range(1, limit + 1):
        tickets.append(enter(gate))
        assert gate.stress is (count >= begins)
    while tickets:
        tickets.pop().leave()
        assert gate.stress is (len(tickets) > ends)
    assert heard == [StressChanged(True, begins, limit, 0), StressChanged(False, ends, limit, 0)], (
        "told once for each change"
    )
    assert [str(notice) for notice in heard] == [
        f"stress begins: {begins} of {limit} connections, 0 messages under way",
        f"stress ends: {ends} of {limit} connections, 0 messages under way",
    ]


def test_between_the_two_stress_stays_what_it_was() -> None:
    gate, heard = watched(connections=10)
    tickets = [enter(gate) for _ in range(8)]
    assert not gate.stress
    tickets.append(enter(gate))
    for _ in range(5):
        tickets.pop().leave()
        assert gate.stress
        tickets.append(enter(gate))
    assert len(heard) == 1


@pytest.mark.parametrize("always", [True, False])
def test_stress_can_be_said(always: bool) -> None:
    gate, heard = watched(connections=1, stress=always)
    assert gate.stress is always
    ticket = enter(gate)
    assert gate.stress is always
    ticket.leave()
    assert (gate.stress, heard) == (always, [])


def test_bodies_have_a_limit_of_their_own_which_is_stress_as_well() -> None:
    gate, heard = watched(bodies=2)
    first, second, third = enter(gate, A), enter(gate, A), enter(gate, A)
    assert first.begin_body() is None
    assert first.begin_body() is None, "the same one goes on"
    assert not gate.stress
    assert second.begin_body() is None
    assert gate.stress
    assert third.begin_body() is Limit.BODIES
    first.end_body()
    first.end_body()
    assert not gate.stress
    assert third.begin_body() is None
    assert gate.snapshot().bodies == Gauge(limit=2, current=2, peak=2, refused=1)
    for ticket in (first, second, third):
        ticket.leave()
    assert third.begin_body() is None
    assert shown(gate) == (0, 0, 0)
    assert [type(notice) for notice in heard].count(StressChanged) == 4


def test_of_a_row_of_refusals_the_first_and_then_fewer_and_fewer_are_told() -> None:
    gate, heard = watched(connections=10, per_source=None, stress=False)
    tickets = [enter(gate) for _ in range(10)]
    assert [gate.enter() for _ in range(1234)] == [None] * 1234
    assert heard == [Refused(Limit.CONNECTIONS, None, 10, row) for row in (1, 10, 100, 1000)]
    for _ in range(2):
        tickets.pop().leave()
    tickets += [enter(gate), enter(gate)]
    assert gate.enter() is None
    assert heard[4:] == [], "the same row"
    for _ in range(3):
        tickets.pop().leave()
    tickets += [enter(gate), enter(gate), enter(gate)]
    assert gate.enter() is None
    assert heard[4:] == [Refused(Limit.CONNECTIONS, None, 10, 1)], "a new row"
    assert str(heard[1]) == "too many connections: the limit is 10, 10 refused since it was reached"


def test_each_source_has_a_row_of_its_own() -> None:
    gate, heard = watched(per_source=1)
    for address in (A, B, A):
        ticket = gate.enter()
        assert ticket is not None
        ticket.claim(address)
    for address in (A, A, B):
        ticket = gate.enter()
        assert ticket is not None
        assert ticket.claim(address) is Limit.SOURCE
    assert heard == [Refused(Limit.SOURCE, A, 1, 1), Refused(Limit.SOURCE, B, 1, 1)]
    assert str(heard[0]) == f"too many connections from {A}: the limit is 1, 1 refused since it was reached"
    assert gate.snapshot().per_source == Gauge(limit=1, current=1, peak=1, refused=4)
    gate.unwatch(heard.append)


def test_a_body_too_many_is_told() -> None:
    gate, heard = watched(bodies=1, stress=False)
    first, second = enter(gate), enter(gate)
    first.begin_body()
    second.begin_body()
    assert [str(notice) for notice in heard] == [
        "too many messages at once: the limit is 1, 1 refused since it was reached"
    ]


def test_who_is_being_refused_is_counted_as_well() -> None:
    gate = Gate(Admission(refusals=1))
    assert gate.begin_refusal()
    assert not gate.begin_refusal()
    gate.end_refusal()
    assert gate.begin_refusal()
    assert gate.snapshot().refusals == Gauge(limit=1, current=1, peak=1, refused=1)


def test_all_figures_are_one_line() -> None:
    gate = Gate(Admission(connections=2))
    enter(gate, A).begin_body()
    assert str(gate.snapshot()) == (
        "sessions=1; connections current=1 peak=1 limit=2 refused=0; per_source current=1 peak=1 limit=50 refused=0; "
        "bodies current=1 peak=1 refused=0; refusals current=0 peak=0 limit=100 refused=0"
    )


ADDRESSES = st.sampled_from([None, A, B, C, "2001:db8::2", "198.51.100.1", "elsewhere"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "claim", "body", "end", "leave"]), st.integers(0, 30), ADDRESSES), max_size=120
)
ADMISSIONS = st.builds(
    Admission,
    connections=st.integers(1, 12),
    per_source=st.none() | st.integers(1, 4),
    bodies=st.none() | st.integers(1, 4),
    exempt=st.sampled_from([(), parse_networks(["198.51.100.0/24"])]),
)


@given(admission=ADMISSIONS, steps=STEPS)
def test_counts_are_never_wrong(admission: Admission, steps: list[tuple[str, int, str | None]]) -> None:
    """Against the plainest model there is: who is in, from where, and who has a body."""
    gate, heard = Gate(admission), list[Notice]()
    gate.watch(heard.append)
    held: list[Ticket] = []
    source: dict[Ticket, Any] = {}
    bodies: set[Ticket] = set()
    for step, which, address in steps:
        ticket = held[which % len(held)] if held else None
        if step == "enter":
            room = len(source) < admission.connections
            entered = gate.enter()
            assert (entered is not None) is room
            if entered is not None:
                held.append(entered)
                source[entered] = None
        elif ticket is None:
            continue
        elif step == "leave":
            ticket.leave()
            source.pop(ticket, None)
            bodies.discard(ticket)
        elif step == "claim":
            refused = ticket.claim(address)
            if ticket in source:
                source[ticket] = None if refused else gate.source(address)
            assert refused in (None, Limit.SOURCE)
        elif step == "body":
            room = ticket in bodies or admission.bodies is None or len(bodies) < admission.bodies
            assert (ticket.begin_body() is None) is (room or ticket not in source)
            if ticket in source and room:
                bodies.add(ticket)
        else:
            ticket.end_body()
            bodies.discard(ticket)
        now = gate.snapshot()
        shares = [one for one in source.values() if one is not None]
        most = max((shares.count(one) for one in shares), default=0)
        assert (now.connections.current, now.per_source.current, now.bodies.current) == (len(source), most, len(bodies))
        assert now.sources == len(set(shares))
        assert admission.per_source is None or most <= admission.per_source
        for gauge in (now.connections, now.per_source, now.bodies):
            assert 0 <= gauge.current <= gauge.peak
            assert gauge.limit is None or gauge.peak <= gauge.limit
        if 10 * len(source) >= 9 * admission.connections:
            assert now.stress
        if not bodies and 10 * len(source) <= 7 * admission.connections:
            assert not now.stress
    changes = [notice.stress for notice in heard if isinstance(notice, StressChanged)]
    assert changes == [number % 2 == 0 for number in range(len(changes))], "on and off by turns"
    for ticket in held:
        ticket.leave()
    assert shown(gate) == (0, 0, 0)
    assert gate.snapshot().sources == 0
    assert not gate.stress
