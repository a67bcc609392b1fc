"""ClientConnection: LMTP, where the end of a message has a reply for each accepted recipient (RFC 2033)."""

import pytest

from smtpstate._budget import Limits
from smtpstate._commands import Bdat, Command, Data, Ehlo, EndOfMessage, Helo, Mail, Noop, Rcpt, Rset
from smtpstate._errors import LocalProtocolError
from smtpstate._events import Body, CloseReason, ConnectionClosed, Flow, NoRecipients, ReplyReceived, Timer, Violation
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, LMTP_HELLO, Item, Wire, codes

GREETING = (b"", b"220 mx.example LMTP\r\n")
OFFERS = (LMTP_HELLO, b"250-mx.example\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n")
ME, YOU, HIM = Mail.of("me@me.example"), Rcpt.of("you@mx.example"), Rcpt.of("him@mx.example")
MAIL = b"MAIL FROM:<me@me.example>\r\n"
TO_YOU, TO_HIM = b"RCPT TO:<you@mx.example>\r\n", b"RCPT TO:<him@mx.example>\r\n"
DATA = b"DATA\r\n"
NOOP = (b"NOOP\r\n", b"250 ok\r\n")


def lmtp(*script: tuple[bytes, bytes], cut: int = 99, eof: bool = False, limits: Limits | None = None) -> Wire:
    return Wire([GREETING, OFFERS, *script], cut=cut, eof=eof, lmtp=True, limits=limits).open()


def test_lhlo_is_the_hello_and_offers_as_ehlo_does():
    wire = lmtp()
    assert wire.client.lmtp
    assert wire.client.phase is Phase.READY
    assert wire.client.capabilities.chunking
    assert wire.written == LMTP_HELLO


@pytest.mark.parametrize("hello", [Ehlo("me.example"), Helo("me.example")])
def test_smtps_hellos_are_out_of_order(hello: Command):
    wire = Wire([GREETING], lmtp=True)
    wire.events()
    with pytest.raises(LocalProtocolError, match="Not a hello of this protocol"):
        wire.client.send(hello)
    assert wire.client.in_sync


def test_data_without_an_accepted_recipient_is_out_of_order():
    wire = lmtp((MAIL, b"250 ok\r\n"), (TO_YOU, b"550 no\r\n"))
    wire.say(ME, YOU)
    for command in (Data(), Bdat(0, last=True)):
        with pytest.raises(LocalProtocolError, match="503"):
            wire.client.send(command)


ENDS = [
    ([b"250", b"250"], [b"250 a", b"250 b"], "both are delivered"),
    ([b"250", b"250"], [b"250 a", b"550 b"], "one is, and one is not"),
    ([b"250", b"250"], [b"452 full", b"250 b"], "one has to wait"),
    ([b"250", b"250"], [b"452 a", b"554 b"], "neither is"),
    ([b"250", b"550"], [b"250 a"], "a recipient that was refused has no reply here"),
    ([b"450", b"251"], [b"250 b"], "the first digit decides who was accepted"),
]


def ways(by_chunks: bool) -> tuple[bytes, list[Item], str]:
    """What is written after RCPT, what says it, and what the replies answer to."""
    if by_chunks:
        return b"BDAT 1\r\nxBDAT 1 LAST\r\ny", [Bdat(1), Body(b"x"), Bdat(1, last=True), Body(b"y")], "BDAT"
    return b"xy\r\n.\r\n", [Body(b"xy"), EndOfMessage()], "END"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("by_chunks", [True, False])
