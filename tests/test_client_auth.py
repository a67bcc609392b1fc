"""ClientConnection: the exchange that AUTH begins (RFC 4954), and that no secret shows."""

from base64 import b64encode

import pytest

from smtpstate._budget import Limits
from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Command,
    Ehlo,
    EndOfMessage,
    Mail,
    Noop,
    Quit,
    Rset,
    StartTls,
)
from smtpstate._errors import LocalProtocolError
from smtpstate._events import Body, CloseReason, ConnectionClosed, Flow, ReplyReceived, Timer, Violation
from smtpstate._questions import challenge_of
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, TLS, Item, Wire, codes

GREETING = (b"", b"220 mx.example\r\n")
OFFERS = (HELLO, b"250-mx.example\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 AUTH PLAIN login X-1_2\r\n")
SECRET = b"\0me\0open sesame"
PLAIN = b"AUTH PLAIN " + b64encode(SECRET) + b"\r\n"
NOOP = (b"NOOP\r\n", b"250 ok\r\n")
ME = Mail.of("me@me.example")


def offered(*script: tuple[bytes, bytes], cut: int = 99, limits: Limits | None = None) -> Wire:
    return Wire([GREETING, OFFERS, *script], cut=cut, limits=limits).open()


def violation(name: Violation) -> ConnectionClosed:
    return ConnectionClosed(CloseReason.VIOLATION, name)


LINES: list[tuple[Auth, bytes, str]] = [
    (Auth("PLAIN", SECRET), PLAIN, "an initial response in base64"),
    (Auth("PLAIN"), b"AUTH PLAIN\r\n", "none"),
    (Auth("PLAIN", b""), b"AUTH PLAIN =\r\n", "RFC 4954 section 4: an empty one"),
    (Auth("LOGIN", b"me"), b"AUTH LOGIN bWU=\r\n", "mechanisms have no case"),
    (Auth("X-1_2"), b"AUTH X-1_2\r\n", "all that may stand in a name"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("auth", "line", "reason"), LINES)
def test_auth_may_be_answered_at_once(auth: Auth, line: bytes, reason: str, cut: int):
    wire = offered((line, b"235 2.7.0 welcome\r\n"), NOOP, cut=cut)
    assert wire.say(auth) == [ReplyReceived(auth, Reply(235, "welcome", enhanced="2.7.0"))], reason
    assert (wire.client.phase, wire.client.in_sync) == (Phase.READY, True)
    with pytest.raises(LocalProtocolError, match="Known already"):
        wire.client.send(Auth("PLAIN"))
    assert codes(wire.say(Noop())) == [("NOOP", 250)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("code", [535, 454, 504, 534, 432])
def test_auth_that_is_refused_can_be_tried_again(code: int, cut: int):
    wire = offered((PLAIN, b"%d no\r\n" % code), (PLAIN, b"235 ok\r\n"), cut=cut)
    assert codes(wire.say(Auth("PLAIN", SECRET))) == [("AUTH", code)]
    assert (wire.client.phase, wire.client.in_sync) == (Phase.READY, True)
    assert codes(wire.say(Auth("PLAIN", SECRET))) == [("AUTH", 235)]


ENDINGS = [
    (AuthResponse(b"open sesame"), b"b3BlbiBzZXNhbWU=\r\n", b"235 ok\r\n", True, "the right answer"),
    (AuthResponse(b"wrong"), b"d3Jvbmc=\r\n", b"535 no\r\n", False, "the wrong one"),
    (AuthResponse(b""), b"\r\n", b"454 later\r\n", False, "an empty one"),
    (AuthCancel(), b"*\r\n", b"501 cancelled\r\n", False, "called off"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("answer", "line", "reply", "known", "reason"), ENDINGS)
def test_an_exchange_goes_on_until_it_is_answered(
    answer: AuthResponse | AuthCancel, line: bytes, reply: bytes, known: bool, reason: str, cut: int
):
    wire = offered(
        (b"AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n"), (b"bWU=\r\n", b"334 UGFzc3dvcmQ6\r\n"), (line, reply), cut=cut
    )
    first = wire.say(Auth("LOGIN"))
    second = wire.say(AuthResponse(b"me"))
    assert [challenge_of(e.reply) for e in first + second if isinstance(e, ReplyReceived)] == [
        b"Username:",
        b"Password:",
    ]
    assert (wire.client.phase, wire.client.in_sync, wire.client.outstanding) == (Phase.AUTH, False, 0)
    assert wire.client.next_event() is Flow.NEED_COMMAND
    assert codes(wire.say(answer)) == [("RESPONSE", int(reply[:3]))], reason
    assert (wire.client.phase, wire.client.in_sync) == (Phase.READY, True)
    if known:
        with pytest.raises(LocalProtocolError, match="Known already"):
            wire.client.send(Auth("LOGIN"))
    else:
        assert wire.client.send(Auth("LOGIN"))


@pytest.mark.parametrize(
    "item", [Noop(), Rset(), Quit(), ME, Ehlo("me.example"), StartTls(), Auth("PLAIN"), Body(b"x")]
)
def test_in_an_exchange_nothing_else_is_in_order(item: Item):
    wire = offered((b"AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n"), (b"*\r\n", b"501 off\r\n"))
    wire.say(Auth("LOGIN"))
    with pytest.raises(LocalProtocolError, match=r"out of order|no body"):
        wire.client.send(item)
    assert codes(wire.say(AuthCancel())) == [("RESPONSE", 501)]


@pytest.mark.parametrize("item", [ME, Noop(), Rset(), Quit(), Auth("LOGIN"), AuthResponse(b"me"), AuthCancel()])
@pytest.mark.parametrize("where", ["written", "waiting", "response"])
def test_nothing_can_wait_behind_auth_for_it_might_become_a_response(item: Command, where: str):
    wire = offered(NOOP, (b"AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n"))
    if where == "waiting":
        wire.client.send(Noop())
    wire.client.send(Auth("LOGIN"))
    if where == "response":
        wire.client.data_to_send()
        wire.client.receive_data(b"334 VXNlcm5hbWU6\r\n")
        wire.client.next_event()
        wire.client.send(AuthResponse(b"me"))
    outstanding = wire.client.outstanding
    with pytest.raises(LocalProtocolError, match="AUTH is not answered"):
        wire.client.send(item)
    assert wire.client.outstanding == outstanding


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Auth("GSSAPI"), "not offered"),
        (Auth("plain"), "a name in lower case"),
        (Auth(""), "no name"),
        (Auth("PLAIN\r\nRSET"), "CR and LF in a name"),
    ],
)
def test_a_mechanism_that_is_not_offered_is_not_tried(command: Command, reason: str):
    wire = offered(NOOP)
    with pytest.raises(LocalProtocolError, match="is not offered"):
        wire.client.send(command)
    assert wire.client.in_sync, reason
    assert codes(wire.say(Noop())) == [("NOOP", 250)]


