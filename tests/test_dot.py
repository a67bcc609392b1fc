"""The dot codec, alone."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate._dot import DotDecoder, DotEncoder
from tests.near_terminators import NEAR_TERMINATORS, NearTerminator

CUTS = (1, 2, 3, 4, 99)
END = b"\r\n.\r\n"

# What matters to the codec, and one octet that does not.
wires = st.lists(st.sampled_from([b"\r", b"\n", b".", b"x", b"\0", b"\r\n", b"\r\n.", b"\r\n.\r\n"])).map(b"".join)
cuts = st.lists(st.integers(1, 6), min_size=1, max_size=8)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data cut into pieces of these sizes, over and over."""
    out: list[bytes] = []
    position = index = 0
    while position < len(data):
        size = sizes[index % len(sizes)]
        out.append(data[position : position + size])
        position += size
        index += 1
    return out


def decode(decoder: DotDecoder, fed: list[bytes]) -> tuple[bytes, bytes, bool]:
    """Feed the pieces; what is left over of one goes in front of those not fed."""
    content = b""
    for index, piece in enumerate(fed):
        more, leftover, ended = decoder.decode(piece)
        content += more
        if ended:
            return content, b"".join((leftover, *fed[index + 1 :])), True
        assert leftover == b""
    return content, b"", False


def reference(wire: bytes) -> tuple[bytes, bytes, bool]:
    """The rule, written a line at a time: lines end at CRLF, a lone dot ends the message, a first dot goes."""
    content = b""
    rest = wire
    while True:
        line, newline, after = rest.partition(b"\r\n")
        if newline and line == b".":
            return content, after, True
        if not newline:
            return content + line.removeprefix(b"."), b"", False
        content += line.removeprefix(b".") + newline
        rest = after


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("row", NEAR_TERMINATORS, ids=lambda row: row.reason)
def test_what_only_looks_like_the_end_does_not_end_a_message(row: NearTerminator, cut: int) -> None:
    decoder = DotDecoder()
    wire = b"first" + row.near + b"second" + END + b"MAIL"
    assert decode(decoder, pieces(wire, [cut])) == (b"first" + row.content + b"second\r\n", b"MAIL", True)


@pytest.mark.parametrize("row", NEAR_TERMINATORS, ids=lambda row: row.reason)
def test_a_near_terminator_that_is_sent_as_content_arrives_with_clean_newlines(row: NearTerminator) -> None:
    content = b"first" + row.content + b"second\r\n"
    encoder = DotEncoder()
    wire = encoder.encode(content) + encoder.finish()
    decoder = DotDecoder()
    assert decoder.decode(wire) == (b"first" + row.normalized + b"second\r\n", b"", True)


def test_the_near_terminators_are_many_and_each_is_there_once() -> None:
    assert len({row.near for row in NEAR_TERMINATORS}) == len(NEAR_TERMINATORS) >= 30
    assert len({row.reason for row in NEAR_TERMINATORS}) == len(NEAR_TERMINATORS)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("wire", "content", "leftover", "ended", "reason"),
    [
        (b"", b"", b"", False, "nothing came yet"),
        (b".\r\n", b"", b"", True, "an empty message"),
        (b".\r\nQUIT\r\n", b"", b"QUIT\r\n", True, "an empty message, and the next command with it"),
        (b"\r\n.\r\n", b"\r\n", b"", True, "the newline before the dot belongs to the content"),
        (b"a\r\n.\r\n", b"a\r\n", b"", True, "one line"),
        (b"a\r\n\r\n.\r\n", b"a\r\n\r\n", b"", True, "an empty last line"),
        (b"..\r\n.\r\n", b".\r\n", b"", True, "a stuffed dot comes first"),
        (b".a\r\n.\r\n", b"a\r\n", b"", True, "a dot comes first that its sender did not stuff"),
        (b".\r.\r\n.\r\n", b"\r.\r\n", b"", True, "what was held back becomes content"),
        (b"a\r\n.\r\n.\r\n", b"a\r\n", b".\r\n", True, "the first end counts"),
        (b"a\r\r\n.\r\n", b"a\r\r\n", b"", True, "a bare CR before the true end"),
        (b"a\r\n.\r\r\n.\r\nb", b"a\r\n\r\r\n", b"b", True, "a near-terminator before the true end"),
        (b"a\r\n", b"a\r\n", b"", False, "a newline goes out at once"),
        (b"a\r\n.", b"a\r\n", b"", False, "a dot is held back"),
        (b"a\r\n.\r", b"a\r\n", b"", False, "a dot and a CR are held back"),
        (b"a\r\n.\rb", b"a\r\n\rb", b"", False, "until they can only be content"),
        (b"a\r", b"a\r", b"", False, "a CR goes out at once"),
        (b"a.", b"a.", b"", False, "a dot inside a line goes out at once"),
    ],
)
def test_wire_to_content(wire: bytes, content: bytes, leftover: bytes, ended: bool, reason: str, cut: int) -> None:
    decoder = DotDecoder()
    assert decode(decoder, pieces(wire, [cut])) == (content, leftover, ended), reason


