"""ProxyReader: what a load balancer says of the client, before TLS and before SMTP.

"Section" without a document means the PROXY protocol, https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, IntEnum, unique
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, final

from smtpstate._events import CloseReason, ConnectionClosed, Flow, Peer
from smtpstate._networks import unmapped

if TYPE_CHECKING:
    from smtpstate._budget import Clock

ProxyVersion: TypeAlias = Literal[1, 2]

MAX_OCTETS: Final = 4096  # a whole header of version 2; addresses and all registered TLVs need less than half of it
MAX_SECONDS: Final = 5.0  # senders write the header at once; Postfix: smtpd_upstream_proxy_timeout

_V1_OCTETS: Final = 107  # a whole line of version 1, CRLF included; section 2.1
_V1_PREFIX: Final = b"PROXY "
_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED: Final = 16  # octets up to the address block
_TLV_FIXED: Final = 3  # octets before a TLV's value
_MAX_UNIQUE_ID: Final = 128  # section 2.2.5
_VERSION_2: Final = 0x20
_LOCAL: Final = 0x0
_PROXY: Final = 0x1
_TCP_IPV4: Final = 0x11
_TCP_IPV6: Final = 0x21

# Family and transport -> octets of addresses; section 2.2. No other byte is a valid combination. Those of datagrams and
# of UNIX sockets are no SMTP client's: as the section allows, they give no address.
_ADDRESSES: Final[dict[int, int]] = {
    0x00: 0,
    _TCP_IPV4: 12,
    0x12: 12,
    _TCP_IPV6: 36,
    0x22: 36,
    0x31: 216,
    0x32: 216,
}

# Section 2.1, in full: single spaces, upper case, ports without leading zeros, addresses of the protocol named. What
# stands after UNKNOWN means nothing; it has to be printable, so that CRLF and nothing like it ends the line.
_V1: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?"
    rb"|(?:TCP4 ([0-9.]+) ([0-9.]+)|TCP6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+))"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))\r\n"
)


@final
@unique
class ProxyFault(Enum):
    """Every way in which a header is none, with the section that says so."""

    SIGNATURE = "sections 2.1 and 2.2, does not begin like a header of the version asked for"
    TOO_LONG = "section 2.1, no CRLF within 107 octets; section 2.2, longer than the budget"
    LINE = "section 2.1, not a line of version 1"
    COMMAND = "section 2.2, not version 2, or neither LOCAL nor PROXY"
    FAMILY = "section 2.2, not a combination of family and transport"
    ADDRESSES = "section 2.2, too short for its addresses"
    TLV = "section 2.2, a TLV that runs past the end, has an illegal length, or is a second checksum"
    CHECKSUM = "section 2.2.3, CRC32C"


@final
class TlvType(IntEnum):
    """The registered types. Section 2.2."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    NETNS = 0x30


@final
class Tlv(NamedTuple):
    """A piece of additional information. `type` may be any octet; see `TlvType`."""

    type: int
    value: bytes


