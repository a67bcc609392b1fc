"""The PROXY reader: both versions, every way to be wrong, the budgets, and whom to trust."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpstate import CloseReason, ConnectionClosed, Flow, Peer
from smtpstate._proxy import MAX_OCTETS, crc32c
from smtpstate.proxy import (
    ProxyFault,
    ProxyHeader,
    ProxyReader,
    ProxyVersion,
    Tlv,
    TlvType,
)
from tests.helpers import ManualClock

CUTS = (1, 2, 3, 4, 99)
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
NEXT = b"\x16\x03\x01EHLO client.example\r\n\r\n\r\n\0\r\nQUIT\n"  # what follows, here as much like a header as can be


def block(command: int = 0x21, family: int = 0x11, rest: bytes = b"", *, size: int | None = None) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes((command, family)) + (len(rest) if size is None else size).to_bytes(2, "big") + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


V4 = bytes((192, 0, 2, 1, 198, 51, 100, 7)) + (56324).to_bytes(2, "big") + (25).to_bytes(2, "big")
V6 = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed + b"\xff\xff\x00\x00"
MAPPED = IPv6Address("::ffff:192.0.2.1").packed + IPv6Address("::ffff:198.51.100.7").packed + V4[8:]
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/smtp".ljust(108, b"\0")
SOURCE, DESTINATION = Peer("192.0.2.1", 56324), Peer("198.51.100.7", 25)
SOURCE6, DESTINATION6 = Peer("2001:db8::1", 65535), Peer("2001:db8::2", 0)


def checked(rest: bytes, *after: bytes, family: int = 0x11) -> bytes:
    """A header of version 2 with its checksum between `rest` and `after`."""
    size = len(rest) + 7 + sum(map(len, after))
    head = block(family=family, rest=rest, size=size) + bytes((3, 0, 4))
    tail = b"".join(after)
    return head + crc32c(head + bytes(4) + tail).to_bytes(4, "big") + tail


class Fed:
    """A reader that was fed this, in pieces of this size, and what a driver has seen of it."""

    def __init__(self, version: ProxyVersion, wire: bytes, cut: int = 99_999, **budget: int) -> None:
        self.reader = ProxyReader(version, clock=ManualClock(), **budget)
        self.used = 0
        for position in range(0, len(wire), cut):
            if self.reader.next_event() is not Flow.NEED_DATA:
                break
            piece = wire[position : position + cut]
            self.reader.receive_data(piece)
            self.used += len(piece)
        self.event = self.reader.next_event()
        self.rest = self.reader.trailing_data + wire[self.used :]


def test_the_checksum_is_the_one_of_the_rfc() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 appendix B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


LINES = [
    ("TCP4 192.0.2.1 198.51.100.7 56324 25", ProxyHeader(1, False, SOURCE, DESTINATION), "IPv4"),
    (
        "TCP4 255.255.255.255 0.0.0.0 65535 0",
        ProxyHeader(1, False, Peer("255.255.255.255", 65535), Peer("0.0.0.0")),
        "ends of the ranges",
    ),
    ("TCP6 2001:db8::1 2001:db8::2 65535 0", ProxyHeader(1, False, SOURCE6, DESTINATION6), "IPv6"),
    ("TCP6 2001:0DB8:0:0:0:0:0:1 2001:DB8::2 65535 0", ProxyHeader(1, False, SOURCE6, DESTINATION6), "made canonical"),
    (
        "TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 56324 25",
        ProxyHeader(1, False, SOURCE, DESTINATION),
        "IPv4 from a socket of IPv6",
    ),
    ("UNKNOWN", ProxyHeader(1), "no address, the short form"),
    ("UNKNOWN 192.0.2.1 198.51.100.7 1 2", ProxyHeader(1), "what follows UNKNOWN means nothing"),
    (
        "UNKNOWN " + " ".join(["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + " 65535 65535",
        ProxyHeader(1),
        "107 octets, the longest of all",
    ),
]

BLOCKS = [
    (block(rest=V4), ProxyHeader(2, False, SOURCE, DESTINATION), "IPv4"),
    (block(family=0x21, rest=V6), ProxyHeader(2, False, SOURCE6, DESTINATION6), "IPv6"),
    (block(family=0x21, rest=MAPPED), ProxyHeader(2, False, SOURCE, DESTINATION), "IPv4 from a socket of IPv6"),
    (block(family=0x31, rest=UNIX), ProxyHeader(2), "a UNIX socket is no address of a client"),
    (block(family=0x32, rest=UNIX), ProxyHeader(2), "nor is one for datagrams"),
    (block(family=0x12, rest=V4), ProxyHeader(2), "UDP carries no SMTP, so it gives no address"),
    (block(family=0x22, rest=V6), ProxyHeader(2), "nor over IPv6"),
    (block(family=0x00), ProxyHeader(2), "unspecified"),
    (block(0x20, 0x00), ProxyHeader(2, local=True), "a health check"),
    (block(0x20, 0x11, V4), ProxyHeader(2, local=True), "one with an address, which is the sender's own"),
    (block(0x20, 0xFF, b"\xff" * 9), ProxyHeader(2, local=True), "LOCAL discards the block, family and all"),
    (block(0x20, 0x11, b""), ProxyHeader(2, local=True), "and needs none"),
    (
        block(rest=V4 + tlv(2, b"mx.example.org") + tlv(0xEE, b"") + tlv(4, b"\0")),
        ProxyHeader(2, False, SOURCE, DESTINATION, (Tlv(2, b"mx.example.org"), Tlv(0xEE, b""), Tlv(4, b"\0"))),
        "TLVs, of which some are not known",
    ),
    (block(family=0x00, rest=tlv(5, b"x" * 128)), ProxyHeader(2, tlvs=(Tlv(5, b"x" * 128),)), "the longest unique id"),
    (block(family=0x31, rest=UNIX + tlv(1, b"h2")), ProxyHeader(2, tlvs=(Tlv(1, b"h2"),)), "TLVs behind no address"),
    (
        block(rest=V4 + tlv(4, bytes(MAX_OCTETS - 16 - 12 - 3))),
        ProxyHeader(2, False, SOURCE, DESTINATION, (Tlv(4, bytes(MAX_OCTETS - 31)),)),
        "as long as the budget",
    ),
]

HEADERS = [
    *((1, b"PROXY " + line.encode() + b"\r\n", header, reason) for line, header, reason in LINES),
    *((2, wire, header, reason) for wire, header, reason in BLOCKS),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("version", "wire", "header", "reason"), HEADERS)
def test_headers(version: ProxyVersion, wire: bytes, header: ProxyHeader, reason: str, cut: int) -> None:
    fed = Fed(version, wire + NEXT, cut)
    assert fed.event == header, reason
    assert fed.rest == NEXT, "nothing of what follows is lost"
    assert (fed.reader.header, fed.reader.closed, fed.reader.fault) == (header, None, None)
    assert fed.reader.deadline is None


def test_a_checksum_is_verified_wherever_it_stands() -> None:
    for wire in (checked(V4), checked(V4 + tlv(2, b"a"), tlv(4, b"b")), checked(b"", family=0x00)):
        event = Fed(2, wire).event
        assert isinstance(event, ProxyHeader)
        assert event.tlv(TlvType.CRC32C) is not None
        for position in range(16, len(wire)):  # before that it would be another fault
            spoilt = wire[:position] + bytes((wire[position] ^ 0x40,)) + wire[position + 1 :]
            fed = Fed(2, spoilt)
            if not isinstance(fed.event, ConnectionClosed):  # the checksum itself is another TLV now
                assert isinstance(fed.event, ProxyHeader)
                assert fed.event.tlv(TlvType.CRC32C) is None, position


def test_a_tlv_is_found_by_its_type() -> None:
    event = Fed(2, block(rest=V4 + tlv(2, b"first") + tlv(2, b"second"))).event
    assert isinstance(event, ProxyHeader)
    assert event.tlv(TlvType.AUTHORITY) == b"first"
    assert event.tlv(TlvType.ALPN) is None


LINE = ProxyFault.LINE
NOT_LINES = [
    (b"TCP4 192.0.2.1 198.51.100.7 56324 25\n", LINE, "a bare LF ends no line"),
    (b"TCP4 192.0.2.1 198.51.100.7 56324 25\r\r\n", LINE, "one CR too many"),
    (b"TCP4 192.0.2.1 198.51.100.7 56324\r\n", LINE, "a port is missing"),
    (b"TCP4 192.0.2.1 198.51.100.7 56324 25 \r\n", LINE, "a space at the end"),
    (b"TCP4 192.0.2.1 198.51.100.7 56324 25 x\r\n", LINE, "something at the end"),
    (b"TCP4  192.0.2.1 198.51.100.7 56324 25\r\n", LINE, "two spaces"),
    (b"TCP4\t192.0.2.1 198.51.100.7 56324 25\r\n", LINE, "a tab"),
    (b"TCP4 192.0.2.1 198.51.100.7 65536 25\r\n", LINE, "a source port too high"),
    (b"TCP6 ::1 ::2 1 99999\r\n", LINE, "a destination port too high"),
    (b"TCP4 192.0.2.1 198.51.100.7 056 25\r\n", LINE, "a leading zero in a port"),
    (b"TCP4 192.0.2.1 198.51.100.7 -1 25\r\n", LINE, "a sign"),
    (b"TCP4 192.0.2.01 198.51.100.7 1 25\r\n", LINE, "a leading zero in an address"),
    (b"TCP4 192.0.2.256 198.51.100.7 1 25\r\n", LINE, "an octet too high"),
    (b"TCP4 192.0.2 198.51.100.7 1 25\r\n", LINE, "an octet too few"),
    (b"TCP4 192.0.2.1 ... 1 25\r\n", LINE, "a destination of dots"),
    (b"TCP4 2001:db8::1 2001:db8::2 1 25\r\n", LINE, "IPv6 where IPv4 is said"),
    (b"TCP6 192.0.2.1 198.51.100.7 1 25\r\n", LINE, "IPv4 where IPv6 is said"),
    (b"TCP6 2001:db8::1::2 ::1 1 25\r\n", LINE, "two gaps"),
    (b"TCP6 fe80::1%eth0 ::1 1 25\r\n", LINE, "a scope"),
    (b"TCP6 [::1] [::2] 1 25\r\n", LINE, "brackets"),
    (b"tcp4 192.0.2.1 198.51.100.7 1 25\r\n", LINE, "lower case"),
    (b"UDP4 192.0.2.1 198.51.100.7 1 25\r\n", LINE, "no protocol of version 1"),
    (b"UNKNOWNS\r\n", LINE, "a longer word"),
    (b"UNKNOWN \0\r\n", LINE, "a NUL"),
    (b"UNKNOWN a\rb\r\n", LINE, "a bare CR, where two readers may see two ends"),
    (b"UNKNOWN a\nEHLO b\r\n", LINE, "a bare LF likewise"),
    (b"UNKNOWN \xff\r\n", LINE, "8 bits"),
    (b"\r\n", LINE, "no protocol"),
    (b"UNKNOWN " + b"x" * 92 + b"\r\n", ProxyFault.TOO_LONG, "108 octets"),
    (b"UNKNOWN " + b"x" * 5000, ProxyFault.TOO_LONG, "no end at all"),
]
TLV = ProxyFault.TLV
NOT_BLOCKS = [
    (block(0x11, rest=V4), ProxyFault.COMMAND, "version 1 in this form"),
    (block(0x31, rest=V4), ProxyFault.COMMAND, "version 3"),
    (block(0x22, rest=V4), ProxyFault.COMMAND, "neither LOCAL nor PROXY"),
    (block(0x01, rest=V4), ProxyFault.COMMAND, "no version"),
    (block(family=0x10, rest=V4), ProxyFault.FAMILY, "IPv4 over nothing"),
    (block(family=0x01, rest=V4), ProxyFault.FAMILY, "TCP over nothing"),
    (block(family=0x13, rest=V4), ProxyFault.FAMILY, "a transport that nobody defined"),
    (block(family=0x41, rest=V4), ProxyFault.FAMILY, "a family that nobody defined"),
    (block(rest=V4[:-1]), ProxyFault.ADDRESSES, "an octet too few for IPv4"),
    (block(rest=b""), ProxyFault.ADDRESSES, "no addresses"),
    (block(family=0x21, rest=V6[:-1]), ProxyFault.ADDRESSES, "an octet too few for IPv6"),
    (block(family=0x31, rest=UNIX[:-1]), ProxyFault.ADDRESSES, "an octet too few for UNIX"),
    (block(rest=V4 + b"\x04"), TLV, "a TLV without a length"),
    (block(rest=V4 + b"\x04\0"), TLV, "half a length"),
    (block(rest=V4 + b"\x04\0\x02x"), TLV, "a TLV that runs past the end"),
    (block(rest=V4 + b"\x04\xff\xff"), TLV, "one that runs far past it"),
    (block(family=0x00, rest=b"x"), TLV, "no address, and no TLV either"),
    (block(rest=V4 + tlv(5, b"x" * 129)), TLV, "a unique id too long"),
    (block(rest=V4 + tlv(3, b"123")), TLV, "a checksum too short"),
    (block(rest=V4 + tlv(3, b"12345")), TLV, "a checksum too long"),
    (checked(V4, tlv(3, b"1234")), TLV, "a second checksum"),
    (block(rest=V4 + tlv(3, b"1234")), ProxyFault.CHECKSUM, "a checksum that is wrong"),
    (block(rest=V4 + tlv(4, bytes(MAX_OCTETS - 16 - 12 - 2))), ProxyFault.TOO_LONG, "an octet over the budget"),
    (block(size=65_535), ProxyFault.TOO_LONG, "an announcement is enough"),
    (block(0x20, size=65_535), ProxyFault.TOO_LONG, "of LOCAL, too"),
]
ELSE = [
    (1, block(rest=V4), "version 2 where version 1 is asked for"),
    (2, b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 25\r\n", "version 1 where version 2 is asked for"),
    (1, b"EHLO client.example\r\n", "SMTP"),
    (2, b"EHLO client.example\r\n", "SMTP"),
    (1, b"\x16\x03\x01\x02\0\x01\0\x01", "a ClientHello"),
    (2, b"\x16\x03\x01\x02\0\x01\0\x01", "a ClientHello"),
    (1, b"PROXYTCP4 ", "nearly"),
    (1, b"proxy TCP4 192.0.2.1 198.51.100.7 56324 25\r\n", "lower case"),
    (2, SIGNATURE[:11] + b"\r" + V4, "nearly"),
    (1, b"\r\n", "an empty line"),
    (1, b"\0", "one octet is enough"),
    (2, b"\r\r", "two octets are enough"),
]
FAULTS = [
    *((1, b"PROXY " + line, fault, reason) for line, fault, reason in NOT_LINES),
    *((2, wire, fault, reason) for wire, fault, reason in NOT_BLOCKS),
    *((version, wire, ProxyFault.SIGNATURE, reason) for version, wire, reason in ELSE),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("version", "wire", "fault", "reason"), FAULTS)
def test_what_is_no_header_closes(version: ProxyVersion, wire: bytes, fault: ProxyFault, reason: str, cut: int) -> None:
    fed = Fed(version, wire + NEXT, cut)
    assert fed.event == ConnectionClosed(CloseReason.VIOLATION), reason
    assert fed.reader.fault is fault, reason
    assert (fed.reader.header, fed.reader.trailing_data, fed.reader.deadline) == (None, b"", None)
    assert not fed.reader.half_close
    assert fed.reader.data_to_send() == b"", "whoever sends no header is told nothing"


def test_every_fault_has_its_row() -> None:
    assert {fault for _, _, fault, _ in FAULTS} == set(ProxyFault)


@pytest.mark.parametrize(("version", "wire", "header", "reason"), HEADERS)
def test_no_part_of_a_header_is_a_header(version: ProxyVersion, wire: bytes, header: ProxyHeader, reason: str) -> None:
    for size in range(min(len(wire), 300)):
        fed = Fed(version, wire[:size])
        assert fed.event is Flow.NEED_DATA
        fed.reader.receive_eof()
        assert fed.reader.next_event() == ConnectionClosed(CloseReason.EOF)


def test_the_event_is_the_last_one_and_stays() -> None:
    for version, wire in ((1, b"PROXY UNKNOWN\r\n"), (2, b"x")):
        reader = Fed(1 if version == 1 else 2, wire).reader
        event = reader.next_event()
        reader.receive_eof()
        reader.connection_lost()
        reader.handle_timeout()
        reader.receive_data(b"")
        assert reader.next_event() is event


def test_what_comes_after_a_header_is_kept_and_what_comes_after_the_end_is_not() -> None:
    reader = Fed(1, b"PROXY UNKNOWN\r\nEH").reader
    reader.receive_data(b"LO x\r\n")
    assert reader.trailing_data == b"EHLO x\r\n"
    reader = Fed(1, b"GET / HTTP/1.1\r\n").reader
    reader.receive_data(b"PROXY UNKNOWN\r\n")
    assert reader.header is None
    assert reader.trailing_data == b""


def test_a_lost_connection_has_no_header() -> None:
    reader = Fed(2, SIGNATURE).reader
    reader.connection_lost()
    assert reader.next_event() == ConnectionClosed(CloseReason.LOST)


def test_a_budget_of_octets_can_be_smaller_but_version_1_has_no_larger_one() -> None:
    line = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 25\r\n"
    assert isinstance(Fed(1, line, octets=len(line)).event, ProxyHeader)
    assert Fed(1, line, octets=len(line) - 1).reader.fault is ProxyFault.TOO_LONG
    assert Fed(1, b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", octets=9999).reader.fault is ProxyFault.TOO_LONG
    assert isinstance(Fed(2, block(rest=V4), octets=28).event, ProxyHeader)
    assert Fed(2, block(rest=V4), octets=27).reader.fault is ProxyFault.TOO_LONG


@pytest.mark.parametrize("version", [1, 2])
def test_time_runs_from_the_first_question_and_octets_buy_none(version: ProxyVersion) -> None:
    clock = ManualClock()
    reader = ProxyReader(version, clock=clock, seconds=3.0)
    assert (clock.reads, reader.deadline) == (0, None)
    clock.now += 100.0
    reader.handle_timeout()  # nothing runs yet
    assert reader.next_event() is Flow.NEED_DATA
    assert reader.deadline == clock.now + 3.0
    for octet in (b"PROXY UNKNOWN" if version == 1 else SIGNATURE)[:9]:
        clock.now += 0.25
        reader.receive_data(bytes((octet,)))
        reader.handle_timeout()
        assert reader.next_event() is Flow.NEED_DATA
    reads = clock.reads
    assert reader.next_event() is Flow.NEED_DATA
    assert reader.deadline == 1103.0
    assert clock.reads == reads, "waiting on for the same thing does not read the clock"
    clock.now = 1102.999
    reader.handle_timeout()
    assert reader.next_event() is Flow.NEED_DATA
    clock.now = 1103.0
    reader.handle_timeout()
    assert reader.next_event() == ConnectionClosed(CloseReason.TIMEOUT)
    assert reader.closed is not None
    assert reader.fault is None


def test_a_header_that_comes_too_late_is_none_whatever_the_driver_missed() -> None:
    clock = ManualClock()
    reader = ProxyReader(1, clock=clock)
    reader.next_event()
    clock.now += 5.0
    reader.receive_data(b"PROXY UNKNOWN\r\n")
    assert reader.next_event() == ConnectionClosed(CloseReason.TIMEOUT)


garbage = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=120).map(lambda data: b"PROXY " + data),
    st.text("0123456789.: TCPUNKOWafx\r\n", max_size=110).map(lambda text: b"PROXY " + text.encode()),
    st.binary(max_size=80).map(lambda data: SIGNATURE + data),
    st.builds(
        lambda command, family, rest: block(command, family, rest),
        st.sampled_from([0x20, 0x21, 0x11]),
        st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31, 0x10]),
        st.binary(max_size=60),
    ),
    st.builds(
        lambda rest, size: block(rest=rest, size=size), st.binary(min_size=12, max_size=60), st.integers(0, 0xFFFF)
    ),
)
versions = st.sampled_from([1, 2])


@given(versions, garbage, st.integers(1, 30))
def test_no_bytes_raise_and_no_cut_matters(version: ProxyVersion, wire: bytes, cut: int) -> None:
    whole, pieces = Fed(version, wire), Fed(version, wire, cut)
    assert whole.event == pieces.event
    assert whole.reader.fault is pieces.reader.fault
    if isinstance(whole.event, ProxyHeader):
        assert whole.rest == pieces.rest
        assert wire.endswith(whole.rest)


@given(versions, st.binary(min_size=1, max_size=30_000))
def test_memory_is_bounded(version: ProxyVersion, wire: bytes) -> None:
    start = b"PROXY " if version == 1 else SIGNATURE
    fed = Fed(version, start + wire, 50)
    if not isinstance(fed.event, ProxyHeader):
        assert fed.used <= MAX_OCTETS + 50


@given(
    st.one_of(st.tuples(*[st.ip_addresses(v=4)] * 2), st.tuples(*[st.ip_addresses(v=6)] * 2)),
    st.integers(0, 65_535),
    st.integers(0, 65_535),
    st.binary(max_size=40),
)
def test_both_versions_say_the_same(pair: tuple[object, object], port: int, other: int, rest: bytes) -> None:
    source, destination = pair
    family = 6 if isinstance(source, IPv6Address) else 4
    line = f"PROXY TCP{family} {source} {destination} {port} {other}\r\n".encode()
    packed = source.packed + destination.packed + port.to_bytes(2, "big") + other.to_bytes(2, "big")  # type: ignore[attr-defined]  # both kinds of address have it
    one, two = Fed(1, line + rest), Fed(2, block(family=0x21 if family == 6 else 0x11, rest=packed) + rest)
    assert isinstance(one.event, ProxyHeader)
    assert isinstance(two.event, ProxyHeader)
    assert (one.event.source, one.event.destination) == (two.event.source, two.event.destination)
    assert one.rest == two.rest == rest


@given(st.lists(st.tuples(st.integers(0, 255).filter(lambda kind: kind not in (3, 5)), st.binary(max_size=40))))
def test_tlvs_come_out_as_they_went_in(pairs: list[tuple[int, bytes]]) -> None:
    event = Fed(2, checked(V4, *(tlv(kind, value) for kind, value in pairs))).event
    assert isinstance(event, ProxyHeader)
    assert event.tlvs[1:] == tuple(pairs)


def test_it_never_asks_to_read_before_it_writes() -> None:
    assert ProxyReader(1, clock=lambda: 0.0).reads_first is False
