"""serve and serving: the events of a session, what its handler does to it, threads, and the drain."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import (
    Body,
    CloseReason,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Limits,
    LocalProtocolError,
    Rcpt,
    Reply,
    ServerEvent,
    Timer,
    TraceLine,
    Vrfy,
)
from smtpstate_blocking import (
    Listener,
    Message,
    Session,
    serve,
    serve_messages,
    serving,
    serving_messages,
)
from tests.blocking.sockets import SECONDS, Certificates, Inbox, Recorder, Wire, background, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate.trace import TraceRecord


ROOT = Path(__file__).parents[2]


def accept_all(session: Session) -> None:
    for event in session:
        if isinstance(event, Rcpt | EndOfMessage):
            session.accept()


def test_a_handler_sees_the_events_and_ends_with_the_connection() -> None:
    events: list[ServerEvent] = []

    def handler(session: Session) -> None:
        for event in session:
            events.append(event)
            if isinstance(event, Rcpt | EndOfMessage):
                session.accept()
        with pytest.raises(StopIteration):
            next(session)

    with background(serving, handler) as port, wire(port) as client:
        client.to_body()
        client.ask(b"x\r\n.")
        client.ask(b"QUIT")
        client.rest()
    assert [type(event) for event in events if isinstance(event, Connected | Data | Body | EndOfMessage)] == [
        Connected,
        Data,
        Body,
        EndOfMessage,
    ]
    assert events[-1] == ConnectionClosed(CloseReason.QUIT)


def test_the_last_reply_is_followed_by_the_end_at_once() -> None:
    linger = Limits(linger_seconds=100 * SECONDS)
    with background(serving, accept_all, limits=linger) as port, wire(port) as client:
        client.open()
        assert client.ask(b"QUIT") == "221 2.0.0 Bye"
        assert client.rest() == b"", "the write side is shut down while the linger has hardly begun"


def test_vrfy_and_expn_are_the_handlers_where_it_wants_them() -> None:
    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, Vrfy | Expn) and session.owed is event:
                session.reply(Reply(250, f"<{event.text}@example.org>", enhanced="2.1.5"))

    with background(serving, handler, asks_vrfy=True, asks_expn=True) as port, wire(port) as client:
        client.open()
        assert client.ask(b"VRFY joe") == "250 2.1.5 <joe@example.org>"
        assert client.ask(b"EXPN all") == "250 2.1.5 <all@example.org>"
    with background(serving, handler) as port, wire(port) as client:
        client.open()
        assert client.ask(b"VRFY joe").startswith("252 ")
        assert client.ask(b"EXPN all").startswith("502 ")


def test_silence_takes_no_message() -> None:
    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, Rcpt):
                session.accept()

    with background(serving, handler) as port, wire(port) as client:
        client.to_body()
        assert client.ask(b".") == "451 4.3.0 Local error in processing"


def test_a_handler_that_returns_early_closes_with_421() -> None:
    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, Ehlo):
                return

    with background(serving, handler) as port, wire(port) as client:
        client.reply()
        client.say(b"EHLO client.example")
        assert client.rest() == b"421 Service shutting down\r\n"


def test_a_handler_that_closes_in_its_own_words() -> None:
    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, Ehlo):
                session.close(Reply(521, "Not you", enhanced="5.3.2"))

    with background(serving, handler) as port, wire(port) as client:
        client.reply()
        client.say(b"EHLO client.example")
        assert client.rest() == b"521 Not you\r\n"


CRASHES = [
    pytest.param(Connected, b"421 Local error in processing\r\n", id="a greeting is no place for 451"),
    pytest.param(
        Rcpt,
        b"451 4.3.0 Local error in processing\r\n421 4.3.0 Local error in processing\r\n",
        id="what is owed gets its 451, and without a handler the session cannot go on",
    ),
    pytest.param(Body, b"421 4.3.0 Local error in processing\r\n", id="nothing is owed inside a body"),
]


@pytest.mark.parametrize(("kind", "said"), CRASHES)
def test_a_handler_that_raises_leaves_one_record_and_a_reply(
    kind: type, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, kind):
                raise ZeroDivisionError
            if isinstance(event, Rcpt):
                session.accept()

    with background(serving, handler) as port:
        for _ in range(2):  # and the next session is none the wiser
            with wire(port) as client:
                client.say(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx")
                assert client.rest().endswith(said)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_a_mistake_in_a_handler_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, Ehlo):
                session.accept("two\r\nlines")

    with background(serving, handler) as port, wire(port) as client:
        client.reply()
        client.say(b"EHLO client.example")
        assert client.rest().startswith(b"451 ")
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[0] is LocalProtocolError


def test_a_client_that_vanishes_while_the_handler_thinks_is_noticed_after_it() -> None:
    thinking, go_on = Event(), Event()
    taken: list[Message] = []

    def think(message: Message) -> None:
        list(message.body)
        thinking.set()
        go_on.wait(SECONDS)
        taken.append(message)

    seen = Recorder()
    with background(serving_messages, think, accept_any=True, observer=seen) as port:
        with wire(port) as client:
            client.to_body()
            client.say(b"x\r\n.")
            thinking.wait(SECONDS)
        go_on.set()
        seen.somebody_left.wait(SECONDS)
        with wire(port) as client:
            client.to_body()
    assert len(taken) == 1
    assert seen.closed[0].reason in (CloseReason.EOF, CloseReason.LOST)


def test_an_observer_hears_everything_and_one_that_fails_ends_its_session_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Recorder):
        def session_opened(self, session: Session) -> None:
            super().session_opened(session)
            if len(self.opened) == 1:
                raise ZeroDivisionError

    seen = Broken()
    with background(serving_messages, Inbox(), accept_any=True, observer=seen) as port:
        with wire(port) as client:
            assert client.rest() == b""
        with wire(port) as client:
            client.to_body()
            assert client.ask(b"x\r\n.").startswith("250 ")
            client.ask(b"QUIT")
            client.rest()
    assert len(caplog.records) == 1
    assert [octets for _, octets in seen.done] == [3]
    assert [closed.reason for closed in seen.closed] == [CloseReason.QUIT]
    assert seen.lines[0].line == b"220 mx.example.org ESMTP\r\n"


# Time.


def test_a_silent_client_is_told_421_and_closed() -> None:
    seen = Recorder()
    limits = Limits(command_seconds=0.1, linger_seconds=0.1)
    with background(serving, accept_all, limits=limits, observer=seen) as port, wire(port) as client:
        assert client.rest().endswith(b"421 4.4.2 Timeout exceeded\r\n")
        assert seen.somebody_left.wait(SECONDS)  # the client never closes, and yet
    assert seen.closed == [ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)]


def test_a_client_that_never_reads_is_cut_off() -> None:
    seen = Recorder()
    limits = Limits(command_seconds=0.3, linger_seconds=0.1, errors=10**9, junk=10**9, commands=10**9)
    with background(serving, accept_all, limits=limits, observer=seen) as port, wire(port) as client:
        with suppress(ConnectionError):
            while True:
                client.say(b"HELP\r\n" * 10_000)
        assert seen.somebody_left.wait(SECONDS)
    assert seen.closed[0].reason is CloseReason.TIMEOUT


@pytest.mark.parametrize("in_body", [False, True], ids=["a command", "a body"])
@pytest.mark.parametrize("listens", ["plain", "starttls", "implicit"])
def test_a_client_that_drips_is_cut(listens: Any, certificates: Certificates, *, in_body: bool) -> None:
    seconds = 0.5
    limits = Limits(command_seconds=seconds, body_seconds=seconds, block_seconds=seconds, body_rate=100.0)
    listener = Listener("127.0.0.1", 0, listens)
    tls = None if listens == "plain" else certificates.server
    with background(serving, accept_all, listener, tls=tls, limits=limits) as port, wire(port) as client:
        if listens == "starttls":
            client.open()
            client.ask(b"STARTTLS")
        if listens != "plain":
            client = Wire(certificates.trusting.wrap_socket(client.sock, server_hostname="localhost"))
        if listens != "starttls":
            client.reply()
        with client.sock:
            client.ask(b"EHLO client.example")
            if in_body:
                for line in (b"MAIL FROM:<>", b"RCPT TO:<b@example.org>", b"DATA"):
                    client.ask(line)
            started = monotonic()
            client.sock.settimeout(0.03)
            while monotonic() < started + SECONDS:
                try:
                    client.sock.sendall(b"x")
                    if not client.more():
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
    assert seconds * 0.9 < monotonic() - started < seconds + 3
    assert client.buffer == b"421 4.4.2 Timeout exceeded\r\n"


HANGS = [
    pytest.param(Rcpt, [b"250", b"451", b"421"], id="while a verdict is owed"),
    pytest.param(Body, [b"250", b"250", b"354", b"421"], id="inside a body"),
]


@pytest.mark.parametrize(("kind", "said"), HANGS)
def test_a_handler_that_is_late_cannot_say_yes_any_more(
    kind: type, said: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    go_on, returned = Event(), Event()
    late: list[object] = []

    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, kind):
                go_on.wait(SECONDS)
                if isinstance(event, Rcpt):
                    late.append(session.accept())
            elif isinstance(event, Rcpt):
                session.accept()
        late.append(session.closed)
        returned.set()

    limits = Limits(handler_seconds=0.2, linger_seconds=0.1)
    with background(serving, handler, limits=limits) as port, wire(port) as client:
        client.open()
        client.say(b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx")
        replies = client.rest()  # the peer hears it while the handler's thread is still busy
        assert [line[:3] for line in replies.splitlines()] == said
        assert not returned.is_set()
        go_on.set()
        assert returned.wait(SECONDS)
    assert [type(item) for item in late] == [*([bool] if kind is Rcpt else []), ConnectionClosed]
    assert False in late or kind is Body
    [record] = caplog.records
    assert record.getMessage().endswith("the handler took too long, and its connection was closed")


def test_a_handler_is_in_time_however_long_the_client_takes() -> None:
    limits = Limits(handler_seconds=0.3)
    with background(serving, accept_all, limits=limits) as port, wire(port) as client:
        client.to_body()
        client.sock.settimeout(0.8)
        with pytest.raises(TimeoutError):
            client.more()
        client.sock.settimeout(SECONDS)
        assert client.ask(b"x\r\n.").startswith("250 ")


def test_an_observer_that_fails_while_the_server_answers_for_a_late_handler_costs_that_session_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on = Event()

    class Broken(Recorder):
        def trace(self, session: Session, record: TraceRecord) -> None:
            if isinstance(record, TraceLine) and record.line.startswith(b"451 "):
                raise ZeroDivisionError

    def handler(session: Session) -> None:
        for event in session:
            if isinstance(event, Rcpt):
                go_on.wait(SECONDS)

    limits = Limits(handler_seconds=0.1, linger_seconds=0.1)
    with background(serving, handler, limits=limits, observer=Broken()) as port:
        with wire(port) as client:
            client.open()
            client.say(b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>")
            client.rest()
        with wire(port) as client:
            client.open()
        go_on.set()
    assert len(caplog.records) == 2


# Threads.


def test_a_hundred_sessions_at_once() -> None:
    inbox = Inbox()

    def deliver(port: int) -> None:
        with wire(port) as client:
            client.to_body()
            assert client.ask(b"x\r\n.").startswith("250 ")
            client.ask(b"QUIT")

    with background(serving_messages, inbox, accept_any=True) as port:
        threads = [Thread(target=deliver, args=(port,)) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(inbox.bodies) == len({message.id for message in inbox.messages}) == 100


def test_a_thread_ends_with_its_connection() -> None:
    with background(serving, accept_all) as port:
        before = threading.active_count()
        for _ in range(20):
            with wire(port) as client:
                client.open()
                client.ask(b"QUIT")
                client.rest()
        with wire(port) as client:
            client.open()
            assert threading.active_count() <= before + 2  # ours, and one that is about to end


def test_a_system_without_threads_turns_people_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = Thread.start

    def fail(self: Thread) -> None:
        if self.name.startswith("smtpstate with"):
            raise RuntimeError("can't start new thread")
        start(self)

    with background(serving, accept_all) as port:
        with monkeypatch.context() as patched:
            patched.setattr(Thread, "start", fail)
            with wire(port) as client:
                assert client.rest() == b""
        with wire(port) as client:
            client.open()
    assert "no thread for 127.0.0.1" in caplog.records[0].getMessage()


# Listening.


def test_running_out_of_descriptors_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept, failures = socket.socket.accept, [errno.EMFILE, errno.EMFILE, errno.ECONNABORTED]

    def exhausted(self: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "no")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", exhausted)
    with background(serving, accept_all) as port, wire(port) as client:
        client.open()
    assert [record.getMessage() for record in caplog.records] == [
        f"no connection can be accepted on 127.0.0.1:{port}: [Errno 24] no"
    ]


def test_a_busy_port_is_an_oserror() -> None:
    with background(serving, accept_all) as port, pytest.raises(OSError, match=r".") as caught:
        serve(accept_all, "127.0.0.1:0", f"127.0.0.1:{port}", hostname="mx.example.org")
    assert caught.value.errno == errno.EADDRINUSE


NONSENSE: list[Any] = [
    pytest.param(["127.0.0.1"], {}, id="no port"),
    pytest.param([], {}, id="no address"),
    pytest.param([Listener("127.0.0.1", 0, "implicit")], {}, id="TLS without a context"),
    pytest.param([Listener("127.0.0.1", 0, service="submission")], {}, id="submission without users"),
]


@pytest.mark.parametrize(("listen", "options"), NONSENSE)
def test_nonsense_is_a_valueerror(listen: list[Any], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        serve(accept_all, *listen, hostname="mx.example.org", **options)


def test_every_address_is_one_for_each_family() -> None:
    with serving(accept_all, ":0", hostname="mx.example.org") as bound:
        assert {"0.0.0.0", "::"} >= {one.host for one in bound} >= {"0.0.0.0"}
        with wire(next(one.port for one in bound if one.host == "0.0.0.0")) as client:
            client.open()


# The end.


class Impatient:
    """A grace that somebody interrupts."""

    def __radd__(self, other: object) -> float:
        raise KeyboardInterrupt


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.mark.parametrize("whole", [False, True], ids=["serve", "serve_messages"])
def test_serve_runs_until_it_is_told_to_stop(*, whole: bool) -> None:
    run: Callable[..., None] = serve_messages if whole else serve
    port, stop = free_port(), Event()
    listen = Inbox() if whole else accept_all, f"127.0.0.1:{port}"
    thread = Thread(target=run, args=listen, kwargs={"stop": stop, "hostname": "mx.example.org"})
    thread.start()
    with patiently(port) as client:
        Wire(client).open()
    stop.set()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_a_drain_tells_idle_sessions_and_lets_busy_ones_finish() -> None:
    inbox = Inbox()
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        port = server.enter_context(background(serving_messages, inbox, accept_any=True, grace=SECONDS))
        idle, busy = stack.enter_context(wire(port)), stack.enter_context(wire(port))
        idle.open()
        busy.to_body()
        ending = Thread(target=server.close)
        ending.start()
        assert idle.reply() == "421 4.3.2 Service shutting down"
        with pytest.raises(ConnectionError), wire(port):
            raise AssertionError
        assert busy.ask(b"x\r\n.").startswith("250 ")
        assert busy.rest() == b"421 4.3.2 Service shutting down\r\n"
        ending.join(SECONDS)
        assert not ending.is_alive()
    assert inbox.bodies == [b"x\r\n"]


def test_a_drain_in_tls_says_421_and_close_notify(certificates: Certificates) -> None:
    listener = Listener("127.0.0.1", 0, "implicit")
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        port = server.enter_context(background(serving, accept_all, listener, tls=certificates.server))
        plain = stack.enter_context(wire(port))
        sock = certificates.trusting.wrap_socket(plain.sock, server_hostname="localhost", suppress_ragged_eofs=False)
        client = Wire(stack.enter_context(sock))
        client.open()
        ending = Thread(target=server.close)
        ending.start()
        assert client.rest() == b"421 4.3.2 Service shutting down\r\n"  # and no SSLEOFError
        sock.close()
        ending.join(SECONDS)
        assert not ending.is_alive()


def test_grace_ends_and_the_rest_is_cut_off() -> None:
    limits = Limits(linger_seconds=0.1)
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        port = server.enter_context(background(serving_messages, Inbox(), accept_any=True, grace=0.2, limits=limits))
        busy = stack.enter_context(wire(port))
        busy.to_body()
        started = monotonic()
        server.close()
        assert monotonic() - started < 5
        assert busy.rest() == b"421 4.3.2 Service shutting down\r\n"


def test_a_handler_that_never_returns_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    go_on, stuck = Event(), Event()
    threads: list[Thread] = []

    def hang(message: Message) -> None:
        threads.append(threading.current_thread())
        stuck.set()
        go_on.wait(SECONDS)

    limits = Limits(linger_seconds=0.1)
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        port = server.enter_context(background(serving_messages, hang, accept_any=True, grace=0.2, limits=limits))
        client = stack.enter_context(wire(port))
        client.to_body()
        assert stuck.wait(SECONDS)
        server.close()
        assert client.rest() == b"421 4.3.2 Service shutting down\r\n"
    assert threads[0].daemon
    assert threads[0].is_alive()
    assert "left behind" in caplog.records[-1].getMessage()
    go_on.set()
    threads[0].join(SECONDS)
    assert len(caplog.records) == 1


def test_an_interrupt_of_the_drain_does_not_wait_for_handlers(caplog: pytest.LogCaptureFixture) -> None:
    go_on, busy = Event(), Event()

    def hang(message: Message) -> None:
        busy.set()
        go_on.wait(SECONDS)

    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        port = server.enter_context(background(serving_messages, hang, accept_any=True, grace=Impatient()))
        client = stack.enter_context(wire(port))
        client.to_body()
        assert busy.wait(SECONDS)
        started = monotonic()
        with pytest.raises(KeyboardInterrupt):
            server.close()
        assert monotonic() - started < 5
        client.rest()
        [thread] = [one for one in threading.enumerate() if one.name.startswith("smtpstate with")]
        go_on.set()
        thread.join(SECONDS)
    assert "left behind" in caplog.records[0].getMessage()


def test_an_interrupt_of_the_drain_leaves_nothing_open() -> None:
    """A second Ctrl-C: whatever is raised while the drain waits."""

    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        port = server.enter_context(background(serving_messages, Inbox(), accept_any=True, grace=Impatient()))
        busy = stack.enter_context(wire(port))
        busy.to_body()
        with pytest.raises(KeyboardInterrupt):
            server.close()
        busy.rest()
    with pytest.raises(ConnectionError), wire(port):
        raise AssertionError


def patiently(port: int) -> socket.socket:
    """A connection to a server that is about to listen."""
    end = monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), SECONDS)
        except ConnectionError:
            assert monotonic() < end


PROGRAM = """
import sys
from smtpstate_blocking import Observer, serve_messages

class Told(Observer):
    def session_opened(self, session):
        print("opened", flush=True)

    def session_closed(self, session, closed):
        print(closed.reason.name, flush=True)

try:
    serve_messages(print, "127.0.0.1:" + sys.argv[1], hostname="mx.example.org", observer=Told())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_drains() -> None:
    port = free_port()
    paths = os.pathsep.join((str(ROOT), str(ROOT / "adapters")))
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", PROGRAM, str(port)]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        with patiently(port) as client:
            peer = Wire(client)
            peer.open()
            process.send_signal(signal.SIGINT)
            assert peer.rest() == b"421 4.3.2 Service shutting down\r\n"
        output, _ = process.communicate(timeout=SECONDS)
    assert output == "opened\nCLOSED\ninterrupted\n"
    assert process.returncode == 0
