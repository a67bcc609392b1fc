"""A whole blocking driver for one connection: all that the core needs from the outside world.

python docs/examples/driver.py PORT        take one connection, print what comes, discard it
"""

import socket
import sys
import time
from collections.abc import Callable

from smtpstate import ConnectionClosed, Flow, Peer, ServerConfig, ServerConnection, ServerEvent, tls

Machine = ServerConnection | tls.SecureConnection[ServerEvent]  # the clock of either has to be time.monotonic


def drive(sock: socket.socket, machine: Machine, on_event: Callable[[ServerEvent], None]) -> ConnectionClosed:
    """Moves octets between `sock` and `machine` until it is over. Closing `sock` is left to the caller."""
    shut = False
    while True:
        event = machine.next_event()
        if isinstance(event, ConnectionClosed):
            return event
        if not isinstance(event, Flow):
            on_event(event)  # verdicts are given here; saying nothing is never a yes
            continue
        sending = False
        try:
            first = machine.reads_first and feed_arrived(sock, machine)
            while data := machine.data_to_send():
                sock.settimeout(time_left(machine))
                sending = True
                sock.sendall(data)
                sending = False
            if machine.half_close and not shut:
                shut = True
                sock.shutdown(socket.SHUT_WR)
            if event is Flow.NEED_DATA and not first:
                sock.settimeout(time_left(machine))
                octets = sock.recv(65536)
                machine.receive_data(octets) if octets else machine.receive_eof()
            elif event is Flow.WAIT:
                time.sleep(time_left(machine) or 0)
                machine.handle_timeout()
        except TimeoutError:
            machine.handle_timeout()
            if sending:  # part of a piece has left, and nothing can follow it
                machine.connection_lost()
        except OSError:
            machine.connection_lost()


def feed_arrived(sock: socket.socket, machine: Machine) -> bool:
    """Whether something was there to read without waiting."""
    sock.settimeout(0)
    try:
        octets = sock.recv(65536)
    except BlockingIOError:
        return False
    machine.receive_data(octets) if octets else machine.receive_eof()
    return True


def time_left(machine: Machine) -> float | None:
    """Seconds until the deadline; a socket takes 0 for "do not block", hence the floor."""
    return None if machine.deadline is None else max(0.001, machine.deadline - time.monotonic())


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
