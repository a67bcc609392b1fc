"""What TLS brings to AUTH: channel bindings on both sides, and the names in a client's certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from smtpstate import tls
from smtpstate._authentication import AuthenticationFailed, authenticate
from smtpstate._choice import choose, server_mechanism
from smtpstate._commands import Auth, AuthResponse, Ehlo
from smtpstate._delivery import Wants
from smtpstate._events import Flow, TlsInfo
from smtpstate._keys import ChannelBinding, WorkNeeded, channel_bindings, server_end_point
from smtpstate._sasl import CertificateGiven, Challenge, Credentials, Failure, KeysNeeded, SaslFault, Success
from tests.sasl_dialogue import KEYS, NONCE, SECRET, SERVER_NONCE
from tests.tls_peers import CA, CERTIFICATE, HOST, Client, Raw, Server, client_side, run, server_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate._sasl import ServerMechanism

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
END_POINT = "tls-server-end-point"
MECHANISMS = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "PLAIN")
OTHER = CA.issue_cert(HOST)  # what somebody in the middle has, from an authority that the client trusts


def der(certificate: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


OURS = der(CERTIFICATE)


class Login(Server):
    """A server that answers AUTH; its one user is "user" with "pencil", or with a certificate for user@example.org."""

    ended: Success | Failure | None = None
    mechanism: ServerMechanism | None = None

    def react(self, event: object) -> None:
        if not isinstance(event, Auth | AuthResponse):
            super().react(event)
            return
        connection = self.connection
        info = connection.tls
        assert info is not None
        if isinstance(event, Auth):
            self.mechanism = server_mechanism(
                event.mechanism,
                offered=connection.config.mechanisms_in(info),
                nonce=SERVER_NONCE,
                secret=SECRET,
                bindings=info.bindings,
                identities=info.identities,
            )
        assert self.mechanism is not None
        step = self.mechanism.step(event.initial_response if isinstance(event, Auth) else event.data)
        if isinstance(step, KeysNeeded):
            step = self.mechanism.answer(KEYS)
        elif isinstance(step, CertificateGiven):
            step = self.mechanism.answer("user" if step.name == "user@example.org" else None)
        match step:
            case Challenge(data):
                connection.challenge(data)
            case Success(identity):
                self.ended = step
                connection.authenticated(identity)
            case Failure():
                self.ended = step
                connection.reply(step.reply)
            case _:
                raise AssertionError(step)


def meet(version: ssl.TLSVersion, certificate: bytes | None = None) -> tuple[Login, Client]:
    """Both, after the hello inside implicit TLS. `certificate` is what the server says that it shows."""
    return greeted(server_side(maximum_version=version), certificate)


def greeted(
    context: ssl.SSLContext, certificate: bytes | None = None, theirs: ssl.SSLContext | None = None
) -> tuple[Login, Client]:
    server = Login(context, implicit=True, mechanisms=MECHANISMS, certificate=certificate)
    client = Client(Ehlo("c.example.com"), implicit=True, context=theirs)
    run(server, client, 99)
    return server, client


def told(side: Server | Client) -> TlsInfo:
    assert side.connection.tls is not None
    return side.connection.tls


def offered(client: Client) -> tuple[str, ...]:
    return client.connection.capabilities.keywords["AUTH"]


def log_in(
    server: Login,
    client: Client,
    *,
    bindings: tuple[ChannelBinding, ...] = (),
    among: tuple[str, ...] | None = None,
    credentials: Credentials | None = None,
    change: Callable[[tuple[str, ...]], tuple[str, ...]] = tuple,
) -> str:
    """The client's AUTH from its choice to the end; returns the name of the mechanism. `change` is what happens to the
    list on its way."""
    mechanism = choose(
        change(offered(client)),
        credentials or Credentials("user", "pencil"),
        nonce=NONCE,
        secure=True,
        bindings=bindings,
        among=among,
    )
    assert mechanism is not None
    procedure = authenticate(client.connection, mechanism)
    seen = len(client.events)
    try:
        wanted = next(procedure)
        while True:
            if isinstance(wanted, WorkNeeded):
                wanted = procedure.send(wanted.run())
            else:
                assert wanted is Wants.EVENT
                run(server, client, 99)
                event: Any = client.events[seen] if seen < len(client.events) else Flow.NEED_COMMAND
                seen += 1
                wanted = procedure.send(event)
    except StopIteration:
        return mechanism.name


# What both sides know.


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)
@pytest.mark.parametrize("certificate", [OURS, None], ids=["certificate", "none"])
def test_both_sides_know_the_same_bindings(version: ssl.TLSVersion, certificate: bytes | None) -> None:
    server, client = meet(version, certificate)
    unique = ["tls-unique"] if version is TLS12 else []
    known = [*unique, *([END_POINT] if certificate else [])]
    assert [binding.type for binding in told(client).bindings] == [*unique, END_POINT]
    assert told(server).bindings == tuple(binding for binding in told(client).bindings if binding.type in known)
    assert ("SCRAM-SHA-256-PLUS" in offered(client)) is bool(known)


def test_under_tls_13_there_is_no_tls_unique_although_ssl_has_one() -> None:
    """RFC 8446 appendix C.5."""
    server, raw = Server(server_side(minimum_version=TLS13), implicit=True), Raw(client_side(), HOST)
    raw.meet(server)
    assert raw.tls.version() == "TLSv1.3"
    assert raw.tls.get_channel_binding("tls-unique")
    assert told(server).bindings == ()


def test_a_resumed_session_has_no_tls_unique() -> None:
    """RFC 7627 section 1: without an extended master secret two of them could be made alike."""
    ours, theirs = server_side(maximum_version=TLS12), client_side()
    first, second = Raw(theirs, HOST), Raw(theirs, HOST)
    server = Server(ours, implicit=True)
    first.meet(server)
    assert [binding.type for binding in told(server).bindings] == ["tls-unique"]
    second.tls.session = first.tls.session
    server = Server(ours, implicit=True, certificate=OURS)
    second.meet(server)
    assert second.tls.session_reused
    assert [binding.type for binding in told(server).bindings] == [END_POINT]


def test_a_certificate_is_given_to_a_server_only() -> None:
    client = Client()
    with pytest.raises(ValueError, match="server's side"):
        tls.secure(client.connection, client_side(), server_hostname=HOST, certificate=OURS)


# -PLUS.


@pytest.mark.parametrize(("version", "type_"), [(TLS12, "tls-unique"), (TLS13, END_POINT)], ids=["1.2", "1.3"])
def test_a_bound_login_gets_in(version: ssl.TLSVersion, type_: str) -> None:
    server, client = meet(version, OURS)
    bindings = told(client).bindings
    assert bindings[0].type == type_
    assert log_in(server, client, bindings=bindings) == "SCRAM-SHA-256-PLUS"
    assert server.ended == Success("user")
    assert server.connection.identity == "user"


def test_without_being_asked_for_no_binding_is_used() -> None:
    server, client = meet(TLS13, OURS)
    assert log_in(server, client) == "SCRAM-SHA-256"
    assert server.ended == Success("user")


def test_another_binding_than_the_best_does_as_well() -> None:
    server, client = meet(TLS12, OURS)
    assert log_in(server, client, bindings=told(client).bindings[1:]) == "SCRAM-SHA-256-PLUS"
    assert server.ended == Success("user")


def unique_of_tls_13(server: Login, client: Client) -> tuple[ChannelBinding, ...]:
    return (ChannelBinding("tls-unique", bytes(12)),)


def end_point_of_another(server: Login, client: Client) -> tuple[ChannelBinding, ...]:
    return channel_bindings("TLSv1.3", certificate=der(OTHER))


@pytest.mark.parametrize("bindings", [unique_of_tls_13, end_point_of_another], ids=lambda it: it.__name__)
def test_a_binding_that_is_not_this_session_s_is_refused(bindings: Any) -> None:
    server, client = meet(TLS13, OURS)
    with pytest.raises(AuthenticationFailed, match="535"):
        log_in(server, client, bindings=bindings(server, client))
    assert server.ended == Failure(SaslFault.BINDING)


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)
def test_somebody_in_the_middle_with_a_certificate_of_his_own_gets_nowhere(version: ssl.TLSVersion) -> None:
    """Two TLS sessions: the client's ends at his, and his at ours. He hands on what both say."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    OTHER.configure_cert(context)
    context.maximum_version = version
    his, client = greeted(context, der(OTHER))
    server, he = meet(version, OURS)
    with pytest.raises(AuthenticationFailed, match="535"):
        log_in(server, he, bindings=told(client).bindings)
    assert server.ended == Failure(SaslFault.BINDING)
    assert told(his).bindings == told(client).bindings


