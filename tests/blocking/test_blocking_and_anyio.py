"""Both adapters are one conversation: each client to the other's server, in every TLS mode."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import pytest

import smtpstate_anyio
import smtpstate_blocking
from smtpstate import Result
from tests.blocking.sockets import Certificates, Inbox, background

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = [("plain", "off"), ("starttls", "required"), ("implicit", "implicit")]
LETTER = b"Subject: hello\r\n\r\n" + b".dot\r\n" * 50_000
TO = ["a@example.org", "b@example.org"]


@contextmanager
def anyio_server(listener: smtpstate_anyio.Listener, bodies: list[bytes], **options: Any) -> Iterator[int]:
    async def keep(message: smtpstate_anyio.Message) -> None:
        bodies.append(b"".join([chunk async for chunk in message.body]))

    async def run(*, task_status: Any) -> None:
        await smtpstate_anyio.serve_messages(
            keep, listener, hostname="mx.example.org", accept_any=True, task_status=task_status, **options
        )

    with anyio.from_thread.start_blocking_portal() as portal:
        server, bound = portal.start_task(run)
        yield bound[0].port
        server.cancel()


@pytest.mark.parametrize(("listens", "asks"), MODES)
def test_the_client_on_a_socket_to_the_server_on_anyio(listens: Any, asks: str, certificates: Certificates) -> None:
    bodies: list[bytes] = []
    listener = smtpstate_anyio.Listener("127.0.0.1", 0, listens)
    with (
        anyio_server(listener, bodies, tls=certificates.server) as port,
        smtpstate_blocking.connect(f"127.0.0.1:{port}", tls=asks, ssl_context=certificates.trusting) as client,
    ):
        delivery = client.send(LETTER, sender="", recipients=TO)
    assert [result.outcome for result in delivery] == [Result.ACCEPTED] * 2
    assert bodies == [LETTER]


@pytest.mark.parametrize(("listens", "asks"), MODES)
def test_the_client_on_anyio_to_the_server_on_threads(listens: Any, asks: str, certificates: Certificates) -> None:
    inbox, listener = Inbox(), smtpstate_blocking.Listener("127.0.0.1", 0, listens)
    outcomes: list[Result] = []

    async def send(port: int) -> None:
        async with smtpstate_anyio.connect(f"127.0.0.1:{port}", tls=asks, ssl_context=certificates.trusting) as client:
            outcomes.extend(result.outcome for result in await client.send(LETTER, sender="", recipients=TO))

    options: Any = {"accept_any": True, "tls": certificates.server}
    with background(smtpstate_blocking.serving_messages, inbox, listener, **options) as port:
        thread = Thread(target=anyio.run, args=(send, port))
        thread.start()
        thread.join()
    assert outcomes == [Result.ACCEPTED] * 2
    assert inbox.bodies == [LETTER]


SAME = ("serve", "serve_messages", "connect")
OTHER = {"task_status"}  # anyio's way to say that the addresses are bound; here `serving` gives them


@pytest.mark.parametrize("name", SAME)
def test_both_take_the_same_arguments(name: str) -> None:
    from inspect import signature

    ours, theirs = (signature(getattr(module, name)) for module in (smtpstate_blocking, smtpstate_anyio))
    assert [*ours.parameters] == [one for one in theirs.parameters if one not in OTHER]
    assert {one.name: one.default for one in ours.parameters.values()} == {
        one.name: one.default for one in theirs.parameters.values() if one.name not in OTHER
    }


@pytest.mark.parametrize("kind", ["Client", "Session", "Message", "MessageBody", "Authenticator", "Users", "Observer"])
def test_both_have_the_same_methods(kind: str) -> None:
    def public(module: Any) -> set[str]:
        return {name for name in dir(getattr(module, kind)) if not name.startswith("_")}

    left_out = {"budget"} if kind == "Session" else set()  # to cancel a block: a thread has no such thing
    for_the_server = {"expire", "abandon", "leave"} if kind == "Session" else {"hang_up"}
    assert public(smtpstate_blocking) - for_the_server == public(smtpstate_anyio) - left_out


def test_both_export_the_same_names() -> None:
    def public(module: Any) -> set[str]:
        return {name for name in vars(module) if not name.startswith("_")}

    assert public(smtpstate_blocking) == public(smtpstate_anyio) | {"serving", "serving_messages"}
