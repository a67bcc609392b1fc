"""A whole blocking driver for one connection: all that the core needs from the outside world.

python docs/examples/driver.py PORT        take one connection, print what comes, discard it
"""

import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from smtpstate import (
    ClientConnection,
    ClientEvent,
    ConnectionClosed,
    Flow,
    Peer,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    tls,
)
from smtpstate.delivery import Procedure, Wants

# The clock of either has to be time.monotonic.
Machine = ServerConnection | tls.SecureConnection[ServerEvent]
ClientMachine = ClientConnection | tls.SecureConnection[ClientEvent]
T = TypeVar("T")


def drive(sock: socket.socket, machine: Machine, on_event: Callable[[ServerEvent], None]) -> ConnectionClosed:
    """A server's side, until it is over. Closing `sock` is left to the caller."""
    driver = Driver(sock, machine)
    while True:
        event = machine.next_event()
        if isinstance(event, ConnectionClosed):
            driver.drain()  # TLS has a farewell to send
            return event
        if isinstance(event, Flow):
            driver.move(event)
        else:
            on_event(event)  # verdicts are given here; saying nothing is never a yes


def converse(sock: socket.socket, machine: ClientMachine, procedure: Procedure[T], body: Iterable[bytes] = ()) -> T:
    """A client's side: what `procedure` returns. Closing `sock` is left to the caller."""
    driver, chunks = Driver(sock, machine), iter(body)

    def next_event() -> ClientEvent | Flow:
        drained = False
        while isinstance(event := machine.next_event(), Flow) and not (event is Flow.NEED_COMMAND and drained):
            driver.move(event)
            drained = True
        return event

    try:
        wanted = next(procedure)
        while True:
            match wanted:
                case Wants.EVENT:
                    wanted = procedure.send(next_event())
                case Wants.CHUNK:
                    wanted = procedure.send(next(chunks, b""))
                case work:
                    wanted = procedure.send(work.run())
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        driver.drain()


class Driver:
    """Moves octets between `sock` and `machine`."""

    def __init__(self, sock: socket.socket, machine: Machine | ClientMachine) -> None:
        self.sock = sock
        self.machine = machine
        self.sending = False  # a piece is under way
        self.shut = False

    def move(self, flow: Flow) -> None:
        """Does what `flow` asks for, until the deadline at most."""
        machine = self.machine
        try:
            first = machine.reads_first and self.feed_arrived()
            self.send()
            if flow is Flow.NEED_DATA and not first:
                self.sock.settimeout(self.time_left())
                self.feed(self.sock.recv(65536))
            elif flow is Flow.WAIT:
                time.sleep(self.time_left() or 0)
                machine.handle_timeout()
        except TimeoutError:
            machine.handle_timeout()
            if self.sending:  # part of a piece has left, and nothing can follow it
                machine.connection_lost()
        except OSError:
            machine.connection_lost()

    def drain(self) -> None:
        """Sends what is left, if that can be done."""
        if not self.sending:
            self.move(Flow.NEED_FLUSH)

    def send(self) -> None:
        while data := self.machine.data_to_send():
            self.sock.settimeout(self.time_left())
            self.sending = True
            self.sock.sendall(data)
            self.sending = False
        if self.machine.half_close and not self.shut:
            self.shut = True
            self.sock.shutdown(socket.SHUT_WR)

    def feed(self, octets: bytes) -> None:
        self.machine.receive_data(octets) if octets else self.machine.receive_eof()

    def feed_arrived(self) -> bool:
        """Whether something was there to read without waiting."""
        self.sock.settimeout(0)
        try:
            octets = self.sock.recv(65536)
        except BlockingIOError:
            return False
        self.feed(octets)
        return True

    def time_left(self) -> float | None:
        """Seconds until the deadline; a socket takes 0 for "do not block", hence the floor."""
        deadline = self.machine.deadline
        return None if deadline is None else max(0.001, deadline - time.monotonic())


def main(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]} (plain)", flush=True)
        sock, (host, peer_port) = listener.accept()
    connection = ServerConnection(ServerConfig("mx.example.org"), clock=time.monotonic, peer=Peer(host, peer_port))

    def on_event(event: ServerEvent) -> None:
        print(event, flush=True)
        if connection.owed is not None:
            connection.accept()

    with sock:
        print(drive(sock, connection, on_event), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
