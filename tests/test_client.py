"""ClientConnection: greeting, hello, pipelining, transactions, and what `send` refuses."""

import pytest

from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._budget import Limits
from smtpstate._capabilities import NO_CAPABILITIES, Capabilities
from smtpstate._client import ClientConnection
from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Command,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
)
from smtpstate._errors import LocalProtocolError
from smtpstate._events import (
    Body,
    CapabilitiesChanged,
    CloseReason,
    Connected,
    ConnectionClosed,
    Flow,
    NoRecipients,
    ReplyReceived,
)
from smtpstate._params import BodyType
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, Item, ManualClock, Wire, codes

GREETING = (b"", b"220 mx.example\r\n")
PIPELINED = (HELLO, b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n")
LOCK_STEP = (HELLO, b"250-mx.example\r\n250-SIZE 1000\r\n250 8BITMIME\r\n")
MAIL = b"MAIL FROM:<me@me.example>\r\n"
ME, YOU, HIM = Mail.of("me@me.example"), Rcpt.of("you@mx.example"), Rcpt.of("him@mx.example")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("greeting", "reply", "phase", "reason"),
    [
        (b"220 mx\r\n", Reply(220, "mx"), Phase.GREETED, "the usual one"),
        (b"220\r\n", Reply(220), Phase.GREETED, "RFC 5321 section 4.2: text is optional"),
        (b"220-mx\r\n220-no spam\r\n220 go\r\n", Reply(220, "mx", "no spam", "go"), Phase.GREETED, "several lines"),
        (b"220 mx\n", Reply(220, "mx"), Phase.GREETED, "LF alone ends a reply's line too"),
        (b"220 \xff\r\n", Reply(220, "\ufffd"), Phase.GREETED, "octets that are not UTF-8 are replaced"),
        (b"554 no\r\n", Reply(554, "no"), Phase.REFUSED, "section 3.1: only QUIT is left"),
        (b"450 later\r\n", Reply(450, "later"), Phase.REFUSED, "the first digit decides"),
    ],
)
def test_the_greeting_is_a_reply_to_the_connection(greeting: bytes, reply: Reply, phase: Phase, reason: str, cut: int):
    wire = Wire([(b"", greeting)], cut=cut)
    assert wire.client.outstanding == 1
    assert not wire.client.in_sync
    assert wire.events() == [ReplyReceived(Connected(), reply)], reason
    assert wire.client.phase is phase
    assert wire.client.in_sync
    assert wire.client.deadline is None, "nothing is due, so nothing can be late"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("code", [421, 521])
def test_a_greeting_that_closes_is_told_and_ends_the_session(code: int, cut: int):
    wire = Wire([(b"", b"%d go away\r\n" % code)], cut=cut)
    reply = Reply(code, "go away")
    closed = ConnectionClosed(CloseReason.GOING_AWAY, reply=reply)
    assert wire.events() == [ReplyReceived(Connected(), reply), closed]
    assert wire.client.broken is CloseReason.GOING_AWAY
    assert wire.client.half_close


def test_after_554_nothing_but_quit_is_in_order():
    wire = Wire([(b"", b"554 no\r\n"), (b"QUIT\r\n", b"221 bye\r\n")])
    wire.events()
    for command in (Ehlo("me.example"), Noop(), Rset()):
        with pytest.raises(LocalProtocolError, match="out of order"):
            wire.client.send(command)
    assert wire.say(Quit()) == [ReplyReceived(Quit(), Reply(221, "bye")), ConnectionClosed(CloseReason.QUIT)]
    assert wire.client.broken is None, "this end was agreed"
    assert wire.client.closed == ConnectionClosed(CloseReason.QUIT)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("reply", "keywords", "reason"),
    [
        (b"250 mx\r\n", {}, "nothing is offered"),
        (b"250 SIZE\r\n", {}, "the first line is the server's name, whatever it looks like"),
        (b"250-mx\r\n250 SIZE 10\r\n", {"SIZE": ("10",)}, "a keyword with a parameter"),
        (b"250-mx\r\n250 Size 10\r\n", {"SIZE": ("10",)}, "keywords have no case"),
        (b"250-mx\r\n250-\r\n250-*?\r\n250 STARTTLS\r\n", {"STARTTLS": ()}, "lines that make no sense are ignored"),
        (b"250-mx\r\n250 AUTH=PLAIN\r\n", {"AUTH": ("PLAIN",)}, "an old spelling"),
    ],
)
def test_ehlo_tells_what_is_offered(reply: bytes, keywords: dict[str, tuple[str, ...]], reason: str, cut: int):
    wire = Wire([GREETING, (HELLO, reply)], cut=cut)
    wire.events()
    _, changed = wire.say(Ehlo("me.example"))
    assert changed == CapabilitiesChanged(Capabilities(keywords)), reason
    assert wire.client.capabilities == Capabilities(keywords)
    assert wire.client.phase is Phase.READY


