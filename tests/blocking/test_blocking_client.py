"""connect and Client: against the server on threads, and against servers that do as they are told."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from email.message import EmailMessage
from io import BytesIO
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import (
    CloseReason,
    ConnectionBroken,
    Ehlo,
    LocalProtocolError,
    Refusal,
    Result,
    SessionRefused,
    TlsMode,
    TlsUnavailable,
)
from smtpstate.delivery import AuthenticationFailed
from smtpstate.sasl import MIN_ITERATIONS, Credentials, ScramKeys, password_work
from smtpstate_blocking import (
    AuthUnavailable,
    CannotConnect,
    Client,
    Listener,
    Message,
    connect,
    serving_messages,
)
from tests.blocking.sockets import SECONDS, Certificates, Inbox, Wire, background, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LETTER = b"Subject: hello\r\n\r\nhello\r\n.dot\r\n"
ENVELOPE: dict[str, Any] = {"sender": "me@example.com", "recipients": "you@example.org"}


def iterated() -> Iterator[bytes]:
    for start in range(0, len(LETTER), 5):
        yield LETTER[start : start + 5]


def emailed() -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "hello"
    message["Bcc"] = "secret@example.net"
    message.set_content("hello\n")
    return message


class Pipe:
    """A file that cannot be read twice."""

    def __init__(self) -> None:
        self.file = BytesIO(LETTER)

    def read(self, size: int) -> bytes:
        return self.file.read(size)

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise AssertionError

    def seek(self, offset: int) -> int:
        raise AssertionError


@contextmanager
def sending(*args: Any, **kwargs: Any) -> Iterator[Client]:
    """A client with a session in clear text, to a server of its own."""
    with (
        background(serving_messages, *args, **kwargs) as port,
        connect(f"127.0.0.1:{port}", tls="off") as client,
    ):
        yield client


SOURCES: list[Any] = [
    pytest.param(lambda: LETTER, id="bytes"),
    pytest.param(lambda: BytesIO(LETTER), id="a file"),
    pytest.param(Pipe, id="a file that is read once"),
    pytest.param(iterated, id="an iterator"),
    pytest.param(lambda: [LETTER[:9], LETTER[9:]], id="a list"),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("chunked", [False, True], ids=["DATA", "BDAT"])
def test_whatever_holds_octets_goes_out(source: Callable[[], Any], *, chunked: bool) -> None:
    inbox = Inbox()
    with sending(inbox, accept_any=True) as client:
        delivery = client.send(source(), **ENVELOPE, chunked=chunked)
    assert [result.outcome for result in delivery] == [Result.ACCEPTED]
    assert inbox.bodies == [LETTER]


def test_an_email_message_goes_without_its_bcc() -> None:
    inbox = Inbox()
    with sending(inbox, accept_any=True) as client:
        client.send(emailed(), **ENVELOPE)
    assert b"secret" not in inbox.bodies[0]
    assert inbox.bodies[0].startswith(b"Subject: hello\r\n")


def test_a_large_file_is_announced_and_streamed(tmp_path: Path) -> None:
    inbox, path = Inbox(), tmp_path / "mail.eml"
    path.write_bytes(b"Subject: x\n\n" + b"0123456789\n" * 500_000)
    with sending(inbox, accept_any=True) as client, path.open("rb") as file:
        for _ in range(2):
            file.seek(0)
            client.send(file, **ENVELOPE)
    assert [message.size for message in inbox.messages] == [14 + 12 * 500_000] * 2
    assert {len(body) for body in inbox.bodies} == {14 + 12 * 500_000}


def test_headers_in_utf8_are_found_in_an_iterator() -> None:
    inbox = Inbox()
    headers = ("Subject: gr" + "\N{LATIN SMALL LETTER U WITH DIAERESIS}" + "n\r\n\r\n").encode()
    with sending(inbox, accept_any=True, offers=["SMTPUTF8"]) as client:
        client.send(iter([headers[:12], headers[12:]]), **ENVELOPE)
        client.send(iter([]), **ENVELOPE)
    assert [message.smtputf8 for message in inbox.messages] == [True, False]
    assert inbox.bodies == [headers, b""]


def test_octets_that_were_not_announced_do_not_leave() -> None:
    inbox = Inbox()
    with sending(inbox, accept_any=True) as client:
        with pytest.raises(LocalProtocolError):
            client.send(iter([b"gr\xfcn\r\n"]), **ENVELOPE, eight_bit=False, utf8=False)
        assert client.closed is not None
        with pytest.raises(ConnectionBroken):
            client.send(LETTER, **ENVELOPE)
    assert inbox.bodies == []


# TLS.

MODES = [
    pytest.param("starttls", "required", id="STARTTLS"),
    pytest.param("starttls", "opportunistic", id="STARTTLS where it is offered"),
    pytest.param("implicit", "implicit", id="from the first octet on"),
    pytest.param("plain", "off", id="none"),
    pytest.param("plain", "opportunistic", id="none is offered"),
]


@pytest.mark.parametrize(("listens", "asks"), MODES)
def test_mail_arrives_in_every_tls_mode(listens: Any, asks: str, certificates: Certificates) -> None:
    inbox, listener = Inbox(), Listener("127.0.0.1", 0, listens)
    with (
        background(serving_messages, inbox, listener, accept_any=True, tls=certificates.server) as port,
        connect(f"127.0.0.1:{port}", tls=asks, ssl_context=certificates.trusting) as client,
    ):
        assert (client.tls is None) is (listens == "plain")
        delivery = client.send(b"x" * 300_000, **ENVELOPE)
    assert delivery.results[0].outcome is Result.ACCEPTED
    assert (inbox.messages[0].tls is None) is (listens == "plain")


@pytest.mark.parametrize("listens", ["starttls", "implicit"])
def test_a_certificate_from_elsewhere_is_refused(listens: Any, certificates: Certificates) -> None:
    mode = TlsMode.IMPLICIT if listens == "implicit" else TlsMode.REQUIRED
    listener = Listener("127.0.0.1", 0, listens)
    with (
        background(serving_messages, Inbox(), listener, accept_any=True, tls=certificates.server) as port,
        pytest.raises(TlsUnavailable, match=r"^TLS failed: .*certificate"),
        connect(f"127.0.0.1:{port}", tls=mode, ssl_context=certificates.suspicious),
    ):
        raise AssertionError


def test_required_tls_sends_nothing_in_clear() -> None:
    said: list[bytes] = []

    def without_tls(peer: Wire) -> None:
        peer.say(b"220 mx")
        said.append(peer.line())
        peer.say(b"250 mx")
        said.append(peer.line())

    with script(without_tls) as address, pytest.raises(TlsUnavailable), connect(address, hostname="me.example"):
        raise AssertionError
    assert said == [b"EHLO me.example", b"QUIT"]


# AUTH.


_WORK = password_work("secret", b"0123456789abcdef", MIN_ITERATIONS)
KEYS = ScramKeys.derive(_WORK, _WORK.run())


class Anna:
    mechanisms = ("SCRAM-SHA-256", "PLAIN")

    def keys(self, username: str) -> ScramKeys | None:
        return KEYS if username == "anna" else None

    def check(self, username: str, password: str) -> bool:
        if username == "trouble":
            raise ZeroDivisionError
        return (username, password) == ("anna", "secret")

    def token(self, username: str, token: str) -> str | None:
        raise AssertionError

    def certificate(self, name: str) -> str | None:
        raise AssertionError


@pytest.mark.parametrize("mechanism", Anna.mechanisms)
def test_a_user_logs_in_and_sends(mechanism: str, certificates: Certificates) -> None:
    inbox, listener = Inbox(), Listener("127.0.0.1", 0, "implicit", service="submission")
    serving = background(serving_messages, inbox, listener, accept_any=True, tls=certificates.server, users=Anna())
    with serving as port, connect(f"127.0.0.1:{port}", tls="implicit", ssl_context=certificates.trusting) as client:
        with pytest.raises(AuthenticationFailed):
            client.authenticate(Credentials("anna", "wrong"), among=[mechanism])
        client.authenticate(Credentials("anna", "secret"), among=[mechanism])
        client.send(LETTER, **ENVELOPE)
    assert [message.identity for message in inbox.messages] == ["anna"]


def test_users_that_fail_are_a_454(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    with (
        background(serving_messages, Inbox(), tls=certificates.server, users=Anna()) as port,
        connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting) as client,
    ):
        with pytest.raises(AuthenticationFailed, match="454"):
            client.authenticate(Credentials("trouble", "x"), among=["PLAIN"])
        client.authenticate(Credentials("anna", "secret"))
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


def test_a_password_stays_here_where_nothing_fits() -> None:
    with sending(Inbox(), accept_any=True) as client:
        with pytest.raises(AuthUnavailable):
            client.authenticate(Credentials("anna", "secret"))
        client.send(LETTER, **ENVELOPE)


# LMTP.


def test_lmtp_answers_each_recipient() -> None:
    def refuse_second(message: Message) -> None:
        message.refuse(1, Refusal(452, "Full"))

    listener = Listener("127.0.0.1", 0, service="lmtp")
    to = ["a@example.org", "b@example.org", "c@example.org"]
    with (
        background(serving_messages, refuse_second, listener, accept_any=True) as port,
        connect(f"127.0.0.1:{port}", tls="off", lmtp=True) as client,
    ):
        delivery = client.send(LETTER, sender="", recipients=to)
    assert [result.outcome for result in delivery] == [Result.ACCEPTED, Result.RETRY, Result.ACCEPTED]


# What goes wrong.


def test_nobody_listening_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(CannotConnect) as caught, connect(address, tls="off"):
        raise AssertionError
    assert str(caught.value) == f"cannot connect to {address}: Connection refused"


def test_a_name_that_is_none_is_one_clear_line() -> None:
    with pytest.raises(CannotConnect, match=r"^cannot connect to "), connect("a" * 70 + ".example", tls="off"):
        raise AssertionError


def test_a_session_that_is_refused() -> None:
    def refuse(peer: Wire) -> None:
        peer.say(b"554 5.7.1 not you")
        assert peer.line() == b"QUIT"

    with script(refuse) as address, pytest.raises(SessionRefused), connect(address, tls="off"):
        raise AssertionError


@pytest.mark.parametrize("greets", [False, True], ids=["no greeting", "a greeting octet by octet"])
def test_timeout_bounds_the_whole_attempt(*, greets: bool) -> None:
    over = Event()

    def drip(peer: Wire) -> None:
        while greets and not over.wait(0.02):
            peer.sock.sendall(b"2")
        over.wait(SECONDS)

    started = monotonic()
    with script(drip) as address:
        with pytest.raises(ConnectionBroken) as caught, connect(address, tls="off", timeout=0.3):
            raise AssertionError
        over.set()
    assert 0.2 < monotonic() - started < 3
    assert caught.value.closed.reason is CloseReason.TIMEOUT


def test_a_server_that_hangs_up_after_the_dot_leaves_the_outcome_unknown() -> None:
    def vanish(peer: Wire) -> None:
        peer.say(b"220 mx")
        for answer in (b"250 mx", b"250 ok", b"250 ok", b"354 go on"):
            peer.line()
            peer.say(answer)
        while peer.line() != b".":
            pass

    with script(vanish) as address, connect(address, tls="off") as client:
        delivery = client.send(LETTER, **ENVELOPE)
    assert [result.outcome for result in delivery] == [Result.UNKNOWN]


def test_two_sides_that_both_write_do_not_wait_for_each_other() -> None:
    """The recipients fill the server's buffers, while its answers fill ours."""
    to = [f"{number:0100}@example.org" for number in range(990)]

    def chatter(peer: Wire) -> None:
        peer.say(b"220 mx")
        peer.line()
        peer.say(b"250-mx\r\n250 PIPELINING")
        peer.line()
        peer.say(b"250 sender")
        for _ in to:
            peer.say(b"".join(b"250-%s\r\n" % (b"y" * 500) for _ in range(20)) + b"250 taken")
            peer.line()
        peer.line()
        peer.say(b"354 go on")
        while peer.line() != b".":
            pass
        peer.say(b"250 taken")

    with script(chatter) as address, connect(address, tls="off") as client:
        assert client.send(b"x", sender="", recipients=to).all_accepted


