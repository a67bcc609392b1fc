"""ClientConnection: BDAT, whose octets follow at once and are counted (RFC 3030)."""

import pytest

from smtpstate._commands import Bdat, Command, Data, Ehlo, EndOfMessage, Mail, Noop, Quit, Rcpt, Rset
from smtpstate._errors import LocalProtocolError
from smtpstate._events import Body, CloseReason, ConnectionClosed, Flow, ReplyReceived, Timer, Violation
from smtpstate._params import BodyType
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, Item, Wire, codes

GREETING = (b"", b"220 mx.example\r\n")
LOCK_STEP = (HELLO, b"250-mx.example\r\n250 CHUNKING\r\n")
PIPELINED = (HELLO, b"250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
ME, YOU, HIM = Mail.of("me@me.example"), Rcpt.of("you@mx.example"), Rcpt.of("him@mx.example")
MAIL = (b"MAIL FROM:<me@me.example>\r\n", b"250 ok\r\n")
TO_YOU = (b"RCPT TO:<you@mx.example>\r\n", b"250 ok\r\n")
OPENED = [GREETING, LOCK_STEP, MAIL, TO_YOU]


def unsolicited() -> ConnectionClosed:
    return ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)


def addressed(*after: tuple[bytes, bytes], cut: int = 99, eof: bool = False) -> Wire:
    """A recipient is accepted, and the server has CHUNKING."""
    wire = Wire([*OPENED, *after], cut=cut, eof=eof).open()
    wire.say(ME, YOU)
    return wire


CHUNKS: list[tuple[list[tuple[int, list[bytes]]], list[bytes], str]] = [
    ([(0, [])], [b"BDAT 0 LAST\r\n"], "an empty message"),
    ([(2, [b"hi"])], [b"BDAT 2 LAST\r\nhi"], "one chunk, one piece"),
    ([(4, [b"a", b"", b"b\r\n"])], [b"BDAT 4 LAST\r\nab\r\n"], "a chunk in pieces"),
    ([(3, [b"a\0b"]), (0, [])], [b"BDAT 3\r\na\0b", b"BDAT 0 LAST\r\n"], "octets are octets, and the end may be empty"),
    ([(5, [b".\r\n.\r"]), (1, [b"\n"])], [b"BDAT 5\r\n.\r\n.\r", b"BDAT 1 LAST\r\n\n"], "no dot is stuffed"),
    ([(0, []), (2, [b"\0\xff"])], [b"BDAT 0\r\n", b"BDAT 2 LAST\r\n\0\xff"], "an empty chunk, and any octets"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("chunks", "groups", "reason"), CHUNKS)
def test_a_message_goes_out_in_chunks(
    chunks: list[tuple[int, list[bytes]]], groups: list[bytes], reason: str, cut: int
):
    wire = addressed(*((group, b"250 2.0.0 ok\r\n") for group in groups), MAIL, cut=cut)
    for index, (size, pieces) in enumerate(chunks):
        command = Bdat(size, last=index == len(chunks) - 1)
        assert wire.client.send(command)
        for piece in pieces:
            assert wire.client.can_send_body
            assert not wire.client.in_sync
            assert wire.client.send(Body(piece))
        assert not wire.client.can_send_body, "the chunk is full"
        assert wire.events() == [ReplyReceived(command, Reply(250, "ok", enhanced="2.0.0"))], reason
        assert wire.client.in_sync
    assert wire.client.phase is Phase.READY
    assert codes(wire.say(ME)) == [("MAIL", 250)], "another transaction may follow"
    assert not wire.script


def test_after_a_chunk_nothing_but_chunks_belongs_to_the_message():
    wire = addressed((b"BDAT 1\r\nx", b"250 ok\r\n"))
    wire.say(Bdat(1), Body(b"x"), at_once=True)
    assert wire.client.phase is Phase.CHUNKED
    for item in (ME, YOU, Data(), EndOfMessage(), Body(b"y")):
        with pytest.raises(LocalProtocolError):
            wire.client.send(item)
    assert wire.client.in_sync


@pytest.mark.parametrize("given", [b"", b"ab"])
def test_too_many_octets_are_refused_and_change_nothing(given: bytes):
    wire = addressed((b"BDAT 4 LAST\r\nabcd", b"250 ok\r\n"))
    wire.client.send(Bdat(4, last=True))
    wire.client.send(Body(given))
    with pytest.raises(LocalProtocolError, match=f"{4 - len(given)} are left of the chunk"):
        wire.client.send(Body(b"x" * (5 - len(given))))
    wire.client.send(Body(b"abcd"[len(given) :]))
    assert codes(wire.events()) == [("BDAT", 250)]


def test_a_bare_newline_is_refused_and_changes_nothing():
    wire = addressed(
        (b"BDAT 3\r\na\r\n", b"250 ok\r\n"), (b"BDAT 1\r\n\r", b"250 ok\r\n"), (b"BDAT 1 LAST\r\n\n", b"250 ok\r\n")
    )
    wire.client.send(Bdat(3))
    for wrong in (b"a\nb", b"a\rb", b"\n"):
        with pytest.raises(LocalProtocolError, match="lines end with CRLF where MAIL has no BODY=BINARYMIME"):
            wire.client.send(Body(wrong))
    wire.client.send(Body(b"a\r"))
    wire.client.send(Body(b"\n"))
    wire.events()
    wire.say(Bdat(1), Body(b"\r"), at_once=True)
    with pytest.raises(LocalProtocolError, match="bare CR in a chunk"):
        wire.client.send(Bdat(0, last=True))
    assert codes(wire.say(Bdat(1, last=True), Body(b"\n"), at_once=True)) == [("BDAT", 250)]
    assert not wire.script


@pytest.mark.parametrize("item", [Noop(), Rset(), Quit(), ME, YOU, Data(), Bdat(1), Ehlo("me.example"), EndOfMessage()])
def test_while_octets_are_missing_nothing_else_can_be_said(item: Item):
    wire = addressed((b"BDAT 2 LAST\r\nab", b"250 ok\r\n"))
    wire.client.send(Bdat(2, last=True))
    wire.client.send(Body(b"a"))
    with pytest.raises(LocalProtocolError, match=r"octets are missing|ends by its size"):
        wire.client.send(item)
    wire.client.send(Body(b"b"))
    assert codes(wire.events()) == [("BDAT", 250)]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Bdat(-1), "a size below nothing"),
        (Bdat(2**63), "a size that no counter holds"),
    ],
)
def test_a_chunk_that_cannot_be_announced_changes_nothing(command: Command, reason: str):
    wire = addressed()
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        wire.client.send(command)
    assert (wire.client.in_sync, wire.client.can_send_body) == (True, False), reason


