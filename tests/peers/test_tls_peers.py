"""openssl and curl at `smtpstate serve`, openssl at our client: who wants another protocol, or another handshake."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pytest

from tests.peers.programs import SECONDS, needs, ours, run, smtpstate

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from tests.peers.serving import Serving

HOST = "127.0.0.1"
LOOSE = ("-cipher", "ALL:@SECLEVEL=0")  # so that nothing but the other side refuses


class Typed:
    """A program that somebody types into, and what it has said."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.said = b""
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout

    def type(self, text: bytes) -> None:
        self._stdin.write(text)
        self._stdin.flush()

    def until(self, what: bytes) -> None:
        """Reads on until it has said that."""
        while what not in self.said:
            assert self._read(), self.said

    def rest(self) -> bytes:
        """All that it says until it ends."""
        while self._read():
            pass
        return self.said

    def _read(self) -> bool:
        found = os.read(self._stdout.fileno(), 65_536)
        self.said += found
        return found != b""


@contextmanager
def typing(command: Sequence[str]) -> Generator[Typed, None, None]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        impatience = threading.Timer(SECONDS, process.kill)
        impatience.start()
        try:
            yield Typed(process)
        finally:
            impatience.cancel()
            process.kill()


def s_client(port: int, *options: str) -> list[str]:
    return [needs("openssl"), "s_client", "-connect", f"{HOST}:{port}", *options]


@pytest.mark.parametrize("starttls", [False, True], ids=["implicit", "starttls"])
def test_a_client_that_wants_to_renegotiate_is_refused(serving: Serving, starttls: bool) -> None:
    """An R at the start of a line tells s_client to ask; no_renegotiation is the answer, and it gives up."""
    how = ("-starttls", "smtp") if starttls else ()
    with typing(s_client(serving.port if starttls else serving.tls_port, "-tls1_2", *how)) as client:
        client.until(b"250 " if starttls else b"220 ")
        client.type(b"R\n")
        assert b"no renegotiation" in client.rest()
        assert b"RENEGOTIATING" in client.said
    serving.still_serves()


def test_a_server_that_wants_to_renegotiate_is_refused(serving: Serving, tmp_path: Path) -> None:
    """The server here is s_server, and somebody who types what a mail server says."""
    files = serving.certificates
    options = ["-accept", f"{HOST}:0", "-tls1_2", "-crlf", "-cert", str(files.chain), "-key", str(files.key)]
    with typing([needs("openssl"), "s_server", *options]) as server:
        server.until(b"ACCEPT")
        server.until(b"\n")
        match = re.search(rb"ACCEPT \S+:(\d+)\n", server.said)
        assert match is not None, server.said
        to = ("--server", f"{HOST}:{match[1].decode()}", "--from", "a@example.com", "--to", "b@example.org")
        letter = tmp_path / "letter"
        letter.write_bytes(b"Subject: hello\r\n\r\nhello\r\n")
        send = smtpstate("send", *to, "--tls", "implicit", "--ca", str(files.ca), str(letter))
        with subprocess.Popen(send, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ours(tmp_path)) as client:
            try:
                server.until(b"Secure Renegotiation IS supported")
                server.type(b"220 mx.example.org ESMTP\n")
                server.until(b"EHLO ")
                server.type(b"R\n")
                server.until(b"no renegotiation")
                out, _ = client.communicate(timeout=SECONDS)
            finally:
                client.kill()
    assert out.startswith(b"b@example.org retry"), out
    assert b"MAIL FROM" not in server.said


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_that_are_out_of_date_are_refused(serving: Serving, version: str) -> None:
    done = run(s_client(serving.tls_port, version, *LOOSE, "-brief"))
    assert done.returncode != 0
    assert b"alert protocol version" in done.stderr


