"""Our client speaks for somebody else, in UTF-8, and in what is binary, to servers that others wrote."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest
import trustme
from anyio.from_thread import start_blocking_portal

from smtpstate import Command, Ehlo, Lhlo, Result
from smtpstate.delivery import ask
from smtpstate.extensions import Ret, XClient, XForward, XForwardSource
from smtpstate.sasl import Credentials
from smtpstate_anyio import Message, connect, serve_messages
from tests.interop import auth_servers
from tests.interop.auth_servers import RIGHT, USER
from tests.interop.headers import without
from tests.interop.servers import Server, courier, dovecot, exim, opensmtpd, sendmail, smtp_server
from tests.peers.programs import SECONDS
from tests.peers.serving import RECIPIENT, SENDER, Certificates

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from smtpstate import Delivery
    from tests.interop.test_servers import Start

HELLO = "client.example.org"
OCTETS = b"From: <sender@example.org>\r\n\r\nhello\r\n"
U_SENDER = "s\u00e9nder@b\u00fccher.example"
U_OCTETS = "From: <é@example.org>\r\nTo: <recipient@example.org>\r\nSubject: Grüße\r\n\r\nGrüße\r\n".encode()


async def send(
    port: int, certificates: Certificates, *said: Command, octets: bytes = OCTETS, tls: str = "required", **how: Any
) -> Delivery:
    """One message, after those commands. `how` is for `Client.send`, but for `lmtp`."""
    settings: dict[str, Any] = {"tls": tls, "lmtp": how.pop("lmtp", False)}
    context = certificates.trusting if tls == "required" else None
    with anyio.fail_after(SECONDS):
        async with connect(f"127.0.0.1:{port}", ssl_context=context, hostname=HELLO, **settings) as client:
            for command in said:
                reply = await client.run(ask(client.connection, command))
                assert reply.code in (220, 250), reply
            return await client.send(octets, **({"sender": SENDER, "recipients": RECIPIENT} | how))


def told(server: Server) -> Any:
    """What nodemailer's printed last."""
    lines = (server.directory / "log").read_text().splitlines()
    return json.loads(lines[-1])


def test_dovecot_takes_our_client_for_whom_it_speaks_for(tmp_path: Path, certificates: Certificates) -> None:
    said = XClient(helo="c.example", protocol="ESMTP", address="192.0.2.9", port=9), Lhlo(HELLO)
    with dovecot(tmp_path, certificates, "off") as server:
        assert anyio.run(partial(send, server.port, certificates, *said, tls="off", lmtp=True)).all_accepted
        server.stored(1)
        [path] = (tmp_path / "stored" / "new").iterdir()
        received = re.sub(rb"\s+", b" ", path.read_bytes().partition(b"Received: ")[2])
    assert received.startswith(b"from client.example.org ([192.0.2.9]) by mx.example.org with LMTP id "), received


def test_nodemailer_takes_our_client_for_whom_it_speaks_for(tmp_path: Path, certificates: Certificates) -> None:
    said = XClient(name="a.example", helo="c.example", login="joe+x=y", address="2001:db8::9"), Ehlo(HELLO)
    with smtp_server(tmp_path, certificates, "trusting") as server:
        assert anyio.run(partial(send, server.port, certificates, *said)).all_accepted
        found = told(server)
    assert (found["clientHostname"], found["remoteAddress"]) == ("a.example", "2001:db8::9")
    expected = {"NAME": "a.example", "HELO": "c.example", "LOGIN": "joe+x=y", "ADDR": "2001:db8::9"}
    assert expected.items() <= found["xclient"].items()


def test_nodemailer_hears_where_our_client_has_a_message_from(tmp_path: Path, certificates: Certificates) -> None:
    said = XForward("a.example", "192.0.2.9", 9, "ESMTP", "c.example", "4bXyz", XForwardSource.REMOTE)
    with smtp_server(tmp_path, certificates, "trusting") as server:
        assert anyio.run(partial(send, server.port, certificates, said)).all_accepted
        found = told(server)
    expected = {"NAME": "a.example", "ADDR": "192.0.2.9", "HELO": "c.example", "IDENT": "4bXyz", "SOURCE": "REMOTE"}
    assert expected.items() <= found["xforward"].items()


