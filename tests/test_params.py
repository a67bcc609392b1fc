"""Parameters of MAIL and RCPT, and xtext."""

import pytest

from smtpstate._errors import Fault, GrammarError
from smtpstate._params import (
    MAIL_PARAMETERS,
    RCPT_PARAMETERS,
    Parameter,
    Parameters,
    ParameterTable,
    check_parameters,
    command_line,
    decode_xtext,
    encode_xtext,
    flag,
    increment,
    split_parameters,
    without_expendable,
)

EVERYTHING = frozenset({"SIZE", "8BITMIME"})
BINARY = EVERYTHING | {"BINARYMIME"}
HOLD = {
    "HOLDFOR": {"FUTURERELEASE": Parameter("HOLDFOR", lambda _: True, 18, frozenset({"HOLDUNTIL"}))},
    "HOLDUNTIL": {"FUTURERELEASE": Parameter("HOLDUNTIL", lambda _: True, 34, frozenset({"HOLDFOR"}))},
}


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
    ("text", "parameters", "reason"),
    [
        (" ORCPT=utf-8;é@x", (("ORCPT", "utf-8;é@x"),), "RFC 6531 section 3.3: a value"),
        (" A=\xa0\u3000 B", (("A", "\xa0\u3000"), ("B", None)), "white space that is not ASCII separates nothing"),
        (" SIZE=1\t", (("SIZE", "1"),), "ASCII as ever"),
    ],
)
def test_with_utf8_a_value_need_not_be_ascii(text: str, parameters: Parameters, reason: str) -> None:
    assert split_parameters(text, utf8=True) == parameters, reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" É=1", "a keyword"),
        (" A=\x85", "a C1 control"),
        (" A=\ud800", "a surrogate"),
        (" A=\u2028", "a line separator"),
        (" A=é=", "an equals sign in a value"),
        (" A=é a=ü", "the same one twice"),
        ("\xa0A", "no SP in front"),
    ],
)
def test_with_utf8_the_rest_of_the_grammar_holds(text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        split_parameters(text, utf8=True)
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


@pytest.mark.parametrize(
    ("value", "offered", "reason"),
    [
        ("BINARYMIME", BINARY, "RFC 3030 section 3"),
        ("binarymime", BINARY, "in any case"),
        ("8BITMIME", BINARY, "the other extension's values beside it"),
        ("BINARYMIME", frozenset({"BINARYMIME"}), "alone"),
    ],
)
def test_body_has_the_values_of_both_its_extensions(value: str, offered: frozenset[str], reason: str) -> None:
    try:
        check_parameters((("BODY", value),), MAIL_PARAMETERS, offered)
    except GrammarError as error:
        pytest.fail(f"{reason}: {error}")


@pytest.mark.parametrize(
    ("value", "offered", "fault", "reason"),
    [
        ("8BITMIME", frozenset({"BINARYMIME"}), Fault.PARAMETER_VALUE, "the other extension is not offered"),
        ("BINARYMIME", frozenset({"8BITMIME"}), Fault.PARAMETER_VALUE, "this one is not offered"),
        ("BINARYMIME", frozenset({"SIZE"}), Fault.PARAMETER_UNKNOWN, "neither is offered"),
        ("16BIT", BINARY, Fault.PARAMETER_VALUE, "neither knows it"),
    ],
)
def test_body_has_no_value_of_an_extension_that_is_not_offered(
    value: str, offered: frozenset[str], fault: Fault, reason: str
) -> None:
    with pytest.raises(GrammarError) as caught:
        check_parameters((("BODY", value),), MAIL_PARAMETERS, offered)
    assert caught.value.fault is fault, reason


@pytest.mark.parametrize("parameters", [(("HOLDFOR", "1"),), (("HOLDUNTIL", "x"),)])
def test_one_of_two_that_exclude_each_other_passes(parameters: Parameters) -> None:
    check_parameters(parameters, HOLD, {"FUTURERELEASE"})


@pytest.mark.parametrize("parameters", [(("HOLDFOR", "1"), ("HOLDUNTIL", "x")), (("HOLDUNTIL", "x"), ("HOLDFOR", "1"))])
def test_two_that_exclude_each_other_are_a_syntax_error(parameters: Parameters) -> None:
    with pytest.raises(GrammarError) as caught:
        check_parameters(parameters, HOLD, {"FUTURERELEASE"})
    assert caught.value.fault is Fault.PARAMETER_SYNTAX


@pytest.mark.parametrize(
    ("offered", "octets", "reason"),
    [
        (frozenset[str](), 0, "nothing"),
        (frozenset({"SIZE"}), 26, "RFC 1870 section 3"),
        (EVERYTHING, 40, "both"),
        (BINARY, 42, "BODY comes once, in its longest spelling"),
        (frozenset({"DSN"}), 0, "not in this table"),
    ],
)
def test_a_command_line_grows_by_what_is_offered(offered: frozenset[str], octets: int, reason: str) -> None:
    assert increment(MAIL_PARAMETERS, offered) == octets, reason


@pytest.mark.parametrize(
    ("least", "tables", "octets", "reason"),
    [
        (2048, [MAIL_PARAMETERS, RCPT_PARAMETERS], 2048, "the lesser does not count"),
        (100, [MAIL_PARAMETERS, RCPT_PARAMETERS], 554, "RFC 5321 section 4.5.3.1.4: 512 at least, and the increments"),
        (100, [RCPT_PARAMETERS, HOLD], 512, "what is not offered adds nothing"),
        (100, [RCPT_PARAMETERS], 512, "nothing adds nothing"),
    ],
)
def test_a_command_line_is_never_shorter_than_what_is_offered_needs(
    least: int, tables: list[ParameterTable], octets: int, reason: str
) -> None:
    assert command_line(least, tables, BINARY) == octets, reason


LOSSES: ParameterTable = {
    "MARK": {"MARKS": Parameter("MARK", flag, 5, expendable=lambda value: value is None)},
    "HOLD": {"HOLDS": Parameter("HOLD", lambda value: value in ("0", "1"), 7, expendable=lambda value: value == "0")},
    "SIGN": {"SIGNS": Parameter("SIGN", flag, 5)},
    "BODY": MAIL_PARAMETERS["BODY"],
}


@pytest.mark.parametrize(
    ("parameters", "offered", "kept", "missing", "reason"),
    [
        ((), set[str](), (), None, "nothing"),
        ((("MARK", None),), {"MARKS"}, (("MARK", None),), None, "offered"),
        ((("MARK", None),), set[str](), (), None, "not offered, and no loss"),
        ((("HOLD", "0"),), set[str](), (), None, "the value decides"),
        ((("HOLD", "1"),), set[str](), (), "HOLDS", "the value decides"),
        ((("HOLD", "1"), ("MARK", None), ("SIGN", None)), {"MARKS"}, (("MARK", None),), "HOLDS", "the first counts"),
        ((("SIGN", None),), set[str](), (), "SIGNS", "by default nothing may be lost"),
        ((("BODY", "8BITMIME"),), {"8BITMIME"}, (("BODY", "8BITMIME"),), None, "two define it"),
        ((("BODY", "BINARYMIME"),), {"8BITMIME"}, (), "BINARYMIME", "and one of them this value"),
    ],
)
def test_what_a_server_would_not_understand_is_left_out_or_missing(
    parameters: Parameters, offered: set[str], kept: Parameters, missing: str | None, reason: str
) -> None:
    assert without_expendable(parameters, LOSSES, offered) == (kept, missing), reason


@pytest.mark.parametrize("offered", [set[str](), {"HOLDS"}])
@pytest.mark.parametrize(
    ("parameters", "fault"),
    [((("HOLD", "2"),), Fault.PARAMETER_VALUE), ((("X", None),), Fault.PARAMETER_UNKNOWN)],
)
def test_a_mistake_is_one_whatever_is_offered(parameters: Parameters, fault: Fault, offered: set[str]) -> None:
    with pytest.raises(GrammarError) as caught:
        without_expendable(parameters, LOSSES, offered)
    assert caught.value.fault is fault


def test_a_flag_has_no_value() -> None:
    assert flag(None)
    assert not flag("")
    assert not flag("1")


def test_rcpt_has_no_parameters_of_the_core() -> None:
    with pytest.raises(GrammarError) as caught:
        check_parameters((("SIZE", "1"),), RCPT_PARAMETERS, EVERYTHING)
    assert caught.value.fault is Fault.PARAMETER_UNKNOWN


def test_each_row_stands_under_its_keyword_and_its_longest_spelling_fits_its_increment() -> None:
    longest = {"SIZE": " SIZE=" + "9" * 20, "8BITMIME": " BODY=8BITMIME", "BINARYMIME": " BODY=BINARYMIME"}
    for keyword, rows in MAIL_PARAMETERS.items():
        for extension, row in rows.items():
            assert row.keyword == keyword
            assert len(longest[extension]) <= row.increment
            check_parameters(split_parameters(longest[extension]), MAIL_PARAMETERS, {extension})


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
