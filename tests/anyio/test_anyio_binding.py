"""Logins that hang on the TLS session: SCRAM-SHA-256-PLUS and EXTERNAL, on anyio and sockets."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from smtpstate import tls
from smtpstate._authentication import AuthenticationFailed
from smtpstate._sasl import Credentials
from smtpstate_anyio import Authenticator, AuthUnavailable, Listener, connect, serve_messages
from tests.anyio.loopback import Inbox, background
from tests.anyio.test_anyio_auth import RIGHT, TO, WRONG, Friends

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from smtpstate_anyio import Client

pytestmark = pytest.mark.anyio

CA = trustme.CA()
OURS, ANOTHER = (CA.issue_cert("127.0.0.1") for _ in range(2))
EVERY = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "PLAIN")
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CARD = Credentials(certificate=True)


def der(certificate: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


@pytest.fixture
def server(tmp_path: Path) -> ssl.SSLContext:
    """A context that takes the certificates of clients."""
    OURS.private_key_and_cert_chain_pem.write_to_path(tmp_path / "ours")
    CA.cert_pem.write_to_path(tmp_path / "ca")
    return tls.server_context(tmp_path / "ours", tmp_path / "ours", client_cafile=tmp_path / "ca")


def serving(
    context: ssl.SSLContext,
    certificate: trustme.LeafCert | None = None,
    *,
    users: Friends | None = None,
    inbox: Inbox | None = None,
) -> AbstractAsyncContextManager[int]:
    authenticator = Authenticator(
        users or Friends(EVERY), certificate=None if certificate is None else der(certificate)
    )
    listener = Listener("127.0.0.1", 0, "starttls")
    return background(
        serve_messages, inbox or Inbox(), listener, tls=context, users=authenticator, domains=["example.org"]
    )


def connected(
    port: int, *, version: ssl.TLSVersion = TLS13, shows: trustme.LeafCert | None = None
) -> AbstractAsyncContextManager[Client]:
    context = tls.client_context()
    CA.configure_trust(context)
    context.maximum_version = version
    if shows is not None:
        shows.configure_cert(context)
    return connect(f"127.0.0.1:{port}", ssl_context=context)


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)
@pytest.mark.parametrize("certificate", [None, OURS], ids=["none", "certificate"])
async def test_plus_is_offered_where_there_is_a_binding_and_used_on_request(
    version: ssl.TLSVersion,
    certificate: trustme.LeafCert | None,
    server: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    plus = version is TLS12 or certificate is not None
    async with serving(server, certificate) as port:
        for asked in (False, True):
            async with connected(port, version=version) as client:
                assert client.capabilities.keywords["AUTH"] == tuple(
                    name for name in EVERY if name != "EXTERNAL" and (plus or name != "SCRAM-SHA-256-PLUS")
                )
                await client.authenticate(RIGHT, channel_binding=asked)
    used = [record.message.split()[3].rstrip(",") for record in caplog.records if ": AUTH " in record.message]
    assert used == ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"]


async def test_another_certificate_than_the_one_that_the_client_sees_fails(
    server: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """As somebody in the middle has one: what the client saw is not what the server shows."""
    caplog.set_level(logging.INFO, "smtpstate")
    async with serving(server, ANOTHER) as port, connected(port) as client:
        with pytest.raises(AuthenticationFailed, match="535"):
            await client.authenticate(RIGHT, channel_binding=True)
        await client.authenticate(RIGHT)
    assert [record.message.rpartition("=")[2] for record in caplog.records if "failed" in record.message] == ["BINDING"]


async def test_a_wrong_password_fails_bound_as_well(server: ssl.SSLContext) -> None:
    async with serving(server, OURS) as port, connected(port) as client:
        with pytest.raises(AuthenticationFailed, match="535"):
            await client.authenticate(WRONG, channel_binding=True)
        await client.authenticate(RIGHT, channel_binding=True, among=["SCRAM-SHA-256-PLUS"])


async def test_plus_by_name_needs_the_request(server: ssl.SSLContext) -> None:
    async with serving(server, OURS) as port, connected(port) as client:
        with pytest.raises(AuthUnavailable, match="it offers SCRAM-SHA-256-PLUS"):
            await client.authenticate(RIGHT, among=["SCRAM-SHA-256-PLUS"])


async def test_a_certificate_gets_in_whom_it_names(server: ssl.SSLContext) -> None:
    users, inbox = Friends(EVERY), Inbox()
    card = CA.issue_cert("user@example.org")
    async with serving(server, users=users, inbox=inbox) as port, connected(port, shows=card) as client:
        assert client.capabilities.keywords["AUTH"] == ("SCRAM-SHA-256", "EXTERNAL", "PLAIN")
        await client.authenticate(CARD)
        assert (await client.send(b"x", **TO)).all_accepted
    assert users.asked == ["user@example.org"]
    assert [message.identity for message in inbox.messages] == ["user"]


async def test_a_certificate_that_names_nobody_does_not(
    server: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    async with serving(server) as port, connected(port, shows=CA.issue_cert("else@example.org")) as client:
        with pytest.raises(AuthenticationFailed, match="535"):
            await client.authenticate(CARD)
        await client.authenticate(RIGHT)
    [record] = [record for record in caplog.records if "failed" in record.message]
    assert "AUTH EXTERNAL failed, user='else@example.org'" in record.message


async def test_without_a_certificate_external_is_not_offered(server: ssl.SSLContext) -> None:
    async with serving(server) as port, connected(port) as client:
        with pytest.raises(AuthUnavailable, match="no way to authenticate"):
            await client.authenticate(CARD)
