"""What the conformance tests need of each adapter: a server and a client on loopback that play a scenario."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import anyio.to_thread

import smtpstate_anyio
import smtpstate_asyncio
import smtpstate_blocking
from smtpstate import DeliveryError
from smtpstate._config import OFFERS
from smtpstate_testing._certificates import client_context, server_context
from smtpstate_testing._opposite import Opposite
from smtpstate_testing._scenario import (
    CLIENT,
    HOSTNAME,
    PASSWORD,
    USER,
    Host,
    Login,
    Send,
    name_of,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from smtpstate import ConnectionClosed
    from smtpstate.sasl import ScramKeys
    from smtpstate_testing._scenario import Action, Mode, Scenario

ADDRESS: Final = "127.0.0.1"


@dataclass
class Served:
    """What an adapter's server did in one scenario; its observer, too."""

    scenario: Scenario
    mode: Mode
    host: Host = field(init=False)
    closed: ConnectionClosed | None = None

    def __post_init__(self) -> None:
        self.host = Host(self.scenario)

    @property
    def options(self) -> dict[str, Any]:
        """What `serve` is given."""
        config = self.scenario.config
        return {
            "hostname": HOSTNAME,
            "limits": config.limits,
            "offers": config.offers - OFFERS,
            "tls": None if self.mode == "plain" else server_context(HOSTNAME),
            "grace": 5.0,
        }

    def listener(self) -> smtpstate_anyio.Listener:
        service = "lmtp" if self.scenario.config.lmtp else "smtp"
        return smtpstate_anyio.Listener(ADDRESS, 0, self.mode, service=service)  # type: ignore[arg-type]  # not "own"

    @contextmanager
    def opposite(self, port: int) -> Iterator[Opposite]:
        """A client that was written down, connected to `port`."""
        opposite = Opposite(lambda: socket.create_connection((ADDRESS, port)), self.scenario, self.mode, "C")
        opposite.start()
        yield opposite


class Users:
    """One user, with a password."""

    def check(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)

    def keys(self, username: str) -> ScramKeys | None:
        raise NotImplementedError

    def token(self, username: str, token: str) -> str | None:
        raise NotImplementedError

    def certificate(self, name: str) -> str | None:
        raise NotImplementedError

    def __init__(self, mechanisms: tuple[str, ...]) -> None:
        self.mechanisms = mechanisms


class AsyncUsers:
    """The same, for who may wait."""

    def __init__(self, mechanisms: tuple[str, ...]) -> None:
        self.mechanisms = mechanisms

    async def check(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)

    async def keys(self, username: str) -> ScramKeys | None:
        raise NotImplementedError

    async def token(self, username: str, token: str) -> str | None:
        raise NotImplementedError

    async def certificate(self, name: str) -> str | None:
        raise NotImplementedError


def client_options(scenario: Scenario, mode: Mode) -> dict[str, Any]:
    """What `connect` is given."""
    return {
        "tls": scenario.tls_mode(mode),
        "ssl_context": None if mode == "plain" else client_context(),
        "hostname": CLIENT,
        "timeout": scenario.timeout,
        "limits": scenario.limits,
        "lmtp": scenario.config.lmtp,
    }


@contextmanager
def opposite_server(scenario: Scenario, mode: Mode) -> Iterator[str]:
    """A server that was written down, for one connection; gives its address. Raises Mismatch in the end."""
    with socket.create_server((ADDRESS, 0)) as listener:
        listener.settimeout(20.0)
        opposite = Opposite(lambda: listener.accept()[0], scenario, mode, "S")
        opposite.start()
        try:
            yield f"{ADDRESS}:{listener.getsockname()[1]}"
        except Exception as error:
            opposite.conclude(error)
            raise
        opposite.conclude()


# The servers.


async def _async_session(served: Served, session: Any) -> None:
    async for event in session:
        served.host.on_event(session, event)
    served.host.identity = session.identity


class _AnyioObserver(smtpstate_anyio.Observer):
    def __init__(self, served: Served) -> None:
        self._served = served

    def session_closed(self, session: smtpstate_anyio.Session, closed: ConnectionClosed) -> None:
        self._served.closed = closed