@pytest.mark.parametrize(("rcpts", "finals", "reason"), ENDS)
def test_each_accepted_recipient_has_its_reply(
    rcpts: list[bytes], finals: list[bytes], reason: str, by_chunks: bool, cut: int
):
    octets, items, verb = ways(by_chunks)
    lines = [b"250 ok", *(code + b" r" for code in rcpts)]
    said = b"".join(line + b"\r\n" for line in finals)
    script = [(MAIL + TO_YOU + TO_HIM, b"".join(line + b"\r\n" for line in lines))]
    script += [(octets, b"250 chunk\r\n" + said)] if by_chunks else [(DATA, b"354 go\r\n"), (octets, said)]
    wire = lmtp(*script, NOOP, cut=cut)
    wire.say(ME, YOU, HIM, at_once=True)
    if not by_chunks:
        wire.say(Data())
    for item in items:
        assert wire.client.send(item)
    events = wire.events()
    expected = [(verb, int(line[:3])) for line in finals]
    assert codes(events) == ([("BDAT", 250), *expected] if by_chunks else expected), reason
    assert len({event.to for event in events if isinstance(event, ReplyReceived)}) == (2 if by_chunks else 1)
    assert (wire.client.phase, wire.client.in_sync) == (Phase.READY, True)
    assert codes(wire.say(Noop())) == [("NOOP", 250)], "the next reply is the next command's"


def test_a_recipient_named_twice_has_two_replies():
    wire = lmtp((MAIL + TO_YOU + TO_YOU, b"250 ok\r\n" * 3), (DATA, b"354 go\r\n"), (b".\r\n", b"250 a\r\n250 b\r\n"))
    wire.say(ME, YOU, YOU, at_once=True)
    assert codes(wire.say(Data(), EndOfMessage())) == [("DATA", 354), ("END", 250), ("END", 250)]
    assert wire.client.in_sync


def test_recipients_of_an_earlier_transaction_do_not_count():
    first = (MAIL + TO_YOU + TO_HIM, b"250 ok\r\n" * 3)
    second = (MAIL + TO_YOU, b"250 ok\r\n" * 2)
    wire = lmtp(first, (b"RSET\r\n", b"250 ok\r\n"), second, (b"BDAT 0 LAST\r\n", b"250 a\r\n"))
    wire.say(ME, YOU, HIM, at_once=True)
    wire.say(Rset())
    wire.say(ME, YOU, at_once=True)
    assert codes(wire.say(Bdat(0, last=True))) == [("BDAT", 250)]
    assert wire.client.in_sync


def test_until_the_last_reply_the_end_is_outstanding():
    wire = lmtp((MAIL + TO_YOU + TO_HIM, b"250 ok\r\n" * 3), (b"BDAT 0 LAST\r\n", b""))
    wire.say(ME, YOU, HIM, at_once=True)
    wire.client.send(Bdat(0, last=True))
    wire.client.data_to_send()
    for in_sync in (False, True):
        assert (wire.client.outstanding, wire.client.in_sync) == (1, False)
        wire.client.receive_data(b"250 ok\r\n")
        assert isinstance(wire.client.next_event(), ReplyReceived)
        assert wire.client.in_sync is in_sync


@pytest.mark.parametrize("cut", CUTS)
def test_one_reply_too_many_is_nobodys(cut: int):
    wire = lmtp((MAIL + TO_YOU, b"250 ok\r\n" * 2), (b"BDAT 0 LAST\r\n", b"250 a\r\n250 b\r\n"), cut=cut)
    wire.say(ME, YOU, at_once=True)
    events = wire.say(Bdat(0, last=True))
    assert codes(events) == [("BDAT", 250)]
    assert events[-1] == ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)


def test_354_in_place_of_a_reply_is_none():
    wire = lmtp((MAIL + TO_YOU + TO_HIM, b"250 ok\r\n" * 3), (b"BDAT 0 LAST\r\n", b"250 a\r\n354 go\r\n"))
    wire.say(ME, YOU, HIM, at_once=True)
    events = wire.say(Bdat(0, last=True))
    assert events[-1] == ConnectionClosed(CloseReason.VIOLATION, Violation.UNEXPECTED_REPLY)


