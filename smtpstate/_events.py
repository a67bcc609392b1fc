"""What `next_event()` returns besides commands: events, the Flow, and the names of all that can go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, final

from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Command,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    OwnCommand,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Verb,
    Vrfy,
    XClient,
    XForward,
)
from smtpstate._errors import Fault

if TYPE_CHECKING:
    from smtpstate._capabilities import Capabilities
    from smtpstate._keys import ChannelBinding
    from smtpstate._policy import Deviation
    from smtpstate._replies import Reply


class Flow(Enum):
    """What the driver has to do when there is no event."""

    NEED_DATA = "drain `data_to_send()`, then read until the deadline"
    NEED_FLUSH = "drain `data_to_send()`, do not read"
    WAIT = "drain, then wait until the deadline: a reply is late on purpose"
    NEED_TLS = "drain, then run a TLS handshake until the deadline; `tls.secure` does it for you"
    NEED_COMMAND = "nothing is outstanding: drain, then send something; reading is allowed"


class CloseReason(Enum):
    """Why a connection ended."""

    QUIT = "QUIT was answered"
    EOF = "the peer closed its side"
    LOST = "the transport failed"
    VIOLATION = "the peer broke the protocol"
    TIMEOUT = "a time budget was spent"
    TLS_FAILED = "the TLS handshake failed"
    GOING_AWAY = "the peer ended it: 421, 521, or a refusal in mid-body"
    CLOSED = "we closed it"


class Timer(IntEnum):
    """The time budgets. `Limits` says how long each is."""

    GREETING = 0
    COMMAND = 1
    DATA = 2
    BODY = 3
    END = 4
    HANDSHAKE = 5
    HANDLER = 6
    SESSION = 7
    LINGER = 8
    DELAY = 9


class Violation(Enum):
    """Every way in which a peer breaks the rules, with the section that says so."""

    UNKNOWN_COMMAND = "RFC 5321 section 4.2.4"
    NOT_IMPLEMENTED = "RFC 5321 section 4.2.4, a known verb that is not offered"
    OUT_OF_SEQUENCE = "RFC 5321 section 4.1.4"
    SYNTAX = "RFC 5321 section 4.1.2, octets that no command may hold"
    ARGUMENT = "RFC 5321 section 4.1.1"
    ADDRESS = "RFC 5321 section 4.1.2"
    PARAMETER_SYNTAX = "RFC 5321 section 4.1.2, esmtp-param"
    PARAMETER_VALUE = "RFC 5321 section 4.1.1.11"
    PARAMETER_UNKNOWN = "RFC 5321 section 4.1.1.11, not offered"
    NON_ASCII = "RFC 6531 section 3.5, UTF-8 in a transaction that did not ask for SMTPUTF8, offered or not"
    LINE_TOO_LONG = "RFC 5321 section 4.5.3.1.4"
    TOO_MANY_RECIPIENTS = "RFC 5321 section 4.5.3.1.10"
    TOO_MANY_DOMAINS = "RFC 9422 section 4, RCPTDOMAINMAX"
    TOO_MANY_TRANSACTIONS = "RFC 9422 section 4, MAILMAX"
    SIZE_TOO_LARGE = "RFC 1870 section 6.1"
    MESSAGE_TOO_LARGE = "RFC 1870 section 6.3"
    FORBIDDEN_COMMAND = "RFC 9325 section 3.8, ALPACA: what no mail client says, as a request of HTTP"
    EARLY_TALK = "RFC 5321 section 4.3.1, octets before the greeting has left"
    EARLY_COMMAND = "RFC 2920 section 3.1, octets before the reply to a hello has left"
    EARLY_GROUP = "RFC 2920 section 3.1, octets behind another command that ends its group, before its reply has left"
    EARLY_PLAINTEXT = "RFC 3207 section 4, octets between STARTTLS and the handshake"
    BARE_NEWLINE = "RFC 5321 section 2.3.8, a CR that no LF follows; or an LF without a CR, where that is refused"
    BASE64 = "RFC 4954 section 4"
    UNKNOWN_MECHANISM = "RFC 4954 section 4, a mechanism that was not offered"
    CHUNK_SIZE = "RFC 3030 section 2, a size that leaves the end of the chunk unknown"
    TOO_MANY_AUTH_FAILURES = "RFC 4954 section 4, failed attempts"
    TOO_MANY_ERRORS = "RFC 5321 section 7.8, errors"
    TOO_MANY_COMMANDS = "RFC 5321 section 7.8, commands and no message"
    TOO_MUCH_JUNK = "RFC 5321 section 7.8, commands that bring no mail nearer"
    UNSOLICITED_REPLY = "RFC 5321 section 4.2, a reply that nobody asked for"
    UNEXPECTED_REPLY = "RFC 5321 section 4.3.2, a first digit that this command does not know"
    REPLY_SYNTAX = "RFC 5321 section 4.2"
    REPLY_MIXED_CODES = "RFC 5321 section 4.2.1"
    REPLY_TOO_LONG = "RFC 5321 section 4.5.3.1.5"


FAULT_VIOLATIONS: Final[dict[Fault, Violation]] = {
    Fault.SYNTAX: Violation.SYNTAX,
    Fault.VERB_UNKNOWN: Violation.UNKNOWN_COMMAND,
    Fault.VERB_NOT_IMPLEMENTED: Violation.NOT_IMPLEMENTED,
    Fault.ARGUMENT: Violation.ARGUMENT,
    Fault.ADDRESS: Violation.ADDRESS,
    Fault.PARAMETER_SYNTAX: Violation.PARAMETER_SYNTAX,
    Fault.PARAMETER_VALUE: Violation.PARAMETER_VALUE,
    Fault.PARAMETER_UNKNOWN: Violation.PARAMETER_UNKNOWN,
    Fault.NON_ASCII: Violation.NON_ASCII,
    Fault.BASE64: Violation.BASE64,
    Fault.CHUNK_SIZE: Violation.CHUNK_SIZE,
    Fault.REPLY_SYNTAX: Violation.REPLY_SYNTAX,
    Fault.REPLY_MIXED_CODES: Violation.REPLY_MIXED_CODES,
    Fault.REPLY_TOO_LONG: Violation.REPLY_TOO_LONG,
}


class ResetCause(Enum):
    """Why a transaction ended without a 2yz."""

    RSET = "RSET"
    HELLO = "another EHLO or HELO"
    REFUSED = "we refused the message"
    TOO_LARGE = "the message passed the size limit"
    BARE_NEWLINE = "the message had a bare CR or LF, and such are refused"
    CLOSED = "the connection ended"


@final
@dataclass(frozen=True, slots=True)
class Peer:
    """Where a connection comes from."""

    address: str
    port: int = 0

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@final
@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What the handshake agreed on. `peer_certificate` is DER; `verified` says that its chain and name were checked.

    `bindings` can tie AUTH to this session, the best first (RFC 5056). `identities` is for a server: the names in the
    client's certificate, if that was verified; EXTERNAL goes by them (RFC 4422 appendix A). `sni` is the name that the
    client asked for, `alpn` the protocol that both named, and `offered_alpn` all that the client did (RFC 7301), with
    what is not printable escaped; a server knows that of any client, a client of itself only what was agreed.
    """

    version: str
    cipher: str
    sni: str | None = None
    alpn: str | None = None
    peer_certificate: bytes | None = field(default=None, repr=False)
    verified: bool = False
    bindings: tuple[ChannelBinding, ...] = field(default=(), repr=False)
    identities: tuple[str, ...] = ()
    offered_alpn: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Connected:
    """Somebody is there; the greeting is owed. RFC 5321 section 3.1.

    After XCLIENT it comes again, with the peer that was named. To refuse that one ends the session.
    """

    verb: ClassVar[Verb] = Verb.CONNECT
    peer: Peer | None = None


