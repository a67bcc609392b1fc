"""docs/examples/twisted_smtp.py: as a program over loopback, and its protocols with a reactor's clock in our hands."""

from __future__ import annotations

import os
import re
import smtplib
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from docs.examples.twisted_smtp import ClientWire, ServerWire, deliver
from smtpstate import (
    ClientConnection,
    ConnectionBroken,
    Delivery,
    Limits,
    Result,
    ServerConfig,
    ServerConnection,
    TlsMode,
    TlsUnavailable,
    Transaction,
    tls,
)
from smtpstate.delivery import Envelope
from smtpstate_testing import SmtpServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = (sys.executable, str(ROOT / "docs" / "examples" / "twisted_smtp.py"))
SECONDS = 20.0  # reached only when something hangs
LETTER = b"Subject: hello\r\n\r\n.hello\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"It goes on and on.\r\n" * 45_000  # some 900 kB: no buffer of a socket holds it


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a certificate for localhost is, and whom to trust for it."""
    path = tmp_path_factory.mktemp("twisted")
    authority = trustme.CA()
    pair = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(path / "ca.pem"))
    pair.private_key_pem.write_to_path(str(path / "key.pem"))
    for blob in pair.cert_chain_pems:
        blob.write_to_path(str(path / "cert.pem"), append=True)
    return path


# All warnings are errors but one: Twisted keeps a descriptor in reserve, which is open when the program ends.
WARNINGS = "error,ignore:unclosed file <_io.TextIOWrapper name='/dev/null':ResourceWarning"


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "adapters"))), "PYTHONWARNINGS": WARNINGS}


@contextmanager
def serving(*certificate: Path) -> Iterator[tuple[int, list[str]]]:
    """The example's server: its port, and what it said, complete when this is left. It goes when it is told to."""
    said: list[str] = []
    process = subprocess.Popen(
        (*PROGRAM, "serve", "0", *certificate),
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    alarm = Timer(SECONDS, process.kill)
    alarm.start()
    try:
        assert process.stdout is not None
        listening = re.match(r"listening on 127\.0\.0\.1:(\d+) ", process.stdout.readline())
        assert listening is not None
        port = int(listening[1])
        yield port, said
        process.terminate()
        said += process.communicate()[0].splitlines()
        assert process.returncode == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), SECONDS)
    finally:
        alarm.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def send(port: int, content: bytes, *authorities: Path) -> str:
    """What the example's client prints."""
    return subprocess.run(
        (*PROGRAM, "send", str(port), "me@example.com", "you@example.org", *authorities),
        env=environment(),
        input=content,
        capture_output=True,
        timeout=SECONDS,
        check=True,
    ).stdout.decode()


def test_the_client_sends_to_the_server() -> None:
    with serving() as (port, said):
        assert send(port, LARGE).startswith("you@example.org accepted 250 ")
    assert said == [f"from me@example.com to you@example.org: {len(LARGE)} octets"]


def test_the_server_takes_from_others(room: Path) -> None:
    with serving(room / "cert.pem", room / "key.pem") as (port, said):
        with smtplib.SMTP("localhost", port, timeout=SECONDS) as client:
            client.starttls(context=ssl.create_default_context(cafile=room / "ca.pem"))
            refused = client.sendmail("", ["you@example.org", "you@example.net", "all@example.org"], LARGE)
            assert [(address, code) for address, (code, _) in refused.items()] == [("you@example.net", 550)]
            client.sendmail("me@example.com", ["you@example.org"], LETTER)
        with socket.create_connection(("127.0.0.1", port), SECONDS) as gone, gone.makefile("rb") as file:
            gone.sendall(b"EHLO client.example.com\r\n")
            assert any(line.startswith(b"250 ") for line in file)
            gone.sendall(b"MAIL FROM:<me@example.com>\r\nRCPT TO:<you@example.org>\r\n")
            gone.shutdown(socket.SHUT_WR)  # what was said before is answered
            assert [line[:4] for line in file.read().splitlines()] == [b"250 ", b"250 "]
    assert said == [
        f"from  to you@example.org, all@example.org: {len(LARGE)} octets",
        f"from me@example.com to you@example.org: {len(LETTER)} octets",
    ]


def test_the_client_sends_to_others_in_tls(room: Path) -> None:
    with SmtpServer(tls=tls.server_context(room / "cert.pem", room / "key.pem")) as server:
        assert send(server.port, LARGE, room / "ca.pem").startswith("you@example.org accepted 250 ")
    [received] = server.inbox
    assert received.data == LARGE
    assert received.tls is not None


def test_the_client_says_why_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(subprocess.CalledProcessError) as failed:
        send(port, LETTER)
    assert b"ConnectionRefusedError" in failed.value.stderr


# Time, and what a transport may do.


class Line:
    """A transport that keeps what is written until somebody takes it."""

    def __init__(self, wire: ServerWire | ClientWire) -> None:
        self.wire = wire
        self.written = b""
        self.reads = True
        self.half_closed = False
        self.closed = ""
        self.produces = False

    def write(self, data: bytes) -> None:
        assert not self.half_closed
        self.written += data

    def registerProducer(self, producer: object, streaming: bool) -> None:
        assert producer is self.wire
        assert not streaming
        self.produces = True
        self.wire.resumeProducing()

    def unregisterProducer(self) -> None:
        self.produces = False

    def pauseProducing(self) -> None:
        self.reads = False

    def resumeProducing(self) -> None:
        self.reads = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def loseConnection(self) -> None:
        assert not self.produces
        self.closed = "lost"

    def abortConnection(self) -> None:
        self.closed = "aborted"

    def take(self) -> bytes:
        """What was written leaves; then the producer is asked for more."""
        taken = b""
        while self.written:
            taken, self.written = taken + self.written, b""
            if self.produces:
                self.wire.resumeProducing()
        return taken


