"""What the parameters of MAIL and RCPT that are carried from hop to hop mean, as values; and LIMITS.

Each value has `parse`, which raises GrammarError PARAMETER_VALUE, and `format`. Constructors check nothing: a command
whose parameters are not legal is refused when it is sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, Flag, unique
from typing import TYPE_CHECKING, Final, final

from smtpstate._abnf import (
    BY_VALUE,
    DATE_TIME,
    EMBEDDED_UNICODE_CHAR,
    HOLDFOR_VALUE,
    LIMIT,
    NOTIFY_VALUE,
    ORIGINAL_RECIPIENT,
    PRIORITY_VALUE,
    QUCHAR,
    RET_VALUE,
    UTF_8_ADDR_UNITEXT,
)
from smtpstate._address import Mailbox
from smtpstate._errors import Fault, GrammarError
from smtpstate._params import decode_xtext, encode_xtext

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ENVID: Final = 100  # octets, decoded; RFC 3461 section 4.4
MAX_ORCPT: Final = 500  # octets, as sent; RFC 3461 section 4.2

_RET: Final = re.compile(RET_VALUE)
_NOTIFY: Final = re.compile(NOTIFY_VALUE)
_ORIGINAL_RECIPIENT: Final = re.compile(ORIGINAL_RECIPIENT)
_UTF_8_RECIPIENT: Final = re.compile(rf"(?ai:utf-8);({UTF_8_ADDR_UNITEXT})")
_EMBEDDED: Final = re.compile(EMBEDDED_UNICODE_CHAR)
_NOT_QUCHAR: Final = re.compile(rf"(?!{QUCHAR}).", re.DOTALL)
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_BY: Final = re.compile(BY_VALUE)
_PRIORITY: Final = re.compile(PRIORITY_VALUE)
_HOLDFOR: Final = re.compile(HOLDFOR_VALUE)
_DATE_TIME: Final = re.compile(DATE_TIME)
_LIMIT: Final = re.compile(LIMIT)
_LIMIT_VALUE: Final = re.compile(r"(?!0+\Z)[0-9]{1,6}")
_MOST: Final = 999_999
_PRINTABLE: Final = re.compile(r"[ -~]*")


def _refused() -> GrammarError:
    return GrammarError(Fault.PARAMETER_VALUE)


def _printable(xtext: str) -> str:
    """What `xtext` stands for; it goes into the lines of reports, so nothing in it may end one. Raises GrammarError."""
    text = decode_xtext(xtext).decode("latin-1")
    if _PRINTABLE.fullmatch(text) is None:
        raise _refused()
    return text


@final
@unique
class Ret(Enum):
    """RET: what a report about a failure gives back of the message. RFC 3461 section 4.3."""

    FULL = "FULL"
    HDRS = "HDRS"

    @staticmethod
    def parse(text: str) -> Ret:
        """Any case. Raises GrammarError."""
        if _RET.fullmatch(text) is None:
            raise _refused()
        return Ret(text.upper())

    def format(self) -> str:
        """The value as it is sent."""
        return self.value


@final
class Notify(Flag):
    """NOTIFY: which outcomes are reported. NEVER is none of the others, and so is false. RFC 3461 section 4.1."""

    NEVER = 0
    SUCCESS = 1
    FAILURE = 2
    DELAY = 4

    @staticmethod
    def parse(text: str) -> Notify:
        """Any case; each word once, NEVER alone. Raises GrammarError."""
        if _NOTIFY.fullmatch(text) is None:
            raise _refused()
        found = Notify.NEVER
        for word in text.upper().split(","):
            if word != "NEVER" and Notify[word] in found:
                raise _refused()
            found |= Notify[word]
        return found

    def format(self) -> str:
        """The value as it is sent."""
        words = [str(one.name) for one in (Notify.SUCCESS, Notify.FAILURE, Notify.DELAY) if one in self]
        return ",".join(words) or "NEVER"


@final
@dataclass(frozen=True, slots=True)
class Envid:
    """ENVID: the sender's name for the envelope, 1 to 100 printable ASCII characters. RFC 3461 section 4.4."""

    text: str

    @staticmethod
    def parse(text: str) -> Envid:
        """`text` as xtext. Raises GrammarError."""
        decoded = _printable(text)
        if not 0 < len(decoded) <= MAX_ENVID:
            raise _refused()
        return Envid(decoded)

    def format(self) -> str:
        """The value as it is sent."""
        return encode_xtext(self.text.encode())


