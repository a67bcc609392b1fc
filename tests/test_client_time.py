"""ClientConnection: how long it waits for what, on a clock that is set by hand."""

import pytest

from smtpstate._budget import Limits
from smtpstate._client import ClientConnection
from smtpstate._commands import Bdat, Data, Ehlo, EndOfMessage, Mail, Noop, Quit, Rcpt, Rset, StartTls
from smtpstate._events import Body, CloseReason, ConnectionClosed, Flow, ReplyReceived, Timer
from tests.scripted_server import HELLO, TLS, Item, ManualClock, Wire

GREETING = (b"", b"220 mx.example\r\n")
OFFERS = (HELLO, b"250-mx.example\r\n250-STARTTLS\r\n250 PIPELINING\r\n")
ME, YOU = Mail.of("me@me.example"), Rcpt.of("you@mx.example")
MAIL = (b"MAIL FROM:<me@me.example>\r\n", b"250 ok\r\n")
TO_YOU = (b"RCPT TO:<you@mx.example>\r\n", b"250 ok\r\n")
GO = (b"DATA\r\n", b"354 go\r\n")


def timed_out(timer: Timer) -> ConnectionClosed:
    return ConnectionClosed(CloseReason.TIMEOUT, timer=timer)


WAITS: list[tuple[str, list[tuple[bytes, bytes]], list[Item], float, Timer]] = [
    ("RFC 5321 section 4.5.3.2.1, the greeting", [], [], 300, Timer.GREETING),
    ("4.5.3.2.7, as any command", [GREETING], [Ehlo("me.example")], 300, Timer.COMMAND),
    ("4.5.3.2.2, MAIL", [GREETING, OFFERS], [Ehlo("me.example"), ME], 300, Timer.COMMAND),
    ("4.5.3.2.3, RCPT", [GREETING, OFFERS, MAIL], [Ehlo("me.example"), ME, YOU], 300, Timer.COMMAND),
    ("4.5.3.2.4, DATA", [GREETING, OFFERS, MAIL, TO_YOU], [Ehlo("me.example"), ME, YOU, Data()], 120, Timer.DATA),
    (
        "4.5.3.2.6, the end of the message",
        [GREETING, OFFERS, MAIL, TO_YOU, GO],
        [Ehlo("me.example"), ME, YOU, Data(), Body(b"x"), EndOfMessage()],
        600,
        Timer.END,
    ),
    ("STARTTLS, as any command", [GREETING, OFFERS], [Ehlo("me.example"), StartTls()], 300, Timer.COMMAND),
    ("RSET, as any command", [GREETING, OFFERS], [Ehlo("me.example"), Rset()], 300, Timer.COMMAND),
    ("QUIT, as any command", [GREETING, OFFERS], [Ehlo("me.example"), Quit()], 300, Timer.COMMAND),
]


@pytest.mark.parametrize(("reason", "script", "items", "seconds", "timer"), WAITS)
def test_each_wait_ends_to_the_second(
    reason: str, script: list[tuple[bytes, bytes]], items: list[Item], seconds: float, timer: Timer
):
    wire = Wire(script)
    events = wire.events() + wire.say(*items)
    assert events[-1] == timed_out(timer), reason
    assert wire.clock.now == 1000 + seconds
    assert wire.client.broken is CloseReason.TIMEOUT
    assert wire.client.deadline is None


def test_a_timeout_that_comes_early_does_nothing():
    clock = ManualClock()
    client = ClientConnection("me.example", clock=clock)
    assert client.deadline is None, "nobody waits yet"
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == 1300
    clock.now = 1299.9
    client.handle_timeout()
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == 1300, "asking again grants nothing"
    clock.now = 1300
    client.handle_timeout()
    assert client.next_event() == timed_out(Timer.GREETING)


@pytest.mark.parametrize("reply", [b"220 mx.example\r\n", b"220-mx.example\r\n" * 20])
def test_octets_that_drip_earn_no_time(reply: bytes):
    clock = ManualClock()
    client = ClientConnection("me.example", clock=clock)
    client.next_event()
    for octet in reply * 2:
        clock.now += 30
        client.receive_data(bytes((octet,)))
        if isinstance(client.next_event(), ConnectionClosed):
            break
    assert client.closed == timed_out(Timer.GREETING)
    assert clock.now == 1300


