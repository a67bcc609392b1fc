"""Output, alone."""

from smtpstate._output import Output


def test_one_piece_comes_out_as_the_same_object() -> None:
    output = Output()
    piece = b"250 OK\r\n"
    output.put(piece)
    assert output.take() is piece


def test_a_group_of_pieces_leaves_in_one() -> None:
    output = Output()
    output.put(b"250 1\r\n")
    output.put(b"250 2\r\n")
    assert output.take() == b"250 1\r\n250 2\r\n"


def test_nothing_queued_is_nothing_to_take() -> None:
    assert Output().take() == b""


def test_octets_count_until_the_next_piece_is_asked_for() -> None:
    output = Output()
    output.put(b"12345")
    assert output.size == 5
    output.take()
    assert output.size == 5, "taken, but who says that they have left?"
    output.put(b"67")
    assert output.size == 7
    assert output.take() == b"67"
    assert output.size == 2
    assert output.take() == b""
    assert output.size == 0


def test_what_is_cleared_is_gone() -> None:
    output = Output()
    output.put(b"1")
    output.take()
    output.put(b"2")
    output.clear()
    assert output.size == 0
    assert output.take() == b""
