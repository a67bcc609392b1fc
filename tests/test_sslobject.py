"""What ssl tells of a handshake."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
import trustme

from smtpstate._sslobject import identities, sent_name, verified_chain

HOST = "mx.example.org"
ROOT = trustme.CA()
MIDDLE = ROOT.create_child_ca()
SERVER = MIDDLE.issue_cert(HOST)
CLIENT = ROOT.issue_cert("user@example.org")


def shaken(*, shows: bool = True, verify: ssl.VerifyMode = ssl.CERT_REQUIRED) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A server and a client after their handshake."""
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    SERVER.configure_cert(ours)
    ROOT.configure_trust(ours)
    ROOT.configure_trust(theirs)
    ours.verify_mode = ssl.CERT_OPTIONAL
    theirs.check_hostname = verify is ssl.CERT_REQUIRED
    theirs.verify_mode = verify
    if shows:
        CLIENT.configure_cert(theirs)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(up, down, server_side=True)
    client = theirs.wrap_bio(down, up, server_hostname=HOST)
    for _ in range(3):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return server, client


def test_the_chain_goes_from_the_peer_to_what_is_trusted() -> None:
    server, client = shaken()
    expected = [SERVER.cert_chain_pems[0], MIDDLE.cert_pem, ROOT.cert_pem]
    assert verified_chain(client) == tuple(ssl.PEM_cert_to_DER_cert(pem.bytes().decode()) for pem in expected)
    assert verified_chain(client)[0] == client.getpeercert(binary_form=True)
    assert len(verified_chain(server)) == 2


def test_who_shows_nothing_has_no_chain_and_no_name() -> None:
    server, _ = shaken(shows=False)
    assert (verified_chain(server), identities(server)) == ((), ())


def test_a_certificate_has_names() -> None:
    server, client = shaken()
    assert identities(server) == ("user@example.org",)
    assert identities(client) == (HOST,)


def test_a_name_that_is_not_utf_8_is_nobody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: ssl.SSLObject, binary_form: bool = False) -> object:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    server, _ = shaken()
    monkeypatch.setattr(ssl.SSLObject, "getpeercert", crash)
    assert identities(server) == ()


@pytest.mark.parametrize(("hostname", "name"), [(HOST, HOST), ("192.0.2.1", None), ("2001:db8::1", None), (None, None)])
def test_an_address_is_no_name_to_ask_for(hostname: str | None, name: str | None) -> None:
    assert sent_name(hostname) == name
