"""The contexts: what they allow, and to whom."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from smtpstate import tls
from smtpstate._events import (
    CloseReason,
    ConnectionClosed,
)
from tests.tls_peers import (
    CA,
    CERTIFICATE,
    HOST,
    VERSIONS,
    Client,
    Raw,
    Server,
    client_side,
    message,
    run,
    server_side,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_the_contexts_are_hardened(files: Path) -> None:
    for context in (
        tls.client_context(),
        tls.client_context(verify=False),
        tls.server_context(files / "cert.pem", str(files / "key.pem")),
    ):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert ssl.OP_NO_RENEGOTIATION in context.options
        assert ssl.OP_NO_COMPRESSION in context.options
        assert context.security_level == 2
        for cipher in context.get_ciphers():
            assert cipher["aead"], cipher["name"]
            assert cipher["protocol"] == "TLSv1.3" or cipher["kea"] == "kx-ecdhe", cipher["name"]


WEAK = [
    pytest.param("RSA", 1024, False, id="RSA of 1024 bits"),
    pytest.param("RSA", 2048, True, id="RSA of 2048 bits"),
    pytest.param("EC", 192, False, id="a curve of 192 bits"),
    pytest.param("EC", 256, True, id="a curve of 256 bits"),
]


def self_signed(kind: str, bits: int, directory: Path) -> tuple[Path, Path]:
    """A certificate for HOST with a key of that size, and the key."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if kind == "RSA":
        key = rsa.generate_private_key(65_537, bits)
    else:
        key = ec.generate_private_key(ec.SECP192R1() if bits == 192 else ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    certificate = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    paths = directory / "weak.pem", directory / "weak.key"
    paths[0].write_bytes(certificate.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.mark.parametrize(("kind", "bits", "enough"), WEAK)
def test_a_key_has_a_least_size_on_both_sides(kind: str, bits: int, enough: bool, tmp_path: Path) -> None:
    certificate, key = self_signed(kind, bits, tmp_path)
    if not enough:
        with pytest.raises(ssl.SSLError, match="KEY_TOO_SMALL"):
            tls.server_context(certificate, key)
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    careless.set_ciphers("ALL:@SECLEVEL=0")
    careless.load_cert_chain(certificate, key)
    server = Server(careless)
    client = Client(*message(implicit=False), context=tls.client_context(cafile=certificate))
    run(server, client, 99)
    assert (client.connection.tls is not None) is enough
    assert client.closed == ConnectionClosed(CloseReason.QUIT if enough else CloseReason.TLS_FAILED)


OLD = [
    pytest.param({"maximum_version": ssl.TLSVersion.TLSv1}, id="TLS 1.0"),
    pytest.param({"maximum_version": ssl.TLSVersion.TLSv1_1}, id="TLS 1.1"),
    pytest.param({"ciphers": "AES256-GCM-SHA384"}, id="no forward secrecy"),
    pytest.param({"ciphers": "ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA384"}, id="no AEAD"),
    pytest.param({"ciphers": "DHE-RSA-AES256-GCM-SHA384"}, id="Diffie-Hellman over finite fields"),
]


@pytest.mark.parametrize("asks", [False, True], ids=["as server", "as client"])
@pytest.mark.parametrize("options", OLD)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_what_is_out_of_date_is_not_spoken(files: Path, options: dict[str, Any], asks: bool) -> None:
    old = client_side() if asks is False else server_side()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = options.get("maximum_version", ssl.TLSVersion.TLSv1_2)
    old.set_ciphers(f"{options.get('ciphers', 'ALL')}:@SECLEVEL=0")
    if asks:
        server, client = Server(old), Client(*message(implicit=False), context=ours_as_client(files))
    else:
        server, client = Server(ours_as_server(files)), Client(*message(implicit=False), context=old)
    run(server, client, 99)
    assert server.closed == client.closed == ConnectionClosed(CloseReason.TLS_FAILED)


def ours_as_server(files: Path) -> ssl.SSLContext:
    return tls.server_context(files / "cert.pem", files / "key.pem")


def ours_as_client(files: Path, **options: Any) -> ssl.SSLContext:
    return tls.client_context(cafile=files / "ca.pem", **options)


@pytest.mark.parametrize("alpn", [False, True])
def test_a_client_says_that_it_speaks_smtp_if_it_is_asked_to(files: Path, alpn: bool) -> None:
    server = Server(ours_as_server(files))
    client = Client(*message(implicit=False), context=ours_as_client(files, alpn=alpn))
    run(server, client, 99)
    assert server.connection.tls is not None
    assert client.connection.tls is not None
    assert server.connection.tls.alpn == client.connection.tls.alpn == ("smtp" if alpn else None)
    assert server.connection.tls.offered_alpn == (("smtp",) if alpn else ())
    assert client.closed == ConnectionClosed(CloseReason.QUIT)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("same", [True, False], ids=["the same context", "another context"])
def test_a_session_is_resumed_where_its_ticket_was_given_and_nowhere_else(
    files: Path, same: bool, version: ssl.TLSVersion
) -> None:
    first = ours_as_server(files)
    theirs = ours_as_client(files)
    theirs.maximum_version = version
    ticket = None
    for context, reused in ((first, False), (first if same else ours_as_server(files), same)):
        server, peer = Server(context, implicit=True), Resuming(theirs, HOST, ticket)
        server.pull()
        peer.meet(server)
        peer.hear()
        assert server.connection.tls is not None
        assert peer.tls.session_reused is reused
        ticket = peer.tls.session


class Resuming(Raw):
    """A client that shows the ticket of another session."""

    def __init__(self, context: ssl.SSLContext, name: str, ticket: ssl.SSLSession | None) -> None:
        super().__init__(context, name)
        self.tls = context.wrap_bio(self.inward, self.outward, server_hostname=name, session=ticket)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys on disk: ours, a key of another, and ours with a passphrase."""
    directory = tmp_path_factory.mktemp("tls")
    CA.cert_pem.write_to_path(str(directory / "ca.pem"))
    for blob in CERTIFICATE.cert_chain_pems:
        blob.write_to_path(str(directory / "cert.pem"), append=True)
    CERTIFICATE.private_key_pem.write_to_path(str(directory / "key.pem"))
    CA.issue_cert(HOST).private_key_pem.write_to_path(str(directory / "other.pem"))
    key = load_pem_private_key(CERTIFICATE.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (directory / "locked.pem").write_bytes(locked)
    return directory


@pytest.mark.parametrize(("key", "password"), [("key.pem", None), ("locked.pem", "secret")])
def test_a_session_with_our_own_contexts(files: Path, key: str, password: str | None) -> None:
    ours = tls.server_context(files / "cert.pem", files / key, password)
    theirs = tls.client_context(cafile=files / "ca.pem")
    server, client = Server(ours), Client(*message(implicit=False), context=theirs)
    run(server, client, 99)
    assert server.closed == client.closed == ConnectionClosed(CloseReason.QUIT)
    assert client.connection.tls is not None
    assert client.connection.tls.verified


def test_a_client_may_show_what_a_named_authority_has_made(files: Path) -> None:
    ours = tls.server_context(files / "cert.pem", files / "key.pem", client_cafile=files / "ca.pem")
    card = CA.issue_cert("user@example.org")
    for shows in (False, True):
        theirs = tls.client_context(cafile=files / "ca.pem")
        if shows:
            card.configure_cert(theirs)
        server, client = Server(ours), Client(*message(implicit=False), context=theirs)
        run(server, client, 99)
        assert server.closed == ConnectionClosed(CloseReason.QUIT)
        assert server.connection.tls is not None
        assert server.connection.tls.verified is shows


def test_an_authority_nobody_named_is_not_trusted(files: Path) -> None:
    ours = tls.server_context(files / "cert.pem", files / "key.pem")
    server, client = Server(ours), Client(*message(implicit=False), context=tls.client_context())
    run(server, client, 99)
    assert client.closed == ConnectionClosed(CloseReason.TLS_FAILED)


@pytest.mark.parametrize(
    ("policy", "trusting", "verifies"),
    [
        (tls.MtaSts((HOST,)), True, True),
        (tls.MtaSts((HOST,)), False, True),
        (tls.MtaSts((HOST,), "testing"), True, True),
        (tls.MtaSts((HOST,), "testing"), False, False),
        (tls.Dane([tls.Tlsa(3, 0, 1, bytes(32))]), True, False),
        (tls.Dane([tls.Tlsa(2, 0, 1, bytes(32))]), False, True),
    ],
    ids=["MTA-STS", "MTA-STS, and no other wish", "testing", "testing, and no other wish", "DANE-EE", "DANE-TA"],
)
def test_a_policy_that_is_enforced_decides_what_is_verified(
    policy: tls.TlsPolicy, trusting: bool, verifies: bool
) -> None:
    context = tls.client_context(verify=trusting, policy=policy)
    assert context.check_hostname is verifies
    assert context.verify_mode is (ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE)


@pytest.mark.parametrize("whole", [True, False], ids=["the whole certificate", "garbage"])
def test_an_authority_that_stands_in_a_record_is_trusted(whole: bool) -> None:
    middle = CA.create_child_ca()
    authority = ssl.PEM_cert_to_DER_cert(middle.cert_pem.bytes().decode())
    policy = tls.Dane([tls.Tlsa(2, 0, 0, authority if whole else authority[1:])])
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    middle.issue_cert(HOST).configure_cert(ours)
    client = Client(*message(implicit=False), context=tls.client_context(policy=policy), policy=policy)
    run(Server(ours), client, 99)
    assert client.closed == ConnectionClosed(CloseReason.QUIT if whole else CloseReason.TLS_FAILED)


BAD_FILES = [
    pytest.param("none.pem", "key.pem", None, FileNotFoundError, id="no such certificate"),
    pytest.param("cert.pem", "none.pem", None, FileNotFoundError, id="no such key"),
    pytest.param("cert.pem", "other.pem", None, ssl.SSLError, id="the key of another certificate"),
    pytest.param("key.pem", "key.pem", None, ssl.SSLError, id="a key for a certificate"),
    pytest.param("cert.pem", "locked.pem", None, ssl.SSLError, id="a passphrase is needed, and nobody is asked for it"),
    pytest.param("cert.pem", "locked.pem", "wrong", ssl.SSLError, id="another passphrase"),
]


@pytest.mark.parametrize(("certificate", "key", "password", "error"), BAD_FILES)
def test_bad_files_raise_what_ssl_raises(
    files: Path, certificate: str, key: str, password: str | None, error: type[OSError]
) -> None:
    with pytest.raises(error):
        tls.server_context(files / certificate, files / key, password)


def test_a_bad_authority_raises_what_ssl_raises(files: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tls.client_context(cafile=files / "none.pem")
    with pytest.raises(ssl.SSLError):
        tls.client_context(cafile=files / "key.pem")