def test_without_an_accepted_recipient_there_is_no_chunk():
    wire = Wire([GREETING, LOCK_STEP, MAIL, (TO_YOU[0], b"550 no\r\n")]).open()
    wire.say(ME)
    with pytest.raises(LocalProtocolError, match="No valid recipients"):
        wire.client.send(Bdat(1))
    wire.say(YOU)
    with pytest.raises(LocalProtocolError, match="No valid recipients"):
        wire.client.send(Bdat(1))


def test_a_chunk_cannot_wait_for_its_turn():
    wire = Wire([GREETING, LOCK_STEP, MAIL, TO_YOU]).open()
    wire.client.send(ME)
    wire.client.send(YOU)
    with pytest.raises(LocalProtocolError, match="cannot wait for its turn"):
        wire.client.send(Bdat(1, last=True))
    assert codes(wire.events()) == [("MAIL", 250), ("RCPT", 250)]


PIPELINES = [
    ([b"250 ok", b"250 ok", b"250 ok", b"250 ok"], Phase.READY, "all is well"),
    ([b"250 ok", b"550 no", b"503 no", b"503 no"], Phase.DEAD, "nobody is left, and the chunks are drained"),
    ([b"250 ok", b"250 ok", b"452 full", b"503 dead"], Phase.DEAD, "the first is refused, and all behind it"),
    ([b"250 ok", b"250 ok", b"250 ok", b"554 spam"], Phase.READY, "the last decides"),
    ([b"550 no", b"503 no", b"503 no", b"503 no"], Phase.READY, "the sender is refused"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("replies", "phase", "reason"), PIPELINES)
def test_chunks_may_follow_rcpt_at_once(replies: list[bytes], phase: Phase, reason: str, cut: int):
    group = MAIL[0] + TO_YOU[0] + b"BDAT 2\r\nabBDAT 1 LAST\r\nc"
    wire = Wire([GREETING, PIPELINED, (group, b"\r\n".join(replies) + b"\r\n")], cut=cut).open()
    before = len(wire.groups)
    items: list[Item] = [ME, YOU, Bdat(2), Body(b"ab"), Bdat(1, last=True), Body(b"c")]
    events = wire.say(*items, at_once=True)
    verbs = ["MAIL", "RCPT", "BDAT", "BDAT"]
    assert codes(events) == list(zip(verbs, (int(reply[:3]) for reply in replies), strict=True)), reason
    assert wire.groups[before:] == [group], "in one write"
    assert (wire.client.phase, wire.client.in_sync) == (phase, True)


def test_the_next_message_may_follow_the_last_chunk_at_once():
    wire = Wire([GREETING, PIPELINED, MAIL, TO_YOU, (b"BDAT 0 LAST\r\n" + MAIL[0], b"250 ok\r\n250 ok\r\n")]).open()
    wire.say(ME, YOU)
    assert codes(wire.say(Bdat(0, last=True), ME, at_once=True)) == [("BDAT", 250), ("MAIL", 250)]
    assert wire.client.phase is Phase.MAIL


@pytest.mark.parametrize(("way", "line"), [(Rset(), b"RSET\r\n"), (Ehlo("me.example"), HELLO), (Quit(), b"QUIT\r\n")])
def test_after_a_refused_chunk_the_transaction_is_dead(way: Command, line: bytes):
    reply = b"221 bye\r\n" if isinstance(way, Quit) else b"250 ok\r\n"
    wire = addressed((b"BDAT 1\r\nx", b"552 too big\r\n"), (line, reply))
    wire.say(Bdat(1), Body(b"x"), at_once=True)
    assert (wire.client.phase, wire.client.in_sync) == (Phase.DEAD, True)
    for item in (ME, YOU, Data(), Bdat(0, last=True)):
        with pytest.raises(LocalProtocolError, match="out of order"):
            wire.client.send(item)
    wire.say(way)
    assert wire.client.phase in (Phase.READY, Phase.CLOSED)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("cut", CUTS)
def test_a_refusal_in_mid_chunk_is_heard_and_the_octets_go_out_all_the_same(last: bool, cut: int):
    line = b"BDAT 4 LAST\r\n" if last else b"BDAT 4\r\n"
    wire = addressed((line + b"ab", b"552 5.3.4 too big\r\n"), (b"cd", b""), (b"RSET\r\n", b"250 ok\r\n"), cut=cut)
    wire.client.send(Bdat(4, last=last))
    wire.client.send(Body(b"ab"))
    assert codes(wire.events()) == [("BDAT", 552)]
    assert wire.client.can_send_body, "what was announced is owed: RFC 3030 section 2"
    assert not wire.client.in_sync
    with pytest.raises(LocalProtocolError, match="2 octets are missing"):
        wire.client.send(Rset())
    wire.client.send(Body(b"cd"))
    assert wire.events() == []
    assert (wire.client.in_sync, wire.client.phase) == (True, Phase.READY if last else Phase.DEAD)
    assert codes(wire.say(Rset())) == [("RSET", 250)]


@pytest.mark.parametrize("last", [True, False])
def test_a_yes_in_mid_chunk_is_a_lie(last: bool):
    line = b"BDAT 4 LAST\r\n" if last else b"BDAT 4\r\n"
    wire = addressed((line + b"ab", b"250 taken\r\n"))
    wire.client.send(Bdat(4, last=last))
    wire.client.send(Body(b"ab"))
    assert wire.events() == [unsolicited()]


def test_a_yes_to_what_came_before_is_none_to_the_chunk():
    group = MAIL[0] + TO_YOU[0] + b"BDAT 4 LAST\r\nab"
    wire = Wire([GREETING, PIPELINED, (group, b"250 ok\r\n250 ok\r\n"), (b"cd", b"250 ok\r\n")]).open()
    for item in (ME, YOU, Bdat(4, last=True), Body(b"ab")):
        wire.client.send(item)
    events = [wire.pull(), wire.pull()]
    assert [event.reply.code for event in events if isinstance(event, ReplyReceived)] == [250, 250]
    wire.client.send(Body(b"cd"))
    assert codes(wire.events()) == [("BDAT", 250)]


@pytest.mark.parametrize("reply", [b"354 go\r\n", b"334 what\r\n"])
def test_no_3yz_answers_a_chunk(reply: bytes):
    wire = addressed((b"BDAT 0 LAST\r\n", reply))
    assert wire.say(Bdat(0, last=True)) == [ConnectionClosed(CloseReason.VIOLATION, Violation.UNEXPECTED_REPLY)]


def test_421_in_mid_chunk_is_the_end():
    wire = addressed((b"BDAT 4 LAST\r\nab", b"421 bye\r\n"))
    wire.client.send(Bdat(4, last=True))
    wire.client.send(Body(b"ab"))
    events = wire.events()
    assert codes(events) == [("BDAT", 421)]
    assert events[-1] == ConnectionClosed(CloseReason.GOING_AWAY, reply=Reply(421, "bye"))
    assert not wire.client.send(Body(b"cd"))
    assert not wire.client.can_send_body


def test_a_second_reply_to_a_chunk_is_one_too_many():
    wire = addressed((b"BDAT 4\r\nab", b"552 no\r\n552 no\r\n"))
    wire.client.send(Bdat(4))
    wire.client.send(Body(b"ab"))
    events = wire.events()
    assert codes(events) == [("BDAT", 552)]
    assert events[-1] == unsolicited()


# Time.


def test_the_answer_to_a_chunk_has_its_time_once_the_octets_have_left():
    wire = addressed((b"BDAT 2 LAST\r\nab", b""))
    started = wire.clock.now
    events = wire.say(Bdat(2, last=True), Body(b"ab"), at_once=True)
    assert events == [ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.END)]
    assert wire.clock.now == started + 600, "RFC 5321 section 4.5.3.2.6"


