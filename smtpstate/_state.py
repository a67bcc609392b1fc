"""Every ordering rule of SMTP: which verb may come when, and where its reply leads.

Two laws. Whatever decides whether a verb is in order stands in this file. And this file does not know on which
side of the wire it runs: one side advances a `Session` when it sends a reply, the other when it receives it, so
the two cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, final

from smtpstate._replies import Reply
from smtpstate._verbs import OwnVerb, Verb

if TYPE_CHECKING:
    from collections.abc import Callable


class Phase(IntEnum):
    """Where a session stands. RFC 5321 section 3 tells the story, section 4.1.4 the rules."""

    CONNECT = 0  # connected, no greeting yet
    REFUSED = 1  # greeted with 554: only QUIT is left (section 3.1)
    GREETED = 2  # greeted with 220, or just after a TLS handshake
    READY = 3  # EHLO, HELO or LHLO was answered; no transaction
    AUTH = 4  # AUTH was answered 334: the exchange goes on (RFC 4954)
    TLS = 5  # STARTTLS was answered 220; the handshake is under way (RFC 3207)
    MAIL = 6  # a transaction without an accepted recipient
    RCPT = 7  # a transaction with at least one accepted recipient
    BODY = 8  # DATA was answered 354
    CHUNK = 9  # the octets of a BDAT are coming (RFC 3030)
    CHUNKED = 10  # a chunk was taken, and it was not the last
    DEAD = 11  # a chunk was refused: RSET, a hello or QUIT, and nothing else (RFC 3030 section 2)
    CLOSING = 12  # the last reply is on its way
    CLOSED = 13


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
_HELLO: Final[_Row] = {
    Verb.EHLO: {OK: Phase.READY},
    Verb.HELO: {OK: Phase.READY},
    Verb.LHLO: {OK: Phase.READY},
}
# Inside a transaction RSET and another hello lead back to READY.
_WAY_BACK: Final[_Row] = {**_ANY, **_HELLO, Verb.RSET: {OK: Phase.READY}}
# A chunk is taken (MORE) or refused; refused or not, its octets come (RFC 3030 section 2).
_CHUNK: Final[_Row] = {Verb.BDAT: {MORE: Phase.CHUNK, FAIL: Phase.DEAD}}
# The peer turns out to speak for somebody else, who is greeted in its place (Postfix's XCLIENT_README).
_XCLIENT: Final[_Row] = {Verb.XCLIENT: {OK: Phase.CONNECT}}
# They lead nowhere: what one does is its own (an OwnVerb says where it may come).
_OWN: Final[_Row] = {Verb.OWN: {}}
_TRANSACTION: Final[_Row] = {**_WAY_BACK, **_OWN, Verb.DATA: {MORE: Phase.BODY}, **_CHUNK}

# phase -> verb -> outcome -> next phase. Absent verb: out of sequence (503). Absent outcome: stay.
# CLOSE is not spelled out: from every phase it leads to CLOSING.
TRANSITIONS: Final[dict[Phase, _Row]] = {
    Phase.CONNECT: {
        Verb.TLS: {OK: Phase.CONNECT, FAIL: Phase.CLOSING},  # implicit TLS, before the greeting (RFC 8314)
        Verb.CONNECT: {OK: Phase.GREETED, FAIL: Phase.REFUSED},
    },
    Phase.REFUSED: {Verb.QUIT: {OK: Phase.CLOSING}},
    Phase.GREETED: {**_ANY, **_HELLO, **_XCLIENT},
    Phase.READY: {
        **_ANY,
        **_HELLO,
        **_XCLIENT,
        **_OWN,
        Verb.XFORWARD: {},
        Verb.STARTTLS: {OK: Phase.TLS},
        Verb.AUTH: {MORE: Phase.AUTH},
        Verb.MAIL: {OK: Phase.MAIL},
    },
    Phase.AUTH: {Verb.RESPONSE: {OK: Phase.READY, FAIL: Phase.READY}},
    Phase.TLS: {Verb.TLS: {OK: Phase.GREETED, FAIL: Phase.CLOSING}},  # RFC 3207 section 4.2: forget everything
    Phase.MAIL: {**_TRANSACTION, Verb.RCPT: {OK: Phase.RCPT}},
    Phase.RCPT: {**_TRANSACTION, Verb.RCPT: {}},
    Phase.BODY: {Verb.END: {OK: Phase.READY, FAIL: Phase.READY}},
    Phase.CHUNK: {
        Verb.CHUNK: {OK: Phase.CHUNKED, FAIL: Phase.DEAD},
        Verb.END: {OK: Phase.READY, FAIL: Phase.READY},
    },
    Phase.CHUNKED: {**_WAY_BACK, **_CHUNK},
    Phase.DEAD: _WAY_BACK,
    Phase.CLOSING: {},
    Phase.CLOSED: {},
}

HELLOS: Final = frozenset({Verb.EHLO, Verb.HELO, Verb.LHLO})
TRANSACTION_PHASES: Final = frozenset({Phase.MAIL, Phase.RCPT, Phase.BODY, Phase.CHUNK, Phase.CHUNKED})

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

    What this session is: `lmtp` instead of SMTP, and one that `needs_tls` or `needs_auth` before it takes mail. What
    has happened: it is `secure` (in TLS), `authenticated`, and `esmtp` (the last hello was not a HELO); the open
    transaction is `binary` (BODY=BINARYMIME). What the last hello announced: `offers_tls`, `offers_auth`,
    `offers_chunking`, `offers_xclient`, `offers_xforward` and `offers_own`, the verbs of one's own; whoever may say
    XCLIENT may say it before a hello, too.
    """

    __slots__ = (
        "authenticated",
        "binary",
        "esmtp",
        "lmtp",
        "needs_auth",
        "needs_tls",
        "offers_auth",
        "offers_chunking",
        "offers_own",
        "offers_tls",
        "offers_xclient",
        "offers_xforward",
        "phase",
        "secure",
    )

    def __init__(
        self, phase: Phase = Phase.CONNECT, *, lmtp: bool = False, needs_tls: bool = False, needs_auth: bool = False
    ) -> None:
        self.phase: Phase = phase
        self.lmtp: Final = lmtp
        self.needs_tls: Final = needs_tls
        self.needs_auth: Final = needs_auth
        self.secure: bool = False
        self.authenticated: bool = False
        self.esmtp: bool = False
        self.binary: bool = False
        self.offers_tls: bool = False
        self.offers_auth: bool = False
        self.offers_chunking: bool = False
        self.offers_xclient: bool = False
        self.offers_xforward: bool = False
        self.offers_own: frozenset[OwnVerb] = frozenset()

    @property
    def has_transaction(self) -> bool:
        return self.phase in TRANSACTION_PHASES

    @property
    def key(self) -> tuple[Phase, tuple[bool, ...], frozenset[OwnVerb]]:
        """Everything that tells two sessions apart."""
        facts = (
            *(self.lmtp, self.needs_tls, self.needs_auth, self.secure, self.authenticated, self.esmtp),
            *(self.binary, self.offers_tls, self.offers_auth, self.offers_chunking),
            *(self.offers_xclient, self.offers_xforward),
        )
        return self.phase, facts, self.offers_own

    def copy(self) -> Session:
        other = Session(self.phase, lmtp=self.lmtp, needs_tls=self.needs_tls, needs_auth=self.needs_auth)
        other.secure, other.authenticated, other.esmtp = self.secure, self.authenticated, self.esmtp
        other.binary = self.binary
        other.announce(
            tls=self.offers_tls,
            auth=self.offers_auth,
            chunking=self.offers_chunking,
            xclient=self.offers_xclient,
            xforward=self.offers_xforward,
            own=self.offers_own,
        )
        return other

    def announce(
        self,
        *,
        tls: bool = False,
        auth: bool = False,
        chunking: bool = False,
        xclient: bool = False,
        xforward: bool = False,
        own: frozenset[OwnVerb] = frozenset(),
    ) -> None:
        """What the hello that was just answered offers; what an earlier one did is forgotten."""
        self.offers_tls, self.offers_auth, self.offers_chunking = tls, auth, chunking
        self.offers_xclient, self.offers_xforward, self.offers_own = xclient, xforward, own

    def check(self, verb: Verb, name: str = "") -> Reply | None:
        """The refusal that `verb` has earned here, or None when it is in order; of OWN, the one with that `name`."""
        if verb not in TRANSITIONS[self.phase]:
            return REFUSALS.get((self.phase, verb), OUT_OF_SEQUENCE)
        for guard in GUARDS.get(verb, ()):
            if not guard.holds(self):
                return guard.refusal
        return self._check_own(name) if verb is Verb.OWN else None

    def _check_own(self, name: str) -> Reply | None:
        own = next((own for own in self.offers_own if own.name == name), None)
        if own is None:
            return _NOT_AVAILABLE
        return next((guard.refusal for asks, guard in NEEDS if asks(own) and not guard.holds(self)), None)

    def advance(self, verb: Verb, outcome: Outcome, *, binary: bool = False) -> None:
        """Moves to where `outcome` of `verb` leads. What the table does not name changes nothing.

        `binary` says that this is a MAIL with BODY=BINARYMIME.
        """
        if outcome is Outcome.CLOSE:
            self.phase, self.binary = Phase.CLOSING, False
            return
        row = TRANSITIONS[self.phase].get(verb)
        if row is None:
            return
        self.phase = row.get(outcome, self.phase)
        self.binary = self.binary and self.has_transaction
        if outcome is not OK:
            return
        if verb is Verb.MAIL:
            self.binary = binary
        elif verb in HELLOS:
            self.esmtp = verb is not Verb.HELO
            self.announce()
        elif verb is Verb.AUTH or verb is Verb.RESPONSE:
            self.authenticated = True
        elif verb is Verb.TLS:
            # RFC 3207 section 4.2: what was learnt in clear text is gone, what was announced with it.
            self.secure, self.authenticated, self.esmtp = True, False, False
            self.announce()
        elif verb is Verb.XCLIENT:
            # All but TLS begins anew: whatever was known was known of somebody else.
            self.authenticated, self.esmtp = False, False
            self.announce()

    def close(self) -> None:
        """The transport is gone, or its end was agreed."""
        self.phase, self.binary = Phase.CLOSED, False


