"""Postfix's smtp-sink: a server that goes wrong as told."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from tests.peers.programs import SECONDS, needs

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path


class Sink(NamedTuple):
    port: int
    dump: Path

    def messages(self) -> list[bytes]:
        """What it took, with LF for CRLF, as it keeps it: an X-... and a Received header first, an empty line last."""
        if not self.dump.exists():
            return []
        messages = self.dump.read_bytes().split(b"X-Client-Addr: ")[1:]
        return [
            message.partition(b"\nReceived: ")[2].partition(b" (UTC)\n")[2].removesuffix(b"\n") for message in messages
        ]


@contextmanager
def smtp_sink(directory: Path, options: Sequence[str]) -> Generator[Sink, None, None]:
    """Runs it on a port of its own. What it dumps can be read afterwards."""
    dump = directory / "dump"
    user = ("-u", "root") if os.geteuid() == 0 else ()  # as root it insists on a name
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [needs("smtp-sink"), *user, "-D", str(dump), *options, f"127.0.0.1:{port}", "64"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _wait_until_it_listens(process, port)
            yield Sink(port, dump)
        finally:
            process.terminate()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    """It says nothing when it does, so we ask until it answers."""
    until = monotonic() + SECONDS
    while process.poll() is None and monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), SECONDS).close()
        except ConnectionRefusedError:
            os.sched_yield()
        else:
            return
    assert process.stderr is not None
    process.kill()
    raise AssertionError(process.stderr.read())
