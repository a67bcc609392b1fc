"""Output, alone."""

import tracemalloc

import pytest

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


def test_what_is_held_back_waits_and_what_came_before_does_not() -> None:
    output = Output()
    output.put(b"250 1\r\n")
    output.hold()
    assert output.holds
    output.put(b"500 2\r\n")
    assert output.size == 14
    assert not output.has_left
    assert output.take() == b"250 1\r\n"
    assert not output.has_left, "who says so?"
    assert output.take() == b""
    assert output.size == 7, "it is still to leave"
    assert output.has_left, "but for what is held back"
    output.release()
    assert not output.holds
    output.put(b"250 3\r\n")
    assert output.take() == b"500 2\r\n250 3\r\n"


def test_what_is_held_back_is_cleared_too() -> None:
    output = Output()
    output.hold()
    output.put(b"500 2\r\n")
    output.clear()
    assert (output.size, output.holds, output.take()) == (0, False, b"")


@pytest.mark.parametrize("most", [1, 3, 4, 7, 10, 11])
def test_no_more_than_is_asked_for_is_taken(most: int) -> None:
    output = Output()
    for piece in (b"0123", b"4", b"56789"):
        output.put(piece)
    taken: list[bytes] = []
    while piece := output.take(most):
        assert output.in_flight == len(piece)
        taken.append(piece)
    assert [len(piece) for piece in taken[:-1]] == [most] * (len(taken) - 1)
    assert b"".join(taken) == b"0123456789"
    assert output.size == 0


def test_the_rest_of_a_piece_is_taken_with_what_follows() -> None:
    output = Output()
    output.put(b"0123")
    assert output.take(3) == b"012"
    output.put(b"45")
    assert output.take() == b"345"
    output.put(b"0123")
    assert output.take(3) == b"012"
    output.clear()
    output.put(b"4")
    assert output.take() == b"4"


def test_a_large_piece_is_cut_in_linear_time() -> None:
    output = Output()
    output.put(bytes(4_000_000))
    tracemalloc.start()
    try:
        pieces = sum(1 for _ in iter(lambda: output.take(1000), b""))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pieces == 4000
    assert peak < 100_000, "what is left of it is never made anew"
