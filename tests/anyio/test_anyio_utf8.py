"""SMTPUTF8 between the anyio client and server: what is asked for, what is written, and what is refused."""

from __future__ import annotations

from email.headerregistry import Address, Group
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import LocalProtocolError, Result
from smtpstate_anyio import connect, serve_messages
from smtpstate_parts.source import HEADERS, HeaderScan, flatten
from tests.anyio.loopback import Inbox, background

if TYPE_CHECKING:
    from collections.abc import Iterator

U = "\u00e9@b\u00fccher.example"
ASCII: Any = {"sender": "me@example.com", "recipients": "you@example.org"}
OFFERS: Any = {"accept_any": True, "offers": ("SMTPUTF8",)}


def plain(port: int) -> Any:
    return connect(f"127.0.0.1:{port}", tls="off")


@pytest.mark.parametrize("cut", [1, 2, 3, 99])
@pytest.mark.parametrize(
    ("message", "expected", "reason"),
    [
        ("Subject: x\r\n\r\n\u00e9", False, "the body is not looked at"),
        ("Subject: \u00e9\r\n\r\nx", True, "a header"),
        ("A: x\nB: \u00e9\n\nx", True, "LF"),
        ("A: x\n\n\u00e9", False, "LF"),
        ("A: x\r\r\u00e9", False, "CR"),
        ("A: x\r\n\r\u00e9", False, "both"),
        ("\r\n\u00e9", False, "no headers"),
        ("\n\u00e9", False, "no headers"),
        ("A: x\r\nB: y", False, "no body"),
        ("\u00e9", True, "no body"),
    ],
)
def test_only_the_header_section_counts(message: str, expected: bool, reason: str, cut: int) -> None:
    octets = message.encode()
    scan = HeaderScan()
    for start in range(0, len(octets), cut):
        scan.add(octets[start : start + cut])
    assert scan.utf8 is expected, reason


@pytest.mark.parametrize("cut", [1, 2, 3, 99])
@pytest.mark.parametrize("octets", [b"Subject: caf\xe9\r\n\r\nx", b"Subject: caf\xe9", b"A: x\xc3\r\n\r\nx"])
def test_octets_that_are_no_utf_8_do_not_ask_for_it(octets: bytes, cut: int) -> None:
    """RFC 6532 section 3.1."""
    scan = HeaderScan()
    for start in range(0, len(octets), cut):
        scan.add(octets[start : start + cut])
    assert not scan.utf8


def test_headers_without_an_end_are_given_up() -> None:
    scan = HeaderScan()
    assert not scan.over
    scan.add(b"x" * HEADERS)
    assert scan.over


@pytest.mark.anyio
async def test_a_local_part_is_asked_for_and_arrives() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, **OFFERS) as port, plain(port) as client:
        assert (await client.send(b"x", sender=U, recipients=U)).all_accepted
        assert (await client.send(b"x", **ASCII)).all_accepted
    asked, other = inbox.messages
    assert (asked.sender.address, [to.address for to in asked.recipients]) == (U, [U])
    assert (asked.smtputf8, asked.received_with) == (True, "UTF8SMTP")
    assert (other.smtputf8, other.received_with) == (False, "ESMTP")


@pytest.mark.anyio
async def test_headers_are_found_and_an_iterator_may_be_taken_at_its_word() -> None:
    inbox = Inbox()
    octets = "Subject: \u00e9\r\n\r\nx\r\n".encode()

    def pieces() -> Iterator[bytes]:
        yield octets[:10]
        yield octets[10:]

    async with background(serve_messages, inbox, **OFFERS) as port, plain(port) as client:
        for message, utf8 in ((octets, None), (pieces(), None), (pieces(), False), (iter([b"x\r\n"]), True)):
            assert (await client.send(message, **ASCII, utf8=utf8)).all_accepted
        with pytest.raises(LocalProtocolError, match="127"):
            await client.send(pieces(), **ASCII, eight_bit=False)
    assert [message.smtputf8 for message in inbox.messages] == [True, True, False, True]
    assert inbox.bodies[:3] == [octets] * 3


@pytest.mark.anyio
async def test_where_it_is_not_offered_the_reply_says_what_needs_it() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True) as port, plain(port) as client:
        headers = await client.send("Subject: \u00e9\r\n\r\n".encode(), **ASCII)
        sender = await client.send(b"x", sender=U, recipients="you@example.org")
        recipient = await client.send(b"x", sender="", recipients=[U, "you@b\u00fccher.example"])
    for delivery, what in ((headers, "headers"), (sender, "sender"), (recipient, "recipient")):
        result = delivery.results[0]
        assert result.outcome is Result.REFUSED
        assert what in str(result.reply)
    assert recipient.results[1].outcome is Result.ACCEPTED
    assert [[to.address for to in message.recipients] for message in inbox.messages] == [["you@xn--bcher-kva.example"]]


def letter(*to: Address | Group) -> EmailMessage:
    email = EmailMessage()
    email["To"] = to
    email["Subject"] = "Gr\u00fc\u00dfe"
    email.set_content("x\n")
    return email


def test_an_email_message_is_in_encoded_words_where_these_can_say_it() -> None:
    octets = flatten(letter(Address("B\u00fc", "you", "b\u00fccher.example")), eight_bit=True)
    assert octets.startswith(b"To: =?utf-8?q?B=C3=BC?= <you@xn--bcher-kva.example>\r\nSubject: =?utf-8?")


def test_groups_stay_and_so_does_the_order_of_headers() -> None:
    group = Group("G", (Address("", "a", "b\u00fccher.example"), Address("C, D", "c", "x.example")))
    email = letter(group)
    octets = flatten(email, eight_bit=True)
    assert octets.startswith(b'To: G: a@xn--bcher-kva.example, "C, D" <c@x.example>;\r\nSubject: ')
    assert "b\u00fccher" in str(email["To"]), "the caller's message is as it was"


def test_an_email_message_is_in_utf8_where_an_address_needs_it() -> None:
    email = letter(Address("", "\u00e9", "b\u00fccher.example"))
    assert flatten(email, eight_bit=True).startswith(
        "To: \u00e9@b\u00fccher.example\r\nSubject: Gr\u00fc\u00dfe\r\n".encode()
    )
    assert flatten(letter(Address("", "a", "x.example")), eight_bit=True, utf8=True).startswith(
        b"To: a@x.example\r\nSub"
    )
    assert flatten(email, eight_bit=True, utf8=False).isascii()
