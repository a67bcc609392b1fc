"""Whatever somebody in between puts around STARTTLS, in either direction, nothing of it means anything in TLS.

A client sends a message to a server, over STARTTLS with real TLS in memory. Somebody adds octets to what they say, in
clear, anywhere before, within or after the handshake. What either of them makes of what comes after the handshake is
then what it would have been without, to the end or to where the session is closed.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate import (
    Body,
    CloseReason,
    ConnectionClosed,
    EndOfMessage,
    ReplyReceived,
    ResetCause,
    StartTls,
    TransactionReset,
    Violation,
)
from smtpstate.policy import Leftover
from tests import tls_peers
from tests.property.wire import cuts
from tests.tls_peers import TEXT, VERSIONS, Clock, Side, client_side, server_side

if TYPE_CHECKING:
    from ssl import SSLContext, TLSVersion

EHLO: Final = len(b"EHLO c.example.com\r\n")
STARTTLS: Final = EHLO + len(b"STARTTLS\r\n")


class Added(NamedTuple):
    """Octets that somebody adds to a direction, once that many of its own have passed.

    `glued`: they are read together with what stood before them, and not only after all of that was dealt with.
    """

    to_server: bool
    after: int
    octets: bytes
    glued: bool


class Client(tls_peers.Client):
    """One that does not go on in clear where STARTTLS was refused."""

    def react(self, event: object) -> None:
        if isinstance(event, ReplyReceived) and event.to == StartTls() and event.reply.code != 220:
            self.script.clear()


class Between:
    """Whoever is in between, in one direction."""

    def __init__(self, added: list[Added]) -> None:
        self._added = sorted(added, key=lambda one: one.after)
        self._passed = 0

    def passes(self, data: bytes) -> list[bytes]:
        """What is read instead of `data`, one entry for each read."""
        reads, start, end = [b""], self._passed, self._passed + len(data)
        for one in [one for one in self._added if one.after <= end]:
            self._added.remove(one)
            reads[-1] += data[self._passed - start : max(one.after, self._passed) - start]
            self._passed = max(one.after, self._passed)
            if one.glued:
                reads[-1] += one.octets
            else:
                reads += [one.octets, b""]
        reads[-1] += data[self._passed - start :]
        self._passed = end
        return [read for read in reads if read]


class Outcome(NamedTuple):
    """What came after the handshake, of both sides, bodies octet by octet; and how it ended."""

    server: tuple[object, ...]
    client: tuple[object, ...]
    server_closed: ConnectionClosed | None
    client_closed: ConnectionClosed | None


class Watched:
    """A side, and what it made of what came after its handshake."""

    def __init__(self, side: tls_peers.Server | Client, added: list[Added]) -> None:
        self.side: Side = side
        self.connection = side.connection
        self.between = Between(added)  # the direction in which this one reads
        self.in_clear = 0  # events before the handshake

    def look(self) -> None:
        """Pulls; events that came while TLS was not there yet are not looked at."""
        self.side.pull()
        if self.connection.tls is None:
            self.in_clear = len(self.side.events)

    def feed(self, data: bytes, sizes: list[int], *, eagerly: bool) -> None:
        for read in self.between.passes(data):
            start, sizes_left = 0, sizes or [len(read)]
            while start < len(read):
                size, sizes_left = sizes_left[0], [*sizes_left[1:], sizes_left[0]]
                self.side.machine.receive_data(read[start : start + size])
                start += size
                if eagerly:
                    self.look()
            self.look()

    @property
    def made(self) -> tuple[object, ...]:
        flat: list[object] = []
        for event in self.side.events[self.in_clear :]:
            if isinstance(event, Body):
                flat += event.data
            elif event != TransactionReset(ResetCause.CLOSED) and not isinstance(event, ConnectionClosed):
                flat.append(event)
        return tuple(flat)


def talk(
    leftover: Leftover,
    version: TLSVersion,
    added: tuple[Added, ...] = (),
    sizes: tuple[int, ...] = (),
    *,
    eagerly: bool = False,
) -> Outcome:
    """The whole session, to its end."""
    clock, (of_server, of_client) = Clock(), contexts(version)
    script = tls_peers.message(implicit=False)
    server = Watched(
        tls_peers.Server(of_server, clock=clock, leftover=leftover), [one for one in added if one.to_server]
    )
    client = Watched(
        Client(*script, context=of_client, clock=clock, leftover=leftover),
        [one for one in added if not one.to_server],
    )
    sides = ((server, client), (client, server))
    while True:
        moved = False
        for one, other in sides:
            one.look()
            while wire := one.side.drain():
                other.feed(wire, list(sizes), eagerly=eagerly)
                moved = True
                one.look()
            if one.side.machine.half_close and not one.side.shut:
                one.side.shut = moved = True
                other.side.machine.receive_eof()
        if not moved:
            deadlines = [deadline for one, _ in sides if (deadline := one.side.machine.deadline) is not None]
            if not deadlines:
                return Outcome(server.made, client.made, server.side.closed, client.side.closed)
            clock.now = max(clock.now, min(deadlines))
            for one, _ in sides:
                one.side.machine.handle_timeout()


@cache
def contexts(version: TLSVersion) -> tuple[SSLContext, SSLContext]:
    """A server's and a client's that agree on this version."""
    return server_side(minimum_version=version, maximum_version=version), client_side()


@cache
def undisturbed(leftover: Leftover, version: TLSVersion) -> Outcome:
    return talk(leftover, version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("leftover", Leftover)
def test_undisturbed_the_message_arrives(leftover: Leftover, version: TLSVersion) -> None:
    outcome = undisturbed(leftover, version)
    assert bytes(octet for octet in outcome.server if isinstance(octet, int)) == TEXT
    assert any(isinstance(event, EndOfMessage) for event in outcome.server)
    assert [closed and closed.reason for closed in outcome[2:]] == [CloseReason.QUIT, CloseReason.QUIT]


EVIL: Final = (
    b"RSET\r\n",
    b"NOOP\r\nNOOP\r\n",
    b"EHLO evil.example\r\nMAIL FROM:<evil@evil.example>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n",
    b"MAIL FROM:<evil@evil.example>\r\n",
    b"QUIT\r\n",
    b"STARTTLS\r\n",
    b"EHLO ev",
    b"250-mx.example.org\r\n250-AUTH PLAIN\r\n250 SIZE\r\n",
    b"220 go ahead\r\n",
    b"250 OK\r\n",
    b"421 bye\r\n",
    b"250-",
    b"\r\n",
    b"\n",
    b"\x16\x03\x01\x00\x05hello",  # a record of the handshake
    b"\x15\x03\x03\x00\x02\x01\x00",  # close_notify, in clear
    b"\x14\x03\x03\x00\x01\x01",  # change_cipher_spec
    b"\x17\x03\x03\x00\x06RSET\r\n",  # a record of data, in clear
)


def spoken(*, to_server: bool) -> int:
    """How many octets of a direction pass in clear."""
    return STARTTLS if to_server else clear_replies()


@cache
def clear_replies() -> int:
    server = tls_peers.Server()
    passed = server.flush()
    for line in (b"EHLO c.example.com\r\n", b"STARTTLS\r\n"):
        server.feed(line)
        passed += server.flush()
    assert passed.endswith(b"220 2.0.0 Begin TLS\r\n")
    return len(passed)


@st.composite
def additions(draw: st.DrawFn) -> Added:
    to_server = draw(st.booleans())
    last = spoken(to_server=to_server)
    place = draw(st.one_of(st.just(last), st.sampled_from([0, EHLO, last - 1, last + 1]), st.integers(0, 3000)))
    octets = draw(st.one_of(st.sampled_from(EVIL), st.binary(min_size=1, max_size=20)))
    return Added(to_server, place, octets, draw(st.booleans()))


def holds(seen: tuple[object, ...], expected: tuple[object, ...], closed: ConnectionClosed | None) -> None:
    """What was seen in TLS is what was expected, or what there was of it when the session was closed."""
    assert seen == expected[: len(seen)]
    assert closed is not None
    assert seen in (expected, ()) or closed.reason is not CloseReason.QUIT


@given(
    leftover=st.sampled_from(Leftover),
    version=st.sampled_from(VERSIONS),
    added=st.lists(additions(), min_size=1, max_size=3).map(tuple),
    cut=cuts,
    eagerly=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_nothing_that_came_in_clear_means_anything_in_tls(
    leftover: Leftover, version: TLSVersion, added: tuple[Added, ...], cut: int | list[int] | None, eagerly: bool
) -> None:
    sizes = (cut,) if isinstance(cut, int) else tuple(cut or ())
    outcome, expected = talk(leftover, version, added, sizes, eagerly=eagerly), undisturbed(leftover, version)
    holds(outcome.server, expected.server, outcome.server_closed)
    holds(outcome.client, expected.client, outcome.client_closed)


# The places that matter most, so that nobody has to believe in luck.


@pytest.mark.parametrize("octets", EVIL)
@pytest.mark.parametrize("to_server", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("leftover", Leftover)
def test_what_is_read_with_starttls_or_its_220_ends_the_session_or_is_gone(
    leftover: Leftover, version: TLSVersion, to_server: bool, octets: bytes
) -> None:
    added = Added(to_server, spoken(to_server=to_server), octets, glued=True)
    outcome = talk(leftover, version, (added,))
    if leftover is Leftover.DISCARD:
        assert outcome == undisturbed(leftover, version), "as if it had never been"
    else:
        closed = outcome.server_closed if to_server else outcome.client_closed
        assert closed == ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)
        assert outcome[:2] == ((), ()), "nothing was said in TLS"


@pytest.mark.parametrize("octets", EVIL[:-4])
@pytest.mark.parametrize("to_server", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("leftover", Leftover)
def test_what_comes_after_that_fails_the_handshake(
    leftover: Leftover, version: TLSVersion, to_server: bool, octets: bytes
) -> None:
    outcome = talk(leftover, version, (Added(to_server, spoken(to_server=to_server), octets, glued=False),))
    closed = outcome.server_closed if to_server else outcome.client_closed
    assert closed is not None
    assert closed.reason in (CloseReason.TLS_FAILED, CloseReason.TIMEOUT)
    assert outcome[:2] == ((), ())
