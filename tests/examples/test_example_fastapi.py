"""docs/examples/fastapi_inbox.py, on asyncio and trio: the application over ASGI, its mail server over loopback."""

from __future__ import annotations

import smtplib
import socket
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
from anyio import create_task_group, fail_after, to_thread

from docs.examples.fastapi_inbox import LIMITS, Inbox, app, application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

pytestmark = pytest.mark.anyio

SECONDS = 20.0  # reached only when something hangs
LETTER = b"Subject: hello\r\n\r\nhello\r\n"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[tuple[int, httpx.AsyncClient]]:
    """Between its start and its end: the port of its mail server, and somebody who asks it."""
    transport = httpx.ASGITransport(app)  # it leaves the lifespan to us
    with fail_after(SECONDS):
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://inbox.example.org") as http,
        ):
            inbox = app.state.inbox
            assert isinstance(inbox, Inbox)
            [bound] = inbox.bound
            yield bound.port, http


async def test_the_endpoint_shows_what_arrived() -> None:
    async with running(application("127.0.0.1:0")) as (port, http):
        assert (await http.get("/messages")).json() == []

        def post() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=SECONDS) as client:
                client.sendmail("me@example.com", ["you@example.org", "all@example.org"], LETTER)
                client.sendmail("", ["you@example.org"], "Subject: grüße\r\n\r\n".encode(), ["BODY=8BITMIME"])

        await to_thread.run_sync(post)
        first, second = (await http.get("/messages")).json()
    assert first.pop("id") != second.pop("id")
    assert first == {
        "sender": "me@example.com",
        "recipients": ["you@example.org", "all@example.org"],
        "content": LETTER.decode(),
    }
    assert second == {"sender": "", "recipients": ["you@example.org"], "content": "Subject: grüße\r\n\r\n"}


async def test_what_is_refused_is_not_shown() -> None:
    async with running(application("127.0.0.1:0")) as (port, http):

        def post() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=SECONDS) as client:
                with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                    client.sendmail("me@example.com", ["you@example.net"], LETTER)
                assert refused.value.recipients["you@example.net"][0] == 550
                with pytest.raises(smtplib.SMTPResponseException):
                    client.sendmail("me@example.com", ["you@example.org"], b"x" * (LIMITS.message + 1))

        await to_thread.run_sync(post)
        assert (await http.get("/messages")).json() == []


async def test_the_server_goes_with_the_application() -> None:
    farewell: list[int] = []

    def listen(idle: smtplib.SMTP) -> None:
        with closing(idle):
            farewell.append(idle.getreply()[0])

    async with create_task_group() as group, running(application("127.0.0.1:0")) as (port, http):
        idle = await to_thread.run_sync(partial(smtplib.SMTP, "127.0.0.1", port, timeout=SECONDS))
        group.start_soon(to_thread.run_sync, listen, idle)
        assert (await http.get("/messages")).status_code == 200
    assert farewell == [421]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), SECONDS)


async def test_an_application_whose_server_cannot_listen_does_not_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.RaisesGroup(OSError):
            async with running(application(address)):
                pass


async def test_what_uvicorn_is_told_to_run_has_the_endpoint() -> None:
    assert "/messages" in app.openapi()["paths"]
