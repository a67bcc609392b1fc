"""The driver: thin, and free of what it moves octets for."""

from __future__ import annotations

import ast
import socket
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Final

import pytest

import smtpstate_blocking
from smtpstate import CloseReason, ConnectionClosed, Flow
from smtpstate_blocking import Driver

PACKAGE = Path(smtpstate_blocking.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))
STDLIB = {
    *("__future__", "collections", "contextlib", "dataclasses", "errno", "math", "selectors", "socket", "threading"),
    *("time", "typing", "ssl"),
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_it_needs_nothing_but_the_standard_library(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        roots = {name.split(".")[0] for name in names}
        assert roots <= STDLIB | {"smtpstate", "smtpstate_parts", "smtpstate_blocking"}
        assert "ssl" not in roots or path.stem != "_driver"


def test_the_driver_knows_no_rule_of_smtp_or_tls() -> None:
    tree = ast.parse((PACKAGE / "_driver.py").read_text())
    taken = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0].startswith("smtpstate")
        for alias in node.names
    }
    assert taken == {"Flow", "Bell", "Machine"}
    numbers = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, int)}
    assert not numbers & set(range(200, 600)), "no reply code"
    code = [line for line in (PACKAGE / "_driver.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 160


class Scripted:
    """A machine that says what it is told to, and keeps what it hears."""

    def __init__(self, *, out: bytes = b"", deadline: float | None = None) -> None:
        self.out = out
        self.deadline = deadline
        self.half_close = False
        self.reads_first = False
        self.closed: ConnectionClosed | None = None
        self.heard: Final[list[object]] = []
        self.events: Final[list[str]] = []

    def receive_data(self, data: bytes) -> None:
        self.heard.append(data)

    def receive_eof(self) -> None:
        self.heard.append("EOF")

    def connection_lost(self) -> None:
        self.heard.append("lost")
        self.closed = ConnectionClosed(CloseReason.LOST)

    def handle_timeout(self) -> None:
        self.heard.append("timeout")

    def next_event(self) -> str | Flow:
        return self.events.pop(0) if self.events else Flow.NEED_DATA

    def data_to_send(self) -> bytes:
        out, self.out = self.out, b""
        return out


def drive(machine: Scripted, flow: Flow, said: bytes | None = None, *, duplex: bool = False) -> bytes:
    """One `move`, and what the other side has by then."""
    ours, theirs = socket.socketpair()
    driver: Driver[str] = Driver(machine, ours, duplex=duplex)
    with theirs:
        theirs.settimeout(0)
        if said is None:
            theirs.shutdown(socket.SHUT_WR)
        elif said:
            theirs.sendall(said)
        driver.move(flow)
        try:
            heard = theirs.recv(1 << 20)
        except BlockingIOError:
            heard = b"nothing"
        driver.close()
    return heard


FLOWS = [
    pytest.param(Flow.NEED_DATA, b"in", [b"in"], id="drain, then read"),
    pytest.param(Flow.NEED_DATA, None, ["EOF"], id="the other side has ended"),
    pytest.param(Flow.NEED_DATA, b"", ["timeout"], id="nothing comes in time"),
    pytest.param(Flow.NEED_FLUSH, b"in", [], id="drain, and do not read"),
    pytest.param(Flow.NEED_COMMAND, b"in", [], id="nothing is outstanding"),
    pytest.param(Flow.WAIT, b"in", ["timeout"], id="wait, and do not read"),
]


@pytest.mark.parametrize(("flow", "said", "heard"), FLOWS)
def test_a_flow_is_done_as_it_says(flow: Flow, said: bytes | None, heard: list[object]) -> None:
    machine = Scripted(out=b"out", deadline=monotonic() + 0.05)
    assert drive(machine, flow, said) == b"out"
    assert machine.heard == heard


def test_the_write_side_is_shut_down_once_all_is_said() -> None:
    machine = Scripted()
    machine.half_close = True
    assert drive(machine, Flow.NEED_FLUSH, b"") == b""


@pytest.mark.parametrize("duplex", [False, True])
def test_a_peer_that_takes_nothing_is_lost_at_the_deadline(*, duplex: bool) -> None:
    machine = Scripted(out=b"x" * (1 << 24), deadline=monotonic() + 0.05)
    drive(machine, Flow.NEED_DATA, b"", duplex=duplex)
    assert machine.heard == ["timeout", "lost"]


def test_what_is_read_while_writing_comes_first_and_in_order() -> None:
    machine = Scripted(out=b"x" * (1 << 24), deadline=monotonic() + 0.05)
    machine.events.extend(("one", "two"))
    ours, theirs = socket.socketpair()
    driver: Driver[str] = Driver(machine, ours, duplex=True)
    with theirs:
        theirs.sendall(b"said")
        driver.move(Flow.NEED_COMMAND)
        assert [driver.poll(), driver.poll(), driver.poll()] == ["one", "two", Flow.NEED_DATA]
        driver.close()
    assert machine.heard == [b"said", "timeout", "lost"]


def test_a_wait_can_be_interrupted_and_goes_on() -> None:
    ours, theirs = socket.socketpair()
    machine = Scripted()
    driver: Driver[str] = Driver(machine, ours, interruptible=True)
    with theirs:
        timer = Timer(0.05, driver.interrupt)
        timer.start()
        driver.move(Flow.NEED_DATA)
        timer.join()
        assert machine.heard == []
        theirs.sendall(b"in")
        driver.move(Flow.NEED_DATA)
        assert machine.heard == [b"in"]
        driver.close()
        driver.interrupt()  # too late, and no harm


def test_there_is_a_limit_whatever_the_machine_says() -> None:
    ours, theirs = socket.socketpair()
    machine = Scripted()
    driver: Driver[str] = Driver(machine, ours)
    driver.limit = monotonic() + 0.05
    with theirs:
        driver.move(Flow.NEED_DATA)
        driver.close()
    assert machine.heard == ["timeout", "lost"]
