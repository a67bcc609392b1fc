"""Fixtures: a home, `serve` running in it, and servers that follow a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.running import Home, Scripted, ScriptedServer, Serve, Served

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

LISTENERS = ("--listen", "--submission", "--lmtp")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def serve(home: Home) -> Generator[Serve, None, None]:
    """Starts `serve` with the arguments given, on a free port unless they say where."""
    running: list[Served] = []

    def start(*arguments: str, stderr: int | None = None) -> Served:
        if not any(argument.startswith(LISTENERS) for argument in arguments):
            arguments = ("--listen", "127.0.0.1:0", *arguments)
        served = Served(home, arguments, stderr)
        running.append(served)
        served.wait_until_it_listens(sum(argument.startswith(LISTENERS) for argument in arguments))
        return served

    yield start
    for served in running:
        served.kill()


@pytest.fixture
def scripted() -> Generator[Scripted, None, None]:
    servers: list[ScriptedServer] = []

    def start(script: Sequence[str] | None) -> ScriptedServer:
        servers.append(ScriptedServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