def test_nodemailer_is_asked_for_what_has_to_be_kept(tmp_path: Path, certificates: Certificates) -> None:
    how: dict[str, Any] = {"sender": U_SENDER, "ret": Ret.HDRS, "parameters": (("REQUIRETLS", None),)}
    with smtp_server(tmp_path, certificates, "trusting") as server:
        assert anyio.run(partial(send, server.port, certificates, octets=U_OCTETS, **how)).all_accepted
        envelope = told(server)["envelope"]
    found = envelope["requireTLS"], envelope["smtpUtf8"], envelope["bodyType"], envelope["dsn"]["ret"]
    assert found == (True, True, "8bitmime", "HDRS")
    assert envelope["mailFrom"]["address"] == U_SENDER


class Row(NamedTuple):
    """A server; it offers SMTPUTF8, or is not sent any."""

    start: Start
    tls: str
    offers: bool
    reason: str
    lmtp: bool = False


ROWS = (
    Row(exim, "required", offers=True, reason="I18N"),
    Row(courier, "required", offers=True, reason="which asks for it always, and is asked here"),
    Row(smtp_server, "off", offers=True, reason="in LMTP", lmtp=True),
    Row(opensmtpd, "off", offers=False, reason="6.8 does not know it"),
    Row(sendmail, "required", offers=False, reason="8.17 of Debian is built without"),
    Row(dovecot, "off", offers=False, reason="2.3 does not know it", lmtp=True),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.start.__name__}{', LMTP' * row.lmtp}")
def test_utf8_is_sent_where_it_is_taken_and_nowhere_else(tmp_path: Path, certificates: Certificates, row: Row) -> None:
    mode = "lmtp" if row.lmtp else row.tls
    how: dict[str, Any] = {"octets": U_OCTETS, "sender": U_SENDER, "tls": row.tls, "lmtp": row.lmtp}
    with row.start(tmp_path, certificates, mode) as server:
        (result,) = anyio.run(partial(send, server.port, certificates, **how))
        if row.offers:
            assert result.outcome is Result.ACCEPTED, (row.reason, result)
            assert server.stored(1) == [U_OCTETS]
        else:
            assert (result.outcome, str(result.reply)[:9]) == (Result.REFUSED, "550 5.6.9"), row.reason


class Ours:
    """Our own server, for Dovecot to hand on to."""

    def __init__(self) -> None:
        self.port = 0
        self.kept: list[bytes] = []

    async def take(self, message: Message) -> None:
        self.kept.append(b"".join([piece async for piece in message.body]))


@contextmanager
def taking_binary() -> Generator[Ours, None, None]:
    ours = Ours()
    serve = partial(
        serve_messages, ours.take, "127.0.0.1:0", hostname="mx.example.org", accept_any=True, offers=["BINARYMIME"]
    )
    with start_blocking_portal() as portal:
        future, bound = portal.start_task(serve)
        ours.port = bound[0].port
        yield ours
        future.cancel()


def test_what_is_binary_goes_through_dovecot(tmp_path: Path, certificates: Certificates) -> None:
    """The one server here that takes BINARYMIME: where the one that it hands on to takes it, too. That is ours.

    It writes a CRLF for each bare LF, and so would break what is binary; the rest is as it was.
    """
    octets = OCTETS + bytes(range(256)) * 1_000 + b"\n.\n\r.\r"

    async def through(port: int) -> Delivery:
        with anyio.fail_after(SECONDS):
            async with connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting, hostname=HELLO) as client:
                await client.authenticate(Credentials(username=USER, password=RIGHT))
                await client.run(ask(client.connection, Ehlo(HELLO)))  # by now it knows what the other offers
                assert "BINARYMIME" in client.capabilities.keywords
                return await client.send(octets, sender=SENDER, recipients=RECIPIENT, binary=True)

    with (
        taking_binary() as ours,
        auth_servers.dovecot(tmp_path, certificates, trustme.CA().cert_pem.bytes(), ours.port) as server,
    ):
        delivery = anyio.run(through, server.port)
    assert delivery.all_accepted, delivery
    [content] = ours.kept
    assert without("received", content) == re.sub(rb"(?<!\r)\n", b"\r\n", octets)
