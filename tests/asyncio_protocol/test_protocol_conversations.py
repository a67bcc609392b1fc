"""Client and server with each other, and with those of anyio: each TLS, each tier, each way to be called."""

from __future__ import annotations

import asyncio
import smtplib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import smtpstate_anyio
import smtpstate_asyncio
from smtpstate import Limits, Refusal, Reply, Result
from smtpstate.delivery import AuthenticationFailed
from smtpstate.sasl import Credentials, PasswordGiven
from smtpstate_asyncio import Authenticator, Listener, connect, hashing, smtp_client_protocol, smtp_server_protocol
from tests.anyio.loopback import Inbox, background, wire
from tests.asyncio_protocol.around import SHAPES, TO, Kept, Log, embedded, nobody_left, server

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Sequence

    from smtpstate.sasl import ScramKeys
    from smtpstate_asyncio import ListenerTls, Message
    from tests.anyio.loopback import Certificates

pytestmark = pytest.mark.anyio

BODY = b"Subject: hello\r\n\r\n.dots\r\n..\r\n" + b"a line of some length\r\n" * 20_000
TLS: list[tuple[ListenerTls, str]] = [("plain", "off"), ("starttls", "required"), ("implicit", "implicit")]


@asynccontextmanager
async def asyncio_server(kept: Kept, mode: ListenerTls, context: ssl.SSLContext) -> AsyncIterator[int]:
    async with server("serve_messages", kept, Listener("127.0.0.1", 0, mode), tls=context) as port:
        yield port


@asynccontextmanager
async def anyio_server(kept: Kept, mode: ListenerTls, context: ssl.SSLContext) -> AsyncIterator[int]:
    inbox = Inbox(bodies=kept.bodies)
    listener = Listener("127.0.0.1", 0, mode)
    async with background(smtpstate_anyio.serve_messages, inbox, listener, accept_any=True, tls=context) as port:
        yield port


PAIRS = [
    pytest.param(asyncio_server, smtpstate_asyncio.connect, id="both ours"),
    pytest.param(anyio_server, smtpstate_asyncio.connect, id="our client, anyio's server"),
    pytest.param(asyncio_server, smtpstate_anyio.connect, id="anyio's client, our server"),
]


@pytest.mark.parametrize(("mode", "tls"), TLS, ids=[mode for mode, _ in TLS])
@pytest.mark.parametrize(("serves", "connects"), PAIRS)
async def test_a_message_arrives(
    serves: Any, connects: Any, mode: ListenerTls, tls: str, certificates: Certificates
) -> None:
    kept = Kept()
    options = {"tls": tls, "ssl_context": certificates.trusting}
    serving = serves(kept, mode, certificates.server)
    async with nobody_left(), serving as port, connects(f"127.0.0.1:{port}", **options) as client:
        for _ in range(2):
            delivery = await client.send(BODY, **TO)
            assert delivery.all_accepted
        assert (client.tls is None) == (mode == "plain")
    assert kept.bodies == [BODY, BODY]