@final
@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What the header says.

    `source` is the client, `destination` what it connected to; both None where the header gives no address: LOCAL
    (`local`, the sender speaks for itself, as in a health check), UNKNOWN, and whatever is not TCP over IP. The
    sender's own address is no substitute for one.
    """

    version: ProxyVersion
    local: bool = False
    source: Peer | None = None
    destination: Peer | None = None
    tlvs: tuple[Tlv, ...] = ()

    def tlv(self, type_: int) -> bytes | None:
        """The value of the first TLV of this type."""
        return next((tlv.value for tlv in self.tlvs if tlv.type == type_), None)


ProxyEvent: TypeAlias = ProxyHeader | ConnectionClosed


@final
class ProxyReader:
    """Reads one header, which has to be there and to be of `version`. It never raises for what a peer sends.

    A machine like the connections, but it says nothing. `next_event()` gives the ProxyHeader, or ConnectionClosed when
    there is none; it is the last event, and asking again gives it again. After a header, `trailing_data` is what
    follows it: feed that to the connection, or to the layer of TLS around it, before anything else.

    `octets` bounds a whole header, those of version 1 at 107 besides. `seconds` is for the whole header; octets do not
    extend it. It runs from the first `next_event()`.
    """

    __slots__ = (
        "_buffer",
        "_clock",
        "_deadline",
        "_octets",
        "_result",
        "_seconds",
        "_trailing",
        "_version",
        "fault",
    )

    def __init__(
        self, version: ProxyVersion, *, clock: Clock, octets: int = MAX_OCTETS, seconds: float = MAX_SECONDS
    ) -> None:
        self.fault: ProxyFault | None = None
        self._version: Final = version
        self._clock: Final = clock
        self._octets: Final = min(octets, _V1_OCTETS) if version == 1 else octets
        self._seconds: Final = seconds
        self._buffer: bytearray = bytearray()
        self._deadline: float | None = None
        self._result: ProxyEvent | None = None
        self._trailing: bytes = b""

    # What it knows.

    @property
    def closed(self) -> ConnectionClosed | None:
        """Why there will be no header; with VIOLATION, `fault` says which rule was broken."""
        return self._result if isinstance(self._result, ConnectionClosed) else None

    @property
    def header(self) -> ProxyHeader | None:
        """The header, once it is there."""
        return self._result if isinstance(self._result, ProxyHeader) else None

    @property
    def trailing_data(self) -> bytes:
        """What came after the header; b"" until there is one."""
        return self._trailing

    @property
    def reads_first(self) -> bool:
        """Never: a server's connection has a use for it."""
        return False

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timeout()`, on the clock that was given; None: never."""
        return self._deadline

    @property
    def half_close(self) -> bool:
        """Never: whoever sends no header is told nothing."""
        return False

    # Inputs.

    def receive_data(self, data: bytes) -> None:
        """Octets from the peer, in order; b"" does nothing."""
        if not data:
            return
        if self._result is None:
            self.handle_timeout()
        if self._result is None:
            self._buffer += data
            self._read()
        elif self.header is not None:
            self._trailing += data

    def receive_eof(self) -> None:
        """The peer will send no more."""
        self._close(CloseReason.EOF)

    def connection_lost(self) -> None:
        """The transport is gone."""
        self._close(CloseReason.LOST)

    def handle_timeout(self) -> None:
        """The deadline has passed. Early or spurious calls do nothing."""
        if self._deadline is not None and self._clock() >= self._deadline:
            self._close(CloseReason.TIMEOUT)

    # Events.

    def next_event(self) -> ProxyEvent | Flow:
        """The header, why there is none, or that more octets are needed."""
        if self._result is not None:
            return self._result
        if self._deadline is None:
            self._deadline = self._clock() + self._seconds
        return Flow.NEED_DATA

    def data_to_send(self) -> bytes:
        """Nothing: the protocol goes one way."""
        return b""

    # The reading.

    def _read(self) -> None:
        end = self._find_line() if self._version == 1 else self._find_block()
        if isinstance(end, ProxyFault):
            self._refuse(end)
        elif end:
            wire = bytes(self._buffer[:end])
            parsed = _parse_line(wire) if self._version == 1 else _parse_block(wire)
            if isinstance(parsed, ProxyFault):
                self._refuse(parsed)
            else:
                self._trailing = bytes(self._buffer[end:])
                self._finish(parsed)

    def _find_line(self) -> int | ProxyFault:
        """How many octets the line of version 1 has; 0: not all are there."""
        buffer = self._buffer
        if not _begins(buffer, _V1_PREFIX):
            return ProxyFault.SIGNATURE
        end = buffer.find(b"\n", 0, self._octets) + 1
        return ProxyFault.TOO_LONG if not end and len(buffer) >= self._octets else end

    def _find_block(self) -> int | ProxyFault:
        """How many octets the header of version 2 has; 0: not all are there. Nothing is parsed until they are."""
        buffer = self._buffer
        if not _begins(buffer, _V2_SIGNATURE):
            return ProxyFault.SIGNATURE
        if len(buffer) < _V2_FIXED:
            return 0
        end = _V2_FIXED + int.from_bytes(buffer[14:16], "big")
        if end > self._octets:
            return ProxyFault.TOO_LONG
        return end if len(buffer) >= end else 0

    def _refuse(self, fault: ProxyFault) -> None:
        self.fault = fault
        self._close(CloseReason.VIOLATION)

    def _close(self, reason: CloseReason) -> None:
        if self._result is None:
            self._finish(ConnectionClosed(reason))

    def _finish(self, result: ProxyEvent) -> None:
        self._result = result
        self._deadline = None
        self._buffer = bytearray()


def _begins(buffer: bytearray, signature: bytes) -> bool:
    """Whether `buffer` may be the beginning of something that begins with `signature`."""
    return signature.startswith(buffer[: len(signature)])


def _parse_line(line: bytes) -> ProxyHeader | ProxyFault:
    """Version 1. Section 2.1."""
    match = _V1.fullmatch(line)
    if match is None:
        return ProxyFault.LINE
    source4, destination4, source6, destination6, *ports = match.groups()
    try:
        if source4 is not None:
            source, destination = _peer4(source4, ports[0]), _peer4(destination4, ports[1])
        elif source6 is not None:
            source, destination = _peer6(source6, ports[0]), _peer6(destination6, ports[1])
        else:
            return ProxyHeader(1)
    except ValueError:
        return ProxyFault.LINE
    return ProxyHeader(1, source=source, destination=destination)


def _peer4(address: bytes, port: bytes) -> Peer:
    """Raises ValueError."""
    return _peer(IPv4Address(address.decode("ascii")), _port(port))


def _peer6(address: bytes, port: bytes) -> Peer:
    """Raises ValueError."""
    return _peer(IPv6Address(address.decode("ascii")), _port(port))


def _port(text: bytes) -> bytes:
    """As version 2 has it. Raises ValueError."""
    port = int(text)
    if port > 65_535:
        raise ValueError
    return port.to_bytes(2, "big")


def _peer(address: IPv4Address | IPv6Address, port: bytes) -> Peer:
    return Peer(str(unmapped(address)), int.from_bytes(port, "big"))


def _parse_block(header: bytes) -> ProxyHeader | ProxyFault:
    """Version 2, a whole header. Section 2.2."""
    command, family = header[12] - _VERSION_2, header[13]
    if command == _LOCAL:
        return ProxyHeader(2, local=True)  # the rest is to be discarded, family and all
    if command != _PROXY:
        return ProxyFault.COMMAND
    addresses = _ADDRESSES.get(family)
    if addresses is None:
        return ProxyFault.FAMILY
    end = _V2_FIXED + addresses
    if end > len(header):
        return ProxyFault.ADDRESSES
    tlvs = _parse_tlvs(header, end)
    if isinstance(tlvs, ProxyFault):
        return tlvs
    block = header[_V2_FIXED:end]
    if family == _TCP_IPV4:
        source, destination = _peer(IPv4Address(block[:4]), block[8:10]), _peer(IPv4Address(block[4:8]), block[10:])
    elif family == _TCP_IPV6:
        source, destination = _peer(IPv6Address(block[:16]), block[32:34]), _peer(IPv6Address(block[16:32]), block[34:])
    else:
        return ProxyHeader(2, tlvs=tlvs)
    return ProxyHeader(2, source=source, destination=destination, tlvs=tlvs)


def _parse_tlvs(header: bytes, at: int) -> tuple[Tlv, ...] | ProxyFault:
    """The TLVs from `at` to the end, known or not. A checksum among them is verified."""
    found: list[Tlv] = []
    checksum_at = 0
    while at < len(header):
        start = at + _TLV_FIXED
        end = start + int.from_bytes(header[at + 1 : start], "big")
        if end > len(header):
            return ProxyFault.TLV
        kind, size = header[at], end - start
        if kind == TlvType.UNIQUE_ID and size > _MAX_UNIQUE_ID:
            return ProxyFault.TLV
        if kind == TlvType.CRC32C:
            if size != 4 or checksum_at:
                return ProxyFault.TLV
            checksum_at = start
        found.append(Tlv(kind, header[start:end]))
        at = end
    if checksum_at:
        after = checksum_at + 4
        computed = crc32c(b"".join((header[:checksum_at], bytes(4), header[after:])))
        if computed != int.from_bytes(header[checksum_at:after], "big"):
            return ProxyFault.CHECKSUM
    return tuple(found)


def _crc32c_row(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC32C: Final = tuple(_crc32c_row(value) for value in range(256))


def crc32c(data: bytes) -> int:
    """The checksum of RFC 4960 appendix B. A loop over octets: the standard library has other polynomials only."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = (crc >> 8) ^ _CRC32C[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF
