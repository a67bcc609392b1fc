"""What a destination demands of TLS, once somebody has looked it up: DANE (RFC 7672) and MTA-STS (RFC 8461).

Nothing here asks a resolver or fetches a file: a policy is made of what was found, is given to `secure`, and says of a
server whether it meets it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256, sha512
from typing import TYPE_CHECKING, Final, Protocol, final

from smtpstate._clienthello import is_named

if TYPE_CHECKING:
    from collections.abc import Iterable


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """What a server has shown in its handshake, all in DER.

    `hostname` is whom we asked for. `chain` is the one that was verified, from `certificate` to what is trusted; empty
    where none was. `verified` says that chain and name were checked.
    """

    hostname: str
    certificate: bytes
    chain: tuple[bytes, ...] = ()
    verified: bool = False


class TlsPolicy(Protocol):
    """A demand that a destination makes. `secure` asks it after the handshake, before anything is said inside TLS.

    `enforced`: a session that does not meet it ends; else `SecureConnection.unmet` tells, and it goes on. `verifies`: a
    context has to verify the chain and the name. `authorities`: certificates to trust beside the system's, in DER; both
    are for `client_context`. `unmet_by_host` says why a host of this name is none of the destination's, as far as that
    can be said; `unmet_by`, what is wrong with a server, in words for a log that quote nothing of it.
    """

    @property
    def enforced(self) -> bool: ...
    @property
    def verifies(self) -> bool: ...
    @property
    def authorities(self) -> tuple[bytes, ...]: ...
    def unmet_by_host(self, hostname: str, /) -> str | None: ...
    def unmet_by(self, shown: Shown, /) -> str | None: ...


@final
class MtaStsMode(StrEnum):
    """RFC 8461 section 3.2."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@final
@dataclass(frozen=True, slots=True)
class MtaSts:
    """The policy that a domain publishes over HTTPS: these hosts take its mail, and show a certificate that is good.

    `mx` holds host names, where "*" for a first label is any. In mode "testing" only the host's name is looked at, and
    nothing is enforced. Raises ValueError for another mode, and for no host where there must be one.
    RFC 8461 section 3.2.
    """

    mx: tuple[str, ...]
    mode: MtaStsMode | str = MtaStsMode.ENFORCE

    def __post_init__(self) -> None:
        if MtaStsMode(self.mode) is not MtaStsMode.NONE and not self.mx:
            raise ValueError("this policy names no host")

    @property
    def enforced(self) -> bool:
        return self.mode == MtaStsMode.ENFORCE

    @property
    def verifies(self) -> bool:
        return self.enforced

    @property
    def authorities(self) -> tuple[bytes, ...]:
        return ()

    def unmet_by_host(self, hostname: str) -> str | None:
        """RFC 8461 section 4.1."""
        if self.mode == MtaStsMode.NONE or is_named(hostname, self.mx):
            return None
        return "MTA-STS: the policy does not name this host"

    def unmet_by(self, shown: Shown) -> str | None:
        """RFC 8461 section 4.2."""
        if self.enforced and not shown.verified:
            return "MTA-STS: the certificate was not verified"
        return self.unmet_by_host(shown.hostname)


_AUTHORITY: Final = 2  # DANE-TA; RFC 7672 section 3.1.2
_END_ENTITY: Final = 3  # DANE-EE; RFC 7672 section 3.1.1
_WHOLE: Final = 0  # a certificate, and all of what is compared: RFC 6698 sections 2.1.2 and 2.1.3
_DIGESTS: Final = {1: sha256, 2: sha512}

# Base 10 and base 16, which may have blanks in it; RFC 6698 section 2.2.
_TLSA: Final = re.compile(r"\s*(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+([0-9A-Fa-f\s]+)", re.ASCII)