@final
@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """ORCPT: whom the sender wrote to. RFC 3461 section 4.2; RFC 6533 section 3 for the type utf-8.

    `address` is printable ASCII, or with the type utf-8 a mailbox as in RFC 6531. The value has 500 octets at most.
    """

    address_type: str
    address: str

    @staticmethod
    def of(mailbox: Mailbox) -> OriginalRecipient:
        """`mailbox` under the type that it needs."""
        address = str(mailbox)
        return OriginalRecipient("rfc822" if address.isascii() else "utf-8", address)

    @staticmethod
    def parse(text: str) -> OriginalRecipient:
        """Any type but utf-8 has xtext; utf-8 has characters, those that cannot stand as \\x{HEX}. Raises GrammarError.

        Characters that are not ASCII may come where SMTPUTF8 was asked for, which the caller has seen to.
        """
        address_type, _, coded = text.partition(";")
        if address_type.lower() == "utf-8":
            match = _UTF_8_RECIPIENT.fullmatch(text)
            if match is None:
                raise _refused()
            address = _EMBEDDED.sub(lambda found: chr(int(found[0][3:-1], 16)), coded)
            try:
                Mailbox.parse(address, utf8=True)
            except GrammarError:
                raise _refused() from None
        else:
            if _ORIGINAL_RECIPIENT.fullmatch(text) is None:
                raise _refused()
            address = _printable(coded)
        if len(text.encode()) > MAX_ORCPT:
            raise _refused()
        return OriginalRecipient(address_type, address)

    def format(self, *, utf8: bool = False) -> str:
        """The value as it is sent; `utf8` lets what is not ASCII stand, which only SMTPUTF8 allows."""
        if self.address_type.lower() != "utf-8":
            return f"{self.address_type};{encode_xtext(self.address.encode())}"
        coded = _NOT_QUCHAR.sub(_embedded, self.address)
        if not utf8:
            coded = _NOT_ASCII.sub(_embedded, coded)
        return f"{self.address_type};{coded}"


def _embedded(match: re.Match[str]) -> str:
    return f"\\x{{{ord(match[0]):02X}}}"


@final
@dataclass(frozen=True, slots=True)
class Submitter:
    """AUTH=: who submitted the message, None when that is not known. RFC 4954 section 5.

    It is a claim. From a client that you do not trust take it for None.
    """

    mailbox: Mailbox | None

    @staticmethod
    def parse(text: str) -> Submitter:
        """`<>` or xtext; what is no mailbox counts as not known. Raises GrammarError for what is neither."""
        if text == "<>":
            return Submitter(None)
        decoded = decode_xtext(text)
        try:
            return Submitter(Mailbox.parse(decoded.decode("utf-8"), utf8=True))
        except (GrammarError, UnicodeDecodeError):
            return Submitter(None)

    def format(self) -> str:
        """The value as it is sent."""
        return "<>" if self.mailbox is None else encode_xtext(str(self.mailbox).encode())


@final
@dataclass(frozen=True, slots=True)
class DeliverBy:
    """BY: deliver in `seconds`, or else return the message (`returns`) or report a delay. RFC 2852 section 4.

    `seconds` has nine digits at most; what it may be with `returns` is positive. Subtract the time spent before a relay
    sends it on. `trace` asks each relay for a report.
    """

    seconds: int
    returns: bool = False
    trace: bool = False

    @staticmethod
    def parse(text: str) -> DeliverBy:
        """Raises GrammarError."""
        match = _BY.fullmatch(text)
        if match is None:
            raise _refused()
        value = DeliverBy(int(match[1]), match[2] in "Rr", bool(match[3]))
        if value.returns and value.seconds <= 0:
            raise _refused()
        return value

    def format(self) -> str:
        """The value as it is sent."""
        return f"{self.seconds};{'R' if self.returns else 'N'}{'T' if self.trace else ''}"


@final
@dataclass(frozen=True, slots=True)
class Priority:
    """MT-PRIORITY: -9 to 9, larger is sooner. RFC 6710 section 4."""

    value: int

    @staticmethod
    def parse(text: str) -> Priority:
        """No plus sign, no leading zero, no -0. Raises GrammarError."""
        if _PRIORITY.fullmatch(text) is None:
            raise _refused()
        return Priority(int(text))

    def format(self) -> str:
        """The value as it is sent."""
        return str(self.value)


