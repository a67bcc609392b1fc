"""Clients that others wrote log in at `smtpstate serve --users`, or speak LMTP to it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.peers.programs import SECONDS, needs, ours, run, smtpstate
from tests.peers.serving import RECIPIENT, SENDER, Certificates, Stored

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

CONTENT = (
    b"From: <sender@example.org>\r\n"
    b"To: <recipient@example.org>\r\n"
    b"Date: Wed, 1 Jan 2025 00:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\n"
    b"\r\n.\r\n..x\r\n"
)
RIGHT, WRONG = "pencil", "pen"


class Login:
    """A running `serve` with one user of each scheme in a file of its own; ended by its id, with SIGTERM."""

    def __init__(self, home: Path, certificates: Certificates, scheme: str) -> None:
        self.home, self.certificates = home, certificates
        done = subprocess.run(
            smtpstate("passwd", "joe", "--scheme", scheme, "--users", str(home / "users")),
            input=RIGHT.encode(),
            env=ours(home),
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0
        listen = ("--submission", "127.0.0.1:0", "--lmtp", "127.0.0.1:0", "--hostname", "mx.example.org")
        tls = ("--tls-cert", str(certificates.chain), "--tls-key", str(certificates.key))
        users = ("--users", str(home / "users"), "--deliver", f"maildir:{home / 'mail'}")
        self.log = home / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                # A -PLUS that they do not know must not keep them out.
                smtpstate("serve", *listen, *tls, *users, "--channel-binding"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=home,
                env=ours(home),
                text=True,
            )
        assert self.process.stdout is not None
        impatience = threading.Timer(SECONDS, self.process.kill)
        impatience.start()
        try:
            lines = [self.process.stdout.readline() for _ in range(2)]
        finally:
            impatience.cancel()
        self.submission, self.lmtp = (int(line.split()[2].rpartition(":")[2]) for line in lines)

    def take(self) -> list[Stored]:
        found: list[Stored] = []
        for path in (self.home / "mail" / "new").iterdir():
            found.append(Stored.parse(path.read_bytes()))
            path.unlink()
        return found

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0
        assert "Traceback" not in self.log.read_text()
        assert RIGHT not in self.log.read_text()


@pytest.fixture(scope="module", params=["SCRAM-SHA-256", "ARGON2ID"])
def login(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Generator[Login, None, None]:
    started = Login(tmp_path_factory.mktemp("login"), certificates, request.param)
    try:
        yield started
        started.stop()
    finally:
        started.process.kill()
        started.process.wait(SECONDS)


class Row(NamedTuple):
    """A client and a mechanism. A command is split first and filled in afterwards."""

    tool: str
    mechanism: str
    command: str
    reason: str


CURL = (
    "curl -sS --max-time 30 --cacert {ca} --mail-from {sender} --mail-rcpt {recipient} --upload-file {crlf}"
    " --ssl-reqd --user joe:{password} --login-options AUTH={mechanism} smtp://127.0.0.1:{port}/client.example.org"
)
SWAKS = (
    "swaks --server 127.0.0.1 --port {port} --ehlo client.example.org --from {sender} --to {recipient} --timeout 30"
    " --tls --tls-verify --tls-ca-path {ca} --data @{wire} --no-data-fixup"
    " --auth {mechanism} --auth-user joe --auth-password {password}"
)
MSMTP = (
    "msmtp --host=127.0.0.1 --port={port} --domain=client.example.org --from={sender} --timeout=30"
    " --tls=on --tls-starttls=on --tls-trust-file={ca} --auth={mechanism} --user=joe --passwordeval={script}"
    " {recipient}"
)

ROWS = (
    Row("curl", "PLAIN", CURL, "no initial response unless it is told --sasl-ir"),
    Row("curl", "LOGIN", CURL, "answers prompts without reading them"),
    Row("swaks", "PLAIN", SWAKS, "an initial response"),
    Row("swaks", "LOGIN", SWAKS, "two prompts"),
    Row("msmtp", "plain", MSMTP, "GNU SASL's or its own"),
    Row("msmtp", "login", MSMTP, "its own"),
    Row("msmtp", "scram-sha-256", MSMTP, "GNU SASL's SCRAM: another hand wrote it, from the same RFC 7677"),
)


def attempt(row: Row, login: Login, directory: Path, password: str) -> subprocess.CompletedProcess[bytes]:
    (directory / "crlf.eml").write_bytes(CONTENT)
    (directory / "wire.eml").write_bytes(CONTENT.replace(b"\r\n.", b"\r\n..") + b".")
    (directory / "secret").write_text(f"#!/bin/sh\necho {password}\n")
    (directory / "secret").chmod(0o700)
    program, *arguments = row.command.split()
    values = {
        "sender": SENDER,
        "recipient": RECIPIENT,
        "ca": login.certificates.ca,
        "port": login.submission,
        "mechanism": row.mechanism,
        "password": password,
        "script": directory / "secret",
        "crlf": directory / "crlf.eml",
        "wire": directory / "wire.eml",
    }
    command = [needs(program), *(argument.format_map(values) for argument in arguments)]
    return run(command, stdin=CONTENT.replace(b"\r\n", b"\n"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.tool}, {row.mechanism}")
def test_a_user_gets_in_with_the_password_and_not_without(row: Row, login: Login, tmp_path: Path) -> None:
    done = attempt(row, login, tmp_path, WRONG)
    assert done.returncode != 0
    assert login.take() == []
    done = attempt(row, login, tmp_path, RIGHT)
    if row.mechanism == "scram-sha-256" and "ARGON2ID" in (login.home / "users").read_text():
        assert done.returncode != 0, "nobody can do SCRAM from an argon2 hash, so it is not offered"
        assert login.take() == []
        return
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    assert login.take() == [Stored(SENDER, RECIPIENT, "ESMTPSA", CONTENT)]


def test_swaks_is_told_530_without_a_login(login: Login) -> None:
    command = (needs("swaks"), "--server", "127.0.0.1", "--port", str(login.submission))
    done = run([*command, "--from", SENDER, "--to", RECIPIENT])
    assert b"<** 530 5.7.0 " in done.stdout
    assert login.take() == []


@pytest.mark.parametrize("tls", [[], ["--tls"]], ids=["plain", "STARTTLS"])
def test_swaks_speaks_lmtp_and_hears_a_reply_for_each_recipient(login: Login, tls: list[str]) -> None:
    recipients = f"{RECIPIENT},other@example.org,{RECIPIENT}"
    command = [needs("swaks"), "--server", "127.0.0.1", "--port", str(login.lmtp), "--protocol", "LMTP"]
    done = run([*command, *tls, "--from", SENDER, "--to", recipients])
    assert done.returncode == 0, done.stdout[-2000:]
    assert done.stdout.count(b"250 2.0.0 Message accepted as ") == 3
    [path] = (login.home / "mail" / "new").iterdir()
    stored = path.read_bytes()
    path.unlink()
    assert (b"with LMTPS id" if tls else b"with LMTP id") in stored
    assert stored.count(b"Delivered-To: ") == 3


def test_dovecot_and_we_read_each_others_lines(tmp_path: Path) -> None:
    doveadm = needs("doveadm")
    for scheme in ("SCRAM-SHA-256", "ARGON2ID"):
        ours_line = subprocess.run(
            smtpstate("passwd", "joe", "--scheme", scheme),
            input=RIGHT.encode(),
            capture_output=True,
            env=ours(tmp_path),
            timeout=SECONDS,
            check=True,
        ).stdout.decode()
        text = ours_line.strip().partition(":")[2]
        assert run([doveadm, "pw", "-t", text, "-p", RIGHT]).returncode == 0
        assert run([doveadm, "pw", "-t", text, "-p", WRONG]).returncode != 0
        theirs = run([doveadm, "pw", "-s", scheme, "-p", RIGHT]).stdout.decode().strip()
        code = (
            "import sys, anyio; from smtpstate_server._users import PasswdFile, read_line;"
            "file = PasswdFile(dict([read_line(sys.argv[1].encode(), bytes(16))]), bytes(16));"
            "print([anyio.run(file.check, 'joe', word) for word in sys.argv[2:]])"
        )
        done = run([sys.executable, "-c", code, f"joe:{theirs}", RIGHT, WRONG], home=tmp_path)
        assert done.stdout == b"[True, False]\n", done.stderr
