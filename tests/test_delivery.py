"""The client procedures: one message, and what becomes of it for each recipient."""

from collections.abc import Sequence

import pytest

from smtpstate._commands import Noop
from smtpstate._delivery import NO_EIGHT_BIT, TlsMode
from smtpstate._errors import LocalProtocolError
from smtpstate._events import CloseReason, ConnectionClosed, Timer, Violation
from smtpstate._outcomes import Delivery, Result
from smtpstate._replies import Reply
from smtpstate._state import Phase
from smtpstate.delivery import Envelope, Wants, open_session, quit_session, send_message
from tests.scripted_server import CUTS, HELLO, Wire

GREETING = (b"", b"220 mx.example\r\n")
PLAIN = (HELLO, b"250 mx.example\r\n")

A, B, C = "a@x.example", "b@x.example", "c@x.example"
MAIL = b"MAIL FROM:<me@me.example>\r\n"
RCPTS = {address: f"RCPT TO:<{address}>\r\n".encode() for address in (A, B, C)}
ACCEPTED, RETRY, REFUSED, UNKNOWN = Result.ACCEPTED, Result.RETRY, Result.REFUSED, Result.UNKNOWN


def opened(*script: tuple[bytes, bytes], offers: bytes = b"PIPELINING", cut: int = 99, eof: bool = False) -> Wire:
    hello = (HELLO, b"250-mx.example\r\n250 " + offers + b"\r\n")
    wire = Wire([GREETING, hello, *script], cut=cut, eof=eof)
    wire.run(open_session(wire.client, TlsMode.OFF))
    return wire


