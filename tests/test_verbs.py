"""The verbs themselves."""

from __future__ import annotations

from smtpstate import Verb
from smtpstate._syntax import COMMANDS
from smtpstate._verbs import OwnVerb
from smtpstate._verbs import Verb as VerbAtHome

# What is answered although nobody spells it out.
UNSPELLED = {Verb.CONNECT, Verb.TLS, Verb.END, Verb.RESPONSE, Verb.CHUNK}


def test_each_verb_is_spelled_as_it_is_named_or_not_spelled_at_all() -> None:
    assert set(Verb) - UNSPELLED == set(COMMANDS)
    assert all(verb.name == verb.name.upper() and verb.name.isascii() for verb in Verb)


def test_they_are_numbered_without_a_gap() -> None:
    assert [int(verb) for verb in VerbAtHome] == list(range(len(VerbAtHome)))


def test_a_verb_of_ones_own_needs_nothing_but_a_hello_unless_it_says_so() -> None:
    assert OwnVerb("ETRN") == OwnVerb("ETRN", in_transaction=False, needs_tls=False, needs_auth=False)
    assert len({OwnVerb("ETRN"), OwnVerb("ETRN", needs_tls=True), OwnVerb("ATRN")}) == 3
