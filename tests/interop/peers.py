"""Programs that .ci/peers unpacked or installed, and a stage for those that want their files in fixed places."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.peers.programs import ROOT, SECONDS, needs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

FOLDER = Path(os.environ.get("SMTPSTATE_PEERS") or ROOT / ".peers").absolute()
HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
TICK = 0.02  # seconds between two looks at something that does not call

# Users that a package would have made; Debian-exim for one.
_PRELUDE = """
set -eu
id=900
user() {
  id=$((id + 1))
  echo "$1:x:$id:$id::/nonexistent:/usr/sbin/nologin" >>/etc/passwd
  echo "$1:x:$id:" >>/etc/group
}
"""


def missing(what: str) -> None:
    """Skips the test, but where CI=true it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing: .ci/peers fetches it")
    pytest.skip(f"{what} is missing: .ci/peers fetches it")


def unpacked(name: str) -> Path:
    """The folder of a package, of which `name` is all or the beginning."""
    path = FOLDER / name
    if not path.exists():
        missing(name)
    return path


def program(package: str, path: str) -> str:
    """A program that needs no stage."""
    return str(unpacked(package) / path)


def libraries(*packages: str) -> dict[str, str]:
    """An environment in which programs find the libraries of unpacked packages."""
    found = {str(path.parent) for package in packages for path in unpacked(package).glob("usr/lib/**/*.so.*")}
    return {"LD_LIBRARY_PATH": os.pathsep.join(sorted(found))}


@contextmanager
def running(
    command: Sequence[str], directory: Path, environment: dict[str, str] | None = None
) -> Generator[subprocess.Popen[bytes], None, None]:
    """A process that is killed at the end of the block. What it says is in `directory`/log."""
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=directory,
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"} | (environment or {}),
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def staged(directory: Path, packages: Sequence[str], script: str) -> Generator[subprocess.Popen[bytes], None, None]:
    """Runs a shell script, in `directory`, on a stage where `packages` are installed; all its processes end with it."""
    room = directory / "room"
    room.mkdir()
    folders = " ".join(str(unpacked(package)) for package in packages)
    unshare = [needs("unshare"), "--mount", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        missing("the right to make a mount namespace, as root has it,")
    # The shell stays the first process of its namespace, with which the others end. It must not become one of them:
    # a program that is set-user-ID, like Exim, would no longer be killed together with unshare.
    script = f"{_PRELUDE}{script}\nexit\n"
    command = [*unshare, "sh", str(HERE / "stage.sh"), str(room), folders, "sh", "-c", script]
    with running(command, directory) as process:
        yield process


def until(process: subprocess.Popen[bytes], directory: Path, done: Callable[[], bool]) -> None:
    """Waits until it is done, for as long as the process runs and no longer than SECONDS."""
    limit = monotonic() + SECONDS
    while not done():
        with suppress(subprocess.TimeoutExpired):
            process.wait(TICK)
        if process.poll() is not None or monotonic() > limit:
            break
    log = (directory / "log").read_text(errors="replace")
    assert done(), f"exit code {process.poll()}\n{log[-5000:]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def listens(port: int, *, greets: bool = True) -> bool:
    """Whether it says something, too, where the server speaks first."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            return not greets or connection.recv(1) != b""
    except OSError:
        return False
