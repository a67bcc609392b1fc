"""The certificate that `serve` makes, and what it says of others."""

from __future__ import annotations

import os
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from smtpstate_server._certificate import KeyPair, checked_pair, own_certificate
from smtpstate_server._exits import Exit, Failure

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2025, 11, 25, tzinfo=UTC)


def parsed(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def handshake(pair: KeyPair, name: str, *, strict: bool) -> None:
    """A handshake in memory in which the client trusts this certificate and no other."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pair.certificate, pair.key)
    client = ssl.create_default_context(cafile=str(pair.certificate))
    if strict:  # the default from Python 3.13 on
        client.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version() == "TLSv1.3"
    assert ends[0].getpeercert()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "mx.example.org"])
def test_a_client_that_is_given_it_verifies_it(tmp_path: Path, name: str, strict: bool) -> None:
    handshake(own_certificate(tmp_path, "mx.example.org"), name, strict=strict)


def test_it_trusts_no_other_name_and_nobody_else(tmp_path: Path) -> None:
    pair = own_certificate(tmp_path, "mx.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(pair, "www.example.org", strict=False)
    constraints = parsed(pair).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca


def test_the_key_is_p_256_and_for_its_owner_alone(tmp_path: Path) -> None:
    pair = own_certificate(tmp_path / "state" / "smtpstate", "localhost")
    key = load_pem_private_key(pair.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert pair.key.stat().st_mode & 0o777 == 0o600
    assert pair.certificate.stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(pair.key.parent)) == ["cert.pem", "key.pem"]


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("[192.0.2.1]", x509.IPAddress(ip_address("192.0.2.1"))),
        ("[IPv6:2001:db8::1]", x509.IPAddress(ip_address("2001:db8::1"))),
        ("mx.example.org", x509.DNSName("mx.example.org")),
    ],
)
def test_a_host_that_calls_itself_by_address_is_in_it_by_address(
    tmp_path: Path, hostname: str, name: x509.GeneralName
) -> None:
    names = parsed(own_certificate(tmp_path, hostname)).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert name in list(names.value)


def test_it_is_kept_while_it_is_good(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, "mx.example.org", NOW)
    octets = first.certificate.read_bytes()
    for days in (0, 100, 357):
        own_certificate(tmp_path, "mx.example.org", NOW + timedelta(days=days))
        own_certificate(tmp_path, "localhost", NOW + timedelta(days=days))  # one of its names
    assert first.certificate.read_bytes() == octets


@pytest.mark.parametrize(
    ("hostname", "days", "why"),
    [
        ("mx.example.org", 359, "it is about to expire"),
        ("mx.example.org", 1000, "it has expired"),
        ("mx.example.org", -1, "it is not valid yet"),
        ("other.example.org", 0, "we go by another name now"),
    ],
)
def test_it_is_made_anew_with_the_same_key_when(tmp_path: Path, hostname: str, days: int, why: str) -> None:
    first = own_certificate(tmp_path, "mx.example.org", NOW)
    certificate, key = first.certificate.read_bytes(), first.key.read_bytes()
    later = NOW + timedelta(days=days)
    second = own_certificate(tmp_path, hostname, later)
    assert second.certificate.read_bytes() != certificate, why
    assert second.key.read_bytes() == key
    assert parsed(second).not_valid_before_utc <= later < parsed(second).not_valid_after_utc


@pytest.mark.parametrize("octets", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n"])
def test_damaged_files_are_replaced(tmp_path: Path, octets: bytes) -> None:
    own_certificate(tmp_path, "localhost").certificate.write_bytes(octets)
    handshake(own_certificate(tmp_path, "localhost"), "localhost", strict=True)
    (tmp_path / "key.pem").write_bytes(octets)
    handshake(own_certificate(tmp_path, "localhost"), "localhost", strict=True)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_is_hidden_from_them(tmp_path: Path) -> None:
    pair = own_certificate(tmp_path, "localhost")
    pair.key.chmod(0o644)
    own_certificate(tmp_path, "localhost")
    assert pair.key.stat().st_mode & 0o777 == 0o600


def test_servers_that_start_at_once_end_up_with_a_pair_that_fits(tmp_path: Path) -> None:
    threads = [threading.Thread(target=own_certificate, args=(tmp_path, "localhost")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    handshake(own_certificate(tmp_path, "localhost"), "localhost", strict=True)
    assert sorted(os.listdir(tmp_path)) == ["cert.pem", "key.pem"]


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", link)
    handshake(own_certificate(tmp_path, "localhost"), "localhost", strict=True)
    assert sorted(os.listdir(tmp_path)) == ["cert.pem", "key.pem"]


def test_a_state_directory_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Failure, match=r"cannot keep a certificate in .*--no-tls") as caught:
        own_certificate(tmp_path / "file" / "smtpstate", "localhost")
    assert caught.value.exit_code is Exit.CANTCREAT


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    for name in ("one", "two"):
        leaf = authority.issue_cert(f"{name}.example.org")
        leaf.private_key_pem.write_to_path(directory / f"{name}.key")
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(directory / f"{name}.pem", append=True)
        leaf.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}.both")
    key = load_pem_private_key((directory / "one.key").read_bytes(), None)
    (directory / "encrypted.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    (directory / "garbage").write_bytes(b"garbage")
    return directory


@pytest.mark.parametrize(("certificate", "key"), [("one.pem", "one.key"), ("one.both", "one.both")])
def test_a_pair_that_fits_is_taken(files: Path, certificate: str, key: str) -> None:
    assert checked_pair(files / certificate, files / key) == KeyPair(files / certificate, files / key)


@pytest.mark.parametrize(
    ("certificate", "key", "words", "code"),
    [
        ("one.pem", "two.key", "two.key does not belong to the certificate .*one.pem", Exit.CONFIG),
        ("one.pem", "encrypted.key", "is encrypted", Exit.CONFIG),
        ("one.pem", "garbage", "garbage holds no PEM private key", Exit.CONFIG),
        ("one.pem", "one.pem", "one.pem holds no PEM private key", Exit.CONFIG),
        ("garbage", "one.key", "garbage holds no PEM certificate", Exit.CONFIG),
        ("one.key", "one.key", "one.key holds no PEM certificate", Exit.CONFIG),
        ("missing", "one.key", "cannot read the certificate .*missing: No such file", Exit.NOINPUT),
        ("one.pem", "missing", "cannot read the key .*missing: No such file", Exit.NOINPUT),
        ("one.pem", ".", "cannot read the key .*: Is a directory", Exit.NOINPUT),
    ],
)
def test_a_pair_that_is_of_no_use_is_said(files: Path, certificate: str, key: str, words: str, code: Exit) -> None:
    with pytest.raises(Failure, match=words) as caught:
        checked_pair(files / certificate, files / key)
    assert caught.value.exit_code is code
