"""The client's AUTH: one mechanism, from its first word to the server's verdict (RFC 4954)."""

from __future__ import annotations

from base64 import b64encode
from typing import Final, final

import pytest

from smtpstate._authentication import AuthenticationFailed, authenticate
from smtpstate._commands import AuthResponse, Mail, Noop
from smtpstate._delivery import ConnectionBroken, DeliveryError, TlsMode, open_session
from smtpstate._errors import LocalProtocolError
from smtpstate._events import CloseReason, ConnectionClosed, ReplyReceived
from smtpstate._keys import WorkNeeded
from smtpstate._replies import Reply
from smtpstate._sasl import ClientStep, Done, Failure, Respond, SaslFault
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, Script, Wire, codes

GREETING = (b"", b"220 mx.example\r\n")
OFFERS = (HELLO, b"250-mx.example\r\n250 AUTH TEST\r\n")
WORK: Final = WorkNeeded("sha256", b"open sesame", b"salt", 1)
NOOP = (b"NOOP\r\n", b"250 ok\r\n")


def base64(data: bytes) -> bytes:
    return b64encode(data)


@final
class Scripted:
    """A mechanism that takes the steps it was given, and keeps what it was stepped with."""

    def __init__(self, *steps: ClientStep, end: Done | Failure | None = None) -> None:
        self.name: Final = "TEST"
        self.steps = list(steps)
        self.end = end if end is not None else Done()
        self.heard: list[bytes | None] = []

    def step(self, data: bytes | None) -> ClientStep:
        self.heard.append(data)
        return self.steps.pop(0)

    def concluded(self) -> Done | Failure:
        return self.end


def opened(*script: tuple[bytes, bytes], cut: int = 99, eof: bool = False) -> Wire:
    wire = Wire([GREETING, OFFERS, *script], cut=cut, eof=eof)
    wire.run(open_session(wire.client, TlsMode.OFF))
    return wire


def respond(*data: bytes | None) -> list[ClientStep]:
    return [Respond(item) for item in data]


FITS = b"x" * 372  # 496 in base64; with "AUTH TEST " and CRLF these are 508 octets, and 512 is the limit
LONG = FITS + b"yyyy"  # 504 in base64: over it
GOOD: list[tuple[list[ClientStep], Script, list[bytes | None], str]] = [
    (respond(b"me"), [(b"AUTH TEST bWU=\r\n", b"235 ok\r\n")], [None], "an initial response, and it is over"),
    (respond(b"me"), [(b"AUTH TEST bWU=\r\n", b"250 ok\r\n")], [None], "the first digit decides"),
    (respond(b""), [(b"AUTH TEST =\r\n", b"235 ok\r\n")], [None], "an empty initial response"),
    (
        respond(None, b"me", b"pw"),
        [(b"AUTH TEST\r\n", b"334 VTo=\r\n"), (b"bWU=\r\n", b"334 \r\n"), (b"cHc=\r\n", b"235 ok\r\n")],
        [None, b"U:", b""],
        "the server speaks first, and challenges are decoded",
    ),
    (
        respond(b"me", b""),
        [(b"AUTH TEST bWU=\r\n", b"334 c2VydmVy\r\n"), (b"\r\n", b"235 ok\r\n")],
        [None, b"server"],
        "an empty response, as SCRAM ends",
    ),
    (
        respond(b"me", None),
        [(b"AUTH TEST bWU=\r\n", b"334 \r\n"), (b"\r\n", b"235 ok\r\n")],
        [None, b""],
        "nothing to say is said",
    ),
    (
        [WORK, Respond(b"me"), WORK, WORK, Respond(b"proof")],
        [(b"AUTH TEST bWU=\r\n", b"334 YQ==\r\n"), (b"cHJvb2Y=\r\n", b"235 ok\r\n")],
        [None, WORK.run(), b"a", WORK.run(), WORK.run()],
        "work is done by whoever drives, and goes back in",
    ),
    (respond(FITS), [(b"AUTH TEST " + base64(FITS) + b"\r\n", b"235 ok\r\n")], [None], "it fits the line"),
    (
        respond(LONG, b"more"),
        [
            (b"AUTH TEST\r\n", b"334 \r\n"),
            (base64(LONG) + b"\r\n", b"334 YQ==\r\n"),
            (b"bW9yZQ==\r\n", b"235 ok\r\n"),
        ],
        [None, b"a"],
        "RFC 4954 section 4: what does not fit waits for an empty challenge",
    ),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("steps", "script", "heard", "reason"), GOOD)
