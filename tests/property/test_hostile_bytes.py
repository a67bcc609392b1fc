"""No octet that a peer can send raises, holds a session past its deadline, or grows memory past its limits."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate import (
    Body,
    ClientConnection,
    ClientEvent,
    CloseReason,
    CommandRefused,
    DeliveryError,
    Flow,
    Limits,
    Noop,
    Phase,
    ServerConfig,
    ServerConnection,
    Timer,
    TlsMode,
    Violation,
)
from smtpstate._delivery import Envelope, Procedure, Wants, open_session, quit_session, send_message
from smtpstate_testing import ManualClock, Pair, accept_everything
from tests.property.wire import cuts

# Octets: noise, and what somebody would say, with noise in it.

_SAID_TO_A_SERVER: Final = (
    b"EHLO client.example.com\r\n",
    b"HELO [192.0.2.1]\r\n",
    b"MAIL FROM:<me@example.com> SIZE=100 BODY=8BITMIME\r\n",
    b'MAIL FROM:<"a \\" b"@[IPv6:2001:db8::1]>\r\n',
    b"MAIL FROM:<>\r\n",
    b"RCPT TO:<@a.example,@b.example:you@example.org>\r\n",
    b"RCPT TO:<Postmaster>\r\n",
    b"DATA\r\n",
    b"Subject: hello\r\n\r\n..\r\n.\r\n",
    b".\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"VRFY you\r\n",
    b"EXPN list\r\n",
    b"HELP\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"AUTH PLAIN AGEAYg==\r\n",
    b"BDAT 100 LAST\r\n",
)
_SAID_TO_A_CLIENT: Final = (
    b"220 mx.example.org ESMTP\r\n",
    b"250 mx.example.org\r\n",
    b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 STARTTLS\r\n",
    b"250-mx.example.org\r\n250 SIZE 99999999999999999999999\r\n",
    b"250 2.1.0 fine\r\n",
    b"250\r\n",
    b"250-\r\n250-\r\n250 \r\n",
    b"354 go on\r\n",
    b"221 bye\r\n",
    b"220 2.0.0 begin\r\n",
    b"421 4.3.2 later\r\n",
    b"450 4.2.0 busy\r\n",
    b"550-5.7.1 no\r\n550 5.7.1 no\r\n",
    b"554 no service\r\n",
    b"250-a\r\n550 b\r\n",
    b"199 hm\r\n",
)


# What means something somewhere, or must not be there at all.
_PUT: Final = tuple(bytes([octet]) for octet in b'\0\x80\xff\r\n\t <>"\\.@=-:5')


@st.composite
def mutated(draw: st.DrawFn, said: tuple[bytes, ...]) -> bytes:
    """A piece of a dialogue, perhaps with octets changed, lost, doubled or added."""
    data = b"".join(draw(st.lists(st.sampled_from(said), min_size=1, max_size=5)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        put = draw(st.one_of(st.sampled_from(_PUT), st.binary(max_size=4), st.just(data[start:end] * 2)))
        data = data[:start] + put + data[end:]
    return data


def octets(said: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    return st.one_of(mutated(said), st.binary(max_size=60), st.just(b"x" * 5000), st.just(b"\r\n" * 30))


# To the server.

Act: TypeAlias = Callable[[Pair], object]


def _lies_ahead(deadline: float | None, now: float) -> None:
    assert deadline is None or deadline > now


def _let_time_pass(seconds: float) -> Act:
    """Deadlines that come meanwhile are kept, as by a driver."""

    def act(pair: Pair) -> None:
        until = pair.clock.now + seconds
        while pair.server.deadline is not None and pair.server.deadline <= until:
            pair.jump()
            _lies_ahead(pair.server.deadline, pair.clock.now)
        pair.clock.jump_to(until)

    return act


def _turn(pair: Pair) -> None:
    pair.deaf = not pair.deaf


acts: st.SearchStrategy[Act] = st.one_of(
    octets(_SAID_TO_A_SERVER).map(lambda data: lambda pair: pair.talk(data)),
    octets(_SAID_TO_A_SERVER).map(lambda data: lambda pair: pair.talk(data)),
    st.floats(0, 400).map(_let_time_pass),
    st.sampled_from([Pair.jump, Pair.hang_up, Pair.lose, _turn]),
)
# Small enough for every limit to be met.
LIMITS: Final = Limits(message=200, recipients=2, errors=4, junk=6, unsent=300, command_line=120, linger=100)


@settings(max_examples=1000, deadline=None)
@given(acts=st.lists(acts, max_size=12), cut=cuts, small=st.booleans(), tls=st.sampled_from(["starttls", "implicit"]))
def test_nothing_a_client_sends_raises_or_holds_the_server(
    acts: list[Act], cut: int | list[int] | None, small: bool, tls: str
) -> None:
    pair = Pair(limits=LIMITS if small else None, cut=cut, tls=tls)  # type: ignore[arg-type]  # these are the literals
    pair.talk()
    for act in acts:
        act(pair)
        _lies_ahead(pair.server.deadline, pair.clock.now)
        assert (pair.server.deadline is None) is (pair.server.closed is not None)
    # Whatever it waits for, it does not wait for long: a deadline, and the linger.
    assert sum(pair.jump() for _ in range(20)) <= 2 + Limits().errors - Limits().soft_errors + 1, "late replies, too"
    assert pair.server.closed is not None
    assert pair.server.closed is pair.server_events[-1]


@settings(max_examples=500, deadline=None)
@given(data=octets(_SAID_TO_A_SERVER), cut=cuts, at=st.integers(0, 100))
def test_every_refused_line_is_answered_in_lines_of_legal_length(
    data: bytes, cut: int | list[int] | None, at: int
) -> None:
    """512 octets with CRLF, RFC 5321 section 4.5.3.1.5."""
    pair = Pair(cut=cut)
    said = pair.talk(data[:at]) + pair.talk(data[at:])
    assert said.endswith(b"\r\n")
    assert all(len(line) <= 510 for line in said.split(b"\r\n"))
    for event in pair.server_events:
        if isinstance(event, CommandRefused):
            assert event.reply.encode(enhanced=True) in said


# To the client.


class _Hostile:
    """Drives a client against fragments; when they are used up, the connection ends in one way or another."""

    def __init__(self, fragments: list[bytes], cut: int, end: str, *, implicit_tls: bool) -> None:
        self.clock = ManualClock()
        self.client = ClientConnection("client.example.com", clock=self.clock, implicit_tls=implicit_tls, timeout=3600)
        self.pieces = [data[at : at + cut] for data in fragments for at in range(0, len(data), cut)]
        self.end = end
        self.waits = 0

    def next_event(self) -> ClientEvent | Flow:
        while True:
            event = self.client.next_event()
            if not isinstance(event, Flow):
                return event
            while self.client.data_to_send():
                pass
            if event is Flow.NEED_COMMAND and not self.pieces:
                return event
            self.feed()

    def feed(self) -> None:
        client = self.client
        if self.pieces:
            client.receive_data(self.pieces.pop(0))
            return
        self.waits += 1
        assert self.waits <= 2, "a session that goes on without a peer"
        if self.end == "eof":
            client.receive_eof()
        elif self.end == "lost":
            client.connection_lost()
        else:
            assert client.deadline is not None
            self.clock.jump_to(client.deadline)
            client.handle_timeout()
            _lies_ahead(client.deadline, self.clock.now)

    def run(self, procedure: Procedure[object]) -> bool:
        """Whether it came to its end; it may say that there is no session."""
        body = [b"hello\r\n", b".\r\n"]
        try:
            wanted = next(procedure)
            while True:
                chunk = body.pop(0) if wanted is Wants.CHUNK and body else b""
                wanted = procedure.send(chunk if wanted is Wants.CHUNK else self.next_event())
        except StopIteration:
            return True
        except DeliveryError:
            return False


@settings(max_examples=800, deadline=None)
@given(
    fragments=st.lists(octets(_SAID_TO_A_CLIENT), max_size=12),
    honest=st.integers(0, 3),
    cut=st.sampled_from([1, 2, 3, 99, 100_000]),
    end=st.sampled_from(["eof", "lost", "timeout"]),
    mode=st.sampled_from(TlsMode),
)
def test_nothing_a_server_sends_raises_or_holds_the_client(
    fragments: list[bytes], honest: int, cut: int, end: str, mode: TlsMode
) -> None:
    beginning = [b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n", b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"][:honest]
    hostile = _Hostile([*beginning, *fragments], cut, end, implicit_tls=mode is TlsMode.IMPLICIT)
    if hostile.run(open_session(hostile.client, mode)):
        assert hostile.run(send_message(hostile.client, Envelope("me@example.com", ("a@example.org", "b@example.org"))))
    assert hostile.run(quit_session(hostile.client))
    assert hostile.client.closed is not None


# Memory.


def _held(act: Callable[[], object]) -> int:
    """Octets at the worst moment, over what was held before."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_line_that_never_ends_is_not_kept() -> None:
    pair = Pair()
    pair.talk()
    piece = b"x" * 65_536

    def attack() -> None:
        for _ in range(1024):  # 64 MiB
            assert pair.talk(piece) == b""

    assert _held(attack) < 1_000_000
    assert pair.talk(b"\r\n") == b"500 5.5.2 Line too long\r\n"
    pair.talk(b"MAIL")
    assert pair.jump()
    assert pair.server.closed is not None
    assert (pair.server.closed.timer, pair.clock.now) == (Timer.COMMAND, 300)


