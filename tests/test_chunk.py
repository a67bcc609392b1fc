"""The chunk, alone."""

from __future__ import annotations

import pytest

from smtpstate._chunk import ChunkDecoder, ChunkEncoder
from smtpstate._errors import LocalProtocolError

CUTS = (1, 2, 3, 4, 99)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([b""], "an empty one"),
        ([b"abc"], "one"),
        ([b"abc", b"", b"de"], "several"),
        ([b".\r\n", b".\r\n"], "dots end nothing"),
        ([b"a\r", b"\nb\r\n"], "a CRLF across two chunks"),
        ([bytes(range(256)) * 3], "any octet is content"),
    ],
)
def test_chunks_are_counted_off(chunks: list[bytes], reason: str, cut: int) -> None:
    decoder = ChunkDecoder()
    seen = b""
    for chunk in chunks:
        decoder.begin(len(chunk))
        wire = chunk + b"NEXT"
        ended = not chunk
        while not ended:
            content, leftover, ended = decoder.decode(wire[:cut])
            assert wire[:cut] == content + leftover, "nothing is lost"
            wire = leftover + wire[cut:]
            seen += content
        assert wire == b"NEXT", reason
    assert seen == b"".join(chunks), reason


def test_a_piece_that_fits_comes_out_as_the_same_object() -> None:
    decoder = ChunkDecoder()
    decoder.begin(2000)
    piece = b"x" * 1000
    content, leftover, ended = decoder.decode(piece)
    assert content is piece
    assert (leftover, ended) == (b"", False)
    content, leftover, ended = decoder.decode(piece)
    assert content is piece
    assert (leftover, ended) == (b"", True)


def test_a_huge_chunk_costs_nothing_until_it_comes() -> None:
    decoder = ChunkDecoder()
    decoder.begin(2**63 - 1)
    assert decoder.decode(b"abc") == (b"abc", b"", False)


def test_the_octets_to_send_are_as_many_as_were_announced() -> None:
    encoder = ChunkEncoder()
    encoder.begin(5, first=True, last=True, binary=False)
    piece = b"a\r\n"
    assert encoder.encode(piece) is piece
    assert encoder.left == 2
    with pytest.raises(LocalProtocolError, match="3 octets given, 2 are left of the chunk"):
        encoder.encode(b"bcd")
    assert encoder.encode(b"bc") == b"bc"
    assert encoder.left == 0


SENT: list[tuple[list[list[bytes]], str, str]] = [
    ([[b"a\r\n"]], "", "lines"),
    ([[b"a\r", b"\nb"]], "", "cut between CR and LF"),
    ([[b"a\r"], [b"\nb"]], "", "a CRLF across two chunks"),
    ([[b"a\r"], [], [b"\n"]], "", "with an empty one between"),
    ([[b"\0\xff"]], "", "any other octet"),
    ([[b"a\nb"]], "bare LF", "an LF alone"),
    ([[b"a", b"\nb"]], "bare LF", "that comes first in a piece"),
    ([[b"a"], [b"\nb"]], "bare LF", "that comes first in a chunk"),
    ([[b"a\rb"]], "bare CR", "a CR alone"),
    ([[b"a\r", b"b"]], "bare CR", "cut after it"),
    ([[b"a\r"], [b"b"]], "bare CR", "at the end of a chunk"),
    ([[b"a\r"]], "bare CR", "at the end of the last chunk"),
    ([[b"a\r"], []], "bare CR", "that an empty last chunk follows"),
    ([[b"a\n\rb"]], "bare CR and bare LF", "both"),
]


def send(encoder: ChunkEncoder, chunks: list[list[bytes]], *, binary: bool) -> None:
    for index, chunk in enumerate(chunks):
        last = index == len(chunks) - 1
        encoder.begin(sum(map(len, chunk)), first=not index, last=last, binary=binary)
        for piece in chunk:
            assert encoder.encode(piece) is piece


@pytest.mark.parametrize(("chunks", "wrong", "reason"), SENT)
def test_a_bare_newline_is_not_sent_in_lines(chunks: list[list[bytes]], wrong: str, reason: str) -> None:
    encoder = ChunkEncoder()
    if not wrong:
        send(encoder, chunks, binary=False)
        return
    with pytest.raises(LocalProtocolError, match=f"^{wrong} in a chunk"):
        send(encoder, chunks, binary=False)
    send(encoder, [[b"another\r\n"]], binary=False)


@pytest.mark.parametrize(("chunks", "wrong", "reason"), SENT)
def test_what_is_binary_is_sent_as_it_is(chunks: list[list[bytes]], wrong: str, reason: str) -> None:
    send(ChunkEncoder(), chunks, binary=True)


def test_what_was_refused_changes_nothing() -> None:
    encoder = ChunkEncoder()
    encoder.begin(3, first=True, last=True, binary=False)
    encoder.encode(b"\r")
    for wrong in (b"a", b"\n\n", b"\n\r"):
        with pytest.raises(LocalProtocolError):
            encoder.encode(wrong)
    assert encoder.left == 2
    assert encoder.encode(b"\na") == b"\na"
    encoder.begin(1, first=True, last=False, binary=False)
    encoder.encode(b"\r")
    with pytest.raises(LocalProtocolError):
        encoder.begin(0, first=False, last=True, binary=False)
    encoder.begin(1, first=False, last=True, binary=False)
    assert encoder.encode(b"\n") == b"\n"
