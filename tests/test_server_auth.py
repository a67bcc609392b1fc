"""The server's seat: AUTH, its framing and its verdicts; who is who is for others. RFC 4954."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest

from smtpstate import (
    Auth,
    AuthCancel,
    AuthResponse,
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    Ehlo,
    Flow,
    Limits,
    LocalProtocolError,
    Phase,
    Reply,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Timer,
    TlsInfo,
    Violation,
)
from tests.helpers import Handler, Seat, accept_all, codes, silent

TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")
SECRET = b"Zq7Zq7Zq7"
SAID = b64encode(SECRET)
BAD = Reply(535, "No", enhanced="5.7.8")


def config(limits: Limits | None = None, *, in_clear: bool = True) -> ServerConfig:
    mechanisms = ("PLAIN", "LOGIN")
    return ServerConfig(
        "mx.example.org", limits or Limits(), starttls=True, mechanisms=mechanisms, auth_in_clear=in_clear
    )


def exchange(*challenges: bytes, identity: str = "u", refusal: Reply | None = None) -> Handler:
    """Sends these challenges, then says yes, or this."""
    left = list(challenges)

    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if not isinstance(event, Auth | AuthResponse):
            accept_all(connection, event)
        elif left:
            assert connection.challenge(left.pop(0))
        elif refusal is not None:
            assert connection.reply(refusal)
        else:
            assert connection.authenticated(identity)

    return handler


def ready(handler: Handler = accept_all, settings: ServerConfig | None = None) -> Seat:
    seat = Seat(settings or config(), handler=handler)
    seat.say(b"EHLO c.example\r\n")
    return seat


def ending(seat: Seat) -> ConnectionClosed:
    seat.connection.receive_eof()
    closed = seat.pull()
    assert isinstance(closed, ConnectionClosed)
    return closed


@pytest.mark.parametrize(
    ("line", "command", "reason"),
    [
        (b"AUTH PLAIN", Auth("PLAIN"), "none"),
        (b"AUTH PLAIN =", Auth("PLAIN", b""), "an empty one"),
        (b"auth plain " + SAID, Auth("PLAIN", SECRET), "one"),
    ],
)
def test_an_initial_response_says_it_all(line: bytes, command: Auth, reason: str) -> None:
    seat = ready(exchange())
    assert seat.say(line + b"\r\n") == b"235 2.7.0 Authenticated\r\n", reason
    assert seat.events[-1] == command
    assert seat.connection.identity == "u"
    assert seat.connection.phase is Phase.READY


def test_a_challenge_and_its_answer() -> None:
    seat = ready(exchange(b"Username:", b""))
    assert seat.connection.identity is None
    assert seat.say(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    assert seat.connection.phase is Phase.AUTH
    assert seat.say(SAID + b"\r\n") == b"334 \r\n", "an empty challenge keeps its space"
    assert seat.say(b"\r\n") == b"235 2.7.0 Authenticated\r\n", "and an empty answer is an empty line"
    assert seat.events[-3:] == [Auth("LOGIN"), AuthResponse(SECRET), AuthResponse(b"")]


@pytest.mark.parametrize("cut", [1, 2, 3, 99])
def test_an_exchange_cut_anywhere(cut: int) -> None:
    seat = ready(exchange(b"a"))
    wire = b"AUTH LOGIN\r\n" + SAID + b"\r\nNOOP\r\n"
    answers = b"".join(seat.say(wire[start : start + cut]) for start in range(0, len(wire), cut))
    assert codes(answers) == [334, 235, 250]


def test_a_lone_star_calls_it_off() -> None:
    seat = ready(exchange(b"a", b"b"))
    assert seat.say(b"AUTH LOGIN\r\n*\r\n") == b"334 YQ==\r\n501 5.7.0 Authentication cancelled\r\n"
    assert seat.events[-1] == AuthCancel()
    assert seat.connection.owed is None
    assert seat.connection.phase is Phase.READY
    assert codes(seat.say(b"AUTH LOGIN\r\n")) == [334], "another one may begin"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"YQ", "no padding"),
        (b"YQ==YQ==", "text after the padding"),
        (b"Y Q==", "a space"),
        (b"-_-_", "another alphabet"),
        (b"=", "only an initial response is spelled so"),
        (b"\xff\xff\xff\xff", "8-bit"),
        (b"Y\0==", "NUL"),
        (b"QUIT", "base64 it is, yet three octets of nothing"),
    ],
)
def test_what_is_not_base64_ends_the_exchange(line: bytes, reason: str) -> None:
    seat = ready(exchange(b"a"))
    seat.say(b"AUTH LOGIN\r\n")
    if line == b"QUIT":
        assert codes(seat.say(b"QUIT\r\n")) == [235], reason
        return
    assert seat.say(line + b"\r\n") == b"501 5.5.2 That is not base64\r\n", reason
    assert seat.connection.phase is Phase.READY
    assert seat.events[-1] == CommandRefused(
        b"***", Violation.BASE64, Reply(501, "That is not base64", enhanced="5.5.2")
    )
    assert codes(seat.say(b"NOOP\r\n")) == [250]


def test_an_initial_response_that_is_not_base64_begins_nothing() -> None:
    seat = ready(exchange())
    assert seat.say(b"AUTH PLAIN " + SAID + b"!\r\n") == b"501 5.5.2 That is not base64\r\n"
    assert seat.events[-1] == CommandRefused(
        b"AUTH PLAIN ***", Violation.BASE64, Reply(501, "That is not base64", enhanced="5.5.2")
    )


@pytest.mark.parametrize(("octets", "code"), [(12_286, 235), (12_287, 500), (100_000, 500)])
@pytest.mark.parametrize("cut", [1000, 200_000])
def test_a_line_of_the_exchange_has_12288_octets(octets: int, code: int, cut: int) -> None:
    """RFC 4954 section 4, the ending included."""
    seat = ready(exchange(b"a"))
    seat.say(b"AUTH LOGIN\r\n")
    wire = (b"YWFh" * 30_000)[: octets // 4 * 4] + b"==="[: octets % 4]
    if octets % 4 == 2:
        wire = b"YWFh" * (octets // 4 - 1) + b"YQ=="
    wire += b"\r\n"
    answers = b"".join(seat.say(wire[start : start + cut]) for start in range(0, len(wire), cut))
    assert codes(answers) == [code]
    if code == 500:
        assert answers == b"500 5.5.6 Authentication exchange line too long\r\n"
        assert seat.events[-1] == CommandRefused(
            b"", Violation.LINE_TOO_LONG, Reply(500, "Authentication exchange line too long", enhanced="5.5.6")
        )
    assert codes(seat.say(b"NOOP\r\n")) == [250]


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        (b"AUTH PLAIN " + b"YWFh" * 3000, 235, "AUTH may be longer than other commands"),
        (b"AUTH PLAIN " + b"YWFh" * 3070, 500, "but not without an end"),
        (b"NOOP " + b"x" * 3000, 500, "others may not"),
    ],
)
def test_only_auth_may_be_longer_than_a_command(line: bytes, code: int, reason: str) -> None:
    seat = ready(exchange())
    assert codes(seat.say(line + b"\r\n")) == [code], reason


def test_where_auth_is_not_offered_it_may_not_be_longer() -> None:
    seat = ready(exchange(), config(in_clear=False))
    assert codes(seat.say(b"AUTH PLAIN " + b"YWFh" * 3000 + b"\r\n")) == [500]


def test_an_unknown_mechanism_is_504() -> None:
    seat = ready(exchange())
    assert seat.say(b"AUTH NTLM " + SAID + b"\r\n") == b"504 5.5.4 Mechanism not offered\r\n"
    refused = seat.events[-1]
    assert isinstance(refused, CommandRefused)
    assert (refused.line, refused.violation) == (b"AUTH NTLM ***", Violation.UNKNOWN_MECHANISM)


def test_nobody_authenticates_twice() -> None:
    seat = ready(exchange())
    assert codes(seat.say(b"AUTH PLAIN =\r\nAUTH PLAIN =\r\n")) == [235, 503]
    assert codes(seat.say(b"EHLO d.example\r\nAUTH PLAIN =\r\n")) == [250, 503], "a second hello changes nothing"
    assert seat.connection.identity == "u"


@pytest.mark.parametrize(
    ("before", "code", "reason"),
    [
        (b"", 503, "EHLO comes first"),
        (b"HELO c.example\r\n", 503, "HELO has no extensions"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\n", 503, "not in a transaction"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n", 503, "not in a transaction"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\nRSET\r\n", 235, "after one"),
    ],
)
def test_auth_has_its_place(before: bytes, code: int, reason: str) -> None:
    seat = Seat(config(), handler=exchange())
    seat.say(before)
    assert codes(seat.say(b"AUTH PLAIN =\r\n")) == [code], reason
    assert (seat.connection.identity == "u") is (code == 235)


def test_in_clear_it_is_offered_on_demand_only() -> None:
    seat = Seat(config(in_clear=False), handler=exchange())
    assert b"AUTH" not in seat.say(b"EHLO c.example\r\n")
    assert codes(seat.say(b"AUTH PLAIN " + SAID + b"\r\n")) == [502]
    refused = seat.events[-1]
    assert isinstance(refused, CommandRefused)
    assert refused.line == b"AUTH PLAIN ***"
    seat.say(b"STARTTLS\r\n")
    seat.connection.tls_established(TLS)
    assert b"250 AUTH PLAIN LOGIN\r\n" in seat.say(b"EHLO c.example\r\n")
    assert codes(seat.say(b"AUTH PLAIN " + SAID + b"\r\n")) == [235]


def test_tls_forgets_who_it_is() -> None:
    """RFC 3207 section 4.2."""
    seat = ready(exchange())
    assert codes(seat.say(b"AUTH PLAIN =\r\nSTARTTLS\r\n")) == [235, 220]
    seat.connection.tls_established(TLS)
    assert seat.connection.identity is None
    assert codes(seat.say(b"EHLO c.example\r\nAUTH PLAIN =\r\n")) == [250, 235]


# Verdicts.


@pytest.mark.parametrize("line", [b"AUTH PLAIN\r\n", b"AUTH LOGIN =\r\n"])
def test_silence_authenticates_nobody(line: bytes) -> None:
    seat = ready(silent)
    assert seat.say(line) == b"535 5.7.8 Authentication failed\r\n"
    assert seat.connection.identity is None
    assert seat.connection.phase is Phase.READY


def test_silence_after_a_challenge_authenticates_nobody() -> None:
    def once(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Auth):
            connection.challenge(b"a")
        elif isinstance(event, Ehlo):
            connection.accept()

    seat = ready(once)
    assert codes(seat.say(b"AUTH LOGIN\r\nYQ==\r\n")) == [334, 535]
    assert seat.connection.phase is Phase.READY


def owing(answered: bool) -> ServerConnection:
    """A connection that owes AUTH a verdict, or the answer to a challenge."""
    seat = ready(silent)
    seat.connection.receive_data(b"AUTH LOGIN\r\nYQ==\r\n")
    assert isinstance(seat.connection.next_event(), Auth)
    if answered:
        seat.connection.challenge(b"a")
        assert isinstance(seat.connection.next_event(), AuthResponse)
    seat.drain()
    return seat.connection


@pytest.mark.parametrize("answered", [False, True])
def test_no_plain_yes_and_no_code_but_a_no_goes(answered: bool) -> None:
    connection = owing(answered)
    phase, owed = connection.phase, connection.owed
    with pytest.raises(LocalProtocolError, match="in so many words"):
        connection.accept()
    for code in (200, 220, 235, 250, 299, 300, 334, 354, 399, 199, 600):
        with pytest.raises(LocalProtocolError):
            connection.reply(Reply(code))
    with pytest.raises(LocalProtocolError, match="octets"):
        connection.challenge(b"x" * 400)
    with pytest.raises(LocalProtocolError, match="no message to refuse"):
        connection.refuse(BAD)
    assert (connection.phase, connection.owed, connection.data_to_send()) == (phase, owed, b"")
    assert connection.authenticated("u")


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("code", [421, 432, 454, 521, 534, 535, 538])
def test_every_no_goes(answered: bool, code: int) -> None:
    connection = owing(answered)
    assert connection.reply(Reply(code, "No"))
    assert connection.phase is (Phase.CLOSING if code in (421, 521) else Phase.READY)
    assert connection.identity is None


def test_what_is_owed_to_others_is_no_authentication() -> None:
    seat = ready()
    for verdict in (lambda: seat.connection.challenge(b""), lambda: seat.connection.authenticated("u")):
        with pytest.raises(LocalProtocolError, match="no verdict is owed"):
            verdict()
    seat.connection.receive_data(b"MAIL FROM:<>\r\n")
    seat.connection.next_event()
    for verdict in (lambda: seat.connection.challenge(b""), lambda: seat.connection.authenticated("u")):
        with pytest.raises(LocalProtocolError, match="no AUTH is owed a verdict, MAIL is"):
            verdict()
    assert seat.connection.identity is None


@pytest.mark.parametrize("answered", [False, True])
def test_a_verdict_that_comes_too_late_does_nothing(answered: bool) -> None:
    connection = owing(answered)
    connection.connection_lost()
    assert connection.challenge(b"a") is connection.authenticated("u") is connection.reply(BAD) is False
    assert connection.identity is None


# Limits.


def test_failures_have_a_limit() -> None:
    seat = ready(exchange(refusal=BAD))
    assert codes(seat.say(b"AUTH PLAIN =\r\n" * 4)) == [535] * 4
    assert seat.say(b"AUTH PLAIN =\r\nNOOP\r\n") == b"535 5.7.8 No\r\n421 4.7.0 Too many failed attempts\r\n"
    assert ending(seat) == ConnectionClosed(CloseReason.VIOLATION, Violation.TOO_MANY_AUTH_FAILURES)


def test_failures_after_a_challenge_and_those_called_off_count() -> None:
    seat = ready(exchange(b"a", b"b", refusal=BAD), config(Limits(auth_failures=3)))
    assert codes(seat.say(b"AUTH LOGIN\r\n*\r\n")) == [334, 501]
    assert codes(seat.say(b"AUTH LOGIN\r\nYQ==\r\n")) == [334, 535]
    assert codes(seat.say(b"AUTH LOGIN\r\n")) == [535, 421]


def test_failures_of_our_own_do_not_count() -> None:
    """RFC 4954 section 6: 454 says nothing about a password."""
    seat = ready(exchange(refusal=Reply(454, "Later", enhanced="4.7.0")))
    assert codes(seat.say(b"AUTH PLAIN =\r\n" * 10)) == [454] * 10


def test_an_exchange_is_one_request_with_one_deadline() -> None:
    seat = ready(exchange(*[b"a"] * 100))
    seat.clock.now += 100
    seat.say(b"AUTH LOGIN\r\n")
    start = seat.clock.now
    for _ in range(5):
        assert seat.flow is Flow.NEED_DATA
        assert seat.connection.deadline == start + 300, "no answer renews it"
        seat.clock.now += 50
        assert codes(seat.say(b"YQ==\r\n")) == [334]
    assert codes(seat.wait(50)) == [421]
    closed = ending(seat)
    assert (closed.reason, closed.timer) == (CloseReason.TIMEOUT, Timer.COMMAND)


@pytest.mark.parametrize("line", [b"YQ==", b"*", b"!", b"x" * 13_000])
def test_after_an_exchange_the_next_command_has_its_own_time(line: bytes) -> None:
    seat = ready(exchange(b"a"))
    seat.say(b"AUTH LOGIN\r\n")
    seat.clock.now += 200
    seat.say(line + b"\r\n")
    assert seat.connection.phase is Phase.READY
    assert seat.connection.deadline == seat.clock.now + 300


def test_a_handler_that_takes_too_long_authenticates_nobody() -> None:
    def slow(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Auth):
            seat.clock.now += 120
            connection.handle_timeout()
            assert connection.authenticated("u") is False
        else:
            accept_all(connection, event)

    seat = ready(slow)
    assert codes(seat.say(b"AUTH PLAIN =\r\nNOOP\r\n")) == [451, 250]
    assert seat.connection.identity is None


@pytest.mark.parametrize("lost", [False, True])
def test_an_exchange_can_end_with_the_connection(lost: bool) -> None:
    seat = ready(exchange(b"a"))
    seat.say(b"AUTH LOGIN\r\nYQ")
    if lost:
        seat.connection.connection_lost()
    else:
        seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.LOST if lost else CloseReason.EOF)


# Secrets.


@pytest.mark.parametrize(
    "said",
    [
        b"AUTH PLAIN " + SAID,
        b"auth plain " + SAID,
        b"AUTH PLAIN  " + SAID,
        b"AUTH  PLAIN " + SAID,
        b"AUTH PLAIN " + SAID + b" x",
        b"AUTH PLAIN x " + SAID,
        b"AUTH PLAIN\t" + SAID,
        b"AUTH\tPLAIN " + SAID,
        b" AUTH PLAIN " + SAID,
        b"AUTH PLAIN " + SAID + b"\xff",
        b"AUTH PLAIN !" + SAID,
        b"AUTH NTLM " + SAID,
        b"AUTH X.Y " + SAID,
        b"AUTH " + SAID * 4,
        b"AUTH LOGIN\r\n" + SAID,
        b"AUTH LOGIN\r\n" + SAID + b"!",
        b"AUTH LOGIN\r\n" + SAID * 2000,
        b"AUTH PLAIN " + SAID * 2000,
    ],
)
@pytest.mark.parametrize("before", [b"", b"EHLO c.example\r\nMAIL FROM:<>\r\n", b"EHLO c.example\r\n"])
def test_no_secret_is_seen_anywhere(said: bytes, before: bytes) -> None:
    challenged = said.startswith(b"AUTH LOGIN")
    if challenged:  # without a challenge what follows would be no answer
        before = b"EHLO c.example\r\n"
    seat = Seat(config(), handler=exchange(b"a") if challenged else exchange())
    answers = seat.say(before + said + b"\r\n")
    seen = [
        *(repr(event) for event in seat.events),
        *(line.line.decode("latin-1") for line in seat.traced),
        answers.decode(),
    ]
    for secret in (SECRET.decode(), SAID.decode(), SAID.decode().lower()):
        assert not [text for text in seen if secret in text]


def test_the_trace_shows_that_somebody_answered() -> None:
    seat = ready(exchange(b"a"))
    seat.traced.clear()
    seat.say(b"AUTH LOGIN\r\nYQ==\r\n")
    assert [(line.side, line.line) for line in seat.traced] == [
        ("C", b"AUTH LOGIN"),
        ("S", b"334 YQ==\r\n"),
        ("C", b"***"),
        ("S", b"235 2.7.0 Authenticated\r\n"),
    ]


# What submission needs (RFC 6409 section 4.3).


def test_without_tls_nothing_that_matters_goes() -> None:
    seat = ready(exchange(), replace(config(), requires_tls=True))
    lines = b"MAIL FROM:<>\r\nVRFY x\r\nEXPN x\r\nAUTH PLAIN =\r\nNOOP\r\nRSET\r\nRCPT TO:<postmaster>\r\n"
    answers = seat.say(lines)
    assert codes(answers) == [530, 530, 530, 530, 250, 250, 503]
    assert answers.startswith(b"530 5.7.0 Send STARTTLS first\r\n")
    assert codes(seat.say(b"STARTTLS\r\n")) == [220]
    seat.connection.tls_established(TLS)
    assert codes(seat.say(b"EHLO c.example\r\nMAIL FROM:<>\r\n")) == [250, 250]


def test_without_authentication_nothing_that_matters_goes() -> None:
    seat = ready(exchange(), replace(config(), requires_auth=True))
    answers = seat.say(b"MAIL FROM:<>\r\nVRFY x\r\nEXPN x\r\nNOOP\r\nRSET\r\n")
    assert codes(answers) == [530, 530, 530, 250, 250]
    assert answers.startswith(b"530 5.7.0 Authentication required\r\n")
    assert codes(seat.say(b"AUTH PLAIN =\r\nMAIL FROM:<>\r\n")) == [235, 250]


def test_implicit_tls_is_tls() -> None:
    seat = Seat(replace(config(in_clear=False), requires_tls=True), handler=exchange(), implicit_tls=True)
    seat.connection.tls_established(TLS)
    seat.settle()
    assert codes(seat.say(b"EHLO c.example\r\nAUTH PLAIN =\r\nMAIL FROM:<>\r\n")) == [250, 235, 250]
