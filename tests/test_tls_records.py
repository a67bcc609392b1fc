"""TLS as a layer: what records carry, and how a session inside them ends."""

from __future__ import annotations

import ssl

import pytest

from smtpstate._budget import Limits
from smtpstate._commands import Ehlo, EndOfMessage, Noop
from smtpstate._events import (
    Body,
    CloseReason,
    ConnectionClosed,
    Flow,
    ReplyReceived,
    ResetCause,
    Timer,
    TransactionReset,
)
from tests.tls_peers import (
    TEXT,
    VERSIONS,
    Client,
    Clock,
    Raw,
    Server,
    message,
    met_client,
    met_server,
    run,
    server_side,
)

# Records.


@pytest.mark.parametrize("cut", [99, 1_000_000])
def test_a_large_body_goes_out_piece_by_piece(cut: int) -> None:
    text = b"0123456789abcde\r\n" * 30_000
    script = message(implicit=True)
    server, client = Server(implicit=True), Client(*script[:4], implicit=True)
    run(server, client, cut)
    assert client.connection.can_send_body
    client.connection.send(Body(text))
    wire = list(iter(client.machine.data_to_send, b""))
    assert len(wire) == -(-len(text) // 22_500), "a quarter of what 180 s at 500 octets a second are"
    assert sum(map(len, wire)) > len(text)
    server.feed(b"".join(wire), cut)
    client.script = script[5:]
    run(server, client, cut)
    assert b"".join(event.data for event in server.events if isinstance(event, Body)) == text
    assert server.closed == client.closed == ConnectionClosed(CloseReason.QUIT)


def test_what_is_on_the_wire_counts_as_unsent_until_asked_beyond() -> None:
    server, raw = met_server(limits=Limits(unsent=100))
    server.feed(raw.say(b"NOOP\r\n" * 20))
    assert server.flow is Flow.NEED_FLUSH
    heard = raw.hear(server.machine.data_to_send())
    assert server.machine.next_event() is Flow.NEED_FLUSH
    assert server.machine.data_to_send() == b""
    assert server.machine.next_event() == Noop()
    heard += raw.hear(server.flush())
    assert b"".join(heard) == b"250 2.0.0 OK\r\n" * 20


def test_session_tickets_are_no_burden() -> None:
    client, raw = met_client(num_tickets=100)
    client.feed(raw.say(b"220 mx.example.org\r\n"))
    assert [type(event) for event in client.events] == [ReplyReceived]


def test_records_without_content_are_cut_off_in_the_end() -> None:
    client = Client(implicit=True)
    client.pull()
    raw = Raw(server_side(num_tickets=400))
    raw.inward.write(client.drain())
    with pytest.raises(ssl.SSLWantReadError):
        raw.tls.do_handshake()
    client.feed(raw.outward.read())
    raw.inward.write(client.drain())
    raw.tls.do_handshake()
    tickets = raw.outward.read()
    assert len(tickets) > 65_536
    client.feed(tickets[:65_536])
    assert client.closed is None
    client.feed(tickets[65_536:65_537])
    assert client.closed == ConnectionClosed(CloseReason.LOST)
    assert client.drain() == b""
    client.feed(tickets[65_537:])
    assert client.closed == ConnectionClosed(CloseReason.LOST)


def test_a_record_that_was_changed_ends_the_session() -> None:
    server, raw = met_server()
    record = bytearray(raw.say(b"MAIL FROM:<a@example.com>\r\n"))
    record[-1] ^= 1
    server.feed(bytes(record))
    assert server.closed == ConnectionClosed(CloseReason.LOST)
    assert isinstance(server.machine.failure, ssl.SSLError)
    assert server.events[1:] == [Ehlo("c.example.com"), server.closed]
    alert = server.drain()
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        raw.hear(alert)


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_no_changed_octet_raises_or_changes_a_message(implicit: bool) -> None:
    ends = set[CloseReason]()
    for position in range(0, 1500, 37):
        count = 0

        def change(wire: bytes, position: int = position) -> bytes:
            nonlocal count
            start, count = count, count + len(wire)
            if not start <= position < count:
                return wire
            at = position - start
            return wire[:at] + bytes([wire[at] ^ 0x80]) + wire[at + 1 :]

        server, client = Server(implicit=implicit), Client(*message(implicit=implicit), implicit=implicit)
        run(server, client, 1000, change)
        if server.closed is not None:
            ends.add(server.closed.reason)
        if server.connection.tls is None:
            continue
        whole = any(isinstance(event, EndOfMessage) for event in server.events)
        assert not whole or b"".join(e.data for e in server.events if isinstance(e, Body)) == TEXT
    assert {CloseReason.TLS_FAILED, CloseReason.LOST} <= ends


# The end.


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_close_notify_follows_the_last_reply_and_the_half_close_follows_it(version: ssl.TLSVersion) -> None:
    server, raw = met_server(maximum_version=version)
    server.feed(raw.say(b"QUIT\r\n"))
    assert not server.machine.half_close
    assert raw.hear(server.drain()) == [b"221 2.0.0 Bye\r\n"]
    server.pull()
    assert (server.connection.half_close, server.machine.half_close) == (True, False)
    assert raw.hear(server.drain()) == [b""]
    assert server.machine.half_close
    assert (server.closed, server.flow) == (None, Flow.NEED_DATA)
    server.feed(raw.say(b"what else?\r\n"))  # heard, and dropped
    assert server.closed is None
    server.feed(raw.goodbye())
    assert server.flush() == b""
    assert server.closed == ConnectionClosed(CloseReason.QUIT)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_close_notify_is_answered_after_all_that_came_before_it(version: ssl.TLSVersion) -> None:
    server, raw = met_server(maximum_version=version)
    server.feed(raw.say(b"NOOP\r\n") + raw.goodbye() + b"not looked at")
    server.feed(b"nor this")
    server.machine.receive_eof()
    server.pull()
    assert (server.flow, server.closed) == (Flow.NEED_FLUSH, None)
    assert raw.hear(server.drain()) == [b"250 2.0.0 OK\r\n", b""]
    server.pull()
    assert server.closed == ConnectionClosed(CloseReason.EOF)
    assert server.machine.half_close
    assert server.machine.failure is None


def test_quit_and_close_notify_together_are_a_quit() -> None:
    server, raw = met_server()
    server.feed(raw.say(b"QUIT\r\n") + raw.goodbye())
    assert raw.hear(server.flush()) == [b"221 2.0.0 Bye\r\n", b""]
    assert server.closed == ConnectionClosed(CloseReason.QUIT)


def test_close_notify_from_a_server_ends_a_client_in_good_order() -> None:
    client, raw = met_client()
    client.feed(raw.say(b"220 mx.example.org\r\n"))
    client.feed(raw.goodbye())
    assert raw.hear(client.flush()) == [b""]
    assert client.closed == ConnectionClosed(CloseReason.EOF)
    assert client.machine.half_close


def test_a_client_that_closes_says_goodbye() -> None:
    client, raw = met_client()
    client.connection.close()
    assert not client.machine.half_close
    assert raw.hear(client.drain()) == [b""]
    assert client.machine.half_close


def test_a_budget_spent_after_our_goodbye_adds_nothing() -> None:
    clock = Clock()
    server, raw = met_server(clock=clock)
    server.feed(raw.goodbye())
    goodbye = server.machine.data_to_send()
    assert server.machine.deadline == 300
    clock.now = 300
    server.machine.handle_timeout()
    assert server.flush() == b""
    assert raw.hear(goodbye) == [b""]
    assert server.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)


