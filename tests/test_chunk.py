"""The chunk, alone."""

from __future__ import annotations

import pytest

from smtpstate._chunk import ChunkDecoder
from smtpstate._dot import Anomaly

CUTS = (1, 2, 3, 4, 99)


def test_in_a_binary_message_nothing_is_an_anomaly() -> None:
    """RFC 3030 section 3."""
    decoder = ChunkDecoder(binary=True)
    decoder.begin(256)
    assert decoder.decode(bytes(range(256))) == (bytes(range(256)), b"", True)
    assert (decoder.size, decoder.anomalies) == (256, frozenset())


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("chunks", "anomalies", "reason"),
    [
        ([b""], set(), "an empty one"),
        ([b"abc"], set(), "one"),
        ([b"abc", b"", b"de"], set(), "several"),
        ([b".\r\n", b".\r\n"], set(), "dots end nothing"),
        ([b"a\r", b"\nb\r\n"], set(), "a CRLF across two chunks"),
        ([b"a\r", b"b"], {Anomaly.BARE_CR}, "a CR alone"),
        ([b"a", b"\nb"], {Anomaly.BARE_LF}, "an LF alone"),
        ([b"a\0"], {Anomaly.NUL}, "NUL"),
        ([bytes(range(256)) * 3], set(Anomaly), "any octet is content"),
    ],
)
def test_chunks_are_counted_off(chunks: list[bytes], anomalies: set[Anomaly], reason: str, cut: int) -> None:
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
    assert decoder.size == len(seen)
    assert decoder.anomalies == anomalies


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
    assert decoder.size == 3