@pytest.fixture
def clock() -> Clock:
    return Clock()


def served(clock: Clock, kept: list[tuple[Transaction, bytes]]) -> tuple[ServerWire, Line]:
    def keep(transaction: Transaction, content: bytes) -> None:
        kept.append((transaction, content))

    connection = ServerConnection(ServerConfig("mx.example.org", Limits(unsent=600)), clock=clock.seconds)
    wire = ServerWire(connection, connection, clock, keep, clock.seconds)
    line = Line(wire)
    wire.makeConnection(line)
    return wire, line


def test_a_silent_client_is_told_421_in_time_and_no_timer_is_left(clock: Clock) -> None:
    wire, line = served(clock, [])
    assert line.take().startswith(b"220 ")
    clock.advance(299)
    assert not line.written
    clock.advance(1)
    assert line.take().startswith(b"421 4.4.2 ")
    assert (line.half_closed, line.closed) == (True, "")
    clock.advance(2)
    assert line.closed == "lost"
    wire.connectionLost()
    assert clock.getDelayedCalls() == []


def test_a_client_that_does_not_read_is_not_read_and_is_cut_off(clock: Clock) -> None:
    wire, line = served(clock, [])
    assert line.reads is False  # the greeting has not left
    clock.advance(300)
    assert line.closed == "aborted"
    wire.connectionLost()
    assert clock.getDelayedCalls() == []


def test_half_a_message_is_not_kept(clock: Clock) -> None:
    kept: list[tuple[Transaction, bytes]] = []
    wire, line = served(clock, kept)
    line.take()
    wire.dataReceived(b"EHLO client.example.com\r\n")
    line.take()
    wire.dataReceived(b"MAIL FROM:<me@example.com>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n")
    assert line.take().endswith(b"<CRLF>.<CRLF>\r\n")
    wire.dataReceived(b"hal")
    wire.dataReceived(b"f\r\nRSET\r\n")
    wire.connectionLost()
    assert kept == []
    assert clock.getDelayedCalls() == []


def sent(clock: Clock, mode: TlsMode = TlsMode.OFF) -> tuple[ClientWire, Line, list[object]]:
    client = ClientConnection("client.example.com", clock=clock.seconds)
    done: Deferred[Delivery] = Deferred()
    envelope = Envelope("me@example.com", ("you@example.org",))
    wire = ClientWire(client, clock, deliver(client, mode, envelope), iter([LETTER]), done, clock.seconds)
    line, results = Line(wire), list[object]()
    done.addBoth(results.append)
    wire.makeConnection(line)
    return wire, line, results


def test_the_client_reads_while_it_writes(clock: Clock) -> None:
    wire, line, results = sent(clock)
    for reply in (b"220 hi\r\n", b"250 mx.example.org\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go on\r\n"):
        wire.dataReceived(reply)
        if not reply.startswith(b"354"):
            line.take()
    assert line.written  # the body is on its way out
    assert line.reads
    wire.dataReceived(b"552 5.3.4 Too large\r\n")
    line.take()
    wire.connectionLost()
    [delivery] = results
    assert isinstance(delivery, Delivery)
    [result] = delivery
    assert (result.outcome, result.reply and result.reply.code) == (Result.REFUSED, 552)
    assert clock.getDelayedCalls() == []


def test_a_client_that_needs_tls_sends_nothing_without(clock: Clock) -> None:
    wire, line, results = sent(clock, TlsMode.REQUIRED)
    wire.dataReceived(b"220 hi\r\n")
    assert line.take() == b"EHLO client.example.com\r\n"
    wire.dataReceived(b"250 mx.example.org\r\n")
    assert (line.take(), line.closed) == (b"", "lost")
    [failure] = results
    assert isinstance(getattr(failure, "value", None), TlsUnavailable)
    assert clock.getDelayedCalls() == []


def test_the_client_tells_of_each_recipient(clock: Clock) -> None:
    wire, line, results = sent(clock)
    said: list[bytes] = []
    for reply in (b"220 hi", b"250 mx.example.org", b"250 OK", b"550 No", b"250 OK", b"221 Bye"):
        wire.dataReceived(reply + b"\r\n")
        said.append(line.take()[:4])
    assert said == [b"EHLO", b"MAIL", b"RCPT", b"RSET", b"QUIT", b""]
    [delivery] = results
    assert isinstance(delivery, Delivery)
    assert delivery.having(Result.REFUSED) == ("you@example.org",)
    assert line.closed == "lost"
    assert clock.getDelayedCalls() == []


def test_the_client_says_how_it_ended_without_a_greeting(clock: Clock) -> None:
    wire, line, results = sent(clock)
    clock.advance(300)
    assert line.closed == "lost"
    wire.connectionLost()
    [failure] = results
    assert isinstance(getattr(failure, "value", None), ConnectionBroken)
    assert clock.getDelayedCalls() == []