def test_a_body_without_a_newline_is_not_kept() -> None:
    """A Pair keeps what its server was sent, so this server has nobody around it."""
    server = ServerConnection(ServerConfig("mx.example.org", Limits(message=2**27)), clock=ManualClock())
    piece = b"x" * 65_536
    handed_on = 0

    def talk(data: bytes) -> None:
        nonlocal handed_on
        server.receive_data(data)
        while not isinstance(event := server.next_event(), Flow):
            if isinstance(event, Body):
                assert event.data is piece
                handed_on += 1
            accept_everything(server, event)
        while server.data_to_send():
            pass

    for said in (b"", b"EHLO c\r\n", b"MAIL FROM:<>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n"):
        talk(said)
    assert server.phase is Phase.BODY

    def attack() -> None:
        for _ in range(1024):
            talk(piece)

    assert _held(attack) < 1_000_000
    assert handed_on == 1024


@pytest.mark.parametrize("piece", [b"250-" + b"x" * 60 + b"\r\n", b"2" * 64])
def test_a_reply_that_never_ends_is_not_kept(piece: bytes) -> None:
    client = ClientConnection("client.example.com", clock=ManualClock())
    data = piece * 1024

    def attack() -> None:
        for _ in range(1024):
            client.receive_data(data)
            client.next_event()

    assert _held(attack) < 1_000_000


