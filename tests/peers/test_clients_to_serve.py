"""Clients that others wrote deliver to `smtpstate serve`, and what is stored is what they were given."""

from __future__ import annotations

import asyncio
import gc
import smtplib
import subprocess
import threading
import warnings
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import aiosmtplib
import pytest

from tests.peers.contents import CONTENTS, Content
from tests.peers.programs import SECONDS, needs, run
from tests.peers.serving import RECIPIENT, SENDER, Serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Client: TypeAlias = Callable[[Serving, str, bytes], None]

PLAIN, STARTTLS, TLS = "plain", "STARTTLS", "TLS"
LMTP, LMTPS = "LMTP", "LMTP, STARTTLS"
HELLO = "client.example.org"
EIGHT_BIT = ["BODY=8BITMIME"]


def stuffed(octets: bytes) -> bytes:
    """As it travels; for clients that leave this to whoever uses them. RFC 5321 section 4.5.2."""
    return octets.replace(b"\r\n.", b"\r\n..")


def by_smtplib(serving: Serving, mode: str, octets: bytes) -> None:
    context = serving.certificates.trusting
    client: smtplib.SMTP
    if mode == TLS:
        client = smtplib.SMTP_SSL("127.0.0.1", serving.tls_port, HELLO, timeout=SECONDS, context=context)
    elif mode in (LMTP, LMTPS):
        client = smtplib.LMTP("127.0.0.1", serving.lmtp_port, HELLO, timeout=SECONDS)
    else:
        client = smtplib.SMTP("127.0.0.1", serving.port, HELLO, SECONDS)
    with client:
        if mode in (STARTTLS, LMTPS):
            client.starttls(context=context)
        assert client.sendmail(SENDER, [RECIPIENT], octets, EIGHT_BIT) == {}


def by_aiosmtplib(serving: Serving, mode: str, octets: bytes) -> None:
    async def send() -> None:
        errors, _ = await aiosmtplib.send(
            octets,
            sender=SENDER,
            recipients=[RECIPIENT],
            hostname="127.0.0.1",
            port=serving.tls_port if mode == TLS else serving.port,
            use_tls=mode == TLS,
            start_tls=mode == STARTTLS,
            tls_context=None if mode == PLAIN else serving.certificates.trusting,
            mail_options=EIGHT_BIT,
            local_hostname=HELLO,
            timeout=SECONDS,
        )
        assert errors == {}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it does not wait until its transport is closed
        asyncio.run(send())
        gc.collect()


def by_openssl(serving: Serving, mode: str, octets: bytes) -> None:
    """A person who types SMTP into `openssl s_client`, and waits for each answer."""
    port, starttls = (serving.port, ["-starttls", "smtp"]) if mode == STARTTLS else (serving.tls_port, [])
    verify = ["-CAfile", str(serving.certificates.ca), "-verify_return_error", "-verify_ip", "127.0.0.1"]
    # -quiet also keeps it from taking the R of RCPT for "renegotiate".
    command = [needs("openssl"), "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", *starttls, *verify]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        impatience = threading.Timer(SECONDS, process.kill)
        impatience.start()
        try:
            _type(process, octets, greeted=mode == STARTTLS)
            assert process.wait(SECONDS) == 0
        finally:
            impatience.cancel()
            process.kill()


def _type(process: subprocess.Popen[bytes], octets: bytes, *, greeted: bool) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    dialogue = [
        (b"EHLO client.example.org\r\n", b"250"),
        (b"MAIL FROM:<sender@example.org> BODY=8BITMIME\r\n", b"250"),
        (b"RCPT TO:<recipient@example.org>\r\n", b"250"),
        (b"DATA\r\n", b"354"),
        (stuffed(octets) + b".\r\n", b"250"),
        (b"QUIT\r\n", b"221"),
    ]
    # With STARTTLS it keeps the greeting to itself, and the answer to an EHLO of its own.
    for said, code in dialogue if greeted else [(b"", b"220"), *dialogue]:
        process.stdin.write(said)
        process.stdin.flush()
        while (line := process.stdout.readline())[3:4] == b"-":
            pass
        assert line.startswith(code), (said[:80], line)