@pytest.mark.parametrize("cipher", ["AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA"])
def test_ciphers_that_are_out_of_date_are_refused(serving: Serving, cipher: str) -> None:
    done = run(s_client(serving.tls_port, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0", "-brief"))
    assert done.returncode != 0
    assert b"alert handshake failure" in done.stderr


ALPN = [
    pytest.param(("-alpn", "h2"), False, id="h2"),
    pytest.param(("-alpn", "http/1.1,h2"), False, id="HTTP, old and new"),
    pytest.param(("-alpn", "smtp"), True, id="smtp"),
    pytest.param(("-alpn", "h2,smtp"), True, id="smtp among others"),
    pytest.param((), True, id="none"),
]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("starttls", [False, True], ids=["implicit", "starttls"])
@pytest.mark.parametrize(("offer", "welcome"), ALPN)
def test_who_offers_other_protocols_and_not_smtp_gets_the_alert(
    serving: Serving, offer: tuple[str, ...], welcome: bool, starttls: bool, version: str
) -> None:
    how = ("-starttls", "smtp") if starttls else ()
    command = s_client(serving.port if starttls else serving.tls_port, version, *offer, *how)
    with typing(command) as client:
        if welcome:
            client.until(b"250 " if starttls else b"220 ")
            client.type(b"Q\n")
        said = client.rest()
    assert (b"alert no application protocol" in said) is not welcome
    assert (b"ALPN protocol: smtp" in said) is (welcome and offer != ())


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed_at_the_listener_where_it_began_and_nowhere_else(
    serving: Serving, version: str, tmp_path: Path
) -> None:
    ticket = str(tmp_path / "ticket")

    def meet(port: int, *options: str) -> str:
        """Whether s_client says New or Reused."""
        how = ("-starttls", "smtp") if port == serving.port else ()
        with typing(s_client(port, version, "-CAfile", str(serving.certificates.ca), *how, *options)) as client:
            client.until(b"250 " if how else b"220 ")  # under TLS 1.3 the ticket has come by then
            client.type(b"Q\n")
            [word] = set(re.findall(rb"^(New|Reused), ", client.rest(), re.MULTILINE))
        return str(word, "ascii")

    assert meet(serving.tls_port, "-sess_out", ticket) == "New"
    assert meet(serving.tls_port, "-sess_in", ticket) == "Reused"
    assert meet(serving.port, "-sess_in", ticket) == "New"


SECRET = "a1b2c3d4e5f6"
METHODS = [
    pytest.param((), id="GET"),
    pytest.param(("--head",), id="HEAD"),
    pytest.param(("--data-binary", f"EHLO x\r\nMAIL FROM:<{SECRET}@example.org>\r\n{SECRET}\r\nQUIT\r\n"), id="POST"),
]


def by_curl(serving: Serving, where: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """curl, told to show whatever comes back, even if no HTTP is in it."""
    secrets = ("--cookie", f"session={SECRET}", "--referer", f"http://x.example/{SECRET}", "--user-agent", SECRET)
    url = f"{where}/{SECRET}?{SECRET}"
    always = ("--silent", "--show-error", "--http1.1", "--http0.9", "--insecure", "--max-time", "2")
    return run([needs("curl"), *always, *secrets, *options, url])


@pytest.mark.parametrize("options", METHODS)
@pytest.mark.parametrize("clear", [False, True], ids=["https", "http"])
def test_a_request_at_the_tls_port_gets_no_octet_back(serving: Serving, options: tuple[str, ...], clear: bool) -> None:
    done = by_curl(serving, f"{'http' if clear else 'https'}://{HOST}:{serving.tls_port}", *options)
    # 35: the handshake was refused; 52: the connection was closed without an answer.
    assert (done.returncode, done.stdout) == (52 if clear else 35, b"")
    assert SECRET.encode() not in done.stderr
    serving.settles()
    assert serving.take() == []


@pytest.mark.parametrize("options", METHODS)
@pytest.mark.parametrize("where", ["plain", "TLS without ALPN"])
def test_a_request_that_gets_in_learns_nothing(serving: Serving, options: tuple[str, ...], where: str) -> None:
    if where == "plain":
        done = by_curl(serving, f"http://{HOST}:{serving.port}", *options)
    else:
        done = by_curl(serving, f"https://{HOST}:{serving.tls_port}", "--no-alpn", *options)
    assert SECRET.encode() not in done.stdout + done.stderr
    assert serving.take() == []
    assert done.returncode != 28  # the server closed: curl did not have to give up
