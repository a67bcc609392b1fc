"""Sockets for machines: one driver for a connection, and a listener with a thread for each. No third-party package."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Final, TypeVar, final

from smtpstate import ConnectionClosed, Flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate_testing._link import Machine

_RECEIVE: Final = 65_536
_NO_LINGER: Final = struct.pack("ii", 1, 0)  # closing sends RST

_T = TypeVar("_T")


def drive(
    sock: socket.socket,
    machine: Machine[_T],
    on_event: Callable[[_T], None],
    stop: threading.Event,
) -> None:
    """Moves octets until the machine is over or `stop` is set; its clock has to be `time.monotonic`."""
    shut = False
    while not stop.is_set():
        event = machine.next_event()
        if not isinstance(event, Flow):
            on_event(event)
            if isinstance(event, ConnectionClosed):
                with suppress(OSError):
                    _drain(sock, machine)
                return
            continue
        try:
            _drain(sock, machine)
            if machine.half_close and not shut:
                shut = True
                sock.shutdown(socket.SHUT_WR)
            left = None if machine.deadline is None else max(0.0005, machine.deadline - time.monotonic())
            if event is Flow.WAIT:
                stop.wait(left)
                machine.handle_timeout()
            elif event is not Flow.NEED_FLUSH:
                sock.settimeout(left)
                data = sock.recv(_RECEIVE)
                if data:
                    machine.receive_data(data)
                else:
                    machine.receive_eof()
        except TimeoutError:
            machine.handle_timeout()
        except OSError:
            machine.connection_lost()


def _drain(sock: socket.socket, machine: Machine[_T]) -> None:
    while data := machine.data_to_send():
        sock.settimeout(None)
        sock.sendall(data)


def reset(sock: socket.socket) -> None:
    """Closes it so that the peer is told that it broke."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    sock.close()


@final
class ThreadedListener:
    """Listens on a free port of `host`, bound when this returns; `serve` gets each connection in a thread of its own.

    `close()` ends all that is open and waits for the threads; then it raises what one of them raised, if any did.
    """

    def __init__(self, host: str, serve: Callable[[socket.socket, threading.Event], None]) -> None:
        self._serve: Final = serve
        self._stop: Final = threading.Event()
        self._lock: Final = threading.Lock()
        self._open: Final[set[socket.socket]] = set()
        self._threads: Final[list[threading.Thread]] = []
        self._errors: Final[list[BaseException]] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener: Final = socket.create_server((host, 0), family=family)
        self._waker, self._alarm = socket.socketpair()
        self.port: Final[int] = self._listener.getsockname()[1]
        self._accepting: Final = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with DefaultSelector() as selector:
            selector.register(self._listener, EVENT_READ)
            selector.register(self._alarm, EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._alarm in ready:
                    return
                with suppress(OSError):
                    sock, _ = self._listener.accept()
                    thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
                    with self._lock:
                        self._open.add(sock)
                        self._threads.append(thread)
                    thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            with sock:
                self._serve(sock, self._stop)
        except Exception as error:  # the outermost frame of a thread: `close` raises it
            self._errors.append(error)
        finally:
            with self._lock:
                self._open.discard(sock)

    def close(self) -> None:
        self._stop.set()
        self._waker.send(b"x")
        self._accepting.join()
        with self._lock:
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, self._waker, self._alarm):
            sock.close()
        if self._errors:
            raise self._errors[0]
