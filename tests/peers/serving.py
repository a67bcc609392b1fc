"""A running `smtpstate serve`, seen from outside: its ports, its Maildir, its memory."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from tests.peers.programs import SECONDS, ours, smtpstate

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from ssl import SSLContext

SENDER = "sender@example.org"
RECIPIENT = "recipient@example.org"

_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+) \((STARTTLS|TLS)\)\n")
_TRACE = re.compile(
    rb"Return-Path: <([^\r\n]*)>\r\n"
    rb"Delivered-To: ([^\r\n]*)\r\n"
    rb"Received: from [^\r\n]*\r\n"
    rb"\tby mx\.example\.org with ((?:E?SMTP|LMTP|UTF8SMTP|UTF8LMTP)S?A?) id [^\r\n]*\r\n"
    rb"(?:\t[^\r\n]*\r\n)*"
    rb"\t\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n"
)


@dataclass(frozen=True)
class Certificates:
    """PEM files, and a context that trusts them."""

    ca: Path
    chain: Path
    key: Path
    server: SSLContext
    trusting: SSLContext


class Stored(NamedTuple):
    """A file of the Maildir, without the headers that `serve` puts in front of what it received."""

    sender: str
    recipient: str
    protocol: str  # RFC 3848
    content: bytes

    @staticmethod
    def parse(data: bytes) -> Stored:
        match = _TRACE.match(data)
        assert match is not None, data[:1000]
        return Stored(match[1].decode(), match[2].decode(), match[3].decode(), data[match.end() :])


class Serving:
    """The process. It is ended by its id, with SIGTERM."""

    def __init__(self, home: Path, certificates: Certificates, *options: str) -> None:
        self.home = home
        self.certificates = certificates
        self.maildir = home / "mail"
        self.log = home / "log"
        tls = ("--tls-cert", str(certificates.chain), "--tls-key", str(certificates.key))
        listen = ("--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--lmtp", "127.0.0.1:0")
        named = ("--hostname", "mx.example.org", "--deliver", f"maildir:{self.maildir}")
        command = smtpstate("serve", *listen, *tls, *named, *options)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=home,
                env=ours(home),
                text=True,
            )
        try:
            self.port, self.tls_port, self.lmtp_port = self._ports()
        except BaseException:
            self.kill()
            raise
        self._listening = self._sockets()

    def _ports(self) -> tuple[int, int, int]:
        assert self.process.stdout is not None
        ports: list[int] = []
        impatience = threading.Timer(SECONDS, self.process.kill)
        impatience.start()
        try:
            for mode in ("STARTTLS", "TLS", "STARTTLS"):
                line = self.process.stdout.readline()
                match = _LISTENING.fullmatch(line)
                assert match is not None, (line, self.log.read_text())
                assert match[2] == mode, line
                ports.append(int(match[1]))
        finally:
            impatience.cancel()
        port, tls_port, lmtp_port = ports
        return port, tls_port, lmtp_port

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        self.kill()
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def take(self) -> list[Stored]:
        """What has come since the last time; it is gone afterwards."""
        found: list[Stored] = []
        for path in (self.maildir / "new").iterdir():
            found.append(Stored.parse(path.read_bytes()))
            path.unlink()
        return found

    def still_serves(self) -> None:
        """Takes one more message, and has nothing else in the Maildir, not even half of something."""
        content = b"Subject: still there?\r\n\r\nyes\r\n"
        with smtplib.SMTP("127.0.0.1", self.port, "client.example.org", SECONDS) as client:
            assert client.sendmail(SENDER, [RECIPIENT], content) == {}
        assert self.take() == [Stored(SENDER, RECIPIENT, "ESMTP", content)]
        assert self.process.poll() is None

    def settles(self) -> None:
        """Waits until no session is left, and sees that no half message is."""
        until = monotonic() + SECONDS
        while (count := self._sockets()) > self._listening and monotonic() < until:
            os.sched_yield()
        assert count == self._listening, f"{count - self._listening} sockets are left"
        assert not any((self.maildir / "tmp").iterdir())

    def _sockets(self) -> int:
        """How many it has open: three of them listen, and the event loop has its own. 0 where there is no /proc."""
        count = 0
        if not self._proc.exists():
            return count
        for entry in (self._proc / "fd").iterdir():
            try:
                count += entry.readlink().name.startswith("socket:")
            except FileNotFoundError:  # closed meanwhile
                continue
        return count

    @contextmanager
    def grows_less_than(self, octets: int) -> Generator[None, None, None]:
        """Compares the peak of its resident memory inside the block with what it was before. Linux only."""
        try:
            (self._proc / "clear_refs").write_text("5")  # proc(5): the peak starts anew
            before = self._memory("VmRSS")
        except OSError:  # where that cannot be written: growth past the highest that it has been
            before = self._memory("VmHWM")
        yield
        grown = self._memory("VmHWM") - before
        assert grown < octets, f"grew by {grown} octets"

    @property
    def _proc(self) -> Path:
        return type(self.home)(f"/proc/{self.process.pid}")

    def _memory(self, name: str) -> int:
        for line in (self._proc / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.removesuffix("kB")) * 1024
        raise LookupError(name)
