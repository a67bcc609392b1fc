"""Our client delivers what looks like the end of a message inside of one, to servers that others wrote.

Each of them stores as many messages as were sent, and of each what was sent, with CRLF for each bare CR and bare LF.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import anyio
import pytest

from smtpstate_anyio import connect
from tests.differential.conftest import SETTINGS, running_postfix
from tests.interop.servers import exim, smtp_server
from tests.near_terminators import NEAR_TERMINATORS
from tests.peers.lodger import Handler
from tests.peers.lodger import aiosmtpd as running_aiosmtpd
from tests.peers.programs import SECONDS
from tests.peers.serving import RECIPIENT, SENDER, Certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    Stored: TypeAlias = Callable[[Sequence[str]], list[bytes]]
    Start: TypeAlias = Callable[[Path, Certificates], AbstractContextManager["Target"]]

_HEADER: Final = (
    b"From: <sender@example.org>\r\nDate: Wed, 1 Jan 2025 00:00:00 +0000\r\nMessage-Id: <%d@example.org>\r\n\r\n"
)
# What a server would take for a second message, had the first one ended.
_SECOND: Final = (
    b"MAIL FROM:<forged@example.org>\r\nRCPT TO:<recipient@example.org>\r\nDATA\r\nSubject: forged\r\n\r\nforged\r\n"
)
_AT_ONCE: Final = 10  # what comes after ten messages of one session, Exim leaves in its queue


def _contents() -> list[bytes]:
    """Each near end as it comes off the wire, and as its own octets: what a relay has, and what a user may write."""
    nears = [*(row.content for row in NEAR_TERMINATORS), *(row.near for row in NEAR_TERMINATORS), b"\r\n.\r\n"]
    return [_HEADER % number + b"a" + near + _SECOND for number, near in enumerate(dict.fromkeys(nears))]


CONTENTS: Final = _contents()


def clean(content: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", b"\r\n", content)


class Target(NamedTuple):
    """A running server. `stored` waits for what it has stored of the messages that got these replies."""

    port: int
    stored: Stored


@contextmanager
def postfix(directory: Path, certificates: Certificates) -> Generator[Target, None, None]:
    with running_postfix(certificates, {**SETTINGS, "message_size_limit": "0"}) as server:
        yield Target(
            server.port,
            lambda replies: [server.stored(reply).content.replace(b"\n", b"\r\n") for reply in replies],
        )


@contextmanager
def lenient_postfix(directory: Path, certificates: Certificates) -> Generator[Target, None, None]:
    """One that ends messages at any newlines, as they all did for decades."""
    with running_postfix(certificates, {**SETTINGS, "smtpd_forbid_bare_newline": "no"}) as server:
        yield Target(
            server.port,
            lambda replies: [server.stored(reply).content.replace(b"\n", b"\r\n") for reply in replies],
        )


@contextmanager
def aiosmtpd(directory: Path, certificates: Certificates) -> Generator[Target, None, None]:
    handler = Handler()
    with running_aiosmtpd(handler) as port:
        yield Target(port, lambda replies: [envelope.original_content or b"" for envelope in handler.kept])


@contextmanager
def nodemailers(directory: Path, certificates: Certificates) -> Generator[Target, None, None]:
    with smtp_server(directory, certificates, "off") as server:
        yield Target(server.port, lambda replies: server.stored(len(replies)))


@contextmanager
def exims(directory: Path, certificates: Certificates) -> Generator[Target, None, None]:
    with exim(directory, certificates, "off") as server:
        yield Target(server.port, lambda replies: server.stored(len(replies)))


async def deliver(port: int, *, chunked: bool) -> tuple[list[str], bool]:
    """All of them; the replies, and whether the server had CHUNKING."""
    replies: list[str] = []
    chunking = False
    with anyio.fail_after(SECONDS):
        for start in range(0, len(CONTENTS), _AT_ONCE):
            async with connect(f"127.0.0.1:{port}", hostname="client.example.org", tls="off") as client:
                chunking = client.capabilities.chunking
                for content in CONTENTS[start : start + _AT_ONCE]:
                    delivery = await client.send(content, sender=SENDER, recipients=[RECIPIENT], chunked=chunked)
                    assert delivery.all_accepted, (content, delivery)
                    replies += [str(result.reply) for result in delivery]
    return replies, chunking


@pytest.mark.parametrize("chunked", [False, True], ids=["DATA", "BDAT"])
@pytest.mark.parametrize(
    "start", [postfix, lenient_postfix, aiosmtpd, nodemailers, exims], ids=lambda one: one.__name__
)
def test_one_message_is_one_message_and_arrives_as_it_was(
    tmp_path: Path, certificates: Certificates, start: Start, chunked: bool
) -> None:
    with start(tmp_path, certificates) as target:
        replies, chunking = anyio.run(partial(deliver, target.port, chunked=chunked))
        assert len(replies) == len(CONTENTS)
        assert chunking or start in (aiosmtpd, nodemailers)
        assert sorted(target.stored(replies)) == sorted(map(clean, CONTENTS))
