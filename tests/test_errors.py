"""The exceptions."""

from smtpstate._errors import Fault, GrammarError


def test_a_grammar_error_says_what_is_wrong_and_never_quotes_the_peer():
    assert str(GrammarError(Fault.ADDRESS)) == Fault.ADDRESS.value
    assert str(GrammarError(Fault.ADDRESS, "no domain")) == "no domain"