def script_of(pipelining: bool, commands: Sequence[bytes], replies: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """What a server says in answer to these, all at once or one by one."""
    return [(b"".join(commands), b"".join(replies))] if pipelining else list(zip(commands, replies, strict=True))


def outcomes(delivery: Delivery) -> list[tuple[Result, int | None]]:
    return [(result.outcome, result.reply and result.reply.code) for result in delivery]


ME_TO_TWO = Envelope("me@me.example", (A, B))

SETTLED = [
    (
        [b"250 ok", b"250 ok", b"250 ok", b"354 go"],
        b"250 2.0.0 queued as 42",
        [(ACCEPTED, 250), (ACCEPTED, 250)],
        "all is well",
    ),
    ([b"250 ok", b"550 no", b"250 ok", b"354 go"], b"250 ok", [(REFUSED, 550), (ACCEPTED, 250)], "the first refused"),
    ([b"250 ok", b"250 ok", b"452 full", b"354 go"], b"250 ok", [(ACCEPTED, 250), (RETRY, 452)], "the second, for now"),
    ([b"250 ok", b"251 moved", b"252 maybe", b"354 go"], b"250 ok", [(ACCEPTED, 250)] * 2, "the first digit decides"),
    ([b"250 ok", b"250 ok", b"250 ok", b"354 go"], b"554 spam", [(REFUSED, 554)] * 2, "the message refused"),
    ([b"250 ok", b"250 ok", b"250 ok", b"354 go"], b"451 later", [(RETRY, 451)] * 2, "the message, for now"),
    ([b"250 ok", b"550 no", b"250 ok", b"354 go"], b"451 later", [(REFUSED, 550), (RETRY, 451)], "both kinds"),
    ([b"250 ok", b"250 ok", b"250 ok", b"354 go"], b"421 bye", [(RETRY, 421)] * 2, "421 to the dot is an answer"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("replies", "final", "expected", "reason"), SETTLED)
def test_each_recipient_has_an_outcome_and_the_reply_that_decided_it(
    replies: list[bytes],
    final: bytes,
    expected: list[tuple[Result, int]],
    reason: str,
    pipelining: bool,
    cut: int,
):
    lines = [reply + b"\r\n" for reply in replies]
    script = script_of(pipelining, [MAIL, RCPTS[A], RCPTS[B], b"DATA\r\n"], lines)
    wire = opened(
        *script, (b"Hi\r\n..\r\n.\r\n", final + b"\r\n"), offers=b"PIPELINING" if pipelining else b"HELP", cut=cut
    )
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"Hi\n", b".")
    assert outcomes(delivery) == expected, reason
    assert [result.address for result in delivery] == [A, B]
    assert delivery.all_accepted is (expected == [(ACCEPTED, 250)] * 2)
    assert delivery.having(ACCEPTED) == tuple(a for a, (o, _) in zip((A, B), expected, strict=True) if o is ACCEPTED)
    assert not wire.script


# What a server says to MAIL, RCPT, RCPT and DATA when there will be no body; the last is the reply after that.
UNSENT = [
    ([b"550 no", b"503 no", b"503 no", b"503 no"], [(REFUSED, 550)] * 2, None, "MAIL is refused for all"),
    ([b"451 later", b"503 no", b"503 no", b"503 no"], [(RETRY, 451)] * 2, None, "MAIL, for now"),
    ([b"250 ok", b"550 no", b"450 no", b"554 no"], [(REFUSED, 550), (RETRY, 450)], b"RSET\r\n", "nobody is left"),
    ([b"250 ok", b"250 ok", b"550 no", b"451 no"], [(RETRY, 451), (REFUSED, 550)], b"RSET\r\n", "DATA, for now"),
    ([b"250 ok", b"250 ok", b"250 ok", b"554 no"], [(REFUSED, 554)] * 2, b"RSET\r\n", "DATA is refused"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("replies", "expected", "reset", "reason"), UNSENT)
def test_without_a_body_the_session_is_clean_for_the_next_message(
    replies: list[bytes],
    expected: list[tuple[Result, int]],
    reset: bytes | None,
    reason: str,
    pipelining: bool,
    cut: int,
):
    commands = [MAIL, RCPTS[A], RCPTS[B], b"DATA\r\n"]
    script = script_of(pipelining, commands, [reply + b"\r\n" for reply in replies])
    if not pipelining and not replies[0].startswith(b"250"):
        script = script[:1]  # nobody asks on when the sender is refused
    elif not pipelining and not any(reply.startswith(b"250") for reply in replies[1:3]):
        script = script[:3]  # nor for DATA when nobody is left
    if reset is not None:
        script.append((reset, b"250 ok\r\n"))
    again = script_of(pipelining, [MAIL, RCPTS[C], b"DATA\r\n"], [b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"])
    script += [*again, (b".\r\n", b"250 ok\r\n")]
    wire = opened(*script, offers=b"PIPELINING" if pipelining else b"HELP", cut=cut)
    assert outcomes(wire.run(send_message(wire.client, ME_TO_TWO), b"never sent")) == expected, reason
    assert wire.client.phase is Phase.READY
    second = wire.run(send_message(wire.client, Envelope("me@me.example", (C,))))
    assert outcomes(second) == [(ACCEPTED, 250)]
    assert second.closed is None


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("answer", [b"554 nobody\r\n", b"250 taken\r\n"])
def test_354_for_nobody_costs_a_lone_dot_and_changes_nothing(answer: bytes, cut: int):
    group = (MAIL + RCPTS[A] + RCPTS[B] + b"DATA\r\n", b"250 ok\r\n550 no\r\n450 later\r\n354 go\r\n")
    wire = opened(group, (b".\r\n", answer), cut=cut)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"never sent")
    assert outcomes(delivery) == [(REFUSED, 550), (RETRY, 450)]
    assert (wire.client.phase, wire.client.in_sync, delivery.closed) == (Phase.READY, True, None)


def test_a_connection_that_breaks_at_the_lone_dot_changes_nothing_either():
    group = (MAIL + RCPTS[A] + RCPTS[B] + b"DATA\r\n", b"250 ok\r\n550 no\r\n450 later\r\n354 go\r\n")
    wire = opened(group, eof=True)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO))
    assert outcomes(delivery) == [(REFUSED, 550), (RETRY, 450)]
    assert delivery.closed == ConnectionClosed(CloseReason.EOF)


EOF = ConnectionClosed(CloseReason.EOF)
BYE = ConnectionClosed(CloseReason.GOING_AWAY, reply=Reply(421, "bye"))
# What the server says before it goes away in the middle of the commands.
LOST = [
    (b"", [(RETRY, None)] * 2, EOF, "nothing"),
    (b"250 ok\r\n", [(RETRY, None)] * 2, EOF, "the sender was taken"),
    (b"250 ok\r\n550 no\r\n", [(REFUSED, 550), (RETRY, None)], EOF, "a refusal that was told stays one"),
    (b"250 ok\r\n250 ok\r\n250 o", [(RETRY, None)] * 2, EOF, "half a line is no reply"),
    (b"250 ok\r\n550 n", [(RETRY, None)] * 2, EOF, "neither is half a refusal"),
    (b"421 bye\r\n", [(RETRY, 421)] * 2, BYE, "421 to MAIL"),
    (b"250 ok\r\n550 no\r\n421 bye\r\n", [(REFUSED, 550), (RETRY, 421)], BYE, "421 to one of them"),
    (b"250 ok\r\n421 bye\r\n421 bye\r\n421 bye\r\n", [(RETRY, 421)] * 2, BYE, "421 to all that were asked"),
    (b"250 ok\r\n550 no\r\n250 ok\r\n421 bye\r\n", [(REFUSED, 550), (RETRY, 421)], BYE, "421 to DATA"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("octets", "expected", "closed", "reason"), LOST)
def test_a_connection_that_breaks_before_the_dot_means_try_again(
    octets: bytes, expected: list[tuple[Result, int | None]], closed: ConnectionClosed, reason: str, cut: int
):
    wire = opened((MAIL + RCPTS[A] + RCPTS[B] + b"DATA\r\n", octets), cut=cut, eof=True)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"never sent")
    assert outcomes(delivery) == expected, reason
    assert delivery.closed == closed


def in_body(*after: tuple[bytes, bytes], cut: int = 99, eof: bool = False) -> Wire:
    """B is refused, A is accepted, and DATA was answered 354."""
    group = (MAIL + RCPTS[A] + RCPTS[B] + b"DATA\r\n", b"250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n")
    return opened(group, *after, cut=cut, eof=eof)


AFTER_THE_DOT = [
    (b"", (UNKNOWN, None), CloseReason.EOF, "nothing"),
    (b"250 ok", (UNKNOWN, None), CloseReason.EOF, "a yes without an end"),
    (b"250-ok\r\n", (UNKNOWN, None), CloseReason.EOF, "a yes with more to come"),
    (b"554 no", (UNKNOWN, None), CloseReason.EOF, "a no without an end"),
    (b"354 go\r\n", (UNKNOWN, None), CloseReason.VIOLATION, "not an answer"),
    (b"what\r\n", (UNKNOWN, None), CloseReason.VIOLATION, "not a reply"),
    (b"421 bye\r\n", (RETRY, 421), CloseReason.GOING_AWAY, "an answer, and the end"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("octets", "expected", "closed", "reason"), AFTER_THE_DOT)
def test_a_connection_that_breaks_after_the_dot_leaves_it_unknown(
    octets: bytes, expected: tuple[Result, int | None], closed: CloseReason, reason: str, cut: int
):
    wire = in_body((b"Hi\r\n.\r\n", octets), cut=cut, eof=True)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"Hi\r\n")
    assert outcomes(delivery) == [expected, (REFUSED, 550)], reason
    assert delivery.closed is not None
    assert delivery.closed.reason is closed


def test_no_answer_to_the_dot_in_time_leaves_it_unknown():
    wire = in_body((b"Hi\r\n.\r\n", b""))
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"Hi\r\n")
    assert outcomes(delivery) == [(UNKNOWN, None), (REFUSED, 550)]
    assert delivery.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.END)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("reply", "expected", "reason"),
    [
        (b"552 too big\r\n", (REFUSED, 552), "a final reply in mid-body"),
        (b"451 full\r\n", (RETRY, 451), "for now"),
        (b"421 bye\r\n", (RETRY, 421), "and closed"),
        (b"250 ok\r\n", (RETRY, None), "nothing can be accepted before its end"),
        (b"354 go\r\n", (RETRY, None), "a second 354"),
    ],
)
def test_a_reply_in_mid_body_stops_the_body(reply: bytes, expected: tuple[Result, int | None], reason: str, cut: int):
    wire = in_body((b"one\r\n", reply), cut=cut)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"one\r\n", b"two\r\n", b"three\r\n")
    assert outcomes(delivery) == [expected, (REFUSED, 550)], reason
    assert delivery.closed is not None
    assert wire.written.endswith(b"one\r\n")


