"""The command vocabulary: one dataclass for each verb.

A command is the same object on both sides of the wire: the one that sends it makes it, the other gets it as an
event. `raw` is what the receiver saw, without the line ending, and `deviations` says how that departs from the grammar,
as far as the policy flags it; neither takes part in comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, final

from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._errors import GrammarError, LocalProtocolError
from smtpstate._params import BodyType, Parameters
from smtpstate._verbs import OwnVerb as OwnVerb
from smtpstate._verbs import Verb as Verb
from smtpstate._xclient import XClient as XClient
from smtpstate._xclient import XForward as XForward

if TYPE_CHECKING:
    from smtpstate._policy import Deviation


class Wait(Enum):
    """What a sender waits for: RFC 5321 section 4.5.3.2 has a time for each."""

    GREETING = "greeting"
    COMMAND = "command"
    DATA = "data"
    END = "end"


_raw: Final = b""
_none: Final[frozenset[Deviation]] = frozenset()


@final
@dataclass(frozen=True, slots=True)
class Ehlo:
    """EHLO. RFC 5321 section 4.1.1.1."""

    verb: ClassVar[Verb] = Verb.EHLO
    domain: str
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Helo:
    """HELO. RFC 5321 section 4.1.1.1."""

    verb: ClassVar[Verb] = Verb.HELO
    domain: str
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Lhlo:
    """LHLO, LMTP's EHLO. RFC 2033 section 4.1."""

    verb: ClassVar[Verb] = Verb.LHLO
    domain: str
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH: begins an exchange. RFC 4954 section 4.

    `mechanism` is in upper case. `initial_response` is decoded; None where none was given, b"" where it was empty.
    """

    verb: ClassVar[Verb] = Verb.AUTH
    mechanism: str
    initial_response: bytes | None = field(default=None, repr=False)
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The answer to a challenge, decoded. RFC 4954 section 4."""

    verb: ClassVar[Verb] = Verb.RESPONSE
    data: bytes = field(repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class AuthCancel:
    """A lone "*": the exchange is called off. RFC 4954 section 4."""

    verb: ClassVar[Verb] = Verb.RESPONSE
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: `size` octets of the message follow; with `last` they are its end. RFC 3030 section 2."""

    verb: ClassVar[Verb] = Verb.BDAT
    size: int
    last: bool = False
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS. RFC 3207 section 4."""

    verb: ClassVar[Verb] = Verb.STARTTLS
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


def _mailbox(address: str) -> Mailbox:
    try:
        return Mailbox.parse(address, utf8=True)
    except GrammarError:
        raise LocalProtocolError(f"not a mailbox: {address!r}") from None


@final
@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM: opens a transaction. RFC 5321 section 4.1.1.2."""

    verb: ClassVar[Verb] = Verb.MAIL
    reverse_path: ReversePath
    parameters: Parameters = ()
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)

    @staticmethod
    def of(address: str, *, size: int | None = None, body: BodyType | None = None, parameters: Parameters = ()) -> Mail:
        """MAIL for `address`, "" being the null reverse-path; `parameters` are those beside SIZE and BODY.

        Raises LocalProtocolError when the address is not one that RFC 5321 section 4.1.2 or RFC 6531 section 3.3 knows.
        """
        first: list[tuple[str, str | None]] = []
        if size is not None:
            first.append(("SIZE", str(size)))
        if body is not None:
            first.append(("BODY", body.value))
        return Mail(ReversePath(_mailbox(address) if address else None), (*first, *parameters))

    @property
    def size(self) -> int | None:
        """Octets announced with SIZE, an estimate. RFC 1870 section 6."""
        value = dict(self.parameters).get("SIZE")
        return None if value is None else int(value)

    @property
    def body(self) -> BodyType | None:
        """What BODY announced. RFC 6152 section 3."""
        value = dict(self.parameters).get("BODY")
        return None if value is None else BodyType(value.upper())

    @property
    def smtputf8(self) -> bool:
        """Whether it asks for SMTPUTF8: the transaction may then hold UTF-8. RFC 6531 section 3.4."""
        return any(keyword == "SMTPUTF8" for keyword, _ in self.parameters)

    @property
    def binary(self) -> bool:
        """Whether the message is to come by BDAT, and as it is. RFC 3030 section 3."""
        return self.body is BodyType.BINARYMIME


@final
@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO: adds a recipient. RFC 5321 section 4.1.1.3."""

    verb: ClassVar[Verb] = Verb.RCPT
    recipient: ForwardPath
    parameters: Parameters = ()
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)

    @staticmethod
    def of(address: str, *, parameters: Parameters = ()) -> Rcpt:
        """RCPT for `address`; "postmaster" needs no domain. Raises LocalProtocolError as `Mail.of` does."""
        if address.lower() == "postmaster":
            return Rcpt(ForwardPath(Mailbox(address, "")), parameters)
        return Rcpt(ForwardPath(_mailbox(address)), parameters)


@final
@dataclass(frozen=True, slots=True)
class Data:
    """DATA. RFC 5321 section 4.1.1.4."""

    verb: ClassVar[Verb] = Verb.DATA
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Rset:
    """RSET. RFC 5321 section 4.1.1.5."""

    verb: ClassVar[Verb] = Verb.RSET
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP; its text means nothing. RFC 5321 section 4.1.1.9."""

    verb: ClassVar[Verb] = Verb.NOOP
    text: str = ""
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT. RFC 5321 section 4.1.1.10."""

    verb: ClassVar[Verb] = Verb.QUIT
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY. RFC 5321 section 4.1.1.6. With `smtputf8` the reply may hold UTF-8: RFC 6531 section 3.7.4.2."""

    verb: ClassVar[Verb] = Verb.VRFY
    text: str
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)
    smtputf8: bool = False


@final
@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN. RFC 5321 section 4.1.1.7. With `smtputf8` the reply may hold UTF-8: RFC 6531 section 3.7.4.2."""

    verb: ClassVar[Verb] = Verb.EXPN
    text: str
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)
    smtputf8: bool = False


@final
@dataclass(frozen=True, slots=True)
class Help:
    """HELP. RFC 5321 section 4.1.1.8."""

    verb: ClassVar[Verb] = Verb.HELP
    text: str = ""
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class OwnCommand:
    """A command that an extension of your own adds: `name` is its verb, in upper case; `argument` what follows it."""

    verb: ClassVar[Verb] = Verb.OWN
    name: str
    argument: str = ""
    raw: bytes = field(default=_raw, compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=_none, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class EndOfMessage:
    """The lone dot after a body: the only proof that a message is complete. RFC 5321 section 4.1.1.4.

    `size` counts the octets of the content, stuffing dots and the lone dot not among them; `anomalies` names what
    was odd about them. Only the receiver knows either.
    """

    verb: ClassVar[Verb] = Verb.END
    size: int = field(default=0, compare=False)
    anomalies: frozenset[Enum] = field(default=frozenset(), compare=False)


Command: TypeAlias = (
    Ehlo
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
    | Rset
    | Noop
    | Quit
    | Vrfy
    | Expn
    | Help
    | XClient
    | XForward
    | OwnCommand
)


def name_of(command: Command) -> str:
    """The verb that its line begins with."""
    return command.name if isinstance(command, OwnCommand) else command.verb.name
