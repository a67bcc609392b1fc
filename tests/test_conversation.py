"""The conversation, alone: what is said, where it leads, and how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smtpstate._address import ReversePath
from smtpstate._budget import Limits
from smtpstate._commands import Ehlo, Expn, Mail, Rcpt, Verb, Vrfy
from smtpstate._config import SHUTTING_DOWN, ServerConfig, Transaction
from smtpstate._conversation import Conversation
from smtpstate._errors import LocalProtocolError
from smtpstate._events import (
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    Flow,
    Owed,
    Peer,
    ResetCause,
    Timer,
    TlsInfo,
    TraceLine,
    TransactionReset,
    Violation,
)
from smtpstate._networks import parse_networks
from smtpstate._newlines import BareNewline
from smtpstate._replies import Reply
from smtpstate._state import Outcome, Phase
from smtpstate._wire import WireRules
from smtpstate._xclient import Absence, XClient, XForward

OK = Reply(250, "OK", enhanced="2.0.0")


def talk(
    *, config: ServerConfig | None = None, handshake: bool = False, greeted: bool = True
) -> tuple[Conversation, list[object]]:
    """A conversation, and what is traced of it."""
    traced: list[object] = []
    conversation = Conversation(config or ServerConfig("mx.example.org"), traced.append, handshake=handshake)
    if greeted:
        conversation.answer(Verb.CONNECT, Reply(220))
        conversation.out.take()
        conversation.out.take()
        conversation.teller.phase()
        traced.clear()
    return conversation, traced


@pytest.mark.parametrize(
    ("verb", "reply", "phase", "octets"),
    [
        (Verb.NOOP, OK, Phase.GREETED, b"250 2.0.0 OK\r\n"),
        (Verb.HELO, Reply(250), Phase.READY, b"250 mx.example.org\r\n"),
        (Verb.EHLO, Reply(550, "No"), Phase.GREETED, b"550 No\r\n"),
        (Verb.QUIT, Reply(221, "Bye"), Phase.CLOSING, b"221 2.0.0 Bye\r\n"),
        (Verb.NOOP, Reply(421, "Bye"), Phase.CLOSING, b"421 4.0.0 Bye\r\n"),
    ],
)
def test_a_reply_moves_the_session(verb: Verb, reply: Reply, phase: Phase, octets: bytes) -> None:
    conversation, traced = talk()
    conversation.answer(verb, reply)
    assert conversation.session.phase is phase
    assert conversation.out.take() == octets
    assert traced[0] == TraceLine("S", octets)


@pytest.mark.parametrize(("verb", "reason"), [(Verb.QUIT, CloseReason.QUIT), (Verb.NOOP, CloseReason.CLOSED)])
def test_the_last_reply_winds_it_up(verb: Verb, reason: CloseReason) -> None:
    conversation, _ = talk()
    assert not conversation.is_over
    conversation.answer(verb, Reply(221, "Bye") if verb is Verb.QUIT else SHUTTING_DOWN)
    assert conversation.is_over
    assert conversation.closing.ending == ConnectionClosed(reason)


@pytest.mark.parametrize("verb", [Verb.EHLO, Verb.HELO])
@pytest.mark.parametrize("secure", [False, True])
def test_what_a_hello_announces_is_known_to_the_session(verb: Verb, secure: bool) -> None:
    conversation, _ = talk(config=ServerConfig("mx.example.org", starttls=True, mechanisms=("PLAIN",)))
    if secure:
        conversation.answer(Verb.EHLO, Reply(250))
        conversation.answer(Verb.STARTTLS, Reply(220))
        conversation.secured(TlsInfo("TLSv1.3", "x"))
    conversation.answer(verb, Reply(250))
    session, ehlo = conversation.session, verb is Verb.EHLO
    assert (session.offers_tls, session.offers_auth, session.offers_chunking) == (
        ehlo and not secure,
        ehlo and secure,
        ehlo,
    )


def test_a_reply_that_cannot_be_sent_changes_nothing() -> None:
    conversation, traced = talk()
    with pytest.raises(LocalProtocolError):
        conversation.answer(Verb.EHLO, Reply(250, "a\r\nb"))
    assert conversation.session.phase is Phase.GREETED
    assert not traced


@pytest.mark.parametrize(
    ("owed", "greeted", "octets"),
    [
        (None, False, b"421 Service shutting down\r\n"),
        (None, True, b"421 4.3.2 Service shutting down\r\n"),
        (Ehlo("c.example"), True, b"421 Service shutting down\r\n"),
        (Mail.of(""), True, b"421 4.3.2 Service shutting down\r\n"),
    ],
)
def test_a_reply_that_comes_of_itself_keeps_the_rules_of_what_it_answers(
    owed: Ehlo | Mail | None, greeted: bool, octets: bytes
) -> None:
    """RFC 2034 section 4."""
    conversation, _ = talk(greeted=greeted)
    conversation.owed = owed
    conversation.say(SHUTTING_DOWN)
    assert conversation.out.take() == octets


def test_where_a_handshake_is_due_nothing_is_said() -> None:
    conversation, _ = talk(handshake=True, greeted=False)
    assert conversation.shakes_hands
    conversation.violate(Violation.EARLY_PLAINTEXT, SHUTTING_DOWN)
    assert conversation.out.take() == b""
    assert not conversation.shakes_hands
    assert conversation.is_over


def test_starttls_is_answered_and_then_a_handshake_is_due() -> None:
    conversation, _ = talk(config=ServerConfig("mx.example.org", starttls=True))
    conversation.answer(Verb.EHLO, Reply(250))
    conversation.answer(Verb.STARTTLS, Reply(220))
    assert conversation.shakes_hands
    conversation.budgets.charge_peer(Flow.NEED_TLS, lambda: 0.0)
    assert conversation.budgets.expired(60.0) is Timer.HANDSHAKE


@pytest.mark.parametrize(("reply", "deadline"), [(Reply(334), 300.0), (Reply(235), 400.0), (Reply(535), 400.0)])
def test_an_exchange_has_one_budget(reply: Reply, deadline: float) -> None:
    conversation, _ = talk()
    conversation.session.phase = Phase.AUTH
    conversation.budgets.charge_peer(Flow.NEED_DATA, lambda: 0.0)
    conversation.answer(Verb.RESPONSE, reply)
    conversation.budgets.charge_peer(Flow.NEED_DATA, lambda: 100.0)
    assert conversation.budgets.deadline == deadline


def test_without_a_trace_it_goes_as_well() -> None:
    conversation = Conversation(ServerConfig("mx.example.org"), None, handshake=False)
    conversation.heard(b"NOOP")
    conversation.answer(Verb.CONNECT, Reply(220))
    assert conversation.out.take() == b"220 mx.example.org ESMTP\r\n"


def test_what_was_heard_is_traced() -> None:
    conversation, traced = talk()
    conversation.heard(b"NOOP")
    assert traced == [TraceLine("C", b"NOOP")]


@pytest.mark.parametrize(
    ("lmtp", "recipients", "due"), [(False, 3, 1), (True, 3, 3), (True, 1, 1), (True, None, 1), (False, None, 1)]
)
def test_lmtp_has_a_verdict_for_each_recipient(lmtp: bool, recipients: int | None, due: int) -> None:
    conversation, _ = talk(config=ServerConfig("mx.example.org", lmtp=lmtp))
    if recipients is not None:
        conversation.transaction = Transaction(Mail.of(""), (Rcpt.of("a@example.org"),) * recipients)
    assert conversation.recipients_due == due


def test_what_is_missing_is_no_more_so_when_the_peer_is_gone() -> None:
    conversation, _ = talk()
    assert conversation.need(Flow.NEED_DATA) is Flow.NEED_DATA
    conversation.closing.eof = True
    assert conversation.need(Flow.NEED_DATA) is None
    assert conversation.closing.ending == ConnectionClosed(CloseReason.EOF)


@pytest.mark.parametrize("error", [True, False])
def test_errors_are_counted_and_what_is_none_is_not(error: bool) -> None:
    conversation, _ = talk(config=ServerConfig("mx.example.org", Limits(errors=1)))
    refused = CommandRefused(b"x", Violation.UNKNOWN_COMMAND, Reply(500, "What", enhanced="5.5.2"))
    conversation.turn_down(refused, error=error)
    conversation.turn_down(refused, error=error)
    answers = conversation.out.take()
    if error:
        assert answers == b"500 5.5.2 What\r\n421 4.7.0 Too many errors\r\n"
        assert list(conversation.events) == [refused]
        assert conversation.closing.ending == ConnectionClosed(CloseReason.VIOLATION, Violation.TOO_MANY_ERRORS)
    else:
        assert answers == b"500 5.5.2 What\r\n" * 2
        assert list(conversation.events) == [refused] * 2


@pytest.mark.parametrize(
    ("refusal", "answers", "reason"),
    [
        (Reply(550, "No", enhanced="5.7.1"), b"421 4.7.0 Too many errors\r\n", "the peer is to blame"),
        (Reply(450, "Later", enhanced="4.7.1"), b"", "we are"),
    ],
)
def test_who_is_to_blame_for_a_refusal(refusal: Reply, answers: bytes, reason: str) -> None:
    conversation, _ = talk(config=ServerConfig("mx.example.org", Limits(errors=0)))
    conversation.blame(refusal)
    assert conversation.out.take() == answers, reason


def test_a_reply_is_late_after_too_many_errors_and_the_last_one_never() -> None:
    conversation, _ = talk(config=ServerConfig("mx.example.org", Limits(soft_errors=1)))
    conversation.blame(Reply(550, "No"))
    conversation.say(OK)
    assert conversation.out.take() == b""
    conversation.end_delay()
    assert conversation.out.take() == b"250 2.0.0 OK\r\n"
    conversation.say(OK)
    conversation.wind_up(ConnectionClosed(CloseReason.CLOSED))
    assert conversation.out.take() == b"250 2.0.0 OK\r\n"


def test_what_a_handshake_answers_is_never_late() -> None:
    """A peer that does not wait for it would have our part of the handshake first, and this one inside TLS."""
    config = ServerConfig("mx.example.org", Limits(soft_errors=1), starttls=True)
    for reply, late in ((Reply(454, "Not now"), True), (Reply(220, "Begin TLS"), False)):
        conversation, _ = talk(config=config)
        conversation.answer(Verb.CONNECT, Reply(220))
        conversation.answer(Verb.EHLO, Reply(250))
        conversation.out.take()
        conversation.blame(Reply(550, "No"))
        conversation.answer(Verb.STARTTLS, reply)
        assert (conversation.out.take() == b"") is late, reply


def test_limits_are_switched_for_what_is_counted_and_for_what_is_timed() -> None:
    conversation, _ = talk()
    strict = conversation.config.limits.under_stress()
    conversation.switch(strict, 1000)
    assert conversation.conduct.limits is conversation.budgets.limits is strict


@pytest.mark.parametrize("taken", [False, True])
def test_a_transaction_is_dropped_once_and_told_unless_somebody_has_it(taken: bool) -> None:
    conversation, _ = talk()
    conversation.drop_transaction(ResetCause.RSET)
    conversation.transaction = Transaction(Mail.of(""))
    conversation.partly_taken = taken
    conversation.answer(Verb.RSET, OK)
    conversation.drop_transaction(ResetCause.CLOSED)
    assert conversation.transaction is None
    assert list(conversation.events) == ([] if taken else [TransactionReset(ResetCause.RSET)])


def test_at_its_end_nothing_is_left() -> None:
    conversation, _ = talk()
    conversation.owed = Mail.of("")
    conversation.transaction = Transaction(Mail.of(""))
    conversation.lines.receive_data(b"NOOP\r\n")
    conversation.say(OK)
    conversation.end(ConnectionClosed(CloseReason.LOST))
    assert conversation.out.take() == b""
    left: tuple[object, ...] = (conversation.owed, conversation.transaction, len(conversation.lines))
    assert left == (None, None, 0)
    assert conversation.session.phase is Phase.CLOSED
    assert conversation.closing.closed == ConnectionClosed(CloseReason.LOST)
    assert conversation.budgets.deadline is None
    assert list(conversation.events) == [TransactionReset(ResetCause.CLOSED)]


def test_outcomes_are_what_the_first_digit_says() -> None:
    conversation, _ = talk()
    conversation.answer(Verb.EHLO, Reply(251))
    assert Outcome.of(251) is Outcome.OK
    assert conversation.session.phase is Phase.READY


ASKS = Mail(ReversePath(None), (("SMTPUTF8", None),))
E = Reply(250, "\xe9")


@pytest.mark.parametrize(
    ("owed", "utf8", "phase", "octets", "reason"),
    [
        (None, True, Phase.RCPT, b"\xc3\xa9", "in a transaction that asked"),
        (None, True, Phase.DEAD, b"\xc3\xa9", "to its very end"),
        (None, False, Phase.RCPT, b"?", "in another"),
        (None, True, Phase.READY, b"?", "after it"),
        (None, True, Phase.CLOSING, b"?", "whoever is being shown the door"),
        (ASKS, False, Phase.READY, b"\xc3\xa9", "what asks is answered so"),
        (Mail.of(""), True, Phase.READY, b"?", "what does not ask is not"),
        (Vrfy("x", smtputf8=True), False, Phase.READY, b"\xc3\xa9", "RFC 6531 section 3.7.4.2"),
        (Expn("x", smtputf8=True), False, Phase.READY, b"\xc3\xa9", "RFC 6531 section 3.7.4.2"),
        (Vrfy("x"), True, Phase.RCPT, b"?", "wherever it comes"),
    ],
)
def test_replies_hold_utf8_for_those_who_asked(
    owed: Owed | None, utf8: bool, phase: Phase, octets: bytes, reason: str
) -> None:
    conversation, _ = talk()
    conversation.owed, conversation.utf8, conversation.session.phase = owed, utf8, phase
    assert conversation.encode(Verb.NOOP, E) == b"250 2.0.0 " + octets + b"\r\n", reason
    assert conversation.encode(Verb.EHLO, E).startswith(b"250-mx.example.org ?\r\n"), "a hello is ASCII"


UNAVAILABLE = Absence.UNAVAILABLE
REAL, NAMED = Peer("127.0.0.1", 40_000), "2001:db8::1"
OFFERS = ServerConfig("mx.example.org", offers=frozenset({"XCLIENT", "XFORWARD"}))


def trusting(peer: Peer | None = REAL, *, trusted: bool = True, config: ServerConfig = OFFERS) -> Conversation:
    """A conversation with somebody who may speak for others."""
    conversation = Conversation(config, None, handshake=False, peer=peer, trusted=trusted)
    conversation.answer(Verb.CONNECT, Reply(220))
    return conversation


@pytest.mark.parametrize(
    ("connected", "said", "peer", "reason"),
    [
        (REAL, XClient(helo="a"), REAL, "nothing of the address"),
        (REAL, XClient(port=1), Peer("127.0.0.1", 1), "another port"),
        (REAL, XClient(port=UNAVAILABLE), Peer("127.0.0.1"), "no port"),
        (REAL, XClient(address=NAMED, port=1), Peer(NAMED, 1), "both"),
        (REAL, XClient(address=NAMED), Peer(NAMED), "the old port is none of this address"),
        (REAL, XClient(address=UNAVAILABLE, port=1), None, "nobody"),
        (None, XClient(helo="a"), None, "nobody as before"),
        (None, XClient(address=NAMED), Peer(NAMED), "somebody at last"),
    ],
)
def test_who_the_peer_is(connected: Peer | None, said: XClient, peer: Peer | None, reason: str) -> None:
    conversation = trusting(connected)
    assert conversation.peer == connected
    conversation.speak_for(said)
    assert conversation.peer == peer, reason
    assert conversation.session.phase is Phase.CONNECT
    assert list(conversation.events) == [said]


@pytest.mark.parametrize(
    ("said", "trusted", "authenticated"),
    [
        (XClient(port=1, login="joe"), True, True),
        (XClient(login=UNAVAILABLE), True, False),
        (XClient(address=NAMED, login="joe"), False, True),
        (XClient(address=UNAVAILABLE), False, False),
    ],
)
def test_an_address_takes_the_trust_away(said: XClient, trusted: bool, authenticated: bool) -> None:
    conversation = trusting()
    conversation.speak_for(said)
    assert (conversation.trusted, conversation.session.authenticated) == (trusted, authenticated)
    conversation.answer(Verb.CONNECT, Reply(220))
    assert conversation.session.offers_xclient is trusted
    conversation.answer(Verb.EHLO, Reply(250))
    session = conversation.session
    assert (session.offers_xclient, session.offers_xforward, session.authenticated) == (trusted, trusted, authenticated)


@pytest.mark.parametrize(
    ("trusted", "config", "reason"),
    [(False, OFFERS, "nobody trusts it"), (True, ServerConfig("mx.example.org"), "it is offered to nobody")],
)
def test_a_peer_may_speak_for_others_where_it_is_trusted_and_offered(
    trusted: bool, config: ServerConfig, reason: str
) -> None:
    session = trusting(trusted=trusted, config=config).session
    assert not session.offers_xclient, reason


@pytest.mark.parametrize(
    ("reply", "octets", "phase"),
    [
        (Reply(220), b"220 mx.example.org ESMTP\r\n", Phase.GREETED),
        (Reply(554, "Go", "away"), b"521-Go\r\n521 away\r\n", Phase.CLOSING),
        (Reply(450, "Later"), b"421 Later\r\n", Phase.CLOSING),
        (Reply(521, "Never"), b"521 Never\r\n", Phase.CLOSING),
    ],
)
def test_to_refuse_whom_xclient_named_is_to_close(reply: Reply, octets: bytes, phase: Phase) -> None:
    conversation = trusting()
    conversation.out.take()
    conversation.speak_for(XClient(address=NAMED))
    conversation.answer(Verb.CONNECT, reply)
    assert conversation.out.take() == octets
    assert conversation.session.phase is phase


def test_what_was_forwarded_goes_with_the_transaction() -> None:
    conversation = trusting()
    conversation.answer(Verb.EHLO, Reply(250))
    conversation.forwarded = XForward(helo="a")
    conversation.answer(Verb.RSET, OK)
    assert conversation.forwarded is None
    conversation.forwarded = XForward(helo="a")
    conversation.speak_for(XClient(helo="b"))
    assert conversation.forwarded is None, "it was another client's"


def test_who_speaks_for_others_does_not_lend_them_its_certificate() -> None:
    conversation = trusting(config=replace(OFFERS, mechanisms=("EXTERNAL", "PLAIN"), auth_in_clear=True))
    assert "EXTERNAL" not in conversation.mechanisms
    conversation.secured(TlsInfo("TLSv1.3", "x", identities=("joe",)))
    assert "EXTERNAL" in conversation.mechanisms
    conversation.session.phase = Phase.GREETED
    conversation.speak_for(XClient(helo="b"))
    assert "EXTERNAL" not in conversation.mechanisms


def test_starttls_may_be_turned_away_and_nothing_changes() -> None:
    conversation, _ = talk(config=ServerConfig("mx.example.org", starttls=True))
    conversation.answer(Verb.EHLO, OK)
    conversation.budgets.charge_peer(Flow.NEED_DATA, lambda: 0.0)
    before = conversation.budgets.deadline
    conversation.answer(Verb.STARTTLS, Reply(454, "not now", enhanced="4.7.0"))
    assert (conversation.session.phase, conversation.budgets.deadline) == (Phase.READY, before)


def test_of_what_xclient_said_in_clear_the_address_is_left() -> None:
    """RFC 3207 section 4.2; but the address took the trust away, and the one before it must not come back."""
    conversation = trusting()
    conversation.speak_for(XClient(name="x.example", helo="x.example", login="joe", address="192.0.2.9", port=9))
    conversation.secured(TlsInfo("TLSv1.3", "x"))
    assert conversation.xclient == XClient(address="192.0.2.9", port=9)
    assert (conversation.peer, conversation.trusted) == (Peer("192.0.2.9", 9), False)


@pytest.mark.parametrize(
    ("peer", "client", "what", "reason"),
    [
        (Peer("192.0.2.7"), None, BareNewline.NOTE, "excluded"),
        (Peer("198.51.100.7"), None, BareNewline.REJECT, "of users only"),
        (Peer("192.0.2.7"), XClient(address="198.51.100.7"), BareNewline.REJECT, "who speaks is not who connected"),
        (Peer("198.51.100.7"), XClient(address="192.0.2.7"), BareNewline.NOTE, "nor the other way round"),
    ],
)
def test_bare_newlines_are_those_of_whoever_is_there(
    peer: Peer, client: XClient | None, what: BareNewline, reason: str
) -> None:
    rules = WireRules(bare_newline_exclusions=parse_networks(["192.0.2.0/24"]))
    config = ServerConfig("mx.example.org", requires_auth=True, wire=rules)
    conversation = Conversation(config, None, handshake=False, peer=peer, trusted=True)
    conversation.answer(Verb.CONNECT, Reply(220))
    if client is not None:
        conversation.speak_for(client)
    assert conversation.bare_newline is what, reason
