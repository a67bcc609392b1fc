"""The line reader, alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate._lines import Line, LineEnding, LineReader

CUTS = (1, 2, 3, 4, 99)
CRLF = LineEnding.CRLF
LF = LineEnding.LF


class CountedBytes(bytes):
    """Bytes that count the octets looked at by find(), which is how a reader would go quadratic."""

    searched = 0

    def find(self, *arguments: object) -> int:  # only called as find(needle, start)
        needle, start = arguments
        assert isinstance(needle, bytes)
        assert isinstance(start, int)
        found = bytes(self).find(needle, start)
        CountedBytes.searched += (len(self) if found < 0 else found + 1) - start
        return found


def feed(reader: LineReader, wire: bytes, cut: int, limit: int) -> list[Line]:
    """Feed the wire in pieces of this size, taking each line as soon as it is there."""
    lines: list[Line] = []
    for position in range(0, len(wire), cut):
        piece = wire[position : position + cut]
        reader.receive_data(piece)
        while (line := reader.next_line(limit)) is not None:
            lines.append(line)
        assert len(reader) < limit
    return lines


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("wire", "lines", "held", "reason"),
    [
        (b"", [], 0, "nothing came yet"),
        (b"NOOP", [], 4, "no ending yet"),
        (b"NOOP\r", [], 5, "half an ending"),
        (b"NOOP\r\n", [Line(b"NOOP", CRLF, False)], 0, "one line"),
        (b"NOOP\n", [Line(b"NOOP", LF, False)], 0, "a bare LF ends a line, and is told"),
        (b"\r\n", [Line(b"", CRLF, False)], 0, "an empty line"),
        (b"\n", [Line(b"", LF, False)], 0, "an empty line that ends at a bare LF"),
        (b"\r\n\n", [Line(b"", CRLF, False), Line(b"", LF, False)], 0, "the CR before the last line is not its own"),
        (b"a\rb\r\n", [Line(b"a\rb", CRLF, False)], 0, "a bare CR ends nothing"),
        (b"a\r\r\n", [Line(b"a\r", CRLF, False)], 0, "only the CR next to the LF goes"),
        (b"a\0\xff\r\n", [Line(b"a\0\xff", CRLF, False)], 0, "any other octet is data"),
        (b"a\r\nb\nc", [Line(b"a", CRLF, False), Line(b"b", LF, False)], 1, "several, and the start of one"),
        (b"12345678\r\n", [Line(b"12345678", CRLF, False)], 0, "as long as allowed, the ending included"),
        (b"123456789\n", [Line(b"123456789", LF, False)], 0, "as long as allowed, with the shorter ending"),
        (b"123456789\r\n", [Line(b"", CRLF, True)], 0, "an octet too long"),
        (b"1234567890\n", [Line(b"", LF, True)], 0, "an octet too long, with the shorter ending"),
        (b"x" * 50 + b"\r\n", [Line(b"", CRLF, True)], 0, "much too long, told once"),
        (b"x" * 50 + b"\n", [Line(b"", LF, True)], 0, "much too long, and its ending is told too"),
        (b"x" * 50, [], 0, "much too long and not ended: nothing is held"),
        (b"\r" * 50 + b"\n", [Line(b"", CRLF, True)], 0, "much too long, all CR"),
        (b"x" * 50 + b"\ra\n", [Line(b"", LF, True)], 0, "the CR that is not next to the LF is not of the ending"),
        (b"x" * 50 + b"\r\na\n", [Line(b"", CRLF, True), Line(b"a", LF, False)], 0, "the next line is itself again"),
        (b"x" * 50 + b"\r\n\n", [Line(b"", CRLF, True), Line(b"", LF, False)], 0, "and so is its ending"),
    ],
)
def test_wire_to_lines(wire: bytes, lines: list[Line], held: int, reason: str, cut: int) -> None:
    reader = LineReader()
    assert feed(reader, wire, cut, 10) == lines, reason
    # A line too long that came in one piece is dropped all the same.
    assert len(reader) == held, reason


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"xxxxxxx"])).map(b"".join),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(1, 12),
)
def test_any_cut_gives_what_splitting_at_lf_gives(wire: bytes, sizes: list[int], limit: int) -> None:
    reader = LineReader()
    got: list[Line] = []
    position = index = 0
    while position < len(wire):
        size = sizes[index % len(sizes)]
        reader.receive_data(wire[position : position + size])
        position, index = position + size, index + 1
        if index % 2:
            continue  # several pieces may come before a line is asked for
        while (line := reader.next_line(limit)) is not None:
            got.append(line)
    while (line := reader.next_line(limit)) is not None:
        got.append(line)
    expected: list[Line] = []
    *whole, rest = wire.split(b"\n")
    for data in whole:
        too_long = len(data) + 1 > limit
        ending = CRLF if data.endswith(b"\r") else LF
        expected.append(Line(b"" if too_long else data.removesuffix(b"\r"), ending, too_long))
    assert got == expected
    assert reader.take() == (rest if len(rest) < limit else b"")


def test_what_came_in_one_piece_is_taken_as_the_same_object() -> None:
    reader = LineReader()
    data = b"content\r\nmore\r\n"
    reader.receive_data(data)
    assert reader.take() is data
    assert (reader.take(), len(reader)) == (b"", 0)
    reader.push_back(data)
    assert reader.take() is data


def test_what_is_taken_is_all_that_is_held() -> None:
    reader = LineReader()
    reader.receive_data(b"DATA\r\ncon")
    assert reader.next_line(99) == Line(b"DATA", CRLF, False)
    assert len(reader) == 3
    assert reader.take() == b"con"
    reader.receive_data(b"DATA\r\ncon")
    assert reader.next_line(99) == Line(b"DATA", CRLF, False)
    reader.receive_data(b"tent")
    reader.receive_data(b"\r\n")
    assert len(reader) == 9
    assert reader.take() == b"content\r\n"
    assert len(reader) == 0
    assert reader.next_line(99) is None


def test_what_is_pushed_back_stands_in_front() -> None:
    reader = LineReader()
    reader.receive_data(b"T\r\nNO")
    assert reader.next_line(99) == Line(b"T", CRLF, False)
    assert reader.next_line(99) is None
    reader.receive_data(b"OP\r\n")
    reader.push_back(b"RSET\r\n")
    assert reader.next_line(99) == Line(b"RSET", CRLF, False)
    assert reader.next_line(99) == Line(b"NOOP", CRLF, False)
    reader.push_back(b"")
    assert reader.next_line(99) is None


def test_clear_forgets_a_line_that_is_being_dropped() -> None:
    reader = LineReader()
    reader.receive_data(b"x" * 20 + b"\r")
    assert reader.next_line(10) is None
    reader.clear()
    reader.receive_data(b"\nNOOP\r\n")
    assert reader.next_line(10) == Line(b"", LF, False)
    reader.receive_data(b"half")
    reader.receive_data(b" a line")
    reader.clear()
    assert len(reader) == 0
    assert reader.next_line(10) is None


def test_empty_data_changes_nothing() -> None:
    reader = LineReader()
    reader.receive_data(b"")
    assert reader.next_line(10) is None
    reader.receive_data(b"x" * 20)
    assert reader.next_line(10) is None
    reader.receive_data(b"")
    assert reader.next_line(10) is None
    reader.receive_data(b"\r\n")
    assert reader.next_line(10) == Line(b"", CRLF, True)


def test_many_short_lines_in_one_piece_are_searched_once() -> None:
    count = 100_000
    CountedBytes.searched = 0
    wire = CountedBytes(b"NOOP\r\n" * count)
    reader = LineReader()
    reader.receive_data(wire)
    for _ in range(count):
        assert reader.next_line(512) == Line(b"NOOP", CRLF, False)
    assert reader.next_line(512) is None
    assert CountedBytes.searched == len(wire)


def test_a_line_that_never_ends_is_not_searched_again() -> None:
    CountedBytes.searched = 0
    wire = CountedBytes(b"x" * 1000)
    reader = LineReader()
    reader.receive_data(wire)
    for _ in range(1000):
        assert reader.next_line(2000) is None
        reader.receive_data(b"")
    assert CountedBytes.searched == len(wire)


@pytest.mark.parametrize("cut", CUTS)
def test_the_verb_of_a_dropped_line_is_known(cut: int) -> None:
    reader = LineReader()
    assert reader.dropped == b""
    assert feed(reader, b"NOOP\r\nBDAT 1" + b" " * 50, cut, 12) == [Line(b"NOOP", CRLF, False)]
    assert reader.dropped == b"BDAT 1      "
    assert feed(reader, b" x\r\nRSET" + b" " * 50 + b"\r\nQUIT\r\n", cut, 12) == [
        Line(b"", CRLF, True),
        Line(b"", CRLF, True),
        Line(b"QUIT", CRLF, False),
    ]
    assert reader.dropped == b"RSET        "


@pytest.mark.parametrize("cut", CUTS)
def test_a_dropped_line_leaves_no_more_than_its_start(cut: int) -> None:
    reader = LineReader()
    assert feed(reader, b"x" * 300 + b"\r\n", cut, 200) == [Line(b"", CRLF, True)]
    assert reader.dropped == b"x" * 128


def test_what_is_held_can_be_looked_at() -> None:
    reader = LineReader()
    assert reader.peek(4) == b""
    reader.receive_data(b"NOOP\r\nMA")
    reader.receive_data(b"IL")
    assert reader.peek(4) == b"NOOP"
    assert reader.next_line(100) is not None
    assert (reader.peek(3), reader.peek(9), len(reader)) == (b"MAI", b"MAIL", 4)
