"""Limits, timers and budgets, alone."""

from __future__ import annotations

from dataclasses import fields

import pytest

from smtpstate._budget import Budgets, Limits, Patience, TimerTable, most_at_once
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


def test_the_session_has_its_time_as_well() -> None:
    assert Limits(session_seconds=7).seconds(Timer.SESSION) == 7


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


# Stress.


def test_stress_is_what_postfix_has_and_never_more_than_there_was() -> None:
    usual = Limits()
    strict = usual.under_stress()
    changed = {one.name for one in fields(Limits) if getattr(usual, one.name) != getattr(strict, one.name)}
    assert changed == {"command_seconds", "body_seconds", "handshake_seconds", "errors", "junk"}
    assert (strict.command_seconds, strict.body_seconds, strict.handshake_seconds) == (10, 10, 10)
    assert (strict.errors, strict.junk) == (1, 1)
    tight = Limits(command_seconds=3, body_seconds=4, handshake_seconds=5, errors=0, junk=0)
    assert tight.under_stress() == tight


def test_what_stress_means_can_be_said_anew() -> None:
    class Patient(Limits):
        def under_stress(self) -> Limits:
            return Limits(command_seconds=60)

    assert Patient().under_stress().command_seconds == 60


@pytest.mark.parametrize(
    ("timer", "spent", "left", "reason"),
    [
        (Timer.COMMAND, 2, 4, "no more than the new limit"),
        (Timer.COMMAND, 7, 3, "what was spent stays spent"),
        (Timer.BODY, 2, 6, "a body, too"),
        (Timer.HANDSHAKE, 1, 1, "a handshake, too"),
    ],
)
@pytest.mark.parametrize("waiting", [True, False])
def test_open_budgets_shrink_at_once(timer: Timer, spent: float, left: float, reason: str, waiting: bool) -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    budgets.expect(timer)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    clock.now = spent
    if not waiting:
        budgets.charge_handler(clock.now)
    budgets.switch(Limits(command_seconds=4, body_seconds=6, handshake_seconds=1, handler_seconds=3), clock.now)
    if not waiting:
        assert budgets.deadline == clock.now + 3, "and so does the handler's"
        budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == clock.now + left, reason


def test_what_is_open_does_not_grow_and_what_comes_next_has_the_new_time() -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    budgets.expect(Timer.COMMAND)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    budgets.switch(Limits(command_seconds=50), clock.now)
    assert budgets.deadline == 10
    budgets.expect(Timer.COMMAND)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == 50


@pytest.mark.parametrize(("seconds", "left"), [(2, 2), (300, 11)])
def test_a_linger_is_no_longer_than_a_command(seconds: float, left: float) -> None:
    clock = ManualClock(0)
    budgets = Budgets(LIMITS)
    budgets.only_linger(seconds)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    budgets.switch(Limits().under_stress(), 1)
    assert budgets.deadline == left


def test_what_came_ahead_earns_time_for_the_session() -> None:
    clock = ManualClock(0)
    budgets = Budgets(Limits(body_seconds=50, session_seconds=100, body_rate=10))
    budgets.expect(Timer.COMMAND)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    clock.now = 60
    for _ in range(2):
        budgets.expect(Timer.BODY)
        budgets.came_ahead(300)
        budgets.charge_peer(Flow.NEED_DATA, clock)
        assert budgets.deadline == clock.now + 50
        clock.now += 30
    assert budgets.expired(120 + 50) is Timer.BODY
    budgets.expect(Timer.BODY)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == 100 + 30 + 30, "the session's: all the waiting but what was earned"


# A reply that is late.


def test_while_a_reply_is_late_nobody_pays() -> None:
    clock = ManualClock(0)
    budgets = Budgets(Limits(command_seconds=10, session_seconds=20, error_delay_seconds=3))
    budgets.expect(Timer.COMMAND)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    clock.now = 4
    budgets.charge_nobody(clock)
    assert budgets.deadline == 7
    clock.now = 5
    budgets.charge_nobody(clock)
    assert budgets.deadline == 7, "asking again makes it no later"
    assert budgets.expired(7) is Timer.DELAY
    budgets.end_delay()
    assert budgets.deadline is None
    clock.now = 7
    budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == 7 + 6
    budgets.expect(Timer.COMMAND)
    budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == 7 + 10
    for _ in range(2):
        budgets.expect(Timer.BODY)
        budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == 7 + 16, "the session's goes on where it was"


