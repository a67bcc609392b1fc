"""The anyio client: against our own server, and against servers that misbehave."""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import asynccontextmanager
from email.message import EmailMessage
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from anyio import (
    BusyResourceError,
    Event,
    create_task_group,
    create_tcp_listener,
    current_time,
    fail_after,
    move_on_after,
    sleep_forever,
)
from anyio.abc import SocketAttribute

from smtpstate import (
    CloseReason,
    ConnectionBroken,
    DeliveryError,
    Limits,
    LocalProtocolError,
    Refusal,
    Reply,
    Result,
    SessionRefused,
    Timer,
)
from smtpstate._envelope import Recipient
from smtpstate.extensions import Envid, Notify, Priority, Ret
from smtpstate.extensions import parameters as as_parameters
from smtpstate.policy import STRICT, Deviation
from smtpstate.sasl import Credentials
from smtpstate_anyio import AuthUnavailable, CannotConnect, Message, connect, serve_messages
from tests.anyio.loopback import SECONDS, Inbox, Wire, background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from anyio.abc import SocketStream


pytestmark = pytest.mark.anyio

TO: Any = {"sender": "me@example.com", "recipients": ["you@example.org"]}


def plain(port: int, **options: Any) -> Any:
    return connect(f"127.0.0.1:{port}", tls="off", **options)