@final
@dataclass(frozen=True, slots=True)
class Body:
    """A piece of a message's content, unstuffed, cut anywhere; never joined by us."""

    data: bytes = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class TransactionReset:
    """The open transaction is gone and nothing of it was accepted."""

    cause: ResetCause


@final
@dataclass(frozen=True, slots=True)
class CommandRefused:
    """A line that the core answered by itself because it breaks a rule. `line` lacks its ending, and what is secret.

    `deviation` is there where the line was understood and the policy does not take such lines.
    """

    line: bytes
    violation: Violation
    reply: Reply
    deviation: Deviation | None = None


@final
@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The last event of every connection; asking again gives it again.

    `violation` goes with VIOLATION, `timer` with TIMEOUT; `reply` is the 421 or 521 that a peer closed with.
    `deviation` is there where a reply was understood and the policy does not take such replies. `evidence` is what the
    peer sent, 100 octets at most and nothing secret, where that is what the session was ended for; escape it in a log.
    """

    reason: CloseReason
    violation: Violation | None = None
    timer: Timer | None = None
    reply: Reply | None = None
    deviation: Deviation | None = None
    evidence: bytes = field(default=b"", compare=False)


@final
@dataclass(frozen=True, slots=True)
class ReplyReceived:
    """A whole reply, bound to what asked for it: `Connected()` for the greeting, `EndOfMessage()` for the dot."""

    to: Command | Connected | EndOfMessage
    reply: Reply


@final
@dataclass(frozen=True, slots=True)
class CapabilitiesChanged:
    """What the peer offers now: after a hello; and after TLS (RFC 3207 section 4.2) and XCLIENT, which empty it."""

    capabilities: Capabilities


@final
@dataclass(frozen=True, slots=True)
class NoRecipients:
    """354 came although no recipient was accepted; the core sends the lone dot and drops its answer (RFC 2920)."""


@final
@dataclass(frozen=True, slots=True)
class TraceLine:
    """A line of the conversation as it is decided: `side` is "C" or "S". Bodies are counted, not shown."""

    side: str
    line: bytes


ServerEvent: TypeAlias = (
    Connected
    | Ehlo
    | Helo
    | Lhlo
    | StartTls
    | Auth
    | AuthResponse
    | AuthCancel
    | Mail
    | Rcpt
    | Data
    | Bdat
    | Body
    | EndOfMessage
    | Rset
    | Noop
    | Vrfy
    | Expn
    | Help
    | XClient
    | XForward
    | OwnCommand
    | Quit
    | TransactionReset
    | CommandRefused
    | ConnectionClosed
)
ClientEvent: TypeAlias = ReplyReceived | CapabilitiesChanged | NoRecipients | ConnectionClosed
# What a verdict can be owed for.
Owed: TypeAlias = (
    Connected | Ehlo | Helo | Lhlo | Auth | AuthResponse | Mail | Rcpt | Data | Vrfy | Expn | OwnCommand | EndOfMessage
)
