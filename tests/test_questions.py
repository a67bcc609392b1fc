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
    Expn,
    Lhlo,
    Mail,
    Noop,
    OwnCommand,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    XClient,
    XForward,
)
from smtpstate._errors import LocalProtocolError
from smtpstate._events import Connected, Timer
from smtpstate._params import BodyType
from smtpstate._policy import MX, STRICT, Deviation, Policy
from smtpstate._questions import (
    Question,
    advance,
    announce,
    challenge_of,
    ends_group,
    ends_message,
    hoped,
    line_limit,
    line_of,
    offered_by,
    possible,
    require_offered,
    require_order,
    time_for,
)
from smtpstate._replies import Reply
from smtpstate._state import Outcome, Phase, Session
from smtpstate._verbs import OwnVerb
from smtpstate._xclient import Absence
from smtpstate.extensions import Extension

OK, MORE, FAIL, CLOSE = Outcome.OK, Outcome.MORE, Outcome.FAIL, Outcome.CLOSE
ETRN = Extension("ETRN", verb=OwnVerb("ETRN"))
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
    (XClient(port=1), OK, False, True, Timer.COMMAND, 300),
    (XForward(port=1), OK, False, True, Timer.COMMAND, 300),
    (OwnCommand("ETRN"), OK, False, True, Timer.COMMAND, 300),
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


@pytest.mark.parametrize(
    ("login", "outcome", "phase", "authenticated"),
    [
        (None, OK, Phase.GREETED, False),
        ("joe", OK, Phase.GREETED, True),
        (Absence.UNAVAILABLE, OK, Phase.GREETED, False),
        ("joe", FAIL, Phase.READY, False),
        ("joe", CLOSE, Phase.CLOSING, False),
    ],
)
def test_one_220_takes_xclient_through_both_its_steps(
    login: str | Absence | None, outcome: Outcome, phase: Phase, authenticated: bool
):
    session = Session(Phase.READY)
    session.announce(xclient=True)
    advance(session, XClient(login=login), outcome)
    assert (session.phase, session.authenticated) == (phase, authenticated)


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
    assert line_limit(XClient(), Limits()) == line_limit(XForward(), Limits()) == 512, "XFORWARD_README"
    assert line_limit(XClient(), Limits(command_line=100)) == 100
    assert line_limit(Noop(), Limits()) == 2048
    assert line_of(AuthResponse(b"a" * 9000), Limits()).startswith(b"YWFh")
    with pytest.raises(LocalProtocolError, match="2048 is the limit"):
        line_of(Noop("x" * 2042), Limits())


U_MAIL, U_RCPT = Mail.of("\xe9@x.example"), Rcpt.of("\xe9@x.example")
UTF8 = Capabilities({"8BITMIME": (), "SMTPUTF8": ()})
ASKING = Mail(U_MAIL.reverse_path, (("SMTPUTF8", None),))


@pytest.mark.parametrize(
    ("command", "offered", "asked", "line"),
    [
        (ASKING, True, False, b"MAIL FROM:<\xc3\xa9@x.example> SMTPUTF8\r\n"),
        (ASKING, False, True, None),
        (U_MAIL, True, True, None),
        (U_RCPT, True, True, b"RCPT TO:<\xc3\xa9@x.example>\r\n"),
        (U_RCPT, True, False, None),
        (U_RCPT, False, True, None),
        (Vrfy("\xe9"), True, False, b"VRFY \xc3\xa9\r\n"),
        (Vrfy("\xe9"), False, True, None),
        (Noop("\xe9"), True, True, None),
    ],
)
def test_utf8_stands_where_it_was_offered_and_asked_for(
    command: Command, offered: bool, asked: bool, line: bytes | None
):
    if line is None:
        with pytest.raises(LocalProtocolError, match="cannot be sent"):
            line_of(command, Limits(), UTF8 if offered else NO_CAPABILITIES, asked=asked)
    else:
        assert line_of(command, Limits(), UTF8 if offered else NO_CAPABILITIES, asked=asked) == line


def test_other_lines_may_be_as_long_as_what_is_offered_needs():
    assert line_limit(Noop(), Limits(command_line=100)) == 512
    assert line_limit(YOU, Limits(command_line=100), Capabilities({"DSN": ()})) == 512 + 536
    assert line_limit(Auth("PLAIN"), Limits(auth_line=100), Capabilities({"DSN": ()})) == 100


def test_what_a_hello_offers_is_known_to_the_session():
    session = Session(Phase.READY)
    for keyword, fact in (
        ("STARTTLS", "offers_tls"),
        ("AUTH", "offers_auth"),
        ("CHUNKING", "offers_chunking"),
        ("XCLIENT", "offers_xclient"),
        ("XFORWARD", "offers_xforward"),
        ("ETRN", "offers_own"),
    ):
        announce(session, Capabilities({keyword: ()}), [ETRN])
        assert [name for name in session.__slots__ if name.startswith("offers_") and getattr(session, name)] == [fact]


