"""The core of the list over every adapter, every mode and both seats, on loopback, against Python's own TLS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest
import uvloop

import smtpstate_anyio
import smtpstate_asyncio
from smtpstate_testing._core_scenarios import CORE
from smtpstate_testing._scenario import Mode, Scenario, check_client, check_server
from tests.conformance.adapters import (
    Outcome,
    Served,
    anyio_server,
    async_client,
    asyncio_server,
    blocking_client,
    blocking_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def on_uvloop(run: Callable[..., Any], *args: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(*args))


def on_asyncio(run: Callable[..., Any], *args: Any) -> Any:
    return asyncio.run(run(*args))


def on_trio(run: Callable[..., Any], *args: Any) -> Any:
    return anyio.run(run, *args, backend="trio")


@dataclass(frozen=True)
class Adapter:
    """An adapter on what it runs on."""

    name: str
    serve: Callable[[Served], None]
    connect: Callable[[Scenario, Mode], Outcome]

    def __str__(self) -> str:
        return self.name


ADAPTERS: Final = (
    Adapter(
        "anyio-asyncio",
        partial(on_asyncio, anyio_server),
        partial(on_asyncio, async_client, smtpstate_anyio.connect),
    ),
    Adapter("anyio-trio", partial(on_trio, anyio_server), partial(on_trio, async_client, smtpstate_anyio.connect)),
    Adapter(
        "asyncio-protocol",
        partial(on_asyncio, asyncio_server),
        partial(on_asyncio, async_client, smtpstate_asyncio.connect),
    ),
    Adapter("uvloop", partial(on_uvloop, asyncio_server), partial(on_uvloop, async_client, smtpstate_asyncio.connect)),
    Adapter("blocking", blocking_server, blocking_client),
)
ROWS: Final = [(scenario, mode) for scenario in CORE for mode in scenario.modes]


def test_the_core_has_fifteen() -> None:
    assert len(CORE) == 15


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
@pytest.mark.parametrize(
    ("scenario", "mode"),
    [
        pytest.param(scenario, mode, id=f"{scenario}-{mode}")
        for scenario, mode in ROWS
        # serve() offers no AUTH in clear text
        if "server" in scenario.seats and not (scenario.config.mechanisms and mode == "plain")
    ],
)
def test_a_server_does_what_the_scenario_says(adapter: Adapter, scenario: Scenario, mode: Mode) -> None:
    served = Served(scenario, mode)
    adapter.serve(served)
    check_server(scenario, served.host, served.closed)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
@pytest.mark.parametrize(
    ("scenario", "mode"),
    [pytest.param(scenario, mode, id=f"{scenario}-{mode}") for scenario, mode in ROWS if "client" in scenario.seats],
)
def test_a_client_does_what_the_scenario_says(adapter: Adapter, scenario: Scenario, mode: Mode) -> None:
    told, closed = adapter.connect(scenario, mode)
    if closed is None:  # the session never began, and nobody was given a client
        assert tuple(told) == scenario.told
    else:
        check_client(scenario, told, closed)