_WRONG_HELLO: Final = Reply(500, "Not a hello of this protocol", enhanced="5.5.1")  # RFC 2033 section 4.1
_NOT_AVAILABLE: Final = Reply(502, "Not available", enhanced="5.5.1")
_NO_RECIPIENTS: Final = Reply(554, "No valid recipients", enhanced="5.5.1")
_ESMTP: Final = Guard("ESMTP", lambda s: s.esmtp, HELLO_FIRST)
_SMTP: Final = Guard("SMTP", lambda s: not s.lmtp, _WRONG_HELLO)
_TLS_FIRST: Final = Reply(530, "Send STARTTLS first", enhanced="5.7.0")  # RFC 3207 section 4
_AUTH_FIRST: Final = Reply(530, "Authentication required", enhanced="5.7.0")  # RFC 4954 section 6
_TLS_IF_NEEDED: Final = Guard("TLS where it is needed", lambda s: s.secure or not s.needs_tls, _TLS_FIRST)
_AUTH_IF_NEEDED: Final = Guard("AUTH where it is needed", lambda s: s.authenticated or not s.needs_auth, _AUTH_FIRST)
# RFC 2033 section 4.2 asks for 503 where RFC 5321 section 4.1.1.4 has 554.
_RECIPIENTS: Final = (
    Guard("a recipient was accepted, for LMTP", lambda s: s.phase is not Phase.MAIL or not s.lmtp, OUT_OF_SEQUENCE),
    Guard("a recipient was accepted", lambda s: s.phase is not Phase.MAIL, _NO_RECIPIENTS),
)

