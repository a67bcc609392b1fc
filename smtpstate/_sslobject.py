"""What ssl can tell of a handshake that it has done, and of a server's name."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from smtpstate._sasl import certificate_names

if TYPE_CHECKING:
    from collections.abc import Sequence


def identities(tls: ssl.SSLObject) -> tuple[str, ...]:
    """The names in a client's verified certificate."""
    try:
        return certificate_names(tls.getpeercert() or {})
    except ValueError:  # a name that is not UTF-8
        return ()


class _Certificate(Protocol):
    def public_bytes(self) -> str: ...


class _Chained(Protocol):
    def get_verified_chain(self) -> Sequence[_Certificate] | None: ...


def verified_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """The chain that was verified, from the peer's certificate up, in DER; () where there is none.

    Since Python 3.13 there is a method for that; what it calls is in 3.11 and 3.12, too, under this name alone.
    """
    inner: _Chained = vars(tls)["_sslobj"]
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in inner.get_verified_chain() or ())


def sent_name(server_hostname: str | None) -> str | None:
    """The name that a client asks for: none where it only has an address (RFC 6066 section 3)."""
    if server_hostname is None:
        return None
    try:
        ip_address(server_hostname)
    except ValueError:
        return server_hostname
    return None