def test_an_exchange_runs_to_its_good_end(
    steps: list[ClientStep], script: Script, heard: list[bytes | None], reason: str, cut: int
):
    wire = opened(*script, NOOP, cut=cut)
    mechanism = Scripted(*steps)
    wire.run(authenticate(wire.client, mechanism))
    assert mechanism.heard == heard, reason
    assert (wire.client.phase, wire.client.in_sync, mechanism.steps) == (Phase.READY, True, [])
    assert codes(wire.say(Noop())) == [("NOOP", 250)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("reply", [b"535 5.7.8 no\r\n", b"454 4.7.0 later\r\n", b"504 what\r\n", b"534 weak\r\n"])
@pytest.mark.parametrize("early", [True, False])
def test_a_refusal_is_the_end_of_it_and_not_of_the_session(reply: bytes, early: bool, cut: int):
    first = (b"AUTH TEST bWU=\r\n", reply if early else b"334 \r\n")
    wire = opened(first, *([] if early else [(b"cHc=\r\n", reply)]), NOOP, cut=cut)
    with pytest.raises(AuthenticationFailed) as caught:
        wire.run(authenticate(wire.client, Scripted(*respond(b"me", b"pw"))))
    assert isinstance(caught.value, DeliveryError)
    assert caught.value.reply is not None
    assert (caught.value.reply.code, caught.value.why) == (int(reply[:3]), None)
    assert str(caught.value.reply) in str(caught.value)
    assert codes(wire.say(Noop())) == [("NOOP", 250)], "nothing else was tried"


OFF: list[tuple[list[ClientStep], bytes, SaslFault, str]] = [
    ([Respond(b"me"), Failure(SaslFault.NONCE)], b"334 eA==\r\n", SaslFault.NONCE, "what the server says is wrong"),
    ([Respond(b"me")], b"334 what?\r\n", SaslFault.MALFORMED, "not base64"),
    ([Respond(b"me")], b"334-eA==\r\n334 eA==\r\n", SaslFault.MALFORMED, "a challenge in two lines"),
    ([Respond(b"me"), WORK, Failure(SaslFault.ITERATIONS)], b"334 \r\n", SaslFault.ITERATIONS, "after some work"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("steps", "challenge", "why", "reason"), OFF)
def test_what_we_do_not_believe_is_called_off(
    steps: list[ClientStep], challenge: bytes, why: SaslFault, reason: str, cut: int
):
    wire = opened((b"AUTH TEST bWU=\r\n", challenge), (b"*\r\n", b"501 5.7.0 off\r\n"), NOOP, cut=cut)
    with pytest.raises(AuthenticationFailed) as caught:
        wire.run(authenticate(wire.client, Scripted(*steps)))
    assert caught.value.why is why, reason
    assert caught.value.reply == Reply(501, "off", enhanced="5.7.0")
    assert why.value in str(caught.value)
    assert codes(wire.say(Noop())) == [("NOOP", 250)], "the session goes on"


@pytest.mark.parametrize(
    ("answer", "reply", "reason"),
    [
        (b"", None, "gone"),
        (b"235 welcome\r\n", None, "a yes to what was called off is no answer"),
        (b"334 \r\n", None, "neither is a challenge"),
        (b"421 bye\r\n", Reply(421, "bye"), "going"),
    ],
)
def test_when_calling_off_breaks_the_connection_the_cause_is_still_told(
    answer: bytes, reply: Reply | None, reason: str
):
    wire = opened((b"AUTH TEST bWU=\r\n", b"334 eA==\r\n"), (b"*\r\n", answer), eof=True)
    with pytest.raises(AuthenticationFailed) as caught:
        wire.run(authenticate(wire.client, Scripted(Respond(b"me"), Failure(SaslFault.SIGNATURE))))
    assert (caught.value.why, caught.value.reply) == (SaslFault.SIGNATURE, reply), reason
    assert wire.client.closed is not None


EARLY: list[tuple[list[ClientStep], Done | Failure, bytes, SaslFault, str]] = [
    (respond(b"me"), Failure(SaslFault.UNVERIFIED), b"AUTH TEST bWU=\r\n", SaslFault.UNVERIFIED, "says the mechanism"),
    (respond(LONG), Done(), b"AUTH TEST\r\n", SaslFault.UNVERIFIED, "nothing was said yet"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("steps", "end", "line", "why", "reason"), EARLY)
def test_a_yes_that_proves_nothing_ends_the_session(
    steps: list[ClientStep], end: Done | Failure, line: bytes, why: SaslFault, reason: str, cut: int
):
    wire = opened((line, b"235 welcome\r\n"), cut=cut)
    with pytest.raises(AuthenticationFailed) as caught:
        wire.run(authenticate(wire.client, Scripted(*steps, end=end)))
    assert (caught.value.why, caught.value.reply) == (why, Reply(235, "welcome")), reason
    assert wire.client.closed == ConnectionClosed(CloseReason.CLOSED)
    assert not wire.client.send(Mail.of("me@me.example")), "no mail for whoever that is"


def test_a_mechanism_that_cannot_begin_says_nothing():
    wire = opened()
    written = wire.written
    with pytest.raises(AuthenticationFailed) as caught:
        wire.run(authenticate(wire.client, Scripted(Failure(SaslFault.CREDENTIALS))))
    assert (caught.value.why, caught.value.reply) == (SaslFault.CREDENTIALS, None)
    assert (wire.written, wire.client.in_sync) == (written, True)


@pytest.mark.parametrize(
    ("answer", "how", "reason"),
    [
        (b"", CloseReason.EOF, "gone"),
        (b"421 bye\r\n", CloseReason.GOING_AWAY, "no verdict on who we are"),
        (b"what\r\n", CloseReason.VIOLATION, "no reply"),
    ],
)
@pytest.mark.parametrize("later", [True, False])
def test_a_connection_that_breaks_is_no_verdict(answer: bytes, how: CloseReason, reason: str, later: bool):
    first = (b"AUTH TEST bWU=\r\n", b"334 \r\n" if later else answer)
    wire = opened(first, *([(b"cHc=\r\n", answer)] if later else []), eof=True)
    with pytest.raises(ConnectionBroken) as caught:
        wire.run(authenticate(wire.client, Scripted(*respond(b"me", b"pw"))))
    assert caught.value.closed.reason is how, reason


def test_a_verdict_that_came_before_the_end_counts():
    wire = opened()
    procedure = authenticate(wire.client, Scripted(*respond(b"me")))
    next(procedure)
    wire.client.data_to_send()
    wire.client.receive_data(b"535 no\r\n")
    wire.client.connection_lost()
    with pytest.raises(AuthenticationFailed, match="535"):
        wire.resume(procedure, wire.pull())


@pytest.mark.parametrize(
    ("response", "offers", "complaint", "reason"),
    [
        (b"me", b"HELP", "TEST is not offered", "AUTH is not offered"),
        (b"me", b"AUTH OTHER", "TEST is not offered", "the mechanism is not"),
        (b"x" * 9_217, b"AUTH TEST", "12288 is the limit", "a response that no line can hold"),
    ],
)
def test_what_cannot_be_said_is_not_begun(response: bytes, offers: bytes, complaint: str, reason: str):
    wire = Wire([GREETING, (HELLO, b"250-mx.example\r\n250 " + offers + b"\r\n"), NOOP])
    wire.run(open_session(wire.client, TlsMode.OFF))
    with pytest.raises(LocalProtocolError, match=complaint):
        wire.run(authenticate(wire.client, Scripted(*respond(response))))
    assert wire.client.in_sync, reason
    assert codes(wire.say(Noop())) == [("NOOP", 250)]


def test_no_secret_shows_in_what_is_raised():
    secret = b"open sesame"
    wire = opened((b"AUTH TEST " + base64(secret) + b"\r\n", b"334 \r\n"), (base64(secret) + b"\r\n", b"535 no\r\n"))
    with pytest.raises(AuthenticationFailed) as caught:
        wire.run(authenticate(wire.client, Scripted(*respond(secret, secret))))
    shown = f"{caught.value!r} {caught.value} {WORK!r} {ReplyReceived(AuthResponse(secret), Reply(535))!r}"
    assert secret.decode() not in shown
    assert base64(secret).decode() not in shown