GUARDS: Final[dict[Verb, tuple[Guard, ...]]] = {
    Verb.EHLO: (_SMTP,),
    Verb.HELO: (_SMTP,),
    Verb.LHLO: (Guard("LMTP", lambda s: s.lmtp, _WRONG_HELLO),),
    Verb.STARTTLS: (  # RFC 3207 section 4.2 keeps it out of TLS
        Guard("not secure", lambda s: not s.secure, Reply(503, "TLS is active already", enhanced="5.5.1")),
        _ESMTP,
        Guard("TLS is offered", lambda s: s.offers_tls, Reply(502, "TLS is not available", enhanced="5.5.1")),
    ),
    Verb.AUTH: (  # RFC 4954 section 4: once, and after an EHLO that announced it
        _ESMTP,
        _TLS_IF_NEEDED,
        Guard("not authenticated", lambda s: not s.authenticated, Reply(503, "Known already", enhanced="5.5.1")),
        Guard("AUTH is offered", lambda s: s.offers_auth, Reply(502, "AUTH is not available", enhanced="5.5.1")),
    ),
    Verb.MAIL: (_TLS_IF_NEEDED, _AUTH_IF_NEEDED),
    Verb.VRFY: (_TLS_IF_NEEDED, _AUTH_IF_NEEDED),
    Verb.EXPN: (_TLS_IF_NEEDED, _AUTH_IF_NEEDED),
    # Whoever is not trusted with them is not told that they exist. XCLIENT_README: neither waits for TLS or for AUTH.
    Verb.XCLIENT: (Guard("XCLIENT is offered", lambda s: s.offers_xclient, _NOT_AVAILABLE),),
    Verb.XFORWARD: (Guard("XFORWARD is offered", lambda s: s.offers_xforward, _NOT_AVAILABLE),),
    Verb.DATA: (
        Guard(  # RFC 3030 section 3
            "no BODY=BINARYMIME",
            lambda s: not s.binary,
            Reply(503, "BODY=BINARYMIME goes with BDAT only", enhanced="5.5.1"),
        ),
        *_RECIPIENTS,
    ),
    Verb.BDAT: (
        Guard("CHUNKING is offered", lambda s: s.offers_chunking, _NOT_AVAILABLE),
        *_RECIPIENTS,
    ),
    Verb.OWN: (_ESMTP, _TLS_IF_NEEDED, _AUTH_IF_NEEDED),
}