def test_octets_that_come_after_the_deadline_are_too_late():
    clock = ManualClock()
    client = ClientConnection("me.example", clock=clock)
    client.next_event()
    clock.now = 1300
    client.receive_data(b"220 mx.example\r\n")
    assert client.next_event() == timed_out(Timer.GREETING)


def test_each_pipelined_reply_has_its_own_time():
    wire = Wire([GREETING, OFFERS]).open()
    client, clock = wire.client, wire.clock
    for command in (ME, YOU, Data()):
        client.send(command)
    client.data_to_send()
    for seconds in (300, 300, 120):
        assert client.next_event() is Flow.NEED_DATA
        assert client.deadline == clock.now + seconds
        clock.now += 100
        client.receive_data(b"250 ok\r\n" if seconds == 300 else b"354 go\r\n")
        assert isinstance(client.next_event(), ReplyReceived)
    assert client.next_event() is Flow.NEED_COMMAND
    assert client.deadline is None


def test_asking_for_more_gives_the_oldest_reply_no_more_time():
    wire = Wire([GREETING, OFFERS]).open()
    client, clock = wire.client, wire.clock
    client.send(ME)
    assert client.next_event() is Flow.NEED_DATA
    deadline = clock.now + 300
    clock.now += 200
    client.send(YOU)
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == deadline


def test_our_own_time_is_not_charged_to_the_peer():
    wire = Wire([GREETING, OFFERS]).open()
    client, clock = wire.client, wire.clock
    client.send(ME)
    client.send(YOU)
    client.data_to_send()
    client.receive_data(b"250 ok\r\n")
    client.next_event()
    clock.now += 10_000  # somebody thinks about the reply
    assert client.deadline is None
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == clock.now + 300


def open_body(wire: Wire) -> ClientConnection:
    wire.open().say(ME, YOU, Data())
    return wire.client


def test_a_server_that_does_not_read_the_body_is_left():
    wire = Wire([GREETING, OFFERS, MAIL, TO_YOU, GO])
    client, clock = open_body(wire), wire.clock
    client.send(Body(b"x" * 1000))
    assert client.next_event() is Flow.NEED_COMMAND
    assert client.data_to_send() == b"x" * 1000  # and then the transport takes no more
    assert client.deadline == clock.now + 180, "RFC 5321 section 4.5.3.2.5"
    clock.now += 180
    client.handle_timeout()
    assert client.next_event() == timed_out(Timer.BODY)
    assert client.broken is CloseReason.TIMEOUT


def test_a_body_has_one_budget_and_once_a_piece_has_left_there_is_no_hurry():
    wire = Wire([GREETING, OFFERS, MAIL, TO_YOU, GO, (b"\r\n.\r\n", b"250 ok\r\n")])
    client, clock = open_body(wire), wire.clock
    for left in (180, 120 + 1 / 500, 60 + 2 / 500):
        client.send(Body(b"x"))
        assert client.next_event() is Flow.NEED_COMMAND
        assert client.deadline == pytest.approx(clock.now + left), "an octet earns 1/500 s"
        clock.now += 60
        assert client.data_to_send() == b"x"
        assert client.data_to_send() == b"", "it has left"
        assert client.deadline is None, "now it is we who are slow"
        clock.now += 1000
        client.handle_timeout()
        assert client.can_send_body
    assert isinstance(wire.say(EndOfMessage())[-1], ReplyReceived)


def leave(client: ClientConnection, clock: ManualClock, rate: float) -> int:
    """All that waits leaves at so many octets a second, until the client has had enough; how many have left."""
    left = 0
    while True:
        while not isinstance(event := client.next_event(), Flow):
            if isinstance(event, ConnectionClosed):
                return left
        piece = client.data_to_send()
        if not piece:
            return left
        then = clock.now + len(piece) / rate
        if client.deadline is not None and client.deadline <= then:
            clock.now = client.deadline
            client.handle_timeout()
            return left
        clock.now = then
        left += len(piece)


@pytest.mark.parametrize(("rate", "cut"), [(5000.0, False), (510.0, False), (50.0, True)])
def test_a_dot_that_was_given_early_waits_for_its_body(rate: float, cut: bool):
    wire = Wire([GREETING, OFFERS, MAIL, TO_YOU, GO])
    client, clock = open_body(wire), wire.clock
    start = clock.now
    client.send(Body(b"x" * 1_000_000))
    client.send(EndOfMessage())
    left = leave(client, clock, rate)
    if cut:
        assert client.closed == timed_out(Timer.BODY)
        assert clock.now == start + 180
    else:
        assert left == 1_000_005
        assert client.next_event() is Flow.NEED_DATA
        assert client.deadline == pytest.approx(clock.now + 600), "RFC 5321 section 4.5.3.2.6, from when it has left"


