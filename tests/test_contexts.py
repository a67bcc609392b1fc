"""The contexts, and what is said of a context that does not fit."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from smtpstate import tls
from smtpstate._client import ClientConnection
from smtpstate._config import ServerConfig
from smtpstate._events import (
    CloseReason,
    ConnectionClosed,
)
from smtpstate._server import ServerConnection
from tests.tls_peers import (
    CA,
    CERTIFICATE,
    HOST,
    Client,
    Clock,
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


def test_a_context_for_the_other_seat_is_the_callers_mistake() -> None:
    connection = ClientConnection("c.example.com", clock=Clock())
    with pytest.raises(ssl.SSLError):
        tls.secure(connection, server_side(), server_hostname=HOST)
    with pytest.raises(ValueError, match="server_hostname is needed"):
        tls.secure(connection, client_side())
    server = ServerConnection(ServerConfig(HOST), clock=Clock())
    with pytest.raises(ssl.SSLError):
        tls.secure(server, client_side())
    with pytest.raises(ValueError, match="client's side"):
        tls.secure(server, server_side(), server_hostname=HOST)