def test_a_server_that_does_not_read_a_chunk_is_left():
    wire = addressed()
    client, clock = wire.client, wire.clock
    client.send(Bdat(2, last=True))
    client.send(Body(b"ab"))
    assert client.next_event() is Flow.NEED_DATA
    assert client.data_to_send() == b"BDAT 2 LAST\r\nab"  # and then the transport takes no more
    assert client.deadline == clock.now + 180, "RFC 5321 section 4.5.3.2.5"
    clock.now += 180
    client.handle_timeout()
    assert client.next_event() == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.BODY)


@pytest.mark.parametrize("reply", [b"552 no\r\n", b"250 ok\r\n"])
def test_a_reply_grants_no_more_time_to_a_block_on_its_way(reply: bytes):
    wire = Wire([GREETING, PIPELINED, MAIL]).open()
    client, clock = wire.client, wire.clock
    wire.say(ME)
    client.send(YOU)
    client.send(Bdat(2))
    client.send(Body(b"ab"))
    assert client.next_event() is Flow.NEED_DATA
    client.data_to_send()  # the transport takes no more
    deadline = client.deadline
    assert deadline == clock.now + 180
    clock.now += 100
    client.receive_data(reply)
    assert isinstance(client.next_event(), ReplyReceived)
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == deadline
    assert client.data_to_send() == b"", "now it has left"
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == clock.now + 600


