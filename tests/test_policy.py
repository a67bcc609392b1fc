"""Deviations and policies: each has a row, and each treatment does what it says."""

from __future__ import annotations

import re

import pytest

from smtpstate._errors import Fault, GrammarError
from smtpstate._policy import ALL_FLAGGED, FAULTS, REPLY_FAULTS, SENDABLE, Notes
from smtpstate.policy import MX, STRICT, Deviation, Policy, Treatment
from tests.deviations import DEVIANTS, Deviant
from tests.reply_deviations import OFFER_DEVIANTS, REPLY_DEVIANTS, OfferDeviant, ReplyDeviant

ROWS: tuple[Deviant | ReplyDeviant | OfferDeviant, ...] = (*DEVIANTS, *REPLY_DEVIANTS, *OFFER_DEVIANTS)
EACH = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{type(row).__name__}-{row.deviation.name}")


def test_every_deviation_has_a_row_and_a_section() -> None:
    assert list(dict.fromkeys(row.deviation for row in ROWS)) == list(Deviation)
    assert all(re.match(r"RFC \d+ (section|appendix) [\dA-F.]+, ", deviation.value) for deviation in Deviation)


def test_every_deviation_of_a_command_and_of_a_reply_has_a_fault() -> None:
    assert set(FAULTS) == {row.deviation for row in DEVIANTS}
    assert set(REPLY_FAULTS) == {row.deviation for row in REPLY_DEVIANTS}


@EACH
def test_what_the_profiles_do(row: Deviant | ReplyDeviant | OfferDeviant) -> None:
    assert (MX.treatment(row.deviation), STRICT.treatment(row.deviation)) == (row.mx, row.strict)


def test_strict_takes_nothing_without_a_word_and_only_what_the_rfc_has_receivers_take() -> None:
    assert {d for d in Deviation if STRICT.treatment(d) is Treatment.ACCEPT} == set()
    assert STRICT.flags == {
        Deviation.TRAILING_SPACE,
        Deviation.SOURCE_ROUTE,
        Deviation.BARE_CODE,
        Deviation.REPLY_CODE,
    }


def test_mx_rejects_only_what_is_ambiguous() -> None:
    assert {d for d in Deviation if MX.treatment(d) is Treatment.REJECT} == {Deviation.NO_BRACKETS}


def test_a_policy_that_says_nothing_rejects() -> None:
    assert {Policy().treatment(deviation) for deviation in Deviation} == {Treatment.REJECT}


def test_what_is_in_both_sets_is_flagged() -> None:
    both = frozenset({Deviation.BARE_LF})
    assert Policy(both, both).treatment(Deviation.BARE_LF) is Treatment.FLAG


@pytest.mark.parametrize("treatment", Treatment)
@pytest.mark.parametrize("base", [MX, STRICT, ALL_FLAGGED, SENDABLE, Policy()])
def test_but_changes_what_it_names_and_nothing_else(base: Policy, treatment: Treatment) -> None:
    named = {Deviation.NO_BRACKETS, Deviation.TRAILING_SPACE, Deviation.SOURCE_ROUTE}
    changed = base.but(treatment, *named)
    for deviation in Deviation:
        expected = treatment if deviation in named else base.treatment(deviation)
        assert changed.treatment(deviation) is expected
    assert base.but(treatment) == base


def test_policies_compare_and_hash() -> None:
    assert MX.but(Treatment.REJECT, Deviation.NO_BRACKETS) == MX
    assert len({MX, STRICT, MX.but(Treatment.FLAG, Deviation.BARE_LF)}) == 2


def test_notes_keep_what_is_flagged() -> None:
    notes = Notes(MX)
    notes.add(Deviation.TRAILING_SPACE)
    assert notes.flagged == frozenset()
    notes.add(Deviation.BARE_LF)
    notes.add(Deviation.SOURCE_ROUTE)
    notes.add(Deviation.BARE_LF)
    assert notes.flagged == {Deviation.BARE_LF, Deviation.SOURCE_ROUTE}
    assert notes.rejected is None


def test_notes_raise_for_what_is_rejected() -> None:
    notes = Notes(MX)
    with pytest.raises(GrammarError, match="without angle brackets") as caught:
        notes.add(Deviation.NO_BRACKETS)
    assert caught.value.fault is Fault.ARGUMENT
    assert notes.rejected is Deviation.NO_BRACKETS
    assert notes.flagged == frozenset()


def test_notes_flag_everything_unless_told_otherwise() -> None:
    notes = Notes()
    for deviation in Deviation:
        notes.add(deviation)
    assert notes.flagged == set(Deviation)


@pytest.mark.parametrize(
    ("faults", "fault"), [(FAULTS, Fault.ARGUMENT), (REPLY_FAULTS, Fault.REPLY_SYNTAX)], ids=["command", "reply"]
)
def test_a_bare_lf_is_another_fault_in_a_reply(faults: dict[Deviation, Fault], fault: Fault) -> None:
    with pytest.raises(GrammarError) as caught:
        Notes(STRICT, faults).add(Deviation.BARE_LF)
    assert caught.value.fault is fault