def test_eof_in_mid_body_means_try_again():
    wire = in_body((b"one\r\n", b""), eof=True)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"one\r\n", b"two\r\n")
    assert outcomes(delivery) == [(RETRY, None), (REFUSED, 550)]
    assert delivery.closed == EOF


@pytest.mark.parametrize("chunk", [b"more", b""])
def test_a_connection_that_breaks_while_we_fetch_the_body_means_try_again(chunk: bytes):
    wire = in_body()
    procedure = send_message(wire.client, ME_TO_TWO)
    wire.until_body(procedure)
    wire.client.connection_lost()
    delivery = wire.resume(procedure, chunk)
    assert outcomes(delivery) == [(RETRY, None), (REFUSED, 550)], "the dot never left"
    assert delivery.closed == ConnectionClosed(CloseReason.LOST)


def test_a_reply_nobody_asked_for_before_a_message_breaks_the_connection_and_nothing_is_lost():
    wire = opened()
    wire.client.receive_data(b"250 stale\r\n")
    delivery = wire.run(send_message(wire.client, ME_TO_TWO))
    assert outcomes(delivery) == [(RETRY, None)] * 2
    assert delivery.closed == ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)
    assert b"MAIL" not in wire.written


def test_on_a_connection_that_has_ended_nobody_is_reached():
    wire = opened()
    wire.client.connection_lost()
    delivery = wire.run(send_message(wire.client, ME_TO_TWO))
    assert outcomes(delivery) == [(RETRY, None)] * 2
    assert delivery.closed == ConnectionClosed(CloseReason.LOST)