def test_who_takes_plus_out_of_the_reply_is_found_out() -> None:
    """RFC 5802 section 6: the flag is y."""
    server, client = meet(TLS13, OURS)
    with pytest.raises(AuthenticationFailed, match="535"):
        log_in(server, client, bindings=told(client).bindings, change=lambda names: names[1:])
    assert server.ended == Failure(SaslFault.DOWNGRADE)


def test_where_plus_is_not_offered_the_flag_y_is_right() -> None:
    server, client = meet(TLS13)
    assert offered(client) == ("SCRAM-SHA-256", "PLAIN")
    assert log_in(server, client, bindings=told(client).bindings) == "SCRAM-SHA-256"
    assert server.ended == Success("user")


def test_what_was_not_offered_here_is_not_taken() -> None:
    raw = Raw(client_side(), HOST)
    server = Login(implicit=True, mechanisms=MECHANISMS)
    raw.meet(server)
    server.feed(raw.say(b"EHLO c.example.com\r\nAUTH SCRAM-SHA-256-PLUS\r\nAUTH EXTERNAL =\r\n"))
    said = b"".join(raw.hear(server.flush()))
    assert said.count(b"504 5.5.4 ") == 2
    assert server.ended is None


# EXTERNAL.

ORDERED = ("b@example.org", "a@example.org", "host.example.org")


