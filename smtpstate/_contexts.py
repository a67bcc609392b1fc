"""TLS contexts for both seats: what is allowed in a session, whoever asks."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from smtpstate._clienthello import SMTP

if TYPE_CHECKING:
    from pathlib import Path

    from smtpstate._tlspolicy import TlsPolicy

# Of TLS 1.2, what has forward secrecy and authenticates what it encrypts (RFC 9325 sections 4.1 and 4.2), with keys of
# 112 bits at least: RSA from 2048 bits, curves from 224. All suites of TLS 1.3 are of that kind, and stay as they are.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"


def server_context(
    certfile: str | Path,
    keyfile: str | Path,
    password: str | None = None,
    *,
    client_cafile: str | Path | None = None,
) -> ssl.SSLContext:
    """A server's context: TLS 1.2 and up (RFC 8996), no renegotiation, no compression (RFC 9325 section 3), ciphers
    with forward secrecy and keys of 2048 bits of RSA or 224 of a curve at least.

    A session can be resumed wherever this context is used, so make one for each listener: `serve` does, of a callable.
    All files are PEM; `certfile` holds the chain, our own certificate first. With `client_cafile` a client may show a
    certificate that one of these authorities has made, for EXTERNAL; a bad one fails the handshake. Raises OSError for
    a file that cannot be read, and ssl.SSLError, one of its kind, for what is no certificate or key, a key that belongs
    to another certificate or is too short, and an encrypted key without its `password`. Never asks for it on a
    terminal.
    """
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.set_alpn_protocols([SMTP.decode()])
    context.load_cert_chain(certfile, keyfile, password if password is not None else "")
    if client_cafile is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(client_cafile)
    return context


def client_context(
    *,
    cafile: str | Path | None = None,
    verify: bool = True,
    alpn: bool = False,
    policy: TlsPolicy | None = None,
) -> ssl.SSLContext:
    """A client's context: TLS 1.2 and up, no renegotiation, no compression, ciphers and keys as in `server_context`,
    the server's chain and name checked.

    `cafile` is PEM, and adds to the authorities that the system trusts. Without `verify` anybody may be the server,
    and only passive listeners are kept out. With `alpn` it tells that it speaks SMTP (RFC 7301), which no server has to
    know. An enforced `policy` decides what is verified, and what is trusted besides; give it to `secure` as well.
    Raises OSError for a file that cannot be read, and ssl.SSLError, one of its kind, for what is no certificate.
    """
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    authorities: tuple[bytes, ...] = ()
    if policy is not None and policy.enforced:
        verify, authorities = policy.verifies, policy.authorities
    if alpn:
        context.set_alpn_protocols([SMTP.decode()])
    if verify:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cafile is not None:
        context.load_verify_locations(cafile)
    for authority in authorities:
        with suppress(ssl.SSLError):  # it came from elsewhere; what is no certificate is nobody's
            context.load_verify_locations(cadata=authority)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be a root: RFC 7672 section 3.1.2
    return context


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_CIPHERS)
    return context