def test_an_rset_that_fails_changes_nothing():
    wire = opened((MAIL + RCPTS[A] + b"DATA\r\n", b"250 ok\r\n550 no\r\n554 no\r\n"), (b"RSET\r\n", b""), eof=True)
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A,))))
    assert outcomes(delivery) == [(REFUSED, 550)]
    assert delivery.closed == EOF


def test_replies_to_what_was_asked_before_pass_by():
    commands = MAIL + RCPTS[A] + b"DATA\r\n"
    wire = opened(
        (b"NOOP\r\n", b"250 ok\r\n"), (commands, b"250 ok\r\n250 ok\r\n354 go\r\n"), (b".\r\n", b"250 ok\r\n")
    )
    wire.client.send(Noop())
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A,))))
    assert outcomes(delivery) == [(ACCEPTED, 250)]
    assert not wire.script


@pytest.mark.parametrize(
    ("offers", "envelope", "line", "reason"),
    [
        (b"SIZE 9", Envelope("me@me.example", (A,), size=7), b" SIZE=7", "SIZE is offered"),
        (b"SIZE", Envelope("me@me.example", (A,), size=7), b" SIZE=7", "without a limit"),
        (b"SIZE 9", Envelope("me@me.example", (A,)), b"", "the size is not known"),
        (b"HELP", Envelope("me@me.example", (A,), size=7), b"", "SIZE is not offered"),
        (b"8BITMIME", Envelope("me@me.example", (A,), eight_bit=True), b" BODY=8BITMIME", "8 bits, and offered"),
        (b"8BITMIME", Envelope("me@me.example", (A,)), b"", "7 bits need no word"),
    ],
)
def test_mail_says_what_the_server_offered_to_hear(offers: bytes, envelope: Envelope, line: bytes, reason: str):
    script = [
        (MAIL.replace(b"\r\n", line + b"\r\n"), b"250 ok\r\n"),
        (RCPTS[A], b"250 ok\r\n"),
        (b"DATA\r\n", b"354 go\r\n"),
        (b".\r\n", b"250 ok\r\n"),
    ]
    wire = opened(*script, offers=offers)
    assert wire.run(send_message(wire.client, envelope)).all_accepted, reason
    assert not wire.script


