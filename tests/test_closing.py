"""The closing sequence, alone."""

from __future__ import annotations

import pytest

from smtpstate._budget import Budgets, Limits
from smtpstate._closing import Closing
from smtpstate._events import CloseReason, ConnectionClosed, Flow
from tests.helpers import ManualClock

LIMITS = Limits(linger=100, linger_seconds=2, command_seconds=30)


def closing(reason: CloseReason) -> tuple[Closing, Budgets]:
    budgets = Budgets(LIMITS)
    found = Closing(budgets)
    found.begin(ConnectionClosed(reason))
    return found, budgets


@pytest.mark.parametrize(
    ("reason", "seconds", "why"),
    [
        (CloseReason.QUIT, 30, "the peer asked for what is still to come"),
        (CloseReason.EOF, 30, "half closed, it may still be reading"),
        (CloseReason.TIMEOUT, 2, "it was slow already"),
        (CloseReason.VIOLATION, 2, "it broke the rules"),
        (CloseReason.CLOSED, 2, "we are in a hurry"),
    ],
)
def test_the_last_replies_have_their_time(reason: CloseReason, seconds: float, why: str) -> None:
    clock = ManualClock(0)
    _found, budgets = closing(reason)
    budgets.charge_peer(Flow.NEED_FLUSH, clock)
    assert budgets.deadline == seconds, why


def test_flush_then_half_close_then_linger_then_over() -> None:
    clock = ManualClock(0)
    found, budgets = closing(CloseReason.QUIT)
    assert found.step(8) is Flow.NEED_FLUSH
    assert found.half_close is False
    assert found.step(0) is Flow.NEED_DATA
    assert found.half_close is True
    budgets.charge_peer(Flow.NEED_DATA, clock)
    assert budgets.deadline == 2, "from the half-close on"
    found.drop(100)
    assert found.step(0) is Flow.NEED_DATA
    found.drop(1)
    assert found.step(0) is None


def test_an_end_of_input_needs_no_linger() -> None:
    found, _ = closing(CloseReason.EOF)
    found.eof = True
    assert found.step(1) is Flow.NEED_FLUSH
    assert found.step(0) is None
    assert found.half_close is True


def test_when_it_is_over_nothing_is_waited_for() -> None:
    found, budgets = closing(CloseReason.QUIT)
    budgets.charge_peer(Flow.NEED_FLUSH, ManualClock())
    ending = found.ending
    assert ending is not None
    found.finish(ending)
    assert found.closed == ConnectionClosed(CloseReason.QUIT)
    assert budgets.deadline is None