class _BlockingObserver(smtpstate_blocking.Observer):
    def __init__(self, served: Served) -> None:
        self._served = served

    def session_closed(self, session: smtpstate_blocking.Session, closed: ConnectionClosed) -> None:
        self._served.closed = closed


class _AsyncioObserver(smtpstate_asyncio.Observer):
    def __init__(self, served: Served) -> None:
        self._served = served

    def session_closed(self, session: smtpstate_asyncio.Session, closed: ConnectionClosed) -> None:
        self._served.closed = closed


async def anyio_server(served: Served) -> None:
    mechanisms = served.scenario.config.mechanisms

    async def handler(session: smtpstate_anyio.Session) -> None:
        await _async_session(served, session)

    async def run(*, task_status: anyio.abc.TaskStatus[Any]) -> None:
        await smtpstate_anyio.serve(
            handler,
            served.listener(),
            **served.options,
            users=AsyncUsers(mechanisms) if mechanisms else None,
            observer=_AnyioObserver(served),
            task_status=task_status,
        )

    async with anyio.create_task_group() as group:
        [bound] = await group.start(run)
        with served.opposite(bound.port) as opposite:
            await anyio.to_thread.run_sync(opposite.conclude)
        group.cancel_scope.cancel()


async def asyncio_server(served: Served) -> None:
    mechanisms = served.scenario.config.mechanisms

    async def handler(session: smtpstate_asyncio.Session) -> None:
        await _async_session(served, session)

    async with smtpstate_asyncio.serving(
        handler,
        served.listener(),
        **served.options,
        users=AsyncUsers(mechanisms) if mechanisms else None,
        observer=_AsyncioObserver(served),
    ) as [bound]:
        with served.opposite(bound.port) as opposite:
            await asyncio.to_thread(opposite.conclude)


def blocking_server(served: Served) -> None:
    mechanisms = served.scenario.config.mechanisms

    def handler(session: smtpstate_blocking.Session) -> None:
        for event in session:
            served.host.on_event(session, event)
        served.host.identity = session.identity

    with (
        smtpstate_blocking.serving(
            handler,
            served.listener(),
            **served.options,
            users=Users(mechanisms) if mechanisms else None,
            observer=_BlockingObserver(served),
        ) as [bound],
        served.opposite(bound.port) as opposite,
    ):
        opposite.conclude()


# The clients.

Outcome: TypeAlias = "tuple[list[str], ConnectionClosed | None]"


def _arguments(send: Send) -> dict[str, Any]:
    return {
        "message": send.octets,
        "sender": send.sender,
        "recipients": send.recipients,
        "chunked": send.chunked,
        "binary": send.binary,
        "parameters": send.parameters,
    }


def _login(login: Login) -> dict[str, Any]:
    return {"credentials": login.credentials, "among": (login.mechanism,), "in_clear": True}


async def _async_act(client: Any, action: Action, told: list[str]) -> None:
    if isinstance(action, Send):
        told += summary(await client.send(**_arguments(action)))
    elif isinstance(action, Login):
        await client.authenticate(**_login(action))
        told.append("logged in")
    else:
        raise AssertionError(f"no adapter has {action}")


async def async_client(connect: Callable[..., Any], scenario: Scenario, mode: Mode) -> Outcome:
    told: list[str] = []
    client = None
    with opposite_server(scenario, mode) as address:
        try:
            async with connect(address, **client_options(scenario, mode)) as client:
                for action in scenario.actions:
                    if client.closed is None:
                        await _async_act(client, action, told)
        except DeliveryError as error:
            told.append(name_of(error))
    return told, None if client is None else client.closed


def blocking_client(scenario: Scenario, mode: Mode) -> Outcome:
    told: list[str] = []
    client = None
    with opposite_server(scenario, mode) as address:
        try:
            with smtpstate_blocking.connect(address, **client_options(scenario, mode)) as client:
                for action in scenario.actions:
                    if client.closed is not None:
                        break
                    if isinstance(action, Send):
                        told += summary(client.send(**_arguments(action)))
                    elif isinstance(action, Login):
                        client.authenticate(**_login(action))
                        told.append("logged in")
        except DeliveryError as error:
            told.append(name_of(error))
    return told, None if client is None else client.closed
