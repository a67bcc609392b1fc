"""Every test here runs on asyncio and on trio, over real loopback sockets."""

import ssl

import pytest
import trustme

from tests.anyio.loopback import Certificates


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(server)
    misnamed = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mx.example.net").configure_cert(misnamed)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    suspicious = ssl.create_default_context()
    trustme.CA().configure_trust(suspicious)
    return Certificates(server, misnamed, trusting, suspicious)
