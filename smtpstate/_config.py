"""ServerConfig: what a server says of itself, and the words for what it says by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from smtpstate._address import parse_domain_or_literal
from smtpstate._budget import Limits
from smtpstate._capabilities import Capabilities
from smtpstate._carried import ServerLimits
from smtpstate._choice import announced
from smtpstate._commands import Mail, Rcpt, Verb
from smtpstate._errors import GrammarError, LocalProtocolError
from smtpstate._events import Violation
from smtpstate._params import command_line
from smtpstate._policy import MX, Leftover, Policy
from smtpstate._replies import Reply
from smtpstate._state import HELLOS, Session
from smtpstate._syntax import VERDICTS
from smtpstate._wire import WireRules
from smtpstate._xclient import XCLIENT_NAMES, XFORWARD_NAMES
from smtpstate.extensions import BUILT_IN, Extension, check_offers, own_verbs, tables

if TYPE_CHECKING:
    from smtpstate._events import TlsInfo
    from smtpstate._params import ParameterTable
    from smtpstate._verbs import OwnVerb

SHUTTING_DOWN: Final = Reply(421, "Service shutting down", enhanced="4.3.2")
TIMED_OUT: Final = Reply(421, "Timeout exceeded", enhanced="4.4.2")
HANDLER_TIMED_OUT: Final = Reply(421, "Local error in processing", enhanced="4.3.0")
LINE_TOO_LONG: Final = Reply(500, "Line too long", enhanced="5.5.2")
AUTH_LINE_TOO_LONG: Final = Reply(500, "Authentication exchange line too long", enhanced="5.5.6")
TLS_UNAVAILABLE: Final = Reply(454, "TLS is not available now", enhanced="4.7.0")
EARLY_PLAINTEXT: Final = Reply(554, "Nothing may follow STARTTLS before the handshake", enhanced="5.5.0")
EARLY_INPUT: Final = Reply(554, "Not synchronised: wait for the reply", enhanced="5.5.0")
FORBIDDEN_COMMAND: Final = Reply(221, "This is for mail programs only", enhanced="2.7.0")
UNKNOWN_MECHANISM: Final = Reply(504, "Mechanism not offered", enhanced="5.5.4")
TOO_MANY_RECIPIENTS: Final = Reply(452, "Too many recipients", enhanced="4.5.3")
TOO_MANY_DOMAINS: Final = Reply(452, "Too many domains in one session", enhanced="4.5.3")
TOO_MANY_TRANSACTIONS: Final = Reply(452, "Too many transactions in one session", enhanced="4.7.0")
MESSAGE_TOO_LARGE: Final = Reply(552, "Message exceeds the size limit", enhanced="5.3.4")

# What there was too much of, and what is said where that ends the session.
ENDINGS: Final[dict[Violation, Reply]] = {
    Violation.TOO_MANY_COMMANDS: Reply(421, "Too many commands without a message", enhanced="4.7.0"),
    Violation.TOO_MUCH_JUNK: Reply(421, "Too many commands without a message", enhanced="4.7.0"),
    Violation.TOO_MANY_ERRORS: Reply(421, "Too many errors", enhanced="4.7.0"),
    Violation.TOO_MANY_AUTH_FAILURES: Reply(421, "Too many failed attempts", enhanced="4.7.0"),
}

# RFC 2034 section 4: no enhanced code in the greeting or in the answer to a hello.
_PLAIN_REPLIES: Final = frozenset({Verb.CONNECT, *HELLOS})

# sasl-mech (RFC 4422 section 3.1).
_MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}")

# What is offered unless something else is asked for; what the core does when asked; and what may be asked for besides,
# since it needs the application: it has to keep what these parameters promise.
OFFERS: Final = frozenset({"PIPELINING", "8BITMIME", "CHUNKING", "ENHANCEDSTATUSCODES", "SIZE"})
ON_REQUEST: Final = frozenset({"BINARYMIME", "LIMITS"})
CARRIED: Final = frozenset({"DSN", "SMTPUTF8", "REQUIRETLS", "FUTURERELEASE", "DELIVERBY", "MT-PRIORITY", "RRVS"})
NEEDED_BY_LMTP: Final = frozenset({"PIPELINING", "ENHANCEDSTATUSCODES"})  # RFC 2033 section 5
# What only a trusted peer is offered, with the attributes that it may send.
TRUSTED: Final = {"XCLIENT": XCLIENT_NAMES, "XFORWARD": XFORWARD_NAMES}


@final
@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What a server says of itself.

    `hostname` is a domain or an address literal. `offers` are EHLO keywords, of those in OFFERS, ON_REQUEST, CARRIED
    and TRUSTED, these for trusted peers only; `extensions` are your own, and those of `smtpstate.extensions` that say
    more than a keyword. `starttls` says that STARTTLS is offered where TLS is not active yet, `leftover` what becomes
    of octets that come with it. With `asks_vrfy` and `asks_expn` the application answers these. `lmtp` makes it LMTP
    (RFC 2033). `mechanisms` are those of AUTH, in upper case; see `mechanisms_in()` for where each is offered.
    `requires_tls` and `requires_auth` are for submission: 530 until it is so (RFC 6409 section 4.3). `policy` says what
    becomes of lines that break the grammar and are understood, and `wire` what becomes of octets that break the rules
    whatever they say (`smtpstate.policy`). Raises LocalProtocolError for a name that cannot be said and an offer that
    would not be kept.
    """

    hostname: str
    limits: Limits = field(default_factory=Limits)
    starttls: bool = False
    leftover: Leftover = Leftover.CLOSE
    offers: frozenset[str] = OFFERS
    asks_vrfy: bool = False
    asks_expn: bool = False
    lmtp: bool = False
    mechanisms: tuple[str, ...] = ()
    auth_in_clear: bool = False
    requires_tls: bool = False
    requires_auth: bool = False
    extensions: tuple[Extension, ...] = ()
    policy: Policy = MX
    wire: WireRules = field(default_factory=WireRules)
    tables: tuple[ParameterTable, ParameterTable] = field(init=False, repr=False, compare=False)
    verbs: frozenset[str] = field(init=False, repr=False, compare=False)
    _announced: tuple[frozenset[str], frozenset[str]] = field(init=False, repr=False, compare=False)
    _command_lines: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            parse_domain_or_literal(self.hostname)
        except GrammarError:
            raise LocalProtocolError(f"neither a domain nor an address literal: {self.hostname!r}") from None
        if not all(_MECHANISM.fullmatch(mechanism) for mechanism in self.mechanisms):
            raise LocalProtocolError(f"not names of mechanisms: {', '.join(self.mechanisms)}")
        if unknown := self.offers - OFFERS - ON_REQUEST - CARRIED - TRUSTED.keys():
            raise LocalProtocolError(f"not implemented: {', '.join(sorted(unknown))}")
        if self.lmtp and not self.offers >= NEEDED_BY_LMTP:
            raise LocalProtocolError(f"LMTP has to offer {', '.join(sorted(NEEDED_BY_LMTP - self.offers))}")
        if "LIMITS" in self.offers and ServerLimits.parse(self.quota.format()).format() != self.quota.format():
            raise LocalProtocolError(f"LIMITS cannot say this: {' '.join(self.quota.format())}")
        mail, rcpt, given = tables(self.extensions)
        check_offers(self.offers | given.keys(), self.extensions)
        object.__setattr__(self, "tables", (mail, rcpt))
        object.__setattr__(self, "verbs", frozenset(own.name for own in own_verbs(self.extensions, given)))
        keywords = [frozenset(self.capabilities(secure=secure).keywords) for secure in (False, True)]
        object.__setattr__(self, "_announced", tuple(keywords))
        may_auth = [bool(self.mechanisms) and (secure or self.auth_in_clear) for secure in (False, True)]
        with_auth = [self.offered(secure=secure, auth=may_auth[secure]) for secure in (False, True)]
        lines = [command_line(self.limits.command_line, self.tables, offered) for offered in with_auth]
        object.__setattr__(self, "_command_lines", tuple(lines))

    def asks(self, verb: Verb) -> bool:
        """Whether the application owes `verb` a verdict; the rest is answered by the core."""
        match verb:
            case Verb.VRFY:
                return self.asks_vrfy
            case Verb.EXPN:
                return self.asks_expn
            case _:
                return verb in VERDICTS

    def command_line(self, *, secure: bool) -> int:
        """The octets that a command line may have, its ending included."""
        return self._command_lines[secure]

    def session(self) -> Session:
        """A session that begins."""
        return Session(lmtp=self.lmtp, needs_tls=self.requires_tls, needs_auth=self.requires_auth)

    def offers_tls(self, *, secure: bool) -> bool:
        """Whether a hello announces STARTTLS: not where TLS is active already (RFC 3207 section 4.2)."""
        return self.starttls and not secure

    def mechanisms_in(self, tls: TlsInfo | None) -> tuple[str, ...]:
        """Those that AUTH offers in this TLS session: -PLUS needs a channel binding there, EXTERNAL a certificate.

        In clear, where it is None, there are none unless `auth_in_clear` (RFC 4954 section 4).
        """
        if tls is None:
            return announced(self.mechanisms, bindings=(), identities=()) if self.auth_in_clear else ()
        return announced(self.mechanisms, bindings=tls.bindings, identities=tls.identities)

    def offered(self, *, secure: bool, auth: bool = False) -> frozenset[str]:
        """The keywords that a hello announces; AUTH is one of them where it has mechanisms."""
        return self._announced[secure] | {"AUTH"} if auth else self._announced[secure]

    def own_verbs(self, *, secure: bool) -> frozenset[OwnVerb]:
        """Those of `extensions` that a hello announces."""
        return own_verbs(self.extensions, self.offered(secure=secure))

    def capabilities(self, *, secure: bool, mechanisms: tuple[str, ...] = (), trusted: bool = False) -> Capabilities:
        """What a hello announces; `mechanisms` are those that AUTH offers there."""
        asked = [BUILT_IN[name] for name in sorted(self.offers & CARRIED)]
        keywords: dict[str, tuple[str, ...]] = dict.fromkeys(sorted(self.offers - CARRIED - TRUSTED.keys()), ())
        keywords |= {one.keyword: one.announced for one in (*asked, *self.extensions) if secure or not one.tls_only}
        if "SIZE" in keywords:
            keywords["SIZE"] = (str(self.limits.message),)
        if "LIMITS" in keywords:
            keywords["LIMITS"] = self.quota.format()
        if self.offers_tls(secure=secure):
            keywords["STARTTLS"] = ()
        if mechanisms:
            keywords["AUTH"] = mechanisms
        keywords |= {name: TRUSTED[name] for name in sorted(self.offers & TRUSTED.keys()) if trusted}
        return Capabilities(keywords)

    @property
    def quota(self) -> ServerLimits:
        """How much a peer is allowed of what LIMITS can say, announced or not. RFC 9422."""
        limits = self.limits
        return ServerLimits(limits.transactions, limits.recipients, limits.recipient_domains)

    @property
    def _protocol(self) -> str:
        return " LMTP" if self.lmtp else " ESMTP"

    def encode(
        self,
        verb: Verb,
        reply: Reply,
        *,
        secure: bool,
        mechanisms: tuple[str, ...] = (),
        trusted: bool = False,
        utf8: bool = False,
    ) -> bytes:
        """The octets that answer `verb` with `reply`; ASCII, or UTF-8 with `utf8`.

        The greeting and a hello's yes begin with our name; EHLO's goes on with what we offer, see `capabilities()`.
        Raises LocalProtocolError for a reply that cannot be sent.
        """
        if verb not in _PLAIN_REPLIES:
            return reply.encode(enhanced="ENHANCEDSTATUSCODES" in self.offers, utf8=utf8)
        if reply.code // 100 == 2:
            first = self.hostname + (self._protocol if verb is Verb.CONNECT else "")
            told = verb in HELLOS and verb is not Verb.HELO
            offers = self.capabilities(secure=secure, mechanisms=mechanisms, trusted=trusted).format() if told else ()
            reply = Reply(reply.code, " ".join((first, *reply.lines)).rstrip(" "), *offers)
        return reply.encode(enhanced=False)


@final
@dataclass(frozen=True, slots=True)
class Transaction:
    """The open transaction: its MAIL and the recipients accepted so far, in order."""

    mail: Mail
    recipients: tuple[Rcpt, ...] = ()

    def plus(self, recipient: Rcpt) -> Transaction:
        """The same with one recipient more."""
        return Transaction(self.mail, (*self.recipients, recipient))
