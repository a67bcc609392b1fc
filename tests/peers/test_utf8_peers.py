"""SMTPUTF8 with others: our client to aiosmtpd, and smtplib to `smtpstate serve`."""

from __future__ import annotations

import os
import smtplib
import subprocess
from email.message import EmailMessage
from typing import TYPE_CHECKING

import anyio
import pytest

from smtpstate import Result
from smtpstate_anyio import connect
from tests.peers.lodger import Handler, aiosmtpd
from tests.peers.programs import SECONDS, needs, run

if TYPE_CHECKING:
    from smtpstate import Delivery
    from tests.peers.serving import Serving

U_SENDER, U_RECIPIENT = "s\u00e9nder@b\u00fccher.example", "\u4f8b@\u4f8b\u3048.example"
OCTETS = "From: \u00e9@example.org\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nGr\u00fc\u00dfe\r\n".encode()


async def deliver(port: int, octets: bytes, sender: str, recipient: str) -> Delivery:
    with anyio.fail_after(SECONDS):
        async with connect(f"127.0.0.1:{port}", tls="off", hostname="client.example.org") as client:
            return await client.send(octets, sender=sender, recipients=recipient)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_our_client_to_aiosmtpd(backend: str) -> None:
    handler = Handler()
    with aiosmtpd(handler, enable_SMTPUTF8=True) as port:
        assert anyio.run(deliver, port, OCTETS, U_SENDER, U_RECIPIENT, backend=backend).all_accepted
        assert anyio.run(deliver, port, b"x\r\n", "a@b.example", "a@b\u00fccher.example", backend=backend).all_accepted
    asked, other = handler.kept
    assert (asked.mail_from, asked.rcpt_tos, asked.smtp_utf8) == (U_SENDER, [U_RECIPIENT], True)
    assert asked.original_content == OCTETS
    assert (other.rcpt_tos, other.smtp_utf8) == (["a@xn--bcher-kva.example"], False)


def test_where_aiosmtpd_does_not_offer_it_nothing_is_sent() -> None:
    handler = Handler()
    with aiosmtpd(handler) as port:
        (result,) = anyio.run(deliver, port, OCTETS, "a@b.example", "b@b.example")
    assert (result.outcome, str(result.reply)[:9]) == (Result.REFUSED, "550 5.6.9")
    assert not handler.kept


def test_smtplib_to_serve(serving: Serving) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = U_SENDER, U_RECIPIENT, "Gr\u00fc\u00dfe"
    message.set_content("Gr\u00fc\u00dfe\n")
    with smtplib.SMTP("127.0.0.1", serving.port, "client.example.org", SECONDS) as client:
        assert client.send_message(message) == {}  # it asks for SMTPUTF8, since an address needs it
    (stored,) = serving.take()
    assert (stored.sender, stored.recipient, stored.protocol) == (U_SENDER, U_RECIPIENT, "UTF8SMTP")
    assert f"To: {U_RECIPIENT}".encode() in stored.content


CURL = (
    "curl -sS --max-time 30 --mail-from {sender} --mail-rcpt {recipient} --upload-file - smtp://127.0.0.1:{port}/{me}"
)


def test_curl_to_serve(serving: Serving) -> None:
    """It asks for SMTPUTF8 where an address needs it. swaks cannot ask, and msmtp 1.8.23 does not: they are told so."""
    sender, recipient = "s\u00e9nder@example.org", "\u4f8b@example.org"
    values = {"sender": sender, "recipient": recipient, "port": serving.port, "me": "client.example.org"}
    program, *arguments = (word.format_map(values) for word in CURL.split())
    settings = {"PATH": os.defpath, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [needs(program), *arguments], input=OCTETS, capture_output=True, timeout=SECONDS, env=settings, check=False
    )
    assert done.returncode == 0, done.stderr
    (stored,) = serving.take()
    assert (stored.sender, stored.recipient, stored.protocol) == (sender, recipient, "UTF8SMTP")
    assert stored.content == OCTETS


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("swaks", "--server 127.0.0.1 --port {port} --ehlo {me} --from {sender} --to {recipient} --timeout 30"),
        ("msmtp", "--host=127.0.0.1 --port={port} --domain={me} --auth=off --tls=off --from={sender} {recipient}"),
    ],
    ids=["swaks", "msmtp"],
)
def test_who_does_not_ask_for_it_is_told_to(serving: Serving, program: str, options: str) -> None:
    values = {"sender": U_SENDER, "recipient": U_RECIPIENT, "port": serving.port, "me": "client.example.org"}
    done = run([needs(program), *(word.format_map(values) for word in options.split())], stdin=b"Subject: x\n\nx\n")
    assert done.returncode != 0
    assert b"550 5.6.7 This address needs SMTPUTF8" in done.stdout + done.stderr
    assert serving.take() == []