BINARY_HELLO = (HELLO, b"250-mx.example\r\n250-PIPELINING\r\n250-BINARYMIME\r\n250 CHUNKING\r\n")
BINARY = Mail.of("me@me.example", body=BodyType.BINARYMIME)
BINARY_LINE = b"MAIL FROM:<me@me.example> BODY=BINARYMIME\r\n"


@pytest.mark.parametrize("at_once", [True, False])
def test_after_binarymime_only_bdat_brings_the_message(at_once: bool):
    """RFC 3030 section 3. `at_once`: MAIL is not answered yet, and is assumed to succeed."""
    wire = Wire([GREETING, BINARY_HELLO, (BINARY_LINE + TO_YOU[0], b"250 ok\r\n250 ok\r\n")]).open()
    wire.client.send(BINARY)
    wire.client.send(YOU)
    if not at_once:
        wire.events()
    with pytest.raises(LocalProtocolError, match="goes with BDAT only"):
        wire.client.send(Data())
    wire.events()
    assert wire.client.send(Bdat(0, last=True))


def test_a_binary_mail_that_was_refused_binds_nothing():
    mail = (MAIL[0] + TO_YOU[0] + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n")
    wire = Wire([GREETING, BINARY_HELLO, (BINARY_LINE, b"550 no\r\n"), mail]).open()
    wire.say(BINARY)
    assert codes(wire.say(ME, YOU, Data(), at_once=True)) == [("MAIL", 250), ("RCPT", 250), ("DATA", 354)]


def test_binarymime_needs_both_keywords():
    wire = Wire([GREETING, (HELLO, b"250-mx.example\r\n250 BINARYMIME\r\n")]).open()
    with pytest.raises(LocalProtocolError, match="BINARYMIME without CHUNKING"):
        wire.client.send(BINARY)
