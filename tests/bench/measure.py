"""Measures goodput under attack, a row at a time: a server, `smtp-source`, and the tricklers."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from tests.bench.report import LATE, Report, Row
from tests.bench.servers import HERE, SERVERS, pinned, stop
from tests.peers.programs import PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.bench.servers import Running

_SESSIONS: Final = 10  # of smtp-source, at once
_LETTER: Final = 4096  # octets of a message
_OPENING_SECONDS: Final = 10.0  # in which tricklers are let in, or else wait in the kernel's queue
_SPARE_FILES: Final = 300
_MANY: Final = 100  # addresses; tricklers never come from that of smtp-source, which a limit by address would shut out


@dataclass(frozen=True, slots=True)
class Attack:
    """So many connections from so many addresses, with a command or a body that comes an octet at a time."""

    server: str
    connections: int
    kind: str = "command"
    sources: int = 1

    def __str__(self) -> str:
        return f"{self.server}: {self.connections:,} in a {self.kind}, from {self.sources} address(es)"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and for how long."""

    attacks: tuple[Attack, ...]
    seconds: float  # of a request, for every server
    interval: float
    window: float  # that goodput is measured for

    @property
    def lifetime(self) -> float:
        """How long tricklers stay who are not cut."""
        return self.seconds + LATE

    @property
    def most(self) -> float:
        """The seconds that all of it can take."""
        return len(self.attacks) * (_OPENING_SECONDS + self.lifetime + 2 * self.window + 4.0)


class Load:
    """smtp-source, which delivers as fast as it can. Where a server makes it give up it is started again."""

    def __init__(self, port: int) -> None:
        source = shutil.which("smtp-source", path=PATH)
        if source is None:
            raise RuntimeError("smtp-source is not installed; it is part of Postfix")
        what = ("-c", "-s", str(_SESSIONS), "-l", str(_LETTER), "-m", "100000000", "-M", "client.example.org")
        whom = ("-f", "sender@example.org", "-t", "recipient@example.org", f"127.0.0.1:{port}")
        self._command: Final = (source, *what, *whom)
        self._before: int = 0  # by processes that are gone
        self._process: subprocess.Popen[bytes] | None = None
        self._tail: bytes = b""
        self._counted: int = 0

    def _start(self) -> subprocess.Popen[bytes]:
        with pinned(server=False):
            process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return process

    def count(self) -> int:
        """Messages that were taken so far. It has to be asked often: what is not read makes it wait."""
        if self._process is None:
            self._process = self._start()
        assert self._process.stdout is not None
        over = self._process.poll() is not None
        while data := self._process.stdout.read(65_536):
            *numbers, self._tail = (self._tail + data).split(b"\r")
            self._counted = next((int(number) for number in reversed(numbers) if number.strip()), self._counted)
        if over:
            self.stop()
        return self._before + self._counted

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None
        self._before, self._counted, self._tail = self._before + self._counted, 0, b""


def _measure(running: Running, window: float) -> tuple[float, float]:
    """Messages a second, and ms of the server's processor for each, in `window` seconds."""
    load = Load(running.port)
    try:
        _wait(load, min(1.0, window / 4))  # until it is under way
        start, count, cpu = monotonic(), load.count(), running.cpu()
        _wait(load, window)
        taken, spent, passed = load.count() - count, running.cpu() - cpu, monotonic() - start
    finally:
        load.stop()
    return taken / passed, 1000 * spent / taken if taken else 0.0


def _busy(running: Running, seconds: float) -> float:
    """Which share of a processor the server takes by itself."""
    start, cpu = monotonic(), running.cpu()
    sleep(seconds)
    return (running.cpu() - cpu) / (monotonic() - start)


def _wait(load: Load, seconds: float) -> None:
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0:
        load.count()
        sleep(min(0.05, left))


