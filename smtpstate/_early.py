"""Early input: octets that came before the reply to a command that ends its group has left (RFC 2920 section 3.1).

A mail client waits there, since it cannot know how to go on. Who does not wait either does not listen, or sends what
somebody else wrote for it.
"""

from __future__ import annotations

from typing import Final, final

from smtpstate._events import Violation
from smtpstate._state import HELLOS
from smtpstate._syntax import COMMANDS
from smtpstate._verbs import Verb

# What may stand behind QUIT is never read, and the octets of a chunk follow its BDAT at once. XFORWARD is sent ahead of
# MAIL, in one group with it (XFORWARD_README); our own client waits all the same.
_FREE: Final = frozenset({Verb.QUIT, Verb.BDAT, Verb.XFORWARD})


def has_to_wait(verb: Verb, *, pipelining: bool) -> bool:
    """Whether a peer that says `verb` has to wait for the reply; after any, where it was not offered `pipelining`."""
    return verb not in _FREE and (not pipelining or COMMANDS[verb].ends_group)


def early(verb: Verb) -> Violation:
    """What it is to send something before `verb` was answered."""
    return Violation.EARLY_COMMAND if verb in HELLOS else Violation.EARLY_GROUP


@final
class SyncPoint:
    """Where the peer has to wait. `due` is what any octet from it would be now; None where it may send.

    `secret` says that what it would send may be an answer to a challenge.
    """

    __slots__ = ("_answered", "_fed", "due", "secret")

    def __init__(self) -> None:
        self.due: Violation | None = Violation.EARLY_TALK  # it has to be greeted first: RFC 5321 section 4.3.1
        self.secret: bool = False
        self._answered: bool = False
        self._fed: bool = False

    def reach(self, due: Violation, *, secret: bool = False) -> None:
        """A command came that ends its group."""
        self.due, self.secret = due, secret
        self._answered = self._fed = False

    def answered(self) -> None:
        """The reply is queued."""
        self._answered = True

    def fed(self) -> None:
        """Octets came."""
        self._fed = True

    def left(self) -> None:
        """All that was queued was taken, to be sent."""
        if self._answered:
            self.due = None

    @property
    def reads_first(self) -> bool:
        """Whether it matters that what has arrived is fed before what is queued is taken."""
        return self.due is not None and self._answered and not self._fed
