"""Limits, timers and budgets, alone."""

from __future__ import annotations

from dataclasses import fields

import pytest

from smtpstate._budget import Budgets, Limits, TimerTable
from smtpstate._commands import Wait
from smtpstate._events import Flow, Timer
from tests.helpers import ManualClock


@pytest.mark.parametrize(
    ("name", "least", "reason"),
    [
        ("command_line", 512, "RFC 5321 section 4.5.3.1.4"),
        ("reply_line", 512, "section 4.5.3.1.5"),
        ("message", 65_536, "section 4.5.3.1.7"),
        ("recipients", 100, "section 4.5.3.1.8"),
        ("greeting_seconds", 300, "section 4.5.3.2.1"),
        ("command_seconds", 300, "section 4.5.3.2.7"),
        ("data_seconds", 120, "section 4.5.3.2.4"),
        ("block_seconds", 180, "section 4.5.3.2.5"),
        ("end_seconds", 600, "section 4.5.3.2.6"),
    ],
)
def test_no_default_is_below_the_rfc(name: str, least: float, reason: str) -> None:
    assert getattr(Limits(), name) >= least, reason


def test_every_limit_is_positive() -> None:
    values = {field.name: getattr(Limits(), field.name) for field in fields(Limits)}
    assert {name for name, value in values.items() if value is None} == {"recipient_domains", "transactions"}
    assert all(value > 0 for value in values.values() if value is not None)


@pytest.mark.parametrize(("wait", "seconds"), [(Wait.GREETING, 1), (Wait.COMMAND, 2), (Wait.DATA, 3), (Wait.END, 4)])
def test_each_wait_has_its_time(wait: Wait, seconds: float) -> None:
    limits = Limits(greeting_seconds=1, command_seconds=2, data_seconds=3, end_seconds=4)
    assert limits.wait_seconds(wait) == seconds


def test_a_fresh_table_has_no_deadline() -> None:
    assert TimerTable().deadline is None
    assert TimerTable().expired(1e9) is None


def test_a_timer_at_rest_does_not_expire() -> None:
    timers = TimerTable()
    timers.grant(Timer.COMMAND, 10)
    assert timers.deadline is None


def test_a_timer_that_runs_expires_to_the_second() -> None:
    timers = TimerTable()
    timers.grant(Timer.COMMAND, 10)
    timers.run(Timer.COMMAND, 100)
    timers.run(Timer.COMMAND, 105)
    assert timers.deadline == 110, "one that runs is not disturbed"
    assert timers.expired(109.999) is None
    assert timers.expired(110) is Timer.COMMAND


def test_what_was_spent_stays_spent() -> None:
    timers = TimerTable()
    timers.grant(Timer.COMMAND, 10)
    timers.run(Timer.COMMAND, 100)
    timers.rest(Timer.COMMAND, 104)
    timers.rest(Timer.COMMAND, 900)
    assert timers.deadline is None
    timers.run(Timer.COMMAND, 1000)
    assert timers.deadline == 1006


def test_an_overdrawn_budget_rests_at_nothing() -> None:
    timers = TimerTable()
    timers.grant(Timer.COMMAND, 10)
    timers.run(Timer.COMMAND, 100)
    timers.rest(Timer.COMMAND, 150)
    timers.run(Timer.COMMAND, 200)
    assert timers.deadline == 200


def test_the_first_of_several_deadlines_counts() -> None:
    timers = TimerTable()
    for timer, seconds in ((Timer.SESSION, 30), (Timer.BODY, 20), (Timer.COMMAND, 40)):
        timers.grant(timer, seconds)
        timers.run(timer, 0)
    assert timers.deadline == 20
    assert timers.expired(100) is Timer.BODY
    timers.stop(Timer.BODY)
    assert timers.deadline == 30
    timers.stop_all()
    assert timers.deadline is None


@pytest.mark.parametrize(
    ("running", "granted", "credit", "cap", "left", "reason"),
    [
        (True, 10, 5, 100, 15, "it is added"),
        (True, 10, 500, 100, 100, "never more than the cap is left"),
        (False, 10, 5, 100, 15, "at rest, too"),
        (False, 10, 500, 100, 100, "capped at rest, too"),
    ],
)
def test_credit_is_added_up_to_its_cap(
    running: bool, granted: float, credit: float, cap: float, left: float, reason: str
) -> None:
    timers = TimerTable()
    timers.grant(Timer.BODY, granted)
    if running:
        timers.run(Timer.BODY, 0)
    timers.credit(Timer.BODY, credit, 0, cap=cap)
    timers.run(Timer.BODY, 0)
    assert timers.deadline == left, reason


