"""Newlines, alone: what is noted, what becomes CRLF, wherever the content is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate._newlines import Anomaly, BareNewline, Newlines

CR, LF, NUL = Anomaly.BARE_CR, Anomaly.BARE_LF, Anomaly.NUL

contents = st.lists(st.sampled_from([b"\r", b"\n", b".", b"x", b"\0", b"\r\n", b"\r\n.\r\n"])).map(b"".join)
cuts = st.lists(st.integers(1, 6), min_size=1, max_size=8)


def pieces(content: bytes, sizes: list[int]) -> list[bytes]:
    """The content cut into pieces of these sizes, over and over."""
    out: list[bytes] = []
    start = 0
    while start < len(content):
        size = sizes[len(out) % len(sizes)]
        out.append(content[start : start + size])
        start += size
    return out


def reference(content: bytes) -> set[Anomaly]:
    found = {CR: rb"\r(?!\n)", LF: rb"(?<!\r)\n", NUL: rb"\0"}
    return {anomaly for anomaly, pattern in found.items() if re.search(pattern, content)}


def clean(content: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", b"\r\n", content)


@settings(deadline=None, derandomize=True)
@given(contents, cuts)
def test_normalizing_makes_every_newline_crlf_and_never_cuts_one(content: bytes, sizes: list[int]) -> None:
    newlines = Newlines(normalize=True)
    out = [newlines.read(piece) for piece in pieces(content, sizes)]
    assert b"".join(out) == clean(content)
    for piece in out:
        assert not piece.startswith(b"\n")
        assert not piece.endswith(b"\r")


@pytest.mark.parametrize("normalize", [False, True])
@settings(deadline=None, derandomize=True)
@given(contents, cuts)
def test_what_is_noted_does_not_depend_on_cuts_or_on_what_is_done(
    normalize: bool, content: bytes, sizes: list[int]
) -> None:
    newlines = Newlines(normalize=normalize)
    for piece in pieces(content, sizes):
        newlines.read(piece)
    newlines.finish()
    assert newlines.found == reference(content)
    assert newlines.bare == reference(content) - {NUL}


@pytest.mark.parametrize(
    ("fed", "anomalies", "finished", "reason"),
    [
        ([], set(), set(), "nothing"),
        ([b"a\r"], set(), {CR}, "a CR that came last may get its LF yet"),
        ([b"a\r", b"\nb"], set(), set(), "and did"),
        ([b"a\r", b"b"], {CR}, {CR}, "and did not"),
        ([b"a\r", b"", b"\nb"], set(), set(), "nothing is not looked at"),
        ([b"a\r", b"\r\n"], {CR}, {CR}, "two CR, one LF, cut after the first"),
        ([b"a\r\r", b"\n"], {CR}, {CR}, "two CR, one LF, cut after the second"),
        ([b"a\r", b"\n\n"], {LF}, {LF}, "one CR, two LF"),
        ([b"a", b"\n"], {LF}, {LF}, "an LF that comes first in a piece"),
        ([b"\n"], {LF}, {LF}, "an LF that comes first of all"),
        ([b"\0", b"b"], {NUL}, {NUL}, "found once, kept"),
        ([b"a\r\nb\r\n"], set(), set(), "nothing wrong"),
    ],
)
def test_what_is_noted(fed: list[bytes], anomalies: set[Anomaly], finished: set[Anomaly], reason: str) -> None:
    newlines = Newlines(normalize=False)
    for piece in fed:
        assert newlines.read(piece) is piece
    assert newlines.found == anomalies, reason
    newlines.finish()
    assert newlines.found == finished, reason
    newlines.finish()
    assert newlines.found == finished, "once is enough"


def test_content_with_nothing_to_change_comes_out_as_the_same_object() -> None:
    newlines = Newlines(normalize=True)
    for piece in (b"a line\r\n\0", b"", b"no newline", b"\r\n", b"\xff"):
        assert newlines.read(piece) is piece


def test_a_crlf_is_whole_though_it_came_in_two_pieces() -> None:
    newlines = Newlines(normalize=True)
    assert [newlines.read(piece) for piece in (b"a\r", b"\n", b"\n", b"\rb")] == [b"a\r\n", b"", b"\r\n", b"\r\nb"]


def test_a_copy_reads_on_by_itself() -> None:
    newlines = Newlines(normalize=True)
    newlines.read(b"\0\r")
    copy = newlines.copy()
    assert copy.read(b"\nb\n") == b"b\r\n"
    assert copy.found == {LF, NUL}
    assert newlines.found == {NUL}
    assert newlines.read(b"b") == b"b"
    assert newlines.found == {CR, NUL}


def test_there_are_three_ways_and_each_says_what_it_is() -> None:
    assert [way.name for way in BareNewline] == ["REJECT", "NORMALIZE", "NOTE"]
    assert all("command" in way.value and "message" in way.value for way in BareNewline)
