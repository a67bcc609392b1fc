"""TLS as a layer: who may come in, by what the hello says, and whom a client talks to, by its policy."""

from __future__ import annotations

import ssl
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import trustme

from smtpstate import tls
from smtpstate._client import ClientConnection
from smtpstate._clienthello import HelloFault
from smtpstate._commands import Ehlo, Quit, StartTls
from smtpstate._config import ServerConfig
from smtpstate._events import CloseReason, Connected, ConnectionClosed, Flow
from smtpstate._server import ServerConnection
from tests.hellos import alpn, hello, server_name
from tests.tls_peers import (
    CA,
    CERTIFICATE,
    CUTS,
    HOST,
    VERSIONS,
    Client,
    Clock,
    Raw,
    Server,
    client_side,
    message,
    run,
    server_side,
    starting_client,
    starting_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable

REPLY = b"220 2.0.0 Begin TLS\r\n"

# Who may come in.

REFUSED = [
    pytest.param(hello(alpn(b"h2", b"http/1.1"), server_name(HOST.encode())), HelloFault.PROTOCOL, id="a browser"),
    pytest.param(hello(alpn(b"SMTP"), server_name(HOST.encode())), HelloFault.PROTOCOL, id="SMTP in capitals"),
    pytest.param(hello(alpn(b"smtp"), server_name(b"www.example.org")), HelloFault.NAME, id="another name"),
    pytest.param(hello(alpn(b"smtp")), HelloFault.NAME, id="no name"),
    pytest.param(hello(alpn(b"smtp", b"")), HelloFault.MALFORMED, id="a hello that is not sound"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: mx.example.org\r\n\r\n", HelloFault.NOT_TLS, id="a request in clear"),
    pytest.param(b"EHLO c.example.com\r\n", HelloFault.NOT_TLS, id="a command in clear"),
]


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("wire", "fault"), REFUSED)
def test_who_is_not_wanted_gets_an_alert_and_nothing_else(
    wire: bytes, fault: HelloFault, cut: int, implicit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ssl has not seen an octet of it."""
    handshakes: list[ssl.SSLObject] = []
    server = Server(implicit=True, names=(HOST,)) if implicit else starting_server(names=(HOST,))
    said = server.flush()
    monkeypatch.setattr(ssl.SSLObject, "do_handshake", handshakes.append)
    server.feed(wire, cut)
    assert server.flush() == fault.record
    assert not handshakes
    assert said == (b"" if implicit else REPLY)
    failure = server.machine.failure
    assert isinstance(failure, tls.HandshakeRefused)
    assert (failure.fault, failure.reason, str(failure)) == (fault, fault.text, fault.text)
    assert (server.machine.half_close, server.flow) == (True, Flow.NEED_DATA)
    server.feed(b"EHLO c.example.com\r\nMAIL FROM:<a@example.com>\r\n" * 1000)
    assert server.flush() == b""
    server.machine.receive_eof()
    server.pull()
    clear = [] if implicit else [Connected(), Ehlo("c.example.com"), StartTls()]
    assert server.events == [*clear, ConnectionClosed(CloseReason.TLS_FAILED)]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("name", [HOST, "other.example.org"], ids=["ours", "another"])
@pytest.mark.parametrize("protocols", [[], ["smtp"], ["h2", "smtp"], ["h2"], ["http/1.1"]], ids=repr)
def test_a_client_learns_why_it_is_refused(protocols: list[str], name: str, version: ssl.TLSVersion) -> None:
    theirs = client_side(check_hostname=False, maximum_version=version)
    theirs.set_alpn_protocols(protocols)
    ours = server_side()
    ours.set_alpn_protocols(["smtp"])
    server = Server(ours, implicit=True, names=(HOST,))
    client = Client(Ehlo("c.example.com"), Quit(), context=theirs, name=name, implicit=True)
    run(server, client, 99)
    if protocols and "smtp" not in protocols:
        why = "NO_APPLICATION_PROTOCOL"
    else:
        why = "" if name == HOST else "UNRECOGNIZED_NAME"
    if why:
        assert server.closed == client.closed == ConnectionClosed(CloseReason.TLS_FAILED)
        assert why in str(client.machine.failure).upper().replace(" ", "_")
        return
    assert server.closed == client.closed == ConnectionClosed(CloseReason.QUIT)
    assert server.connection.tls is not None
    assert server.connection.tls.offered_alpn == tuple(protocols)
    assert server.connection.tls.alpn == ("smtp" if protocols else None)


def test_a_context_that_knows_no_alpn_is_no_hole() -> None:
    theirs = client_side()
    theirs.set_alpn_protocols(["h2"])
    server, client = Server(implicit=True), Client(Quit(), context=theirs, implicit=True)
    run(server, client, 99)
    assert server.closed == ConnectionClosed(CloseReason.TLS_FAILED)


def test_any_name_will_do_where_none_is_wanted() -> None:
    for name in (HOST, "127.0.0.1"):
        server, client = Server(implicit=True), Client(Quit(), name=name, implicit=True)
        run(server, client, 99)
        assert server.closed == ConnectionClosed(CloseReason.QUIT)


@pytest.mark.parametrize("cut", range(1, 517, 43))
def test_nothing_is_answered_before_the_hello_is_whole_and_nothing_is_lost_behind_it(cut: int) -> None:
    """A client may go on at once: what comes behind here is what RFC 8446 appendix D.4 has for middleboxes."""
    server, raw = Server(implicit=True), Raw(client_side(), HOST)
    server.pull()
    opening = raw.hello()
    server.feed(opening[:-cut])
    assert server.flush() == b""
    assert server.machine.deadline == 60
    server.feed(opening[-cut:] + b"\x14\3\3\0\1\1")
    raw.inward.write(server.flush())
    raw.meet(server)
    assert server.machine.failure is None
    assert server.connection.tls is not None


# Whom a client talks to.

LEAF = ssl.PEM_cert_to_DER_cert(CERTIFICATE.cert_chain_pems[0].bytes().decode())
ROOT = ssl.PEM_cert_to_DER_cert(CA.cert_pem.bytes().decode())
GOOD_END = tls.Tlsa(3, 0, 1, sha256(LEAF).digest())
BAD_END = tls.Tlsa(3, 0, 1, sha256(ROOT).digest())
GOOD_TRUST = tls.Tlsa(2, 0, 1, sha256(ROOT).digest())
WHOLE_TRUST = tls.Tlsa(2, 0, 0, ROOT)
BAD_TRUST = tls.Tlsa(2, 0, 1, sha256(LEAF).digest())


def careless(policy: tls.TlsPolicy) -> ssl.SSLContext:
    return tls.client_context(verify=False)


def trusting(policy: tls.TlsPolicy) -> ssl.SSLContext:
    return client_side()


NO_MATCH = "DANE: no TLSA record matches what the server shows"
NOT_NAMED = "MTA-STS: the policy does not name this host"
POLICIES = [
    pytest.param(tls.Dane([GOOD_END]), careless, None, id="DANE-EE"),
    pytest.param(tls.Dane([GOOD_END]), trusting, None, id="DANE-EE, and verified besides"),
    pytest.param(tls.Dane([BAD_END]), careless, NO_MATCH, id="another end entity"),
    pytest.param(tls.Dane([BAD_END]), trusting, NO_MATCH, id="another end entity, although it is verified"),
    pytest.param(tls.Dane([GOOD_TRUST]), trusting, None, id="DANE-TA"),
    pytest.param(tls.Dane([BAD_TRUST]), trusting, NO_MATCH, id="another authority"),
    pytest.param(
        tls.Dane([GOOD_TRUST]), careless, "DANE: the certificate was not verified", id="DANE-TA that nobody verifies"
    ),
    pytest.param(tls.MtaSts((HOST,)), trusting, None, id="MTA-STS"),
    pytest.param(tls.MtaSts(("other.example.org",)), trusting, NOT_NAMED, id="MTA-STS of others"),
    pytest.param(
        tls.MtaSts((HOST,)), careless, "MTA-STS: the certificate was not verified", id="MTA-STS that nobody verifies"
    ),
]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize(("policy", "make", "unmet"), POLICIES)
def test_a_policy_is_met_or_nothing_is_said_inside_tls(
    policy: tls.TlsPolicy,
    make: Callable[[tls.TlsPolicy], ssl.SSLContext],
    unmet: str | None,
    implicit: bool,
    version: ssl.TLSVersion,
) -> None:
    server = Server(server_side(maximum_version=version), implicit=implicit)
    client = Client(*message(implicit=implicit), context=make(policy), implicit=implicit, policy=policy)
    run(server, client, 99)
    if unmet is None:
        assert client.closed == server.closed == ConnectionClosed(CloseReason.QUIT)
        assert (client.machine.failure, client.machine.unmet) == (None, None)
        return
    assert client.closed == ConnectionClosed(CloseReason.TLS_FAILED)
    failure = client.machine.failure
    assert isinstance(failure, tls.HandshakeRefused)
    assert (failure.reason, failure.fault, client.machine.unmet) == (unmet, None, unmet)
    assert client.connection.tls is None
    clear = [Ehlo("c.example.com"), StartTls()]
    assert server.events == [Connected(), *([] if implicit else clear), server.closed]
    assert server.closed == ConnectionClosed(CloseReason.EOF), "we said goodbye in good order"


def test_an_authority_that_stands_in_the_record_is_enough() -> None:
    """Nobody else trusts it."""
    policy = tls.Dane([WHOLE_TRUST])
    for context, reason in (
        (tls.client_context(policy=policy), CloseReason.QUIT),
        (tls.client_context(), CloseReason.TLS_FAILED),
    ):
        client = Client(*message(implicit=False), context=context, policy=policy)
        run(Server(), client, 99)
        assert client.closed == ConnectionClosed(reason)


def test_what_is_not_enforced_is_only_told() -> None:
    policy = tls.MtaSts(("other.example.org",), "testing")
    client = Client(*message(implicit=False), policy=policy)
    run(Server(), client, 99)
    assert client.closed == ConnectionClosed(CloseReason.QUIT)
    assert client.machine.unmet == NOT_NAMED


def test_dane_takes_a_certificate_that_nobody_else_would() -> None:
    """Another name, another authority: RFC 7672 section 3.1.1."""
    other = trustme.CA().issue_cert("elsewhere.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.configure_cert(context)
    leaf = ssl.PEM_cert_to_DER_cert(other.cert_chain_pems[0].bytes().decode())
    policy = tls.Dane([tls.Tlsa(3, 0, 1, sha256(leaf).digest())])
    client = Client(*message(implicit=False), context=tls.client_context(policy=policy), policy=policy)
    run(Server(context), client, 99)
    assert client.closed == ConnectionClosed(CloseReason.QUIT)
    assert client.connection.tls is not None
    assert not client.connection.tls.verified


def test_a_client_that_is_starting_tls_keeps_its_policy_to_itself() -> None:
    client = starting_client(policy=tls.Dane([BAD_END]), context=tls.client_context(verify=False))
    raw = Raw(server_side())
    client.feed(b"220 go\r\n")
    raw.inward.write(client.drain())
    raw.meet(client)
    assert client.closed == ConnectionClosed(CloseReason.TLS_FAILED)
    assert raw.hear() == [b""], "close_notify, and no EHLO"


# What the caller got wrong.


def test_a_context_for_the_other_seat_is_the_callers_mistake() -> None:
    connection = ClientConnection("c.example.com", clock=Clock())
    with pytest.raises(ssl.SSLError):
        tls.secure(connection, server_side(), server_hostname=HOST)
    with pytest.raises(ValueError, match="server_hostname is needed"):
        tls.secure(connection, client_side())
    with pytest.raises(ValueError, match="policy is of a server"):
        tls.secure(connection, client_side(check_hostname=False), policy=tls.MtaSts((HOST,)))
    with pytest.raises(ValueError, match="server's side"):
        tls.secure(connection, client_side(), server_hostname=HOST, names=(HOST,))
    server = ServerConnection(ServerConfig(HOST), clock=Clock())
    with pytest.raises(ssl.SSLError):
        tls.secure(server, client_side())
    with pytest.raises(ValueError, match="client's side"):
        tls.secure(server, server_side(), server_hostname=HOST)
    with pytest.raises(ValueError, match="client's side"):
        tls.secure(server, server_side(), policy=tls.MtaSts((HOST,)))