def test_helo_offers_nothing_whatever_it_says():
    wire = Wire([GREETING, (HELLO, b"502 what\r\n"), (b"HELO me.example\r\n", b"250-mx\r\n250 PIPELINING\r\n")])
    wire.events()
    assert codes(wire.say(Ehlo("me.example"))) == [("EHLO", 502)]
    assert wire.client.phase is Phase.GREETED
    assert codes(wire.say(Helo("me.example"))) == [("HELO", 250)]
    assert wire.client.capabilities == NO_CAPABILITIES


def test_a_second_hello_replaces_what_the_first_one_offered():
    wire = Wire([GREETING, PIPELINED, (HELLO, b"250 mx.example\r\n")]).open()
    wire.client.send(Ehlo("me.example"))
    for command in (Mail.of("me@me.example", size=1), StartTls(), Auth("PLAIN"), Bdat(1)):
        with pytest.raises(LocalProtocolError):
            wire.client.send(command)  # what it will offer is not known yet
    wire.events()
    assert wire.client.capabilities == NO_CAPABILITIES


def test_starttls_waits_until_the_hello_is_answered():
    offer = (HELLO, b"250-mx.example\r\n250 STARTTLS\r\n")
    wire = Wire([GREETING, offer, offer, (b"STARTTLS\r\n", b"454 not now\r\n")]).open()
    wire.client.send(Ehlo("me.example"))
    with pytest.raises(LocalProtocolError, match="not known before the hello"):
        wire.client.send(StartTls())
    wire.events()
    assert codes(wire.say(StartTls())) == [("STARTTLS", 454)]
    assert wire.client.phase is Phase.READY


