"""EHLO keywords, alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate._capabilities import NO_CAPABILITIES, Capabilities
from smtpstate._errors import LocalProtocolError
from smtpstate._policy import ALL_FLAGGED, MX, STRICT, Deviation, Policy, Treatment
from tests.reply_deviations import OFFER_DEVIANTS, OfferDeviant


@pytest.mark.parametrize(
    ("lines", "keywords", "reason"),
    [
        ([], {}, "nothing offered"),
        (["PIPELINING"], {"PIPELINING": ()}, "a keyword alone"),
        (["size 1000"], {"SIZE": ("1000",)}, "keywords in any case"),
        (["AUTH PLAIN login"], {"AUTH": ("PLAIN", "login")}, "parameters as written"),
        (["AUTH=PLAIN LOGIN"], {"AUTH": ("PLAIN", "LOGIN")}, "the old spelling"),
        (["AUTH PLAIN", "AUTH=PLAIN LOGIN"], {"AUTH": ("PLAIN", "LOGIN")}, "both spellings: each parameter once"),
        (["AUTH="], {"AUTH": ()}, "the old spelling of nothing"),
        (["LIMITS RCPTMAX=5 MAILMAX=2"], {"LIMITS": ("RCPTMAX=5", "MAILMAX=2")}, "an equals sign in a parameter"),
        (["SIZE "], {"SIZE": ()}, "a space at the end"),
        (["AUTH  PLAIN   LOGIN "], {"AUTH": ("PLAIN", "LOGIN")}, "too many spaces"),
        (["X-EXPS GSSAPI"], {"X-EXPS": ("GSSAPI",)}, "a private keyword"),
        (["8BITMIME", "PIPELINING"], {"8BITMIME": (), "PIPELINING": ()}, "several, in their order"),
        ([""], {}, "an empty line"),
        ([" SIZE"], {}, "a space first"),
        (["-SIZE"], {}, "a hyphen first"),
        (["X_Y"], {}, "an underscore"),
        (["SIZE\t1000"], {}, "a tab"),
        (["SIZE 10\x0000"], {}, "NUL"),
        (["SIZE 1000\r"], {}, "a CR"),
        (["SIZE 1000\n"], {}, "an LF"),
        (["GREETING caf\xe9"], {}, "not ASCII"),
        (["\u017fIZE 1000"], {}, "a letter that upper() would make an S"),
        (["junk!", "STARTTLS"], {"STARTTLS": ()}, "a line that makes no sense spoils no other"),
    ],
)
def test_lines_to_keywords(lines: list[str], keywords: dict[str, tuple[str, ...]], reason: str) -> None:
    capabilities = Capabilities.parse(lines)
    assert capabilities.keywords == keywords, reason
    assert list(capabilities.keywords) == list(keywords), reason


AGAIN = {Deviation.KEYWORD_AGAIN, Deviation.KEYWORD_EQUALS, Deviation.LOWER_CASE_MECHANISM}
OF_VALUES = (Deviation.SIZE_VALUE, Deviation.LOWER_CASE_MECHANISM)
EACH = pytest.mark.parametrize("row", OFFER_DEVIANTS, ids=lambda row: row.deviation.name)


@EACH
@pytest.mark.parametrize("policy", [MX, STRICT, ALL_FLAGGED, Policy()], ids=["mx", "strict", "flags", "rejects"])
def test_a_policy_says_what_becomes_of_a_line(policy: Policy, row: OfferDeviant) -> None:
    rejected = policy.treatment(row.deviation) is Treatment.REJECT
    capabilities = Capabilities.parse(row.lines, policy)
    assert capabilities.keywords == (row.rejected if rejected else row.taken)
    assert capabilities.deviations == {row.deviation}


@EACH
def test_what_is_accepted_is_not_told(row: OfferDeviant) -> None:
    capabilities = Capabilities.parse(row.lines, STRICT.but(Treatment.ACCEPT, row.deviation))
    assert capabilities.keywords == row.taken
    assert capabilities.deviations == frozenset()


@pytest.mark.parametrize(
    ("lines", "deviations", "reason"),
    [
        (["PIPELINING", "SIZE 1000", "AUTH PLAIN"], set[Deviation](), "all is well"),
        (["pipelining", "Size 1000"], set[Deviation](), "section 4.1.1.1 allows any case"),
        (["SIZE"], set[Deviation](), "no limit said"),
        (["SIZE " + "9" * 21], {Deviation.SIZE_VALUE}, "too many digits"),
        (["SIZE 10 20"], {Deviation.SIZE_VALUE}, "two limits"),
        (["STARTTLS "], {Deviation.KEYWORD_SPACE}, "a space at the end"),
        (["AUTH PLAIN "], {Deviation.KEYWORD_SPACE}, "behind a parameter"),
        (["AUTH="], {Deviation.KEYWORD_EQUALS}, "nothing behind it"),
        (["AUTH= PLAIN"], {Deviation.KEYWORD_EQUALS, Deviation.KEYWORD_SPACE}, "and a space"),
        (["AUTH PLAIN", "auth=plain"], AGAIN, "all at once"),
        (["LIMITS RCPTMAX=5"], set[Deviation](), "an equals sign in a parameter"),
        (["X-Y lower"], set[Deviation](), "only mechanisms are in upper case"),
        ([""], {Deviation.KEYWORD_SYNTAX}, "an empty line"),
    ],
)
def test_how_lines_depart(lines: list[str], deviations: set[Deviation], reason: str) -> None:
    assert Capabilities.parse(lines, ALL_FLAGGED).deviations == deviations, reason


def test_a_line_that_is_ignored_does_not_make_the_next_one_come_again() -> None:
    capabilities = Capabilities.parse(["AUTH=LOGIN", "AUTH PLAIN"], STRICT)
    assert capabilities.keywords == {"AUTH": ("PLAIN",)}
    assert capabilities.deviations == {Deviation.KEYWORD_EQUALS}


def test_deviations_are_no_part_of_the_value() -> None:
    plain, noted = Capabilities({"SIZE": ()}), Capabilities({"SIZE": ()}, deviations=frozenset({Deviation.SIZE_VALUE}))
    assert plain == noted
    assert hash(plain) == hash(noted)
    assert repr(plain) == repr(noted)
    assert plain.deviations == frozenset()


def test_a_keyword_is_found_in_any_case() -> None:
    capabilities = Capabilities({"StartTLS": ()})
    assert "STARTTLS" in capabilities
    assert "starttls" in capabilities
    assert "SIZE" not in capabilities
    assert 8 not in capabilities


@pytest.mark.parametrize(
    ("line", "size", "reason"),
    [
        ("SIZE 1000", 1000, "a limit"),
        ("SIZE=1000", 1000, "the other spelling"),
        ("SIZE " + "9" * 20, 10**20 - 1, "twenty digits"),
        ("SIZE " + "9" * 21, None, "twenty-one"),
        ("SIZE " + "9" * 9000, None, "more than int() would take"),
        ("SIZE", None, "no limit said"),
        ("SIZE 0", None, "no limit"),
        ("SIZE -1", None, "no number"),
        ("SIZE 1k", None, "no number"),
        ("PIPELINING", None, "not offered"),
    ],
)
def test_the_size_is_a_number_or_nothing(line: str, size: int | None, reason: str) -> None:
    assert Capabilities.parse([line]).size == size, reason


@pytest.mark.parametrize(
    ("keyword", "name"),
    [
        ("PIPELINING", "pipelining"),
        ("8BITMIME", "eight_bit_mime"),
        ("STARTTLS", "starttls"),
        ("ENHANCEDSTATUSCODES", "enhanced_status_codes"),
        ("CHUNKING", "chunking"),
        ("SMTPUTF8", "smtputf8"),
    ],
)
def test_each_extension_is_a_fact(keyword: str, name: str) -> None:
    assert getattr(Capabilities({keyword: ()}), name) is True
    assert getattr(NO_CAPABILITIES, name) is False


@pytest.mark.parametrize(
    ("keywords", "binary"),
    [("BINARYMIME CHUNKING", True), ("BINARYMIME", False), ("CHUNKING", False)],
)
def test_binarymime_is_nothing_without_chunking(keywords: str, binary: bool) -> None:
    """RFC 3030 section 3."""
    assert Capabilities.parse(keywords.split()).binary_mime is binary


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"": ()}, "no EHLO keyword: ''"),
        ({"X_Y": ()}, "no EHLO keyword: 'X_Y'"),
        ({"-X": ()}, "no EHLO keyword: '-X'"),
        ({"X\n": ()}, "no EHLO keyword: 'X"),
        ({"SIZE": ("10 00",)}, "no EHLO keyword: 'SIZE'"),
        ({"SIZE": ("",)}, "no EHLO keyword: 'SIZE'"),
        ({"SIZE": ("1000\r\n250 X",)}, "no EHLO keyword: 'SIZE'"),
        ({"SIZE": ("1",), "size": ("2",)}, "EHLO keyword given twice: SIZE"),
    ],
)
def test_what_cannot_be_offered_is_the_callers_mistake(keywords: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        Capabilities(keywords)


def test_capabilities_are_values_that_nobody_can_change() -> None:
    given_keywords = {"AUTH": ["PLAIN"]}
    capabilities = Capabilities(given_keywords)
    given_keywords["AUTH"].append("LOGIN")
    given_keywords["SIZE"] = []
    assert capabilities == Capabilities({"auth": ("PLAIN",)})
    assert hash(capabilities) == hash(Capabilities({"auth": ("PLAIN",)}))
    assert capabilities != NO_CAPABILITIES
    assert capabilities != {"AUTH": ("PLAIN",)}
    assert repr(capabilities) == "Capabilities({'AUTH': ('PLAIN',)})"
    with pytest.raises(TypeError):
        capabilities.keywords["SIZE"] = ()  # type: ignore[index]  # pyright: ignore[reportIndexIssue]  # that is the test
    assert NO_CAPABILITIES.format() == ()


@settings(deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Z0-9][A-Z0-9-]{0,15}", fullmatch=True),
        st.lists(st.from_regex(r"[!-~]{1,15}", fullmatch=True), unique=True, max_size=4),
        max_size=6,
    )
)
def test_what_is_formatted_is_read_back(keywords: dict[str, list[str]]) -> None:
    capabilities = Capabilities(keywords)
    read_back = Capabilities.parse(capabilities.format(), STRICT.but(Treatment.ACCEPT, *OF_VALUES))
    assert read_back == capabilities
    assert read_back.deviations == frozenset()
    assert Capabilities.parse(map(str.lower, NO_CAPABILITIES.format())) == NO_CAPABILITIES


@settings(deadline=None, derandomize=True)
@given(st.lists(st.text()))
def test_no_line_can_raise(lines: list[str]) -> None:
    Capabilities.parse(lines)
