"""A message on its way in, alone."""

from __future__ import annotations

import pytest

from smtpstate._commands import EndOfMessage
from smtpstate._dot import Anomaly
from smtpstate._intake import Intake
from smtpstate._lines import LineReader


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
