"""The fixtures, as tests of other projects use them: alone, in coroutines, and two hundred at once."""

from __future__ import annotations

import os
import smtplib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from smtpstate import Reply, ServerConfig, ServerConnection, ServerEvent, TlsMode
from smtpstate.delivery import Envelope, open_session, send_message
from smtpstate_anyio import connect
from smtpstate_testing import Pair, accept_everything
from smtpstate_testing.pytest_plugin import smtp_pair, smtp_server, smtp_server_tls

if TYPE_CHECKING:
    from smtpstate_testing import SmtpServer

__all__ = ["smtp_pair", "smtp_server", "smtp_server_tls"]

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
MESSAGE = "Subject: hello\r\n\r\nhello\r\n"


def deliver(server: SmtpServer, *, tls: bool = False) -> None:
    with smtplib.SMTP(server.host, server.port, local_hostname="app.example.com") as client:
        if tls:
            client.starttls(context=server.client_context)
        client.sendmail("me@example.com", ["you@example.org"], MESSAGE)


# What arrives has its transcript.


def test_a_message_has_what_was_said_in_its_session(smtp_server: SmtpServer) -> None:
    deliver(smtp_server)
    deliver(smtp_server)
    for received in smtp_server.inbox:
        assert received.transcript.startswith("S: 220 mx.example.org ESMTP\nC: ehlo app.example.com\n")
        assert received.transcript.endswith("S: 354 End the message with <CRLF>.<CRLF>\nC: (25 octets) .\n")
        assert received.transcript.count("C: data\n") == 1


def test_a_message_of_two_in_a_session_has_what_was_said_before(smtp_server: SmtpServer) -> None:
    with smtplib.SMTP(smtp_server.host, smtp_server.port) as client:
        for _ in range(2):
            client.sendmail("me@example.com", ["you@example.org"], MESSAGE)
    assert [received.transcript.count("C: data\n") for received in smtp_server.inbox] == [1, 2]


def test_the_server_with_tls_is_trusted_by_its_own_context(smtp_server_tls: SmtpServer) -> None:
    deliver(smtp_server_tls, tls=True)
    [received] = smtp_server_tls.inbox
    assert received.tls is not None
    assert "C: STARTTLS\n" in received.transcript
    assert received.transcript.count("C: ehlo app.example.com\n") == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_certificate_names_loopback(smtp_server_tls: SmtpServer, host: str) -> None:
    with smtplib.SMTP(host, smtp_server_tls.port) as client:
        client.starttls(context=smtp_server_tls.client_context)


@pytest.mark.anyio
async def test_a_coroutine_uses_them_on_either_backend(
    smtp_server: SmtpServer, smtp_server_tls: SmtpServer, anyio_backend_name: str
) -> None:
    await anyio.to_thread.run_sync(deliver, smtp_server)
    address = f"{smtp_server_tls.host}:{smtp_server_tls.port}"
    async with connect(address, tls="required", ssl_context=smtp_server_tls.client_context) as client:
        delivery = await client.send(MESSAGE.encode(), sender="", recipients="you@example.org")
    assert delivery.all_accepted
    assert len(smtp_server.inbox) == len(smtp_server_tls.inbox) == 1


# In memory.


def test_the_pair_has_an_inbox_too(smtp_pair: Pair) -> None:
    smtp_pair.run(open_session(smtp_pair.client, TlsMode.OFF))
    for body in (b"one\r\n", b"two\r\n"):
        smtp_pair.run(send_message(smtp_pair.client, Envelope("me@example.com", ("you@example.org",))), [body])
    first, second = smtp_pair.inbox
    assert (first.sender, first.recipients, first.data) == ("me@example.com", ("you@example.org",), b"one\r\n")
    assert first.hello == "client.example.com"
    assert second.data == b"two\r\n"
    assert first.transcript.endswith("C: (5 octets) .\nS: 250 2.0.0 Message accepted\n")


def test_what_was_refused_is_in_no_inbox() -> None:
    def handler(server: ServerConnection, event: ServerEvent) -> None:
        if server.owed is event and server.transaction is not None and len(server.recipients) == 2:
            server.refuse(Reply(552)) if server.phase.name in ("BODY", "CHUNK") else server.accept()
        else:
            accept_everything(server, event)

    pair = Pair(handler=handler)
    pair.talk(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\n")
    pair.talk(b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\nhalf a mess")
    pair.hang_up()
    assert pair.inbox == []


def test_a_message_of_several_chunks_is_whole() -> None:
    pair = Pair(ServerConfig("mx.example.org"))
    pair.talk(b"EHLO c\r\n")
    pair.talk(b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nBDAT 3\r\nabcBDAT 0 LAST\r\n")
    pair.talk(b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nBDAT 2\r\nxyRSET\r\n")
    pair.talk(b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nBDAT 2 LAST\r\nzz")
    assert [message.data for message in pair.inbox] == [b"abc", b"zz"]


# Many at once.

PARALLEL = """
import smtplib

import pytest


@pytest.mark.parametrize("number", range(200))
def test_mail(smtp_server, number):
    with smtplib.SMTP(smtp_server.host, smtp_server.port) as client:
        client.sendmail("me@example.com", [f"{number}@example.org"], "Subject: x\\r\\n\\r\\n")
    [received] = smtp_server.inbox
    assert received.recipients == (f"{number}@example.org",)
"""


def test_two_hundred_tests_at_once_have_a_port_each(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "adapters"))))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(PARALLEL)
    plugins = ("-p", "xdist", "-p", "anyio.pytest_plugin", "-p", "smtpstate_testing.pytest_plugin")
    result = pytester.run(
        sys.executable, "-m", "pytest", "-q", "-W", "error", *plugins, "-n", "4", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=200)


def test_without_trustme_the_fixture_with_tls_skips(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        import pytest
        from smtpstate_testing.pytest_plugin import smtp_pair, smtp_server_tls

        @pytest.fixture(autouse=True)
        def no_trustme(monkeypatch):
            monkeypatch.setitem(sys.modules, "trustme", None)

        def test_mail(smtp_server_tls):
            raise AssertionError

        def test_memory(smtp_pair):
            assert smtp_pair.inbox == []
        """
    )
    result = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider")
    result.assert_outcomes(skipped=1, passed=1)
    result.stdout.fnmatch_lines(["*the fixture smtp_server_tls needs trustme: pip install 'smtpstate?test?'*"])
