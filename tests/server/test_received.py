"""Trace headers: what they say, and that no peer can make another one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email import policy
from email.parser import BytesParser

import pytest

from smtpstate import Peer, TlsInfo
from smtpstate_server._received import Envelope, address_literal, trace_headers

ENVELOPE = Envelope(
    id="4fA2.1",
    sender="me@example.org",
    recipients=["you@example.com"],
    hello="client.example.org",
    peer=Peer("192.0.2.7", 40_000),
    hostname="mx.example.com",
    protocol="ESMTPS",
    tls=TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    time=datetime(2025, 11, 25, 2, 3, 4, tzinfo=timezone(timedelta(hours=1))),
)


def test_the_headers_say_where_a_message_comes_from() -> None:
    assert trace_headers(ENVELOPE) == (
        b"Return-Path: <me@example.org>\r\n"
        b"Delivered-To: you@example.com\r\n"
        b"Received: from client.example.org ([192.0.2.7])\r\n"
        b"\tby mx.example.com with ESMTPS id 4fA2.1\r\n"
        b"\tfor <you@example.com>\r\n"
        b"\ttls TLS_AES_256_GCM_SHA384 (TLSv1.3);\r\n"
        b"\tTue, 25 Nov 2025 02:03:04 +0100\r\n"
    )


def test_the_null_sender_and_a_session_in_clear_and_postmaster() -> None:
    headers = trace_headers(
        replace(ENVELOPE, sender="", tls=None, protocol="SMTP", recipients=["Postmaster"], peer=None)
    )
    assert headers == (
        b"Return-Path: <>\r\n"
        b"Delivered-To: Postmaster\r\n"
        b"Received: from client.example.org\r\n"
        b"\tby mx.example.com with SMTP id 4fA2.1\r\n"
        b"\tfor <Postmaster>;\r\n"
        b"\tTue, 25 Nov 2025 02:03:04 +0100\r\n"
    )


def test_with_smtputf8_addresses_hold_utf8_and_elsewhere_they_do_not() -> None:
    international = replace(
        ENVELOPE, sender="\u00e9@b\u00fccher.example", recipients=["\u4f8b@\u4f8b\u3048.example"], protocol="UTF8SMTPS"
    )
    text = trace_headers(replace(international, utf8=True)).decode()
    assert text.startswith("Return-Path: <\u00e9@b\u00fccher.example>\r\nDelivered-To: \u4f8b@\u4f8b\u3048.example\r\n")
    assert "with UTF8SMTPS id 4fA2.1\r\n\tfor <\u4f8b@\u4f8b\u3048.example>\r\n" in text
    assert trace_headers(international).isascii()


@pytest.mark.parametrize("text", ["\x85", "\u2028", "\u2029", "\ud800", "\x7f", "\r\n", "\0"])
def test_with_smtputf8_no_line_ends_either(text: str) -> None:
    headers = trace_headers(replace(ENVELOPE, sender=f"\u00e9{text}X: y", utf8=True)).decode()
    assert len(headers.splitlines()) == 7
    assert f"<\u00e9{'?' * len(text)}X: y>" in headers


def test_of_several_recipients_each_has_a_line_and_none_is_told_in_received() -> None:
    headers = trace_headers(replace(ENVELOPE, recipients=["a@example.com", '"b c"@example.com']))
    assert b'Delivered-To: a@example.com\r\nDelivered-To: "b c"@example.com\r\nReceived: ' in headers
    assert b"for <" not in headers


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),  # a listener on :: sees IPv4 like this
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("/run/smtp.sock", "[/run/smtp.sock]"),
    ],
)
def test_an_address_becomes_a_literal(address: str, literal: str) -> None:
    assert address_literal(address) == literal


@pytest.mark.parametrize(
    ("cipher", "clause"),
    [
        ("TLS_CHACHA20_POLY1305_SHA256", "tls TLS_CHACHA20_POLY1305_SHA256 (TLSv1.2)"),
        ("ECDHE-RSA-AES128-GCM-SHA256", "tls TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 (TLSv1.2)"),
        ("ECDHE-ECDSA-AES256-CCM", "tls TLS_ECDHE_ECDSA_WITH_AES_256_CCM (TLSv1.2)"),
        ("DHE-RSA-CHACHA20-POLY1305", "tls TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256 (TLSv1.2)"),
        ("ECDHE-RSA-AES128-GCM", "(TLSv1.2 ECDHE-RSA-AES128-GCM)"),  # there is none
        ("ADH-AES128-SHA", "(TLSv1.2 ADH-AES128-SHA)"),  # no name of IANA's that we know
    ],
)
def test_a_cipher_suite_has_the_name_that_iana_gave_it(cipher: str, clause: str) -> None:
    assert f"\t{clause};\r\n".encode() in trace_headers(replace(ENVELOPE, tls=TlsInfo("TLSv1.2", cipher)))


HOSTILE = [
    ("\r\nX-Injected: yes", "CRLF"),
    ("\nX-Injected: yes", "a bare LF"),
    ("\rX-Injected: yes", "a bare CR"),
    ("\r\n\r\nbody", "the end of the headers"),
    ("\x00", "NUL"),
    ("\x0bX-Injected: yes", "VT, a line break to str.splitlines()"),
    ("\x0cX-Injected: yes", "FF, likewise"),
    ("\x1cX-Injected: yes", "FS, likewise"),
    ("\x85X-Injected: yes", "NEL, likewise"),
    ("\u2028X-Injected: yes", "LINE SEPARATOR, likewise"),
    ("\u2029X-Injected: yes", "PARAGRAPH SEPARATOR, likewise"),
    ("\x1b]0;title\x07", "an escape sequence"),
    ("\x7f", "DEL"),
    ("\udc80", "a lone surrogate, which cannot be encoded"),
    ("\u00e9", "beyond ASCII"),
    (") by evil (", "a comment's end"),
    ("; Tue, 1 Jan 1980 00:00:00 +0000", "another date"),
]
FIELDS = ["id", "sender", "recipients", "hello", "peer", "hostname", "protocol", "version", "cipher"]


def poisoned(field: str, text: str) -> Envelope:
    match field:
        case "recipients":
            return replace(ENVELOPE, recipients=[f"you{text}@example.com"])
        case "peer":
            return replace(ENVELOPE, peer=Peer(f"192.0.2.7{text}"))
        case "version":
            return replace(ENVELOPE, tls=TlsInfo(f"TLSv1.3{text}", "TLS_AES_256_GCM_SHA384"))
        case "cipher":
            return replace(ENVELOPE, tls=TlsInfo("TLSv1.3", f"TLS_AES_256_GCM_SHA384{text}"))
        case "id":
            return replace(ENVELOPE, id=f"x{text}")
        case "sender":
            return replace(ENVELOPE, sender=f"me{text}@example.org")
        case "hello":
            return replace(ENVELOPE, hello=f"client{text}")
        case "hostname":
            return replace(ENVELOPE, hostname=f"mx{text}")
        case _:
            return replace(ENVELOPE, protocol=f"ESMTPS{text}")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("text", "why"), HOSTILE, ids=[why for _, why in HOSTILE])
def test_nothing_a_peer_says_makes_or_breaks_a_header_line(field: str, text: str, why: str) -> None:
    headers = trace_headers(poisoned(field, text))
    assert len(headers.decode("ascii").splitlines()) == 7, why
    assert headers.count(b"\r\n") == headers.count(b"\n") == headers.count(b"\r") == 7
    assert all(octet in b"\t\r\n" or 32 <= octet < 127 for octet in headers)
    parsed = BytesParser(policy=policy.compat32).parsebytes(headers + b"\r\n")
    assert parsed.keys() == ["Return-Path", "Delivered-To", "Received"]
    received = str(parsed["Received"])
    if field not in ("sender", "recipients"):  # which stand in brackets, and may hold anything printable
        assert received.count(";") == 1, why
        assert received.count("(") == received.count(")") == 2, why


def test_a_longest_address_stays_within_a_header_line() -> None:
    longest = f'"{"x" * 256}"@{"d" * 255}'
    lines = trace_headers(replace(ENVELOPE, sender=longest, recipients=[longest])).split(b"\r\n")
    assert max(map(len, lines)) <= 998  # RFC 5322 section 2.1.1
