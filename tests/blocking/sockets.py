"""What the tests of this directory share: a server in the background, a peer that speaks raw lines, and a script."""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from smtpstate import TraceLine
from smtpstate.policy import EarlyInput, WireRules
from smtpstate_blocking import BoundListener, Message, Observer, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from ssl import SSLContext

    from smtpstate import ConnectionClosed, Reply
    from smtpstate.trace import TraceRecord

NOTING = WireRules(early_input=EarlyInput.NOTE)
SECONDS = 20.0  # for a whole test; reached only when something hangs


@dataclass
class Certificates:
    server: SSLContext
    trusting: SSLContext
    suspicious: SSLContext


@dataclass
class Recorder(Observer):
    opened: list[str] = field(default_factory=list)
    lines: list[TraceLine] = field(default_factory=list)
    done: list[tuple[Reply | None, int]] = field(default_factory=list)
    closed: list[ConnectionClosed] = field(default_factory=list)
    somebody_left: Event = field(default_factory=Event)

    def session_opened(self, session: Session) -> None:
        self.opened.append(session.id)

    def trace(self, session: Session, record: TraceRecord) -> None:
        if isinstance(record, TraceLine):
            self.lines.append(record)

    def message_done(self, session: Session, message: Message, reply: Reply | None, octets: int) -> None:
        self.done.append((reply, octets))

    def session_closed(self, session: Session, closed: ConnectionClosed) -> None:
        self.closed.append(closed)
        self.somebody_left.set()


@dataclass
class Inbox:
    """An on_message that keeps everything."""

    messages: list[Message] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    lock: Any = field(default_factory=Lock)

    def __call__(self, message: Message) -> None:
        body = b"".join(message.body)
        with self.lock:
            self.messages.append(message)
            self.bodies.append(body)


@contextmanager
def background(
    serving: Callable[..., AbstractContextManager[list[BoundListener]]], *args: Any, **kwargs: Any
) -> Iterator[int]:
    """Runs a server on a free port of 127.0.0.1 and gives the port."""
    arguments = args if args[1:] else (*args, "127.0.0.1:0")
    with serving(*arguments, **{"hostname": "mx.example.org", "grace": 5.0, "wire": NOTING, **kwargs}) as bound:
        yield bound[0].port


class Wire:
    """A peer that says what it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def more(self) -> bool:
        octets = self.sock.recv(65536)
        self.buffer += octets
        return bool(octets)

    def line(self) -> bytes:
        while b"\n" not in self.buffer:
            if not self.more():
                raise EOFError(self.buffer)
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def reply(self) -> str:
        """The next reply: its code and the text of its last line."""
        while (line := self.line())[3:4] == b"-":
            pass
        return line.decode()

    def ask(self, line: bytes) -> str:
        self.say(line)
        return self.reply()

    def say(self, line: bytes) -> None:
        self.sock.sendall(line + b"\r\n")

    def rest(self) -> bytes:
        """Everything until the other side closes, or resets."""
        with suppress(ConnectionResetError):
            while self.more():
                pass
        return self.buffer

    def open(self) -> None:
        """Greeting and EHLO."""
        assert self.reply().startswith("220 ")
        assert self.ask(b"EHLO client.example").startswith("250 ")

    def to_body(self) -> None:
        """Up to the 354."""
        self.open()
        assert self.ask(b"MAIL FROM:<a@example.com>").startswith("250 ")
        assert self.ask(b"RCPT TO:<b@example.org>").startswith("250 ")
        assert self.ask(b"DATA").startswith("354 ")


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
        yield Wire(sock)


@contextmanager
def script(play: Callable[[Wire], object]) -> Iterator[str]:
    """A server for one connection, which `play` has; gives its address. What `play` raises is raised in the end."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with listener.accept()[0] as sock:
                sock.settimeout(SECONDS)
                play(Wire(sock))
        except BaseException as error:
            failures.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        thread = Thread(target=run, name="script")
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(SECONDS)
    for failure in failures:
        raise failure