CHUNKING = (HELLO, b"250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n")


def test_a_message_in_chunks_has_one_budget():
    wire = Wire([GREETING, CHUNKING, MAIL, TO_YOU]).open()
    wire.say(ME, YOU)
    client, clock = wire.client, wire.clock
    for spent in (100.0, 60.0, 20.0):
        client.send(Bdat(5))
        client.send(Body(b"12345"))
        client.next_event()
        while client.data_to_send():
            pass
        clock.now += spent  # in the reply, which has a budget of its own
        client.receive_data(b"250 ok\r\n")
        assert isinstance(client.next_event(), ReplyReceived)
    client.send(Bdat(5))
    client.send(Body(b"12345"))
    client.next_event()
    clock.now += 100
    assert client.data_to_send()
    assert client.deadline == pytest.approx(clock.now + 80 + 30 / 500, abs=0.1)


def test_in_lmtp_an_older_answer_leaves_the_body_its_budget():
    script = [(b"", b"220 mx.example\r\n"), (b"LHLO me.example\r\n", CHUNKING[1]), MAIL, TO_YOU, TO_YOU]
    wire = Wire(script, lmtp=True).open()
    wire.say(ME, YOU, YOU)
    client, clock = wire.client, wire.clock
    client.send(Bdat(0, last=True))
    for item in (ME, YOU, Bdat(1_000_000)):
        client.send(item)
    client.send(Body(b"x" * 1_000_000))
    client.next_event()
    assert client.data_to_send()
    deadline = client.deadline
    client.receive_data(b"250 ok\r\n")  # of two
    assert isinstance(client.next_event(), ReplyReceived)
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == deadline == clock.now + 180


@pytest.mark.parametrize(("wait", "reason"), [(0.0, "the greeting"), (200.0, "in the middle")])
def test_the_total_timeout_bounds_everything(wait: float, reason: str):
    wire = Wire([GREETING, OFFERS] if wait else [], timeout=250)
    if wait:
        wire.open()
        wire.clock.now += wait
        wire.client.send(Noop())
    assert wire.client.deadline == 1250
    assert wire.events()[-1] == timed_out(Timer.SESSION), reason
    assert wire.clock.now == 1250


def test_the_total_timeout_runs_while_nothing_is_outstanding():
    wire = Wire([GREETING, OFFERS], timeout=100).open()
    assert wire.client.next_event() is Flow.NEED_COMMAND
    wire.clock.now = 1100
    wire.client.handle_timeout()
    assert wire.client.next_event() == timed_out(Timer.SESSION)
    assert not wire.client.send(Noop())


@pytest.mark.parametrize("implicit", [True, False])
def test_a_handshake_has_its_own_time(implicit: bool):
    clock = ManualClock()
    client = ClientConnection("me.example", clock=clock, implicit_tls=implicit)
    if not implicit:
        client.receive_data(b"220 mx\r\n")
        client.next_event()
        client.send(Ehlo("me.example"))
        client.data_to_send()
        client.receive_data(b"250-mx\r\n250 STARTTLS\r\n")
        client.next_event()
        client.next_event()
        client.send(StartTls())
        client.data_to_send()
        client.receive_data(b"220 go\r\n")
        client.next_event()
    assert client.next_event() is Flow.NEED_TLS
    assert client.deadline == 1060
    clock.now = 1060
    client.handle_timeout()
    assert client.next_event() == timed_out(Timer.HANDSHAKE)


def test_after_the_implicit_handshake_the_greeting_has_its_time():
    clock = ManualClock()
    client = ClientConnection("me.example", clock=clock, implicit_tls=True)
    assert client.next_event() is Flow.NEED_TLS
    clock.now += 50
    client.tls_established(TLS)
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == clock.now + 300


def test_the_limits_are_the_callers():
    wire = Wire([], limits=Limits(greeting_seconds=7))
    assert wire.events() == [timed_out(Timer.GREETING)]
    assert wire.clock.now == 1007
