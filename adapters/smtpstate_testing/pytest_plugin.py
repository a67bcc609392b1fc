"""The pytest plugin: the fixture `smtp_server`. It imports what it needs when a test asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smtpstate_testing._inbox import SmtpServer


@pytest.fixture
def smtp_server() -> Iterator[SmtpServer]:
    """An SMTP server on a free port of 127.0.0.1, listening already; `smtp_server.inbox` has what it received."""
    pytest.importorskip("anyio", reason="the fixture smtp_server needs anyio: pip install 'smtpstate[test]'")
    from smtpstate_testing._inbox import SmtpServer

    with SmtpServer() as server:
        yield server