def test_credit_without_a_cap_is_added_whole() -> None:
    timers = TimerTable()
    timers.grant(Timer.BODY, 1)
    timers.credit(Timer.BODY, 1e6, 0)
    timers.run(Timer.BODY, 0)
    assert timers.deadline == 1e6 + 1


def test_credit_does_not_bring_a_stopped_timer_back() -> None:
    timers = TimerTable()
    timers.credit(Timer.BODY, 5, 0, cap=10)
    timers.run(Timer.BODY, 0)
    assert timers.deadline is None


LIMITS = Limits(command_seconds=10, body_seconds=20, handshake_seconds=5, session_seconds=100, handler_seconds=7)


@pytest.mark.parametrize(
    ("timer", "seconds"), [(Timer.COMMAND, 10), (Timer.BODY, 20), (Timer.HANDSHAKE, 5)], ids=lambda value: str(value)
)
def test_each_thing_that_a_peer_can_owe_has_its_time(timer: Timer, seconds: float) -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    budgets.expect(timer)
    assert budgets.deadline is None, "nobody waits yet"
    budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == seconds
    assert budgets.expired(seconds) is timer


def test_the_peer_pays_while_we_wait_and_the_handler_while_it_works() -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    budgets.expect(Timer.COMMAND)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    budgets.charge_handler(4)
    assert budgets.deadline == 11
    assert budgets.expired(11) is Timer.HANDLER
    clock.now = 50
    budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == 56, "six seconds were left"


def test_waiting_on_for_the_same_thing_neither_restarts_nor_reads_the_clock() -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    budgets.expect(Timer.COMMAND)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    clock.now = 3
    for _ in range(5):
        budgets.charge_peer(Flow.NEED_DATA, clock)
    assert (budgets.deadline, clock.reads) == (10, 1)
    budgets.charge_peer(Flow.NEED_FLUSH, clock)
    assert (budgets.deadline, clock.reads) == (10, 2)


def test_a_fresh_budget_starts_with_the_next_wait() -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    budgets.expect(Timer.BODY)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    clock.now = 15
    budgets.expect(Timer.COMMAND)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == 25, "although the Flow is the same as before"


def test_the_session_is_one_budget_for_all_waits() -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    for now in range(0, 95, 5):
        clock.now = now
        budgets.expect(Timer.COMMAND)
        budgets.charge_peer(Flow.NEED_DATA, clock)
        assert budgets.deadline == min(now + 10, 100)
    assert budgets.expired(100) is Timer.COMMAND, "both at once, the first in order is named"
    budgets.expect(Timer.BODY)
    assert budgets.expired(100) is Timer.SESSION


@pytest.mark.parametrize(
    ("timer", "deadline", "reason"),
    [
        (Timer.BODY, 13, "1000 octets earn 2 s"),
        (Timer.COMMAND, 10, "octets of a command earn nothing"),
    ],
)
def test_only_octets_of_a_body_earn_time(timer: Timer, deadline: float, reason: str) -> None:
    clock = ManualClock(0)
    budgets = Budgets(Limits(command_seconds=10, body_seconds=11, body_rate=500))
    budgets.expect(timer)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    budgets.received(1000, 5)
    assert budgets.deadline == deadline, reason


def test_a_released_handler_has_no_deadline() -> None:
    budgets = Budgets(LIMITS)
    budgets.expect(Timer.COMMAND)
    budgets.charge_handler(0)
    budgets.release_handler()
    assert budgets.deadline is None


def test_at_the_end_only_the_linger_counts() -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    budgets.expect(Timer.COMMAND)
    budgets.charge_handler(0)
    budgets.only_linger(2)
    assert budgets.deadline is None
    budgets.charge_peer(Flow.NEED_FLUSH, clock)
    assert budgets.deadline == 2
    assert budgets.expired(2) is Timer.LINGER
    budgets.stop()
    assert budgets.deadline is None