def test_a_name_that_breaks_the_grammar_is_not_spelled_though_it_is_offered():
    wire = Wire([GREETING, (HELLO, b"250-mx.example\r\n250 AUTH A=B\r\n")]).open()
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        wire.client.send(Auth("A=B"))


@pytest.mark.parametrize(
    ("reply", "name", "reason"),
    [
        (b"334 more\r\n", None, "a challenge may follow"),
        (b"250 ok\r\n", None, "the first digit decides"),
        (b"334-a\r\n334 b\r\n", None, "what a challenge says is not judged here"),
        (b"234 what\r\n235 ok\r\n", Violation.UNSOLICITED_REPLY, "one answer"),
        (b"334 a\r\n235 ok\r\n", Violation.UNSOLICITED_REPLY, "a verdict before the response"),
        (b"334 a\r\n535 no\r\n", Violation.UNSOLICITED_REPLY, "a refusal before the response"),
    ],
)
def test_what_may_answer_auth(reply: bytes, name: Violation | None, reason: str):
    wire = offered((b"AUTH LOGIN\r\n", reply))
    last = wire.say(Auth("LOGIN"))[-1]
    if name is None:
        assert isinstance(last, ReplyReceived), reason
    else:
        assert last == violation(name), reason


@pytest.mark.parametrize("reply", [b"235 welcome\r\n", b"250 ok\r\n", b"334 more\r\n"])
def test_an_exchange_that_was_called_off_can_only_be_refused(reply: bytes):
    wire = offered((b"AUTH LOGIN\r\n", b"334 \r\n"), (b"*\r\n", reply))
    wire.say(Auth("LOGIN"))
    assert wire.say(AuthCancel()) == [violation(Violation.UNEXPECTED_REPLY)]


