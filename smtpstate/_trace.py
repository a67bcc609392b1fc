"""The trace: what a connection tells whoever logs it, keeps it or shows it, record by record. It holds no secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never, final

from smtpstate._commands import Auth, AuthCancel, AuthResponse, Bdat, Command
from smtpstate._events import Timer, TraceLine, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate._replies import Reply
    from smtpstate._state import Phase, Session
    from smtpstate._verbs import Verb


@final
@dataclass(frozen=True, slots=True)
class TracePhase:
    """The session is in this phase now."""

    phase: Phase


@final
@dataclass(frozen=True, slots=True)
class TraceVerdict:
    """`verb` was answered with `reply`: a server's application has decided so, or a client was told so.

    `silent` says that the application has not said anything, or not in time, so that it is the table's verdict.
    """

    verb: Verb
    reply: Reply
    silent: bool = False


@final
@dataclass(frozen=True, slots=True)
class TraceBudget:
    """This is spent: a time, or how much of something there may be."""

    budget: Timer | Violation


TraceRecord: TypeAlias = TraceLine | TracePhase | TraceVerdict | TraceBudget
Trace: TypeAlias = Callable[[TraceRecord], None]


@final
class Teller:
    """Hands records of a session to whoever follows it, if anybody does; its phase first, when it is another by now."""

    __slots__ = ("_phase", "_session", "_trace")

    def __init__(self, session: Session, trace: Trace | None) -> None:
        self._session: Final = session
        self._trace: Final = trace
        self._phase: Phase = session.phase

    def line(self, side: str, octets: bytes) -> None:
        """This was said; what is secret is not in it."""
        if self._trace is not None:
            self.phase()
            self._trace(TraceLine(side, octets))

    def command(self, command: Command, octets: bytes) -> None:
        """This command was sent, spelled as `octets`."""
        if self._trace is None:
            return
        match command:
            case AuthResponse() | AuthCancel():
                self.line("C", b"***")
            case Auth(mechanism, response) if response is not None:
                self.line("C", f"AUTH {mechanism} ***".encode("ascii"))
            case Bdat(size, last):
                self.line("C", octets.removesuffix(b"\r\n"))
                self.line("C", b"(%d octets)%s" % (size, b" ." if last else b""))
            case _:
                self.line("C", octets.removesuffix(b"\r\n"))

    def phase(self) -> None:
        """The session may be in another phase."""
        if self._trace is not None and self._session.phase is not self._phase:
            self._phase = self._session.phase
            self._trace(TracePhase(self._phase))

    def verdict(self, verb: Verb, reply: Reply, *, silent: bool = False) -> None:
        """That was answered."""
        if self._trace is not None:
            self.phase()
            self._trace(TraceVerdict(verb, reply, silent))

    def budget(self, budget: Timer | Violation) -> None:
        """That is spent."""
        if self._trace is not None:
            self.phase()
            self._trace(TraceBudget(budget))


# Whatever could make a line look like two, or like something else.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


def _printable(line: bytes) -> str:
    text = line.decode("ascii", "backslashreplace")
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def render(records: Iterable[TraceRecord]) -> str:
    """The records as text: "C: " or "S: " before each line that was said, "-- " before what else there is to know.

    What is not printable ASCII has a name in it, so that no line looks like another.
    """
    rows: list[str] = []
    for record in records:
        match record:
            case TraceLine(side, octets):
                rows += [f"{side}: {_printable(line)}" for line in octets.removesuffix(b"\r\n").split(b"\r\n")]
            case TracePhase(phase):
                rows.append(f"-- phase {phase.name}")
            case TraceVerdict(verb, reply, silent):
                said = _printable(str(reply).encode())
                rows.append(f"-- {verb.name} is answered {said}{', by nobody' if silent else ''}")
            case TraceBudget(budget):
                rows.append(f"-- {'time is up' if isinstance(budget, Timer) else 'too much'}: {budget.name}")
            case _:
                assert_never(record)
    return "".join(f"{row}\n" for row in rows)