@contextmanager
def _attacking(attack: Attack, plan: Plan, port: int) -> Generator[subprocess.Popen[bytes], None, None]:
    options = {
        "--port": port,
        "--connections": attack.connections,
        "--sources": attack.sources,
        "--kind": attack.kind,
        "--interval": plan.interval,
        "--opening": _OPENING_SECONDS,
        "--lifetime": plan.lifetime,
    }
    words = [word for name, value in options.items() for word in (name, str(value))]
    with pinned(server=False):
        process = subprocess.Popen(
            [sys.executable, str(HERE / "trickler.py"), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
    try:
        yield process
    finally:
        stop(process)


def measure(attack: Attack, plan: Plan) -> Row:
    """One row."""
    with SERVERS[attack.server](attack.connections, plan.seconds) as running:
        before = _measure(running, plan.window)
        memory = running.memory()
        with _attacking(attack, plan, running.port) as process:
            assert process.stdout is not None
            word, admitted, refused = process.stdout.readline().split()
            assert word == b"held"
            grown = running.memory() - memory
            cpu_held = _busy(running, min(2.0, plan.window))
            under = _measure(running, plan.window)
            result = json.loads(process.stdout.readline())
        after = _measure(running, plan.window)
        without = (before[0] + after[0]) / 2, (before[1] + after[1]) / 2
    return Row(
        server=attack.server,
        kind=attack.kind,
        sources=attack.sources,
        tricklers=attack.connections,
        admitted=int(admitted),
        refused=int(refused),
        rate_without=round(without[0], 1),
        rate_under=round(under[0], 1),
        cpu_without=round(without[1], 3),
        cpu_under=round(under[1], 3),
        cpu_held=round(cpu_held, 4),
        memory_kib=round(grown / int(admitted), 1) if int(admitted) else None,
        longest=None if result["longest"] is None else round(result["longest"], 2),
        told=result["told"],
        held=result["held"],
    )


def full_plan() -> Plan:
    """All servers with up to 5,000 tricklers."""
    attacks = [
        Attack(server, number, kind)
        for server in ("smtpstate", "aiosmtpd")
        for kind in ("command", "body")
        for number in (200, 1000, 5000)
    ]
    attacks += [Attack("Postfix", number) for number in (50, 200, 1000)]  # with 200 all of its processes are held
    attacks += [Attack("smtpstate, default limits", 1000, sources=sources) for sources in (1, _MANY)]
    return Plan(tuple(attacks), seconds=20.0, interval=3.0, window=5.0)


def quick_plan(tricklers: int | None = None) -> Plan:
    """All servers, and few tricklers who are cut soon."""
    attacks = [Attack(server, tricklers or 50) for server in ("smtpstate", "aiosmtpd", "Postfix")]
    return Plan(tuple(attacks), seconds=5.0, interval=1.0, window=1.5)


def _make_room() -> int:
    """How many files may be open, raised as far as we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def _cannot(attack: Attack, files: int) -> str | None:
    """Why an attack cannot be run here, if it cannot."""
    if attack.connections + _SPARE_FILES > files:
        return f"{files} files may be open (ulimit -Hn)"
    if attack.server == "Postfix" and shutil.which("postconf", path=PATH) is None:
        return "Postfix is not installed"
    if attack.server == "Postfix" and os.geteuid() != 0:
        return "Postfix's master runs as root only"
    return None


def run(plan: Plan, tell: Callable[[str], None]) -> Report:
    """Measures all that can be measured here; `tell` is told of each row, and why one is left out."""
    files, load = _make_room(), os.getloadavg()[0]
    rows: list[Row] = []
    for attack in plan.attacks:
        if (why := _cannot(attack, files)) is not None:
            tell(f"{attack}: left out, {why}")
            continue
        row = measure(attack, plan)
        rows.append(row)
        tell(f"{attack}: {row.goodput:.0%} of {row.rate_without:,.0f} messages/s")
    return _report(plan, load, rows)


def _report(plan: Plan, load: float, rows: list[Row]) -> Report:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    versions = {"anyio": version("anyio"), "aiosmtpd": version("aiosmtpd")}
    if (postconf := shutil.which("postconf", path=PATH)) is not None:
        found = subprocess.run([postconf, "-d", "-h", "mail_version"], capture_output=True, text=True, check=False)
        versions["Postfix"] = found.stdout.strip()
    return Report(
        date=datetime.now(UTC).date().isoformat(),
        python=python_version(),
        cpu="unknown" if cpu is None else cpu[1].strip(),
        cpus=len(os.sched_getaffinity(0)),
        load=round(load, 1),
        versions=versions,
        seconds=plan.seconds,
        interval=plan.interval,
        window=plan.window,
        rows=rows,
    )
