"""No test here may leave a thread behind, or a socket."""

from __future__ import annotations

import gc
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.blocking.sockets import Certificates

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = {thread.ident for thread in threading.enumerate()}
    yield
    assert [thread for thread in threading.enumerate() if thread.ident not in before] == []
    gc.collect()  # what was not closed warns now, and a warning is an error


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    suspicious = ssl.create_default_context()
    trustme.CA().configure_trust(suspicious)
    return Certificates(server, trusting, suspicious)
