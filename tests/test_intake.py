"""A message on its way in, alone."""

from __future__ import annotations

import pytest

from smtpstate._commands import Bdat, EndOfMessage
from smtpstate._intake import Intake
from smtpstate._lines import LineReader
from smtpstate._newlines import Anomaly, BareNewline


@pytest.mark.parametrize(
    ("size", "too_large", "hopeless", "reason"),
    [
        (99, False, False, "below"),
        (100, False, False, "the limit itself is allowed"),
        (101, True, False, "an octet over"),
        (150, True, False, "one and a half times the limit"),
        (151, True, True, "an octet over that"),
    ],
)
def test_the_size_is_held_against_the_limit(size: int, too_large: bool, hopeless: bool, reason: str) -> None:
    intake, lines = Intake(100), LineReader()
    lines.receive_data(b"x" * size)
    assert len(intake.read(lines)) == size
    assert (intake.size, intake.too_large, intake.hopeless) == (size, too_large, hopeless), reason


def test_what_follows_the_end_is_left_for_others() -> None:
    intake, lines = Intake(100), LineReader()
    lines.receive_data(b"a\0\r\n..\r\n.\r\nQUIT\r\n")
    assert intake.read(lines) == b"a\0\r\n.\r\n"
    assert intake.ended
    assert lines.take() == b"QUIT\r\n"
    end = intake.end
    assert (end, end.size) == (EndOfMessage(), 7)
    assert end.anomalies == {Anomaly.NUL}


def test_until_the_end_nothing_is_left() -> None:
    intake, lines = Intake(100), LineReader()
    lines.receive_data(b"a\r\n.")
    assert intake.read(lines) == b"a\r\n"
    assert not intake.ended
    assert len(lines) == 0
    assert intake.refusal is None


@pytest.mark.parametrize(("binary", "anomalies"), [(False, {Anomaly.NUL, Anomaly.BARE_LF}), (True, set())])
def test_what_is_odd_in_lines_is_not_in_what_is_binary(binary: bool, anomalies: set[Anomaly]) -> None:
    intake, lines = Intake(100, chunked=True, binary=binary), LineReader()
    intake.begin_chunk(Bdat(3, last=True))
    lines.receive_data(b"a\0\n")
    assert intake.read(lines) == b"a\0\n"
    assert intake.end.anomalies == anomalies


def test_a_message_in_chunks() -> None:
    intake, lines = Intake(100, chunked=True), LineReader()
    intake.begin_chunk(Bdat(3))
    assert (intake.ended, intake.last) == (False, False)
    lines.receive_data(b".\r")
    assert intake.read(lines) == b".\r"
    assert not intake.ended
    lines.receive_data(b"\nBDAT 2 LAST\r\n")
    assert intake.read(lines) == b"\n"
    assert (intake.ended, intake.last) == (True, False)
    assert lines.take() == b"BDAT 2 LAST\r\n"
    intake.begin_chunk(Bdat(2, last=True))
    assert (intake.ended, intake.last) == (False, True)
    lines.receive_data(b"\0a")
    assert intake.read(lines) == b"\0a"
    assert (intake.ended, intake.size, intake.end.size) == (True, 5, 5)
    assert intake.end.anomalies == {Anomaly.NUL}


def test_an_empty_chunk_ends_where_it_begins() -> None:
    intake = Intake(100, chunked=True)
    intake.begin_chunk(Bdat(0, last=True))
    assert (intake.ended, intake.last) == (True, True)


@pytest.mark.parametrize(("sizes", "too_large"), [((100,), False), ((101,), True), ((60, 40), False), ((60, 41), True)])
def test_the_announced_sizes_are_held_against_the_limit_together(sizes: tuple[int, ...], too_large: bool) -> None:
    intake = Intake(100, chunked=True)
    for size in sizes:
        intake.begin_chunk(Bdat(size))
    assert (intake.too_large, intake.hopeless, intake.size) == (too_large, False, 0)


@pytest.mark.parametrize(
    ("newline", "content", "misspelled"),
    [
        (BareNewline.NOTE, b"a\n\r.\r\n", False),
        (BareNewline.NORMALIZE, b"a\r\n\r\n.\r\n", False),
        (BareNewline.REJECT, b"a\n\r.\r\n", True),
    ],
)
def test_bare_newlines_are_what_the_rule_makes_of_them(newline: BareNewline, content: bytes, misspelled: bool) -> None:
    intake, lines = Intake(100, newline=newline), LineReader()
    lines.receive_data(b"a\n\r.\r\n.\r\n")
    assert intake.read(lines) == content
    assert (intake.ended, intake.misspelled) == (True, misspelled)
    assert intake.end.size == intake.size == len(content), "what was handed on"
    assert intake.end.anomalies == {Anomaly.BARE_CR, Anomaly.BARE_LF}


def test_what_normalizing_adds_counts_against_the_limit() -> None:
    intake, lines = Intake(4, newline=BareNewline.NORMALIZE), LineReader()
    lines.receive_data(b"\n\n\n")
    assert intake.read(lines) == b"\r\n" * 3
    assert intake.too_large


@pytest.mark.parametrize(("last", "binary", "anomalies"), [(True, False, 1), (False, False, 0), (True, True, 0)])
def test_a_cr_is_bare_where_the_message_ends_after_it(last: bool, binary: bool, anomalies: int) -> None:
    intake, lines = Intake(100, chunked=True, binary=binary, newline=BareNewline.REJECT), LineReader()
    intake.begin_chunk(Bdat(1, last=last))
    lines.receive_data(b"\r")
    intake.read(lines)
    assert not intake.misspelled
    intake.finish()
    assert len(intake.end.anomalies) == anomalies
    assert intake.misspelled is bool(anomalies)
