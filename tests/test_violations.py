"""Every violation, from either side, whole and cut: what is answered, and how it ends."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import pytest

import smtpstate._client
import smtpstate._listening
from smtpstate import (
    Auth,
    ClientConnection,
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    Flow,
    Noop,
    ReplyReceived,
    ServerConnection,
    ServerEvent,
    TlsInfo,
    Violation,
)
from smtpstate._events import FAULT_VIOLATIONS
from smtpstate.policy import EarlyInput
from smtpstate_testing import accept_everything
from tests.helpers import ManualClock, Seat
from tests.violations import CLIENT_ROWS, ROWS, SERVER_ROWS, ClientRow, Item, ServerRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smtpstate import ClientEvent

CUTS = (1, 2, 3, 99, 10_000)
MORE = b"QUIT\r\nMAIL FROM:<more@c.example>\r\n"


def name(row: ServerRow | ClientRow) -> str:
    same = [other for other in ROWS if type(other) is type(row) and other.violation is row.violation]
    return row.violation.name + (f"-{same.index(row) + 1}" if len(same) > 1 else "")


def pieces(octets: bytes, cut: int) -> Iterator[bytes]:
    return (octets[start : start + cut] for start in range(0, len(octets), cut))


def handler(connection: ServerConnection, event: ServerEvent) -> None:
    """Takes all mail, and lets nobody log in."""
    if isinstance(event, Auth) and event.initial_response is None:
        connection.challenge(b"")
    else:
        accept_everything(connection, event)


# The table itself.


def test_every_violation_has_a_row() -> None:
    assert {row.violation for row in ROWS} == set(Violation)


def test_a_seat_has_a_row_for_every_violation_that_its_code_names() -> None:
    """Both seats where both can meet it: what the client's modules name, and what is no fault of a reply."""
    source = inspect.getsource(smtpstate._client) + inspect.getsource(smtpstate._listening)
    named = {Violation[found] for found in re.findall(r"\bViolation\.([A-Z_]+)", source)}
    faults = {violation for fault, violation in FAULT_VIOLATIONS.items() if fault.name.startswith("REPLY_")}
    assert {row.violation for row in CLIENT_ROWS} == named | faults
    assert {row.violation for row in SERVER_ROWS} >= set(Violation) - named - faults


def test_rows_stand_in_the_order_of_the_enum_and_say_why() -> None:
    order = list(Violation)
    for seat in (ServerRow, ClientRow):
        places = [order.index(row.violation) for row in ROWS if isinstance(row, seat)]
        assert places == sorted(places)
    for row in ROWS:
        assert row.why, row.violation
        assert not row.why.endswith(".")
        assert row.violation.value, "each has its section"


# What a client does to our server.


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("row", SERVER_ROWS, ids=name)
def test_a_client_that_breaks_the_rules(row: ServerRow, cut: int) -> None:
    # What comes in one piece is early input; but for the rows that are about that, it is a matter of the cut.
    early_input = EarlyInput.FORBID if row.burst or not row.greeted else EarlyInput.NOTE
    seat = Seat(row.config, handler=handler, greet=row.greeted, early_input=early_input)
    for line in row.said:
        seat.say(line)
    seat.events.clear()
    answer = b""
    for piece in pieces(row.wire, cut):
        if row.burst or not row.greeted:
            seat.connection.receive_data(piece)
        else:
            answer += seat.say(piece)
    answer += seat.settle()
    assert answer == row.answer
    if row.closes:
        assert seat.connection.half_close
        assert seat.say(MORE) == b"", "nothing that follows is heard"
        seat.connection.receive_eof()
        assert seat.pull() == ConnectionClosed(CloseReason.VIOLATION, row.violation)
    else:
        assert [event.violation for event in seat.events if isinstance(event, CommandRefused)] == [row.violation]
        assert seat.connection.closed is None
        assert seat.say(b"NOOP\r\n") == b"250 2.0.0 OK\r\n", "the session is in step"


# What a server does to our client.


def talk(client: ClientConnection, item: Item | TlsInfo) -> None:
    if isinstance(item, TlsInfo):
        client.tls_established(item)
    else:
        client.send(item)
        while client.data_to_send():
            pass


def pulled(client: ClientConnection) -> list[ClientEvent]:
    """The events that are there."""
    events: list[ClientEvent] = []
    while not isinstance(event := client.next_event(), Flow):
        events.append(event)
        if isinstance(event, ConnectionClosed):
            break
    return events


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("row", CLIENT_ROWS, ids=name)
def test_a_server_that_breaks_the_rules(row: ClientRow, cut: int) -> None:
    client = ClientConnection("me.example", clock=ManualClock())
    client.receive_data(b"220 mx.example\r\n")
    pulled(client)
    for item, reply in row.said:
        talk(client, item)
        client.receive_data(reply)
        pulled(client)
    for item in row.asked:
        if row.early:
            client.send(item)
        else:
            talk(client, item)
    events: list[ClientEvent] = []
    for piece in pieces(row.wire, cut):
        client.receive_data(piece)
        if client.closed is None and not row.early:
            events += pulled(client)
    if row.early:
        assert client.data_to_send() == b""
    events = events if client.closed in events else events + pulled(client)
    assert [event.reply.code for event in events if isinstance(event, ReplyReceived)] == list(row.told)
    assert events[-1] == ConnectionClosed(CloseReason.VIOLATION, row.violation)
    assert client.broken is CloseReason.VIOLATION
    assert client.half_close
    assert not client.send(Noop()), "nothing more is said"
    client.receive_data(MORE)
    assert client.data_to_send() == b""
    assert pulled(client) == events[-1:]
