"""The client procedures under SMTPUTF8: asked for where something needs it, and what happens where it is missing."""

from __future__ import annotations

import pytest

from smtpstate._delivery import NO_EIGHT_BIT, Envelope, TlsMode, open_session, send_message
from smtpstate._international import HEADERS_NEED_UTF8, RECIPIENT_NEEDS_UTF8, SENDER_NEEDS_UTF8
from smtpstate._outcomes import Delivery, Result
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, Wire

ME, A, U_LOCAL, U_DOMAIN = "me@me.example", "a@x.example", "\u00e9@b\u00fccher.example", "b@b\u00fccher.example"
OK = Reply(250, "ok")
BOTH = ("8BITMIME", "SMTPUTF8")


def opened(
    *script: tuple[bytes, bytes], offers: tuple[str, ...] = BOTH, pipelining: bool = True, cut: int = 99
) -> Wire:
    offers = (*offers, "PIPELINING" if pipelining else "HELP")
    hello = b"".join(b"250-" + offer.encode() + b"\r\n" for offer in offers)
    greeting = (b"", b"220 mx.example\r\n")
    wire = Wire([greeting, (HELLO, b"250-mx.example\r\n" + hello + b"250 X\r\n"), *script], cut=cut)
    wire.run(open_session(wire.client, TlsMode.OFF))
    return wire


def lines(*commands: str) -> list[tuple[bytes, bytes]]:
    """A script in which everything but DATA is answered with 250."""
    return [((c + "\r\n").encode(), b"354 go\r\n" if c == "DATA" else b"250 ok\r\n") for c in commands]


def at_once(script: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    return b"".join(said for said, _ in script), b"".join(answer for _, answer in script)


def shown(delivery: Delivery) -> list[tuple[str, Result, Reply | None]]:
    return [(result.address, result.outcome, result.reply) for result in delivery]


SENT: list[tuple[Envelope, tuple[str, ...], tuple[str, ...], str]] = [
    (
        Envelope(ME, (A, U_LOCAL)),
        BOTH,
        (f"MAIL FROM:<{ME}> SMTPUTF8", f"RCPT TO:<{A}>", f"RCPT TO:<{U_LOCAL}>"),
        "a local part",
    ),
    (Envelope(U_LOCAL, (A,)), BOTH, (f"MAIL FROM:<{U_LOCAL}> SMTPUTF8", f"RCPT TO:<{A}>"), "the sender"),
    (
        Envelope("", (A,), utf8=True),
        BOTH,
        ("MAIL FROM:<> BODY=8BITMIME SMTPUTF8", f"RCPT TO:<{A}>"),
        "the headers, which have 8 bits",
    ),
    (
        Envelope(U_DOMAIN, (U_DOMAIN,)),
        BOTH,
        ("MAIL FROM:<b@xn--bcher-kva.example>", "RCPT TO:<b@xn--bcher-kva.example>"),
        "a domain needs nothing",
    ),
    (
        Envelope(U_DOMAIN, (U_DOMAIN,)),
        (),
        ("MAIL FROM:<b@xn--bcher-kva.example>", "RCPT TO:<b@xn--bcher-kva.example>"),
        "and goes everywhere",
    ),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("envelope", "offers", "said", "reason"), SENT)
def test_smtputf8_is_asked_for_where_something_needs_it(
    envelope: Envelope, offers: tuple[str, ...], said: tuple[str, ...], reason: str, pipelining: bool, cut: int
) -> None:
    script = lines(*said, "DATA")
    steps = [at_once(script)] if pipelining else script
    wire = opened(*steps, (b"Hi\r\n.\r\n", b"250 ok\r\n"), offers=offers, pipelining=pipelining, cut=cut)
    delivery = wire.run(send_message(wire.client, envelope), b"Hi\r\n")
    assert shown(delivery) == [(to, Result.ACCEPTED, OK) for to in envelope.recipients], reason
    assert not wire.script


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("offers", [(), ("8BITMIME",), ("SMTPUTF8",)])
def test_a_recipient_that_needs_it_in_vain_does_not_touch_the_others(offers: tuple[str, ...], pipelining: bool) -> None:
    script = [
        *lines(f"MAIL FROM:<{ME}>", f"RCPT TO:<{A}>"),
        (b"RCPT TO:<b@xn--bcher-kva.example>\r\n", b"550 no\r\n"),
        *lines("DATA"),
    ]
    steps = [at_once(script)] if pipelining else script
    wire = opened(*steps, (b"Hi\r\n.\r\n", b"250 ok\r\n"), offers=offers, pipelining=pipelining)
    delivery = wire.run(send_message(wire.client, Envelope(ME, (U_LOCAL, A, U_LOCAL, U_DOMAIN))), b"Hi\r\n")
    refused = (U_LOCAL, Result.REFUSED, RECIPIENT_NEEDS_UTF8)
    assert shown(delivery) == [
        refused,
        (A, Result.ACCEPTED, OK),
        refused,
        (U_DOMAIN, Result.REFUSED, Reply(550, "no")),
    ]
    assert not wire.script


@pytest.mark.parametrize("offers", [(), ("8BITMIME",), ("SMTPUTF8",)])
@pytest.mark.parametrize(
    ("envelope", "reply"),
    [
        (Envelope(ME, (U_LOCAL, U_LOCAL)), RECIPIENT_NEEDS_UTF8),
        (Envelope(U_LOCAL, (A, U_LOCAL)), SENDER_NEEDS_UTF8),
        (Envelope(ME, (A,), utf8=True, eight_bit=True), HEADERS_NEED_UTF8),
        (Envelope(U_LOCAL, (A,), utf8=True, chunked=True), HEADERS_NEED_UTF8),
    ],
)
def test_where_nobody_is_left_nothing_is_sent(envelope: Envelope, reply: Reply, offers: tuple[str, ...]) -> None:
    wire = opened(offers=offers)
    delivery = wire.run(send_message(wire.client, envelope), b"never sent")
    assert shown(delivery) == [(to, Result.REFUSED, reply) for to in envelope.recipients]
    assert wire.written == HELLO
    assert wire.client.phase is Phase.READY


def test_a_body_of_8_bits_is_another_matter() -> None:
    wire = opened(offers=())
    delivery = wire.run(send_message(wire.client, Envelope(ME, (A,), eight_bit=True)), b"never sent")
    assert shown(delivery) == [(A, Result.REFUSED, NO_EIGHT_BIT)]


def test_what_the_server_says_about_it_stands() -> None:
    script = [
        (f"MAIL FROM:<{U_LOCAL}> SMTPUTF8\r\n".encode(), b"550 5.6.7 no\r\n"),
    ]
    wire = opened(*script, pipelining=False)
    delivery = wire.run(send_message(wire.client, Envelope(U_LOCAL, (A,))), b"never sent")
    assert shown(delivery) == [(A, Result.REFUSED, Reply(550, "no", enhanced="5.6.7"))]
