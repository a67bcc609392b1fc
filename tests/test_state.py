"""The table, the guards and the Session, alone."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest

from smtpstate._commands import COMMANDS, Verb
from smtpstate._state import (
    CLOSING_CODES,
    GUARDS,
    HELLO_FIRST,
    NESTED_MAIL,
    OUT_OF_SEQUENCE,
    REFUSALS,
    TRANSACTION_PHASES,
    TRANSITIONS,
    Outcome,
    Phase,
    Session,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smtpstate._replies import Reply

Key = tuple[Phase, bool, bool, bool]
OK, MORE, FAIL, CLOSE = Outcome.OK, Outcome.MORE, Outcome.FAIL, Outcome.CLOSE


def steps(session: Session) -> Iterator[Session]:
    """Every session that is one legal step away."""
    for verb in Verb:
        if session.check(verb) is not None:
            continue
        for outcome in Outcome:
            after = session.copy()
            after.advance(verb, outcome)
            yield after
            if verb is Verb.EHLO and outcome is OK:
                # Whether STARTTLS is announced is what one side says and the other hears; both are possible.
                offered = after.copy()
                offered.offers_tls = not after.offers_tls
                yield offered
    after = session.copy()
    after.close()
    yield after


def explore() -> dict[Key, Session]:
    """All that can be reached, breadth first."""
    found: dict[Key, Session] = {}
    waiting = deque([Session()])
    while waiting:
        session = waiting.popleft()
        if session.key not in found:
            found[session.key] = session
            waiting.extend(steps(session))
    return found


REACHABLE = explore()


def test_the_table_has_a_row_for_each_phase() -> None:
    assert list(TRANSITIONS) == list(Phase)


def test_every_phase_is_reachable() -> None:
    assert {session.phase for session in REACHABLE.values()} == set(Phase)


def test_the_number_of_sessions_is_known() -> None:
    """A change of the table shows here, on purpose.

    CONNECT, REFUSED and GREETED know one fact, `secure`: 2 each. READY, MAIL, RCPT, BODY, CLOSING and CLOSED know all
    three: 8 each. A handshake inside a session begins in one state alone: ESMTP, offered, not secure.
    """
    assert len(REACHABLE) == 3 * 2 + 6 * 8 + 1


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_can_close(phase: Phase) -> None:
    session = Session(phase)
    phases: list[Phase] = []
    session.advance(Verb.NOOP, CLOSE)
    phases.append(session.phase)
    session.close()
    phases.append(session.phase)
    assert phases == [Phase.CLOSING, Phase.CLOSED]


def test_every_session_has_a_way_to_the_end() -> None:
    """QUIT, a failed handshake or the end of a message: no session is left with a closing code as its only way out."""
    for key, session in REACHABLE.items():
        seen: dict[Key, Session] = {}
        waiting = deque([session])
        while waiting:
            here = waiting.popleft()
            if here.key in seen:
                continue
            seen[here.key] = here
            for verb, outcomes in TRANSITIONS[here.phase].items():
                if here.check(verb) is None:
                    for outcome in outcomes:
                        after = here.copy()
                        after.advance(verb, outcome)
                        waiting.append(after)
        ends = {Phase.CLOSING, Phase.CLOSED}
        assert ends & {reached.phase for reached in seen.values()}, key


@pytest.mark.parametrize(("verb", "guard"), [(verb, guard) for verb, guards in GUARDS.items() for guard in guards])
def test_each_guard_is_seen_both_ways(verb: Verb, guard: object) -> None:
    outcomes: set[bool] = set()
    for session in REACHABLE.values():
        if verb not in TRANSITIONS[session.phase]:
            continue
        for each in GUARDS[verb]:
            holds = each.holds(session)
            if each is guard:
                outcomes.add(holds)
                if not holds:
                    assert session.check(verb) == each.refusal
            if not holds:
                break
    assert outcomes == {True, False}


def test_a_guard_names_its_fact() -> None:
    facts = [guard.fact for guards in GUARDS.values() for guard in guards]
    assert facts == ["not secure", "ESMTP", "TLS is offered", "a recipient was accepted"]


@pytest.mark.parametrize(
    ("phase", "verb", "code", "enhanced", "reason"),
    [
        (Phase.CONNECT, Verb.EHLO, 503, "5.5.1", "nothing comes before the greeting"),
        (Phase.REFUSED, Verb.EHLO, 503, "5.5.1", "section 3.1: after 554 only QUIT"),
        (Phase.REFUSED, Verb.NOOP, 503, "5.5.1", "section 3.1: after 554 only QUIT"),
        (Phase.GREETED, Verb.MAIL, 503, "5.5.1", "section 4.1.4: a hello comes first"),
        (Phase.GREETED, Verb.RCPT, 503, "5.5.1", "section 4.1.4: a hello comes first"),
        (Phase.GREETED, Verb.DATA, 503, "5.5.1", "section 4.1.4: a hello comes first"),
        (Phase.GREETED, Verb.STARTTLS, 503, "5.5.1", "RFC 3207 section 4: EHLO comes first"),
        (Phase.READY, Verb.RCPT, 503, "5.5.1", "no MAIL"),
        (Phase.READY, Verb.DATA, 503, "5.5.1", "no MAIL"),
        (Phase.READY, Verb.STARTTLS, 503, "5.5.1", "an extension needs an EHLO, and this is a HELO"),
        (Phase.MAIL, Verb.MAIL, 503, "5.5.1", "section 4.1.4: transactions do not nest"),
        (Phase.MAIL, Verb.DATA, 554, "5.5.1", "section 4.1.1.4: no accepted recipient"),
        (Phase.MAIL, Verb.STARTTLS, 503, "5.5.1", "not inside a transaction"),
        (Phase.RCPT, Verb.MAIL, 503, "5.5.1", "section 4.1.4: transactions do not nest"),
        (Phase.RCPT, Verb.STARTTLS, 503, "5.5.1", "not inside a transaction"),
        (Phase.BODY, Verb.NOOP, 503, "5.5.1", "a body has no commands in it"),
        (Phase.TLS, Verb.NOOP, 503, "5.5.1", "a handshake has no commands in it"),
        (Phase.CLOSING, Verb.NOOP, 503, "5.5.1", "the last reply was said"),
        (Phase.CLOSED, Verb.QUIT, 503, "5.5.1", "it is over"),
    ],
)
def test_what_comes_out_of_sequence_is_refused(phase: Phase, verb: Verb, code: int, enhanced: str, reason: str) -> None:
    refusal = Session(phase).check(verb)
    assert refusal is not None, reason
    assert (refusal.code, str(refusal.enhanced)) == (code, enhanced), reason


@pytest.mark.parametrize(
    ("session", "refusal", "reason"),
    [
        (Session(Phase.READY, esmtp=True, offers_tls=True), None, "all three facts hold"),
        (Session(Phase.READY, secure=True, esmtp=True, offers_tls=True), 503, "RFC 3207 section 4.2: not twice"),
        (Session(Phase.READY, esmtp=True), 502, "not offered"),
        (Session(Phase.READY, offers_tls=True), 503, "HELO has no extensions"),
    ],
)
def test_starttls_needs_three_facts(session: Session, refusal: int | None, reason: str) -> None:
    found = session.check(Verb.STARTTLS)
    assert (None if found is None else found.code) == refusal, reason


def test_refusals_have_more_to_say_only_where_the_table_refuses() -> None:
    for phase, verb in REFUSALS:
        assert verb not in TRANSITIONS[phase]
    assert {HELLO_FIRST, NESTED_MAIL} < set(REFUSALS.values())
    assert OUT_OF_SEQUENCE not in REFUSALS.values()


@pytest.mark.parametrize(
    ("phase", "verb", "outcome", "after", "reason"),
    [
        (Phase.CONNECT, Verb.CONNECT, OK, Phase.GREETED, "220"),
        (Phase.CONNECT, Verb.CONNECT, FAIL, Phase.REFUSED, "554"),
        (Phase.CONNECT, Verb.TLS, OK, Phase.CONNECT, "implicit TLS comes before the greeting"),
        (Phase.CONNECT, Verb.TLS, FAIL, Phase.CLOSING, "and without it there is none"),
        (Phase.GREETED, Verb.EHLO, FAIL, Phase.GREETED, "a refused hello changes nothing"),
        (Phase.READY, Verb.MAIL, FAIL, Phase.READY, "a refused MAIL opens nothing"),
        (Phase.READY, Verb.EHLO, OK, Phase.READY, "a second hello"),
        (Phase.MAIL, Verb.RCPT, FAIL, Phase.MAIL, "no recipient yet"),
        (Phase.RCPT, Verb.RCPT, FAIL, Phase.RCPT, "a refused recipient leaves the others"),
        (Phase.RCPT, Verb.RCPT, OK, Phase.RCPT, "one more"),
        (Phase.RCPT, Verb.EHLO, OK, Phase.READY, "a hello opens the session anew"),
        (Phase.RCPT, Verb.RSET, OK, Phase.READY, "section 4.1.1.5"),
        (Phase.RCPT, Verb.DATA, FAIL, Phase.RCPT, "a refused DATA leaves the transaction"),
        (Phase.RCPT, Verb.DATA, MORE, Phase.BODY, "354"),
        (Phase.BODY, Verb.END, OK, Phase.READY, "taken"),
        (Phase.BODY, Verb.END, FAIL, Phase.READY, "refused, and the transaction is gone all the same"),
        (Phase.READY, Verb.STARTTLS, FAIL, Phase.READY, "454 changes nothing"),
        (Phase.READY, Verb.RCPT, OK, Phase.READY, "what the table does not name changes nothing"),
        (Phase.TLS, Verb.TLS, OK, Phase.GREETED, "RFC 3207 section 4.2"),
        (Phase.READY, Verb.QUIT, OK, Phase.CLOSING, "221"),
        (Phase.BODY, Verb.END, CLOSE, Phase.CLOSING, "421 closes from anywhere"),
    ],
)
def test_where_a_reply_leads(phase: Phase, verb: Verb, outcome: Outcome, after: Phase, reason: str) -> None:
    session = Session(phase)
    session.advance(verb, outcome)
    assert session.phase is after, reason


def test_after_a_handshake_nothing_learnt_in_clear_is_left() -> None:
    session = Session(Phase.TLS, esmtp=True, offers_tls=True)
    session.advance(Verb.TLS, OK)
    assert session.key == (Phase.GREETED, True, False, False)


def test_a_failed_handshake_makes_nothing_secure() -> None:
    session = Session(Phase.TLS, esmtp=True, offers_tls=True)
    session.advance(Verb.TLS, FAIL)
    assert session.key == (Phase.CLOSING, False, True, True)


@pytest.mark.parametrize(("verb", "esmtp"), [(Verb.EHLO, True), (Verb.HELO, False)])
def test_the_last_hello_says_whether_it_is_esmtp(verb: Verb, esmtp: bool) -> None:
    session = Session(Phase.READY, esmtp=not esmtp)
    session.advance(verb, FAIL)
    assert session.esmtp is not esmtp, "a refused one does not count"
    session.advance(verb, OK)
    assert session.esmtp is esmtp


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        (200, OK, "the first digit decides"),
        (250, OK, "section 4.2.1"),
        (299, OK, "a code that nobody knows"),
        (334, MORE, "section 4.2.1"),
        (354, MORE, "section 4.2.1"),
        (421, CLOSE, "section 3.8"),
        (450, FAIL, "section 4.2.1"),
        (499, FAIL, "a code that nobody knows"),
        (521, CLOSE, "RFC 7504"),
        (550, FAIL, "section 4.2.1"),
        (599, FAIL, "a code that nobody knows"),
    ],
)
def test_the_first_digit_decides(code: int, outcome: Outcome, reason: str) -> None:
    assert Outcome.of(code) is outcome, reason


def test_only_two_codes_close() -> None:
    assert [code for code in range(200, 600) if Outcome.of(code) is CLOSE] == sorted(CLOSING_CODES) == [421, 521]


@pytest.mark.parametrize("phase", Phase)
def test_a_transaction_is_open_from_mail_to_the_final_dot(phase: Phase) -> None:
    assert Session(phase).has_transaction is (phase in TRANSACTION_PHASES)


def test_a_copy_goes_its_own_way() -> None:
    session = Session(Phase.READY, secure=True, esmtp=True, offers_tls=True)
    copy = session.copy()
    assert copy.key == session.key
    copy.advance(Verb.MAIL, OK)
    assert session.phase is Phase.READY


def test_every_verb_with_a_row_is_somewhere_in_the_table() -> None:
    named = {verb for row in TRANSITIONS.values() for verb in row}
    assert set(COMMANDS) <= named


def test_refusals_are_permanent() -> None:
    replies: list[Reply] = [*REFUSALS.values(), OUT_OF_SEQUENCE, *(g.refusal for row in GUARDS.values() for g in row)]
    assert {reply.code // 100 for reply in replies} == {5}
