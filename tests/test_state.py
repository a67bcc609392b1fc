"""The table, the guards and the Session, alone."""

from __future__ import annotations

from collections import Counter, deque
from itertools import product
from random import Random
from typing import TYPE_CHECKING

import pytest

from smtpstate._commands import Verb
from smtpstate._state import (
    CLOSING_CODES,
    GUARDS,
    HELLO_FIRST,
    HELLOS,
    NESTED_MAIL,
    OUT_OF_SEQUENCE,
    REFUSALS,
    TRANSACTION_PHASES,
    TRANSITIONS,
    Outcome,
    Phase,
    Session,
)
from smtpstate._syntax import COMMANDS
from smtpstate._verbs import OwnVerb
from tests.helpers import session_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smtpstate._replies import Reply

Key = tuple[Phase, tuple[bool, ...], frozenset[OwnVerb]]
OK, MORE, FAIL, CLOSE = Outcome.OK, Outcome.MORE, Outcome.FAIL, Outcome.CLOSE


ANNOUNCED = ("tls", "auth", "chunking", "xclient", "xforward")
ETRN = OwnVerb("ETRN")
OWN = frozenset({ETRN})
NO_VERB = frozenset[OwnVerb]()


def steps(session: Session) -> Iterator[Session]:
    """Every session that is one legal step away."""
    for verb in Verb:
        if session.check(verb, ETRN.name) is not None:
            continue
        for outcome in Outcome:
            after = session.copy()
            after.advance(verb, outcome)
            yield after
            if verb in HELLOS and verb is not Verb.HELO and outcome is OK:
                # What is announced is what one side says and the other hears; all of it is possible.
                for facts, own in product(product((False, True), repeat=5), (NO_VERB, OWN)):
                    offered = after.copy()
                    offered.announce(**dict(zip(ANNOUNCED, facts, strict=True)), own=own)
                    yield offered
            elif verb is Verb.CONNECT and outcome is OK:
                offered = after.copy()
                offered.announce(xclient=True)  # whoever is trusted need not say a hello first
                yield offered
            elif verb is Verb.XCLIENT and outcome is OK:
                known = after.copy()
                known.authenticated = True  # it had a LOGIN
                yield known
            elif verb is Verb.MAIL and outcome is OK and session.offers_chunking:
                binary = session.copy()  # RFC 3030 section 3: BINARYMIME needs CHUNKING
                binary.advance(verb, outcome, binary=True)
                yield binary
    after = session.copy()
    after.close()
    yield after


def explore(start: Session) -> dict[Key, Session]:
    """All that can be reached, breadth first."""
    found: dict[Key, Session] = {}
    waiting = deque([start])
    while waiting:
        session = waiting.popleft()
        if session.key not in found:
            found[session.key] = session
            waiting.extend(steps(session))
    return found


KINDS_BY_NAME = ("lmtp", "tls", "auth")
KINDS = list(product((False, True), repeat=3))
REACHED = {(lmtp, tls, auth): explore(Session(lmtp=lmtp, needs_tls=tls, needs_auth=auth)) for lmtp, tls, auth in KINDS}
REACHABLE = {key: session for found in REACHED.values() for key, session in found.items()}


def test_the_table_has_a_row_for_each_phase() -> None:
    assert list(TRANSITIONS) == list(Phase)


@pytest.mark.parametrize(("lmtp", "tls", "auth"), KINDS)
def test_every_phase_is_reachable(lmtp: bool, tls: bool, auth: bool) -> None:
    assert {session.phase for session in REACHED[lmtp, tls, auth].values()} == set(Phase)


