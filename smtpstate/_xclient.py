"""What XCLIENT and XFORWARD say: attributes of somebody else's session, from a peer that is trusted with them.

Postfix defined both, in its XCLIENT_README and XFORWARD_README. An XCLIENT replaces what we know of the client and so
decides about access; an XFORWARD is for the log and decides nothing. Attributes that were not sent are None, those
that the sender does not have are an `Absence`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, unique
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, TypeVar, final

from smtpstate._abnf import DOMAIN
from smtpstate._errors import Fault, GrammarError
from smtpstate._params import decode_xtext, encode_xtext
from smtpstate._verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smtpstate._policy import Deviation

MAX_VALUE: Final = 255  # octets of a value, decoded; XFORWARD_README
MAX_PROTOCOL: Final = 64  # of PROTO in XFORWARD

# xclient-command  = "XCLIENT" 1*( SP attribute-name "=" attribute-value )
# attribute-value  = xtext
#
# XFORWARD is the same with other names. Runs of SP count as one, as in the parameters of MAIL.
_ATTRIBUTE: Final = re.compile(r" +([0-9A-Za-z_]+)=([!-<>-~]+)")
_ATTRIBUTES: Final = re.compile(rf"(?:{_ATTRIBUTE.pattern})+ *")
_DOMAIN: Final = re.compile(DOMAIN)
_PORT: Final = re.compile(r"[0-9]{1,5}")
_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


# As EHLO announces them, in Postfix's order.
XCLIENT_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "REVERSE_NAME", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")


@final
@unique
class Absence(Enum):
    """Why there is no value. TEMPUNAVAIL stands for names alone: a look-up failed that may not fail next time."""

    UNAVAILABLE = "[UNAVAILABLE]"
    TEMPUNAVAIL = "[TEMPUNAVAIL]"


@final
@unique
class XForwardSource(Enum):
    """Where a message came from: from this system, or from elsewhere."""

    LOCAL = "LOCAL"
    REMOTE = "REMOTE"


Text: TypeAlias = str | Absence
Port: TypeAlias = int | Absence
_Attributes: TypeAlias = "tuple[tuple[str, Text | Port | XForwardSource | None], ...]"


@final
@dataclass(frozen=True, slots=True)
class XClient:
    """XCLIENT: the attributes of one command. Addresses are canonical, without "IPV6:". Postfix's XCLIENT_README."""

    verb: ClassVar[Verb] = Verb.XCLIENT
    name: Text | None = None
    reverse_name: Text | None = None
    port: Port | None = None
    protocol: Text | None = None  # "SMTP" or "ESMTP"
    helo: Text | None = None
    login: Text | None = None
    destination_address: Text | None = None
    destination_port: Port | None = None
    address: Text | None = None
    raw: bytes = field(default=b"", compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=frozenset(), compare=False, repr=False)

    @staticmethod
    def parse(text: str, raw: bytes = b"", deviations: frozenset[Deviation] = frozenset()) -> XClient:
        """What follows the verb, its first SP included; `raw` is the whole line. Raises GrammarError.

        PARAMETER_SYNTAX for what is not NAME=VALUE, for nothing at all, and for a name that comes twice;
        PARAMETER_UNKNOWN for a name that is not one of these; PARAMETER_VALUE for a value that its name does not allow.
        """
        found = _split(text, XCLIENT_NAMES)
        return XClient(
            name=_take(found, "NAME", _host_name),
            reverse_name=_take(found, "REVERSE_NAME", _host_name),
            port=_take(found, "PORT", _port),
            protocol=_take(found, "PROTO", _smtp_or_esmtp),
            helo=_take(found, "HELO", _any_text),
            login=_take(found, "LOGIN", _any_text),
            destination_address=_take(found, "DESTADDR", _address),
            destination_port=_take(found, "DESTPORT", _port),
            address=_take(found, "ADDR", _address),
            raw=raw,
            deviations=deviations,
        )

    def over(self, earlier: XClient | None) -> XClient:
        """What is known after `earlier` and then this, which says nothing of what it did not send.

        LOGIN is the exception: without a word about it nobody is logged in, as in Postfix.
        """
        if earlier is None:
            return self
        return XClient(
            name=_latest(self.name, earlier.name),
            reverse_name=_latest(self.reverse_name, earlier.reverse_name),
            port=_latest(self.port, earlier.port),
            protocol=_latest(self.protocol, earlier.protocol),
            helo=_latest(self.helo, earlier.helo),
            login=self.login,
            destination_address=_latest(self.destination_address, earlier.destination_address),
            destination_port=_latest(self.destination_port, earlier.destination_port),
            address=_latest(self.address, earlier.address),
        )

    def format(self) -> str:
        """What `parse` reads. ADDR comes last: in another command it would come from an address without privilege."""
        return _format(self._attributes)

    @property
    def names(self) -> frozenset[str]:
        """The attributes that it has."""
        return frozenset(name for name, value in self._attributes if value is not None)

    @property
    def _attributes(self) -> _Attributes:
        return (
            ("NAME", self.name),
            ("REVERSE_NAME", self.reverse_name),
            ("PORT", self.port),
            ("PROTO", self.protocol),
            ("HELO", self.helo),
            ("LOGIN", self.login),
            ("DESTADDR", _with_tag(self.destination_address)),
            ("DESTPORT", self.destination_port),
            ("ADDR", _with_tag(self.address)),
        )


