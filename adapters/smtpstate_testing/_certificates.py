"""A certificate authority that lives as long as the process, for a Pair with TLS."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import trustme

from smtpstate import tls

if TYPE_CHECKING:
    from ssl import SSLContext


LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@cache
def authority() -> trustme.CA:
    """Where every certificate here comes from; made once, since that takes a while."""
    return trustme.CA()


@cache
def server_context(hostname: str) -> SSLContext:
    """A server's context, hardened as everybody's, with a certificate for `hostname`."""
    names = ("127.0.0.1", "::1", "localhost") if hostname in LOOPBACK else (hostname,)
    with authority().issue_cert(*names).private_key_and_cert_chain_pem.tempfile() as path:
        return tls.server_context(path, path)


@cache
def client_context() -> SSLContext:
    """A client's context, hardened as everybody's, that trusts the authority."""
    with authority().cert_pem.tempfile() as path:
        return tls.client_context(cafile=path)