def wallet(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A client's context that shows this certificate."""
    context = client_side()
    certificate.configure_cert(context)
    return context


def shown(certificate: trustme.LeafCert | None) -> tuple[Login, Client]:
    """Both, after a handshake in which the server asked for a certificate."""
    context = server_side(verify_mode=ssl.CERT_OPTIONAL)
    CA.configure_trust(context)
    return greeted(context, theirs=None if certificate is None else wallet(certificate))


@pytest.mark.parametrize(
    ("names", "common_name", "identities", "reason"),
    [
        (("user@example.org",), None, ("user@example.org",), "an e-mail address"),
        (
            ("host.example.org", "b@example.org", "a@example.org"),
            "x",
            ORDERED,
            "addresses first",
        ),
        (("192.0.2.1",), "user", ("user",), "a common name, as nothing else names anybody"),
        (("192.0.2.1",), None, (), "an address of a host is nobody"),
        (("192.0.2.1",), "us\x07er", (), "a common name that no user may have"),
        (("192.0.2.1",), "u\u00adser", ("user",), "prepared like the names of the other mechanisms"),
    ],
)
def test_a_verified_certificate_names_somebody(
    names: tuple[str, ...], common_name: str | None, identities: tuple[str, ...], reason: str
) -> None:
    server, client = shown(CA.issue_cert(*names, common_name=common_name))
    assert told(server).identities == identities, reason
    assert told(server).verified, reason
    assert ("EXTERNAL" in offered(client)) is bool(identities), reason
    assert told(client).identities == (), reason


def test_no_certificate_names_nobody() -> None:
    server, client = shown(None)
    assert (told(server).identities, told(server).verified) == ((), False)
    assert "EXTERNAL" not in offered(client)


@pytest.mark.parametrize("authzid", ["", "user@example.org"])
def test_a_certificate_logs_in_whom_it_names(authzid: str) -> None:
    server, client = shown(CA.issue_cert("user@example.org", "client.example.org"))
    credentials = Credentials(authzid=authzid, certificate=True)
    assert log_in(server, client, credentials=credentials) == "EXTERNAL"
    assert server.connection.identity == "user"


@pytest.mark.parametrize(
    ("authzid", "why"),
    [
        ("client.example.org", SaslFault.CREDENTIALS),
        ("other@example.org", SaslFault.AUTHZID),
    ],
    ids=["a name of its own that is nobody", "somebody else"],
)
def test_a_certificate_logs_in_nobody_else(authzid: str, why: SaslFault) -> None:
    server, client = shown(CA.issue_cert("user@example.org", "client.example.org"))
    with pytest.raises(AuthenticationFailed, match="535"):
        log_in(server, client, credentials=Credentials(authzid=authzid, certificate=True))
    assert server.ended == Failure(why)
    assert server.connection.identity is None


def test_a_certificate_of_another_authority_ends_the_handshake() -> None:
    server, _ = shown(trustme.CA().issue_cert("user@example.org"))
    assert server.connection.tls is None
    assert server.machine.failure is not None


def test_a_name_that_is_not_utf_8_is_nobody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who signs would sign that, but ssl raises for it."""

    def crash(self: ssl.SSLObject, binary_form: bool = False) -> object:
        if binary_form:
            return b"DER"
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(ssl.SSLObject, "getpeercert", crash)
    server, _ = shown(CA.issue_cert("user@example.org"))
    assert told(server).identities == ()


def test_the_end_point_of_our_certificate_is_known() -> None:
    assert server_end_point(OURS) is not None