class Row(NamedTuple):
    """A client in one mode. A command is split first and filled in afterwards."""

    tool: str
    mode: str
    command: str | Client
    reason: str
    adds: bytes = b""


CURL = "curl -sS --max-time 30 --cacert {ca} --mail-from {sender} --mail-rcpt {recipient} --upload-file {crlf}"
SWAKS = (
    "swaks --server 127.0.0.1 --ehlo client.example.org --from {sender} --to {recipient} --timeout 30"
    " --data @{wire} --no-data-fixup"  # else it looks for tokens, and mends line ends
)
SWAKS_TLS = " --tls-verify --tls-ca-path {ca}"
MSMTP = "msmtp --host=127.0.0.1 --domain=client.example.org --auth=off --from={sender} --timeout=30"
MSMTP_TLS = " --tls=on --tls-trust-file={ca}"
SMTP_SOURCE = "smtp-source -f {sender} -t {recipient} -F {lf} inet:127.0.0.1:{port}"
LMTP_SOURCE = "smtp-source -L -f {sender} -t {recipient} -F {lf} inet:127.0.0.1:{lmtp_port}"

ROWS = (
    Row("smtplib", PLAIN, by_smtplib, "what most Python programs send with; lock-step"),
    Row("smtplib", STARTTLS, by_smtplib, "says EHLO again after the handshake; verifies the IP address"),
    Row("smtplib", TLS, by_smtplib, "SMTP_SSL"),
    Row("smtplib", LMTP, by_smtplib, "smtplib.LMTP, which reads one reply, and so may have one recipient"),
    Row("smtplib", LMTPS, by_smtplib, "says LHLO again after the handshake"),
    Row("aiosmtplib", PLAIN, by_aiosmtplib, "asyncio, and a parser of replies of its own"),
    Row("aiosmtplib", STARTTLS, by_aiosmtplib, "upgrades a transport in place"),
    Row("aiosmtplib", TLS, by_aiosmtplib, "use_tls"),
    Row("curl", PLAIN, CURL + " smtp://127.0.0.1:{port}/client.example.org", "sends SIZE=; no BODY="),
    Row("curl", STARTTLS, CURL + " --ssl-reqd smtp://127.0.0.1:{port}/client.example.org", "OpenSSL, verifying"),
    Row("curl", TLS, CURL + " smtps://127.0.0.1:{tls_port}/client.example.org", "smtps:"),
    Row("swaks", PLAIN, SWAKS + " --port {port}", "what postmasters test with; waits after every line"),
    Row("swaks", "plain, pipelined", SWAKS + " --port {port} --pipeline", "MAIL, RCPT and DATA in one segment"),
    Row("swaks", STARTTLS, SWAKS + SWAKS_TLS + " --port {port} --tls", "Net::SSLeay"),
    Row("swaks", TLS, SWAKS + SWAKS_TLS + " --port {tls_port} --tls-on-connect", "Net::SSLeay"),
    Row("swaks", LMTP, SWAKS + " --port {lmtp_port} --protocol LMTP --pipeline", "pipelines, as it may always do"),
    Row("swaks", LMTPS, SWAKS + SWAKS_TLS + " --port {lmtp_port} --protocol LMTP --tls", "Net::SSLeay"),
    Row("msmtp", PLAIN, MSMTP + " --port={port} --tls=off {recipient}", "a sendmail for people"),
    Row("msmtp", STARTTLS, MSMTP + MSMTP_TLS + " --port={port} --tls-starttls=on {recipient}", "GnuTLS, verifying"),
    Row("msmtp", TLS, MSMTP + MSMTP_TLS + " --port={tls_port} --tls-starttls=off {recipient}", "GnuTLS, verifying"),
    Row("smtp-source", PLAIN, SMTP_SOURCE, "HELO; no TLS; says CRLF.CRLF after the last CRLF", adds=b"\r\n"),
    Row("smtp-source", LMTP, LMTP_SOURCE, "LHLO; the same", adds=b"\r\n"),
    Row("openssl", STARTTLS, by_openssl, "-starttls smtp: how people look at a certificate"),
    Row("openssl", TLS, by_openssl, "how people look at the other port"),
)