@final
@dataclass(frozen=True, slots=True)
class Tlsa:
    """A TLSA record: usage, selector and matching type, and the data itself. RFC 6698 section 2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @staticmethod
    def parse(text: str) -> Tlsa:
        """A record as DNS tools show it, "3 1 1 0B9F...". Raises ValueError."""
        match = _TLSA.fullmatch(text)
        if match is None:
            raise ValueError("not a TLSA record")
        return Tlsa(int(match[1]), int(match[2]), int(match[3]), bytes.fromhex(match[4]))

    @property
    def usable(self) -> bool:
        """Whether SMTP goes by it: usage 0 and 1 it does not know (RFC 7672 section 3.1.3)."""
        known = self.usage in (_AUTHORITY, _END_ENTITY) and self.selector in (0, 1)
        if self.matching == _WHOLE:
            return known and bool(self.data)
        digest = _DIGESTS.get(self.matching)
        return known and digest is not None and len(self.data) == digest().digest_size

    def matches(self, certificate: bytes) -> bool:
        """Whether it is of this certificate, which is DER. RFC 6698 section 2.1."""
        selected = certificate if self.selector == _WHOLE else public_key_of(certificate)
        digest = _DIGESTS.get(self.matching)
        if not selected or not self.usable:
            return False
        return self.data == (selected if digest is None else digest(selected).digest())


@final
class Dane:
    """The TLSA records of a host, from answers that DNSSEC has secured. One that matches is enough. RFC 7672.

    Of usage 3 the server's certificate has to match, and nothing else of it counts: neither its name nor its dates.
    Of usage 2 ssl has to verify chain and name, with the system's authorities and those that stand whole in a record,
    and one certificate above the server's has to match; so an authority that nobody knows but by its digest does not
    do. Where there are records of both, those of usage 3 decide: one handshake cannot be both verified and not. Raises
    ValueError where no record is usable: then there is no such policy (RFC 7672 section 2.2).
    """

    __slots__ = ("authorities", "records")

    def __init__(self, records: Iterable[Tlsa]) -> None:
        usable = tuple(record for record in records if record.usable)
        ends = tuple(record for record in usable if record.usage == _END_ENTITY)
        if not usable:
            raise ValueError("no TLSA record is usable for SMTP")
        self.records: Final = ends or usable
        whole = (record.data for record in self.records if record.selector == record.matching == _WHOLE)
        self.authorities: Final = () if ends else tuple(whole)

    @property
    def enforced(self) -> bool:
        return True

    @property
    def verifies(self) -> bool:
        return self.records[0].usage == _AUTHORITY

    def unmet_by_host(self, hostname: str) -> str | None:
        """The records are of the host that was looked up: nothing can be said before it shows a certificate."""
        return None

    def unmet_by(self, shown: Shown) -> str | None:
        """RFC 7672 section 3."""
        if self.verifies and not shown.verified:
            return "DANE: the certificate was not verified"
        candidates = shown.chain[1:] if self.verifies else (shown.certificate,)
        if any(record.matches(one) for record in self.records for one in candidates):
            return None
        return "DANE: no TLSA record matches what the server shows"


_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0


def public_key_of(certificate: bytes) -> bytes | None:
    """The SubjectPublicKeyInfo of an X.509 certificate, both in DER; None where there is none. RFC 5280 section 4.1.

    It is the sixth field of tbsCertificate, the seventh where a version comes first: all that is before it is passed
    by, and nothing is read that is not needed.
    """
    outer = _element(certificate, 0)
    if outer is None or outer[0] != _SEQUENCE or outer[2] != len(certificate):
        return None
    body = _element(certificate, outer[1])
    if body is None or body[0] != _SEQUENCE or body[2] > outer[2]:
        return None
    at, end = body[1], body[2]
    fields: list[tuple[int, int, int]] = []  # the type, the first octet, and the end
    while len(fields) < 7 and at < end:
        field = _element(certificate, at)
        if field is None or field[2] > end:
            return None
        fields.append((field[0], at, field[2]))
        at = field[2]
    index = 6 if fields and fields[0][0] == _VERSION else 5
    if len(fields) <= index or fields[index][0] != _SEQUENCE:
        return None
    _, start, stop = fields[index]
    return certificate[start:stop]


def _element(der: bytes, at: int) -> tuple[int, int, int] | None:
    """The type of what begins at `at`, where its content begins, and its end; None where it is not DER or not whole.

    X.690 sections 8.1.2, 8.1.3 and 10.1: types of one octet, and lengths in their shortest form.
    """
    if at + 2 > len(der) or der[at] & 0x1F == 0x1F:
        return None
    kind, size, start = der[at], der[at + 1], at + 2
    if size >= 0x80:
        width = size - 0x80
        size = int.from_bytes(der[start : start + width])
        start += width
        if not 0 < width <= 4 or size < 0x80 or size >> 8 * (width - 1) == 0:
            return None
    end = start + size
    return (kind, start, end) if end <= len(der) else None