@settings(deadline=None, derandomize=True)
@given(wires, cuts)
def test_any_cut_gives_what_a_line_at_a_time_gives(wire: bytes, sizes: list[int]) -> None:
    decoder = DotDecoder()
    content, leftover, ended = reference(wire)
    got = decode(decoder, pieces(wire, sizes))
    if not ended:
        # What came last may still become the end, and is held back.
        assert (leftover, got[1:]) == (b"", (b"", False))
        assert content.startswith(got[0])
        assert content[len(got[0]) :] in (b"", b"\r")
        return
    assert got == (content, leftover, ended)


@settings(deadline=None, derandomize=True)
@given(st.binary(), wires, cuts, cuts)
def test_any_content_arrives_as_it_was_but_for_its_newlines(
    noise: bytes, wire: bytes, sent: list[int], read: list[int]
) -> None:
    content = noise + wire
    encoder = DotEncoder()
    encoded = b"".join(encoder.encode(piece) for piece in pieces(content, sent)) + encoder.finish()
    clean = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if clean and not clean.endswith(b"\r\n"):
        clean += b"\r\n"
    decoder = DotDecoder()
    assert decode(decoder, pieces(encoded + b"QUIT", read)) == (clean, b"QUIT", True)


def test_a_piece_without_a_dot_at_the_start_of_a_line_comes_out_as_the_same_object() -> None:
    decoder = DotDecoder()
    for data in (
        b"first line\r\nsecond. line\r\n",
        b"at the start of a line\r",
        b"\nafter a CR",
        b"after nothing\r",
        b"b",
    ):
        assert decoder.decode(data)[0] is data


def test_nothing_after_the_end_is_looked_at() -> None:
    decoder = DotDecoder()
    assert decoder.decode(b".\r\na\r\n.\r\n") == (b"", b"a\r\n.\r\n", True)
    data = b"b\r\n.\r\n"
    content, leftover, ended = decoder.decode(data)
    assert (content, ended) == (b"", True)
    assert leftover is data


def test_empty_data_changes_nothing() -> None:
    decoder = DotDecoder()
    assert decoder.decode(b"\r\n.\r") == (b"\r\n", b"", False)
    assert decoder.decode(b"") == (b"", b"", False)
    assert decoder.decode(b"\n") == (b"", b"", True)
    encoder = DotEncoder()
    assert encoder.encode(b"a\r") == b"a\r\n"
    assert encoder.encode(b"") == b""
    assert encoder.encode(b"\n") == b""


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("content", "wire", "reason"),
    [
        (b"", b".\r\n", "an empty message"),
        (b"a\r\n", b"a\r\n.\r\n", "the newline that is there is enough"),
        (b"a", b"a\r\n.\r\n", "the last newline is missing"),
        (b"a\r", b"a\r\n.\r\n", "half of the last newline is missing"),
        (b"a\n", b"a\r\n.\r\n", "the other half is"),
        (b"a\r\r\n\nb", b"a\r\n\r\n\r\nb\r\n.\r\n", "CR, CRLF, LF are three newlines"),
        (b".", b"..\r\n.\r\n", "a dot comes first"),
        (b"a\r\n.\r\nb", b"a\r\n..\r\nb\r\n.\r\n", "a lone dot"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n", "a lone dot between bare LF: made by normalising, and stuffed"),
        (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n", "a lone dot between bare CR"),
        (b"a\r\n..b", b"a\r\n...b\r\n.\r\n", "two dots"),
        (b"a.\r\nb", b"a.\r\nb\r\n.\r\n", "a dot elsewhere is left alone"),
        (b"\0\xff\r\n", b"\0\xff\r\n.\r\n", "any other octet is left alone"),
    ],
)
def test_content_to_wire(content: bytes, wire: bytes, reason: str, cut: int) -> None:
    encoder = DotEncoder()
    assert b"".join(map(encoder.encode, pieces(content, [cut]))) + encoder.finish() == wire, reason


def test_content_with_nothing_to_change_is_sent_as_the_same_object() -> None:
    encoder = DotEncoder()
    for data in (b"first line\r\nsecond. line\r\n", b"at the start of a line", b". not there"):
        assert encoder.encode(data) is data


def test_octet_by_octet_holds_back_at_most_two() -> None:
    decoder = DotDecoder()
    emitted = 0
    wire = b"\r\n.\r.\r\n..\r\n.x\r\n\r\n" * 50
    for fed in range(len(wire)):
        emitted += len(decoder.decode(wire[fed : fed + 1])[0])
        dots = sum(line.startswith(b".") for line in wire[: fed + 1].split(b"\r\n"))
        assert 0 <= fed + 1 - emitted - dots <= 1


@pytest.mark.parametrize(
    ("pieces", "arrives"),
    [
        ((), b""),
        ((b"",), b""),
        ((b"a",), b"a\r\n"),
        ((b".a\r\n",), b".a\r\n"),
        ((b"a\r", b"\n.", b"\nb"), b"a\r\n.\r\nb\r\n"),
    ],
)
def test_an_encoder_counts_what_will_arrive(pieces: tuple[bytes, ...], arrives: bytes) -> None:
    encoder = DotEncoder()
    for piece in pieces:
        encoder.encode(piece)
    encoder.finish()
    assert encoder.size == len(arrives)