@pytest.mark.parametrize(("lmtp", "tls", "auth"), KINDS)
def test_the_number_of_sessions_is_known(lmtp: bool, tls: bool, auth: bool) -> None:
    """A change of the table shows here, on purpose."""
    found = Counter(session.phase for session in REACHED[lmtp, tls, auth].values())
    hellos = 2**6 + (not lmtp)  # what EHLO or LHLO announces; HELO, which LMTP lacks, announces nothing
    known = 2 * 2  # secure or not, authenticated or not: by AUTH where TLS allows, by the LOGIN of an XCLIENT anywhere
    allowed = (2 - tls) * (2 - auth)  # those of them that may send mail
    assert found == {
        **dict.fromkeys((Phase.CONNECT, Phase.REFUSED), known),  # nothing else yet
        Phase.GREETED: known * 2,  # and XCLIENT is offered or not
        Phase.READY: known * hellos,
        Phase.AUTH: (2 - tls) * 2**5,  # AUTH is offered and was not used; the other offers are free
        Phase.TLS: 2 * 2**5,  # STARTTLS is offered and was not used; the others are free, and so is who it is
        **dict.fromkeys((Phase.MAIL, Phase.RCPT), allowed * (hellos + 2**5)),  # binary where CHUNKING is offered
        Phase.BODY: allowed * hellos,  # never binary
        **dict.fromkeys((Phase.CHUNK, Phase.CHUNKED), allowed * 2**5 * 2),  # CHUNKING is offered; binary or not
        Phase.DEAD: allowed * 2**5,  # CHUNKING is offered; what was binary is gone
        # As READY; and a session without a hello may have been offered XCLIENT, or be LMTP's, which has no HELO.
        **dict.fromkeys((Phase.CLOSING, Phase.CLOSED), known * (hellos + 1 + lmtp)),
    }


