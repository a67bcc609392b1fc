"""docs/examples/django_backend.py: what Django sends by it, over loopback."""

from __future__ import annotations

import logging
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection, send_mail
from django.core.mail.utils import DNS_NAME
from django.test.utils import override_settings

from smtpstate import Delivery, DeliveryError, LocalProtocolError, Result, TlsUnavailable
from smtpstate_blocking import AuthUnavailable, CannotConnect
from smtpstate_testing import SmtpServer

if not settings.configured:
    settings.configure()

from docs.examples import aiosmtpd_shim as shim
from docs.examples.django_backend import EmailBackend, NotDelivered, delivered, logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def django(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Django's settings, with our backend in them; they are as they were when a test is done."""
    monkeypatch.setattr(DNS_NAME, "_fqdn", "client.example.com", raising=False)  # it would look it up
    backend = f"{EmailBackend.__module__}.{EmailBackend.__name__}"
    with override_settings(EMAIL_BACKEND=backend, EMAIL_HOST="127.0.0.1", EMAIL_TIMEOUT=20):
        yield


@pytest.fixture
def results() -> Iterator[list[tuple[str, list[tuple[str, str, int | None]]]]]:
    """What the receivers of `delivered` are told: each message's subject, and its recipients."""
    told: list[tuple[str, list[tuple[str, str, int | None]]]] = []

    def receive(sender: object, message: EmailMessage, delivery: Delivery, **_: object) -> None:
        assert sender is EmailBackend
        rows = [(one.address, one.outcome.value, one.reply.code if one.reply else None) for one in delivery]
        told.append((str(message.subject), rows))

    delivered.connect(receive)
    yield told
    delivered.disconnect(receive)


@dataclass
class Handler:
    """Refuses nobody@, puts off full@, and hangs up at a message to last@."""

    kept: list[tuple[str, int, str | None]] = field(default_factory=list)  # subject, session, user

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        match address.partition("@")[0]:
            case "nobody":
                return "550 5.1.1 Nobody of that name"
            case "full":
                return "452 4.2.2 Mailbox full"
            case _:
                envelope.rcpt_tos.append(address)
                return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if "last@example.org" in envelope.rcpt_tos:
            return "421 4.3.2 Enough"
        subject = envelope.content.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
        self.kept.append((subject, id(session), session.auth_data))
        return "250 OK"


class Accounts:
    mechanisms = ("PLAIN",)

    async def keys(self, username: str) -> None:
        return None

    async def check(self, username: str, password: str) -> bool:
        return (username, password) == ("user", "pencil")

    async def token(self, username: str, token: str) -> None:
        return None

    async def certificate(self, name: str) -> None:
        return None


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's, whom the system trusts."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return context


@contextmanager
def serving(handler: Handler, **options: Any) -> Iterator[None]:
    with shim.Controller(handler, port=0, **options) as controller, override_settings(EMAIL_PORT=controller.port):
        yield


def mail(subject: str, *recipients: str) -> EmailMessage:
    return EmailMessage(subject, "hello\n", "me@example.com", recipients)


@pytest.mark.parametrize("mode", ["plain", "EMAIL_USE_TLS", "EMAIL_USE_SSL"])
def test_send_mail_sends(mode: str, context: ssl.SSLContext) -> None:
    secure = mode != "plain"
    with SmtpServer(tls=context if secure else None, implicit_tls=mode == "EMAIL_USE_SSL") as server:
        options = {mode: True} if secure else {}
        with override_settings(EMAIL_PORT=server.port, **options):
            assert send_mail("Grüße", "Füße\n.\n", "Mé <me@example.com>", ["You <you@example.org>"]) == 1
    [received] = server.inbox
    assert (received.sender, received.recipients) == ("me@example.com", ("you@example.org",))
    assert (received.message["Subject"], received.message["From"]) == ("Grüße", "Mé <me@example.com>")
    assert received.message.get_content().splitlines() == ["Füße", "."]
    assert (received.tls is not None) is secure


def test_parts_and_blind_copies_travel_as_they_should() -> None:
    message = EmailMultiAlternatives("hello", "text", "me@example.com", ["you@example.org"], bcc=["hidden@example.org"])
    message.attach_alternative("<p>text</p>", "text/html")
    message.attach("octets", bytes(range(256)), "application/octet-stream")
    with SmtpServer() as server, override_settings(EMAIL_PORT=server.port):
        assert message.send() == 1
    [received] = server.inbox
    assert received.recipients == ("you@example.org", "hidden@example.org")
    assert b"hidden" not in received.data
    [attachment] = received.message.iter_attachments()
    assert attachment.get_content() == bytes(range(256))


def test_tls_that_cannot_be_had_sends_nothing() -> None:
    with SmtpServer() as server, override_settings(EMAIL_PORT=server.port, EMAIL_USE_TLS=True):
        with pytest.raises(TlsUnavailable):
            mail("hello", "you@example.org").send()
        assert mail("hello", "you@example.org").send(fail_silently=True) == 0
    assert server.inbox == []


def test_starttls_and_tls_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude"):
        EmailBackend(use_tls=True, use_ssl=True)


def test_a_user_logs_in(context: ssl.SSLContext) -> None:
    handler = Handler()
    with serving(handler, tls_context=context, users=Accounts()):
        with override_settings(EMAIL_USE_TLS=True, EMAIL_HOST_USER="user", EMAIL_HOST_PASSWORD="pencil"):
            assert mail("hello", "you@example.org").send() == 1
        connection = get_connection(username="user", password="pen", use_tls=True)
        with pytest.raises(DeliveryError):
            connection.send_messages([mail("no", "you@example.org")])
    assert [(subject, user) for subject, _, user in handler.kept] == [("hello", "user")]


def test_a_password_is_not_shown_in_clear_text(context: ssl.SSLContext) -> None:
    handler = Handler()
    with serving(handler, tls_context=context, users=Accounts()), pytest.raises(AuthUnavailable):
        EmailBackend(username="user", password="pencil").send_messages([mail("hello", "you@example.org")])
    assert handler.kept == []


def test_a_certificate_of_ones_own_is_shown(tmp_path: Path) -> None:
    pair = trustme.CA().issue_cert("client.example.com")
    pair.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    pair.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    EmailBackend(ssl_certfile=str(tmp_path / "client.pem")).ssl_context()
    EmailBackend(ssl_certfile=str(tmp_path / "client.pem"), ssl_keyfile=str(tmp_path / "key.pem")).ssl_context()
    with pytest.raises(OSError, match="No such file"):
        EmailBackend(ssl_certfile=str(tmp_path / "none.pem")).ssl_context()


# What becomes of each recipient.


def test_who_was_refused_is_told_to_receivers_and_to_the_log(
    results: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    recipients = ("nobody@example.org", "you@example.org", "full@example.org")
    with serving(Handler()), caplog.at_level(logging.WARNING, logger.name):
        assert mail("hello", *recipients).send() == 1
    rows = [
        ("nobody@example.org", "refused", 550),
        ("you@example.org", "accepted", 250),
        ("full@example.org", "retry", 452),
    ]
    assert results == [("hello", rows)]
    assert [record.getMessage() for record in caplog.records] == [
        "not to nobody@example.org: refused, 550 5.1.1 Nobody of that name",
        "not to full@example.org: retry, 452 4.2.2 Mailbox full",
    ]


def test_where_nobody_was_accepted_an_exception_has_it_all(results: list[Any]) -> None:
    with serving(Handler()), pytest.raises(NotDelivered, match=r"full@example\.org: retry, 452 4\.2\.2") as failed:
        mail("hello", "nobody@example.org", "full@example.org").send()
    assert failed.value.delivery.having(Result.RETRY) == ("full@example.org",)
    assert len(results) == 1


def test_failing_silently_still_tells_receivers(results: list[Any]) -> None:
    with serving(Handler()):
        assert mail("hello", "nobody@example.org").send(fail_silently=True) == 0
    assert results == [("hello", [("nobody@example.org", "refused", 550)])]


def test_a_receiver_that_fails_does_not_undo_what_was_sent(results: list[Any]) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("a receiver's own trouble")

    delivered.connect(fail)
    try:
        with serving(Handler()):
            assert mail("hello", "you@example.org").send() == 1
    finally:
        delivered.disconnect(fail)
    assert len(results) == 1


# Sessions.


def test_messages_share_a_session_and_open_keeps_it() -> None:
    handler = Handler()
    with serving(handler):
        backend = EmailBackend()
        assert backend.send_messages([mail("1", "you@example.org"), mail("2", "you@example.org")]) == 2
        assert backend.client is None
        with backend:
            assert backend.open() is False
            assert backend.send_messages([mail("3", "you@example.org")]) == 1
            assert backend.send_messages([mail("4", "you@example.org")]) == 1
        assert backend.client is None
        backend.close()  # again: nothing
    subjects, sessions, _ = zip(*handler.kept, strict=True)
    assert subjects == ("1", "2", "3", "4")
    assert sessions[0] == sessions[1]
    assert sessions[2] == sessions[3]


def test_a_session_that_the_server_ends_is_followed_by_another(results: list[Any]) -> None:
    handler = Handler()
    messages = [mail("1", "last@example.org"), mail("2", "you@example.org")]
    with serving(handler):
        assert EmailBackend(fail_silently=True).send_messages(messages) == 1
    assert [subject for subject, _, _ in handler.kept] == ["2"]
    assert [rows for _, rows in results] == [
        [("last@example.org", "retry", 421)],
        [("you@example.org", "accepted", 250)],
    ]


def test_threads_share_a_backend() -> None:
    handler = Handler()
    with serving(handler), EmailBackend() as backend, ThreadPoolExecutor(8) as pool:
        messages = [[mail(str(number), "you@example.org")] for number in range(40)]
        assert sum(pool.map(backend.send_messages, messages)) == 40
    assert sorted(int(subject) for subject, _, _ in handler.kept) == [*range(40)]
    assert len({session for _, session, _ in handler.kept}) == 1


def test_nothing_is_sent_to_nobody() -> None:
    assert EmailBackend(port=1).send_messages([]) == 0
    with serving(Handler()):
        assert EmailBackend().send_messages([mail("hello")]) == 0


def test_nobody_listening_raises_or_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(CannotConnect):
        EmailBackend(port=port).send_messages([mail("hello", "you@example.org")])
    backend = EmailBackend(port=port, fail_silently=True)
    assert backend.open() is None
    assert backend.send_messages([mail("hello", "you@example.org")]) == 0


def test_a_server_that_says_nothing_has_until_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = EmailBackend(port=silent.getsockname()[1], timeout=0.1)
        with pytest.raises(DeliveryError, match="time budget"):
            backend.send_messages([mail("hello", "you@example.org")])


@pytest.mark.parametrize(
    ("sender", "recipient"), [("me@example.com", "you"), ("me@example.com", "You <>"), ("Me <>", "you@example.org")]
)
def test_an_address_that_is_none_is_the_callers_mistake(sender: str, recipient: str) -> None:
    with serving(Handler()), pytest.raises((ValueError, LocalProtocolError), match="not a"):
        EmailMessage("hello", "hello\n", sender, [recipient]).send(fail_silently=True)


def test_no_sender_is_the_null_reverse_path() -> None:
    with SmtpServer() as server, override_settings(EMAIL_PORT=server.port):
        message = mail("a report", "you@example.org")
        message.from_email = ""
        assert message.send() == 1
    assert [received.sender for received in server.inbox] == [""]
