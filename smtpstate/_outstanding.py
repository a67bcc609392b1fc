"""Outstanding: what was asked and is not answered yet, in order, and where the session stands if all of it succeeds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

from smtpstate._commands import Ehlo, Helo, Lhlo, Mail, XClient
from smtpstate._events import Connected
from smtpstate._questions import advance, ends_group, hoped
from smtpstate._state import Outcome
from smtpstate._verbs import Verb

if TYPE_CHECKING:
    from smtpstate._commands import Command
    from smtpstate._questions import Question
    from smtpstate._state import Session


@final
class Outstanding:
    """The questions of one client, of which the first waits for the greeting.

    `unsent` of those that were asked have not been taken by the driver. `hellos` counts those whose answer replaces
    what the server offers: until it is here, nothing is offered.
    """

    __slots__ = ("_asked", "_assumed", "_queued", "_session", "_stale", "hellos", "unsent")

    def __init__(self, session: Session) -> None:
        self._session: Final = session  # moves on replies only
        self._assumed: Session = session.copy()
        self._stale: bool = False
        self._asked: Final[deque[Question]] = deque([Connected()])  # written; a reply is due for each
        self._queued: Final[deque[Command]] = deque()  # not written: the server has to catch up first
        self.unsent: int = 0
        self.hellos: int = 0
        self._assumed.advance(Verb.CONNECT, Outcome.OK)

    def __len__(self) -> int:
        """How many replies are due, those for commands that wait to be written among them."""
        return len(self._asked) + len(self._queued)

    @property
    def all(self) -> tuple[Question, ...]:
        """All of them, in order."""
        return (*self._asked, *self._queued)

    @property
    def asked(self) -> int:
        """How many were written."""
        return len(self._asked)

    @property
    def first(self) -> Question | None:
        """The one that the next reply answers; None when nothing was asked."""
        return self._asked[0] if self._asked else None

    @property
    def has_mail(self) -> bool:
        """Whether a MAIL is among those written."""
        return any(isinstance(question, Mail) for question in self._asked)

    @property
    def assumed(self) -> Session:
        """The session as if all succeeds. Made anew when it is wanted: of a thousand refusals each makes it stale."""
        if self._stale:
            self._stale = False
            self._assumed = self._session.copy()
            for question in self.all:
                advance(self._assumed, question, hoped(question))
        return self._assumed

    def missed(self) -> None:
        """A hope was in vain, or the session has moved without a question."""
        self._stale = True

    def may_write(self, *, pipelining: bool) -> bool:
        """RFC 2920 section 3.1: only after PIPELINING, and never past a command that ends its group."""
        return not self._asked or (pipelining and not ends_group(self._asked[-1]))

    def ask(self, question: Question) -> None:
        """It was written."""
        self._asked.append(question)
        self.unsent += 1

    def queue(self, command: Command) -> None:
        """It waits for those before it."""
        self._queued.append(command)

    def hope(self, command: Command) -> None:
        """A command was sent, now or later."""
        advance(self.assumed, command, hoped(command))
        self.hellos += _is_hello(command)

    def next_queued(self, *, pipelining: bool) -> Command | None:
        """One that waited and may be written now."""
        return self._queued.popleft() if self._queued and self.may_write(pipelining=pipelining) else None

    def answered(self) -> None:
        """The first has its reply."""
        self.hellos -= _is_hello(self._asked.popleft())

    def clear(self) -> None:
        self._asked.clear()
        self._queued.clear()


def _is_hello(question: Question) -> bool:
    """Whether its answer replaces what is offered (RFC 5321 section 4.1.4)."""
    return isinstance(question, Ehlo | Helo | Lhlo | XClient)
