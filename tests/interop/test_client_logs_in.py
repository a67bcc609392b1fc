"""Our client logs in at servers that others wrote, by each mechanism that they and we know."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import pytest
import trustme

from smtpstate import Result
from smtpstate.delivery import AuthenticationFailed
from smtpstate.sasl import Credentials
from smtpstate_anyio import connect
from tests.interop import auth_servers
from tests.interop.auth_servers import RIGHT, USER, WRONG, token
from tests.interop.headers import without
from tests.peers.contents import CONTENTS
from tests.peers.programs import SECONDS
from tests.peers.serving import RECIPIENT, SENDER, Certificates, Serving

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.interop.servers import Server

OCTETS = CONTENTS[0].octets
SERVERS = ("dovecot", "exim", "postfix", "cyrus")


class Running(NamedTuple):
    """All four, and a certificate authority that they believe about clients."""

    servers: dict[str, Server]
    authority: trustme.CA


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, process: Serving
) -> Generator[Running, None, None]:
    authority = trustme.CA()
    blob = authority.cert_pem.bytes()
    start = (tmp_path_factory.mktemp(name) for name in SERVERS)
    with (
        auth_servers.dovecot(next(start), certificates, blob, process.port) as dovecot,
        auth_servers.exim(next(start), certificates, blob, process.port) as exim,
        auth_servers.postfix(next(start), certificates, blob, process.port) as postfix,
        auth_servers.cyrus(next(start), certificates, blob, process.port) as cyrus,
    ):
        yield Running(dict(zip(SERVERS, (dovecot, exim, postfix, cyrus), strict=True)), authority)


class Row(NamedTuple):
    """A server and a mechanism that it offers."""

    server: str
    mechanism: str
    reason: str
    binds: bool = False


ROWS = (
    Row("dovecot", "PLAIN", "with an initial response"),
    Row("dovecot", "LOGIN", "two prompts"),
    Row("dovecot", "CRAM-MD5", "a challenge first"),
    Row("dovecot", "SCRAM-SHA-1", "its own code, where the server's signature comes as a challenge"),
    Row("dovecot", "SCRAM-SHA-256", "the same"),
    Row("dovecot", "SCRAM-SHA-256", "is told that we could bind, and did not ask", binds=True),
    Row("dovecot", "OAUTHBEARER", "where a no has a challenge in front, RFC 7628 section 3.2.3"),
    Row("dovecot", "XOAUTH2", "Google's own way to say the same"),
    Row("dovecot", "EXTERNAL", "the certificate says it all"),
    Row("exim", "PLAIN", "an expansion decides"),
    Row("exim", "LOGIN", "what its manual calls plaintext, too"),
    Row("exim", "CRAM-MD5", "its own code"),
    Row("exim", "EXTERNAL", "GnuTLS"),
    Row("postfix", "PLAIN", "Cyrus SASL"),
    Row("postfix", "LOGIN", "Cyrus SASL"),
    Row("postfix", "CRAM-MD5", "Cyrus SASL"),
    Row("postfix", "SCRAM-SHA-1", "Cyrus SASL"),
    Row("postfix", "SCRAM-SHA-256", "Cyrus SASL"),
    Row("postfix", "SCRAM-SHA-256", "Cyrus SASL is told that we could bind, and did not ask", binds=True),
    Row("cyrus", "PLAIN", "in LMTP"),
    Row("cyrus", "SCRAM-SHA-256", "where -PLUS is offered, too, and we cannot"),
    Row("cyrus", "SCRAM-SHA-1-PLUS", "tls-unique, the one binding that it has", binds=True),
    Row("cyrus", "SCRAM-SHA-256-PLUS", "the same", binds=True),
)


def shown(mechanism: str, *, right: bool) -> Credentials:
    if mechanism in ("OAUTHBEARER", "XOAUTH2"):
        return Credentials(username=USER, token=token(USER) if right else token(USER, b"another key" * 4))
    if mechanism == "EXTERNAL":
        return Credentials(certificate=True)
    return Credentials(username=USER, password=RIGHT if right else WRONG)


def trusting(running: Running, certificates: Certificates, row: Row, *, name: str | None) -> ssl.SSLContext:
    """A context with a certificate for that name."""
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if row.binds:  # TLS 1.3 has no tls-unique
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if name is not None:
        running.authority.issue_cert(f"{name}@example.org", common_name=name).configure_cert(context)
    return context


async def attempt(row: Row, port: int, context: ssl.SSLContext, *, right: bool) -> None:
    with anyio.fail_after(SECONDS):
        async with connect(
            f"127.0.0.1:{port}", hostname="client.example.org", ssl_context=context, lmtp=row.server == "cyrus"
        ) as client:
            assert row.mechanism in client.capabilities.keywords["AUTH"]
            (before,) = await client.send(OCTETS, sender=SENDER, recipients=RECIPIENT)
            assert before.outcome is not Result.ACCEPTED
            credentials = shown(row.mechanism, right=right)
            if not right:
                with pytest.raises(AuthenticationFailed):
                    await client.authenticate(credentials, among=[row.mechanism], channel_binding=row.binds)
                assert client.closed is None  # and another may be tried
                return
            await client.authenticate(credentials, among=[row.mechanism], channel_binding=row.binds)
            delivery = await client.send(OCTETS, sender=SENDER, recipients=RECIPIENT)
            assert delivery.all_accepted, delivery


CASES = [(row, ("asyncio", "trio")[number % 2]) for number, row in enumerate(ROWS)]  # neither knows of AUTH


@pytest.mark.parametrize(
    ("row", "backend"),
    CASES,
    ids=[f"{row.server}, {row.mechanism}{', binding' * row.binds}, {backend}" for row, backend in CASES],
)
def test_our_client_gets_in_with_what_is_right_and_not_with_what_is_wrong(
    running: Running, serving: Serving, certificates: Certificates, row: Row, backend: str
) -> None:
    server = running.servers[row.server]
    for right, name in ((False, "somebody"), (True, USER)):
        context = trusting(running, certificates, row, name=name if row.mechanism == "EXTERNAL" else None)
        anyio.run(partial(attempt, row, server.port, context, right=right), backend=backend)
        if row.server == "dovecot":
            stored = [without("received", message.content) for message in serving.take()]
            assert stored == ([OCTETS] if right else []), "Dovecot hands it on to us at once"
