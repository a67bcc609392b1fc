"""Cancelled at any await, a connection is closed or usable, never between; and no task and no descriptor is left.

Each test does the same again and again, and is cancelled where it waits for the first time, for the second, and so on,
until it gets through.
"""

from __future__ import annotations

import os
import socket
import types
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.lowlevel
import pytest

from smtpstate import CloseReason, ConnectionBroken, ServerConnection
from smtpstate.sasl import Credentials
from smtpstate.tls import secure
from smtpstate_anyio import Driver, Listener, Message, Session, connect, serve_messages
from smtpstate_parts.listen import bound_listener
from smtpstate_testing._certificates import client_context, server_context
from smtpstate_testing._core_scenarios import CORE
from smtpstate_testing._counterpart import Mismatch
from smtpstate_testing._opposite import Opposite
from smtpstate_testing._scenario import PASSWORD, USER, Host, Scenario
from tests.conformance.adapters import AsyncUsers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator

    from smtpstate_anyio import Client
    from smtpstate_testing._scenario import Mode

_T = TypeVar("_T")

ADDRESS: Final = "127.0.0.1"
DESCRIPTORS: Final = "/proc/self/fd"
FIRST: Final = b"Subject: first\r\n\r\n" + b"x" * 70 + b"\r\n"
LARGE: Final = b"Subject: first\r\n\r\n" + (b"x" * 70 + b"\r\n") * 4000
SECOND: Final = b"Subject: second\r\n\r\n"
MOST: Final = 500  # waits: far more than anything here has
SECONDS: Final = 30.0

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Stopper:
    """Runs a coroutine, and cancels it when it waits for the `at`-th time, on whatever event loop."""

    def __init__(self, at: int) -> None:
        self.at: Final = at
        self.waits: int = 0
        self._scope: Final = anyio.CancelScope()

    async def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T | None:
        """What it returns; None when it was cancelled."""
        with self._scope:
            return await self._counting(coroutine)
        return None

    @property
    def came_too_late(self) -> bool:
        """Whether it was through before."""
        return self.waits < self.at

    @types.coroutine
    def _counting(self, coroutine: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
        step: Callable[[], Any] = partial(coroutine.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as stop:
                result: _T = stop.value
                return result
            self.waits += 1
            if self.waits == self.at:
                self._scope.cancel()
            try:
                sent = yield awaited
            except BaseException as error:
                step = partial(coroutine.throw, error)
            else:
                step = partial(coroutine.send, sent)


def held() -> tuple[int, int]:
    """How many tasks there are, and how many descriptors."""
    return len(anyio.get_running_tasks()), len(os.listdir(DESCRIPTORS))


async def settled(before: tuple[int, int]) -> None:
    """Waits until there are no more than before: the other side needs a moment to notice. Raises TimeoutError."""
    with anyio.fail_after(5.0):
        while any(now > then for now, then in zip(held(), before, strict=True)):  # noqa: ASYNC110 - nobody tells when the system has closed something
            await anyio.sleep(0.001)


class Inbox:
    """An on_message that keeps what was accepted."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        self.bodies.append(b"".join([piece async for piece in message.body]))


@asynccontextmanager
async def server(inbox: Inbox, mode: Mode) -> AsyncIterator[str]:
    """A server on loopback, for as long as it takes."""

    async def run(*, task_status: anyio.abc.TaskStatus[Any]) -> None:
        await serve_messages(
            inbox,
            Listener(ADDRESS, 0, mode),  # type: ignore[arg-type]  # never "own"
            hostname="mx.example.org",
            accept_any=True,
            tls=None if mode == "plain" else server_context(ADDRESS),
            users=AsyncUsers(("PLAIN",)) if mode != "plain" else None,
            grace=0.0,
            task_status=task_status,
        )

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            [bound] = await group.start(run)
            yield f"{ADDRESS}:{bound.port}"
            group.cancel_scope.cancel()


def client_of(address: str, mode: Mode) -> Any:
    wanted = {"plain": "off", "starttls": "required", "implicit": "implicit"}[mode]
    context = None if mode == "plain" else client_context()
    return connect(address, tls=wanted, ssl_context=context, hostname="client.example.com")


async def log_in(client: Client) -> None:
    await client.authenticate(Credentials(USER, password=PASSWORD))


async def send_first(client: Client) -> bool:
    delivery = await client.send(FIRST, sender="me@example.com", recipients="you@example.org")
    return delivery.all_accepted


async def send_large(client: Client) -> bool:
    delivery = await client.send(LARGE, sender="me@example.com", recipients="you@example.org")
    return delivery.all_accepted


async def send_chunks(client: Client) -> bool:
    delivery = await client.send(LARGE, sender="me@example.com", recipients="you@example.org", chunked=True)
    return delivery.all_accepted


@BACKENDS
@pytest.mark.parametrize("mode", ["plain", "starttls", "implicit"])
def test_a_whole_session_of_a_client_leaves_nothing_behind(backend: str, mode: Mode) -> None:
    async def session(address: str) -> bool:
        async with client_of(address, mode) as client:
            if mode != "plain":
                await log_in(client)
            return await send_first(client)

    async def main() -> None:
        inbox = Inbox()
        async with server(inbox, mode) as address:
            empty = held()
            assert await session(address)
            await settled((empty[0], 1000))  # what is made once stays: a context, perhaps a descriptor
            before = held()
            for at in count(1):
                inbox.bodies.clear()
                stopper = Stopper(at)
                accepted = await stopper.run(session(address))
                await settled(before)
                assert inbox.bodies in ([], [FIRST])
                if stopper.came_too_late:
                    assert accepted
                    assert inbox.bodies == [FIRST]
                    break
                assert at < MOST
            assert at > 10, "it hardly ever waits, so little was tried"

    anyio.run(main, backend=backend)


@BACKENDS
@pytest.mark.parametrize(
    ("mode", "call"),
    [
        ("plain", send_first),
        ("plain", send_large),
        ("starttls", log_in),
        ("starttls", send_first),
        ("starttls", send_large),
        ("implicit", send_chunks),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_after_a_cancelled_call_a_client_works_or_says_that_it_is_broken(
    backend: str, mode: Mode, call: Callable[[Client], Coroutine[Any, Any, object]]
) -> None:
    async def main() -> None:
        inbox = Inbox()
        async with server(inbox, mode) as address:
            empty = held()
            async with client_of(address, mode) as client:
                await call(client)
            await settled((empty[0], 1000))
            before = held()
            for at in count(1):
                inbox.bodies.clear()
                stopper = Stopper(at)
                async with client_of(address, mode) as client:
                    await stopper.run(call(client))
                    works = await _works(client)
                await settled(before)
                whole = FIRST if call is send_first else LARGE
                assert inbox.bodies in ([], [whole], [SECOND], [whole, SECOND])
                assert works == (inbox.bodies[-1:] == [SECOND])
                if stopper.came_too_late:
                    assert works
                    break
                assert at < MOST

    anyio.run(main, backend=backend)


async def _works(client: Client) -> bool:
    """Whether a later call does what it has to; if not it says so, and not only once."""
    try:
        delivery = await client.send(SECOND, sender="me@example.com", recipients="you@example.org")
    except ConnectionBroken:
        assert client.closed is not None
        with pytest.raises(ConnectionBroken):
            await log_in(client)
        return False
    assert delivery.all_accepted
    return True


SESSIONS: Final = [
    (scenario, mode)
    for scenario in CORE
    if scenario.name in ("one-message-pipelined", "a-chunked-message", "a-line-that-never-ends")
    for mode in scenario.modes
]


@BACKENDS
@pytest.mark.parametrize(("scenario", "mode"), SESSIONS, ids=str)
def test_a_session_of_a_server_takes_whole_messages_only_and_leaves_nothing_behind(
    backend: str, scenario: Scenario, mode: Mode
) -> None:
    async def main() -> None:
        await _serve_once(scenario, mode, Stopper(MOST))
        before = held()
        for at in count(1):
            stopper = Stopper(at)
            took, closed = await _serve_once(scenario, mode, stopper)
            await settled(before)
            assert took in ([], list(scenario.took))
            if stopper.came_too_late:
                assert took == list(scenario.took)
                assert closed is scenario.server_ends
                break
            assert at < MOST

    anyio.run(main, backend=backend)


async def _serve_once(scenario: Scenario, mode: Mode, stopper: Stopper) -> tuple[list[Any], CloseReason | None]:
    """One session, as `serve` has it; what it took, and how it ended."""
    async with await anyio.create_tcp_listener(local_host=ADDRESS) as listeners:
        [listener] = listeners.listeners
        assert isinstance(listener, anyio.abc.SocketListener)
        port = listeners.extra(anyio.abc.SocketAttribute.local_port)
        opposite = Opposite(lambda: socket.create_connection((ADDRESS, port)), scenario, mode, "C", 5.0)
        opposite.start()
        stream = await listener.accept()
        async with stream:
            connection = ServerConnection(
                scenario.server_config(mode), clock=anyio.current_time, implicit_tls=mode == "implicit"
            )
            machine: Any = connection if mode == "plain" else secure(connection, server_context("mx.example.org"))
            bound = bound_listener(Listener(ADDRESS, port, mode), ADDRESS, port, has_tls=True)  # type: ignore[arg-type]
            session = Session(connection, Driver(machine, stream), bound)
            host = Host(scenario)

            async def handler(session: Session) -> None:
                async for event in session:
                    host.on_event(session, event)

            await stopper.run(session.run(handler))
        try:
            await anyio.to_thread.run_sync(opposite.conclude)
            mismatch = ""
        except Mismatch as error:
            mismatch = str(error)
        if mismatch:  # it was cut off somewhere, and noticed
            assert not stopper.came_too_late, mismatch
            assert "nothing came" not in mismatch
            assert "left open" not in mismatch
        return host.took, None if connection.closed is None else connection.closed.reason
