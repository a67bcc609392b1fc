"""What a reply can be bound to: what can be said to it, where that leads, and how long it may take."""

import pytest

from smtpstate._budget import Limits
from smtpstate._capabilities import NO_CAPABILITIES, Capabilities
from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Command,
    Data,
    Ehlo,
    EndOfMessage,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
)
from smtpstate._errors import LocalProtocolError
from smtpstate._events import Connected, Timer
from smtpstate._params import BodyType
from smtpstate._questions import (
    Question,
    advance,
    challenge_of,
    ends_group,
    ends_message,
    hoped,
    line_limit,
    possible,
    require_offered,
    time_for,
)
from smtpstate._replies import Reply
from smtpstate._state import Outcome, Phase, Session

OK, MORE, FAIL, CLOSE = Outcome.OK, Outcome.MORE, Outcome.FAIL, Outcome.CLOSE
ME, YOU = Mail.of("me@me.example"), Rcpt.of("you@mx.example")

TABLE: list[tuple[Question, Outcome, bool, bool, Timer, int]] = [
    (Connected(), OK, False, True, Timer.GREETING, 300),
    (Ehlo("me.example"), OK, False, True, Timer.COMMAND, 300),
    (Lhlo("me.example"), OK, False, True, Timer.COMMAND, 300),
    (StartTls(), OK, False, True, Timer.COMMAND, 300),
    (Auth("PLAIN"), OK, True, True, Timer.COMMAND, 300),
    (AuthResponse(b""), OK, True, True, Timer.COMMAND, 300),
    (AuthCancel(), FAIL, False, True, Timer.COMMAND, 300),
    (ME, OK, False, False, Timer.COMMAND, 300),
    (YOU, OK, False, False, Timer.COMMAND, 300),
    (Rset(), OK, False, False, Timer.COMMAND, 300),
    (Data(), MORE, True, True, Timer.DATA, 120),
    (EndOfMessage(), OK, False, True, Timer.END, 600),
    (Bdat(1), OK, False, False, Timer.END, 600),
    (Bdat(1, last=True), OK, False, False, Timer.END, 600),
    (Noop(), OK, False, True, Timer.COMMAND, 300),
    (Quit(), OK, False, True, Timer.COMMAND, 300),
]


@pytest.mark.parametrize(("question", "success", "more", "ends", "timer", "seconds"), TABLE)
def test_each_question_has_its_answers_and_its_time(
    question: Question, success: Outcome, more: bool, ends: bool, timer: Timer, seconds: int
):
    assert hoped(question) is success
    assert possible(question) == {success, FAIL, CLOSE, *([MORE] if more else [])}
    assert ends_group(question) is ends
    assert time_for(question, Limits()) == (timer, seconds)


@pytest.mark.parametrize(("mail", "binary"), [(ME, False), (Mail.of("", body=BodyType.BINARYMIME), True)])
def test_mail_says_whether_the_transaction_is_binary(mail: Mail, binary: bool):
    session = Session(Phase.READY)
    advance(session, mail, OK)
    assert (session.phase, session.binary) == (Phase.MAIL, binary)


def in_rcpt() -> Session:
    session = Session(Phase.RCPT)
    session.announce(chunking=True)
    return session


@pytest.mark.parametrize(
    ("question", "outcome", "phase"),
    [
        (Bdat(1), OK, Phase.CHUNKED),
        (Bdat(1), FAIL, Phase.DEAD),
        (Bdat(1), CLOSE, Phase.CLOSING),
        (Bdat(1, last=True), OK, Phase.READY),
        (Bdat(1, last=True), FAIL, Phase.READY),
        (Rset(), OK, Phase.READY),
        (Data(), MORE, Phase.BODY),
    ],
)
def test_one_reply_takes_a_chunk_through_both_its_steps(question: Question, outcome: Outcome, phase: Phase):
    session = in_rcpt()
    advance(session, question, outcome)
    assert session.phase is phase


@pytest.mark.parametrize("outcome", [OK, FAIL])
def test_a_chunk_in_a_dead_transaction_moves_nothing(outcome: Outcome):
    session = in_rcpt()
    session.phase = Phase.DEAD
    advance(session, Bdat(1, last=True), outcome)
    assert session.phase is Phase.DEAD


def test_what_ends_a_message():
    session = in_rcpt()
    assert ends_message(session, EndOfMessage())
    assert ends_message(session, Bdat(0, last=True))
    assert not ends_message(session, Bdat(1))
    assert not ends_message(session, Noop())
    session.phase = Phase.DEAD
    assert not ends_message(session, Bdat(0, last=True)), "it is only refused"


def test_lines_of_an_exchange_may_be_long():
    assert line_limit(AuthResponse(b""), Limits()) == line_limit(Auth("PLAIN"), Limits()) == 12_288
    assert line_limit(Noop(), Limits()) == 2048


BINARY = Mail.of("me@me.example", body=BodyType.BINARYMIME)
OFFERS = Capabilities({"SIZE": (), "AUTH": ("PLAIN", "login")})
REQUIRED: list[tuple[Command, Capabilities, str | None]] = [
    (Mail.of("me@me.example", size=1), OFFERS, None),
    (Mail.of("me@me.example", size=1), NO_CAPABILITIES, "MAIL"),
    (Mail(ME.reverse_path, (("SIZE", "x"),)), OFFERS, "MAIL"),
    (BINARY, Capabilities({"BINARYMIME": (), "CHUNKING": ()}), None),
    (BINARY, Capabilities({"BINARYMIME": ()}), "BINARYMIME without CHUNKING"),
    (BINARY, Capabilities({"8BITMIME": (), "CHUNKING": ()}), "MAIL"),
    (YOU, NO_CAPABILITIES, None),
    (Rcpt(YOU.recipient, (("X-NONE", None),)), OFFERS, "RCPT"),
    (Auth("LOGIN"), OFFERS, None),
    (Auth("GSSAPI"), OFFERS, "GSSAPI is not offered"),
    (Auth("PLAIN"), NO_CAPABILITIES, "PLAIN is not offered"),
    (Noop(), NO_CAPABILITIES, None),
]


@pytest.mark.parametrize(("command", "offered", "complaint"), REQUIRED)
def test_what_is_not_offered_is_the_callers_mistake(command: Command, offered: Capabilities, complaint: str | None):
    if complaint is None:
        require_offered(command, offered)
    else:
        with pytest.raises(LocalProtocolError, match=complaint):
            require_offered(command, offered)


@pytest.mark.parametrize(
    ("reply", "challenge", "reason"),
    [
        (Reply(334), b"", "nothing at all"),
        (Reply(334, ""), b"", "RFC 4954 section 4: an empty challenge"),
        (Reply(334, "VXNlcm5hbWU6"), b"Username:", "base64"),
        (Reply(334, "AP8="), b"\0\xff", "any octets"),
        (Reply(334, "AP8"), None, "padding is missing"),
        (Reply(334, "VXNl cm5h"), None, "a space inside"),
        (Reply(334, "go ahead"), None, "words"),
        (Reply(334, "V\u00e9=="), None, "not ASCII"),
        (Reply(334, "VXNl", "cm5h"), None, "two lines"),
        (Reply(235, "VXNlcm5hbWU6"), None, "not a challenge"),
        (Reply(535, "VXNlcm5hbWU6"), None, "a refusal"),
    ],
)
def test_a_challenge_is_strict_base64(reply: Reply, challenge: bytes | None, reason: str):
    assert challenge_of(reply) == challenge, reason
