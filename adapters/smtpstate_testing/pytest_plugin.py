"""The pytest plugin: the fixtures `smtp_server`, `smtp_server_tls` and `smtp_pair`. It imports what a test asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smtpstate_testing._inbox import SmtpServer
    from smtpstate_testing._pair import Pair

_HINT = "the fixture {} needs {}: pip install 'smtpstate[test]'"


@pytest.fixture
def smtp_server() -> Iterator[SmtpServer]:
    """An SMTP server on a free port of 127.0.0.1, listening already; `smtp_server.inbox` has what it received."""
    pytest.importorskip("anyio", reason=_HINT.format("smtp_server", "anyio"))
    from smtpstate_testing._inbox import SmtpServer

    with SmtpServer() as server:
        yield server


@pytest.fixture
def smtp_server_tls() -> Iterator[SmtpServer]:
    """The same with STARTTLS. `smtp_server_tls.client_context` is an SSLContext that trusts its certificate."""
    pytest.importorskip("anyio", reason=_HINT.format("smtp_server_tls", "anyio"))
    pytest.importorskip("trustme", reason=_HINT.format("smtp_server_tls", "trustme"))
    from smtpstate_testing._inbox import SmtpServer

    with SmtpServer(tls=True) as server:
        yield server


@pytest.fixture
def smtp_pair() -> Pair:
    """A server and a client in memory, without a socket or a thread; `smtp_pair.inbox` has what the server took."""
    from smtpstate_testing._pair import Pair

    return Pair()
