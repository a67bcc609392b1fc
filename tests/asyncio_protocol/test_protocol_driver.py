"""The driver alone, with a transport and a machine that say what they were told: what it asks for, and when."""

from __future__ import annotations

import ast
import asyncio
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import smtpstate_asyncio
from smtpstate import Flow
from smtpstate_asyncio import Driver
from tests.anyio.loopback import SECONDS

if TYPE_CHECKING:
    from smtpstate import ConnectionClosed

pytestmark = pytest.mark.anyio


@dataclass
class Transport:
    """Takes what is written up to `room`; what is more stays in its buffer until somebody reads."""

    room: int = 10**9
    log: list[str] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    driver: Driver[str] | None = None
    closing: bool = False
    resets: bool = False

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.room -= len(data)
        if self.room < 0 and self.driver is not None:
            self.driver.pause_writing()

    def write_eof(self) -> None:
        self.log.append("eof")
        if self.resets:
            raise OSError

    def pause_reading(self) -> None:
        self.log.append("pause")

    def resume_reading(self) -> None:
        self.log.append("resume")

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.log.append("close")

    def abort(self) -> None:
        self.log.append("abort")


@dataclass
class Machine:
    """Hands out what is in `out`, and notes what it is given."""

    out: list[bytes] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    deadline: float | None = None
    half_close: bool = False
    closed: ConnectionClosed | None = None
    asked: int = 0
    reads_first: bool = False

    def receive_data(self, data: bytes) -> None:
        """Knows enough then, unless it is a part of something."""
        self.log.append(data.decode())
        self.reads_first = self.reads_first and data == b"part"

    def receive_eof(self) -> None:
        self.log.append("eof")

    def connection_lost(self) -> None:
        self.log.append("lost")

    def handle_timeout(self) -> None:
        self.log.append("timeout")
        self.deadline = None

    def next_event(self) -> str | Flow:
        return Flow.NEED_DATA

    def data_to_send(self) -> bytes:
        self.asked += 1
        self.reads_first = False
        return self.out.pop(0) if self.out else b""


@dataclass
class Owner:
    log: list[str] = field(default_factory=list)
    error: Exception | None = None
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self.log.append("wake")
        self.woken.set()
        if self.error is not None:
            raise self.error

    def overdue(self) -> None:
        self.log.append("overdue")
        self.woken.set()

    def failed(self, error: Exception) -> None:
        self.log.append(repr(error))

    def gone(self) -> None:
        self.log.append("gone")


def driven(*, duplex: bool = False, room: int = 10**9) -> tuple[Driver[str], Machine, Transport, Owner]:
    machine, transport, owner = Machine(), Transport(room), Owner()
    driver: Driver[str] = Driver(machine, owner, duplex=duplex)
    transport.driver = driver
    driver.connection_made(transport)  # type: ignore[arg-type]  # quacks like one
    return driver, machine, transport, owner


async def test_what_can_be_read_already_comes_before_the_first_poll() -> None:
    driver, machine, _, owner = driven()
    assert owner.log == []
    driver.data_received(b"early")
    assert (machine.log, owner.log) == (["early"], ["wake"])
    driver, machine, _, owner = driven()
    await owner.woken.wait()
    assert "lost" not in machine.log


async def test_what_has_arrived_is_fed_before_a_reply_that_is_waited_for() -> None:
    driver, machine, transport, owner = driven()
    await owner.woken.wait()
    driver.rest()
    machine.reads_first, machine.out = True, [b"reply"]
    driver.data_received(b"held")
    assert driver.move(Flow.NEED_DATA)
    assert (machine.log, transport.written) == (["held"], [b"reply"])

    machine.reads_first, machine.out = True, [b"another"]
    owner.woken.clear()
    assert not driver.move(Flow.NEED_DATA), "the loop has to look"
    assert transport.written == [b"reply"]
    driver.data_received(b"read")
    assert (machine.log, transport.written, owner.woken.is_set()) == (["held", "read"], [b"reply"], True)
    assert not driver.move(Flow.NEED_DATA)
    assert transport.written == [b"reply", b"another"]

    driver.rest()
    machine.reads_first, machine.out = True, [b"a third"]
    owner.woken.clear()
    assert not driver.move(Flow.NEED_DATA)
    await owner.woken.wait()
    assert (machine.log, transport.written[2:]) == (["held", "read"], [b"a third"]), "nothing had arrived"


async def test_the_loop_looks_for_the_rest_of_what_was_held() -> None:
    driver, machine, transport, owner = driven()
    await owner.woken.wait()
    driver.rest()
    machine.reads_first, machine.out = True, [b"reply"]
    driver.data_received(b"part")
    assert not driver.move(Flow.NEED_DATA)
    assert (machine.log, transport.written, transport.log[-2:]) == (["part"], [], ["pause", "resume"])
    driver.data_received(b"rest")
    assert (machine.log, transport.written) == (["part", "rest"], [])
    assert not driver.move(Flow.NEED_DATA)
    assert transport.written == [b"reply"]


