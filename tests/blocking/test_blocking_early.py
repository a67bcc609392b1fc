"""What comes too early, and what no mail client says, over plain sockets: seen before anything leaves, and logged."""

from __future__ import annotations

import logging
import re
import socket
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from smtpstate import CloseReason, ConnectionClosed, RecipientResult, Result, Violation
from smtpstate.policy import EarlyInput, WireRules
from smtpstate_blocking import Session, connect, serving
from tests.blocking.sockets import NOTING, SECONDS, background, wire
from tests.early_reply import SURPLUS, serve_once

if TYPE_CHECKING:
    from tests.blocking.sockets import Certificates


class Held:
    """A handler that waits, before it lets a reply go, until it is told to; it keeps how each session ended."""

    def __init__(self, *, waits: bool) -> None:
        self.closed: list[ConnectionClosed] = []
        self.noted: list[frozenset[Violation]] = []
        self.go = Event()
        if not waits:
            self.go.set()

    def __call__(self, session: Session) -> None:
        for event in session:
            self.go.wait(SECONDS)
            if isinstance(event, ConnectionClosed):
                self.closed.append(event)
                self.noted.append(session.connection.noted)


def test_who_speaks_before_the_greeting_is_told_so_in_its_place(caplog: pytest.LogCaptureFixture) -> None:
    held = Held(waits=True)
    with background(serving, held, wire=WireRules()) as port, wire(port) as client:
        client.say(b"EHLO client.example")
        client.sock.shutdown(socket.SHUT_WR)
        held.go.set()
        assert client.rest() == b"554 Not synchronised: wait for the reply\r\n"
    (closed,) = held.closed
    assert (closed.violation, closed.evidence) == (Violation.EARLY_TALK, b"EHLO client.example\r\n")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.fullmatch(
        r"session \w+: EARLY_TALK from 127\.0\.0\.1:\d+: b'EHLO client\.example\\r\\n'", record.getMessage()
    )


def test_where_it_is_noted_it_is_greeted() -> None:
    assert NOTING.early_input is EarlyInput.NOTE
    held = Held(waits=True)
    with background(serving, held, wire=NOTING) as port, wire(port) as client:
        client.say(b"HELO client.example\r\nQUIT")
        held.go.set()
        assert [line[:3] for line in client.rest().splitlines()] == [b"220", b"250", b"221"]
    assert held.noted == [{Violation.EARLY_TALK, Violation.EARLY_COMMAND}]


def test_what_comes_in_a_packet_of_its_own_is_seen_before_the_reply_leaves() -> None:
    held = Held(waits=False)
    with background(serving, held, wire=WireRules()) as port, wire(port) as client:
        assert client.reply().startswith("220 ")
        held.go.clear()
        client.say(b"EHLO client.example")
        client.say(b"MAIL FROM:<a@example.com>")
        held.go.set()
        assert client.rest().splitlines()[-1][:4] == b"554 "
    assert held.closed[0].violation is Violation.EARLY_COMMAND


def test_a_request_of_http_is_cut_off_and_logged_without_what_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    with background(serving, Held(waits=False), wire=WireRules()) as port, wire(port) as client:
        assert client.reply().startswith("220 ")
        client.say(b"POST /\x1b[2J?secret HTTP/1.1\r\nHost: x\r\n\r\nEHLO x")
        assert client.rest() == b"221 2.7.0 This is for mail programs only\r\n"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith(r": b'POST /\x1b[2J?*** HTTP/1.1'")


@pytest.mark.parametrize("surplus", SURPLUS)
def test_input_that_is_there_before_mail_keeps_mail_here(certificates: Certificates, surplus: bytes) -> None:
    heard: list[bytes] = []
    opened, said = Event(), Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)

        def serve() -> None:
            heard.append(serve_once(listener, certificates.server, surplus, opened, said.set))

        thread = Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with connect(address, tls="implicit", ssl_context=certificates.trusting) as client:
            opened.set()
            assert said.wait(SECONDS)
            delivery = client.send(b"hello\r\n", sender="me@example.com", recipients=["you@example.org"])
            broken = client.closed
        thread.join(SECONDS)
    [result] = delivery
    if surplus:
        assert result == RecipientResult("you@example.org", Result.RETRY, None)
        assert broken == ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)
        assert heard == [b""], "MAIL stays here"
    else:
        assert (result.outcome, broken) == (Result.REFUSED, None)
        assert heard[0].startswith(b"MAIL FROM:<me@example.com>")