def test_a_reply_before_a_hang_up_in_the_middle_of_the_body_is_not_lost() -> None:
    def refuse(peer: Wire) -> None:
        peer.say(b"220 mx")
        for answer in (b"250 mx", b"250 ok", b"250 ok", b"354 go on"):
            peer.line()
            peer.say(answer)
        peer.more()
        peer.say(b"552 5.3.4 too much")
        peer.sock.shutdown(socket.SHUT_WR)
        peer.rest()

    with script(refuse) as address, connect(address, tls="off") as client:
        delivery = client.send((b"x" * 76 + b"\r\n" for _ in range(200_000)), **ENVELOPE)
    assert str(delivery.results[0].reply).startswith("552 ")


def test_a_source_that_fails_in_the_body_ends_the_session_without_the_dot() -> None:
    inbox = Inbox()

    def broken() -> Iterator[bytes]:
        yield LETTER
        raise ZeroDivisionError

    with sending(inbox, accept_any=True) as client:
        with pytest.raises(ZeroDivisionError):
            client.send(broken(), **ENVELOPE, utf8=False)
        assert client.closed is not None
    assert inbox.bodies == []


def test_a_second_thread_at_the_same_time_is_a_mistake() -> None:
    begun, go_on = Event(), Event()

    def slow() -> Iterator[bytes]:
        begun.set()
        go_on.wait(SECONDS)
        yield LETTER

    inbox = Inbox()
    with sending(inbox, accept_any=True) as client:
        thread = Thread(target=client.send, args=(slow(),), kwargs=ENVELOPE)
        thread.start()
        begun.wait(SECONDS)
        with pytest.raises(RuntimeError, match="another thread"):
            client.send(LETTER, **ENVELOPE)
        go_on.set()
        thread.join()
    assert inbox.bodies == [LETTER]