@final
@dataclass(frozen=True, slots=True)
class XForward:
    """XFORWARD: the attributes of one command. Addresses are canonical, without "IPV6:". Postfix's XFORWARD_README."""

    verb: ClassVar[Verb] = Verb.XFORWARD
    name: Text | None = None
    address: Text | None = None
    port: Port | None = None
    protocol: Text | None = None
    helo: Text | None = None
    ident: Text | None = None
    source: XForwardSource | Absence | None = None
    raw: bytes = field(default=b"", compare=False, repr=False)
    deviations: frozenset[Deviation] = field(default=frozenset(), compare=False, repr=False)

    @staticmethod
    def parse(text: str, raw: bytes = b"", deviations: frozenset[Deviation] = frozenset()) -> XForward:
        """What follows the verb, its first SP included; `raw` is the whole line. Raises as `XClient.parse` does."""
        found = _split(text, XFORWARD_NAMES)
        return XForward(
            name=_take(found, "NAME", _any_text),  # README: it may be a name that is not of the DNS
            address=_take(found, "ADDR", _address),
            port=_take(found, "PORT", _port),
            protocol=_take(found, "PROTO", _protocol),
            helo=_take(found, "HELO", _any_text),
            ident=_take(found, "IDENT", _any_text),
            source=_take(found, "SOURCE", _source),
            raw=raw,
            deviations=deviations,
        )

    def over(self, earlier: XForward | None) -> XForward:
        """What is known after `earlier` and then this, which says nothing of what it did not send."""
        if earlier is None:
            return self
        return XForward(
            name=_latest(self.name, earlier.name),
            address=_latest(self.address, earlier.address),
            port=_latest(self.port, earlier.port),
            protocol=_latest(self.protocol, earlier.protocol),
            helo=_latest(self.helo, earlier.helo),
            ident=_latest(self.ident, earlier.ident),
            source=_latest(self.source, earlier.source),
        )

    def format(self) -> str:
        """What `parse` reads."""
        return _format(self._attributes)

    @property
    def names(self) -> frozenset[str]:
        """The attributes that it has."""
        return frozenset(name for name, value in self._attributes if value is not None)

    @property
    def _attributes(self) -> _Attributes:
        return (
            ("NAME", self.name),
            ("ADDR", _with_tag(self.address)),
            ("PORT", self.port),
            ("PROTO", self.protocol),
            ("HELO", self.helo),
            ("IDENT", self.ident),
            ("SOURCE", self.source),
        )


