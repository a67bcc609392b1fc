"""Conduct: how often a peer did what it may do only so often, and what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from smtpstate._events import Violation

if TYPE_CHECKING:
    from smtpstate._budget import Limits


@final
class Conduct:
    """Counts for one session. Each method but `message` is told of one thing more, and says what the session ends for.

    `limits` are those that hold now: what was counted before they changed counts on.
    """

    __slots__ = ("_commands", "_errors", "_failures", "_junk", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self._commands: int = 0
        self._errors: int = 0
        self._junk: int = 0
        self._failures: int = 0

    @property
    def makes_late(self) -> bool:
        """Whether replies are to be late: a peer that errs on and on is to have less of us, and not at once."""
        return self._errors >= self.limits.soft_errors

    def command(self) -> Violation | None:
        """A line came, whatever it says."""
        self._commands += 1
        return Violation.TOO_MANY_COMMANDS if self._commands > self.limits.commands else None

    def error(self) -> Violation | None:
        """A command was refused."""
        self._errors += 1
        return Violation.TOO_MANY_ERRORS if self._errors > self.limits.errors else None

    def junk(self) -> Violation | None:
        """A command brought no mail nearer. Those above the limit are errors, which honest clients have left of."""
        self._junk += 1
        if self._junk <= self.limits.junk or self.error() is None:
            return None
        return Violation.TOO_MUCH_JUNK

    def failure(self) -> Violation | None:
        """An AUTH attempt failed: RFC 4954 section 4."""
        self._failures += 1
        return Violation.TOO_MANY_AUTH_FAILURES if self._failures >= self.limits.auth_failures else None

    def message(self) -> None:
        """A message was taken: all is forgiven but failed attempts."""
        self._commands = self._errors = self._junk = 0
