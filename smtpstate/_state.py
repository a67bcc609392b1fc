"""Every ordering rule of SMTP: which verb may come when, and where its reply leads.

Two laws. Whatever decides whether a verb is in order stands in this file. And this file does not know on which
side of the wire it runs: one side advances a `Session` when it sends a reply, the other when it receives it, so
the two cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, final

from smtpstate._commands import Verb
from smtpstate._replies import Reply

if TYPE_CHECKING:
    from collections.abc import Callable


class Phase(IntEnum):
    """Where a session stands. RFC 5321 section 3 tells the story, section 4.1.4 the rules."""

    CONNECT = 0  # connected, no greeting yet
    REFUSED = 1  # greeted with 554: only QUIT is left (section 3.1)
    GREETED = 2  # greeted with 220, or just after a TLS handshake
    READY = 3  # EHLO or HELO was answered; no transaction
    TLS = 4  # STARTTLS was answered 220; the handshake is under way (RFC 3207)
    MAIL = 5  # a transaction without an accepted recipient
    RCPT = 6  # a transaction with at least one accepted recipient
    BODY = 7  # DATA was answered 354
    CLOSING = 8  # the last reply is on its way
    CLOSED = 9


class Outcome(IntEnum):
    """What a reply means for the state: its first digit decides, never a list of codes (section 4.2.1)."""

    OK = 2
    MORE = 3
    FAIL = 4
    CLOSE = 5  # 421 and 521 may answer anything, and end the session (sections 3.8 and 4.2.3; RFC 7504)

    @staticmethod
    def of(code: int) -> Outcome:
        """The outcome that a code, 200 to 599, stands for."""
        return Outcome.CLOSE if code in CLOSING_CODES else _FIRST_DIGIT[code // 100]


CLOSING_CODES: Final = frozenset({421, 521})
_FIRST_DIGIT: Final[dict[int, Outcome]] = {2: Outcome.OK, 3: Outcome.MORE, 4: Outcome.FAIL, 5: Outcome.FAIL}

OK: Final = Outcome.OK
MORE: Final = Outcome.MORE
FAIL: Final = Outcome.FAIL

_Row = dict[Verb, dict[Outcome, Phase]]

# Section 4.1.4: these may come at any time outside a message. Only QUIT leads anywhere.
_ANY: Final[_Row] = {
    Verb.NOOP: {},
    Verb.RSET: {},
    Verb.HELP: {},
    Verb.VRFY: {},
    Verb.EXPN: {},
    Verb.QUIT: {OK: Phase.CLOSING},
}
# A hello opens a session anew: any transaction is gone (section 4.1.4).
_HELLO: Final[_Row] = {Verb.EHLO: {OK: Phase.READY}, Verb.HELO: {OK: Phase.READY}}
# Inside a transaction RSET and another hello lead back to READY.
_TRANSACTION: Final[_Row] = {**_ANY, **_HELLO, Verb.RSET: {OK: Phase.READY}, Verb.DATA: {MORE: Phase.BODY}}

# phase -> verb -> outcome -> next phase. Absent verb: out of sequence (503). Absent outcome: stay.
# CLOSE is not spelled out: from every phase it leads to CLOSING.
TRANSITIONS: Final[dict[Phase, _Row]] = {
    Phase.CONNECT: {
        Verb.TLS: {OK: Phase.CONNECT, FAIL: Phase.CLOSING},  # implicit TLS, before the greeting (RFC 8314)
        Verb.CONNECT: {OK: Phase.GREETED, FAIL: Phase.REFUSED},
    },
    Phase.REFUSED: {Verb.QUIT: {OK: Phase.CLOSING}},
    Phase.GREETED: {**_ANY, **_HELLO},
    Phase.READY: {**_ANY, **_HELLO, Verb.STARTTLS: {OK: Phase.TLS}, Verb.MAIL: {OK: Phase.MAIL}},
    Phase.TLS: {Verb.TLS: {OK: Phase.GREETED, FAIL: Phase.CLOSING}},  # RFC 3207 section 4.2: forget everything
    Phase.MAIL: {**_TRANSACTION, Verb.RCPT: {OK: Phase.RCPT}},
    Phase.RCPT: {**_TRANSACTION, Verb.RCPT: {}},
    Phase.BODY: {Verb.END: {OK: Phase.READY, FAIL: Phase.READY}},
    Phase.CLOSING: {},
    Phase.CLOSED: {},
}

TRANSACTION_PHASES: Final = frozenset({Phase.MAIL, Phase.RCPT, Phase.BODY})

OUT_OF_SEQUENCE: Final = Reply(503, "Bad sequence of commands", enhanced="5.5.1")
HELLO_FIRST: Final = Reply(503, "Send EHLO first", enhanced="5.5.1")
NESTED_MAIL: Final = Reply(503, "A transaction is open already", enhanced="5.5.1")


@final
@dataclass(frozen=True, slots=True)
class Guard:
    """A fact beside the phase that a verb needs, and the refusal when it is missing."""

    fact: str
    holds: Callable[[Session], bool]
    refusal: Reply


@final
class Session:
    """The phase and the facts beside it: all that decides what may come next.

    `offers_tls` says that STARTTLS was announced, `secure` that the connection runs in TLS, `esmtp` that the last
    hello was an EHLO.
    """

    __slots__ = ("esmtp", "offers_tls", "phase", "secure")

    def __init__(
        self, phase: Phase = Phase.CONNECT, *, secure: bool = False, esmtp: bool = False, offers_tls: bool = False
    ) -> None:
        self.phase: Phase = phase
        self.secure: bool = secure
        self.esmtp: bool = esmtp
        self.offers_tls: bool = offers_tls

    @property
    def has_transaction(self) -> bool:
        return self.phase in TRANSACTION_PHASES

    @property
    def key(self) -> tuple[Phase, bool, bool, bool]:
        """Everything that tells two sessions apart."""
        return self.phase, self.secure, self.esmtp, self.offers_tls

    def copy(self) -> Session:
        return Session(self.phase, secure=self.secure, esmtp=self.esmtp, offers_tls=self.offers_tls)

    def check(self, verb: Verb) -> Reply | None:
        """The refusal that `verb` has earned here, or None when it is in order."""
        if verb not in TRANSITIONS[self.phase]:
            return REFUSALS.get((self.phase, verb), OUT_OF_SEQUENCE)
        for guard in GUARDS.get(verb, ()):
            if not guard.holds(self):
                return guard.refusal
        return None

    def advance(self, verb: Verb, outcome: Outcome) -> None:
        """Moves to where `outcome` of `verb` leads. What the table does not name changes nothing."""
        if outcome is Outcome.CLOSE:
            self.phase = Phase.CLOSING
            return
        row = TRANSITIONS[self.phase].get(verb)
        if row is None:
            return
        self.phase = row.get(outcome, self.phase)
        if outcome is not OK:
            return
        if verb is Verb.EHLO or verb is Verb.HELO:
            self.esmtp = verb is Verb.EHLO
        elif verb is Verb.TLS:
            # RFC 3207 section 4.2: what was learnt in clear text is gone, the announcement of STARTTLS with it.
            self.secure, self.esmtp, self.offers_tls = True, False, False

    def close(self) -> None:
        """The transport is gone, or its end was agreed."""
        self.phase = Phase.CLOSED


# RFC 3207 section 4.2 keeps STARTTLS out of TLS; RFC 5321 section 4.1.1.4 gives DATA its recipients.
GUARDS: Final[dict[Verb, tuple[Guard, ...]]] = {
    Verb.STARTTLS: (
        Guard("not secure", lambda s: not s.secure, Reply(503, "TLS is active already", enhanced="5.5.1")),
        Guard("ESMTP", lambda s: s.esmtp, HELLO_FIRST),
        Guard("TLS is offered", lambda s: s.offers_tls, Reply(502, "TLS is not available", enhanced="5.5.1")),
    ),
    Verb.DATA: (
        Guard(
            "a recipient was accepted",
            lambda s: s.phase is Phase.RCPT,
            Reply(554, "No valid recipients", enhanced="5.5.1"),
        ),
    ),
}

# Where 503 has more to say than "bad sequence".
REFUSALS: Final[dict[tuple[Phase, Verb], Reply]] = {
    (Phase.GREETED, Verb.MAIL): HELLO_FIRST,
    (Phase.GREETED, Verb.RCPT): HELLO_FIRST,
    (Phase.GREETED, Verb.DATA): HELLO_FIRST,
    (Phase.GREETED, Verb.STARTTLS): HELLO_FIRST,
    (Phase.READY, Verb.RCPT): Reply(503, "Send MAIL first", enhanced="5.5.1"),
    (Phase.READY, Verb.DATA): Reply(503, "Send MAIL first", enhanced="5.5.1"),
    (Phase.MAIL, Verb.MAIL): NESTED_MAIL,
    (Phase.RCPT, Verb.MAIL): NESTED_MAIL,
    (Phase.REFUSED, Verb.EHLO): Reply(503, "No service here, only QUIT", enhanced="5.5.1"),
}