_NAMES_OF_HOSTS: Final = frozenset({"NAME", "REVERSE_NAME"})

_T = TypeVar("_T")
_Said = TypeVar("_Said", "Text | None", "Port | None", "XForwardSource | Absence | None")


def _split(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """Name in upper case -> decoded value."""
    if _ATTRIBUTES.fullmatch(text) is None:
        raise GrammarError(Fault.PARAMETER_SYNTAX)
    found: dict[str, str] = {}
    for name, value in _ATTRIBUTE.findall(text):
        key = name.upper()
        if key not in names:
            raise GrammarError(Fault.PARAMETER_UNKNOWN)
        if key in found:
            raise GrammarError(Fault.PARAMETER_SYNTAX)
        found[key] = _decode(value)
    return found


def _decode(value: str) -> str:
    """No control comes out: in a log or a header it would be somebody else's line."""
    octets = decode_xtext(value)
    if len(octets) > MAX_VALUE:
        raise GrammarError(Fault.PARAMETER_VALUE)
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise GrammarError(Fault.PARAMETER_VALUE) from None
    if _CONTROL.search(text) is not None:
        raise GrammarError(Fault.PARAMETER_VALUE)
    return text


def _take(raw: Mapping[str, str], name: str, read: Callable[[str], _T]) -> _T | Absence | None:
    """The attribute; None if it was not sent."""
    value = raw.get(name)
    if value is None:
        return None
    if value.upper() == Absence.UNAVAILABLE.value:
        return Absence.UNAVAILABLE
    if value.upper() == Absence.TEMPUNAVAIL.value and name in _NAMES_OF_HOSTS:
        return Absence.TEMPUNAVAIL
    return read(value)


def _latest(said: _Said, earlier: _Said) -> _Said:
    return earlier if said is None else said


def _any_text(value: str) -> str:
    if value.upper() == Absence.TEMPUNAVAIL.value:
        raise GrammarError(Fault.PARAMETER_VALUE)
    return value


def _host_name(value: str) -> str:
    if _DOMAIN.fullmatch(value) is None:
        raise GrammarError(Fault.PARAMETER_VALUE)
    return value


def _port(value: str) -> int:
    if _PORT.fullmatch(value) is None or int(value) > 65_535:
        raise GrammarError(Fault.PARAMETER_VALUE)
    return int(value)


def _smtp_or_esmtp(value: str) -> str:
    if value.upper() not in ("SMTP", "ESMTP"):
        raise GrammarError(Fault.PARAMETER_VALUE)
    return value.upper()


def _protocol(value: str) -> str:
    if len(value) > MAX_PROTOCOL:
        raise GrammarError(Fault.PARAMETER_VALUE)
    return _any_text(value)


def _source(value: str) -> XForwardSource:
    try:
        return XForwardSource(value.upper())
    except ValueError:
        raise GrammarError(Fault.PARAMETER_VALUE) from None


def _address(value: str) -> str:
    """IPv6 stands behind "IPV6:", in any case, and IPv4 behind nothing."""
    try:
        if value[:5].upper() == "IPV6:" and "%" not in value:
            parsed = IPv6Address(value[5:])
            return str(parsed.ipv4_mapped or parsed)  # RFC 4291 section 2.5.5.2: IPv4, dressed as IPv6
        return str(IPv4Address(value))
    except ValueError:
        raise GrammarError(Fault.PARAMETER_VALUE) from None


def _with_tag(address: Text | None) -> Text | None:
    return f"IPV6:{address}" if isinstance(address, str) and ":" in address else address


def _format(attributes: _Attributes) -> str:
    return "".join(f" {name}={_encode(value)}" for name, value in attributes if value is not None)


def _encode(value: Text | Port | XForwardSource) -> str:
    text = value.value if isinstance(value, Absence | XForwardSource) else str(value)
    return encode_xtext(text.encode("utf-8"))
