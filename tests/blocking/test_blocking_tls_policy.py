"""A policy, other protocols, and where a session resumes: the same over plain sockets."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import trustme

from smtpstate import TlsUnavailable, tls
from smtpstate_blocking import Listener, Session, connect, serving_messages
from tests.blocking.sockets import SECONDS, Inbox, Recorder, background

if TYPE_CHECKING:
    from pathlib import Path

    from smtpstate import ConnectionClosed

CA = trustme.CA()
LEAF = CA.issue_cert("localhost", "127.0.0.1")
DER = ssl.PEM_cert_to_DER_cert(LEAF.cert_chain_pems[0].bytes().decode())


@dataclass
class Reasons(Recorder):
    """Keeps, too, what the handshakes ended with."""

    failures: list[ssl.SSLError | None] = field(default_factory=list)

    def session_closed(self, session: Session, closed: ConnectionClosed) -> None:
        self.failures.append(session.tls_failure)
        super().session_closed(session, closed)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> partial[ssl.SSLContext]:
    directory: Path = tmp_path_factory.mktemp("tls")
    LEAF.private_key_and_cert_chain_pem.write_to_path(str(directory / "pair.pem"))
    return partial(tls.server_context, directory / "pair.pem", directory / "pair.pem")


def knock(
    port: int, context: ssl.SSLContext, name: str | None = None, ticket: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """A client that hears the greeting, and with it, under TLS 1.3, the ticket: whether it resumed, and that."""
    plain = socket.create_connection(("127.0.0.1", port), SECONDS)
    with plain, context.wrap_socket(plain, server_hostname=name, session=ticket) as client:
        assert client.recv(3) == b"220"
        return bool(client.session_reused), client.session


def test_a_policy_is_met_or_nothing_is_sent(make: partial[ssl.SSLContext]) -> None:
    inbox = Inbox()
    good = tls.Dane([tls.Tlsa(3, 0, 1, sha256(DER).digest())])
    with background(serving_messages, inbox, accept_any=True, tls=make) as port:
        with connect(f"127.0.0.1:{port}", tls_policy=good) as client:
            assert client.send(b"hello\r\n", sender="", recipients="you@example.org").all_accepted
        refused = pytest.raises(TlsUnavailable, match="DANE: no TLSA record")
        with refused, connect(f"127.0.0.1:{port}", tls_policy=tls.Dane([tls.Tlsa(3, 0, 1, bytes(32))])):
            pass
    assert inbox.bodies == [b"hello\r\n"]
    refused = pytest.raises(TlsUnavailable, match="does not name this host")
    with refused, connect("127.0.0.1:1", tls_policy=tls.MtaSts(("mx.example.org",))):
        pass


def test_other_protocols_and_other_names_do_not_get_in(make: partial[ssl.SSLContext]) -> None:
    seen = Reasons()
    listener = Listener("127.0.0.1", 0, "implicit")
    serving = background(
        serving_messages, Inbox(), listener, accept_any=True, tls=make, server_names=["localhost"], observer=seen
    )
    browser = tls.client_context(verify=False)
    browser.set_alpn_protocols(["h2"])
    with serving as port:
        knock(port, tls.client_context(verify=False), "localhost")
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            knock(port, browser, "localhost")
        with pytest.raises(ssl.SSLError, match="unrecognized name"):
            knock(port, tls.client_context(verify=False))
    faults = {one.fault for one in seen.failures if isinstance(one, tls.HandshakeRefused)}
    assert faults == {tls.HelloFault.PROTOCOL, tls.HelloFault.NAME}


def test_a_session_is_resumed_where_it_began_and_nowhere_else(make: partial[ssl.SSLContext]) -> None:
    listeners = [Listener("127.0.0.1", 0, "implicit", accept_any=any_one) for any_one in (True, False)]
    with serving_messages(Inbox(), *listeners, hostname="mx.example.org", tls=make) as bound:
        here, there = (one.port for one in bound)
        context = tls.client_context(verify=False)
        _, ticket = knock(here, context)
        assert knock(here, context, None, ticket)[0]
        assert not knock(there, context, None, ticket)[0]