# The same transaction, said at once to a server that pipelines and to one that does not.
TRANSACTIONS = [
    ("250 ok", ["250 ok", "250 ok"], "354 go", "all is well"),
    ("250 ok", ["550 no", "250 ok"], "354 go", "one of two recipients is refused, and the other is not touched"),
    ("250 ok", ["250 ok", "451 later"], "354 go", "the last one is refused"),
    ("250 ok", ["251 moved", "252 maybe"], "354 go", "the first digit decides"),
    ("250 ok", ["550 no", "550 no"], "554 nobody", "nobody is left"),
    ("550 no", ["503 no", "503 no"], "503 no", "the sender is refused"),
    ("250 ok", ["250 ok", "250 ok"], "451 later", "DATA is refused"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("mail", "rcpts", "data", "reason"), TRANSACTIONS)
def test_pipelined_or_in_lock_step_the_results_are_the_same(
    mail: str, rcpts: list[str], data: str, reason: str, pipelining: bool, cut: int
):
    lines = [MAIL, b"RCPT TO:<you@mx.example>\r\n", b"RCPT TO:<him@mx.example>\r\n", b"DATA\r\n"]
    said = [line.encode() + b"\r\n" for line in (mail, *rcpts, data)]
    script = [(b"".join(lines), b"".join(said))] if pipelining else list(zip(lines, said, strict=True))
    wire = Wire([GREETING, PIPELINED if pipelining else LOCK_STEP, *script], cut=cut).open()
    written = len(wire.groups)
    events = wire.say(ME, YOU, HIM, Data(), at_once=True)
    asked: list[Command] = [ME, YOU, HIM, Data()]
    answers = zip(asked, (mail, *rcpts, data), strict=True)
    assert events == [ReplyReceived(to, Reply(int(text[:3]), text[4:])) for to, text in answers], reason
    assert wire.client.can_send_body is data.startswith("354")
    assert len(wire.groups) - written == (1 if pipelining else 4)


def test_nothing_is_written_past_a_command_that_ends_its_group():
    wire = Wire([GREETING, PIPELINED, (b"NOOP\r\n", b"250 ok\r\n"), (MAIL, b"250 ok\r\n")]).open()
    wire.client.send(Noop())
    wire.client.send(ME)
    assert wire.client.outstanding == 2
    assert wire.client.data_to_send() == b"NOOP\r\n"
    wire.client.receive_data(b"250 ok\r\n")
    assert wire.client.next_event() == ReplyReceived(Noop(), Reply(250, "ok"))
    assert wire.client.data_to_send() == MAIL


def test_commands_wait_for_the_greeting():
    wire = Wire([GREETING, (HELLO, b"250 mx\r\n"), (MAIL, b"250 ok\r\n")])
    wire.client.send(Ehlo("me.example"))
    wire.client.send(ME)
    assert wire.client.data_to_send() == b"", "RFC 5321 section 4.3.1: a client waits for the greeting"
    assert codes(wire.events()) == [("CONNECT", 220), ("EHLO", 250), ("MAIL", 250)]
    assert wire.groups == [HELLO, MAIL]


TO_HIM = (b"RCPT TO:<him@mx.example>\r\n", b"250 ok\r\n")
TO_YOU = (b"RCPT TO:<you@mx.example>\r\n", b"250 ok\r\n")
BODY_TABLE: list[tuple[list[bytes], bytes, str]] = [
    ([], b".\r\n", "an empty message"),
    ([b""], b".\r\n", "an empty piece"),
    ([b"hi\r\n"], b"hi\r\n.\r\n", "as it should be"),
    ([b"hi"], b"hi\r\n.\r\n", "the last line ends before the dot"),
    ([b"a\nb\rc\r\n"], b"a\r\nb\r\nc\r\n.\r\n", "bare LF and bare CR become CRLF: RFC 5321 section 2.3.8"),
    ([b"a\r", b"\nb"], b"a\r\nb\r\n.\r\n", "a CRLF that is cut is one newline"),
    ([b".\r\n"], b"..\r\n.\r\n", "section 4.5.2: a dot before each dot at the start of a line"),
    ([b".x"], b"..x\r\n.\r\n", "each message begins at the start of a line, however the one before it ended"),
    ([b"a\r\n", b".b\r\n..c"], b"a\r\n..b\r\n...c\r\n.\r\n", "across a cut"),
    ([b"a\n.\nb"], b"a\r\n..\r\nb\r\n.\r\n", "a lone dot that normalising makes is content"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("pieces", "octets", "reason"), BODY_TABLE)
def test_a_body_is_normalised_and_stuffed_and_two_messages_fit_in_one_session(
    pieces: list[bytes], octets: bytes, reason: str, cut: int
):
    go = (b"DATA\r\n", b"354 go\r\n")
    message = [(MAIL, b"250 ok\r\n"), TO_YOU, go, (octets, b"250 2.0.0 taken\r\n")]
    wire = Wire([GREETING, LOCK_STEP, *message, *message], cut=cut).open()
    items: list[Item] = [ME, YOU, Data(), *map(Body, pieces), EndOfMessage()]
    for _ in range(2):
        events = wire.say(*items)
        assert events[-1] == ReplyReceived(EndOfMessage(), Reply(250, "taken", enhanced="2.0.0")), reason
        assert wire.client.phase is Phase.READY
    assert not wire.script


@pytest.mark.parametrize("answer", [b"554 nobody\r\n", b"250 taken, by nobody\r\n", b"451 later\r\n"])
@pytest.mark.parametrize("cut", CUTS)
def test_354_without_a_recipient_gets_the_lone_dot_and_its_answer_is_eaten(answer: bytes, cut: int):
    group = (MAIL + TO_YOU[0] + b"DATA\r\n", b"250 ok\r\n550 no\r\n354 go\r\n")
    wire = Wire([GREETING, PIPELINED, group, (b".\r\n", answer), (b"NOOP\r\n", b"250 ok\r\n")], cut=cut).open()
    events = wire.say(ME, YOU, Data(), at_once=True)
    assert codes(events) == [("MAIL", 250), ("RCPT", 550)]
    assert events[-1] == NoRecipients()
    assert wire.client.in_sync
    assert wire.client.phase is Phase.READY
    assert codes(wire.say(Noop())) == [("NOOP", 250)], "the next reply is the next command's"


def test_no_body_can_follow_the_lone_dot():
    group = (MAIL + TO_YOU[0] + b"DATA\r\n", b"250 ok\r\n550 no\r\n354 go\r\n")
    wire = Wire([GREETING, PIPELINED, group]).open()
    for command in (ME, YOU, Data()):
        wire.client.send(command)
    while wire.pull() != NoRecipients():
        pass
    assert wire.client.phase is Phase.BODY
    for item in (Body(b"x"), EndOfMessage()):
        with pytest.raises(LocalProtocolError, match="no body"):
            wire.client.send(item)


def test_421_to_the_lone_dot_is_honoured():
    group = (MAIL + TO_YOU[0] + b"DATA\r\n", b"250 ok\r\n550 no\r\n354 go\r\n")
    wire = Wire([GREETING, PIPELINED, group, (b".\r\n", b"421 bye\r\n")]).open()
    events = wire.say(ME, YOU, Data(), at_once=True)
    assert events[-1] == ConnectionClosed(CloseReason.GOING_AWAY, reply=Reply(421, "bye"))


def state(client: ClientConnection) -> tuple[object, ...]:
    return (client.phase, client.outstanding, client.capabilities, client.deadline, client.closed, client.in_sync)


CRLF_INJECTED = Mailbox("x>\r\nRCPT TO:<evil", "mx.example")
REFUSED_IN_READY: list[tuple[Item, str]] = [
    (Mail.of("me@me.example", size=1), "SIZE is not offered"),
    (Mail.of("me@me.example", body=BodyType.EIGHTBITMIME), "8BITMIME is not offered"),
    (Mail(ME.reverse_path, (("SIZE", "big"),)), "no number"),
    (Mail(ME.reverse_path, (("X", "a\r\nRSET"),)), "CR and LF in a parameter that nobody knows"),
    (Mail(ReversePath(CRLF_INJECTED)), "CR and LF in a local part"),
    (Mail(ReversePath(Mailbox("me", "me.example>\r\nRSET"))), "CR and LF in a domain"),
    (Mail(ReversePath(Mailbox("me", "me.example> SIZE=1"))), "a parameter in a domain"),
    (Mail(ReversePath(Mailbox("m\u00e9", "me.example"))), "8 bits need SMTPUTF8"),
    (Ehlo("me.example\r\nRSET"), "CR and LF in a name"),
    (Ehlo(""), "EHLO takes a name"),
    (Helo("me\nRSET"), "LF in a name"),
    (Noop("x\r\nRSET"), "CR and LF in text"),
    (Noop("x\rRSET"), "a bare CR"),
    (Noop("x\nRSET"), "a bare LF"),
    (Noop("x\0"), "NUL"),
    (Noop("x" * 2048), "a line too long"),
    (Vrfy(""), "VRFY takes an argument"),
    (Vrfy("x\r\nRSET"), "CR and LF in text"),
    (Expn("x\r\nRSET"), "CR and LF in text"),
    (Help("x\r\nRSET"), "CR and LF in text"),
    (YOU, "no MAIL yet"),
    (Data(), "no MAIL yet"),
    (StartTls(), "STARTTLS is not offered"),
    (Auth("PLAIN", b"\0me\0secret"), "AUTH is not offered"),
    (AuthResponse(b"secret"), "nothing was asked"),
    (AuthCancel(), "nothing to call off"),
    (Bdat(1), "no MAIL yet"),
    (Lhlo("me.example"), "this is SMTP"),
    (Body(b"x"), "no DATA yet"),
    (EndOfMessage(), "no DATA yet"),
]


@pytest.mark.parametrize(("item", "reason"), REFUSED_IN_READY)
def test_what_send_refuses_changes_nothing(item: Item, reason: str):
    wire = Wire([GREETING, (HELLO, b"250 mx\r\n"), (b"NOOP\r\n", b"250 ok\r\n")]).open()
    before = state(wire.client)
    with pytest.raises(LocalProtocolError):
        wire.client.send(item)
    assert state(wire.client) == before, reason
    assert wire.client.data_to_send() == b""
    assert codes(wire.say(Noop())) == [("NOOP", 250)]


@pytest.mark.parametrize(
    ("rcpt", "reason"),
    [
        (Rcpt(ForwardPath(CRLF_INJECTED)), "CR and LF in a local part"),
        (Rcpt(ForwardPath(Mailbox("you", "mx.example>\r\nDATA"))), "CR and LF in a domain"),
        (Rcpt(YOU.recipient, (("NOTIFY", "NEVER"),)), "DSN is not offered"),
        (Data(), "nobody was accepted"),
        (ME, "a transaction is open"),
        (Bdat(1), "CHUNKING is not offered"),
        (Auth("PLAIN"), "a transaction is open"),
    ],
)
def test_what_send_refuses_in_a_transaction_changes_nothing(rcpt: Command, reason: str):
    wire = Wire([GREETING, PIPELINED, (MAIL, b"250 ok\r\n"), TO_HIM]).open()
    wire.say(ME)
    before = state(wire.client)
    with pytest.raises(LocalProtocolError):
        wire.client.send(rcpt)
    assert state(wire.client) == before, reason
    assert codes(wire.say(HIM)) == [("RCPT", 250)]


@pytest.mark.parametrize("item", [Noop(), Rset(), Quit(), ME, YOU, Data()])
def test_inside_a_body_no_command_is_in_order(item: Command):
    wire = Wire([GREETING, LOCK_STEP, (MAIL, b"250 ok\r\n"), TO_YOU, (b"DATA\r\n", b"354 go\r\n")]).open()
    wire.say(ME, YOU, Data())
    assert wire.client.can_send_body
    assert not wire.client.in_sync
    with pytest.raises(LocalProtocolError, match="out of order"):
        wire.client.send(item)
    wire.client.send(EndOfMessage())
    assert not wire.client.can_send_body, "its end was said"
    with pytest.raises(LocalProtocolError, match="no body"):
        wire.client.send(Body(b"more"))


def test_rset_is_only_for_those_in_sync():
    wire = Wire([GREETING, PIPELINED, (MAIL, b"250 ok\r\n"), (b"RSET\r\n" + MAIL, b"250 ok\r\n250 ok\r\n")]).open()
    wire.client.send(ME)
    with pytest.raises(LocalProtocolError, match="RSET cannot tell"):
        wire.client.send(Rset())
    wire.events()
    assert wire.client.phase is Phase.MAIL
    assert codes(wire.say(Rset(), ME, at_once=True)) == [("RSET", 250), ("MAIL", 250)], "others may follow it"


def test_size_and_body_are_sent_where_they_are_offered():
    line = b"MAIL FROM:<me@me.example> SIZE=12 BODY=8BITMIME\r\n"
    wire = Wire([GREETING, LOCK_STEP, (line, b"250 ok\r\n")]).open()
    assert codes(wire.say(Mail.of("me@me.example", size=12, body=BodyType.EIGHTBITMIME))) == [("MAIL", 250)]


def test_a_refused_mail_takes_back_what_was_assumed_of_it():
    wire = Wire([GREETING, PIPELINED, (MAIL, b"550 no\r\n")]).open()
    wire.say(ME)
    with pytest.raises(LocalProtocolError, match="out of order"):
        wire.client.send(YOU)
    assert wire.client.phase is Phase.READY


@pytest.mark.parametrize(
    ("command", "line", "code"),
    [
        (Vrfy("you"), b"VRFY you\r\n", 252),
        (Expn("list"), b"EXPN list\r\n", 250),
        (Help(), b"HELP\r\n", 214),
        (Help("MAIL"), b"HELP MAIL\r\n", 211),
        (Noop("x"), b"NOOP x\r\n", 250),
        (Rset(), b"RSET\r\n", 250),
    ],
)
def test_the_small_commands_get_their_replies(command: Command, line: bytes, code: int):
    wire = Wire([GREETING, LOCK_STEP, (line, b"%d ok\r\n" % code)]).open()
    assert wire.say(command) == [ReplyReceived(command, Reply(code, "ok"))]


def test_a_quit_that_is_refused_leaves_the_session_open():
    wire = Wire([GREETING, (b"QUIT\r\n", b"500 what\r\n")])
    wire.events()
    assert codes(wire.say(Quit())) == [("QUIT", 500)]
    assert wire.client.closed is None


def test_after_the_end_nothing_is_sent_and_nothing_raises():
    wire = Wire([GREETING, (b"QUIT\r\n", b"221 bye\r\n")])
    wire.events()
    wire.say(Quit())
    client = wire.client
    closed = ConnectionClosed(CloseReason.QUIT)
    items: list[Item] = [Noop(), Rset(), YOU, Body(b"x"), EndOfMessage(), Noop("\r\n")]
    assert [client.send(item) for item in items] == [False] * len(items)
    client.receive_data(b"250 more\r\n")
    client.receive_eof()
    client.connection_lost()
    client.handle_timeout()
    client.close()
    assert client.next_event() == client.next_event() == closed
    assert (client.data_to_send(), client.deadline, client.outstanding) == (b"", None, 0)
    assert not client.in_sync
    assert not client.can_send_body


def test_close_ends_at_once_and_drops_what_is_queued():
    wire = Wire([GREETING])
    wire.events()
    wire.client.send(Quit())
    wire.client.close()
    assert wire.client.data_to_send() == b""
    assert wire.client.next_event() == ConnectionClosed(CloseReason.CLOSED)
    assert wire.client.broken is None
    assert wire.client.half_close


def test_limits_are_the_callers():
    client = ClientConnection("me.example", clock=ManualClock(), limits=Limits(command_line=600))
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        client.send(Noop("x" * 594))
    client.receive_data(b"220 mx\r\n")
    client.next_event()
    assert client.next_event() is Flow.NEED_COMMAND


def test_it_never_asks_to_read_before_it_writes() -> None:
    assert ClientConnection("c.example.com", clock=lambda: 0.0).reads_first is False
