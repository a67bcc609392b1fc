"""The gate, PROXY headers and XCLIENT where each connection has a thread."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Event, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import Connected, Limits, Peer
from smtpstate_blocking import (
    Admission,
    Gate,
    Gauge,
    Gauges,
    Listener,
    ListenerProxy,
    Message,
    Session,
    serving,
    serving_messages,
)
from tests.blocking.sockets import SECONDS, Certificates, Inbox, Recorder, Wire, background, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = ("127.0.0.0/8",)
TOO_MANY = b"421 Too many connections, try again later\r\n"  # no enhanced code in a greeting: RFC 2034 section 4
TOO_MANY_OF_YOU = b"421 Too many connections from your network, try again later\r\n"
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 25\r\n"


def behind(trusted: tuple[str, ...] = HERE, seconds: float = 20.0) -> Listener:
    proxy = ListenerProxy(1, ListenerProxy.parse(1, trusted).trusted, seconds)
    return Listener("127.0.0.1", 0, "plain", accept_any=True, proxy=proxy)


def until(gate: Gate, fits: Callable[[Gauges], bool]) -> Gauges:
    """The figures once they are such."""
    end = monotonic() + SECONDS
    while not fits(now := gate.snapshot()):
        assert monotonic() < end, now
        sleep(0.005)  # the gate knows no events
    return now


@contextmanager
def greeted(port: int, count: int = 1) -> Iterator[list[Wire]]:
    """Sessions that were greeted and stay."""
    with ExitStack() as stack:
        clients = [stack.enter_context(wire(port)) for _ in range(count)]
        for client in clients:
            assert client.reply().startswith("220 ")
        yield clients


@pytest.mark.parametrize("tls", ["plain", "starttls"])
def test_who_is_one_too_many_hears_421_in_place_of_the_greeting(
    tls: Any, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    gate, seen = Gate(Admission(connections=2, stress=False)), Recorder()
    options: Any = {"gate": gate, "observer": seen, "tls": certificates.server}
    with background(serving_messages, Inbox(), Listener("127.0.0.1", 0, tls), **options) as port:
        with greeted(port, 2) as (first, _):
            for _ in range(12):
                with wire(port) as third:
                    assert third.rest() == TOO_MANY
            assert first.ask(b"QUIT").startswith("221 ")
            first.sock.close()
            until(gate, lambda now: now.connections.current == 1)
            with greeted(port):
                assert gate.snapshot().connections.current == 2
        now = until(gate, lambda now: not now.connections.current and not now.refusals.current)
    assert (now.connections.peak, now.connections.refused, now.total) == (2, 12, 3)
    assert len(seen.opened) == 3, "nobody who is refused is a session"
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", f"too many connections: the limit is 2, {row} refused since it was reached") for row in (1, 10)
    ]


def test_the_number_of_threads_is_bounded() -> None:
    before = threading.active_count()
    with background(serving_messages, Inbox(), gate=Admission(connections=3, refusals=2)) as port, ExitStack() as stack:
        clients = [stack.enter_context(wire(port)) for _ in range(40)]
        heard = [client.line()[:3] if client.more() else b"" for client in clients]
        assert threading.active_count() <= before + 1 + 3 + 2
    assert heard.count(b"220") == 3
    assert heard.count(b"421") == 2
    assert heard.count(b"") == 35


def test_inside_tls_nothing_is_said_for_that_would_cost_a_handshake(certificates: Certificates) -> None:
    options: Any = {"gate": Admission(connections=1), "tls": certificates.server}
    serving = background(serving_messages, Inbox(), Listener("127.0.0.1", 0, "implicit"), **options)
    with serving as port, wire(port), wire(port) as second:
        assert second.rest() == b""


def test_no_more_than_so_many_are_told_at_once() -> None:
    gate = Gate(Admission(connections=1, refusals=1))
    with background(serving_messages, Inbox(), gate=gate) as port, greeted(port), wire(port) as lingers:
        assert lingers.more()
        with wire(port) as another:
            assert another.rest() == b""
        lingers.sock.close()
        until(gate, lambda now: not now.refusals.current)
    assert gate.snapshot().refusals == Gauge(limit=1, current=0, peak=1, refused=1)


def test_a_source_has_its_share_and_who_is_exempt_has_no_limit() -> None:
    gate = Gate(Admission(per_source=1, exempt=()))
    with background(serving_messages, Inbox(), gate=gate) as port, greeted(port):
        with wire(port) as second:
            assert second.rest() == TOO_MANY_OF_YOU
        with socket.create_connection(("127.0.0.1", port), SECONDS, ("127.0.0.2", 0)) as other:
            assert Wire(other).reply().startswith("220 ")
        assert gate.snapshot().per_source.refused == 1
    with background(serving_messages, Inbox(), gate=Admission(per_source=1)) as port, greeted(port, 3):
        pass


def test_a_body_too_many_is_answered_421() -> None:
    gate, inbox = Gate(Admission(bodies=1, stress=False)), Inbox()
    with background(serving_messages, inbox, accept_any=True, gate=gate) as port, ExitStack() as stack:
        one, other, third = (stack.enter_context(wire(port)) for _ in range(3))
        one.to_body()
        for client in (other, third):
            client.open()
            client.ask(b"MAIL FROM:<>")
            client.ask(b"RCPT TO:<b@example.org>")
        other.say(b"DATA")
        assert other.rest() == b"421 4.3.2 Too many messages at once, try again later\r\n"
        assert one.ask(b"hello\r\n.").startswith("250 ")
        assert third.ask(b"DATA").startswith("354 ")
    assert inbox.bodies == [b"hello\r\n"]
    assert (gate.snapshot().bodies.current, gate.snapshot().bodies.refused) == (0, 1)


class Hasty(Limits):
    """Under stress a command has a tenth of a second."""

    def under_stress(self) -> Limits:
        return replace(self, command_seconds=0.1)


def test_open_sessions_hear_of_stress_while_they_wait(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    gate = Gate(Admission(connections=3))
    with background(serving_messages, Inbox(), gate=gate, limits=Hasty()) as port:
        with greeted(port, 2) as idle, greeted(port) as [last]:  # two wait for the better part of 300 s
            for client in (*idle, last):
                assert client.rest() == b"421 4.4.2 Timeout exceeded\r\n"
        until(gate, lambda now: not now.connections.current)
    assert [one.getMessage() for one in caplog.records] == [
        "stress begins: 3 of 3 connections, 0 messages under way",
        "stress ends: 2 of 3 connections, 0 messages under way",
    ]


def test_a_handler_under_stress_has_the_time_of_stress() -> None:
    class Brief(Limits):
        def under_stress(self) -> Limits:
            return replace(self, handler_seconds=0.1)

    go, busy = Event(), Event()

    def hang(message: Message) -> None:
        busy.set()
        go.wait(SECONDS)

    gate = Gate(Admission(connections=2))
    with background(serving_messages, hang, accept_any=True, gate=gate, limits=Brief()) as port, wire(port) as client:
        client.to_body()
        busy.wait(SECONDS)
        with greeted(port):
            assert client.rest() == b"421 4.3.0 Local error in processing\r\n"
        go.set()


def test_nothing_is_left_when_the_server_ends() -> None:
    gate = Gate(Admission(connections=2, stress=False))
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        port = server.enter_context(background(serving_messages, Inbox(), gate=gate, limits=Limits(linger_seconds=0.1)))
        for _ in range(2):
            stack.enter_context(greeted(port))
        assert stack.enter_context(wire(port)).rest() == TOO_MANY
        server.close()
        now = gate.snapshot()
    assert (now.connections.current, now.refusals.current, now.sources, now.stress) == (0, 0, 0, False)


def test_a_watcher_may_look_from_another_thread_while_people_come_and_go() -> None:
    gate, over, failures = Gate(Admission(exempt=())), Event(), list[Exception]()

    def look() -> None:
        while not over.is_set():
            try:
                gate.snapshot()
            except Exception as error:
                failures.append(error)

    watcher = Thread(target=look)
    watcher.start()
    with background(serving_messages, Inbox(), gate=gate) as port:
        for last in range(2, 40):
            with socket.create_connection(("127.0.0.1", port), SECONDS, (f"127.0.0.{last}", 0)) as client:
                Wire(client).reply()
        over.set()
        watcher.join()
    assert not failures


# PROXY.


def deliver(client: Wire) -> None:
    client.to_body()
    assert client.ask(b"hello\r\n.").startswith("250 ")


@pytest.mark.parametrize("cut", [10, None])
def test_the_client_is_whom_the_header_names(cut: int | None) -> None:
    inbox, seen = Inbox(), Recorder()
    with background(serving_messages, inbox, behind(), observer=seen) as port, wire(port) as client:
        for position in range(0, len(LINE), cut or len(LINE)):
            client.sock.sendall(LINE[position : position + (cut or len(LINE))])
            sleep(0.01)
        deliver(client)
    assert [message.peer for message in inbox.messages] == [Peer("192.0.2.1", 56324)]
    assert len(seen.opened) == 1


def test_what_comes_with_the_header_is_read() -> None:
    inbox = Inbox()
    with background(serving_messages, inbox, behind()) as port, wire(port) as client:
        client.say(LINE + b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\nQUIT")
        assert client.rest().endswith(b"221 2.0.0 Bye\r\n")
    assert inbox.bodies == [b"x\r\n"]


CUT_OFF: list[Any] = [
    pytest.param(behind(("192.0.2.0/24",)), LINE, "is no trusted proxy", id="who is not trusted"),
    pytest.param(behind(), b"EHLO client.example\r\n", "does not begin like a header", id="no header"),
    pytest.param(behind(seconds=0.1), LINE[:20], "a time budget was spent", id="half a header"),
    pytest.param(behind(seconds=0.1), b"", "a time budget was spent", id="nothing"),
]


@pytest.mark.parametrize(("listener", "said", "logged"), CUT_OFF)
def test_without_a_valid_header_there_is_no_session(
    listener: Listener, said: bytes, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    seen = Recorder()
    with background(serving_messages, Inbox(), listener, observer=seen) as port, wire(port) as client:
        client.sock.sendall(said)
        assert client.rest() == b""
    [record] = caplog.records
    assert logged in record.getMessage()
    assert seen.opened == []


def test_behind_a_balancer_the_share_is_the_clients() -> None:
    gate = Gate(Admission(per_source=1))
    with background(serving_messages, Inbox(), behind(), gate=gate) as port, ExitStack() as stack:
        for number in range(3):
            client = stack.enter_context(wire(port))
            client.sock.sendall(b"PROXY TCP4 192.0.2.%d 198.51.100.7 56324 25\r\n" % number)
            assert client.reply().startswith("220 ")
        with wire(port) as again:
            again.sock.sendall(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 25\r\n")
            assert again.rest() == TOO_MANY_OF_YOU


def test_a_drain_does_not_wait_for_headers() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        port = server.enter_context(background(serving_messages, Inbox(), behind(), grace=SECONDS))
        silent = stack.enter_context(wire(port))
        silent.sock.sendall(LINE[:9])
        sleep(0.05)
        started = monotonic()
        server.close()
        assert monotonic() - started < 5
        assert silent.rest() == b""


# XCLIENT.


def test_whom_xclient_names_has_a_share_and_the_front_end_has_none() -> None:
    gate, peers = Gate(Admission(per_source=1, exempt=())), list[Peer | None]()

    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, Connected):
                peers.append(event.peer)

    listener = Listener.parse("127.0.0.1:0", "plain", xclient_from=HERE)
    with background(serving, handler, listener, gate=gate) as port, greeted(port, 3) as (first, second, third):
        for client in (first, second, third):
            client.ask(b"EHLO front.example")
        assert gate.snapshot().sources == 0
        assert second.ask(b"XCLIENT ADDR=192.0.2.9 PORT=9").startswith("220 ")
        assert gate.snapshot().sources == 1
        third.say(b"XCLIENT ADDR=192.0.2.9 PORT=10")
        assert third.rest() == TOO_MANY_OF_YOU
    assert gate.snapshot().sources == 0
    assert Peer("192.0.2.9", 9) in peers