@asynccontextmanager
async def scripted(script: Callable[[Wire], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that does what `script` says with each connection, and hangs up when it returns."""
    with fail_after(SECONDS):
        async with await create_tcp_listener(local_host="127.0.0.1") as listener, create_task_group() as group:

            async def handle(stream: SocketStream) -> None:
                async with stream:
                    await script(Wire(stream))

            group.start_soon(listener.serve, handle)
            yield listener.extra(SocketAttribute.local_port)
            group.cancel_scope.cancel()


async def greet(server: Wire, *offers: bytes) -> None:
    await server.say(b"220 scripted.example ESMTP")
    assert (await server.line()).startswith(b"EHLO ")
    await server.say(b"\r\n".join([b"250-scripted.example", *(b"250-" + offer for offer in offers), b"250 HELP"]))


async def to_body(server: Wire) -> None:
    await greet(server)
    for answer in (b"250 sender", b"250 recipient", b"354 go on"):
        await server.line()
        await server.say(answer)


# Logging in. The rest is in test_anyio_auth.py; these are servers that we would not be.


@pytest.mark.parametrize(("in_clear", "offers"), [(True, b"AUTH PLAIN"), (False, b"AUTH PLAIN LOGIN XOAUTH2")])
async def test_a_password_is_shown_in_clear_on_request_alone(in_clear: bool, offers: bytes) -> None:
    heard: list[bytes] = []

    async def script(server: Wire) -> None:
        await greet(server, offers)
        while (line := await server.line()) != b"QUIT":
            heard.append(line)
            await server.say(b"235 welcome")
        await server.say(b"221 bye")

    credentials = Credentials("user", "pencil")
    async with scripted(script) as port, plain(port) as client:
        if in_clear:
            await client.authenticate(credentials, in_clear=True)
        else:
            with pytest.raises(AuthUnavailable, match="it offers PLAIN, LOGIN, XOAUTH2"):
                await client.authenticate(credentials)
    assert heard == ([b"AUTH PLAIN " + b64encode(b"\0user\0pencil")] if in_clear else [])


@pytest.mark.parametrize("given", [None, ("mx.example.org", 587), ("mx.example.org", 0)])
async def test_oauthbearer_says_whom_the_token_is_for(given: tuple[str, int] | None) -> None:
    heard: list[bytes] = []

    async def script(server: Wire) -> None:
        await greet(server, b"AUTH OAUTHBEARER")
        heard.append(b64decode((await server.line()).split()[2]))
        await server.say(b"235 welcome")
        await server.line()

    options: Any = {} if given is None else {"host": given[0], "port": given[1]}
    async with scripted(script) as port, plain(port) as client:
        await client.authenticate(Credentials("user", token="token"), in_clear=True, **options)
        with pytest.raises(LocalProtocolError, match="ASCII"):
            await client.authenticate(Credentials("user", token="token"), in_clear=True, host="ü.example")
    host, said_port = given or ("127.0.0.1", port)
    where = b"\x01host=%s" % host.encode() + (b"\x01port=%d" % said_port if said_port else b"")
    assert heard == [b"n,a=user," + where + b"\x01auth=Bearer token\x01\x01"]


# What can be sent.


def an_email() -> EmailMessage:
    email = EmailMessage()
    email["Subject"] = "Grüße"
    email["Bcc"] = "secret@example.com"
    email.set_content("x\n")
    return email


async def several() -> AsyncIterator[bytes]:
    for piece in (b"a\r", b"", b"\n.b", b"\r\n"):
        yield piece


def generated() -> Iterator[bytes]:
    yield b"a\r\n"
    yield b".b\r\n"


class Pipe(BytesIO):
    def seekable(self) -> bool:
        return False


SOURCES: list[Any] = [
    pytest.param(lambda: b"a\r\n.b\r\n", id="bytes"),
    pytest.param(lambda: b"a\n.b", id="bytes with bare line feeds and no end"),
    pytest.param(lambda: BytesIO(b"a\r\n.b\r\n"), id="a file"),
    pytest.param(lambda: Pipe(b"a\r\n.b\r\n"), id="a pipe"),
    pytest.param(several, id="an asynchronous iterator, cut in bad places"),
    pytest.param(generated, id="an iterator"),
]


@pytest.mark.parametrize("source", SOURCES)
async def test_whatever_holds_octets_can_be_sent(source: Callable[[], Any]) -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True) as port, plain(port) as client:
        delivery = await client.send(source(), **TO)
    assert delivery.all_accepted
    assert [(result.address, result.outcome) for result in delivery] == [("you@example.org", Result.ACCEPTED)]
    assert inbox.bodies == [b"a\r\n.b\r\n"]


async def test_an_email_message_goes_out_without_its_bcc() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True) as port, plain(port) as client:
        await client.send(an_email(), **TO)
    (body,) = inbox.bodies
    assert b"secret" not in body
    assert body.startswith(b"Subject: =?utf-8?")
    assert body.endswith(b"\r\n\r\nx\r\n")
    assert body.count(b"\n") == body.count(b"\r\n")


async def test_a_large_file_is_announced_and_streamed(tmp_path: Path) -> None:
    content = (b"." + b"x" * 70 + b"\r\n") * 50_000
    path = tmp_path / "large.eml"
    path.write_bytes(content)
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True) as port, plain(port) as client:
        with path.open("rb") as file:
            assert (await client.send(file, **TO)).all_accepted
    assert inbox.bodies == [content]
    assert inbox.messages[0].size == len(content)


async def test_several_messages_go_over_one_connection() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, domains=["example.org"]) as port, plain(port) as client:
        for number in range(3):
            delivery = await client.send(b"%d\r\n" % number, sender="", recipients=["a@example.org", "b@example.net"])
            assert [result.outcome for result in delivery] == [Result.ACCEPTED, Result.REFUSED]
            assert delivery.having(Result.REFUSED) == ("b@example.net",)
        nobody = await client.send(b"x", sender="", recipients="b@example.net")
        assert not nobody.all_accepted
        assert (await client.send(b"3\r\n", sender="", recipients="postmaster")).all_accepted
    assert inbox.bodies == [b"0\r\n", b"1\r\n", b"2\r\n", b"3\r\n"]


async def test_eight_bit_octets_are_found_and_announced() -> None:
    lines: list[bytes] = []

    async def script(server: Wire) -> None:
        await greet(server, b"8BITMIME")
        lines.append(await server.line())

    async with scripted(script) as port:
        for message, announced in ((b"x", b""), ("\r\nü".encode(), b" BODY=8BITMIME")):
            async with plain(port) as client:
                await client.send(message, **TO)
            assert lines.pop() == b"MAIL FROM:<me@example.com>" + announced


async def test_eight_bit_octets_never_go_where_they_are_not_wanted() -> None:
    async def script(server: Wire) -> None:
        await greet(server)
        assert not await server.rest()

    async def dishonest(server: Wire) -> None:
        await to_body(server)
        assert b"\r\n.\r\n" not in await server.rest()

    async with scripted(script) as port, plain(port) as client:
        (result,) = await client.send("\r\nü".encode(), **TO)
        assert (result.outcome, result.reply) == (
            Result.REFUSED,
            Reply(554, "The message has 8-bit octets and the server does not offer 8BITMIME", enhanced="5.6.3"),
        )
        client.connection.close()  # no QUIT for this script
    async with scripted(dishonest) as port, plain(port) as client:
        with pytest.raises(LocalProtocolError, match="127"):
            await client.send(iter([b"x\r\n", "ü".encode()]), **TO)
        assert client.closed is not None


async def test_reports_are_asked_for_of_each_recipient_by_its_name() -> None:
    lines: list[bytes] = []

    async def script(server: Wire) -> None:
        await greet(server, b"DSN")
        for answer in (b"250 sender", b"250 recipient", b"550 no", b"354 go on"):
            lines.append(await server.line())
            await server.say(answer)

    silent = Recipient("b@example.org", as_parameters(Notify.NEVER))
    async with scripted(script) as port, plain(port) as client:
        await client.send(
            b"x",
            sender="me@example.com",
            recipients=["a@example.org", silent],
            notify=Notify.SUCCESS | Notify.DELAY,
            ret=Ret.HDRS,
            envid=Envid("1"),
            parameters=as_parameters(Priority(3)),
        )
    assert lines[:3] == [
        b"MAIL FROM:<me@example.com> RET=HDRS ENVID=1",
        b"RCPT TO:<a@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@example.org",
        b"RCPT TO:<b@example.org> NOTIFY=NEVER ORCPT=rfc822;b@example.org",
    ]


async def test_a_message_that_needs_what_is_not_offered_stays_here() -> None:
    async def script(server: Wire) -> None:
        await greet(server)
        assert not await server.rest()

    async with scripted(script) as port, plain(port) as client:
        (result,) = await client.send(b"x", **TO, parameters=(("REQUIRETLS", None),), notify=Notify.NEVER)
        assert (result.outcome, str(result.reply)) == (
            Result.REFUSED,
            "554 5.7.30 The message needs REQUIRETLS, which the server does not offer",
        )
        client.connection.close()  # no QUIT for this script


MISTAKES: list[Any] = [
    pytest.param(b"x", {**TO, "envid": Envid("\n")}, LocalProtocolError, id="a parameter that is not offered, too"),
    pytest.param(b"x", {"sender": "not an address", "recipients": "a@b.example"}, LocalProtocolError, id="a sender"),
    pytest.param(b"x", {"sender": "", "recipients": "a@b.example\r\nDATA"}, LocalProtocolError, id="a recipient"),
    pytest.param(b"x", {"sender": "", "recipients": []}, LocalProtocolError, id="no recipient"),
]


@pytest.mark.parametrize(("message", "envelope", "error"), MISTAKES)
async def test_a_mistake_costs_nothing(message: bytes, envelope: dict[str, Any], error: type[Exception]) -> None:
    async with background(serve_messages, Inbox(), accept_any=True) as port, plain(port) as client:
        with pytest.raises(error):
            await client.send(message, **envelope)
        assert (await client.send(b"x", **TO)).all_accepted


async def test_text_is_no_message() -> None:
    async with background(serve_messages, Inbox(), accept_any=True) as port, plain(port) as client:
        with pytest.raises(TypeError, match="bytes, not str"):
            await client.send(["text"], **TO)


# Trouble.


async def refuse(message: Message) -> None:
    raise Refusal(452, "Full", enhanced="4.3.1")


async def test_the_final_reply_decides_for_everybody() -> None:
    async with background(serve_messages, refuse, accept_any=True) as port, plain(port) as client:
        delivery = await client.send(b"x", sender="", recipients=["a@example.org", "b@example.org"])
    assert [(result.outcome, str(result.reply)) for result in delivery] == [(Result.RETRY, "452 4.3.1 Full")] * 2


async def test_a_message_that_is_too_large_is_refused_before_its_body() -> None:
    limits = Limits(message=1000)
    async with background(serve_messages, Inbox(), accept_any=True, limits=limits) as port, plain(port) as client:
        (result,) = await client.send(b"x" * 5000, **TO)
        assert result.outcome is Result.REFUSED
        assert (await client.send(b"x", **TO)).all_accepted


async def test_a_refusal_in_the_middle_of_the_body_is_noticed() -> None:
    async def script(server: Wire) -> None:
        await to_body(server)
        await server.say(b"552 5.3.4 Too much")
        await sleep_forever()  # and not one octet more is read

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000 + b"\r\n"

    async with scripted(script) as port, plain(port) as client:
        delivery = await client.send(endless(), **TO)
        (result,) = delivery
        assert (result.outcome, str(result.reply)) == (Result.REFUSED, "552 5.3.4 Too much")
        assert client.closed is not None
        with pytest.raises(ConnectionBroken):
            await client.send(b"x", **TO)


async def test_a_reply_before_a_hang_up_in_the_middle_of_the_body_is_not_lost() -> None:
    async def script(server: Wire) -> None:
        await to_body(server)
        await server.say(b"452 4.3.1 Full")
        await server.stream.aclose()  # with input unread: this is a reset

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000 + b"\r\n"

    async with scripted(script) as port, plain(port) as client:
        (result,) = await client.send(endless(), **TO)
        assert result.outcome is Result.RETRY


async def test_two_sides_that_both_write_do_not_wait_for_each_other() -> None:
    recipients = [f"{number:0100}@example.org" for number in range(990)]

    async def script(server: Wire) -> None:
        await greet(server, b"PIPELINING")
        await server.line()
        await server.say(b"250 sender")
        for _ in recipients:
            await server.say(b"".join(b"250-%s\r\n" % (b"y" * 500) for _ in range(20)) + b"250 taken")
            await server.line()
        await server.line()
        await server.say(b"354 go on")
        while await server.line() != b".":
            pass
        await server.say(b"250 taken")

    async with scripted(script) as port, plain(port) as client:
        assert (await client.send(b"x", sender="", recipients=recipients)).all_accepted


async def test_a_server_that_hangs_up_after_the_dot_leaves_the_outcome_unknown() -> None:
    async def script(server: Wire) -> None:
        await to_body(server)
        while await server.line() != b".":
            pass

    async with scripted(script) as port, plain(port) as client:
        delivery = await client.send(b"x", **TO)
        assert [result.outcome for result in delivery] == [Result.UNKNOWN]
        assert delivery.closed is not None
        with pytest.raises(ConnectionBroken):
            await client.send(b"x", **TO)


async def test_a_server_that_hangs_up_in_the_envelope_means_retry() -> None:
    async def script(server: Wire) -> None:
        await greet(server)
        await server.line()

    async with scripted(script) as port, plain(port) as client:
        assert [result.outcome for result in await client.send(b"x", **TO)] == [Result.RETRY]


async def test_the_policy_says_what_becomes_of_replies_that_break_the_grammar() -> None:
    async def script(server: Wire) -> None:
        await greet(server, b"AUTH=LOGIN")
        await server.line()

    async with scripted(script) as port:
        async with plain(port) as client:
            assert ("AUTH" in client.capabilities, client.capabilities.deviations) == (True, {Deviation.KEYWORD_EQUALS})
        async with plain(port, policy=STRICT) as client:
            assert "AUTH" not in client.capabilities


HANG_UPS: list[Any] = [
    pytest.param(b"", ConnectionBroken, "peer closed", id="nothing is said"),
    pytest.param(b"554 Go away", SessionRefused, "554 Go away", id="no service"),
    pytest.param(b"421 Later", SessionRefused, "421 Later", id="no service now"),
    pytest.param(b"SSH-2.0-OpenSSH", ConnectionBroken, "REPLY_SYNTAX", id="not SMTP"),
]


@pytest.mark.parametrize(("greeting", "error", "text"), HANG_UPS)
async def test_a_session_that_does_not_open(greeting: bytes, error: type[DeliveryError], text: str) -> None:
    async def script(server: Wire) -> None:
        if greeting:
            await server.say(greeting)

    async with scripted(script) as port:
        with pytest.raises(error, match=text):
            async with plain(port):
                pass


async def test_nobody_listening_is_one_clear_line() -> None:
    async with await create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
    with pytest.raises(CannotConnect, match=f"^cannot connect to 127.0.0.1:{port}: Connection refused$"):
        async with plain(port):
            pass


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 64 + ".example"])
async def test_a_name_that_is_none_is_one_clear_line(host: str) -> None:
    with pytest.raises(CannotConnect, match=f"^cannot connect to {host}:25: .+$"):
        async with connect(f"{host}:25", tls="off"):
            pass


# Time.


async def silent(server: Wire) -> None:
    await greet(server)
    await sleep_forever()


async def test_timeout_bounds_the_whole_attempt() -> None:
    async with scripted(silent) as port, plain(port, timeout=0.2) as client:
        started = current_time()
        (result,) = delivery = await client.send(b"x", **TO)
        assert current_time() - started < 5.0
        assert result.outcome is Result.RETRY
        assert delivery.closed is not None
        assert (delivery.closed.reason, delivery.closed.timer) == (CloseReason.TIMEOUT, Timer.SESSION)
        with pytest.raises(ConnectionBroken):
            await client.send(b"x", **TO)


async def test_timeout_bounds_the_greeting_too() -> None:
    async def script(server: Wire) -> None:
        await sleep_forever()

    async with scripted(script) as port:
        with pytest.raises(ConnectionBroken, match="session"):
            async with plain(port, timeout=0.1):
                pass


async def test_a_cancelled_call_leaves_the_connection_broken() -> None:
    async with scripted(silent) as port, plain(port) as client:
        with move_on_after(0.1) as scope:
            await client.send(b"x", **TO)
        assert scope.cancelled_caught
        with pytest.raises(ConnectionBroken):
            await client.send(b"x", **TO)


async def test_a_source_that_fails_in_the_body_ends_the_session_without_the_dot() -> None:
    inbox = Inbox()

    def failing() -> Iterator[bytes]:
        yield b"\r\nhalf"
        raise ZeroDivisionError

    async with background(serve_messages, inbox, accept_any=True) as port, plain(port) as client:
        with pytest.raises(ZeroDivisionError):
            await client.send(failing(), **TO)
        with pytest.raises(ConnectionBroken):
            await client.send(b"x", **TO)
    assert not inbox.bodies


async def test_a_second_call_at_the_same_time_is_a_mistake() -> None:
    sending = Event()

    async def slow() -> AsyncIterator[bytes]:
        sending.set()
        yield b"x"
        await sleep_forever()

    serving = background(serve_messages, Inbox(), accept_any=True)
    async with serving as port, plain(port) as client, create_task_group() as group:

        async def first() -> None:
            await client.send(slow(), **TO)

        group.start_soon(first)
        await sending.wait()
        with pytest.raises(BusyResourceError):
            await client.send(b"x", **TO)
        group.cancel_scope.cancel()


async def test_a_server_that_ignores_quit_costs_little_and_changes_nothing() -> None:
    async def script(server: Wire) -> None:
        await to_body(server)
        while await server.line() != b".":
            pass
        await server.say(b"250 taken")
        await sleep_forever()

    async with scripted(script) as port:
        started = current_time()
        async with plain(port) as client:
            assert (await client.send(b"x", **TO)).all_accepted
        assert current_time() - started < 5.0


async def test_what_the_caller_raises_comes_out_as_it_is() -> None:
    async with background(serve_messages, Inbox(), accept_any=True) as port:
        with pytest.raises(ZeroDivisionError):
            async with plain(port):
                raise ZeroDivisionError


async def test_the_hello_says_who_we_are() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True) as port:
        async with plain(port, hostname="me.example.com") as client:
            await client.send(b"x", **TO)
        async with plain(port) as client:
            await client.send(b"x", **TO)
    assert inbox.messages[0].hello is not None
    assert inbox.messages[0].hello.domain == "me.example.com"
    assert inbox.messages[1].hello is not None
    assert inbox.messages[1].hello.domain


@pytest.mark.parametrize("address", ["::1", "[::1]", "localhost"])
async def test_the_port_has_a_default(address: str) -> None:
    with pytest.raises(DeliveryError, match=r"^cannot connect to "):
        async with connect(address, tls="off"):
            pass


async def test_a_server_that_never_answers_the_connection_itself() -> None:
    with pytest.raises(CannotConnect, match="no answer in time"):
        async with connect("127.0.0.1:25", tls="off", timeout=0):
            pass