_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _days(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if leap and month == 2 else _DAYS[month - 1]


@final
@dataclass(frozen=True, slots=True)
class DateTime:
    """A time as RFC 3339 section 5.6 writes it. `text` is all that it is; the rest are its parts.

    `offset` is minutes east of UTC. `second` may be 60. `fraction` is the digits after the point.
    """

    text: str
    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    fraction: str
    offset: int

    @staticmethod
    def parse(text: str) -> DateTime:
        """Raises GrammarError, for a day that its month does not have, too."""
        match = _DATE_TIME.fullmatch(text)
        if match is None:
            raise _refused()
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        if day > _days(year, month):
            raise _refused()
        offset = int(match[9]) * 60 + int(match[10]) if match[8] else 0
        return DateTime(
            text, year, month, day, hour, minute, second, match[7] or "", -offset if match[8] == "-" else offset
        )

    @property
    def is_utc(self) -> bool:
        """Whether it ends in Z."""
        return self.text[-1] in "Zz"

    def format(self) -> str:
        """`text`."""
        return self.text


@final
@dataclass(frozen=True, slots=True)
class HoldFor:
    """HOLDFOR: release the message after so many seconds, nine digits at most. RFC 4865 section 4."""

    seconds: int

    @staticmethod
    def parse(text: str) -> HoldFor:
        """Raises GrammarError."""
        if _HOLDFOR.fullmatch(text) is None:
            raise _refused()
        return HoldFor(int(text))

    def format(self) -> str:
        """The value as it is sent."""
        return str(self.seconds)


@final
@dataclass(frozen=True, slots=True)
class HoldUntil:
    """HOLDUNTIL: release the message at a time in UTC. RFC 4865 section 4."""

    time: DateTime

    @staticmethod
    def parse(text: str) -> HoldUntil:
        """Raises GrammarError, for a time that does not end in Z, too."""
        time = DateTime.parse(text)
        if not time.is_utc:
            raise _refused()
        return HoldUntil(time)

    def format(self) -> str:
        """The value as it is sent."""
        return self.time.format()


@final
@dataclass(frozen=True, slots=True)
class Rrvs:
    """RRVS: deliver only if the mailbox has been the same person's since then. RFC 7293 section 5.

    With `continues` a relay whose next hop lacks RRVS sends on and trusts the header field; without, it refuses.
    """

    since: DateTime
    continues: bool = False

    @staticmethod
    def parse(text: str) -> Rrvs:
        """Raises GrammarError."""
        since, semicolon, action = text.partition(";")
        if semicolon and action not in {"C", "c", "R", "r"}:
            raise _refused()
        return Rrvs(DateTime.parse(since), action in {"C", "c"})

    def format(self) -> str:
        """The value as it is sent; refusing is what it means without a word."""
        return self.since.format() + (";C" if self.continues else "")


@final
@dataclass(frozen=True, slots=True)
class ServerLimits:
    """LIMITS: how much a server takes; None where it does not say. 1 to 999,999 each. RFC 9422 section 4.

    `transactions` in a session (MAILMAX), `recipients` in a transaction (RCPTMAX), and different domains among the
    recipients of a session (RCPTDOMAINMAX).
    """

    transactions: int | None = None
    recipients: int | None = None
    recipient_domains: int | None = None

    @staticmethod
    def parse(announced: Iterable[str]) -> ServerLimits:
        """The limits in the EHLO parameters of LIMITS. Never raises.

        One that is no name and value spoils the lot, a value that is no such number only its own limit (RFC 9422
        section 3). Of one that comes again the smallest value counts, which is safe either way.
        """
        found: dict[str, int] = {}
        for limit in announced:
            match = _LIMIT.fullmatch(limit)
            if match is None:
                return ServerLimits()
            name = match[1].upper()
            if _LIMIT_VALUE.fullmatch(match[2]):
                found[name] = min(int(match[2]), found.get(name, int(match[2])))
        return ServerLimits(found.get("MAILMAX"), found.get("RCPTMAX"), found.get("RCPTDOMAINMAX"))

    def format(self) -> tuple[str, ...]:
        """The EHLO parameters of LIMITS; one above what they can say is announced as less."""
        limits = {
            "MAILMAX": self.transactions,
            "RCPTMAX": self.recipients,
            "RCPTDOMAINMAX": self.recipient_domains,
        }
        return tuple(f"{name}={min(value, _MOST)}" for name, value in limits.items() if value is not None)