async def test_no_loop_misses_what_has_arrived() -> None:
    """Over sockets: before the first poll, and before a reply for which the peer has to wait."""
    order: list[str] = []
    done = asyncio.Event()

    @dataclass
    class Waited(Machine):
        def receive_data(self, data: bytes) -> None:
            order.append(data.decode())

        def data_to_send(self) -> bytes:
            data = super().data_to_send()
            order.extend([data.decode()] if data else [])
            return data

    @dataclass
    class Greets(Owner):
        def wake(self) -> None:
            order.append("wake")
            if order.count("wake") == 1:
                machine.reads_first, machine.out = True, [b"reply"]
                peer.sendall(b"second")
                assert not driver.move(Flow.NEED_DATA)
            done.set() if order.count("wake") == 2 else None

    machine, owner = Waited(), Greets()
    driver: Driver[str] = Driver(machine, owner)
    async with asyncio.timeout(SECONDS):
        listening = await asyncio.get_running_loop().create_server(lambda: driver, "127.0.0.1", 0)
        with socket.create_connection(listening.sockets[0].getsockname()) as peer:
            peer.sendall(b"first")  # and the loop has not had a chance to accept
            await done.wait()
        driver.close()
        listening.close()
        await asyncio.sleep(0)
    assert order[:5] == ["first", "wake", "second", "reply", "wake"]


async def test_who_rests_is_not_woken_by_a_look() -> None:
    driver, _, _, owner = driven()
    driver.rest()
    for _ in range(5):
        await asyncio.sleep(0)
    assert owner.log == []


async def test_it_asks_again_only_when_the_last_piece_has_left() -> None:
    driver, machine, transport, owner = driven(room=10)
    machine.out = [b"12345", b"123456", b"1", b"2"]
    assert not driver.move(Flow.NEED_FLUSH)
    assert (transport.written, machine.asked) == ([b"12345", b"123456"], 2)
    assert not driver.move(Flow.NEED_FLUSH), "nor for the asking"
    assert machine.asked == 2
    transport.room = 10
    driver.resume_writing()
    assert owner.log == ["wake"]
    assert driver.move(Flow.NEED_FLUSH)
    assert transport.written[2:] == [b"1", b"2"]


async def test_a_server_does_not_read_before_all_has_left_and_a_client_does() -> None:
    driver, machine, transport, owner = driven(room=0)
    machine.out = [b"x"]
    assert not driver.move(Flow.NEED_DATA)
    driver.data_received(b"data")
    assert (machine.log, transport.log) == ([], ["pause"])
    driver.resume_writing()
    assert driver.move(Flow.NEED_DATA), "what was held is no reason to wait"
    assert machine.log == ["data"]
    assert not driver.move(Flow.NEED_DATA)
    assert transport.log == ["pause", "resume"]

    driver, machine, transport, owner = driven(duplex=True, room=0)
    machine.out = [b"x"]
    assert not driver.move(Flow.NEED_COMMAND)
    driver.data_received(b"data")
    assert (machine.log, owner.log, transport.log) == (["data"], ["wake"], [])


async def test_while_nobody_waits_one_read_is_held_and_no_more_comes() -> None:
    driver, machine, transport, owner = driven()
    driver.rest()
    driver.data_received(b"one")
    driver.data_received(b"two")  # it was on its way
    driver.eof_received()
    assert (machine.log, owner.log, transport.log) == ([], [], ["pause"])
    assert driver.move(Flow.NEED_DATA)
    assert machine.log == ["one", "two", "eof"]
    assert not driver.move(Flow.NEED_DATA)
    assert transport.log == ["pause"], "there is nothing more to read"


@pytest.mark.parametrize("flow", [Flow.WAIT, Flow.NEED_DATA])
async def test_the_deadline_ends_a_wait(flow: Flow) -> None:
    driver, machine, _, owner = driven()
    driver.rest()
    machine.deadline = asyncio.get_running_loop().time() + 0.02
    assert not driver.move(flow)
    await owner.woken.wait()
    assert (machine.log, owner.log) == (["timeout"], ["wake"])


async def test_a_penalty_is_waited_for_without_reading() -> None:
    driver, machine, transport, _ = driven()
    assert not driver.move(Flow.WAIT)
    driver.data_received(b"data")
    assert (machine.log, transport.log) == ([], ["pause"])


