"""Conduct, alone: what is counted, what ends a session, and what makes up for it."""

from collections.abc import Callable

import pytest

from smtpstate._budget import Limits
from smtpstate._conduct import Conduct
from smtpstate._events import Violation

LIMITS = Limits(commands=3, junk=3, errors=3, soft_errors=2, auth_failures=3)


@pytest.mark.parametrize(
    ("limits", "tell", "harmless", "ending", "reason"),
    [
        (LIMITS, Conduct.command, 3, Violation.TOO_MANY_COMMANDS, "so many are a session's"),
        (LIMITS, Conduct.error, 3, Violation.TOO_MANY_ERRORS, "so many are answered"),
        (LIMITS, Conduct.junk, 3 + 3, Violation.TOO_MUCH_JUNK, "what is above the limit counts as errors"),
        (LIMITS, Conduct.failure, 2, Violation.TOO_MANY_AUTH_FAILURES, "the last of so many is the end"),
        (Limits().under_stress(), Conduct.error, 1, Violation.TOO_MANY_ERRORS, "one under stress"),
        (Limits().under_stress(), Conduct.junk, 2, Violation.TOO_MUCH_JUNK, "EHLO before and after STARTTLS"),
    ],
)
def test_too_much_of_it_ends_the_session(
    limits: Limits, tell: Callable[[Conduct], Violation | None], harmless: int, ending: Violation, reason: str
) -> None:
    conduct = Conduct(limits)
    assert [tell(conduct) for _ in range(harmless)] == [None] * harmless, reason
    assert [tell(conduct) for _ in range(3)] == [ending] * 3, reason


def test_junk_and_errors_are_added_up() -> None:
    conduct = Conduct(LIMITS)
    for _ in range(4):
        assert conduct.junk() is None
    assert [conduct.error() for _ in range(3)] == [None, None, Violation.TOO_MANY_ERRORS]


def test_replies_are_late_after_some_errors_until_a_message_is_taken() -> None:
    conduct = Conduct(LIMITS)
    late: list[bool] = []
    for _ in range(3):
        late.append(conduct.makes_late)
        conduct.error()
    assert late == [False, False, True]
    conduct.message()
    assert not conduct.makes_late


def test_a_message_makes_up_for_all_but_failed_attempts() -> None:
    conduct = Conduct(LIMITS)
    for _ in range(100):
        assert (conduct.command(), conduct.error(), conduct.junk()) == (None, None, None)
        conduct.message()
    conduct.failure()
    conduct.failure()
    conduct.message()
    assert conduct.failure() is Violation.TOO_MANY_AUTH_FAILURES


def test_what_was_counted_counts_when_the_limits_change() -> None:
    conduct = Conduct(Limits())
    for _ in range(2):
        assert conduct.error() is None
    conduct.limits = Limits().under_stress()
    assert conduct.error() is Violation.TOO_MANY_ERRORS