@pytest.mark.parametrize(("lmtp", "tls", "auth"), KINDS)
def test_random_walks_stay_among_the_known_sessions_and_keep_what_was_promised(
    lmtp: bool, tls: bool, auth: bool
) -> None:
    """1200 walks of 30 steps. What has to hold is said again here, without the table."""
    random = Random(f"{lmtp} {tls} {auth}")
    known = REACHED[lmtp, tls, auth].keys()
    met: set[Key] = set()
    for _ in range(1200):
        session = Session(lmtp=lmtp, needs_tls=tls, needs_auth=auth)
        mail = False
        for _ in range(30):
            before = session.key
            in_order = [verb for verb in Verb if session.check(verb, ETRN.name) is None]
            assert session.key == before, "asking changes nothing"
            if not in_order:
                break
            row = TRANSITIONS[session.phase]
            onward = [verb for verb in in_order if any(session.phase < to < Phase.CLOSING for to in row[verb].values())]
            verb = random.choice(random.choice((in_order, onward or in_order)))
            named = random.choice((*row[verb], OK))
            outcome = random.choices((named, OK, MORE, FAIL, CLOSE), (60, 15, 15, 9, 1))[0]
            was_secure, was_authenticated = session.secure, session.authenticated
            session.advance(verb, outcome, binary=session.offers_chunking and random.random() < 0.5)
            if verb in HELLOS and outcome is OK:
                assert not any(getattr(session, f"offers_{name}") for name in (*ANNOUNCED, "own"))
                if session.esmtp:
                    own = OWN if random.random() < 0.7 else NO_VERB
                    session.announce(**{name: random.random() < 0.7 for name in ANNOUNCED}, own=own)
            assert not session.binary or session.has_transaction
            met.add(session.key)
            assert session.key in known
            assert session.secure is (was_secure or (verb is Verb.TLS and outcome is OK))
            assert session.authenticated <= (
                was_authenticated or (verb in (Verb.AUTH, Verb.RESPONSE) and outcome is OK)
            )
            mail = session.has_transaction and (mail or (verb is Verb.MAIL and outcome is OK))
            assert mail is session.has_transaction, "only a MAIL that was answered 2yz opens one"
            assert not mail or ((session.secure or not tls) and (session.authenticated or not auth))
            assert not (verb is Verb.TLS and outcome is OK and session.esmtp), "RFC 3207 section 4.2"
            if outcome is CLOSE:
                assert session.phase is Phase.CLOSING
                break
    assert {phase for phase, *_ in met} >= set(Phase) - {Phase.CLOSED}
    assert len(met) > len(known) / 4


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
    for guards in GUARDS.values():
        facts = [guard.fact for guard in guards]
        assert all(facts)
        assert len(set(facts)) == len(facts)


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
        (Phase.GREETED, Verb.AUTH, 503, "5.5.1", "RFC 4954 section 4: EHLO comes first"),
        (Phase.GREETED, Verb.BDAT, 503, "5.5.1", "no MAIL"),
        (Phase.READY, Verb.BDAT, 503, "5.5.1", "no MAIL"),
        (Phase.MAIL, Verb.AUTH, 503, "5.5.1", "RFC 4954 section 4: not inside a transaction"),
        (Phase.RCPT, Verb.AUTH, 503, "5.5.1", "RFC 4954 section 4: not inside a transaction"),
        (Phase.AUTH, Verb.NOOP, 503, "5.5.1", "an exchange has no commands in it"),
        (Phase.CHUNK, Verb.NOOP, 503, "5.5.1", "nor has a chunk"),
        (Phase.CHUNKED, Verb.MAIL, 503, "5.5.1", "RFC 3030 section 2: only BDAT goes on"),
        (Phase.CHUNKED, Verb.RCPT, 503, "5.5.1", "RFC 3030 section 2: only BDAT goes on"),
        (Phase.CHUNKED, Verb.DATA, 503, "5.5.1", "RFC 3030 section 2: not both in one transaction"),
        (Phase.DEAD, Verb.BDAT, 503, "5.5.1", "RFC 3030 section 2: RSET comes first"),
        (Phase.DEAD, Verb.MAIL, 503, "5.5.1", "RFC 3030 section 2: RSET comes first"),
        (Phase.DEAD, Verb.DATA, 503, "5.5.1", "RFC 3030 section 2: RSET comes first"),
        (Phase.GREETED, Verb.XFORWARD, 503, "5.5.1", "a hello comes first, and says whether it is offered"),
        (Phase.MAIL, Verb.XCLIENT, 503, "5.5.1", "XCLIENT_README: not inside a transaction"),
        (Phase.RCPT, Verb.XCLIENT, 503, "5.5.1", "XCLIENT_README: not inside a transaction"),
        (Phase.CHUNKED, Verb.XCLIENT, 503, "5.5.1", "XCLIENT_README: not inside a transaction"),
        (Phase.DEAD, Verb.XCLIENT, 503, "5.5.1", "RFC 3030 section 2: RSET comes first"),
        (Phase.MAIL, Verb.XFORWARD, 503, "5.5.1", "XFORWARD_README: not inside a transaction"),
        (Phase.REFUSED, Verb.XCLIENT, 503, "5.5.1", "section 3.1: after 554 only QUIT"),
        (Phase.GREETED, Verb.OWN, 503, "5.5.1", "a hello comes first, and says whether it is offered"),
        (Phase.CHUNKED, Verb.OWN, 503, "5.5.1", "RFC 3030 section 2: only BDAT goes on"),
        (Phase.DEAD, Verb.OWN, 503, "5.5.1", "RFC 3030 section 2: RSET comes first"),
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


OFFERED = ("esmtp", "offers_tls", "offers_auth", "offers_chunking", "offers_xclient", "offers_xforward")