def deliver(row: Row, serving: Serving, octets: bytes, directory: Path) -> None:
    if not isinstance(row.command, str):
        row.command(serving, row.mode, octets)
        return
    (directory / "crlf.eml").write_bytes(octets)
    (directory / "lf.eml").write_bytes(octets.replace(b"\r\n", b"\n"))
    (directory / "wire.eml").write_bytes(stuffed(octets) + b".")
    program, *arguments = row.command.split()
    values = {
        "sender": SENDER,
        "recipient": RECIPIENT,
        "ca": serving.certificates.ca,
        "port": serving.port,
        "tls_port": serving.tls_port,
        "lmtp_port": serving.lmtp_port,
        "crlf": directory / "crlf.eml",
        "lf": directory / "lf.eml",
        "wire": directory / "wire.eml",
    }
    command = [needs(program), *(argument.format_map(values) for argument in arguments)]
    done = run(command, stdin=octets.replace(b"\r\n", b"\n"))
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content.name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.tool}, {row.mode}")
def test_what_a_client_sends_is_what_is_stored(serving: Serving, tmp_path: Path, row: Row, content: Content) -> None:
    deliver(row, serving, content.octets, tmp_path)
    protocol = {STARTTLS: "ESMTPS", TLS: "ESMTPS", LMTP: "LMTP", LMTPS: "LMTPS"}.get(row.mode, "ESMTP")
    if row.tool == "smtp-source" and row.mode == PLAIN:
        protocol = "SMTP"
    [stored] = serving.take()
    assert (stored.sender, stored.recipient, stored.protocol) == (SENDER, RECIPIENT, protocol)
    assert stored.content == content.octets + row.adds


class Load(NamedTuple):
    options: str
    reason: str


LOADS = (
    Load("", "a session for each message"),
    Load("-d", "a hundred messages in each session"),
)


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.reason)
def test_a_thousand_messages_over_ten_sessions_are_a_thousand_files(serving: Serving, load: Load) -> None:
    options = ("-s", "10", "-m", "1000", "-l", "10000", "-f", SENDER, "-t", RECIPIENT, *load.options.split())
    done = run([needs("smtp-source"), *options, f"inet:127.0.0.1:{serving.port}"])
    assert (done.returncode, done.stderr) == (0, b"")
    stored = serving.take()
    assert len(stored) == 1000
    assert {message[:3] for message in stored} == {(SENDER, RECIPIENT, "SMTP")}
    headers, bodies = zip(*(message.content.split(b"\r\n\r\n", 1) for message in stored), strict=True)
    assert len({header.partition(b"Message-Id: ")[2] for header in headers}) == 1000
    [body] = set(bodies)
    assert len(body.removesuffix(b"\r\n")) == 10_000
    assert not any((serving.maildir / "tmp").iterdir())


def test_a_client_that_trusts_nobody_we_know_delivers_nothing(serving: Serving, tmp_path: Path) -> None:
    for row in ROWS:
        if row.tool == "curl" and row.mode != PLAIN and isinstance(row.command, str):
            stranger = row._replace(command=row.command.replace("--cacert {ca}", "--cacert /dev/null"))
            with pytest.raises(AssertionError, match="certificate"):
                deliver(stranger, serving, CONTENTS[0].octets, tmp_path)
    assert serving.take() == []
    serving.still_serves()