# What a verb of one's own may need besides.
NEEDS: Final[tuple[tuple[Callable[[OwnVerb], bool], Guard], ...]] = (
    (lambda own: not own.in_transaction, Guard("no transaction", lambda s: not s.has_transaction, NESTED_MAIL)),
    (lambda own: own.needs_tls, Guard("TLS", lambda s: s.secure, _TLS_FIRST)),
    (lambda own: own.needs_auth, Guard("AUTH", lambda s: s.authenticated, _AUTH_FIRST)),
)

# Where 503 has more to say than "bad sequence".
REFUSALS: Final[dict[tuple[Phase, Verb], Reply]] = {
    (Phase.GREETED, Verb.MAIL): HELLO_FIRST,
    (Phase.GREETED, Verb.RCPT): HELLO_FIRST,
    (Phase.GREETED, Verb.DATA): HELLO_FIRST,
    (Phase.GREETED, Verb.STARTTLS): HELLO_FIRST,
    (Phase.GREETED, Verb.AUTH): HELLO_FIRST,
    (Phase.GREETED, Verb.XFORWARD): HELLO_FIRST,
    (Phase.GREETED, Verb.OWN): HELLO_FIRST,
    (Phase.READY, Verb.RCPT): Reply(503, "Send MAIL first", enhanced="5.5.1"),
    (Phase.READY, Verb.DATA): Reply(503, "Send MAIL first", enhanced="5.5.1"),
    (Phase.READY, Verb.BDAT): Reply(503, "Send MAIL first", enhanced="5.5.1"),
    (Phase.DEAD, Verb.BDAT): Reply(503, "A chunk was refused: send RSET first", enhanced="5.5.1"),
    (Phase.MAIL, Verb.MAIL): NESTED_MAIL,
    (Phase.RCPT, Verb.MAIL): NESTED_MAIL,
    (Phase.REFUSED, Verb.EHLO): Reply(503, "No service here, only QUIT", enhanced="5.5.1"),
}
