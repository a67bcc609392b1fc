"""aiosmtpd in a thread: a server that refuses whom its handler does not like."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.peers.programs import SECONDS

if TYPE_CHECKING:
    from collections.abc import Generator
    from ssl import SSLContext


@dataclass
class Handler:
    """Says 550 or 450 to recipients with that local part, and `verdict` to a message; keeps what it accepts."""

    verdict: str = "250 2.0.0 OK"
    kept: list[Envelope] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, to: str, options: list[str]) -> str:
        match to.partition("@")[0]:
            case "nobody":
                return "550 5.1.1 No such mailbox"
            case "full":
                return "450 4.2.2 Mailbox full"
            case _:
                envelope.rcpt_tos.append(to)
                return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.verdict.startswith("2"):
            self.kept.append(envelope)
            self.encrypted.append(session.ssl is not None or _is_tls(server))
        return self.verdict


def _is_tls(server: SMTP) -> bool:
    return server.transport is not None and server.transport.get_extra_info("ssl_object") is not None


@contextmanager
def aiosmtpd(handler: object, *, implicit: SSLContext | None = None, **options: Any) -> Generator[int, None, None]:
    """Listens on a port of its own, which it gives, until the block ends."""
    ports: list[int] = []
    listening = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        def session() -> SMTP:
            return SMTP(handler, hostname="mx.example.org", loop=loop, **options)

        server = await loop.create_server(session, "127.0.0.1", 0, ssl=implicit)
        ports.append(server.sockets[0].getsockname()[1])
        listening.set()
        await stop.wait()
        server.close()
        await server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert listening.wait(SECONDS)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(SECONDS)
        assert not thread.is_alive()
