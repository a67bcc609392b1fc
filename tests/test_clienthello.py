"""How a client opens TLS: what is read of it, and what is against it; the same however it is cut."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate._clienthello import ClientHello, HelloFault, HelloReader, Verdict, is_named
from tests.hellos import alpn, body, extension, hello, message, records, server_name, vector


def read(wire: bytes, cut: int = 1_000_000) -> Verdict | None:
    reader = HelloReader()
    for at in range(0, len(wire), cut):
        reader.receive_data(wire[at : at + cut])
    assert reader.wire == wire
    return reader.verdict


def decided_at(wire: bytes, cut: int) -> tuple[int, Verdict | None]:
    """How many octets of `wire` were in when the verdict fell, and the verdict."""
    reader = HelloReader()
    for at in range(0, len(wire), cut):
        reader.receive_data(wire[at : at + cut])
        if reader.verdict is not None:
            return at + cut, reader.verdict
    return len(wire), None


GOOD = [
    pytest.param(hello(), ClientHello(), id="nothing that matters"),
    pytest.param(hello(server_name(b"mx.example.org")), ClientHello("mx.example.org"), id="a name"),
    pytest.param(hello(alpn(b"smtp")), ClientHello(None, (b"smtp",)), id="SMTP"),
    pytest.param(hello(alpn(b"h2", b"http/1.1")), ClientHello(None, (b"h2", b"http/1.1")), id="a browser"),
    pytest.param(
        hello(alpn(b"h2", b"smtp"), server_name(b"a.example")), ClientHello("a.example", (b"h2", b"smtp")), id="both"
    ),
    pytest.param(records(message(body(end=b""))), ClientHello(), id="no extensions at all, RFC 5246 section 7.4.1.2"),
    pytest.param(records(message(body())), ClientHello(), id="an empty list of extensions"),
    pytest.param(hello(alpn(b"\x0a\x0a", b"smtp")), ClientHello(None, (b"\n\n", b"smtp")), id="GREASE, RFC 8701"),
]
BAD = [
    pytest.param(b"EHLO c.example.com\r\n", HelloFault.NOT_TLS, id="a command"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: mx.example.org\r\n\r\n", HelloFault.NOT_TLS, id="a request"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HelloFault.NOT_TLS, id="the preface of HTTP/2"),
    pytest.param(bytes(64), HelloFault.NOT_TLS, id="zeros"),
    pytest.param(b"\x80\x2e\1\3\3\0\x15\0\0\0\x10\1\0\x80" + bytes(34), HelloFault.NOT_TLS, id="the hello of SSL 2.0"),
    pytest.param(b"\x17\3\3\0\5junk!", HelloFault.NO_HELLO, id="data"),
    pytest.param(b"\x15\3\3\0\2\2\x28", HelloFault.NO_HELLO, id="an alert"),
    pytest.param(hello(fragment=9)[:14] + b"\x14\3\3\0\1\1", HelloFault.NO_HELLO, id="another record in between"),
    pytest.param(hello(fragment=9)[:14] + b"QUIT\r\n", HelloFault.NO_HELLO, id="a command in between"),
    pytest.param(records(message(body(), kind=2)), HelloFault.NO_HELLO, id="a ServerHello"),
    pytest.param(records(b"\2"), HelloFault.NO_HELLO, id="its first octet"),
    pytest.param(records(message(body()), version=b"\2\0"), HelloFault.VERSION, id="a version below 3"),
    pytest.param(records(message(body()), version=b"\4\0"), HelloFault.VERSION, id="a version above 3"),
    pytest.param(b"\x16\3\1\0\0" * 9, HelloFault.OVERFLOW, id="empty records"),
    pytest.param(b"\x16\3\1\x40\1" + bytes(9), HelloFault.OVERFLOW, id="a record that is too long"),
    pytest.param(records(b"\1\0\x40\0" + bytes(99)), HelloFault.TOO_LONG, id="it says that it is too long"),
    pytest.param(records(b"\1\xff\xff\xff"), HelloFault.TOO_LONG, id="it says that it is far too long"),
    pytest.param(records(message(bytes(4000)), 1), HelloFault.TOO_LONG, id="too many records"),
    pytest.param(records(message(bytes(16_380))), HelloFault.TOO_LONG, id="just too much"),
    pytest.param(records(message(b"")), HelloFault.MALFORMED, id="nothing in it"),
    pytest.param(records(message(bytes(33))), HelloFault.MALFORMED, id="no random"),
    pytest.param(records(message(bytes(16_370))), HelloFault.MALFORMED, id="zeros in it"),
    pytest.param(records(message(body(end=b"\0"))), HelloFault.MALFORMED, id="half a length"),
    pytest.param(records(message(body() + b"\0")), HelloFault.MALFORMED, id="an octet too many"),
    pytest.param(records(message(body(end=b"\0\4\0\x17\0\1"))), HelloFault.MALFORMED, id="an extension cut short"),
    pytest.param(hello(alpn(b"smtp"), alpn(b"smtp")), HelloFault.MALFORMED, id="ALPN twice"),
    pytest.param(hello(extension(99, b""), extension(99, b"")), HelloFault.MALFORMED, id="anything twice"),
    pytest.param(hello(extension(16, b"")), HelloFault.MALFORMED, id="ALPN without a list"),
    pytest.param(hello(alpn()), HelloFault.MALFORMED, id="ALPN without a protocol"),
    pytest.param(hello(alpn(b"smtp", b"")), HelloFault.MALFORMED, id="a protocol without a name"),
    pytest.param(hello(extension(16, vector(2, b"\5smtp"))), HelloFault.MALFORMED, id="a protocol cut short"),
    pytest.param(hello(extension(16, vector(2, b"\4smtp") + b"\0")), HelloFault.MALFORMED, id="more than a list"),
    pytest.param(hello(extension(0, b"")), HelloFault.MALFORMED, id="a name without a list"),
    pytest.param(hello(extension(0, b"\0\0")), HelloFault.MALFORMED, id="a list without a name"),
    pytest.param(hello(server_name(b"")), HelloFault.MALFORMED, id="an empty name"),
    pytest.param(hello(server_name(b"a", kind=1)), HelloFault.MALFORMED, id="another kind of name"),
    pytest.param(
        hello(extension(0, vector(2, b"\0" + vector(2, b"a") + b"\0" + vector(2, b"b")))),
        HelloFault.MALFORMED,
        id="two names",
    ),
]


@pytest.mark.parametrize(("wire", "verdict"), [*GOOD, *BAD])
def test_the_verdict_falls_at_the_same_octet_however_it_is_cut(wire: bytes, verdict: Verdict) -> None:
    at, found = decided_at(wire, 1)
    assert found == verdict
    for cut in range(1, len(wire)) if len(wire) < 300 else (2, 3, 99, len(wire) - 1):
        reader = HelloReader()
        reader.receive_data(wire[:cut])
        assert reader.verdict == (verdict if cut >= at else None)
        reader.receive_data(wire[cut:])
        assert reader.verdict == verdict
        assert read(wire, cut) == verdict
    assert read(wire + b"EHLO\r\n\x16\3\1\0\0") == verdict, "what comes after it changes nothing"


@pytest.mark.parametrize("fragment", range(1, 120))
def test_records_may_be_cut_as_well(fragment: int) -> None:
    wire = hello(alpn(b"h2", b"smtp"), server_name(b"mx.example.org"), fragment=fragment)
    expected = ClientHello("mx.example.org", (b"h2", b"smtp"))
    assert decided_at(wire, 1) == (len(wire), expected)
    assert read(wire, 7) == read(wire) == expected


def test_of_what_is_not_whole_nothing_is_known() -> None:
    wire = hello(alpn(b"h2"), server_name(b"mx.example.org"), fragment=11)
    assert {read(wire[:size]) for size in range(len(wire))} == {None}


def test_no_more_is_held_than_a_hello_may_take() -> None:
    longest = records(message(body(extension(21, bytes(16_384 - 5 - 4 - 79)))))
    assert len(longest) == 16_384
    assert read(longest) == ClientHello()
    assert read(records(message(body(extension(21, bytes(16_385 - 5 - 4 - 79)))))) is HelloFault.TOO_LONG


NAMES = [
    pytest.param(b"mx.example.org", "mx.example.org", id="a plain name"),
    pytest.param(b"xn--bcher-kva.example", "xn--bcher-kva.example", id="an A-label"),
    pytest.param(b"a_b.example", "a_b.example", id="an underscore, as real clients send"),
    pytest.param(b"mx.example\r\nX-Spam: no", None, id="a line break, which has no place in a log or a header"),
    pytest.param(b"mx example", None, id="a space"),
    pytest.param("b\u00fccher.example".encode(), None, id="octets above 127"),
    pytest.param(b"a" * 256, None, id="longer than a domain can be"),
]


@pytest.mark.parametrize("fragment", [1, 7, 16_384])
@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_only_a_decent_name_is_reported(name: bytes, expected: str | None, fragment: int) -> None:
    assert read(hello(server_name(name), fragment=fragment) + b"\x14\3\3\0\1\1") == ClientHello(expected)


def test_protocols_are_told_without_what_a_log_must_not_hold() -> None:
    said = ClientHello(None, (b"smtp", b"http/1.1", b"\r\nhi\x1b[2J\xff'", b"\x0a\x0a"))
    assert said.offered == ("smtp", "http/1.1", r"\r\nhi\x1b[2J\xff'", r"\n\n")


RULES = [
    pytest.param((), None, None, id="a client that knows no ALPN"),
    pytest.param((b"smtp",), None, None, id="SMTP"),
    pytest.param((b"h2", b"smtp"), None, None, id="SMTP among others"),
    pytest.param((b"h2",), None, HelloFault.PROTOCOL, id="HTTP"),
    pytest.param((b"SMTP",), None, HelloFault.PROTOCOL, id="case matters, RFC 7301 section 6"),
    pytest.param((b"smtps", b"esmtp"), None, HelloFault.PROTOCOL, id="nearly"),
    pytest.param((), ("mx.example.org",), HelloFault.NAME, id="no name where one is wanted"),
    pytest.param((b"h2",), ("mx.example.org",), HelloFault.PROTOCOL, id="the protocol counts first"),
]


@pytest.mark.parametrize(("protocols", "names", "fault"), RULES)
def test_who_offers_something_must_offer_smtp(
    protocols: tuple[bytes, ...], names: tuple[str, ...] | None, fault: HelloFault | None
) -> None:
    assert ClientHello(None, protocols).fault(names) is fault


MATCHES = [
    ("mx.example.org", "mx.example.org", True, "the same"),
    ("MX.Example.org", "mx.eXample.ORG.", True, "case and a last dot are nothing"),
    ("mx.example.org.", "mx.example.org", True, "there neither"),
    ("other.example.org", "mx.example.org", False, "another"),
    ("mx.xn--bcher-kva.example", "mx.B\u00fccher.example", True, "U-labels are what A-labels spell"),
    ("xn--bcher-kva.b\u00fccher.example", "*.xn--bcher-kva.example", True, "under a star, too"),
    ("mx.example.org", "*.example.org", True, "any one label"),
    ("a.mx.example.org", "*.example.org", False, "two labels"),
    ("example.org", "*.example.org", False, "no label"),
    ("example.org", "*", False, "a star alone"),
    ("localhost", "localhost", True, "a single label"),
    ("localhost", "*", False, "a star stands for none of these"),
    ("mx.example.org", "m*.example.org", False, "a part of a label"),
]


@pytest.mark.parametrize(("name", "pattern", "expected", "reason"), MATCHES)
def test_a_star_is_one_label(name: str, pattern: str, expected: bool, reason: str) -> None:
    assert is_named(name, ("no.example", pattern)) is expected, reason
    assert (ClientHello(name).fault((pattern,)) is None) is expected, reason


ALERTS = {
    HelloFault.NO_HELLO: "unexpected message",
    HelloFault.VERSION: "protocol version",
    HelloFault.OVERFLOW: "record overflow",
    HelloFault.TOO_LONG: "illegal parameter",
    HelloFault.MALFORMED: "decode error",
    HelloFault.PROTOCOL: "no application protocol",
    HelloFault.NAME: "unrecognized name",
}


@pytest.mark.parametrize(("fault", "expected"), ALERTS.items(), ids=lambda value: getattr(value, "name", value))
def test_openssl_understands_the_alerts(fault: HelloFault, expected: str) -> None:
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(inward, outward, server_hostname="mx.example.org")
    inward.write(fault.record)
    with pytest.raises(ssl.SSLError, match=expected):
        client.do_handshake()


def test_to_who_does_not_speak_tls_nothing_is_said() -> None:
    assert HelloFault.NOT_TLS.record == b""
    assert {HelloFault.NOT_TLS, *ALERTS} == set(HelloFault)
    assert len({fault.text for fault in HelloFault}) == len(HelloFault)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocols", [[], ["smtp"], ["h2", "http/1.1"]])
def test_the_hellos_of_openssl_are_understood(protocols: list[str], version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.maximum_version = version
    context.set_alpn_protocols(protocols)
    outward = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outward, server_hostname="mx.example.org")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    assert read(outward.read(), 1) == ClientHello("mx.example.org", tuple(map(str.encode, protocols)))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_nothing_that_comes_can_raise(data: st.DataObject) -> None:
    wire = bytearray(hello(alpn(b"h2", b"smtp"), server_name(b"mx.example.org"), fragment=40))
    for _ in range(data.draw(st.integers(0, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    del wire[data.draw(st.integers(0, len(wire))) :]
    wire += data.draw(st.binary(max_size=60))
    cut = data.draw(st.integers(1, 60))
    assert read(bytes(wire), cut) == read(bytes(wire))
