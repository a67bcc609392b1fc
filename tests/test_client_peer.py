"""ClientConnection: nothing that a peer sends can raise, and no reply is given to what did not ask for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate._budget import Limits
from smtpstate._client import ClientConnection
from smtpstate._commands import Command, Data, Ehlo, EndOfMessage, Mail, Noop, Quit, Rcpt
from smtpstate._events import (
    Body,
    CloseReason,
    Connected,
    ConnectionClosed,
    Flow,
    NoRecipients,
    ReplyReceived,
    Violation,
)
from smtpstate._policy import MX, STRICT, Deviation, Policy
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, Item, ManualClock, Wire, codes

GREETING = (b"", b"220 mx.example\r\n")
PIPELINING = (HELLO, b"250-mx.example\r\n250 PIPELINING\r\n")
LOCK_STEP = (HELLO, b"250 mx.example\r\n")
ME, YOU, HIM = Mail.of("me@me.example"), Rcpt.of("you@mx.example"), Rcpt.of("him@mx.example")
MAIL = b"MAIL FROM:<me@me.example>\r\n"
TO_YOU = b"RCPT TO:<you@mx.example>\r\n"
TO_HIM = b"RCPT TO:<him@mx.example>\r\n"
OPEN_BODY = [GREETING, LOCK_STEP, (MAIL, b"250 ok\r\n"), (TO_YOU, b"250 ok\r\n"), (b"DATA\r\n", b"354 go\r\n")]
LIMITS = Limits(reply_line=64, reply=200, reply_lines=5)


def violation(name: Violation) -> ConnectionClosed:
    return ConnectionClosed(CloseReason.VIOLATION, name)


def going(code: int, text: str) -> ConnectionClosed:
    return ConnectionClosed(CloseReason.GOING_AWAY, reply=Reply(code, text))


BAD_REPLIES = [
    (b"hello\r\n", Violation.REPLY_SYNTAX, "no code"),
    (b"\r\n", Violation.REPLY_SYNTAX, "nothing at all"),
    (b"25\r\n", Violation.REPLY_SYNTAX, "half a code"),
    (b"2500 ok\r\n", Violation.REPLY_SYNTAX, "a code of four digits"),
    (b"250_ok\r\n", Violation.REPLY_SYNTAX, "neither SP nor hyphen"),
    (b"150 wait\r\n", Violation.REPLY_SYNTAX, "RFC 5321 section 4.2.1 knows no 1yz"),
    (b"650 what\r\n", Violation.REPLY_SYNTAX, "nor 6yz"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", Violation.REPLY_SYNTAX, "another protocol"),
    (b"\x16\x03\x01\x02\x00\r\n", Violation.REPLY_SYNTAX, "TLS where none was agreed"),
    (b"250-a\r\n251 b\r\n", Violation.REPLY_MIXED_CODES, "section 4.2.1: one code"),
    (b"250-a\r\n550 b\r\n", Violation.REPLY_MIXED_CODES, "a yes that ends as a no"),
    (b"250-a\r\n\r\n", Violation.REPLY_SYNTAX, "an empty line inside"),
    (b"354 go\r\n", Violation.UNEXPECTED_REPLY, "no 3yz belongs here"),
    (b"334 x\r\n", Violation.UNEXPECTED_REPLY, "no 3yz belongs here"),
    (b"250 " + b"x" * 60 + b"\r\n", Violation.REPLY_TOO_LONG, "a line over its limit"),
    (b"250-x\r\n" * 6, Violation.REPLY_TOO_LONG, "too many lines"),
    (b"250-" + b"x" * 50 + b"\r\n250-" + b"x" * 50 + b"\r\n", None, "within the limits, only not at its end"),
    (b"250-" + b"\r\n250-".join([b"x" * 50] * 4) + b"\r\n", Violation.REPLY_TOO_LONG, "too many octets"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("asked", ["greeting", "hello", "noop", "end"])
@pytest.mark.parametrize(("octets", "name", "reason"), BAD_REPLIES)
def test_what_is_no_reply_ends_the_session(octets: bytes, name: Violation | None, reason: str, asked: str, cut: int):
    ends = {
        "greeting": [(b"", octets)],
        "hello": [GREETING, (HELLO, octets)],
        "noop": [GREETING, LOCK_STEP, (b"NOOP\r\n", octets)],
        "end": [*OPEN_BODY, (b"x\r\n.\r\n", octets)],
    }
    items: dict[str, list[Item]] = {
        "greeting": [],
        "hello": [Ehlo("me.example")],
        "noop": [Ehlo("me.example"), Noop()],
        "end": [Ehlo("me.example"), ME, YOU, Data(), Body(b"x"), EndOfMessage()],
    }
    wire = Wire(ends[asked], cut=cut, eof=True, limits=LIMITS)
    events = wire.events() + wire.say(*items[asked])
    expected = ConnectionClosed(CloseReason.EOF) if name is None else violation(name)
    assert events[-1] == expected, reason
    assert wire.client.broken is expected.reason


@pytest.mark.parametrize("cut", CUTS)
def test_a_reply_that_breaks_the_grammar_is_read_and_tells_how(cut: int):
    wire = Wire([GREETING, LOCK_STEP, (b"NOOP\r\n", b"250-a\x1b\n250\r\n")], cut=cut).open()
    answer = wire.say(Noop())[-1]
    assert answer == ReplyReceived(Noop(), Reply(250, "a\x1b", ""))
    assert isinstance(answer, ReplyReceived)
    assert answer.reply.raw == b"250-a\x1b\n250\r\n"
    assert answer.reply.deviations == {Deviation.BARE_LF, Deviation.CONTROL_IN_REPLY}


@pytest.mark.parametrize("cut", CUTS)
def test_a_reply_that_the_policy_rejects_ends_the_session(cut: int):
    wire = Wire([GREETING, LOCK_STEP, (b"NOOP\r\n", b"250 ok\n")], cut=cut, policy=STRICT).open()
    closed = ConnectionClosed(CloseReason.VIOLATION, Violation.REPLY_SYNTAX, deviation=Deviation.BARE_LF)
    assert wire.say(Noop()) == [closed]
    assert wire.client.broken is CloseReason.VIOLATION


@pytest.mark.parametrize(("policy", "offered"), [(MX, {"AUTH", "SIZE"}), (STRICT, {"SIZE"})])
def test_the_policy_says_which_lines_of_a_hellos_reply_count(policy: Policy, offered: set[str]):
    hello = (HELLO, b"250-mx.example\r\n250-AUTH=LOGIN\r\n250 SIZE 10\r\n")
    wire = Wire([GREETING, hello], policy=policy).open()
    assert wire.client.capabilities.keywords.keys() == offered
    assert wire.client.capabilities.deviations == {Deviation.KEYWORD_EQUALS}


def test_data_answered_with_2yz_is_no_answer():
    wire = Wire([*OPEN_BODY[:4], (b"DATA\r\n", b"250 ok\r\n")]).open()
    assert wire.say(ME, YOU, Data())[-1] == violation(Violation.UNEXPECTED_REPLY)


def test_a_line_without_an_end_is_not_kept():
    client = ClientConnection("me.example", clock=ManualClock(), limits=LIMITS)
    for _ in range(1000):
        client.receive_data(b"x" * 100)
        assert client.next_event() is Flow.NEED_DATA
    client.receive_data(b"\n")
    assert client.next_event() == violation(Violation.REPLY_TOO_LONG)


# What stands before the reply that nobody asked for, and what the client has said by then.
PHASES: list[tuple[str, list[tuple[bytes, bytes]], list[Item]]] = [
    ("greeted", [(b"", b"220 mx.example\r\n")], []),
    ("ready", [GREETING, LOCK_STEP], [Ehlo("me.example")]),
    ("mail", OPEN_BODY[:3], [Ehlo("me.example"), ME]),
    ("rcpt", OPEN_BODY[:4], [Ehlo("me.example"), ME, YOU]),
    ("body", OPEN_BODY, [Ehlo("me.example"), ME, YOU, Data()]),
    (
        "after a message",
        [*OPEN_BODY, (b"x\r\n.\r\n", b"250 ok\r\n")],
        [Ehlo("me.example"), ME, YOU, Data(), Body(b"x"), EndOfMessage()],
    ),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("extra", [b"250 ok\r\n", b"354 go\r\n", b"250-a\r\n250 b\r\n"])
@pytest.mark.parametrize(("phase", "script", "items"), PHASES)
def test_a_reply_that_nobody_asked_for_ends_the_session_in_every_phase(
    phase: str, script: list[tuple[bytes, bytes]], items: list[Item], extra: bytes, cut: int
):
    *before, (expected, reply) = script
    wire = Wire([*before, (expected, reply + extra)], cut=cut)
    events = wire.events() + wire.say(*items)
    assert events[-1] == violation(Violation.UNSOLICITED_REPLY), phase
    assert len(codes(events)) == len(script), "every reply before it counts"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("phase", "script", "items"), PHASES)
def test_421_is_honoured_in_every_phase(phase: str, script: list[tuple[bytes, bytes]], items: list[Item], cut: int):
    *before, (expected, reply) = script
    wire = Wire([*before, (expected, reply + b"421 shutting down\r\n")], cut=cut)
    events = wire.events() + wire.say(*items)
    assert events[-1] == going(421, "shutting down"), phase
    assert wire.client.broken is CloseReason.GOING_AWAY


@pytest.mark.parametrize("extra", [b"550 no\r\n", b"451 later\r\n"])
@pytest.mark.parametrize(("phase", "script", "items"), [row for row in PHASES if row[0] != "body"])
def test_an_unasked_refusal_ends_the_session_too(
    phase: str, script: list[tuple[bytes, bytes]], items: list[Item], extra: bytes
):
    *before, (expected, reply) = script
    wire = Wire([*before, (expected, reply + extra)])
    events = wire.events() + wire.say(*items)
    assert events[-1] == violation(Violation.UNSOLICITED_REPLY), phase


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("refused", range(4))
def test_421_ends_a_pipelined_group_and_what_is_behind_it_is_not_read(refused: int, cut: int):
    replies = [b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"]
    replies[refused:] = [b"421 bye\r\n"] * (4 - refused)
    group = (MAIL + TO_YOU + TO_HIM + b"DATA\r\n", b"".join(replies) + b"250 what\r\n")
    wire = Wire([GREETING, PIPELINING, group], cut=cut).open()
    events = wire.say(ME, YOU, HIM, Data(), at_once=True)
    assert [code for _, code in codes(events)] == [250] * refused + [421]
    assert events[-1] == going(421, "bye")
    assert wire.client.outstanding == 0


# What came, and when the command left: nothing of its answer may be there before.
EARLY: list[tuple[list[bytes], list[bytes], Violation, str]] = [
    ([b"250 ok\r\n"], [], Violation.UNSOLICITED_REPLY, "a whole reply"),
    ([b"250 o"], [b"k\r\n"], Violation.UNSOLICITED_REPLY, "half a line"),
    ([b"2"], [b"50 ok\r\n"], Violation.UNSOLICITED_REPLY, "an octet"),
    ([b"250-ok\r\n"], [b"250 ok\r\n"], Violation.UNSOLICITED_REPLY, "a line of two"),
    ([b"250-ok\r\n25"], [b"0 ok\r\n"], Violation.UNSOLICITED_REPLY, "a line and a half"),
    ([b"garbage\r\n"], [], Violation.REPLY_SYNTAX, "no reply at all"),
    ([b"550 no\r\n"], [], Violation.UNSOLICITED_REPLY, "a refusal"),
]


@pytest.mark.parametrize("pulled", [True, False])
@pytest.mark.parametrize(("before", "after", "name", "reason"), EARLY)
def test_a_reply_that_began_before_its_command_left_is_not_its_reply(
    before: list[bytes], after: list[bytes], name: Violation, reason: str, pulled: bool
):
    client = Wire([GREETING, LOCK_STEP]).open().client
    for octets in before:
        client.receive_data(octets)
    if pulled:
        client.send(Noop())
        client.next_event()
    client.send(Noop())
    client.data_to_send()
    for octets in after:
        client.receive_data(octets)
    events = [client.next_event(), client.next_event()]
    assert events == [violation(name)] * 2, reason


def test_421_that_began_before_the_command_left_is_honoured():
    client = Wire([GREETING, LOCK_STEP]).open().client
    client.receive_data(b"42")
    client.send(Noop())
    client.data_to_send()
    client.receive_data(b"1 bye\r\n")
    assert client.next_event() == going(421, "bye")


def test_half_a_reply_to_an_older_command_is_no_early_reply():
    client = Wire([GREETING, PIPELINING]).open().client
    client.send(ME)
    assert client.data_to_send() == MAIL
    client.receive_data(b"250 o")
    client.send(YOU)
    assert client.data_to_send() == TO_YOU
    client.receive_data(b"k\r\n250 ok\r\n")
    assert client.next_event() == ReplyReceived(ME, Reply(250, "ok"))
    assert client.next_event() == ReplyReceived(YOU, Reply(250, "ok"))
    assert client.next_event() is Flow.NEED_COMMAND


def test_one_reply_too_many_for_what_had_left_is_not_the_next_commands():
    client = Wire([GREETING, PIPELINING]).open().client
    client.send(ME)
    client.data_to_send()
    client.receive_data(b"250 ok\r\n250 forged\r\n")
    client.send(YOU)
    assert client.data_to_send() == b"", "the forged reply was here before the command could leave"
    assert client.next_event() == ReplyReceived(ME, Reply(250, "ok"))
    assert client.next_event() == violation(Violation.UNSOLICITED_REPLY)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"552 5.3.4 too big\r\n", "a limit that was passed"),
        (b"451 4.3.1 disk full\r\n", "trouble on their side"),
        (b"421 4.3.2 going down\r\n", "the end of the session"),
        (b"550-no\r\n550 no\r\n", "in two lines"),
    ],
)
def test_a_final_refusal_in_mid_body_is_the_messages_and_ends_the_session(reply: bytes, reason: str, cut: int):
    wire = Wire([*OPEN_BODY, (b"first\r\n", reply)], cut=cut).open()
    events = wire.say(ME, YOU, Data(), Body(b"first\r\n"), Body(b"second\r\n"), EndOfMessage())
    refused, closed = events[-2:]
    assert isinstance(refused, ReplyReceived)
    assert (refused.to, refused.reply.code) == (EndOfMessage(), int(reply[:3])), reason
    assert closed == ConnectionClosed(CloseReason.GOING_AWAY, reply=refused.reply)
    assert wire.written.endswith(b"first\r\n"), "the rest stays here, and so does the dot"


def test_a_refusal_that_came_before_the_dot_left_is_the_messages():
    wire = Wire(OPEN_BODY).open()
    wire.say(ME, YOU, Data())
    wire.client.receive_data(b"552 too big\r\n")
    wire.client.send(EndOfMessage())
    assert wire.client.data_to_send() == b""
    assert wire.client.next_event() == ReplyReceived(EndOfMessage(), Reply(552, "too big"))
    assert wire.client.next_event() == going(552, "too big")


def test_a_yes_that_came_before_the_dot_left_is_a_lie():
    wire = Wire(OPEN_BODY).open()
    wire.say(ME, YOU, Data())
    wire.client.send(Body(b"x"))
    wire.client.receive_data(b"250 taken\r\n")
    wire.client.send(EndOfMessage())
    assert wire.client.data_to_send() == b""
    assert wire.client.next_event() == violation(Violation.UNSOLICITED_REPLY)


def test_an_answer_to_the_lone_dot_before_it_left_ends_the_session():
    group = (MAIL + TO_YOU + b"DATA\r\n", b"250 ok\r\n550 no\r\n354 go\r\n250 taken\r\n")
    wire = Wire([GREETING, PIPELINING, group]).open()
    events = wire.say(ME, YOU, Data(), at_once=True)
    assert events[-2:] == [NoRecipients(), violation(Violation.UNSOLICITED_REPLY)]


END_OF_INPUT: list[tuple[bytes, list[int], str]] = [
    (b"", [], "nothing came"),
    (b"250", [], "a code without an end"),
    (b"250 ok", [], "a whole text, and no end"),
    (b"250 ok\r", [], "half an end"),
    (b"250-ok\r\n", [], "more lines were promised"),
    (b"250-ok\r\n250 ok", [], "the last line has no end"),
    (b"250 ok\r\n", [250], "a whole line counts"),
    (b"250 ok\r\n2", [250], "and what is behind it does not undo it"),
    (b"550-no\r\n550 no\r\n", [550], "two whole lines"),
]


@pytest.mark.parametrize("how", ["eof", "lost"])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("octets", "expected", "reason"), END_OF_INPUT)
def test_a_reply_counts_when_its_last_line_is_whole(
    octets: bytes, expected: list[int], reason: str, cut: int, how: str
):
    client = Wire([GREETING, LOCK_STEP]).open().client
    client.send(Noop())
    client.data_to_send()
    for start in range(0, len(octets), cut):
        client.receive_data(octets[start : start + cut])
    if how == "eof":
        client.receive_eof()
        closed = ConnectionClosed(CloseReason.EOF)
    else:
        client.connection_lost()
        closed = ConnectionClosed(CloseReason.LOST)
    events = [client.next_event() for _ in range(len(expected) + 1)]
    replies = [event.reply.code for event in events if isinstance(event, ReplyReceived)]
    assert (replies, events[-1]) == (expected, closed), reason
    assert client.broken is closed.reason


@pytest.mark.parametrize(("phase", "script", "items"), PHASES)
def test_eof_ends_the_session_in_every_phase(phase: str, script: list[tuple[bytes, bytes]], items: list[Item]):
    wire = Wire(script, eof=True)
    events = wire.events() + wire.say(*items)
    assert events[-1] == ConnectionClosed(CloseReason.EOF), phase
    assert wire.client.phase is Phase.CLOSED


def test_the_answer_to_quit_is_the_last_thing_read():
    wire = Wire([GREETING, (b"QUIT\r\n", b"221 bye\r\n250 what\r\n")])
    wire.events()
    events = wire.say(Quit())
    assert events == [ReplyReceived(Quit(), Reply(221, "bye")), ConnectionClosed(CloseReason.QUIT)]


def test_no_octets_do_nothing():
    client = ClientConnection("me.example", clock=ManualClock())
    client.receive_data(b"")
    assert client.next_event() is Flow.NEED_DATA


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"220 mx\r\n", b"250 ok\r\n", b"250-PIPELINING\r\n", b"354 go\r\n", b"550 no\r\n", b"421 bye\r\n", b"\r\n"]
        ),
    ),
    max_size=12,
)
COMMANDS: list[Item] = [Ehlo("me.example"), ME, YOU, Data(), Body(b"."), EndOfMessage(), Noop(), Quit()]


@settings(max_examples=200, deadline=None)
@given(PIECES, st.lists(st.sampled_from(COMMANDS), max_size=12))
def test_nothing_a_peer_sends_can_raise(pieces: list[bytes], items: list[Item]):
    client = ClientConnection("me.example", clock=ManualClock(), limits=LIMITS)
    said = iter(items)
    asked: list[Command | Connected | EndOfMessage] = [Connected()]
    for piece in pieces:
        client.receive_data(piece)
        while not isinstance(event := client.next_event(), Flow):
            if isinstance(event, ReplyReceived):
                assert event.to in asked
            if isinstance(event, ConnectionClosed):
                break
        item = next(said, None)
        if isinstance(item, Body | EndOfMessage):
            if client.can_send_body:
                client.send(item)
        elif isinstance(item, Ehlo | Noop) and client.in_sync and client.phase is not Phase.REFUSED:
            asked.append(item)
            client.send(item)
        client.data_to_send()
    assert (client.closed is None) is (client.phase is not Phase.CLOSED)
