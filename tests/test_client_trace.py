"""The client's seat tells what is said, and what comes of it."""

from __future__ import annotations

from smtpstate._client import ClientConnection
from smtpstate._commands import Auth, AuthResponse, Ehlo, Quit, Verb
from smtpstate._events import Flow, Timer, TraceLine
from smtpstate._replies import Reply
from smtpstate._state import Phase
from smtpstate._trace import TraceBudget, TracePhase, TraceRecord, TraceVerdict
from tests.scripted_server import ManualClock


def seat() -> tuple[ClientConnection, list[TraceRecord], ManualClock]:
    clock, records = ManualClock(), list[TraceRecord]()
    return ClientConnection("me.example", clock=clock, trace=records.append), records, clock


def hear(client: ClientConnection, data: bytes) -> None:
    while client.data_to_send():
        pass
    client.receive_data(data)
    while not isinstance(event := client.next_event(), Flow) and event is not client.closed:
        pass


def test_what_is_said_is_told_and_what_comes_of_it() -> None:
    client, records, _ = seat()
    hear(client, b"220-hello\r\n220 there\r\n")
    client.send(Ehlo("me.example"))
    hear(client, b"250-mx.example\r\n250 AUTH LOGIN\r\n")
    client.send(Auth("LOGIN"))
    hear(client, b"334 \r\n")
    client.send(AuthResponse(b"secret"))
    hear(client, b"535 5.7.8 No\r\n")
    client.send(Quit())
    hear(client, b"221 2.0.0 Bye\r\n")
    assert records == [
        TraceLine("S", b"220-hello\r\n220 there\r\n"),
        TraceVerdict(Verb.CONNECT, Reply(220, "hello", "there")),
        TracePhase(Phase.GREETED),
        TraceLine("C", b"EHLO me.example"),
        TraceLine("S", b"250-mx.example\r\n250 AUTH LOGIN\r\n"),
        TraceVerdict(Verb.EHLO, Reply(250, "mx.example", "AUTH LOGIN")),
        TracePhase(Phase.READY),
        TraceLine("C", b"AUTH LOGIN"),
        TraceLine("S", b"334 \r\n"),
        TraceVerdict(Verb.AUTH, Reply(334, "")),
        TracePhase(Phase.AUTH),
        TraceLine("C", b"***"),
        TraceLine("S", b"535 5.7.8 No\r\n"),
        TraceVerdict(Verb.RESPONSE, Reply(535, "No", enhanced="5.7.8")),
        TracePhase(Phase.READY),
        TraceLine("C", b"QUIT"),
        TraceLine("S", b"221 2.0.0 Bye\r\n"),
        TraceVerdict(Verb.QUIT, Reply(221, "Bye", enhanced="2.0.0")),
        TracePhase(Phase.CLOSED),
    ]


def test_a_budget_that_is_spent_is_told() -> None:
    client, records, clock = seat()
    client.next_event()
    assert client.deadline is not None
    clock.now = client.deadline
    client.handle_timeout()
    assert records == [TraceBudget(Timer.GREETING), TracePhase(Phase.CLOSED)]
