"""TLS as a layer: the way into it, whole sessions, and the contexts."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from smtpstate import tls
from smtpstate._commands import Ehlo, Mail, Noop, Quit, StartTls
from smtpstate._events import (
    Body,
    CloseReason,
    Connected,
    ConnectionClosed,
    Flow,
    ReplyReceived,
    Timer,
    TlsInfo,
    Violation,
)
from smtpstate._keys import channel_bindings
from smtpstate._state import Phase
from tests.tls_peers import (
    CA,
    CERTIFICATE,
    CUTS,
    HOST,
    TEXT,
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
    from smtpstate._server import ServerConnection

HANDSHAKE = 0x16  # the first octet of a record


# A whole session.


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_message_arrives_however_the_records_are_cut(cut: int, implicit: bool, version: ssl.TLSVersion) -> None:
    script = message(implicit=implicit)
    server = Server(server_side(maximum_version=version), implicit=implicit)
    client = Client(*script, implicit=implicit)
    run(server, client, cut)

    taken = [event for event in server.events if not isinstance(event, Body | ConnectionClosed)]
    assert taken == [Connected(), *(item for item in script if not isinstance(item, Body))]
    assert b"".join(event.data for event in server.events if isinstance(event, Body)) == TEXT
    assert all(event.reply.code < 400 for event in client.events if isinstance(event, ReplyReceived))
    assert server.closed == client.closed == ConnectionClosed(CloseReason.QUIT)
    assert (server.shut, client.shut, server.machine.failure, client.machine.failure) == (True, True, None, None)


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_both_sides_tell_what_was_agreed(implicit: bool) -> None:
    ours, theirs = server_side(), client_side()
    for context in (ours, theirs):
        context.set_alpn_protocols(["smtp"])
    server = Server(ours, implicit=implicit)
    client = Client(*message(implicit=implicit), context=theirs, implicit=implicit)
    run(server, client, 99)
    leaf = ssl.PEM_cert_to_DER_cert(CERTIFICATE.cert_chain_pems[0].bytes().decode())
    cipher = "TLS_AES_256_GCM_SHA384"
    assert server.connection.tls == TlsInfo("TLSv1.3", cipher, sni=HOST, alpn="smtp", offered_alpn=("smtp",))
    assert client.connection.tls == TlsInfo(
        "TLSv1.3", cipher, HOST, "smtp", leaf, verified=True, bindings=channel_bindings("TLSv1.3", certificate=leaf)
    )


def test_a_session_without_tls_passes_unchanged() -> None:
    server, client = Server(), Client(Ehlo("c.example.com"), Noop(), Quit())
    run(server, client, 3)
    assert server.events == [Connected(), Ehlo("c.example.com"), Noop(), Quit(), server.closed]
    assert server.closed == client.closed == ConnectionClosed(CloseReason.QUIT)
    assert (server.connection.tls, client.connection.tls) == (None, None)


def test_a_wrapped_machine_of_another_class_has_its_seat_named() -> None:
    class Wrapper:
        """A connection in disguise, as an observer would be."""

        def __init__(self, connection: ServerConnection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    server = Server(implicit=True)
    disguised: Any = Wrapper(server.connection)
    server.machine = tls.secure(disguised, server_side(), server_side=True)
    client = Client(Ehlo("c.example.com"), Quit(), implicit=True)
    run(server, client, 99)
    assert server.closed == client.closed == ConnectionClosed(CloseReason.QUIT)


# Before the handshake.


def test_the_220_leaves_before_any_record() -> None:
    server = starting_server()
    server.feed(Raw(client_side(), HOST).hello())
    assert server.machine.data_to_send() == b"220 2.0.0 Begin TLS\r\n"
    records = server.machine.data_to_send()
    assert records[0] == HANDSHAKE
    assert server.machine.data_to_send() == b""
    assert server.flow is Flow.NEED_DATA


def test_a_client_hello_may_come_while_the_event_is_being_handled() -> None:
    server = Server()
    server.feed(b"EHLO c.example.com\r\n")
    server.drain()
    server.machine.receive_data(b"STARTTLS\r\n")
    assert server.machine.next_event() == StartTls()
    server.machine.receive_data(Raw(client_side(), HOST).hello())
    assert server.machine.next_event() is Flow.NEED_DATA
    assert server.drain().startswith(b"220 2.0.0 Begin TLS\r\n\x16\x03")


PLAINTEXT = [
    pytest.param(b"RSET\r\n", id="a command"),
    pytest.param(b"EHLO evil.example\r\nMAIL FROM:<a@example.com>\r\n", id="a pipeline"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="what OpenSSL knows by name"),
]


@pytest.mark.parametrize("injected", [*PLAINTEXT, pytest.param(b"X", id="a single octet")])
def test_plaintext_behind_starttls_is_a_violation(injected: bytes) -> None:
    server = Server()
    server.feed(b"EHLO c.example.com\r\n")
    server.feed(b"STARTTLS\r\n" + injected)
    assert server.connection.phase is Phase.CLOSING
    assert server.events == [Connected(), Ehlo("c.example.com")]
    server.flush()
    server.machine.receive_eof()
    server.pull()
    assert server.closed == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)


@pytest.mark.parametrize("drained", [False, True], ids=["before the 220 left", "after it"])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("injected", PLAINTEXT)
def test_plaintext_where_a_client_hello_is_due_fails_the_handshake(injected: bytes, cut: int, drained: bool) -> None:
    server = starting_server()
    sent = server.drain() if drained else b""
    server.feed(injected + Raw(client_side(), HOST).hello(), cut)
    sent += server.flush()
    assert sent.startswith(b"220 2.0.0 Begin TLS\r\n")
    assert sent[21:22] in (b"", b"\x15")  # an alert, if OpenSSL has one for this
    assert isinstance(server.machine.failure, ssl.SSLError)
    assert server.events == [Connected(), Ehlo("c.example.com"), StartTls()]
    assert server.machine.half_close
    server.machine.receive_eof()
    server.pull()
    assert server.closed == ConnectionClosed(CloseReason.TLS_FAILED)


@pytest.mark.parametrize("injected", [*PLAINTEXT, pytest.param(b"X", id="a single octet")])
def test_plaintext_behind_the_220_is_a_violation(injected: bytes) -> None:
    client = starting_client()
    client.feed(b"220 go\r\n" + injected)
    assert client.closed == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)
    assert client.drain() == b""


@pytest.mark.parametrize("cut", CUTS)
def test_plaintext_where_a_server_hello_is_due_fails_the_handshake(cut: int) -> None:
    client = starting_client()
    client.feed(b"220 go\r\n")
    assert client.connection.phase is Phase.TLS
    client.feed(b"250-evil.example\r\n250 AUTH PLAIN\r\n", cut)
    assert client.closed == ConnectionClosed(CloseReason.TLS_FAILED)
    assert client.drain()[0] == HANDSHAKE
    assert client.machine.half_close


def test_a_greeting_in_clear_where_tls_is_implicit_fails_the_handshake() -> None:
    client = Client(implicit=True)
    client.feed(b"220 mx.example.org ESMTP\r\n")
    assert client.closed == ConnectionClosed(CloseReason.TLS_FAILED)


def test_what_is_read_before_the_first_event_is_not_lost() -> None:
    hello = Raw(client_side(), HOST).hello()
    secure = Server(implicit=True)
    secure.machine.receive_data(hello[:5])
    secure.machine.receive_data(b"")
    secure.machine.receive_data(hello[5:])
    assert secure.flush()[0] == HANDSHAKE

    clear = Server()
    clear.feed(b"EHLO c.example.com\r\n")
    assert clear.events == [Connected(), Ehlo("c.example.com")]

    client = Client()
    client.feed(b"220 mx.example.org\r\n")
    assert [type(event) for event in client.events] == [ReplyReceived]


# The handshake.


GARBAGE = [
    pytest.param(b"EHLO c.example.com\r\n", False, id="plain SMTP"),
    pytest.param(b"\x00" * 64, False, id="zeros"),
    pytest.param(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", True, id="an empty hello"),
    pytest.param(b"\x16\x03\x01\xff\xff" + b"\xff" * 65535, True, id="a record that is too long"),
    pytest.param(b"\x17\x03\x03\x00\x05junk!", True, id="data before the handshake"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("wire", "has_alert"), GARBAGE)
def test_garbage_fails_the_handshake_and_the_alert_is_sent(wire: bytes, has_alert: bool, cut: int) -> None:
    server = Server(implicit=True)
    server.feed(wire, max(cut, 3))
    sent = server.flush()
    assert (sent[:1] == b"\x15") == has_alert
    assert (server.machine.half_close, server.flow) == (True, Flow.NEED_DATA)
    server.feed(b"x" * 300_000)  # no more than the linger takes
    server.pull()
    assert server.events == [ConnectionClosed(CloseReason.TLS_FAILED)]


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_a_handshake_octet_by_octet_ends_at_its_budget(implicit: bool) -> None:
    clock = Clock()
    server = Server(implicit=True, clock=clock) if implicit else starting_server(clock=clock)
    server.flush()
    hello = Raw(client_side(), HOST).hello()
    assert server.machine.deadline == 60
    for octet in hello[:11]:
        server.feed(bytes([octet]))
        assert server.machine.deadline == 60
        clock.now += 5
    clock.now = 60
    server.machine.handle_timeout()
    assert server.flush() == b""
    clock.now = 62
    server.machine.handle_timeout()
    server.pull()
    assert server.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.HANDSHAKE)


def test_octets_that_come_after_the_deadline_do_not_save_a_handshake() -> None:
    clock = Clock()
    server = Server(implicit=True, clock=clock)
    client = Client(implicit=True, clock=clock)
    server.pull()
    client.pull()
    clock.now = 61
    server.feed(client.drain())
    assert server.flush() == b""
    assert server.machine.half_close
    client.feed(b"\x16")
    assert client.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.HANDSHAKE)
    server.machine.receive_eof()
    server.pull()
    assert server.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.HANDSHAKE)


def test_a_connection_cut_in_its_handshake_ends_with_eof() -> None:
    server = Server(implicit=True)
    server.feed(Raw(client_side(), HOST).hello()[:50])
    server.machine.receive_eof()
    server.flush()
    server.pull()
    assert server.closed == ConnectionClosed(CloseReason.EOF)
    client = Client(implicit=True)
    client.pull()
    client.machine.receive_eof()
    client.pull()
    assert client.closed == ConnectionClosed(CloseReason.EOF)


def test_a_connection_lost_in_its_handshake_sends_nothing_more() -> None:
    client = Client(implicit=True)
    client.pull()
    client.machine.connection_lost()
    client.pull()
    assert (client.drain(), client.closed) == (b"", ConnectionClosed(CloseReason.LOST))


def test_closing_in_a_handshake_needs_no_close_notify() -> None:
    client = Client(implicit=True)
    client.pull()
    hello = client.drain()
    client.connection.close()
    assert client.machine.half_close
    assert (hello[0], client.drain()) == (HANDSHAKE, b"")
    client.feed(b"\x16\x03\x03")
    assert client.closed == ConnectionClosed(CloseReason.CLOSED)
    server = Server(implicit=True)
    server.pull()
    server.connection.close()
    assert server.flush() == b""
    server.feed(hello)
    assert (server.drain(), server.machine.half_close) == (b"", True)


def test_a_context_that_allows_no_version_fails_before_anything_is_sent() -> None:
    context = client_side(maximum_version=ssl.TLSVersion.TLSv1_2, minimum_version=ssl.TLSVersion.TLSv1_3)
    client = Client(context=context, implicit=True)
    client.pull()
    assert client.events == [ConnectionClosed(CloseReason.TLS_FAILED)]
    assert "NO_PROTOCOLS_AVAILABLE" in str(client.machine.failure)


OTHERS = trustme.CA()
NOT_TRUSTED = [
    pytest.param("mail.example.org", CERTIFICATE, "Hostname mismatch", id="another name"),
    pytest.param("127.0.0.2", CERTIFICATE, "IP address mismatch", id="another address"),
    pytest.param(HOST, OTHERS.issue_cert(HOST), "certificate verify failed", id="another authority"),
]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize(("name", "certificate", "why"), NOT_TRUSTED)
def test_a_certificate_that_does_not_fit_ends_both_sides(
    name: str, certificate: trustme.LeafCert, why: str, implicit: bool, version: ssl.TLSVersion
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.maximum_version = version
    server = Server(context, implicit=implicit)
    client = Client(*message(implicit=implicit), name=name, implicit=implicit)
    run(server, client, 99)
    assert server.closed == client.closed == ConnectionClosed(CloseReason.TLS_FAILED)
    assert isinstance(client.machine.failure, ssl.SSLCertVerificationError)
    assert why in str(client.machine.failure)
    assert "alert" in str(server.machine.failure)
    assert client.machine.failure.__traceback__ is None
    assert not [event for event in server.events if isinstance(event, Mail)]


def test_an_address_is_checked_and_not_sent_as_a_name() -> None:
    server, client = Server(implicit=True), Client(Ehlo("c.example.com"), Quit(), name="127.0.0.1", implicit=True)
    run(server, client, 99)
    assert client.connection.tls is not None
    assert server.connection.tls is not None
    assert (client.connection.tls.verified, client.connection.tls.sni, server.connection.tls.sni) == (True, None, None)


def test_a_certificate_that_nobody_checked_is_not_verified() -> None:
    context = tls.client_context(verify=False)
    server, client = Server(implicit=True), Client(Quit(), name=None, context=context, implicit=True)
    run(server, client, 99)
    assert client.connection.tls is not None
    assert (client.connection.tls.verified, client.connection.tls.sni) == (False, None)
    assert client.connection.tls.peer_certificate is not None


def test_a_chain_without_a_name_is_not_verified() -> None:
    context = client_side(check_hostname=False)
    server, client = Server(implicit=True), Client(Quit(), context=context, implicit=True)
    run(server, client, 99)
    assert client.connection.tls is not None
    assert client.connection.tls.verified is False


def test_a_server_may_ask_for_a_certificate() -> None:
    ours, theirs = server_side(verify_mode=ssl.CERT_REQUIRED), client_side()
    CA.configure_trust(ours)
    own = CA.issue_cert("c.example.com")
    own.configure_cert(theirs)
    server, client = Server(ours, implicit=True), Client(Quit(), context=theirs, implicit=True)
    run(server, client, 99)
    assert server.connection.tls is not None
    leaf = ssl.PEM_cert_to_DER_cert(own.cert_chain_pems[0].bytes().decode())
    assert (server.connection.tls.peer_certificate, server.connection.tls.verified) == (leaf, True)


def test_a_refusal_that_comes_after_the_handshake_is_a_loss() -> None:
    """Under TLS 1.3 a client is done before the server has seen its certificate."""
    ours = server_side(verify_mode=ssl.CERT_REQUIRED)
    server, client = Server(ours, implicit=True), Client(Quit(), implicit=True)
    run(server, client, 99)
    assert server.closed == ConnectionClosed(CloseReason.TLS_FAILED)
    assert client.closed == ConnectionClosed(CloseReason.LOST)
    assert "CERTIFICATE_REQUIRED" in str(client.machine.failure)


def test_a_callback_of_the_caller_is_still_called() -> None:
    names: list[str] = []
    context = server_side()
    context.sni_callback = lambda _, name, __: names.append(name)
    server, client = Server(context, implicit=True), Client(Quit(), implicit=True)
    run(server, client, 99)
    assert names == [HOST]
    assert server.connection.tls is not None
    assert server.connection.tls.sni == HOST


def test_what_asks_to_read_first_asks_so_inside_tls() -> None:
    server, raw = Server(server_side(), implicit=True), Raw(client_side(), HOST)
    raw.meet(server)
    assert not server.machine.reads_first, "the greeting has left"
    server.feed(raw.say(b"EHLO c.example.com\r\n"))
    assert server.machine.reads_first
    raw.hear()
    server.feed(raw.goodbye())
    assert not server.machine.reads_first, "nothing more comes"


@pytest.mark.parametrize("says_goodbye", [False, True], ids=["it was cut", "it said goodbye"])
def test_a_peer_that_went_before_its_answer_is_not_read_again_and_again(says_goodbye: bool) -> None:
    server = Server(server_side(), implicit=True)
    raw = Raw(client_side(), HOST)
    raw.meet(server)
    raw.hear(server.flush())
    server.feed(raw.say(b"EHLO c.example.com\r\n"))
    assert server.machine.reads_first, "the answer to EHLO is due"
    if says_goodbye:
        server.feed(raw.goodbye())
    server.machine.receive_eof()
    assert not server.machine.reads_first, "nothing more can have arrived, and a driver that looked would for ever"
    server.flush()
    assert server.closed is not None
