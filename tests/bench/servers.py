"""The servers that are attacked, each in a process of its own; Postfix is many."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.differential.postfix import Postfix
from tests.peers.programs import ours

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

HERE: Final = Path(__file__).parent

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_END_SECONDS: Final = 10.0  # for whatever is told to end


@dataclass(slots=True)
class Running:
    """A server: the port where it listens, and the processes that it is."""

    port: int
    pids: Callable[[], list[int]]
    shares_memory: bool = False

    def cpu(self) -> float:
        """Seconds of processor that it took, with its children that are gone."""
        return sum(_cpu(pid) for pid in self.pids())

    def memory(self) -> float:
        """KiB that are resident; what several processes share counts once."""
        name, field_name = ("smaps_rollup", "Pss") if self.shares_memory else ("status", "VmRSS")
        return sum(_proc_field(pid, name, field_name) for pid in self.pids())


Server: TypeAlias = "Callable[[int, float], AbstractContextManager[Running]]"


def _cpu(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in stat.rpartition(")")[2].split()[11:15]) / _TICKS


def _proc_field(pid: int, name: str, wanted: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{name}").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{wanted}:")), 0)


def _of_group(group: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text("ascii", "replace")
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[2]) == group:
                found.append(int(entry.name))
    return found


@contextmanager
def pinned(*, server: bool) -> Generator[None, None, None]:
    """What is started inside runs on the processor for servers, or on the others, where there is more than one."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        yield
        return
    os.sched_setaffinity(0, cpus[:1] if server else cpus[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def stop(process: subprocess.Popen[bytes], *, how: signal.Signals = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def _listening(*command: str, home: str) -> Generator[Running, None, None]:
    """A server of one process, which says where it listens."""
    with pinned(server=True):
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ours(Path(home)),
            cwd=home,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(rb":(\d+) \(", line)
        if match is None:
            raise RuntimeError(f"it does not listen: {' '.join(command)}")
        yield Running(int(match[1]), lambda: [process.pid])
    finally:
        stop(process)


def _settings(settings: dict[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


@contextmanager
def _ours(seconds: float, settings: dict[str, str]) -> Generator[Running, None, None]:
    options = _settings({"smtpd_timeout": f"{seconds:g}s", **settings})
    with (
        TemporaryDirectory(prefix="trickle-") as home,
        _listening(
            *("-m", "smtpstate_server", "serve", "--listen", "127.0.0.1:0", "--no-tls", "--quiet"),
            *("--hostname", "mx.example.org", "--deliver", "discard", "--log-level", "error", *options),
            home=home,
        ) as running,
    ):
        yield running


def _ours_open(tricklers: int, seconds: float) -> AbstractContextManager[Running]:
    """With room for everybody: this measures the machine, and not the gate."""
    room = str(2 * tricklers + 200)  # so that it is not under stress, either
    return _ours(seconds, {"default_process_limit": room, "smtpd_client_connection_count_limit": "0"})


def _ours_default(tricklers: int, seconds: float) -> AbstractContextManager[Running]:
    """As it is, but that loopback is no exception: whoever attacks here comes from there."""
    return _ours(seconds, {"smtpd_client_event_limit_exceptions": ""})


@contextmanager
def _aiosmtpd(tricklers: int, seconds: float) -> Generator[Running, None, None]:
    with (
        TemporaryDirectory(prefix="trickle-") as home,
        _listening(str(HERE / "aiosmtpd_server.py"), str(seconds), home=home) as running,
    ):
        yield running


@contextmanager
def _postfix(tricklers: int, seconds: float) -> Generator[Running, None, None]:
    """smtpd with its default of 100 processes. It throws away what it takes, and asks the network nothing."""
    settings = {
        "compatibility_level": "3.6",
        "myhostname": "mx.example.org",
        "mydestination": "example.org",
        "mynetworks": "192.0.2.1/32",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "alias_maps": "",
        "local_recipient_maps": "",
        "smtpd_peername_lookup": "no",
        "smtpd_recipient_restrictions": "static:DISCARD",
        "smtpd_relay_restrictions": "reject_unauth_destination",
        "smtpd_client_connection_count_limit": "0",
        "smtpd_timeout": f"${{stress?{{{min(10, round(seconds))}}}:{{{round(seconds)}}}}}s",
        "in_flow_delay": "0",
        "notify_classes": "",
    }
    with TemporaryDirectory(prefix="postfix-") as directory:
        home = Path(directory)
        home.chmod(0o755)  # most of Postfix runs as somebody else
        with pinned(server=True):
            server = Postfix(home, settings)
        try:
            yield Running(server.port, lambda: _of_group(server.process.pid), shares_memory=True)
        finally:
            server.stop()


SERVERS: Final[dict[str, Server]] = {
    "smtpstate": _ours_open,
    "smtpstate, default limits": _ours_default,
    "aiosmtpd": _aiosmtpd,
    "Postfix": _postfix,
}
