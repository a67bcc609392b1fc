"""Our client speaks for somebody else, and in UTF-8, to Postfix; what Postfix made of it is in its queue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio
import pytest

from smtpstate import Command, Ehlo
from smtpstate.delivery import ask
from smtpstate.extensions import Absence, XClient, XForward, XForwardSource
from smtpstate_anyio import connect
from tests.differential.rows import DOMAIN
from tests.peers.programs import SECONDS

if TYPE_CHECKING:
    from tests.differential.postfix import Postfix
    from tests.peers.serving import Certificates

HELLO = "client.example.com"
OCTETS = b"Subject: hello\r\n\r\nhello\r\n"


async def told(postfix: Postfix, certificates: Certificates, *said: Command) -> str:
    """The reply to a message after that."""
    with anyio.fail_after(SECONDS):
        async with connect(f"127.0.0.1:{postfix.port}", ssl_context=certificates.trusting, hostname=HELLO) as client:
            for command in said:
                reply = await client.run(ask(client.connection, command))
                assert reply.code in (220, 250), reply
            delivery = await client.send(OCTETS, sender="me@example.com", recipients=f"you@{DOMAIN}")
    assert delivery.all_accepted, delivery
    return str(delivery.results[0].reply)


def attributes(postfix: Postfix, reply: str) -> dict[str, str]:
    """The last of each name: what is for the log comes after what is known."""
    return dict(re.findall(r"^named_attribute: (\w+)=(.*)$", postfix.envelope(reply).decode(), re.MULTILINE))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("said", "expected", "reason"),
    [
        (
            (
                XClient(
                    name="a.example",
                    reverse_name="b.example",
                    port=9,
                    protocol="ESMTP",
                    helo="c.example",
                    login="joe+x=y",
                    address="192.0.2.9",
                ),
                Ehlo("d.example"),
            ),
            {
                "client_name": "a.example",
                "reverse_client_name": "b.example",
                "client_port": "9",
                "client_address": "192.0.2.9",
                "helo_name": "d.example",
                "sasl_username": "joe+x=y",
            },
            "all of it in one command; the hello afterwards counts",
        ),
        (
            (XClient(name=Absence.UNAVAILABLE, address="2001:db8::9"), Ehlo(HELLO)),
            {"client_name": "unknown", "client_address": "2001:db8::9", "helo_name": HELLO},
            "IPv6, and a look-up that found nothing",
        ),
        (
            (XClient(name="a.example"), Ehlo(HELLO), XClient(address="192.0.2.9"), Ehlo(HELLO)),
            {"client_name": "a.example", "client_address": "192.0.2.9"},
            "two, and with the address we lose the right to",
        ),
    ],
)
def test_postfix_takes_our_client_for_whom_it_speaks_for(
    trusting_postfix: Postfix,
    certificates: Certificates,
    said: tuple[Command, ...],
    expected: dict[str, str],
    reason: str,
    backend: str,
) -> None:
    reply = anyio.run(told, trusting_postfix, certificates, *said, backend=backend)
    found = attributes(trusting_postfix, reply)
    assert {name: found.get(name) for name in expected} == expected, (reason, found)


def test_postfix_logs_where_our_client_has_a_message_from(
    trusting_postfix: Postfix, certificates: Certificates
) -> None:
    said = XForward(
        name="a.example",
        address="192.0.2.9",
        port=9,
        protocol="ESMTP",
        helo="c.example",
        ident="4bXyz",
        source=XForwardSource.REMOTE,
    )
    found = attributes(trusting_postfix, anyio.run(told, trusting_postfix, certificates, said))
    expected = {
        "log_client_name": "a.example",
        "log_client_address": "192.0.2.9",
        "log_client_port": "9",
        "log_protocol_name": "ESMTP",
        "log_helo_name": "c.example",
        "log_ident": "4bXyz",
        "client_address": "127.0.0.1",
        "helo_name": HELLO,
    }
    assert {name: found.get(name) for name in expected} == expected, found


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_postfix_keeps_what_our_client_sends_in_utf8(
    trusting_postfix: Postfix, certificates: Certificates, backend: str
) -> None:
    octets = "From: \u00e9@example.org\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nGr\u00fc\u00dfe\r\n".encode()
    sender, recipient = "s\u00e9nder@b\u00fccher.example", f"\u4f8b@{DOMAIN}"

    async def send() -> str:
        with anyio.fail_after(SECONDS):
            async with connect(
                f"127.0.0.1:{trusting_postfix.port}", ssl_context=certificates.trusting, hostname=HELLO
            ) as client:
                delivery = await client.send(octets, sender=sender, recipients=recipient)
        assert delivery.all_accepted, delivery
        return str(delivery.results[0].reply)

    reply = anyio.run(send, backend=backend)
    envelope = trusting_postfix.envelope(reply).decode()
    found = dict(re.findall(r"^(sender|recipient): (.*)$", envelope, re.MULTILINE))
    assert found == {"sender": sender, "recipient": recipient}
    assert trusting_postfix.stored(reply).content == octets.replace(b"\r\n", b"\n")
