"""check_driver: drivers that are right pass, in both forms, and drivers that are not are found out."""

from __future__ import annotations

import asyncio
import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import pytest

import smtpstate_anyio
import smtpstate_blocking
from smtpstate import ConnectionClosed, Flow
from smtpstate.delivery import Wants
from smtpstate_testing import check_async_driver, check_driver

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import ModuleType

    from smtpstate import ClientEvent, ServerEvent
    from smtpstate.delivery import Procedure
    from smtpstate_testing._check_driver import ClientMachine, ServerMachine

ROOT = Path(__file__).resolve().parents[2]


def example() -> ModuleType:
    path = ROOT / "docs" / "examples" / "driver.py"
    specification = importlib.util.spec_from_file_location("driver_under_test", path)
    assert specification is not None
    assert specification.loader is not None
    found = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(found)
    return found


def test_the_example_passes() -> None:
    driver = example()
    check_driver(serve=driver.drive, connect=driver.converse)


# The drivers of the adapters, by themselves.


def serve_blocking(sock: socket.socket, machine: ServerMachine, on_event: Callable[[ServerEvent], None]) -> None:
    driver: smtpstate_blocking.Driver[ServerEvent] = smtpstate_blocking.Driver(machine, sock)
    while not isinstance(event := driver.poll(), ConnectionClosed):
        driver.move(event) if isinstance(event, Flow) else on_event(event)
    driver.move(Flow.NEED_FLUSH)


def test_the_blocking_driver_passes() -> None:
    check_driver(serve=serve_blocking)


async def serve_anyio(sock: socket.socket, machine: ServerMachine, on_event: Callable[[ServerEvent], None]) -> None:
    async with await anyio.abc.SocketStream.from_socket(sock) as stream:
        driver: smtpstate_anyio.Driver[ServerEvent] = smtpstate_anyio.Driver(machine, stream)
        while not isinstance(event := driver.poll(), ConnectionClosed):
            if isinstance(event, Flow):
                await driver.move(event)
            else:
                on_event(event)
        await driver.move(Flow.NEED_FLUSH)


async def connect_anyio(sock: socket.socket, machine: ClientMachine, procedure: Procedure[list[str]]) -> list[str]:
    async with await anyio.abc.SocketStream.from_socket(sock) as stream:
        driver: smtpstate_anyio.Driver[ClientEvent] = smtpstate_anyio.Driver(machine, stream, duplex=True)

        async def next_event() -> ClientEvent | Flow:
            drained = False
            while isinstance(event := driver.poll(), Flow) and not (event is Flow.NEED_COMMAND and drained):
                await driver.move(event)
                drained = True
            return event

        try:
            wanted = next(procedure)
            while True:
                assert wanted is Wants.EVENT
                wanted = procedure.send(await next_event())
        except StopIteration as stop:
            told: list[str] = stop.value
            return told
        finally:
            await driver.move(Flow.NEED_FLUSH)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_driver_for_asyncio_and_trio_passes(backend: str) -> None:
    check: Any = partial(check_async_driver, serve=serve_anyio, connect=connect_anyio, clock=anyio.current_time)
    anyio.run(check, backend=backend)


# Drivers that are wrong.


def broken(change: Callable[[ModuleType, Any], None]) -> ModuleType:
    """The example with something wrong in its Driver."""
    driver = example()
    change(driver, driver.Driver)
    return driver


def takes_the_end_for_a_loss(driver: ModuleType, kind: Any) -> None:
    def feed(self: Any, octets: bytes) -> None:
        self.machine.receive_data(octets) if octets else self.machine.connection_lost()

    kind.feed = feed


def does_not_drain_before_it_reads(driver: ModuleType, kind: Any) -> None:
    def send(self: Any) -> None:
        if data := self.machine.data_to_send():  # one piece only, as if there were never two
            self.sock.sendall(data[:-1])

    kind.send = send


def waits_for_ever(driver: ModuleType, kind: Any) -> None:
    kind.time_left = lambda self: None


def loses_what_it_read(driver: ModuleType, kind: Any) -> None:
    def feed(self: Any, octets: bytes) -> None:
        self.machine.receive_data(octets[:1000]) if octets else self.machine.receive_eof()

    kind.feed = feed


def hands_over_no_farewell(driver: ModuleType, kind: Any) -> None:
    def drain(self: Any) -> None:
        raise RuntimeError("a driver of somebody's fails")

    kind.drain = drain


@pytest.mark.parametrize(
    "change",
    [
        takes_the_end_for_a_loss,
        does_not_drain_before_it_reads,
        waits_for_ever,
        loses_what_it_read,
    ],
)
def test_a_driver_that_is_wrong_is_found_out(change: Callable[[ModuleType, Any], None]) -> None:
    driver = broken(change)
    with pytest.raises(AssertionError) as caught:
        check_driver(serve=driver.drive, connect=driver.converse, patience=1.0)
    [note] = caught.value.__notes__
    assert note.startswith("scenario '")
    assert "under test" in note


def test_what_a_driver_raises_comes_out_with_the_scenario() -> None:
    driver = broken(hands_over_no_farewell)
    with pytest.raises(RuntimeError, match="somebody's") as caught:
        check_driver(serve=driver.drive)
    assert caught.value.__notes__


def test_a_connection_that_an_asynchronous_driver_leaves_open_is_closed() -> None:
    async def serve(sock: socket.socket, machine: ServerMachine, on_event: Callable[[ServerEvent], None]) -> None:
        await asyncio.to_thread(example().drive, sock, machine, on_event)

    asyncio.run(check_async_driver(serve=serve))