@pytest.mark.parametrize(
    ("session", "verb", "refusal", "reason"),
    [
        (session_at(Phase.READY, *OFFERED), Verb.STARTTLS, None, "all three facts hold"),
        (session_at(Phase.READY, *OFFERED, "secure"), Verb.STARTTLS, 503, "RFC 3207 section 4.2: not twice"),
        (session_at(Phase.READY, "esmtp"), Verb.STARTTLS, 502, "not offered"),
        (session_at(Phase.READY, "offers_tls"), Verb.STARTTLS, 503, "HELO has no extensions"),
        (session_at(Phase.READY, *OFFERED), Verb.AUTH, None, "offered, and not used"),
        (session_at(Phase.READY, *OFFERED, "authenticated"), Verb.AUTH, 503, "RFC 4954 section 4: once"),
        (session_at(Phase.READY, "esmtp"), Verb.AUTH, 502, "not offered"),
        (session_at(Phase.READY, "offers_auth"), Verb.AUTH, 503, "HELO has no extensions"),
        (session_at(Phase.READY, *OFFERED, tls=True), Verb.AUTH, 530, "RFC 3207 section 4: TLS first"),
        (session_at(Phase.READY, *OFFERED, "secure", tls=True), Verb.AUTH, None, "which it is"),
        (session_at(Phase.READY, tls=True), Verb.MAIL, 530, "RFC 3207 section 4"),
        (session_at(Phase.READY, tls=True), Verb.VRFY, 530, "RFC 3207 section 4"),
        (session_at(Phase.READY, tls=True), Verb.EXPN, 530, "RFC 3207 section 4"),
        (session_at(Phase.READY, tls=True), Verb.NOOP, None, "RFC 3207 section 4 exempts it"),
        (session_at(Phase.READY, *OFFERED, tls=True), Verb.STARTTLS, None, "RFC 3207 section 4 exempts it"),
        (session_at(Phase.READY, tls=True), Verb.QUIT, None, "RFC 3207 section 4 exempts it"),
        (session_at(Phase.READY, "secure", tls=True), Verb.MAIL, None, "TLS is active"),
        (session_at(Phase.READY, auth=True), Verb.MAIL, 530, "RFC 4954 section 6"),
        (session_at(Phase.READY, auth=True), Verb.VRFY, 530, "RFC 4954 section 6"),
        (session_at(Phase.READY, auth=True), Verb.EXPN, 530, "RFC 4954 section 6"),
        (session_at(Phase.READY, auth=True), Verb.RSET, None, "RFC 4954 section 6 exempts it"),
        (session_at(Phase.READY, "authenticated", auth=True), Verb.MAIL, None, "known"),
        (session_at(Phase.READY, "secure", tls=True, auth=True), Verb.MAIL, 530, "TLS alone is not enough"),
        (session_at(Phase.READY, "secure", "authenticated", tls=True, auth=True), Verb.MAIL, None, "both"),
        (session_at(Phase.READY), Verb.LHLO, 500, "RFC 2033 section 4.1: only in LMTP"),
        (session_at(Phase.READY), Verb.EHLO, None, "SMTP"),
        (session_at(Phase.GREETED, lmtp=True), Verb.LHLO, None, "LMTP"),
        (session_at(Phase.GREETED, lmtp=True), Verb.EHLO, 500, "RFC 2033 section 4.1: not in LMTP"),
        (session_at(Phase.GREETED, lmtp=True), Verb.HELO, 500, "RFC 2033 section 4.1: not in LMTP"),
        (session_at(Phase.MAIL, lmtp=True), Verb.DATA, 503, "RFC 2033 section 4.2: no accepted recipient"),
        (session_at(Phase.MAIL), Verb.DATA, 554, "RFC 5321 section 4.1.1.4: no accepted recipient"),
        (session_at(Phase.RCPT, lmtp=True), Verb.DATA, None, "there is one"),
        (session_at(Phase.MAIL, *OFFERED, lmtp=True), Verb.BDAT, 503, "RFC 2033 section 4.2"),
        (session_at(Phase.MAIL, *OFFERED), Verb.BDAT, 554, "no accepted recipient"),
        (session_at(Phase.RCPT, *OFFERED), Verb.BDAT, None, "offered, and a recipient"),
        (session_at(Phase.CHUNKED, *OFFERED), Verb.BDAT, None, "the next one"),
        (session_at(Phase.RCPT, "esmtp"), Verb.BDAT, 502, "CHUNKING is not offered"),
        (session_at(Phase.GREETED), Verb.XCLIENT, 502, "offered to nobody who is not trusted"),
        (session_at(Phase.READY, "esmtp"), Verb.XCLIENT, 502, "offered to nobody who is not trusted"),
        (session_at(Phase.READY, "esmtp", "offers_xforward"), Verb.XCLIENT, 502, "one does not come with the other"),
        (session_at(Phase.READY, "esmtp", "offers_xclient"), Verb.XFORWARD, 502, "one does not come with the other"),
        (session_at(Phase.GREETED, "offers_xclient", tls=True, auth=True), Verb.XCLIENT, None, "who comes before TLS"),
        (session_at(Phase.READY, *OFFERED, tls=True, auth=True), Verb.XFORWARD, None, "it is for the log"),
        (session_at(Phase.RCPT, *OFFERED, "binary"), Verb.DATA, 503, "RFC 3030 section 3: BINARYMIME goes with BDAT"),
        (session_at(Phase.MAIL, *OFFERED, "binary"), Verb.DATA, 503, "RFC 3030 section 3: recipient or not"),
        (session_at(Phase.RCPT, *OFFERED, "binary"), Verb.BDAT, None, "which it does"),
    ],
)
def test_what_a_verb_needs_beside_its_phase(session: Session, verb: Verb, refusal: int | None, reason: str) -> None:
    found = session.check(verb)
    assert (None if found is None else found.code) == refusal, reason


