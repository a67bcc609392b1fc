"""A reply that has arrived before MAIL leaves in TLS: the client looks, says nothing, and sends no mail."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from anyio import Event, create_task_group, fail_after, from_thread, to_thread

from smtpstate import CloseReason, ConnectionClosed, RecipientResult, Result, Violation
from smtpstate_anyio import connect
from tests.anyio.loopback import SECONDS
from tests.early_reply import SURPLUS, serve_once

if TYPE_CHECKING:
    from tests.anyio.loopback import Certificates

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("surplus", SURPLUS)
async def test_input_that_is_there_before_mail_keeps_mail_here(certificates: Certificates, surplus: bytes) -> None:
    heard: list[bytes] = []
    opened, said = threading.Event(), Event()
    with fail_after(SECONDS), socket.create_server(("127.0.0.1", 0)) as listener:

        async def serve() -> None:
            context = certificates.server
            heard.append(
                await to_thread.run_sync(
                    serve_once, listener, context, surplus, opened, lambda: from_thread.run_sync(said.set)
                )
            )

        async with create_task_group() as group:
            group.start_soon(serve)
            port = listener.getsockname()[1]
            async with connect(f"127.0.0.1:{port}", tls="implicit", ssl_context=certificates.trusting) as client:
                opened.set()
                await said.wait()
                delivery = await client.send(b"hello\r\n", sender="me@example.com", recipients=["you@example.org"])
                broken = client.connection.closed
    [result] = delivery
    if surplus:
        assert result == RecipientResult("you@example.org", Result.RETRY, None)
        assert broken == ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)
        assert heard == [b""], "MAIL stays here"
    else:
        assert (result.outcome, broken) == (Result.REFUSED, None)
        assert heard[0].startswith(b"MAIL FROM:<me@example.com>")