# A client's patience.

PATIENCE = Limits(block_seconds=20, body_rate=10)


def test_a_client_waits_for_one_thing_at_a_time() -> None:
    clock = ManualClock(0)
    patience = Patience(PATIENCE)
    patience.wait(Flow.NEED_COMMAND, clock)
    assert (patience.deadline, clock.reads) == (None, 0), "nothing is due"
    patience.expect(Timer.COMMAND, 5)
    assert patience.deadline is None, "waiting has not begun"
    patience.wait(Flow.NEED_DATA, clock)
    assert patience.deadline == 5
    clock.now = 3
    patience.wait(Flow.NEED_DATA, clock)
    patience.pause()
    patience.wait(Flow.NEED_DATA, clock)
    assert patience.deadline == 5, "what is due is the same"
    assert patience.expired(5) is Timer.COMMAND
    patience.expect(Timer.END, 7)
    patience.wait(Flow.NEED_DATA, clock)
    assert patience.deadline == 10
    patience.expect_nothing()
    assert patience.deadline is None


def test_a_clients_hurry_goes_beyond_what_it_waits_for() -> None:
    clock = ManualClock(0)
    patience = Patience(PATIENCE)
    patience.bound(8, clock.now)
    patience.expect_nothing()
    assert patience.deadline == 8
    patience.expect(Timer.COMMAND, 20)
    patience.wait(Flow.NEED_DATA, clock)
    assert patience.expired(8) is Timer.SESSION
    patience.stop()
    assert patience.deadline is None


def test_a_body_has_one_budget_for_all_its_pieces() -> None:
    clock = ManualClock(0)
    patience = Patience(PATIENCE)
    for spent, left in ((5, 20), (5, 20 - 5 + 1), (0, 20 - 5 + 1 - 5 + 1)):
        patience.send_body()
        patience.send_body()
        patience.wait(Flow.NEED_COMMAND, clock)
        assert patience.sends_body
        assert patience.deadline == clock.now + left
        clock.now += spent
        patience.sent(10, clock.now)
        patience.body_has_left(clock.now)
        assert not patience.sends_body
        assert patience.deadline is None
        clock.now += 1000  # we have no more of it yet
    patience.begin_body()
    patience.send_body()
    patience.wait(Flow.NEED_COMMAND, clock)
    assert patience.deadline == clock.now + 20, "the next message's is its own"


def test_a_piece_earns_no_more_than_there_was() -> None:
    clock = ManualClock(0)
    patience = Patience(PATIENCE)
    patience.send_body()
    patience.wait(Flow.NEED_COMMAND, clock)
    clock.now = 5
    patience.sent(100_000, clock.now)
    assert patience.deadline == 25


def test_a_chunk_that_follows_at_once_has_its_own_budget() -> None:
    clock = ManualClock(0)
    patience = Patience(PATIENCE)
    patience.send_body()
    patience.wait(Flow.NEED_DATA, clock)
    clock.now = 15
    patience.begin_body()
    patience.send_body()
    patience.wait(Flow.NEED_DATA, clock)
    assert patience.deadline == 35


def test_what_else_leaves_earns_nothing() -> None:
    clock = ManualClock(0)
    patience = Patience(PATIENCE)
    patience.expect(Timer.COMMAND, 5)
    patience.wait(Flow.NEED_DATA, clock)
    patience.sent(1000, 1)
    assert patience.deadline == 5


@pytest.mark.parametrize(
    ("seconds", "rate", "octets", "reason"),
    [
        (180, 500, 22_500, "a quarter of what all the time is worth"),
        (180, 1e6, 65_536, "never more than a buffer's worth"),
        (1, 1, 1, "never nothing"),
    ],
)
def test_a_piece_is_small_where_octets_earn_much(seconds: float, rate: float, octets: int, reason: str) -> None:
    assert most_at_once(Limits(block_seconds=seconds, body_rate=rate)) == octets, reason