FACTS = ("esmtp", "secure", "authenticated")


@pytest.mark.parametrize(
    ("session", "own", "refusal", "reason"),
    [
        (session_at(Phase.READY, "esmtp"), ETRN, None, "offered, and nothing is needed"),
        (session_at(Phase.READY), ETRN, 503, "HELO has no extensions"),
        (session_at(Phase.READY, "esmtp", tls=True), ETRN, 530, "RFC 3207 section 4, whatever it needs itself"),
        (session_at(Phase.READY, "esmtp", auth=True), ETRN, 530, "RFC 4954 section 6, whatever it needs itself"),
        (session_at(Phase.MAIL, "esmtp"), ETRN, 503, "RFC 1985: not inside a transaction"),
        (session_at(Phase.RCPT, "esmtp"), ETRN, 503, "recipient or not"),
        (session_at(Phase.MAIL, "esmtp"), OwnVerb("ETRN", in_transaction=True), None, "unless it says so"),
        (session_at(Phase.RCPT, "esmtp"), OwnVerb("ETRN", in_transaction=True), None, "unless it says so"),
        (session_at(Phase.READY, "esmtp"), OwnVerb("ETRN", in_transaction=True), None, "and outside as well"),
        (session_at(Phase.READY, "esmtp"), OwnVerb("ETRN", needs_tls=True), 530, "not secure"),
        (session_at(Phase.READY, "esmtp", "secure"), OwnVerb("ETRN", needs_tls=True), None, "secure"),
        (session_at(Phase.READY, "esmtp", "secure"), OwnVerb("ETRN", needs_auth=True), 530, "nobody is known"),
        (session_at(Phase.READY, "esmtp", "authenticated"), OwnVerb("ETRN", needs_auth=True), None, "somebody is"),
        (session_at(Phase.MAIL, *FACTS), OwnVerb("ETRN", needs_tls=True, needs_auth=True), 503, "in a transaction"),
        (session_at(Phase.READY, "esmtp"), OwnVerb("ATRN"), 502, "another one is offered"),
    ],
)
def test_where_a_verb_of_ones_own_may_come(session: Session, own: OwnVerb, refusal: int | None, reason: str) -> None:
    assert session.check(Verb.OWN, "ETRN") is not None, "not offered"
    session.announce(own=frozenset({own, OwnVerb("OTHER", needs_tls=True)}))
    found = session.copy().check(Verb.OWN, "ETRN")
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
        (Phase.GREETED, Verb.XCLIENT, OK, Phase.CONNECT, "somebody else is greeted"),
        (Phase.READY, Verb.XCLIENT, OK, Phase.CONNECT, "somebody else is greeted"),
        (Phase.READY, Verb.XCLIENT, FAIL, Phase.READY, "501 changes nothing"),
        (Phase.READY, Verb.XFORWARD, OK, Phase.READY, "which leads nowhere"),
        (Phase.READY, Verb.OWN, OK, Phase.READY, "what it does is its own"),
        (Phase.RCPT, Verb.OWN, OK, Phase.RCPT, "what it does is its own"),
        (Phase.READY, Verb.AUTH, MORE, Phase.AUTH, "334"),
        (Phase.READY, Verb.AUTH, OK, Phase.READY, "235 at once"),
        (Phase.READY, Verb.AUTH, FAIL, Phase.READY, "535 at once"),
        (Phase.AUTH, Verb.RESPONSE, MORE, Phase.AUTH, "one more challenge"),
        (Phase.AUTH, Verb.RESPONSE, OK, Phase.READY, "235"),
        (Phase.AUTH, Verb.RESPONSE, FAIL, Phase.READY, "535, 501"),
        (Phase.RCPT, Verb.BDAT, MORE, Phase.CHUNK, "its octets come"),
        (Phase.MAIL, Verb.BDAT, FAIL, Phase.DEAD, "refused"),
        (Phase.CHUNK, Verb.CHUNK, OK, Phase.CHUNKED, "250, and not the last"),
        (Phase.CHUNK, Verb.CHUNK, FAIL, Phase.DEAD, "refused at its end"),
        (Phase.CHUNK, Verb.END, OK, Phase.READY, "the last, taken"),
        (Phase.CHUNK, Verb.END, FAIL, Phase.READY, "the last, refused"),
        (Phase.CHUNKED, Verb.BDAT, MORE, Phase.CHUNK, "the next chunk"),
        (Phase.CHUNKED, Verb.RSET, OK, Phase.READY, "chunks are dropped"),
        (Phase.CHUNKED, Verb.EHLO, OK, Phase.READY, "chunks are dropped"),
        (Phase.DEAD, Verb.RSET, OK, Phase.READY, "the way out"),
        (Phase.DEAD, Verb.EHLO, OK, Phase.READY, "the way out"),
        (Phase.DEAD, Verb.QUIT, OK, Phase.CLOSING, "the way out"),
        (Phase.DEAD, Verb.NOOP, OK, Phase.DEAD, "which leads nowhere"),
        (Phase.READY, Verb.QUIT, OK, Phase.CLOSING, "221"),
        (Phase.BODY, Verb.END, CLOSE, Phase.CLOSING, "421 closes from anywhere"),
    ],
)
def test_where_a_reply_leads(phase: Phase, verb: Verb, outcome: Outcome, after: Phase, reason: str) -> None:
    session = Session(phase)
    session.advance(verb, outcome)
    assert session.phase is after, reason