@pytest.mark.parametrize("by_chunks", [True, False])
def test_421_among_the_replies_is_one_of_them_and_the_last(by_chunks: bool):
    group = (MAIL + TO_YOU + TO_YOU + TO_HIM, b"250 ok\r\n" * 4)
    said = b"250 a\r\n421 bye\r\n"
    end = [(b"BDAT 0 LAST\r\n", said)] if by_chunks else [(DATA, b"354 go\r\n"), (b".\r\n", said)]
    wire = lmtp(group, *end)
    wire.say(ME, YOU, YOU, HIM, at_once=True)
    items: list[Item] = [Bdat(0, last=True)] if by_chunks else [Data(), EndOfMessage()]
    events = wire.say(*items)
    assert [code for _, code in codes(events)][-2:] == [250, 421]
    assert events[-1] == ConnectionClosed(CloseReason.GOING_AWAY, reply=Reply(421, "bye"))


def test_each_reply_has_its_own_time():
    wire = lmtp((MAIL + TO_YOU + TO_HIM, b"250 ok\r\n" * 3), (b"BDAT 0 LAST\r\n", b""), limits=Limits(end_seconds=50))
    wire.say(ME, YOU, HIM, at_once=True)
    client, clock = wire.client, wire.clock
    client.send(Bdat(0, last=True))
    client.next_event()
    client.data_to_send()
    assert client.deadline == clock.now + 50
    clock.now += 40
    client.receive_data(b"250 a\r\n")
    assert isinstance(client.next_event(), ReplyReceived)
    assert client.next_event() is Flow.NEED_DATA
    assert client.deadline == clock.now + 50
    clock.now += 50
    client.handle_timeout()
    assert client.next_event() == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.END)


def test_the_last_chunk_behind_a_refused_one_is_refused_once():
    group = MAIL + TO_YOU + TO_HIM + b"BDAT 1\r\nxBDAT 0 LAST\r\n"
    wire = lmtp((group, b"250 ok\r\n" * 3 + b"452 full\r\n503 dead\r\n"), (b"RSET\r\n", b"250 ok\r\n"))
    events = wire.say(ME, YOU, HIM, Bdat(1), Body(b"x"), Bdat(0, last=True), at_once=True)
    assert codes(events)[-2:] == [("BDAT", 452), ("BDAT", 503)]
    assert (wire.client.phase, wire.client.in_sync) == (Phase.DEAD, True)
    assert codes(wire.say(Rset())) == [("RSET", 250)]


def test_the_last_chunk_for_nobody_is_refused_once():
    group = MAIL + TO_YOU + TO_HIM + b"BDAT 0 LAST\r\n"
    wire = lmtp((group, b"250 ok\r\n550 no\r\n550 no\r\n503 nobody\r\n"), (b"RSET\r\n", b"250 ok\r\n"))
    wire.say(ME, YOU, HIM, Bdat(0, last=True), at_once=True)
    assert (wire.client.phase, wire.client.in_sync) == (Phase.DEAD, True)
    assert codes(wire.say(Rset())) == [("RSET", 250)]


def test_the_lone_dot_for_nobody_has_one_answer():
    group = (MAIL + TO_YOU + DATA, b"250 ok\r\n550 no\r\n354 go\r\n")
    wire = lmtp(group, (b".\r\n", b"503 nobody\r\n"), NOOP)
    events = wire.say(ME, YOU, Data(), at_once=True)
    assert events[-1] == NoRecipients()
    assert codes(wire.say(Noop())) == [("NOOP", 250)]


@pytest.mark.parametrize("by_chunks", [True, False])
def test_what_came_before_the_end_of_input_counts(by_chunks: bool):
    group = (MAIL + TO_YOU + TO_HIM, b"250 ok\r\n" * 3)
    said = b"250 a\r\n25"
    end = [(b"BDAT 0 LAST\r\n", said)] if by_chunks else [(DATA, b"354 go\r\n"), (b".\r\n", said)]
    wire = lmtp(group, *end, eof=True)
    wire.say(ME, YOU, HIM, at_once=True)
    items: list[Item] = [Bdat(0, last=True)] if by_chunks else [Data(), EndOfMessage()]
    events = wire.say(*items)
    assert codes(events)[-1][1] == 250
    assert events[-1] == ConnectionClosed(CloseReason.EOF)
