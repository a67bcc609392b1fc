"""A reply that has arrived before MAIL leaves in TLS: the client looks, says nothing, and sends no mail."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from anyio import Event, create_task_group, fail_after, from_thread, to_thread

from smtpstate import CloseReason, ConnectionClosed, RecipientResult, Result, Violation
from smtpstate_anyio import connect
from tests.anyio.loopback import SECONDS, Certificates

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


def serve_once(listener: socket.socket, context: ssl.SSLContext, surplus: bytes, said: Callable[[], None]) -> bytes:
    """One session in TLS: greets, answers EHLO, says `surplus` in a record of its own; what it hears after that."""
    raw, _ = listener.accept()
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the record waits for an acknowledgement
    with raw, context.wrap_socket(raw, server_side=True) as wire:
        wire.sendall(b"220 localhost\r\n")
        assert wire.recv(4096).startswith(b"EHLO ")
        wire.sendall(b"250-localhost\r\n250 PIPELINING\r\n")
        if surplus:
            wire.sendall(surplus)
        said()
        heard = b""
        while octets := wire.recv(4096):
            heard += octets
            if heard.endswith(b"QUIT\r\n"):
                wire.sendall(b"221 bye\r\n")
            elif not surplus:
                wire.sendall(b"550 no\r\n" * octets.count(b"\r\n"))
        return heard


@pytest.mark.parametrize("surplus", [b"250 2.1.0 OK\r\n", b"250-OK\r\n", b"2", b""])
async def test_input_that_is_there_before_mail_keeps_mail_here(certificates: Certificates, surplus: bytes) -> None:
    heard: list[bytes] = []
    said = Event()
    with fail_after(SECONDS), socket.create_server(("127.0.0.1", 0)) as listener:

        async def serve() -> None:
            context = certificates.server
            heard.append(
                await to_thread.run_sync(serve_once, listener, context, surplus, lambda: from_thread.run_sync(said.set))
            )

        async with create_task_group() as group:
            group.start_soon(serve)
            port = listener.getsockname()[1]
            async with connect(f"127.0.0.1:{port}", tls="implicit", ssl_context=certificates.trusting) as client:
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