def test_an_interrupt_leaves_the_connection_broken_and_closed() -> None:
    """As Ctrl-C does: whatever is raised while a call waits."""

    def stall(peer: Wire) -> None:
        peer.say(b"220 mx")
        peer.line()
        for answer in (b"250 mx", b"250 ok", b"250 ok", b"354 go on"):
            peer.say(answer)
            peer.line()
        peer.rest()

    with script(stall) as address, connect(address, tls="off") as client:
        with pytest.raises(KeyboardInterrupt):
            client.send(interrupted(), **ENVELOPE, utf8=False)
        assert client.closed is not None
    assert client.closed.reason is CloseReason.LOST


def interrupted() -> Iterator[bytes]:
    yield LETTER
    raise KeyboardInterrupt


def test_a_server_that_ignores_quit_costs_two_seconds_and_changes_nothing() -> None:
    over = Event()

    def ignore(peer: Wire) -> None:
        peer.say(b"220 mx")
        peer.line()
        peer.say(b"250 mx")
        over.wait(SECONDS)

    with script(ignore) as address:
        with connect(address, tls="off") as client:
            started = monotonic()
        over.set()
    assert 1.5 < monotonic() - started < 5
    assert client.closed is not None


def test_what_the_caller_raises_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), sending(Inbox()):
        raise ZeroDivisionError


def test_the_hello_says_who_we_are() -> None:
    inbox = Inbox()
    with (
        background(serving_messages, inbox, accept_any=True) as port,
        connect(f"127.0.0.1:{port}", tls="off", hostname="me.example.com") as client,
    ):
        client.send(LETTER, **ENVELOPE)
    assert [message.hello for message in inbox.messages] == [Ehlo("me.example.com")]