def test_after_a_handshake_nothing_learnt_in_clear_is_left() -> None:
    session = session_at(Phase.TLS, *OFFERED, "authenticated", auth=True)
    session.advance(Verb.TLS, OK)
    assert session.key == session_at(Phase.GREETED, "secure", auth=True).key


def test_after_xclient_nothing_but_tls_is_left() -> None:
    session = session_at(Phase.READY, *OFFERED, "secure", "authenticated", auth=True)
    session.advance(Verb.XCLIENT, FAIL)
    assert session.authenticated, "a refused one changes nothing"
    session.advance(Verb.XCLIENT, OK)
    assert session.key == session_at(Phase.CONNECT, "secure", auth=True).key


def test_a_failed_handshake_makes_nothing_secure() -> None:
    session = session_at(Phase.TLS, *OFFERED)
    session.advance(Verb.TLS, FAIL)
    assert session.key == session_at(Phase.CLOSING, *OFFERED).key


@pytest.mark.parametrize(("verb", "esmtp"), [(Verb.EHLO, True), (Verb.LHLO, True), (Verb.HELO, False)])
def test_the_last_hello_says_whether_it_is_esmtp(verb: Verb, esmtp: bool) -> None:
    session = session_at(Phase.READY, *() if esmtp else ("esmtp",))
    session.advance(verb, FAIL)
    assert session.esmtp is not esmtp, "a refused one does not count"
    session.advance(verb, OK)
    assert session.esmtp is esmtp