def test_eight_bits_never_go_where_they_are_not_offered():
    wire = opened()
    written = wire.written
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A, B), eight_bit=True)))
    assert [(result.outcome, result.reply) for result in delivery] == [(REFUSED, NO_EIGHT_BIT)] * 2
    assert wire.written == written
    assert wire.client.in_sync


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("sender", "recipients", "reason"),
    [
        ("me@me.example", (), "nobody to send to"),
        ("me", (A,), "a sender without a domain"),
        ("me@me.example", (A, "b"), "a recipient without a domain"),
        ("me@me.example>\r\nRSET\r\n<", (A,), "CR and LF in the sender"),
        ("me@me.example", (A, "b@x.example>\r\nDATA\r\n<"), "CR and LF in a recipient"),
        ("me@me.example", (A, "b@\U0001f4e7.example"), "a recipient's domain that has no A-labels"),
        ("me@me.example", ("",), "the null path is no recipient"),
    ],
)
def test_an_envelope_that_cannot_be_spelled_sends_nothing(
    sender: str, recipients: tuple[str, ...], reason: str, pipelining: bool
):
    wire = opened(offers=b"PIPELINING" if pipelining else b"HELP")
    written = wire.written
    with pytest.raises(LocalProtocolError):
        wire.run(send_message(wire.client, Envelope(sender, recipients)))
    wire.client.data_to_send()
    assert (wire.written, wire.client.in_sync, wire.client.phase) == (written, True, Phase.READY), reason


@pytest.mark.parametrize("limits", [b"RCPTMAX=1", b"RCPTDOMAINMAX=1", b"MAILMAX=1"])
def test_what_passes_the_servers_limits_sends_nothing(limits: bytes):
    """RFC 9422. `Batches` keeps within them."""
    script = [(MAIL, b"250 ok\r\n"), (RCPTS[A], b"250 ok\r\n"), (b"DATA\r\n", b"354 go\r\n"), (b".\r\n", b"250 ok\r\n")]
    wire = opened(*script, offers=b"LIMITS " + limits)
    assert wire.run(send_message(wire.client, Envelope("me@me.example", (A,)))).all_accepted
    written = wire.written
    with pytest.raises(LocalProtocolError, match="LIMITS"):
        wire.run(send_message(wire.client, Envelope("me@me.example", (A, "y@y.example"))))
    wire.client.data_to_send()
    assert (wire.written, wire.client.in_sync, wire.client.phase) == (written, True, Phase.READY)


def test_a_line_over_the_limit_sends_nothing():
    wire = opened(offers=b"AUTH PLAIN")
    written = wire.written
    submitter = (("AUTH", "x" * 2100),)
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        wire.run(send_message(wire.client, Envelope("me@me.example", (A,), parameters=submitter)))
    assert (wire.written, wire.client.in_sync) == (written, True)


def test_bounces_and_postmasters_have_paths_too():
    script = [
        (b"MAIL FROM:<>\r\n", b"250 ok\r\n"),
        (b"RCPT TO:<Postmaster>\r\n", b"250 ok\r\n"),
        (b"DATA\r\n", b"354 go\r\n"),
        (b".\r\n", b"250 ok\r\n"),
    ]
    wire = opened(*script, offers=b"HELP")
    assert wire.run(send_message(wire.client, Envelope("", ("Postmaster",)))).all_accepted


def test_goodbye_does_not_touch_what_became_of_a_message():
    group = (MAIL + RCPTS[A] + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n")
    wire = opened(group, (b".\r\n", b"250 ok\r\n"), (b"QUIT\r\n", b"what\r\n"))
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A,))))
    wire.run(quit_session(wire.client))
    assert outcomes(delivery) == [(ACCEPTED, 250)]
    assert delivery.closed is None


def test_a_connection_that_is_lost_right_after_the_354_means_try_again_and_354_decides_nothing():
    wire = opened()
    procedure = send_message(wire.client, Envelope("me@me.example", (A,)))
    assert next(procedure) is Wants.EVENT
    wire.client.data_to_send()
    wire.client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    wire.client.connection_lost()
    delivery = wire.resume(procedure, wire.pull())
    assert outcomes(delivery) == [(RETRY, None)]
    assert delivery.closed == ConnectionClosed(CloseReason.LOST)