@pytest.mark.parametrize("tls", ["plain", "implicit"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_each_way_to_be_called_takes_it(shape: str, tls: ListenerTls, certificates: Certificates) -> None:
    kept = Kept()
    mode = "off" if tls == "plain" else tls
    async with nobody_left(), server(shape, kept, Listener("127.0.0.1", 0, tls), tls=certificates.server) as port:
        for chunked in (False, True):
            async with connect(f"127.0.0.1:{port}", tls=mode, ssl_context=certificates.trusting) as client:
                assert (await client.send(BODY, chunked=chunked, **TO)).all_accepted
    assert kept.bodies == [BODY, BODY]


@pytest.mark.parametrize(("mode", "tls"), TLS, ids=[mode for mode, _ in TLS])
@pytest.mark.parametrize("shape", SHAPES)
async def test_smtplib_is_served(shape: str, mode: ListenerTls, tls: str, certificates: Certificates) -> None:
    def post(port: int) -> None:
        if mode == "implicit":
            client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port, timeout=20, context=certificates.trusting)
        else:
            client = smtplib.SMTP("127.0.0.1", port, timeout=20)
        with client:
            if mode == "starttls":
                client.starttls(context=certificates.trusting)
            client.sendmail("me@example.com", ["you@example.org"], BODY)

    kept = Kept()
    async with server(shape, kept, Listener("127.0.0.1", 0, mode), tls=certificates.server) as port:
        await asyncio.to_thread(post, port)
    assert kept.bodies == [BODY]


@pytest.mark.parametrize("shape", SHAPES)
async def test_lmtp_answers_each_recipient(shape: str) -> None:
    kept = Kept()
    serving = server(shape, kept, Listener("127.0.0.1", 0, service="lmtp"))
    async with serving as port, connect(f"127.0.0.1:{port}", tls="off", lmtp=True) as client:
        delivery = await client.send(b"x", sender="me@example.com", recipients=["a@example.org", "b@example.org"])
    assert [(result.address, result.outcome) for result in delivery] == [
        ("a@example.org", Result.ACCEPTED),
        ("b@example.org", Result.ACCEPTED),
    ]


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_one_recipient_of_lmtp_may_be_refused(kind: str) -> None:
    def plain(message: Message) -> None:
        message.refuse(1, Refusal(452, "Full", enhanced="4.2.2"))

    async def later(message: Message) -> None:
        plain(message)

    listener = Listener("127.0.0.1", 0, service="lmtp")
    on_message: Any = plain if kind == "plain" else later
    async with (
        smtpstate_asyncio.serving_messages(on_message, listener, hostname="mx.example.org", accept_any=True) as bound,
        connect(bound[0].address, tls="off", lmtp=True) as client,
    ):
        delivery = await client.send(b"x\r\n", sender="me@example.com", recipients=["a@example.org", "b@example.org"])
    assert [result.outcome for result in delivery] == [Result.ACCEPTED, Result.RETRY]


PIPELINED = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA"


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_group_is_answered_in_one_piece(shape: str) -> None:
    kept = Kept()
    async with server(shape, kept) as port, wire(port) as client:
        await client.open()
        await client.say(PIPELINED)
        for code in ("250 2.1.0 ", "250 2.1.5 ", "250 2.1.5 ", "354 "):
            assert (await client.reply()).startswith(code)
            assert code == "354 " or client.buffer, "the rest of the group came with it"
        await client.say(b"x\r\n.\r\nQUIT")
        assert (await client.reply()).startswith("250 2.0.0 ")
        assert (await client.reply()).startswith("221 ")
        assert await client.rest() == b""
    assert kept.bodies == [b"x\r\n"]


# on_message.


REFUSALS = [
    pytest.param(Refusal(552, "Too large", enhanced="5.3.4"), Result.REFUSED, "552 5.3.4 Too large", id="a refusal"),
    pytest.param(ZeroDivisionError(), Result.RETRY, "451 4.3.0 Local error in processing", id="a failure"),
]


@pytest.mark.parametrize("kind", ["plain", "early", "late"])
@pytest.mark.parametrize(("error", "outcome", "said"), REFUSALS)
async def test_what_on_message_raises_is_said(
    error: Exception, outcome: Result, said: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(message: Message) -> None:
        raise error

    async def later(message: Message) -> None:
        if kind == "late":
            async for _ in message.body:
                pass
        raise error

    log = Log()
    on_message: Any = plain if kind == "plain" else later
    async with (
        smtpstate_asyncio.serving_messages(
            on_message, "127.0.0.1:0", hostname="mx.example.org", domains=("example.org",), observer=log
        ) as bound,
        connect(bound[0].address, tls="off") as client,
    ):
        for _ in range(2):
            [result] = await client.send(BODY, **TO)
            assert (result.outcome, str(result.reply)) == (outcome, said)
        [result] = await client.send(b"x", sender="", recipients="b@example.net")
        assert str(result.reply) == "550 5.7.1 No mail is taken here for that address"
    assert len(log.done) == 2
    assert len(caplog.records) == (0 if isinstance(error, Refusal) else 2)


async def test_a_body_can_be_read_once_and_in_its_own_way() -> None:
    async def later(message: Message) -> None:
        with pytest.raises(RuntimeError, match="async for"):
            iter(message.body)
        async for _ in message.body:
            pass
        with pytest.raises(RuntimeError, match="once"):
            aiter(message.body)

    def plain(message: Message) -> None:
        assert b"".join(message.body) == b"x\r\n"
        with pytest.raises(RuntimeError, match="once"):
            iter(message.body)

    def hands_on(message: Message) -> Any:
        return read(message)  # a plain function that returns an awaitable: the message is there, and can be awaited

    async def read(message: Message) -> None:
        assert [chunk async for chunk in message.body] == [b"x\r\n"]

    for on_message in (later, plain, hands_on):
        async with (
            smtpstate_asyncio.serving_messages(
                on_message, "127.0.0.1:0", hostname="mx.example.org", accept_any=True
            ) as bound,
            connect(bound[0].address, tls="off") as client,
        ):
            assert (await client.send(b"x\r\n", **TO)).all_accepted


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_a_message_without_its_end_is_no_message(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    kept, log = Kept(), Log()
    shape = "plain on_message" if kind == "plain" else "serve_messages"
    async with server(shape, kept, observer=log) as port:
        async with wire(port) as client:
            await client.to_body()
            await client.say(b"half of it")
        await log.somebody_left.wait()
    assert kept.bodies == []
    assert [reply for reply, _ in log.done] == [None]
    assert not caplog.records


async def test_an_object_with_a_coroutine_function_is_called_when_the_message_begins() -> None:
    class Store:
        def __init__(self) -> None:
            self.began = asyncio.Event()

        async def __call__(self, message: Message) -> None:
            self.began.set()
            async for _ in message.body:
                pass

    store = Store()
    async with (
        smtpstate_asyncio.serving_messages(store, "127.0.0.1:0", hostname="mx.example.org", accept_any=True) as bound,
        wire(bound[0].port) as client,
    ):
        await client.to_body()
        await store.began.wait()
        assert (await client.ask(b"x\r\n.")).startswith("250 ")


# AUTH.


class Plain:
    """Users whose methods are plain functions."""

    mechanisms: Sequence[str] = ("SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "EXTERNAL")

    def keys(self, username: str) -> ScramKeys | None:
        return None

    def check(self, username: str, password: str) -> bool:
        return (username, password) == ("user", "pencil")

    def token(self, username: str, token: str) -> str | None:
        return "user" if token == "token" else None

    def certificate(self, name: str) -> str | None:
        return None


class Slow:
    """Users whose methods are coroutine functions, and hash."""

    mechanisms: Sequence[str] = ("PLAIN", "OAUTHBEARER")

    async def keys(self, username: str) -> ScramKeys | None:
        return None

    async def check(self, username: str, password: str) -> bool:
        return await hashing(lambda: (username, password) == ("user", "pencil"))

    async def token(self, username: str, token: str) -> str | None:
        await asyncio.sleep(0)
        return "user" if token == "token" else None

    async def certificate(self, name: str) -> str | None:
        return None


CREDENTIALS = [Credentials("user", "pencil"), Credentials("user", token="token")]


@pytest.mark.parametrize("users", [Plain(), Slow()], ids=["plain", "coroutines"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_user_logs_in(shape: str, users: Any, certificates: Certificates) -> None:
    kept = Kept()
    async with server(shape, kept, users=users, tls=certificates.server) as port:
        for credentials in CREDENTIALS:
            async with connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting) as client:
                with pytest.raises(smtpstate_asyncio.AuthUnavailable):
                    await client.authenticate(credentials, among=["CRAM-MD5"])
                await client.authenticate(credentials, among=["PLAIN", "OAUTHBEARER"])
                assert (await client.send(b"x", **TO)).all_accepted
    assert len(kept.bodies) == 2


async def test_users_that_take_too_long_are_a_4yz(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    class Never(Plain):
        async def check(self, username: str, password: str) -> bool:  # type: ignore[override]  # as Users allows
            await asyncio.Event().wait()
            return True

    limits = Limits(handler_seconds=0.1)
    serving = server("on_event", Kept(), users=Authenticator(Never()), tls=certificates.server, limits=limits)
    async with serving as port, connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting) as client:
        with pytest.raises(AuthenticationFailed, match=r"451|454"):
            await client.authenticate(Credentials("user", "pencil"), among=["PLAIN"])
    assert "checking a user took too long" in caplog.text


async def test_an_authenticator_asks_users_of_either_kind() -> None:
    for users in (Plain(), Slow()):
        assert await Authenticator(users).ask(PasswordGiven("", "user", "pencil")) is True


# Embedding.


async def test_a_client_in_a_loop_of_your_own(certificates: Certificates) -> None:
    kept = Kept()
    async with nobody_left(), server("on_event", kept, tls=certificates.server) as port:
        _, protocol = await asyncio.get_running_loop().create_connection(
            lambda: smtp_client_protocol("127.0.0.1:25", ssl_context=certificates.trusting), "127.0.0.1", port
        )
        client = await protocol.open()
        assert (await client.send(b"x", **TO)).all_accepted
        await client.close()
        await client.close()  # more do nothing
    assert kept.bodies == [b"x\r\n"]


async def test_a_client_before_its_connection_and_of_nothing() -> None:
    protocol = smtp_client_protocol("127.0.0.1:25")
    with pytest.raises(RuntimeError, match="no connection yet"):
        await protocol.open()
    with pytest.raises(ValueError, match="nonsense"):
        smtp_client_protocol("127.0.0.1:25", tls="nonsense")


async def test_a_server_in_a_loop_of_your_own_over_other_transports(tmp_path: Any) -> None:
    kept = Kept()
    factory = smtp_server_protocol(kept.on_event, hostname="mx.example.org")
    loop = asyncio.get_running_loop()
    listening = await loop.create_unix_server(factory, str(tmp_path / "socket"))
    _, protocol = await loop.create_unix_connection(
        lambda: smtp_client_protocol("mx.example.org:25", tls="off"), str(tmp_path / "socket")
    )
    client = await protocol.open()
    assert client.connection.hostname
    assert (await client.send(b"x", **TO)).all_accepted
    await client.close()
    listening.close()
    await factory.drain()
    await factory.drain()  # again does nothing
    assert kept.bodies == [b"x\r\n"]


async def test_nobody_is_let_in_after_a_drain() -> None:
    factory = smtp_server_protocol(Kept().on_event, hostname="mx.example.org")
    async with embedded(factory) as port:
        await factory.drain()
        async with wire(port) as client:
            assert await client.rest() == b""


async def test_sessions_can_be_looked_at() -> None:
    factory = smtp_server_protocol(Kept().on_event, hostname="mx.example.org")
    async with embedded(factory) as port, wire(port) as client:
        await client.open()
        [session] = factory.sessions
        assert (session.peer is None, session.idle, session.listener.tls) == (False, True, "plain")
        session.close(Reply(421, "Enough", enhanced="4.3.2"))
        session.driver.nudge()
        assert await client.rest() == b"421 4.3.2 Enough\r\n"
