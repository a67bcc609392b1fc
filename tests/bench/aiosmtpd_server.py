"""aiosmtpd that throws away what it takes, on a free port of loopback: `aiosmtpd_server.py SECONDS`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from aiosmtpd.smtp import SMTP

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope, Session

_BACKLOG = 4096  # its controller has 100, and this is not about the kernel's queue


class Discard:
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return "250 2.0.0 OK"


async def _main(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Discard(), hostname="mx.example.org", timeout=seconds, loop=loop),
        "127.0.0.1",
        0,
        backlog=_BACKLOG,
    )
    sys.stdout.write(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]} (plain)\n")
    sys.stdout.flush()
    await server.serve_forever()


asyncio.run(_main(float(sys.argv[1])))
