"""A self-signed certificate of our own, and a look at the one that somebody else made.

The certificate lets anybody try TLS without asking for one first; a client that is to verify it has to be given the
file. It is kept, so that it need be given once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from platformdirs import user_state_path

from smtpstate_server._exits import Exit, Failure
from smtpstate_server._files import create, replace

if TYPE_CHECKING:
    from pathlib import Path

_VALID: Final = timedelta(days=365)
_RENEW: Final = timedelta(days=7)  # made anew when no more than this is left, so that no server starts with an old one


@final
@dataclass(frozen=True, slots=True)
class KeyPair:
    """Two PEM files that belong together."""

    certificate: Path
    key: Path

    @property
    def shown(self) -> bytes:
        """The certificate itself, without its chain, in DER. Raises Failure."""
        return self._own.public_bytes(Encoding.DER)

    @property
    def names(self) -> frozenset[str]:
        """The host names that it is for; "*." may stand for a label. RFC 6125 section 6.4. Raises Failure."""
        try:
            alternatives = self._own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            return frozenset()
        return frozenset(alternatives.get_values_for_type(x509.DNSName))

    @property
    def _own(self) -> x509.Certificate:
        return x509.load_pem_x509_certificates(_read(self.certificate, "certificate"))[0]


def state_directory() -> Path:
    """Where this user's programs keep what they want to find again."""
    return user_state_path("smtpstate", appauthor=False)


def own_certificate(directory: Path, hostname: str, now: datetime | None = None) -> KeyPair:
    """The self-signed certificate in `directory`: the one that is there while it is valid for `hostname`, or a new one.

    EC P-256, for localhost, 127.0.0.1, ::1 and `hostname`; the key has mode 0600 and stays when the certificate is made
    anew. Two servers that start at once end up with one key and certificates that fit it. Raises Failure.
    """
    now = now or datetime.now(UTC)
    pair = KeyPair(directory / "cert.pem", directory / "key.pem")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _kept_key(pair.key)
        if not _is_good(pair.certificate, key, hostname, now):
            certificate = _make(key, hostname, now)
            replace(pair.certificate, certificate.public_bytes(Encoding.PEM), 0o644)
    except OSError as error:
        hint = "give --tls-cert and --tls-key, or --no-tls"
        text = f"cannot keep a certificate in {directory}: {error.strerror or error} ({hint})"
        raise Failure(text, Exit.CANTCREAT) from None
    return pair


def checked_pair(certificate: Path, key: Path) -> KeyPair:
    """The pair that the user names, if both can be read and belong together. Raises Failure."""
    try:
        chain = x509.load_pem_x509_certificates(_read(certificate, "certificate"))
    except ValueError:
        raise Failure(f"{certificate} holds no PEM certificate", Exit.CONFIG) from None
    try:
        private = load_pem_private_key(_read(key, "key"), password=None)
    except TypeError:  # asking for a passphrase would hang a server that nobody watches
        raise Failure(f"the key {key} is encrypted; give one without a passphrase", Exit.CONFIG) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Failure(f"{key} holds no PEM private key", Exit.CONFIG) from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        raise Failure(f"the key {key} does not belong to the certificate {certificate}", Exit.CONFIG)
    return KeyPair(certificate, key)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read the {what} {path}: {error.strerror or error}", Exit.NOINPUT) from None


def _kept_key(path: Path) -> ec.EllipticCurvePrivateKey:
    kept = _load_key(path)
    if kept is not None:
        return kept
    unreadable = path.exists()
    key = ec.generate_private_key(ec.SECP256R1())
    octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if not unreadable and not create(path, octets, 0o600):
        return _load_key(path) or key  # somebody was faster: that key it is
    if unreadable:
        replace(path, octets, 0o600)
    return key


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """The key in `path`; None when there is no file or no such key in it. Raises OSError when it cannot be read."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        return None
    if os.name == "posix" and path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return key


def _is_good(path: Path, key: ec.EllipticCurvePrivateKey, hostname: str, now: datetime) -> bool:
    """Whether the certificate in `path` may be used a while longer."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (FileNotFoundError, ValueError, x509.ExtensionNotFound):
        return False
    return (
        certificate.public_key() == key.public_key()
        and certificate.not_valid_before_utc <= now
        and now + _RENEW < certificate.not_valid_after_utc
        and names >= set(_names(hostname))
    )


def _make(key: ec.EllipticCurvePrivateKey, hostname: str, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "smtpstate")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(_names(hostname)), critical=False)
        # No CA: whoever trusts this file trusts this server, and nobody that its key might sign for.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _names(hostname: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
    ]
    own: x509.GeneralName
    try:
        own = x509.IPAddress(ip_address(hostname.removeprefix("[").removesuffix("]").removeprefix("IPv6:")))
    except ValueError:
        own = x509.DNSName(hostname)
    return names if own in names else [*names, own]