def test_no_challenge_comes_outside_an_exchange():
    wire = offered((b"NOOP\r\n", b"334 VXNlcm5hbWU6\r\n"))
    assert wire.say(Noop()) == [violation(Violation.UNEXPECTED_REPLY)]


@pytest.mark.parametrize("code", [421, 521])
def test_an_exchange_can_end_with_the_session(code: int):
    wire = offered((b"AUTH LOGIN\r\n", b"334 \r\n"), (b"bWU=\r\n", b"%d bye\r\n" % code))
    wire.say(Auth("LOGIN"))
    closed = wire.say(AuthResponse(b"me"))[-1]
    assert closed == ConnectionClosed(CloseReason.GOING_AWAY, reply=Reply(code, "bye"))


def test_a_response_may_be_as_long_as_rfc_4954_says_and_no_longer():
    fits = 9_210  # 12,280 in base64, and CRLF
    line = b64encode(b"x" * fits) + b"\r\n"
    wire = offered((b"AUTH PLAIN\r\n", b"334 \r\n"), (line, b"235 ok\r\n"))
    wire.say(Auth("PLAIN"))
    with pytest.raises(LocalProtocolError, match="12288 is the limit"):
        wire.client.send(AuthResponse(b"x" * (fits + 6)))
    assert wire.client.phase is Phase.AUTH, "it can still be called off, or answered"
    assert codes(wire.say(AuthResponse(b"x" * fits))) == [("RESPONSE", 235)]


def test_the_limit_of_a_response_is_the_callers():
    wire = offered((b"AUTH PLAIN\r\n", b"334 \r\n"), limits=Limits(auth_line=20))
    wire.say(Auth("PLAIN"))
    with pytest.raises(LocalProtocolError, match="20 is the limit"):
        wire.client.send(AuthResponse(b"x" * 20))
    assert wire.client.in_sync is False


def test_after_starttls_who_we_are_is_forgotten_and_so_is_what_was_offered():
    go = (b"STARTTLS\r\n", b"220 go\r\n")
    wire = offered((PLAIN, b"235 ok\r\n"), go, OFFERS, (PLAIN, b"235 ok\r\n"))
    wire.say(Auth("PLAIN", SECRET))
    wire.say(StartTls())
    assert wire.client.tls == TLS
    with pytest.raises(LocalProtocolError, match="out of order"):
        wire.client.send(Auth("PLAIN", SECRET))
    wire.say(Ehlo("me.example"))
    assert codes(wire.say(Auth("PLAIN", SECRET))) == [("AUTH", 235)], "RFC 3207 section 4.2"


def test_each_answer_has_the_time_of_a_command():
    wire = offered((b"AUTH LOGIN\r\n", b"334 \r\n"), (b"bWU=\r\n", b""))
    wire.say(Auth("LOGIN"))
    assert wire.client.deadline is None, "it is for us to speak"
    started = wire.clock.now
    assert wire.say(AuthResponse(b"me")) == [ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)]
    assert wire.clock.now == started + 300


def test_a_secret_is_in_no_repr_and_no_exception():
    secrets = (b"open sesame", b64encode(SECRET), b64encode(b"open sesame"))
    shown = [
        repr(Auth("PLAIN", SECRET)),
        repr(AuthResponse(b"open sesame")),
        repr(ReplyReceived(Auth("PLAIN", SECRET), Reply(235))),
    ]
    wire = offered((b"AUTH LOGIN\r\n", b"334 \r\n"), limits=Limits(auth_line=17))
    items: list[Item] = [Auth("PLAIN", SECRET), Auth("GSSAPI", SECRET), AuthResponse(b"open sesame"), EndOfMessage()]
    for _ in range(2):
        for item in items:
            with pytest.raises(LocalProtocolError) as caught:
                wire.client.send(item)
            error: BaseException | None = caught.value
            while error is not None:
                shown.append(f"{error!r} {error}")
                error = error.__context__
        if wire.client.in_sync:
            wire.say(Auth("LOGIN"))
    assert not any(secret.decode() in text for text in shown for secret in secrets)