def test_replies_that_nobody_reads_stop_the_server() -> None:
    limits = Limits(junk=1_000_000)
    pair = Pair(limits=limits)
    pair.talk()
    pair.deaf = True
    pair.talk(b"NOOP\r\n" * 100_000)
    answered = sum(isinstance(event, Noop) for event in pair.server_events)
    reply = b"250 2.0.0 OK\r\n"
    assert limits.unsent < answered * len(reply) <= limits.unsent + len(reply)
    assert pair.jump()
    assert pair.clock.now == 300
    assert pair.jump()  # the linger: the last word was not read either
    assert pair.clock.now == 302
    assert pair.server.closed is not None
    assert (pair.server.closed.reason, pair.server.closed.timer) == (CloseReason.TIMEOUT, Timer.COMMAND)


def test_a_peer_that_reads_again_gets_every_reply_once() -> None:
    pair = Pair(limits=Limits(junk=1_000_000, commands=1_000_000))
    pair.talk()
    pair.deaf = True
    pair.talk(b"NOOP\r\n" * 100_000)
    pair.deaf = False
    assert pair.talk() == b"250 2.0.0 OK\r\n" * 100_000


def test_commands_that_bring_no_mail_nearer_end_the_session() -> None:
    pair = Pair()
    pair.talk(b"NOOP\r\n" * 100_000)
    while pair.server.closed is None:
        pair.jump()  # to the reply that is late
    assert pair.server.closed.violation is Violation.TOO_MUCH_JUNK
    assert pair.clock.now == 11, "a second for each reply that is late"
    assert pair.received.endswith(b"421 4.7.0 Too many commands without a message\r\n")
    assert pair.received.count(b"\n") == 122
