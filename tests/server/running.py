"""Runs `python -m smtpstate_server` as a user would: in a process of its own, with a home of its own."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
SECONDS = 30  # nothing takes that long; a test that would hang fails instead
_LISTENING = re.compile(r"listening on (\S+):(\d+) \((STARTTLS|TLS|plain)\)\n")


class Serve(Protocol):
    """Starts `serve` with these arguments, on a free port unless they say where."""

    def __call__(self, *arguments: str, stderr: int | None = None) -> Served: ...


class Scripted(Protocol):
    """Starts a server that plays this script."""

    def __call__(self, script: Sequence[str] | None) -> ScriptedServer: ...


class Home:
    """An empty directory to work in, with all that the command keeps in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("XDG_STATE_HOME", "PYTHONWARNINGS") and not name.startswith("COV")
        } | {"HOME": str(path), "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "adapters")))}

    @property
    def certificate(self) -> Path:
        [found] = self.path.rglob("cert.pem")
        return found

    def stored(self, maildir: str = "mail") -> list[bytes]:
        return [file.read_bytes() for file in sorted((self.path / maildir / "new").iterdir())]

    def run(
        self, *arguments: str, stdin: bytes = b"", stdout: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "smtpstate_server", *arguments],
            input=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            cwd=self.path,
            env=self.environment,
            check=False,
        )


class Served:
    """A running `serve`, and the lines that it says."""

    def __init__(self, home: Home, arguments: Sequence[str], stderr: int | None = None) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "smtpstate_server", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stderr is None else stderr,
            text=True,
            cwd=home.path,
            env=home.environment,
        )
        self.log: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._threads = [self._reads(self.process.stdout, self._lines.put)]
        if stderr is None:
            self._threads.append(self._reads(self.process.stderr, self.log.append))
        self.ports: dict[str, int] = {}
        self.listening: list[int] = []  # the same ports, in the order in which they are said

    @staticmethod
    def _reads(stream: IO[str] | None, take: Callable[[str], None]) -> threading.Thread:
        assert stream is not None

        def read() -> None:
            with closing(stream):
                for line in stream:
                    take(line)
            take("")

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def wait_until_it_listens(self, listeners: int) -> None:
        for _ in range(listeners):
            line = self._lines.get(timeout=SECONDS)
            match = _LISTENING.fullmatch(line)
            assert match is not None, (line, self.log)
            self.ports[match[3]] = int(match[2])
            self.listening.append(int(match[2]))

    @property
    def port(self) -> int:
        [port] = self.ports.values()
        return port

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        code = self.process.wait(SECONDS)
        for thread in self._threads:
            thread.join(SECONDS)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()


class ScriptedServer:
    """Plays a script to one client after another: says each line, and reads a line between two of them.

    A line "..." reads until the lone dot; the connection is closed at the end of the script. None never says a word.
    """

    def __init__(self, script: Sequence[str] | None) -> None:
        self.heard: list[bytes] = []
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(SECONDS)
            if self._script is None:
                self._held.append(connection)
                continue
            with (
                connection,
                connection.makefile("rb") as file,
                suppress(ConnectionError),
            ):  # a client may go at any time
                for line in self._script:
                    if line == "...":
                        while (heard := file.readline()) not in (b".\r\n", b""):
                            self.heard.append(heard)
                        continue
                    connection.sendall(line.encode() + b"\r\n")
                    if not line[3:].startswith("-"):
                        self.heard.append(file.readline())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._held:
            connection.close()
        self._thread.join(SECONDS)
