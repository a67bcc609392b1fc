"""check_driver: whether a driver of anybody's moves octets as the core needs it."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate import ClientConnection, ClientEvent, Peer, ServerConnection, ServerEvent
from smtpstate_testing._core_scenarios import CORE
from smtpstate_testing._scenario import CLIENT, HOSTNAME, Host, check_client, check_server, whole_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from smtpstate import Clock
    from smtpstate.delivery import Procedure
    from smtpstate.tls import SecureConnection
    from smtpstate_testing._scenario import Mode, Scenario

# What a driver has to offer: see `check_driver`.
OnEvent: TypeAlias = "Callable[[ServerEvent], None]"
ServerMachine: TypeAlias = "ServerConnection | SecureConnection[ServerEvent]"
ClientMachine: TypeAlias = "ClientConnection | SecureConnection[ClientEvent]"
Serve: TypeAlias = "Callable[[socket.socket, ServerMachine, OnEvent], object]"
Connect: TypeAlias = "Callable[[socket.socket, ClientMachine, Procedure[list[str]]], list[str]]"
AsyncServe: TypeAlias = "Callable[[socket.socket, ServerMachine, OnEvent], Awaitable[object]]"
AsyncConnect: TypeAlias = "Callable[[socket.socket, ClientMachine, Procedure[list[str]]], Awaitable[list[str]]]"

PATIENCE: Final = 20.0  # seconds; reached only when something hangs


def check_driver(
    *,
    serve: Serve | None = None,
    connect: Connect | None = None,
    clock: Clock = time.monotonic,
    patience: float = PATIENCE,
) -> None:
    """Plays the core of the conformance list with a driver of yours, over loopback sockets, in clear text and in TLS.

    `serve(sock, machine, on_event)` moves octets between a connected socket and a server's machine until its
    `ConnectionClosed`, and calls `on_event` for each event before that. `connect(sock, machine, procedure)` does so for
    a client: it gives the procedure each event that it wants, and `Flow.NEED_COMMAND` when everything is written and
    nothing outstanding, and returns what the procedure returns. Neither has to close the socket. Leave one out if you
    have only the other. `clock` is the one that your driver keeps time by; the machines have it, too. The other side of
    each dialogue runs in a thread, and takes `patience`, in seconds, of silence for a driver that hangs.

    Raises AssertionError, with a note that names the scenario, where the driver was wrong, and what the driver raises.
    """
    for scenario, mode in _cases():
        if serve is not None and "server" in scenario.seats:
            with _under_test(scenario, mode, "server", patience) as sock:
                seat = ServerSeat(scenario, mode, clock)
                serve(sock, seat.machine, seat.on_event)
            with _noting(scenario, mode, "server"):
                seat.check()
        if connect is not None and "client" in scenario.seats:
            with _under_test(scenario, mode, "client", patience) as sock:
                client = ClientSeat(scenario, mode, clock)
                told = connect(sock, client.machine, client.procedure)
            with _noting(scenario, mode, "client"):
                client.check(told)


async def check_async_driver(
    *,
    serve: AsyncServe | None = None,
    connect: AsyncConnect | None = None,
    clock: Clock = time.monotonic,
    patience: float = PATIENCE,
) -> None:
    """`check_driver` for a driver whose functions are coroutines, on whatever event loop this runs.

    `clock` is the loop's: `asyncio.get_running_loop().time`, `trio.current_time`, `anyio.current_time`. The socket is
    an ordinary one, connected; whoever takes it over for a stream of its own closes that. Raises what `check_driver`
    does.
    """
    for scenario, mode in _cases():
        if serve is not None and "server" in scenario.seats:
            with _under_test(scenario, mode, "server", patience) as sock:
                seat = ServerSeat(scenario, mode, clock)
                await serve(sock, seat.machine, seat.on_event)
            with _noting(scenario, mode, "server"):
                seat.check()
        if connect is not None and "client" in scenario.seats:
            with _under_test(scenario, mode, "client", patience) as sock:
                client = ClientSeat(scenario, mode, clock)
                told = await connect(sock, client.machine, client.procedure)
            with _noting(scenario, mode, "client"):
                client.check(told)


def _cases() -> Iterator[tuple[Scenario, Mode]]:
    return ((scenario, mode) for scenario in CORE for mode in scenario.modes)


@final
class ServerSeat:
    """A server's machine for one scenario, and what it did."""

    def __init__(self, scenario: Scenario, mode: Mode, clock: Clock) -> None:
        # Who tests something else needs neither ssl nor trustme.
        from smtpstate.tls import secure
        from smtpstate_testing._certificates import server_context

        self.connection: Final = ServerConnection(
            scenario.server_config(mode), clock=clock, peer=Peer("127.0.0.1"), implicit_tls=mode == "implicit"
        )
        self.machine: Final[ServerMachine] = (
            self.connection if mode == "plain" else secure(self.connection, server_context(HOSTNAME))
        )
        self._scenario: Final = scenario
        self._host: Final = Host(scenario)

    def on_event(self, event: ServerEvent) -> None:
        """What a driver calls."""
        self._host.on_event(self.connection, event)
        self._host.log_in(self.connection, event)

    def check(self) -> None:
        """Raises AssertionError."""
        check_server(self._scenario, self._host, self.connection.closed)


@final
class ClientSeat:
    """A client's machine for one scenario, and what it does."""

    def __init__(self, scenario: Scenario, mode: Mode, clock: Clock) -> None:
        from smtpstate.tls import secure
        from smtpstate_testing._certificates import client_context

        self.connection: Final = ClientConnection(
            CLIENT,
            clock=clock,
            limits=scenario.limits,
            implicit_tls=mode == "implicit",
            timeout=scenario.timeout,
            lmtp=scenario.config.lmtp,
        )
        self.machine: Final[ClientMachine] = (
            self.connection if mode == "plain" else secure(self.connection, client_context(), server_hostname=HOSTNAME)
        )
        self.procedure: Final = whole_session(self.connection, scenario, mode)
        self._scenario: Final = scenario

    def check(self, told: list[str]) -> None:
        """Raises AssertionError."""
        check_client(self._scenario, told, self.connection.closed)


@contextmanager
def _noting(scenario: Scenario, mode: Mode, seat: str) -> Generator[None, None, None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"scenario {scenario.name!r} ({scenario.why}); {mode}; the {seat} is under test")
        raise


@contextmanager
def _under_test(scenario: Scenario, mode: Mode, seat: str, patience: float) -> Generator[socket.socket, None, None]:
    """A socket whose other end plays the other side. Raises Mismatch."""
    from smtpstate_testing._opposite import Opposite

    with _noting(scenario, mode, seat):
        ours, theirs = _connected()
        opposite = Opposite(lambda: theirs, scenario, mode, "C" if seat == "server" else "S", patience)
        opposite.start()
        try:
            with ours:
                yield ours
        except Exception as error:
            opposite.conclude(error)
            raise
        opposite.conclude()


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ours, listener.accept()[0]
