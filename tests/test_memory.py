"""What a session holds does not grow with what its peer sends, or does not read. tests/property has more of these."""

from __future__ import annotations

import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from smtpstate import (
    Body,
    ClientConnection,
    EndOfMessage,
    Flow,
    Limits,
    Noop,
    Reply,
    ServerConnection,
    ServerEvent,
    Violation,
)
from tests.helpers import Handler, ManualClock, accept_all, codes, in_transaction, ready

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
MANY = 10**9


@contextmanager
def flat(peak: int) -> Iterator[None]:
    """No more than 64 KiB are held afterwards, and never more than `peak` octets meanwhile."""
    tracemalloc.start()
    try:
        yield
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 65_536
    assert most < peak


class Forgetful(list[ServerEvent]):
    """Keeps the end of a message, and no other event."""

    def append(self, event: ServerEvent, /) -> None:
        if isinstance(event, EndOfMessage):
            super().append(event)


def refuse(connection: ServerConnection, event: ServerEvent) -> None:
    """Takes nothing, once the message has begun."""
    if isinstance(event, Body):
        connection.refuse(Reply(554, "No", enhanced="5.7.1"))
    else:
        accept_all(connection, event)


@pytest.mark.parametrize(
    ("mib", "opening", "piece", "end", "handler", "size", "reason"),
    [
        (2048, b"DATA\r\n", b"x" * 62 + b"\r\n", b".\r\n", accept_all, 2048 * MIB, "2 GiB of lines"),
        (128, b"DATA\r\n", b"x" * 62 + b"\r\n", b".\r\n", refuse, None, "lines of a message that was refused"),
        (128, b"DATA\r\n", b"..\r\n", b".\r\n", accept_all, 96 * MIB, "lines that are stuffed"),
        (128, b"DATA\r\n", b"x" * 64, b"\r\n.\r\n", accept_all, 128 * MIB + 2, "a line without an end"),
        (128, b"BDAT 134217728 LAST\r\n", b"x" * 64, b"", accept_all, 128 * MIB, "one chunk"),
    ],
)
def test_a_large_message_is_not_held(
    mib: int, opening: bytes, piece: bytes, end: bytes, handler: Handler, size: int | None, reason: str
) -> None:
    seat = in_transaction(limits=Limits(message=1 << 40))
    seat.handler = handler
    seat.events = Forgetful()
    seat.say(opening)
    block = piece * (MIB // len(piece))
    answers = b""
    with flat(peak=4 * MIB):
        for _ in range(mib):
            answers += seat.say(block)
    answers += seat.say(end)
    assert codes(answers) == [554 if size is None else 250], reason
    assert [event.size for event in seat.events if isinstance(event, EndOfMessage)] == ([] if size is None else [size])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"RCPT TO:<a@b.example>\r\n", "recipients above the limit"),
        (b"RCPT TO:<a@b.example> X=1\r\n", "parameters that nobody offers"),
        (b"BDAT 1\r\nx", "chunks out of order"),
        (b"AUTH PLAIN !\r\n", "AUTH that is not offered"),
        (b"\r\n", "empty lines"),
    ],
)
def test_endless_lines_are_not_held(line: bytes, reason: str) -> None:
    limits = Limits(commands=MANY, errors=MANY, soft_errors=MANY, recipients=1, recipient_overshoot=MANY)
    seat = ready(limits=limits)
    seat.say(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n")
    seat.events = Forgetful()
    block = line * 500
    with flat(peak=MIB):
        for _ in range(20):
            assert len(codes(seat.say(block))) >= 500, reason
            seat.traced.clear()
            seat.records.clear()


def test_a_reply_without_an_end_is_not_held() -> None:
    client = ClientConnection("me.example", clock=ManualClock())
    client.receive_data(b"220 mx.example\r\n")
    while not isinstance(client.next_event(), Flow):
        pass
    client.send(Noop())
    client.data_to_send()
    with flat(peak=MIB):
        for _ in range(10_000):
            client.receive_data(b"250-still here\r\n")
            client.next_event()
    assert client.closed is not None
    assert client.closed.violation is Violation.REPLY_TOO_LONG
