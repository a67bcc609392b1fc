"""Parameters of MAIL and RCPT, and xtext."""

import pytest

from smtpstate._errors import Fault, GrammarError
from smtpstate._params import (
    MAIL_PARAMETERS,
    RCPT_PARAMETERS,
    BodyType,
    Parameters,
    check_parameters,
    decode_xtext,
    encode_xtext,
    split_parameters,
)

EVERYTHING = frozenset({"SIZE", "8BITMIME"})


@pytest.mark.parametrize(
    ("text", "parameters", "reason"),
    [
        ("", (), "nothing follows the path"),
        (" ", (), "a trailing SP"),
        ("\t ", (), "trailing white space of both kinds"),
        (" SIZE=1000", (("SIZE", "1000"),), "one"),
        (" SIZE=1000 BODY=8BITMIME", (("SIZE", "1000"), ("BODY", "8BITMIME")), "two, in the order sent"),
        (" size=1 \t", (("SIZE", "1"),), "a keyword in lower case, white space at the end"),
        ("  SIZE=1   BODY=7bit", (("SIZE", "1"), ("BODY", "7bit")), "runs of SP, and a value as it was sent"),
        (" SMTPUTF8", (("SMTPUTF8", None),), "no value"),
        (" AUTH=<>", (("AUTH", "<>"),), "a value with brackets"),
    ],
)
def test_parameters_are_split(text: str, parameters: Parameters, reason: str) -> None:
    assert split_parameters(text) == parameters, reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SIZE=1", "no SP after the path"),
        ("\tSIZE=1", "HT is no separator"),
        (" SIZE=", "an equals sign and no value"),
        (" =1", "no keyword"),
        (" ENVID=a=b", "an equals sign in a value"),
        (" -A", "a keyword that begins with a hyphen"),
        (" A\x00B", "a NUL"),
        (" A=\xe9", "not ASCII"),
        (" A\xa0B", "white space that is not ASCII"),
        (" SIZE=1 SIZE=1", "the same one twice"),
        (" SIZE=1 size=2", "twice, in another case"),
    ],
)
def test_parameters_that_do_not_match_the_grammar_are_refused(text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        split_parameters(text)
    assert caught.value.fault is Fault.PARAMETER_SYNTAX, reason


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ((), "none"),
        ((("SIZE", "0"),), "RFC 1870 section 3: one digit"),
        ((("SIZE", "9" * 20),), "RFC 1870 section 3: twenty digits"),
        ((("BODY", "7BIT"),), "RFC 6152 section 3"),
        ((("BODY", "8bitMime"), ("SIZE", "5")), "values of BODY have no case"),
    ],
)
def test_parameters_of_offered_extensions_pass(parameters: Parameters, reason: str) -> None:
    try:
        check_parameters(parameters, MAIL_PARAMETERS, EVERYTHING)
    except GrammarError as error:
        pytest.fail(f"{reason}: {error}")


@pytest.mark.parametrize(
    ("parameters", "offered", "fault", "reason"),
    [
        ((("NOTIFY", "NEVER"),), EVERYTHING, Fault.PARAMETER_UNKNOWN, "not in the table"),
        ((("SIZE", "1"),), frozenset({"8BITMIME"}), Fault.PARAMETER_UNKNOWN, "in the table, not offered"),
        ((("BODY", "7BIT"),), frozenset({"SIZE"}), Fault.PARAMETER_UNKNOWN, "its extension has another name"),
        ((("SIZE", "x"),), frozenset[str](), Fault.PARAMETER_UNKNOWN, "not offered comes before a bad value"),
        ((("SIZE", None),), EVERYTHING, Fault.PARAMETER_VALUE, "SIZE needs a value"),
        ((("SIZE", "9" * 21),), EVERYTHING, Fault.PARAMETER_VALUE, "twenty-one digits"),
        ((("SIZE", "-1"),), EVERYTHING, Fault.PARAMETER_VALUE, "a sign"),
        ((("SIZE", "٣"),), EVERYTHING, Fault.PARAMETER_VALUE, "a digit that is not ASCII"),
        ((("BODY", None),), EVERYTHING, Fault.PARAMETER_VALUE, "BODY needs a value"),
        ((("BODY", "BINARYMIME"),), EVERYTHING, Fault.PARAMETER_VALUE, "RFC 3030 is another extension"),
    ],
)
def test_other_parameters_are_refused(
    parameters: Parameters, offered: frozenset[str], fault: Fault, reason: str
) -> None:
    with pytest.raises(GrammarError) as caught:
        check_parameters(parameters, MAIL_PARAMETERS, offered)
    assert caught.value.fault is fault, reason


def test_rcpt_has_no_parameters_yet() -> None:
    with pytest.raises(GrammarError) as caught:
        check_parameters((("SIZE", "1"),), RCPT_PARAMETERS, EVERYTHING)
    assert caught.value.fault is Fault.PARAMETER_UNKNOWN


def test_each_row_stands_under_its_keyword_and_its_longest_spelling_fits_its_increment() -> None:
    longest = {"SIZE": " SIZE=" + "9" * 20, "BODY": f" BODY={BodyType.EIGHTBITMIME.value}"}
    for keyword, row in MAIL_PARAMETERS.items():
        assert row.keyword == keyword
        assert len(longest[keyword]) <= row.increment


@pytest.mark.parametrize(
    ("data", "text", "reason"),
    [
        (b"", "", "nothing"),
        (b"user@example.org", "user@example.org", "xchars stay"),
        (b"a+b=c d", "a+2Bb+3Dc+20d", "the two exceptions and a space"),
        (b"!*,<>~", "!*,<>~", "the ends of the xchar ranges"),
        (b"\x00\n\r\x7f\x80\xff", "+00+0A+0D+7F+80+FF", "octets that are not printable"),
    ],
)
def test_xtext_goes_there_and_back(data: bytes, text: str, reason: str) -> None:
    assert encode_xtext(data) == text, reason
    assert decode_xtext(text) == data, reason


def test_every_octet_survives_xtext() -> None:
    data = bytes(range(256))
    assert decode_xtext(encode_xtext(data)) == data


def test_a_hexchar_may_stand_for_an_xchar() -> None:
    assert decode_xtext("+41b") == b"Ab"


@pytest.mark.parametrize("text", ["+", "+4", "+4g", "+2b", "a b", "a=b", "\n", "\xe9"])
def test_text_that_is_not_xtext_is_refused(text: str) -> None:
    with pytest.raises(GrammarError) as caught:
        decode_xtext(text)
    assert caught.value.fault is Fault.PARAMETER_VALUE
