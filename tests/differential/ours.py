"""Our server in a thread, as `serve_messages` runs it; it keeps what it accepts in memory."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio.from_thread import start_blocking_portal

from smtpstate_anyio import Message, serve_messages
from tests.differential.rows import DOMAIN
from tests.differential.talk import Stored

if TYPE_CHECKING:
    from collections.abc import Generator
    from ssl import SSLContext

    from smtpstate import Limits
    from smtpstate._address import Mailbox
    from smtpstate.policy import WireRules

_ACCEPTED: Final = re.compile(r"accepted as (\w+)")


class Ours:
    """What it has accepted, by the id that its reply names."""

    def __init__(self) -> None:
        self.port: int = 0
        self._kept: Final[dict[str, tuple[Message, bytes]]] = {}

    async def take(self, message: Message) -> None:
        self._kept[message.id] = message, b"".join([piece async for piece in message.body])

    def stored(self, reply: str) -> Stored:
        """What was kept of the message that `reply` accepted."""
        match = _ACCEPTED.search(reply)
        assert match is not None, reply
        message, content = self._kept.pop(match[1])
        sender = message.sender.mailbox
        # Postfix keeps a recipient that came twice once, and gives <postmaster> its own domain.
        recipients = dict.fromkeys(_unquoted(recipient.mailbox) for recipient in message.recipients)
        return Stored("" if sender is None else _unquoted(sender), tuple(recipients), content.replace(b"\r\n", b"\n"))


def _unquoted(mailbox: Mailbox) -> str:
    return f"{mailbox.local_part}@{mailbox.domain or DOMAIN}"


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def running(
    domain: str, context: SSLContext, limits: Limits, wire: WireRules | None = None
) -> Generator[Ours, None, None]:
    """Listens on a port of its own until the block ends; nothing may be logged as an error meanwhile."""
    ours = Ours()
    server = partial(
        serve_messages,
        ours.take,
        "127.0.0.1:0",
        hostname=f"mx.{domain}",
        domains=[domain],
        tls=context,
        limits=limits,
        wire=wire,
    )
    complaints = _Complaints()
    logger = logging.getLogger("smtpstate")
    logger.addHandler(complaints)
    try:
        with start_blocking_portal() as portal:
            future, bound = portal.start_task(server)
            ours.port = bound[0].port
            yield ours
            future.cancel()
    finally:
        logger.removeHandler(complaints)
    assert complaints.messages == []