def test_a_hello_forgets_what_an_earlier_one_announced_and_nothing_else() -> None:
    session = session_at(Phase.READY, *OFFERED, "secure", "authenticated")
    session.advance(Verb.EHLO, FAIL)
    assert session.offers_tls, "a refused one does not count"
    session.advance(Verb.EHLO, OK)
    assert session.key == session_at(Phase.READY, "esmtp", "secure", "authenticated").key


@pytest.mark.parametrize(("phase", "verb"), [(Phase.READY, Verb.AUTH), (Phase.AUTH, Verb.RESPONSE)])
@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_yes_authenticates(phase: Phase, verb: Verb, outcome: Outcome) -> None:
    session = session_at(phase, *OFFERED)
    session.advance(verb, outcome)
    assert session.authenticated is (outcome is OK)


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


@pytest.mark.parametrize(
    ("steps", "binary", "reason"),
    [
        ([], True, "MAIL said so"),
        ([(Verb.RCPT, OK)], True, "and it stays so for the recipients"),
        ([(Verb.RCPT, OK), (Verb.BDAT, MORE), (Verb.CHUNK, OK)], True, "and for every chunk"),
        ([(Verb.RCPT, FAIL)], True, "whatever becomes of a recipient"),
        ([(Verb.RSET, OK)], False, "RSET ends the transaction"),
        ([(Verb.EHLO, OK)], False, "and so does a hello"),
        ([(Verb.RCPT, OK), (Verb.BDAT, MORE), (Verb.END, OK)], False, "and its end"),
        ([(Verb.RCPT, OK), (Verb.BDAT, MORE), (Verb.END, FAIL)], False, "which may be a refusal"),
        ([(Verb.RCPT, OK), (Verb.BDAT, FAIL)], False, "a refused chunk ends it, too"),
        ([(Verb.RSET, OK), (Verb.MAIL, OK)], False, "the next one says for itself"),
        ([(Verb.NOOP, CLOSE)], False, "421 ends everything"),
    ],
)
def test_a_transaction_is_binary_until_it_is_gone(steps: list[tuple[Verb, Outcome]], binary: bool, reason: str) -> None:
    session = session_at(Phase.READY, *OFFERED)
    session.advance(Verb.MAIL, FAIL, binary=True)
    assert not session.binary, "a refused MAIL opens nothing"
    session.advance(Verb.MAIL, OK, binary=True)
    for verb, outcome in steps:
        session.advance(verb, outcome)
    assert session.binary is binary, reason


def test_what_is_closed_is_not_binary() -> None:
    session = session_at(Phase.RCPT, "binary")
    session.close()
    assert not session.binary


def test_a_copy_goes_its_own_way() -> None:
    session = session_at(Phase.READY, *OFFERED, "secure", lmtp=True, auth=True)
    copy = session.copy()
    assert copy.key == session.key
    copy.advance(Verb.MAIL, OK)
    copy.advance(Verb.LHLO, OK)
    assert session.phase is Phase.READY
    assert session.offers_tls


@pytest.mark.parametrize("fact", ["secure", "authenticated", "binary", *OFFERED, *KINDS_BY_NAME])
def test_every_fact_tells_sessions_apart_and_is_copied(fact: str) -> None:
    session = session_at(Phase.READY, **{fact: True}) if fact in KINDS_BY_NAME else session_at(Phase.READY, fact)
    assert session.key != Session(Phase.READY).key
    assert session.copy().key == session.key


def test_every_verb_with_a_row_is_somewhere_in_the_table() -> None:
    named = {verb for row in TRANSITIONS.values() for verb in row}
    assert set(COMMANDS) <= named


def test_refusals_are_permanent() -> None:
    replies: list[Reply] = [*REFUSALS.values(), OUT_OF_SEQUENCE, *(g.refusal for row in GUARDS.values() for g in row)]
    assert {reply.code // 100 for reply in replies} == {5}
