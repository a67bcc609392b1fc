"""One `smtpstate serve` for all the tests here, and the certificates for it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.peers.serving import Certificates, Serving

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    ca, chain, key = directory / "ca.pem", directory / "chain.pem", directory / "key.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca))
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(chain), append=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(server)
    return Certificates(ca, chain, key, server, ssl.create_default_context(cafile=str(ca)))


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Generator[Serving, None, None]:
    patient = ("-o", "commands=100000000", "-o", "smtpd_recipient_overshoot_limit=100000000")  # for who never reads
    serving = Serving(tmp_path_factory.mktemp("serve"), certificates, *patient)
    try:
        yield serving
        assert serving.stop() == 0
        log = serving.log.read_text()
        assert "Traceback" not in log
        assert " ERROR " not in log
    finally:
        serving.kill()


@pytest.fixture
def serving(process: Serving) -> Serving:
    """The one process, with an empty Maildir."""
    process.take()
    return process