def test_a_timeout_is_told_inside_tls() -> None:
    clock = Clock()
    server, raw = met_server(clock=clock)
    clock.now = 300
    server.machine.handle_timeout()
    assert raw.hear(server.flush()) == [b"421 4.4.2 Timeout exceeded\r\n", b""]
    clock.now = 302
    server.machine.handle_timeout()
    server.pull()
    assert server.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)


OPEN = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"


@pytest.mark.parametrize("tail", [b"", b"some", b"some\r\n", b"\r\n.", b"\r\n.\r"], ids=repr)
def test_a_truncated_message_is_lost(tail: bytes) -> None:
    server, raw = met_server()
    server.feed(raw.say(OPEN))
    assert len(raw.hear(server.flush())) == 1
    if tail:
        server.feed(raw.say(tail))
    server.machine.receive_eof()
    server.flush()
    assert server.events[-2:] == [TransactionReset(ResetCause.CLOSED), ConnectionClosed(CloseReason.LOST)]
    assert not any(isinstance(event, EndOfMessage) for event in server.events)


def test_half_a_record_is_no_end_either() -> None:
    server, raw = met_server()
    server.feed(raw.say(OPEN))
    raw.hear(server.flush())
    server.feed(raw.say(b"text\r\n.\r\n")[:-1])
    server.machine.receive_eof()
    server.flush()
    assert server.events[-1] == ConnectionClosed(CloseReason.LOST)


def test_what_came_whole_is_answered_before_a_truncation_counts() -> None:
    server, raw = met_server()
    server.machine.receive_data(raw.say(OPEN + b"text\r\n.\r\n"))
    server.machine.receive_eof()
    replies = b"".join(raw.hear(server.flush()))
    assert replies.endswith(b"250 2.0.0 Message accepted\r\n")
    assert server.closed == ConnectionClosed(CloseReason.LOST)


def test_a_truncation_waits_for_the_answers_that_a_slow_application_gives() -> None:
    """The flush may be asked for, an event come between, and then it is asked for anew."""
    server, raw = met_server()
    server.machine.receive_eof()
    assert server.machine.next_event() is Flow.NEED_FLUSH
    assert server.machine.next_event() is Flow.NEED_FLUSH
    server.machine.receive_data(raw.say(b"NOOP\r\n"))
    assert server.machine.next_event() == Noop()
    assert server.machine.next_event() is Flow.NEED_FLUSH
    assert raw.hear(server.drain()) == [b"250 2.0.0 OK\r\n"]
    assert server.machine.next_event() == ConnectionClosed(CloseReason.LOST)


def test_a_truncation_after_quit_is_a_quit() -> None:
    server, raw = met_server()
    server.feed(raw.say(b"QUIT\r\n"))
    server.machine.receive_eof()
    assert raw.hear(server.flush()) == [b"221 2.0.0 Bye\r\n", b""]
    assert server.closed == ConnectionClosed(CloseReason.QUIT)


def test_a_client_that_is_cut_off_is_lost() -> None:
    client, raw = met_client()
    client.feed(raw.say(b"220 mx.exam"))
    client.machine.receive_eof()
    client.flush()
    assert client.closed == ConnectionClosed(CloseReason.LOST)


def test_a_lost_connection_has_nothing_to_say() -> None:
    server, raw = met_server()
    server.machine.receive_data(raw.say(b"NOOP\r\n"))
    server.machine.connection_lost()
    server.machine.receive_eof()
    server.pull()
    assert (server.drain(), server.events[-1]) == (b"", ConnectionClosed(CloseReason.LOST))
    assert server.machine.deadline is None
