"""Our client delivers to servers that others wrote; what they store is what it was given."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import anyio
import pytest

from smtpstate import Result
from smtpstate_anyio import connect
from smtpstate_server._exits import Exit
from tests.interop.servers import Server, courier, cyrus, dovecot, exim, opensmtpd, sendmail, smtp_server
from tests.peers.contents import CONTENTS, Content
from tests.peers.programs import SECONDS, run, smtpstate
from tests.peers.serving import RECIPIENT, SENDER, Certificates
from tests.peers.sink import smtp_sink

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    Start: TypeAlias = Callable[[Path, Certificates, str], AbstractContextManager[Server]]

BACKENDS = ("asyncio", "trio")
OTHER = "other@example.org"
NOBODY = "nobody@example.org"


class Row(NamedTuple):
    """A server in one mode; what it `refuses` is not tried."""

    start: Start
    tls: str
    reason: str
    lmtp: bool = False
    refuses: tuple[str, ...] = ()

    @property
    def mode(self) -> str:
        """As `start` calls it."""
        return "lmtp" if self.lmtp else self.tls

    @property
    def contents(self) -> list[Content]:
        return [content for content in CONTENTS if content.name not in self.refuses]

    @property
    def options(self) -> dict[str, Any]:
        return {"tls": self.tls} | ({"lmtp": True} if self.lmtp else {})


COURIER = ("long lines",)  # a line of 10,000 octets is too much of a header to it, wherever it stands

ROWS = (
    Row(exim, "off", "PIPELINING, CHUNKING"),
    Row(exim, "required", "GnuTLS"),
    Row(exim, "implicit", "GnuTLS"),
    Row(opensmtpd, "off", "no PIPELINING"),
    Row(sendmail, "off", "PIPELINING, 8BITMIME"),
    Row(sendmail, "required", "OpenSSL"),
    Row(courier, "off", "PIPELINING, 8BITMIME, DSN", refuses=COURIER),
    Row(courier, "required", "GnuTLS, by a program of its own in between", refuses=COURIER),
    Row(smtp_server, "off", "nodemailer's, which stands in for servers in tests"),
    Row(smtp_server, "required", "nodemailer's"),
    Row(smtp_server, "implicit", "nodemailer's"),
    Row(dovecot, "off", "a reply for each recipient", lmtp=True),
    Row(smtp_server, "off", "a reply for each recipient", lmtp=True),
    Row(cyrus, "off", "a reply for each recipient", lmtp=True),
)


def identify(row: Row) -> str:
    return f"{row.start.__name__}, {'LMTP' if row.lmtp else row.tls}"


async def deliver(row: Row, server: Server, certificates: Certificates) -> None:
    """All messages in one session; somebody is refused each time."""
    context = None if row.tls == "off" else certificates.trusting
    with anyio.fail_after(SECONDS):
        async with connect(
            f"127.0.0.1:{server.port}", hostname="client.example.org", ssl_context=context, **row.options
        ) as client:
            for content in row.contents:
                delivery = await client.send(content.octets, sender=SENDER, recipients=[RECIPIENT, NOBODY])
                outcomes = [(result.address, result.outcome) for result in delivery]
                assert outcomes == [(RECIPIENT, Result.ACCEPTED), (NOBODY, Result.REFUSED)], (content.name, delivery)
                assert delivery.closed is None
            assert (client.tls is not None) == (row.tls != "off")
    assert client.closed is not None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row", ROWS, ids=identify)
def test_what_a_server_stores_is_what_our_client_was_given(
    tmp_path: Path, certificates: Certificates, row: Row, backend: str
) -> None:
    with row.start(tmp_path, certificates, row.mode) as server:
        anyio.run(partial(deliver, row, server, certificates), backend=backend)
        stored = server.stored(len(row.contents))
    assert sorted(stored) == sorted(content.octets for content in row.contents)


@pytest.mark.parametrize("row", ROWS, ids=identify)
def test_the_command_delivers_too(tmp_path: Path, certificates: Certificates, row: Row) -> None:
    octets = CONTENTS[0].octets
    with row.start(tmp_path, certificates, row.mode) as server:
        arguments = ["--server", f"127.0.0.1:{server.port}", "--from", SENDER, "--to", RECIPIENT, "--to", NOBODY]
        arguments += ["--tls", row.tls, *(["--lmtp"] if row.lmtp else [])]
        arguments += [] if row.tls == "off" else ["--ca", str(certificates.ca)]
        done = run(smtpstate("send", *arguments), stdin=octets, home=tmp_path)
        lines = [line.split(" ", 3)[:3] for line in done.stdout.decode().splitlines()]
        assert lines == [[RECIPIENT, "accepted", "250"], [NOBODY, "refused", "550"]], (done.stdout, done.stderr)
        assert done.returncode == Exit.UNAVAILABLE
        assert server.stored(1) == [octets]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "result", "reason"),
    [
        ("", Result.ACCEPTED, "a yes for each"),
        ("-p", Result.ACCEPTED, "no PIPELINING, though RFC 2033 asks for it"),
        ("-f .", Result.REFUSED, "a no for each"),
        ("-r .", Result.RETRY, "not now, for each"),
        ("-q .", Result.UNKNOWN, "no reply for either"),
    ],
)
def test_each_recipient_has_a_reply_of_its_own(
    tmp_path: Path, backend: str, options: str, result: Result, reason: str
) -> None:
    async def send(port: int) -> None:
        settings: dict[str, Any] = {"tls": "off", "lmtp": True}
        with anyio.fail_after(SECONDS):
            async with connect(f"127.0.0.1:{port}", hostname="client.example.org", **settings) as client:
                octets = CONTENTS[0].octets
                delivery = await client.send(octets, sender=SENDER, recipients=[RECIPIENT, OTHER, RECIPIENT])
        assert [recipient.outcome for recipient in delivery] == [result] * 3, reason

    with smtp_sink(tmp_path, ["-L", *options.split()]) as sink:
        anyio.run(send, sink.port, backend=backend)