async def test_a_piece_that_the_deadline_cut_short_is_the_end() -> None:
    driver, machine, transport, owner = driven(room=0)
    driver.rest()
    machine.out, machine.deadline = [b"x"], asyncio.get_running_loop().time()
    assert not driver.move(Flow.NEED_DATA)
    await owner.woken.wait()
    assert machine.log == ["timeout", "lost"]
    assert transport.log == ["abort"]
    assert driver.move(Flow.NEED_FLUSH), "nothing follows it, and nobody waits"


async def test_a_deadline_while_nobody_waits_is_the_owners() -> None:
    driver, machine, _, owner = driven()
    driver.rest()
    driver.arm(asyncio.get_running_loop().time())
    await owner.woken.wait()
    assert (machine.log, owner.log) == ([], ["overdue"])


async def test_a_timer_is_kept_where_it_rings_early_enough() -> None:
    driver, _, _, owner = driven()
    loop = asyncio.get_running_loop()
    driver.rest()
    start = loop.time()
    driver.arm(start + 0.05)
    driver.arm(start + 0.1)  # the one that there is rings at 0.05, and is set anew
    await owner.woken.wait()
    assert loop.time() - start >= 0.1 - 0.002
    owner.woken.clear()
    driver.arm(start + 1000)
    driver.arm(start)  # one that rings too late is replaced
    await owner.woken.wait()
    driver.arm(start)
    driver.arm(None)
    await asyncio.sleep(0.01)
    assert owner.log == ["overdue", "overdue"]


async def test_the_write_side_is_shut_once_when_all_has_left() -> None:
    driver, machine, transport, _ = driven(room=0)
    machine.half_close, machine.out = True, [b"x"]
    assert not driver.move(Flow.NEED_DATA)
    assert transport.log == []
    driver.resume_writing()
    for _ in range(2):
        assert not driver.move(Flow.NEED_DATA)
    assert transport.log == ["eof"]


async def test_a_write_side_that_is_gone_is_a_loss() -> None:
    driver, machine, transport, _ = driven()
    machine.half_close = transport.resets = True
    driver.move(Flow.NEED_DATA)
    assert (machine.log, transport.log) == (["lost"], ["eof", "abort"])


async def test_what_came_before_the_loss_counts() -> None:
    driver, machine, _, owner = driven()
    driver.rest()
    driver.data_received(b"data")
    driver.connection_lost(None)
    assert (machine.log, owner.log) == (["data", "lost"], ["wake", "gone"])
    machine.out = [b"x"]
    assert driver.move(Flow.NEED_FLUSH)
    assert machine.out == [b"x"], "nobody is there to have it"


async def test_nothing_is_written_to_a_transport_that_failed() -> None:
    driver, machine, transport, _ = driven()
    transport.closing, machine.out = True, [b"x"]
    assert not driver.move(Flow.NEED_FLUSH), "it will say that it is lost"
    assert transport.written == []


@pytest.mark.parametrize(("room", "how"), [(10, "close"), (0, "abort")])
async def test_what_has_not_left_when_it_closes_never_will(room: int, how: str) -> None:
    driver, machine, transport, _ = driven(room=room)
    machine.out = [b"x"]
    driver.move(Flow.NEED_DATA)
    driver.close()
    assert transport.log == [how]


async def test_what_an_owner_raises_is_its_own() -> None:
    driver, _, _, owner = driven()
    owner.error = ZeroDivisionError()
    driver.data_received(b"data")
    assert owner.log == ["wake", "ZeroDivisionError()"]


# What it is made of.

ADAPTER = Path(smtpstate_asyncio.__file__).parent


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_adapter_needs_nothing_from_elsewhere(anyio_backend: str) -> None:
    roots = {name.split(".")[0] for path in ADAPTER.glob("*.py") for name in imported(path)}
    assert roots <= {"smtpstate", "smtpstate_asyncio", "smtpstate_parts"} | sys.stdlib_module_names
    everything = "".join(path.read_text() for path in ADAPTER.glob("*.py"))
    assert "start_tls" not in everything


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_driver_knows_no_rule_and_can_be_read_in_five_minutes(anyio_backend: str) -> None:
    tree = ast.parse((ADAPTER / "_driver.py").read_text())
    assert imported(ADAPTER / "_driver.py") <= {
        *("__future__", "asyncio", "collections.abc", "functools", "typing", "smtpstate", "smtpstate_parts.machine")
    }
    core = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "smtpstate"]
    assert [alias.name for node in core for alias in node.names] == ["Flow"]
    [driver] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Driver"]
    functions: list[Any] = [node for node in driver.body if isinstance(node, ast.FunctionDef)]
    statements = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.stmt)]
    said = [node for node in statements if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    assert len({node.lineno for node in statements} - {node.lineno for node in said}) <= 145