OFFERS = Capabilities({"SIZE": (), "AUTH": ("PLAIN", "login"), "XCLIENT": ("NAME", "addr")})
BINARY = Mail.of("me@me.example", body=BodyType.BINARYMIME)
IN_ORDER: list[tuple[Phase, Command, list[Question], str]] = [
    (Phase.READY, ME, [], "nothing is outstanding"),
    (Phase.RCPT, YOU, [ME, YOU], "RFC 2920: not even what has to succeed first needs an answer"),
    (Phase.READY, ME, [Ehlo("me.example")], "MAIL needs nothing of what a hello offers"),
    (Phase.READY, Auth("PLAIN"), [Noop()], "only a hello changes what is offered"),
    (Phase.MAIL, Rset(), [], "its reply is the next"),
    (Phase.RCPT, Bdat(1), [YOU], "it leaves at once"),
]


def session_that_offers(phase: Phase) -> Session:
    session = Session(phase)
    session.esmtp = True
    announce(session, Capabilities({"CHUNKING": (), "AUTH": ("PLAIN",)}))
    return session


@pytest.mark.parametrize(("phase", "command", "outstanding", "reason"), IN_ORDER)
def test_what_is_in_order_may_be_sent(phase: Phase, command: Command, outstanding: list[Question], reason: str):
    require_order(command, session_that_offers(phase), outstanding, 0, may_write=True)


@pytest.mark.parametrize("missing", [1, 7])
def test_nothing_comes_inside_a_chunk(missing: int):
    with pytest.raises(LocalProtocolError, match=f"^{missing} octets are missing of the chunk"):
        require_order(Noop(), session_that_offers(Phase.CHUNKED), [Bdat(8)], missing, may_write=True)


OUT_OF_ORDER: list[tuple[Phase, Command, list[Question], str]] = [
    (Phase.READY, Noop(), [Auth("PLAIN")], "^AUTH is not answered"),
    (Phase.READY, Noop(), [ME, AuthResponse(b"")], "^AUTH is not answered"),
    (Phase.READY, Auth("PLAIN"), [Ehlo("me.example")], "before the hello is answered, AUTH"),
    (Phase.READY, StartTls(), [Noop(), Lhlo("me.example")], "before the hello is answered, STARTTLS"),
    (Phase.READY, OwnCommand("ETRN"), [Ehlo("me.example")], "before the hello is answered, ETRN"),
    (Phase.READY, OwnCommand("ETRN"), [], "^ETRN is out of order: 502 5.5.1 Not available"),
    (Phase.GREETED, OwnCommand("ETRN"), [], "^ETRN is out of order: 503 5.5.1 Send EHLO first"),
    (Phase.READY, YOU, [], "^RCPT is out of order: 503 5.5.1 Send MAIL first"),
    (Phase.BODY, Rset(), [], "^RSET is out of order: 503"),
    (Phase.MAIL, Rset(), [ME], "^RSET cannot tell its reply"),
]


@pytest.mark.parametrize(("phase", "command", "outstanding", "complaint"), OUT_OF_ORDER)
def test_what_is_out_of_order_is_the_callers_mistake(
    phase: Phase, command: Command, outstanding: list[Question], complaint: str
):
    with pytest.raises(LocalProtocolError, match=complaint):
        require_order(command, session_that_offers(phase), outstanding, 0, may_write=True)


def test_a_chunk_waits_for_nobody():
    session = session_that_offers(Phase.RCPT)
    require_order(YOU, session, [YOU], 0, may_write=False)
    with pytest.raises(LocalProtocolError, match=r"^a chunk cannot wait for its turn"):
        require_order(Bdat(1), session, [YOU], 0, may_write=False)


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
    (Vrfy("you", smtputf8=True), Capabilities({"SMTPUTF8": ()}), None),
    (Vrfy("you", smtputf8=True), OFFERS, "VRFY"),
    (Expn("you", smtputf8=True), OFFERS, "EXPN"),
    (Vrfy("you"), OFFERS, None),
    (Noop(), NO_CAPABILITIES, None),
    (XClient(name="a", address="192.0.2.1"), OFFERS, None),
    (XClient(name="a", login="joe", port=1), OFFERS, "not offered: LOGIN, PORT"),
    (XForward(name="a"), OFFERS, "not offered: NAME"),
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


@pytest.mark.parametrize("secure", [False, True])
def test_what_is_for_tls_only_is_not_offered_in_clear(secure: bool):
    own = {"OWN": Extension("OWN", tls_only=True), "ANY": Extension("ANY")}
    offered = offered_by(["REQUIRETLS", "OWN", "ANY 1", "X-NEW", "SIZE 10"], own, secure=secure)
    assert {"ANY", "X-NEW", "SIZE"} <= offered.keywords.keys()
    assert ("REQUIRETLS" in offered, "OWN" in offered) == (secure, secure)


@pytest.mark.parametrize(("policy", "names"), [(MX, {"AUTH", "SIZE"}), (STRICT, {"SIZE"})])
def test_a_policy_says_which_lines_count(policy: Policy, names: set[str]):
    offered = offered_by(["AUTH=LOGIN", "SIZE 10"], {}, secure=False, policy=policy)
    assert offered.keywords.keys() == names
    assert offered.deviations == {Deviation.KEYWORD_EQUALS}
