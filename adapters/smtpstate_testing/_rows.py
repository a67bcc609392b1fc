"""The rows of a script: what they are about, and what is done the first time, the second time, and from then on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate import Connected, EnhancedCode, Reply
from smtpstate_testing._patterns import About, Pattern, pattern

if TYPE_CHECKING:
    from collections.abc import Sequence


class End(Enum):
    """What becomes of the connection."""

    GOES_ON = "it goes on"
    DROPS = "closed at once"
    RESETS = "reset, as by a crash"
    STALLS = "open, but nothing is read or said any more"


class Silent(Enum):
    """A reply that never comes."""

    SILENT = "silent"


SILENT: Final = Silent.SILENT
Answer: TypeAlias = Reply | bytes | Silent | None


@final
@dataclass(frozen=True, slots=True)
class Step:
    """What is done once, or `times` times: in this order. An `answer` of None is the one that would have come."""

    answer: Answer = None
    garbage: int = 0
    delay: float = 0.0
    rate: float | None = None
    end: End = End.GOES_ON
    times: int = 1


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table. Each method gives a row that does this as well; `then` begins what is done the next time.

    What stands last in a row is done from then on, each time. `on` rows answer in place of the server, and of those the
    first that fits does; `after` rows come once the reply is out, or `octets` octets of the body are in, all that fit.
    """

    about: Pattern
    answers: bool
    octets: int | None = None
    steps: tuple[Step, ...] = (Step(),)

    def _with(self, step: Step) -> Row:
        return replace(self, steps=(*self.steps[:-1], step))

    def reply(self, code: int | Reply, *lines: str, enhanced: EnhancedCode | str | None = None) -> Row:
        """Says this; any code at all. What it means for what comes next is what its first digit means to the client."""
        self._need_answers()
        reply = code if isinstance(code, Reply) else Reply(code, *lines, enhanced=enhanced)
        return self._with(replace(self.steps[-1], answer=reply))

    def say(self, octets: bytes) -> Row:
        """Says these octets as they are, no line ending added; in place of a reply, or after it in an `after` row."""
        return self._with(replace(self.steps[-1], answer=octets))

    def silence(self) -> Row:
        """Says nothing to this, and goes on."""
        self._need_answers()
        return self._with(replace(self.steps[-1], answer=SILENT))

    def garbage(self, octets: int = 64) -> Row:
        """Says so many octets that mean nothing, drawn by the script's seed; in place of a reply, if there is none."""
        step = self.steps[-1]
        answer = SILENT if self.answers and step.answer is None else step.answer
        return self._with(replace(step, answer=answer, garbage=octets))

    def delay(self, seconds: float) -> Row:
        """Lets so many seconds pass first; nothing is read meanwhile."""
        return self._with(replace(self.steps[-1], delay=seconds))

    def slow(self, octets_per_second: float) -> Row:
        """Whatever is said from here on leaves at this rate, octet by octet."""
        if not octets_per_second > 0:
            raise ValueError(f"no rate: {octets_per_second}")
        return self._with(replace(self.steps[-1], rate=octets_per_second))

    def drop(self) -> Row:
        """Closes the connection; in place of a reply, if there is none."""
        return self._ending(End.DROPS)

    def reset(self) -> Row:
        """Resets the connection: what is on its way may be lost. In place of a reply, if there is none."""
        return self._ending(End.RESETS)

    def stall(self) -> Row:
        """Reads and says nothing more, and leaves the connection open. In place of a reply, if there is none."""
        return self._ending(End.STALLS)

    def _ending(self, end: End) -> Row:
        step = self.steps[-1]
        answer = SILENT if self.answers and step.answer is None else step.answer
        return self._with(replace(step, answer=answer, end=end))

    def times(self, count: int) -> Row:
        """Does what was said last so many times, before what `then` says."""
        if count < 1:
            raise ValueError(f"not a number of times: {count}")
        return self._with(replace(self.steps[-1], times=count))

    def then(self, code: int | Reply | None = None, *lines: str, enhanced: EnhancedCode | str | None = None) -> Row:
        """What is done the next time: this reply; or, without one, what would have come, and what follows here."""
        row = replace(self, steps=(*self.steps, Step()))
        return row if code is None else row.reply(code, *lines, enhanced=enhanced)

    def _need_answers(self) -> None:
        if not self.answers:
            raise ValueError("`after` comes when the reply is out: `on` is what changes it")

    def step(self, before: int) -> Step:
        """What is done after it was done `before` times already."""
        for step in self.steps:
            if before < step.times:
                return step
            before -= step.times
        return self.steps[-1]


@final
@dataclass(frozen=True, slots=True)
class StalledHandshake:
    """Every handshake stalls: its octets are read, and nothing is said."""


def on(about: About) -> Row:
    """A row about the reply to such a command; to `Connected` it is the greeting, to `EndOfMessage` the last word."""
    return Row(pattern(about), answers=True)


def after(about: About, *, octets: int | None = None) -> Row:
    """A row about what happens when the reply to such a command is out; or, with `octets`, in the body behind it."""
    return Row(pattern(about), answers=False, octets=octets)


def slow(octets_per_second: float) -> Row:
    """Whatever the server says leaves at this rate, octet by octet, from the greeting on."""
    return on(Connected).slow(octets_per_second)


def garbage(octets: int = 64) -> Row:
    """In place of a greeting so many octets that mean nothing."""
    return on(Connected).garbage(octets)


def stall_handshake() -> StalledHandshake:
    """Every handshake stalls, that of STARTTLS and the one before a greeting."""
    return StalledHandshake()


def rows_of(rows: Sequence[Row | StalledHandshake]) -> tuple[tuple[Row, ...], bool]:
    """The rows about commands, and whether handshakes stall."""
    return tuple(row for row in rows if isinstance(row, Row)), any(isinstance(row, StalledHandshake) for row in rows)
