"""What a client demands of a server's TLS, what a server demands of a client's hello, and where a session resumes."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from anyio import to_thread

from smtpstate import CloseReason, TlsUnavailable, tls
from smtpstate_anyio import Listener, Session, connect, serve_messages
from tests.anyio.loopback import SECONDS, Inbox, Recorder, background

if TYPE_CHECKING:
    from pathlib import Path

    from smtpstate import ConnectionClosed
    from smtpstate_anyio import BoundListener

pytestmark = pytest.mark.anyio

TO: Any = {"sender": "me@example.com", "recipients": ["you@example.org"]}
CA = trustme.CA()
LEAF = CA.issue_cert("localhost", "127.0.0.1")
DER = ssl.PEM_cert_to_DER_cert(LEAF.cert_chain_pems[0].bytes().decode())
ROOT = ssl.PEM_cert_to_DER_cert(CA.cert_pem.bytes().decode())
GOOD = tls.Dane([tls.Tlsa(3, 1, 1, sha256(tls.public_key_of(DER) or b"").digest())])
BAD = tls.Dane([tls.Tlsa(3, 0, 1, bytes(32))])


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


def trusting(**options: Any) -> ssl.SSLContext:
    context = tls.client_context(**options)
    CA.configure_trust(context)
    return context


MET: list[Any] = [
    pytest.param({"tls_policy": GOOD}, id="DANE-EE: nobody else trusts it"),
    pytest.param({"tls_policy": tls.Dane([tls.Tlsa(2, 0, 0, ROOT)])}, id="DANE-TA, whole in the record"),
    pytest.param({"tls_policy": tls.MtaSts(("localhost",)), "ssl_context": True}, id="MTA-STS"),
    pytest.param(
        {"tls_policy": tls.MtaSts(("mx.example.org",), "testing"), "tls": "opportunistic"}, id="MTA-STS, testing"
    ),
]


@pytest.mark.parametrize("options", MET)
async def test_mail_goes_to_a_server_that_meets_the_policy(
    options: dict[str, Any], make: partial[ssl.SSLContext]
) -> None:
    inbox = Inbox()
    if "ssl_context" in options:
        options = {**options, "ssl_context": trusting()}
    serving = background(serve_messages, inbox, accept_any=True, tls=make)
    async with serving as port, connect(f"localhost:{port}", **options) as client:
        assert client.tls is not None
        assert (await client.send(b"hello\r\n", **TO)).all_accepted
    assert inbox.bodies == [b"hello\r\n"]


UNMET: list[Any] = [
    pytest.param(BAD, None, "DANE: no TLSA record matches", id="another key"),
    pytest.param(tls.Dane([tls.Tlsa(2, 0, 1, sha256(ROOT).digest())]), None, "issuer", id="an authority nobody has"),
    pytest.param(tls.Dane([tls.Tlsa(2, 0, 1, bytes(32))]), "trusting", "DANE: no TLSA", id="another authority"),
    pytest.param(tls.MtaSts(("localhost",)), None, "issuer", id="MTA-STS, and a certificate from elsewhere"),
    pytest.param(tls.MtaSts(("localhost",)), "careless", "MTA-STS: the certificate", id="MTA-STS, not verified"),
]


@pytest.mark.parametrize("mode", ["required", "implicit"])
@pytest.mark.parametrize(("policy", "context", "why"), UNMET)
async def test_to_a_server_that_does_not_meet_it_nothing_is_said_in_tls(
    policy: tls.TlsPolicy, context: str | None, why: str, mode: str, make: partial[ssl.SSLContext]
) -> None:
    seen = Recorder()
    contexts = {"trusting": trusting(), "careless": tls.client_context(verify=False), None: None}
    listener = Listener("127.0.0.1", 0, "implicit" if mode == "implicit" else "starttls")
    serving = background(serve_messages, Inbox(), listener, accept_any=True, tls=make, observer=seen)
    async with serving as port:
        with pytest.raises(TlsUnavailable, match=why):
            async with connect(f"localhost:{port}", tls=mode, ssl_context=contexts[context], tls_policy=policy):
                pass
        await seen.somebody_left.wait()
    said = [line.line.upper()[:8] for line in seen.lines if line.side == "C"]
    assert said == ([] if mode == "implicit" else [b"EHLO " + said[0][5:], b"STARTTLS"])


async def test_a_host_that_mta_sts_does_not_name_is_not_even_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.setblocking(False)
        with pytest.raises(TlsUnavailable, match="does not name this host"):
            async with connect(f"127.0.0.1:{nobody.getsockname()[1]}", tls_policy=tls.MtaSts(("mx.example.org",))):
                pass
        with pytest.raises(BlockingIOError):
            nobody.accept()


@pytest.mark.parametrize("mode", ["off", "opportunistic"])
async def test_a_policy_that_is_enforced_needs_tls(mode: str) -> None:
    with pytest.raises(ValueError, match="enforced"):
        async with connect("localhost:1", tls=mode, tls_policy=GOOD):
            pass


HELLOS: list[Any] = [
    pytest.param(["h2"], "localhost", tls.HelloFault.PROTOCOL, id="HTTP"),
    pytest.param(["smtp"], "localhost", None, id="SMTP"),
    pytest.param([], "localhost", None, id="no ALPN"),
    pytest.param([], "mail.example.org", None, id="a name under a star"),
    pytest.param([], "other.example.net", tls.HelloFault.NAME, id="another name"),
    pytest.param([], None, tls.HelloFault.NAME, id="no name"),
]


@pytest.mark.parametrize(("protocols", "name", "fault"), HELLOS)
async def test_who_opens_with_something_else_is_not_let_in(
    protocols: list[str], name: str | None, fault: tls.HelloFault | None, make: partial[ssl.SSLContext]
) -> None:
    seen = Reasons()
    serving = background(
        serve_messages,
        Inbox(),
        Listener("127.0.0.1", 0, "implicit"),
        accept_any=True,
        tls=make,
        server_names=["localhost", "*.example.org"],
        observer=seen,
    )

    def knock(port: int) -> bytes:
        context = trusting()
        context.check_hostname = False
        context.set_alpn_protocols(protocols)
        plain = socket.create_connection(("127.0.0.1", port), SECONDS)
        with plain, context.wrap_socket(plain, server_hostname=name) as client:
            return client.recv(3)

    async with serving as port:
        if fault is None:
            assert await to_thread.run_sync(knock, port) == b"220"
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)no application protocol|unrecognized.name"):
                await to_thread.run_sync(knock, port)
        await seen.somebody_left.wait()
    [failure] = seen.failures
    assert (failure.fault if isinstance(failure, tls.HandshakeRefused) else None) is fault
    assert (seen.closed[0].reason is CloseReason.TLS_FAILED) is (fault is not None)


@pytest.mark.parametrize("shared", [False, True], ids=["a context each", "one context"])
async def test_a_session_ticket_is_good_at_its_own_listener_alone(shared: bool, make: partial[ssl.SSLContext]) -> None:
    """Somebody in the middle could take a client with the ticket of one to another (ALPACA)."""
    first, second = Listener("127.0.0.1", 0, "implicit"), Listener("127.0.0.1", 0, "implicit", accept_any=False)
    context = trusting()

    def resumed(port: int, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession]:
        plain = socket.create_connection(("127.0.0.1", port), SECONDS)
        with plain, context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            assert client.recv(3) == b"220", "under TLS 1.3 the ticket has come by then"
            assert client.session is not None
            assert client.session_reused is not None
            return client.session_reused, client.session

    ports: list[int] = []

    async def serve_both(*args: Any, task_status: Any, **kwargs: Any) -> None:
        class Status:
            def started(self, bound: list[BoundListener]) -> None:
                ports.extend(listener.port for listener in bound)
                task_status.started(bound)

        await serve_messages(*args, task_status=Status(), **kwargs)  # type: ignore[arg-type]  # quacks like one

    both = make() if shared else make
    async with background(serve_both, Inbox(), first, second, accept_any=True, tls=both):
        again, ticket = await to_thread.run_sync(resumed, ports[0], None)
        assert not again
        at_home, _ = await to_thread.run_sync(resumed, ports[0], ticket)
        elsewhere, _ = await to_thread.run_sync(resumed, ports[1], ticket)
        assert (at_home, elsewhere) == (True, shared)


async def test_what_makes_contexts_may_fail_and_nothing_stays_open() -> None:
    def fail() -> ssl.SSLContext:
        raise FileNotFoundError("no certificate")

    with pytest.raises(FileNotFoundError):
        await serve_messages(Inbox(), "127.0.0.1:0", hostname="mx.example.org", tls=fail)
