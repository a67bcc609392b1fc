"""AUTH on anyio: who gets in by which mechanism, and where; submission, which wants it; LMTP beside it."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import Event, connect_tcp, sleep_forever
from anyio.streams.tls import TLSStream

from smtpstate import CloseReason, DeliveryError, Limits, LocalProtocolError, Refusal, Result, Violation
from smtpstate._authentication import AuthenticationFailed
from smtpstate._keys import ScramKeys, password_work
from smtpstate._sasl import Credentials
from smtpstate_anyio import Authenticator, AuthUnavailable, Listener, Message, Users, connect, serve, serve_messages
from smtpstate_anyio._auth import hashing
from tests.anyio.loopback import Certificates, Inbox, Recorder, Wire, background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from smtpstate_anyio import Client, Session
    from smtpstate_parts.listen import ListenerService, ListenerTls

pytestmark = pytest.mark.anyio

_WORK = password_work("pencil", b"salt of 16 octet")
KEYS = ScramKeys.derive(_WORK, _WORK.run())
EVERY = ("SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN")
RIGHT = Credentials("user", "pencil")
WRONG = Credentials("user", "pen")
NOBODY = Credentials("nobody", "pencil")
TO: Any = {"sender": "me@example.com", "recipients": ["you@example.org"]}


@dataclass
class Friends:
    """One user, "user" with "pencil" or the token "token"."""

    mechanisms: Sequence[str] = EVERY
    asked: list[str] = field(default_factory=list)

    async def keys(self, username: str) -> ScramKeys | None:
        self.asked.append(username)
        return KEYS if username == "user" else None

    async def check(self, username: str, password: str) -> bool:
        self.asked.append(username)
        work = KEYS.work(password)
        return work is not None and KEYS.matches(await hashing(work.run)) and username == "user"

    async def token(self, username: str, token: str) -> str | None:
        self.asked.append(username)
        return "user" if token == "token" and username in ("", "user") else None

    async def certificate(self, name: str) -> str | None:
        self.asked.append(name)
        return "user" if name == "user@example.org" else None


@dataclass
class Trouble:
    """Users that cannot be asked."""

    work: Callable[[], Any]
    mechanisms: Sequence[str] = EVERY

    async def keys(self, username: str) -> Any:
        return await self.work()

    async def check(self, username: str, password: str) -> Any:
        return await self.work()

    async def token(self, username: str, token: str) -> Any:
        return await self.work()

    async def certificate(self, name: str) -> Any:
        return await self.work()


@asynccontextmanager
async def serving(
    certificates: Certificates,
    users: Users | Authenticator | None,
    on_message: Any = None,
    *,
    tls: ListenerTls = "starttls",
    service: ListenerService = "smtp",
    **options: Any,
) -> AsyncIterator[int]:
    listener = Listener("127.0.0.1", 0, tls, service=service)
    options = {"domains": ["example.org"], **options}
    async with background(
        serve_messages, on_message or Inbox(), listener, tls=certificates.server, users=users, **options
    ) as port:
        yield port


@asynccontextmanager
async def connected(port: int, certificates: Certificates, **options: Any) -> AsyncIterator[Client]:
    async with connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting, **options) as client:
        yield client


@asynccontextmanager
async def inside_tls(port: int, certificates: Certificates) -> AsyncIterator[Wire]:
    """Raw lines after STARTTLS and EHLO."""
    async with await connect_tcp("127.0.0.1", port) as stream:
        client = Wire(stream)
        await client.open()
        assert (await client.ask(b"STARTTLS")).startswith("220 ")
        secure = await TLSStream.wrap(
            stream, hostname="127.0.0.1", ssl_context=certificates.trusting, standard_compatible=False
        )
        client = Wire(secure)
        assert (await client.ask(b"EHLO client.example")).startswith("250 ")
        yield client


def plain(username: str, password: str, authzid: str = "") -> bytes:
    return b64encode(b"\0".join(part.encode() for part in (authzid, username, password)))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", None])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_whoever_has_the_password_gets_in(
    mechanism: str | None, tls: ListenerTls, certificates: Certificates
) -> None:
    inbox = Inbox()
    mode = "required" if tls == "starttls" else tls
    async with (
        serving(certificates, Friends(), inbox, tls=tls) as port,
        connected(port, certificates, tls=mode) as client,
    ):
        await client.authenticate(RIGHT, among=None if mechanism is None else [mechanism])
        assert (await client.send(b"x", **TO)).all_accepted
    [message] = inbox.messages
    assert (message.identity, message.received_with) == ("user", "ESMTPSA")


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
async def test_a_token_gets_in_whom_it_belongs_to(mechanism: str, certificates: Certificates) -> None:
    async with serving(certificates, Friends(), Inbox()) as port, connected(port, certificates) as client:
        for credentials in (Credentials("user", token="stolen"), Credentials("other", token="token")):
            with pytest.raises(AuthenticationFailed) as failure:
                await client.authenticate(credentials, among=[mechanism])
            assert failure.value.reply is not None
            assert failure.value.reply.code == 535
        await client.authenticate(Credentials("user", token="token"), among=[mechanism])


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("credentials", [WRONG, NOBODY], ids=["wrong password", "unknown user"])
async def test_whoever_has_not_is_told_535_and_nothing_else_and_may_try_again(
    mechanism: str, credentials: Credentials, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    async with serving(certificates, Friends()) as port, connected(port, certificates) as client:
        with pytest.raises(AuthenticationFailed) as failure:
            await client.authenticate(credentials, among=[mechanism])
        assert str(failure.value.reply) == "535 5.7.8 Authentication failed"
        await client.authenticate(RIGHT, among=[mechanism])
    [record] = [record for record in caplog.records if "failed" in record.message]
    assert f"AUTH {mechanism} failed, user='{credentials.username}' peer=127.0.0.1:" in record.message
    assert record.message.endswith("why=CREDENTIALS")
    assert "pen" not in record.message


@pytest.mark.parametrize("service", ["smtp", "submission", "lmtp"])
async def test_in_clear_it_is_neither_offered_nor_taken(service: ListenerService, certificates: Certificates) -> None:
    users, lmtp = Friends(), service == "lmtp"
    async with serving(certificates, users, service=service) as port:
        async with connect(f"127.0.0.1:{port}", tls="off", lmtp=lmtp) as client:
            assert "AUTH" not in client.capabilities
            with pytest.raises(AuthUnavailable, match="offers none"):
                await client.authenticate(RIGHT)
        async with await connect_tcp("127.0.0.1", port) as stream:
            wire = Wire(stream)
            await wire.reply()
            await wire.ask(b"LHLO client.example" if lmtp else b"EHLO client.example")
            assert (await wire.ask(b"AUTH PLAIN " + plain("user", "pencil")))[:3] in ("503", "530", "502", "538")
        async with connected(port, certificates, lmtp=lmtp) as client:
            assert client.capabilities.keywords["AUTH"] == EVERY
    assert users.asked == []


async def test_without_users_nothing_is_offered(certificates: Certificates) -> None:
    async with serving(certificates, None) as port, connected(port, certificates) as client:
        assert "AUTH" not in client.capabilities


async def test_what_the_credentials_cannot_do_is_not_tried(certificates: Certificates) -> None:
    async with serving(certificates, Friends(("PLAIN",))) as port, connected(port, certificates) as client:
        with pytest.raises(AuthUnavailable, match="it offers PLAIN"):
            await client.authenticate(RIGHT, among=["SCRAM-SHA-256"])
        assert (await client.send(b"x", **TO)).all_accepted


async def test_a_user_is_relayed_nowhere(certificates: Certificates) -> None:
    async with serving(certificates, Friends()) as port, connected(port, certificates) as client:
        await client.authenticate(RIGHT)
        delivery = await client.send(b"x", sender="me@example.com", recipients=["you@example.net"])
        assert [result.outcome for result in delivery] == [Result.REFUSED]


EXCHANGES = [
    pytest.param([b"AUTH PLAIN =", b"501 5.5.2 "], id="an empty response is no PLAIN"),
    pytest.param([b"AUTH PLAIN", b"334 ", b"*", b"501 5.7.0 "], id="the client gives up"),
    pytest.param([b"AUTH PLAIN", b"334 ", b"!", b"501 5.5.2 "], id="no base64"),
    pytest.param([b"AUTH LOGIN", b"334 VXNlcm5hbWU6", b"dXNlcg==", b"334 UGFzc3dvcmQ6", b"*", b"501 "], id="in LOGIN"),
    pytest.param([b"AUTH GSSAPI", b"504 5.5.4 "], id="a mechanism that is not offered"),
    pytest.param([b"AUTH PLAIN " + plain("user", "pencil", "root"), b"535 "], id="to act for somebody else"),
    pytest.param([b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=user,r=x"), b"334 ", b"eA==", b"501 "], id="no proof"),
]


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_after_an_exchange_that_fails_the_next_one_counts(
    exchange: list[bytes], certificates: Certificates
) -> None:
    async with serving(certificates, Friends()) as port, inside_tls(port, certificates) as client:
        for said, answer in zip(exchange[::2], exchange[1::2], strict=True):
            assert (await client.ask(said)).encode().startswith(answer)
        assert await client.ask(b"AUTH PLAIN " + plain("user", "pencil")) == "235 2.7.0 Authenticated"
        assert (await client.ask(b"AUTH PLAIN " + plain("user", "pencil"))).startswith("503 ")


async def test_scram_gives_nobody_the_same_salt_each_time(certificates: Certificates) -> None:
    first = b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=nobody,r=0123456789abcdef")
    salts = set()
    authenticator = Authenticator(Friends(), secret=b"sixteen octets !")
    async with serving(certificates, authenticator) as port:
        for _ in range(2):
            async with inside_tls(port, certificates) as client:
                challenge = b64decode((await client.ask(first)).removeprefix("334 ")).decode()
                salts.add(challenge.split(",")[1])
    assert len(salts) == 1


async def test_too_many_guesses_end_the_session(certificates: Certificates) -> None:
    seen = Recorder()
    options: Any = {"limits": Limits(auth_failures=3), "observer": seen}
    async with serving(certificates, Friends(), **options) as port, inside_tls(port, certificates) as client:
        for _ in range(3):
            assert (await client.ask(b"AUTH PLAIN " + plain("user", "guess"))).startswith("535 ")
        assert (await client.reply()).startswith("421 4.7.0 ")
        await client.stream.aclose()
        await seen.somebody_left.wait()
    assert [(closed.reason, closed.violation) for closed in seen.closed] == [
        (CloseReason.VIOLATION, Violation.TOO_MANY_AUTH_FAILURES)
    ]


async def crash() -> Any:
    raise ConnectionRefusedError("no database")


async def say_nothing() -> Any:
    return ""


TROUBLE = [
    pytest.param(crash, "PLAIN", id="crash in PLAIN"),
    pytest.param(crash, "SCRAM-SHA-256", id="crash in SCRAM"),
    pytest.param(crash, "OAUTHBEARER", id="crash in OAUTHBEARER"),
    pytest.param(say_nothing, "SCRAM-SHA-256", id="an answer that is no keys"),
    pytest.param(say_nothing, "OAUTHBEARER", id="an identity that names nobody"),
]


@pytest.mark.parametrize(("work", "mechanism"), TROUBLE)
async def test_users_that_cannot_be_asked_are_a_454_and_count_as_no_guess(
    work: Any, mechanism: str, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = Credentials("user", "pencil", "token" if mechanism == "OAUTHBEARER" else None)
    options: Any = {"limits": Limits(auth_failures=1)}
    async with serving(certificates, Trouble(work), **options) as port, connected(port, certificates) as client:
        for _ in range(2):
            with pytest.raises(AuthenticationFailed) as failure:
                await client.authenticate(credentials, among=[mechanism])
            assert str(failure.value.reply) == "454 4.7.0 Temporary authentication failure"
        assert (await client.send(b"x", **TO)).all_accepted
    assert [record.message.partition(": ")[2] for record in caplog.records] == ["users cannot be checked"] * 2


async def test_users_that_never_answer_are_cancelled_and_the_session_goes_on(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    options: Any = {"limits": Limits(handler_seconds=0.5)}
    async with (
        serving(certificates, Trouble(sleep_forever), **options) as port,
        connected(port, certificates) as client,
    ):
        with pytest.raises(AuthenticationFailed) as failure:
            await client.authenticate(RIGHT, among=["PLAIN"])
        assert failure.value.reply is not None
        assert failure.value.reply.code == 451
        assert (await client.send(b"x", **TO)).all_accepted
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "checking a user took too long and was cancelled"
    ]


async def test_no_more_than_two_hash_at_a_time() -> None:
    running = highest = 0

    def work() -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        _WORK.run()
        running -= 1

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(hashing, work)
    assert 1 <= highest <= 2


async def test_a_handler_of_ones_own_sees_the_identity_and_no_secret(certificates: Certificates) -> None:
    seen: list[str] = []
    identities: list[str | None] = []

    async def handler(session: Session) -> None:
        async for event in session:
            seen.append(type(event).__name__)
            identities.append(session.identity)

    listener = Listener("127.0.0.1", 0)
    serving = background(serve, handler, listener, tls=certificates.server, users=Friends())
    async with serving as port, inside_tls(port, certificates) as client:
        assert (await client.ask(b"AUTH LOGIN dXNlcg==")).startswith("334 ")
        assert (await client.ask(b64encode(b"pencil"))).startswith("235 ")
        await client.ask(b"NOOP")
        await client.ask(b"QUIT")
    assert not any(name.startswith("Auth") for name in seen)
    assert identities[seen.index("Noop")] == "user"


def test_a_mechanism_that_nobody_can_drive_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="unknown mechanisms: CRAM-MD5, GSSAPI"):
        Authenticator(Friends(("PLAIN", "GSSAPI", "CRAM-MD5")))


# Submission.


async def test_submission_takes_nothing_before_tls_and_auth(certificates: Certificates) -> None:
    inbox = Inbox()
    async with serving(certificates, Friends(), inbox, service="submission") as port:
        async with await connect_tcp("127.0.0.1", port) as stream:
            client = Wire(stream)
            await client.open()
            assert (await client.ask(b"MAIL FROM:<a@example.com>")).startswith("530 5.7.0 ")
        async with inside_tls(port, certificates) as client:
            assert (await client.ask(b"MAIL FROM:<a@example.com>")).startswith("530 5.7.0 ")
            assert (await client.ask(b"AUTH PLAIN " + plain("user", "pen"))).startswith("535 ")
            assert (await client.ask(b"MAIL FROM:<a@example.com>")).startswith("530 5.7.0 ")
            assert (await client.ask(b"AUTH PLAIN " + plain("user", "pencil"))).startswith("235 ")
            assert (await client.ask(b"MAIL FROM:<a@example.com>")).startswith("250 ")
    assert inbox.messages == []


async def test_submission_inside_implicit_tls_wants_auth_alone(certificates: Certificates) -> None:
    options: Any = {"service": "submission", "tls": "implicit"}
    async with (
        serving(certificates, Friends(), **options) as port,
        connected(port, certificates, tls="implicit") as client,
    ):
        assert [result.outcome for result in await client.send(b"x", **TO)] == [Result.REFUSED]
        await client.authenticate(RIGHT)
        assert (await client.send(b"x", **TO)).all_accepted


NOWHERE: list[Any] = [
    pytest.param("submission", None, "starttls", 0, "needs users", id="submission without users"),
    pytest.param("submission", Friends(), "plain", 0, "needs TLS", id="submission without TLS"),
    pytest.param("lmtp", None, "plain", 25, "port 25", id="LMTP where SMTP is expected: RFC 2033 section 5"),
]


@pytest.mark.parametrize(("service", "users", "tls", "port", "words"), NOWHERE)
async def test_a_listener_that_makes_no_sense_is_an_error_at_once(
    service: ListenerService, users: Users | None, tls: ListenerTls, port: int, words: str, certificates: Certificates
) -> None:
    listener = Listener.parse(f"127.0.0.1:{port}", tls, service=service)
    with pytest.raises(ValueError, match=words):
        await serve_messages(Inbox(), listener, hostname="mx.example.org", tls=certificates.server, users=users)


# LMTP.


async def test_lmtp_answers_each_recipient(certificates: Certificates) -> None:
    async def on_message(message: Message) -> None:
        async for _ in message.body:
            pass
        for index, recipient in enumerate(message.recipients):
            if recipient.mailbox.local_part == "full":
                message.refuse(index, Refusal(452, "Mailbox full", enhanced="4.2.2"))
        assert message.received_with == "LMTPS"

    recipients = ["a@example.org", "full@example.org", "no@example.com", "a@example.org"]
    async with (
        serving(certificates, None, on_message, service="lmtp") as port,
        connected(port, certificates, lmtp=True) as client,
    ):
        for chunked in (False, True):
            delivery = await client.send(b"x", sender="", recipients=recipients, chunked=chunked)
            assert [result.outcome for result in delivery] == [
                Result.ACCEPTED,
                Result.RETRY,
                Result.REFUSED,
                Result.ACCEPTED,
            ]


async def test_smtp_on_an_lmtp_port_is_a_500_and_the_other_way_round(certificates: Certificates) -> None:
    for service, lmtp in (("lmtp", False), ("smtp", True)):
        async with serving(certificates, None, service=service) as port:  # type: ignore[arg-type]  # a literal, in a loop
            with pytest.raises(DeliveryError, match=r"refused the session: 50\d "):
                async with connect(f"127.0.0.1:{port}", tls="off", lmtp=lmtp):
                    pass


async def test_recipients_are_refused_one_by_one_in_lmtp_alone(certificates: Certificates) -> None:
    done = Event()

    async def on_message(message: Message) -> None:
        with pytest.raises(LocalProtocolError):
            message.refuse(0, Refusal(452, "Mailbox full"))
        done.set()

    async with serving(certificates, None, on_message) as port, connected(port, certificates) as client:
        assert (await client.send(b"x", **TO)).all_accepted
        await done.wait()
