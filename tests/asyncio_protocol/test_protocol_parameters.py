"""A policy, other protocols, where a session resumes, and what the handler may answer: the same in either loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import trustme

from smtpstate import Expn, Reply, TlsUnavailable, Vrfy, tls
from smtpstate.policy import BareNewline, WireRules
from smtpstate_asyncio import Listener, Session, connect, serving_messages, smtp_client_protocol, smtp_server_protocol
from tests.anyio.loopback import SECONDS, wire
from tests.asyncio_protocol.around import SHAPES, TO, Kept, Log, nobody_left, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from smtpstate import ConnectionClosed, ServerEvent

pytestmark = pytest.mark.anyio

CA = trustme.CA()
LEAF = CA.issue_cert("localhost", "127.0.0.1")
DER = ssl.PEM_cert_to_DER_cert(LEAF.cert_chain_pems[0].bytes().decode())


@pytest.fixture(autouse=True)
async def nobody_is_left() -> AsyncIterator[None]:
    async with nobody_left():
        yield


@dataclass
class Reasons(Log):
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


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_policy_is_met_or_nothing_is_sent(shape: str, make: partial[ssl.SSLContext]) -> None:
    kept = Kept()
    good = tls.Dane([tls.Tlsa(3, 0, 1, sha256(DER).digest())])
    async with server(shape, kept, tls=make) as port:
        async with connect(f"127.0.0.1:{port}", tls_policy=good) as client:
            assert (await client.send(b"hello\r\n", **TO)).all_accepted
        with pytest.raises(TlsUnavailable, match="DANE: no TLSA record"):
            async with connect(f"127.0.0.1:{port}", tls_policy=tls.Dane([tls.Tlsa(3, 0, 1, bytes(32))])):
                pass
    assert kept.bodies == [b"hello\r\n"]


async def test_a_host_that_a_policy_does_not_name_is_not_connected_to() -> None:
    policy = tls.MtaSts(("mx.example.org",))
    with pytest.raises(TlsUnavailable, match="does not name this host"):
        async with connect("127.0.0.1:1", tls_policy=policy):
            pass
    with pytest.raises(TlsUnavailable, match="does not name this host"):
        smtp_client_protocol("127.0.0.1:1", tls_policy=policy)
    with pytest.raises(ValueError, match="there may be no TLS"):
        smtp_client_protocol("mx.example.org", tls="off", tls_policy=policy)


@pytest.mark.parametrize("shape", SHAPES)
async def test_other_protocols_and_other_names_do_not_get_in(shape: str, make: partial[ssl.SSLContext]) -> None:
    seen, listener = Reasons(), Listener("127.0.0.1", 0, "implicit")
    browser = tls.client_context(verify=False)
    browser.set_alpn_protocols(["h2"])
    async with server(shape, Kept(), listener, tls=make, server_names=["localhost"], observer=seen) as port:
        await asyncio.to_thread(knock, port, tls.client_context(verify=False), "localhost")
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            await asyncio.to_thread(knock, port, browser, "localhost")
        with pytest.raises(ssl.SSLError, match="unrecognized name"):
            await asyncio.to_thread(knock, port, tls.client_context(verify=False))
    faults = {one.fault for one in seen.failures if isinstance(one, tls.HandshakeRefused)}
    assert faults == {tls.HelloFault.PROTOCOL, tls.HelloFault.NAME}


async def test_a_session_is_resumed_where_it_began_and_nowhere_else(make: partial[ssl.SSLContext]) -> None:
    listeners = [Listener("127.0.0.1", 0, "implicit", accept_any=any_one) for any_one in (True, False)]
    async with serving_messages(Kept().reads, *listeners, hostname="mx.example.org", tls=make) as bound:
        here, there = (one.port for one in bound)
        context = tls.client_context(verify=False)
        _, ticket = await asyncio.to_thread(knock, here, context)
        assert (await asyncio.to_thread(knock, here, context, None, ticket))[0]
        assert not (await asyncio.to_thread(knock, there, context, None, ticket))[0]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_context_that_cannot_be_made_is_told_before_anybody_listens(shape: str) -> None:
    def fail() -> ssl.SSLContext:
        raise FileNotFoundError("pair.pem")

    with pytest.raises(FileNotFoundError, match=r"pair\.pem"):
        async with server(shape, Kept(), tls=fail):
            pass
    with pytest.raises(FileNotFoundError, match=r"pair\.pem"):
        smtp_server_protocol(Kept().on_event, hostname="mx.example.org", tls=fail)


@dataclass
class Knows(Kept):
    """Answers VRFY and EXPN."""

    def on_event(self, session: Session, event: ServerEvent) -> None:
        if isinstance(event, Vrfy | Expn):
            if session.owed is event:
                session.reply(Reply(250, "jones@example.org"))
        else:
            super().on_event(session, event)


@pytest.mark.parametrize("shape", ["serve", "on_event", "coroutine on_event"])
async def test_vrfy_and_expn_are_answered_where_they_are_asked_for(shape: str) -> None:
    answers: dict[bool, list[str]] = {}
    for asks in (True, False):
        async with (
            server(shape, Knows(), asks_vrfy=asks, asks_expn=asks) as port,
            wire(port) as client,
        ):
            await client.open()
            answers[asks] = [(await client.ask(line)) for line in (b"VRFY jones", b"EXPN staff")]
    assert [reply.startswith("250 ") for reply in answers[True]] == [True, True]
    assert [reply[:3] for reply in answers[False]] == ["252", "502"]


RULES: list[tuple[BareNewline, str, list[bytes]]] = [
    (BareNewline.NORMALIZE, "250 ", [b"one\r\ntwo\r\n"]),
    (BareNewline.REJECT, "5", []),
]


@pytest.mark.parametrize(("rule", "said", "kept"), RULES)
@pytest.mark.parametrize("shape", SHAPES)
async def test_bare_newlines_are_as_the_rules_have_it(
    shape: str, rule: BareNewline, said: str, kept: list[bytes]
) -> None:
    inbox = Kept()
    async with server(shape, inbox, wire=WireRules(bare_newline=rule)) as port, wire(port) as client:
        await client.to_body()
        await client.stream.send(b"one\ntwo\r\n.\r\n")
        assert (await client.reply()).startswith(said)
    assert inbox.bodies == kept
