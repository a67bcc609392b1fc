"""What a client opens TLS with, read before ssl sees an octet of it: the protocols it offers, the name it asks for.

Python's ssl completes a handshake in which no protocol is shared, and tells of it when it is over. By then a browser
that was led here has sent its request, and reads our answer as if it came from the host that it asked for (RFC 7301
section 3.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate._address import domain_key

if TYPE_CHECKING:
    from collections.abc import Collection

SMTP: Final = b"smtp"

_LIMIT: Final = 16_384  # octets of records that a ClientHello may take; real ones take 200 to 2,000
_FRAGMENT: Final = 16_384  # octets in a record at most; RFC 8446 section 5.1
_HANDSHAKE: Final = 22  # the type of the records that a handshake is in; RFC 8446 section 5.1
_RECORDS: Final = frozenset({20, 21, 23})  # the others
_MAJOR: Final = 3  # of every version since SSL 3.0
_CLIENT_HELLO: Final = 1  # RFC 8446 section 4
_SERVER_NAME: Final = 0  # RFC 6066 section 3
_HOST_NAME: Final = 0
_ALPN: Final = 16  # RFC 7301 section 3.1

# OpenSSL takes any octets but NUL for a name; a log or a header would not.
_HOST: Final = re.compile(rb"[0-9A-Za-z._-]{1,255}")


@final
class HelloFault(Enum):
    """Why a handshake does not begin, and the alert that says so (RFC 8446 section 6).

    Nothing is said to who does not speak TLS, as a browser that was led to the wrong port.
    """

    NOT_TLS = "what came is not TLS", None
    NO_HELLO = "another record came where a ClientHello is due", 10  # unexpected_message
    VERSION = "a version that nobody speaks", 70  # protocol_version
    OVERFLOW = "a record is empty or longer than records are", 22  # record_overflow
    TOO_LONG = "the ClientHello is too long", 47  # illegal_parameter
    MALFORMED = "the ClientHello does not hold what it should", 50  # decode_error
    PROTOCOL = "the client offers other protocols and not SMTP", 120  # no_application_protocol
    NAME = "the client asks for a name that we do not have", 112  # unrecognized_name

    def __init__(self, text: str, alert: int | None) -> None:
        self.text: Final = text
        self.alert: Final = alert

    @property
    def record(self) -> bytes:
        """The fatal alert, in the clear; b"" where there is none."""
        return b"" if self.alert is None else bytes((21, 3, 3, 0, 2, 2, self.alert))


@final
@dataclass(frozen=True, slots=True)
class ClientHello:
    """What is read of it. `protocols` is empty where the client has no ALPN.

    `name` is None where no name is asked for, or one that is not made of letters, digits and the like.
    """

    name: str | None = None
    protocols: tuple[bytes, ...] = ()

    def fault(self, names: Collection[str] | None) -> HelloFault | None:
        """What is against it. `names` are those that may be asked for, as `is_named` reads them; None means any."""
        if self.protocols and SMTP not in self.protocols:
            return HelloFault.PROTOCOL
        if names is not None and (self.name is None or not is_named(self.name, names)):
            return HelloFault.NAME
        return None

    @property
    def offered(self) -> tuple[str, ...]:
        """The protocols as text for a log: what is not printable is escaped."""
        return tuple(repr(protocol)[2:-1] for protocol in self.protocols)


Verdict: TypeAlias = ClientHello | HelloFault


def is_named(name: str, patterns: Collection[str]) -> bool:
    """Whether one of `patterns` is `name`, or has "*" for its first label and the rest of `name` after that.

    Case does not matter, nor how a label that is not ASCII is spelled, nor a dot at the end. RFC 6125 section 6.4.3,
    RFC 8461 section 4.1.
    """
    wanted = domain_key(name).removesuffix(".")
    _, dot, parent = wanted.partition(".")
    wildcard = f"*.{parent}" if dot else wanted
    return any(domain_key(pattern).removesuffix(".") in (wanted, wildcard) for pattern in patterns)


@final
class HelloReader:
    """Takes octets until the first handshake message is whole, or cannot become one.

    The verdict depends on the octets alone, not on how they were cut: it falls at the same one of them. At most
    16,384 octets and one read are held.
    """

    __slots__ = ("_at", "_message", "_wire", "verdict")

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self._wire: Final = bytearray()
        self._message: Final = bytearray()
        self._at: int = 0  # where the next record begins

    @property
    def wire(self) -> bytes:
        """All that came."""
        return bytes(self._wire)

    def receive_data(self, data: bytes) -> None:
        """Octets, in order. What comes after the verdict changes nothing of it."""
        self._wire.extend(data)
        while self.verdict is None and len(self._wire) > self._at:
            if not self._read_record():
                return

    def _read_record(self) -> bool:
        """Reads one record, if it is whole or cannot be; whether it did. RFC 8446 section 5.1."""
        head = self._wire[self._at : self._at + 5]
        if head[0] != _HANDSHAKE:
            # A command, a request, or the hello of SSL 2.0, in which there is no room for ALPN.
            self.verdict = HelloFault.NO_HELLO if self._at or head[0] in _RECORDS else HelloFault.NOT_TLS
            return True
        if len(head) < 5:
            return False
        size = int.from_bytes(head[3:])
        end = self._at + 5 + size
        if head[1] != _MAJOR:
            self.verdict = HelloFault.VERSION
        elif not 0 < size <= _FRAGMENT:
            self.verdict = HelloFault.OVERFLOW
        elif end > _LIMIT:
            self.verdict = HelloFault.TOO_LONG
        elif end > len(self._wire):
            return False
        else:
            self._message.extend(self._wire[self._at + 5 : end])
            self._at = end
            self.verdict = _judge(self._message)
        return True


def _judge(message: bytearray) -> Verdict | None:
    """The verdict on the first octets of the handshake; None while there are too few. RFC 8446 section 4."""
    if message[0] != _CLIENT_HELLO:
        return HelloFault.NO_HELLO
    if len(message) < 4:
        return None
    end = 4 + int.from_bytes(message[1:4])
    if end > _LIMIT:
        return HelloFault.TOO_LONG
    if len(message) < end:
        return None
    try:
        return _parse(_Octets(bytes(message[4:end])))
    except _Malformed:
        return HelloFault.MALFORMED


class _Malformed(Exception):
    """The structure is not sound. It never leaves this module."""


@final
class _Octets:
    """A structure, read from its beginning. Every read raises _Malformed where too little is left."""

    def __init__(self, data: bytes) -> None:
        self._data: Final = data
        self._at: int = 0

    @property
    def are_left(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise _Malformed
        return self._data[start : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width))

    def vector(self, width: int, least: int = 0) -> bytes:
        """What stands behind its own length of `width` octets, no fewer than `least`. RFC 8446 section 3.4."""
        found = self.take(self.number(width))
        if len(found) < least:
            raise _Malformed
        return found

    def whole(self, width: int, least: int) -> _Octets:
        """A vector that is all there is left."""
        found = _Octets(self.vector(width, least))
        if self.are_left:
            raise _Malformed
        return found


def _parse(hello: _Octets) -> ClientHello:
    """The body of a ClientHello: RFC 8446 section 4.1.2, and RFC 5246 section 7.4.1.2, where extensions may be missing.

    Each extension may come once (RFC 8446 section 4.2).
    """
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2, 2)  # cipher_suites
    hello.vector(1, 1)  # legacy_compression_methods
    found: dict[int, _Octets] = {}
    extensions = hello.whole(2, 0) if hello.are_left else hello
    while extensions.are_left:
        kind = extensions.number(2)
        if kind in found:
            raise _Malformed
        found[kind] = _Octets(extensions.vector(2))
    return ClientHello(
        name=_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None,
        protocols=_protocols(found[_ALPN]) if _ALPN in found else (),
    )


def _name(extension: _Octets) -> str | None:
    """ServerNameList, which holds one host_name and nothing else, as nothing else was ever defined."""
    names = extension.whole(2, 1)
    if names.number(1) != _HOST_NAME:
        raise _Malformed
    name = names.vector(2, 1)
    if names.are_left:
        raise _Malformed
    return name.decode("ascii") if _HOST.fullmatch(name) else None


def _protocols(extension: _Octets) -> tuple[bytes, ...]:
    """ProtocolNameList."""
    names, found = extension.whole(2, 2), list[bytes]()
    while names.are_left:
        found.append(names.vector(1, 1))
    return tuple(found)
