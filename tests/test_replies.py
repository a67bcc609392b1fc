"""Replies and their reader, alone."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate._errors import Fault, GrammarError, LocalProtocolError, SMTPStateError
from smtpstate._events import FAULT_VIOLATIONS
from smtpstate._lines import Line, LineEnding, LineReader
from smtpstate._policy import ALL_FLAGGED, MX, STRICT, Deviation, Policy, Treatment
from smtpstate._replies import EnhancedCode, Refusal, Reply, ReplyReader
from tests.reply_deviations import REPLY_DEVIANTS, ReplyDeviant


def crlf(data: bytes) -> Line:
    return Line(data, LineEnding.CRLF, too_long=False)


def read(wire: bytes, policy: Policy = MX, *, utf8: bool = False, coded: bool = False) -> Reply:
    """Feed a whole reply, and assert that only its last line completes it."""
    reader, lines = ReplyReader(10, 1000, policy), LineReader()
    lines.receive_data(wire)
    while True:
        line = lines.next_line(1000)
        assert line is not None
        reply = reader.add(line, utf8=utf8, coded=coded)
        assert reader.midway is (reply is None) is (len(lines) > 0)
        if reply is not None:
            return reply


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("2.0.0", EnhancedCode(2, 0, 0), "success"),
        ("4.4.2", EnhancedCode(4, 4, 2), "temporary"),
        ("5.7.999", EnhancedCode(5, 7, 999), "three digits"),
        ("5.999.0", EnhancedCode(5, 999, 0), "three digits"),
        ("3.0.0", None, "no such class"),
        ("1.0.0", None, "no such class"),
        ("5.07.1", None, "a leading zero"),
        ("5.7.01", None, "a leading zero"),
        ("5.7.1000", None, "four digits"),
        ("5.1000.1", None, "four digits"),
        ("5.7", None, "two parts"),
        ("5.7.1.1", None, "four parts"),
        ("5.7.", None, "an empty part"),
        ("5.7.1 ", None, "a space"),
        ("5.7.1\n", None, "a newline"),
        ("5.7.\u0661", None, "a digit that is not ASCII"),
        ("", None, "nothing"),
    ],
)
def test_an_enhanced_code_is_three_numbers(text: str, code: EnhancedCode | None, reason: str) -> None:
    assert EnhancedCode.parse(text) == code, reason
    assert code is None or str(code) == text


@pytest.mark.parametrize("parts", [(3, 0, 0), (20, 0, 0), (5, -1, 0), (5, 1000, 0), (5, 0, -1), (5, 0, 1000)])
def test_no_other_enhanced_code_can_be_made(parts: tuple[int, int, int]) -> None:
    with pytest.raises(LocalProtocolError, match="no enhanced status code"):
        EnhancedCode(*parts)


def test_values_compare_and_hash_by_what_they_hold() -> None:
    code = EnhancedCode(5, 7, 1)
    assert (code.class_, code.subject, code.detail) == (5, 7, 1)
    assert code == EnhancedCode(5, 7, 1)
    assert code != EnhancedCode(5, 7, 2)
    assert code != "5.7.1"
    assert repr(code) == "EnhancedCode(5, 7, 1)"
    reply = Reply(550, "no", enhanced=code)
    assert reply == Reply(550, "no", enhanced="5.7.1")
    assert reply != Reply(550, "no")
    assert reply != "550 5.7.1 no"
    assert len({code, EnhancedCode(5, 7, 1), reply, Reply(550, "no", enhanced="5.7.1")}) == 2
    match reply:
        case Reply(550, ("no",), EnhancedCode(5, 7, 1)):
            pass
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize(
    ("reply", "shown", "spelled"),
    [
        (Reply(250), "250", "Reply(250, '')"),
        (Reply(250, "OK"), "250 OK", "Reply(250, 'OK')"),
        (Reply(250, enhanced="2.0.0"), "250 2.0.0", "Reply(250, '', enhanced='2.0.0')"),
        (Reply(250, "a", "b", enhanced="2.0.0"), "250 2.0.0 a b", "Reply(250, 'a', 'b', enhanced='2.0.0')"),
        (Reply(250, "\x1b[2J\rA\u2028B"), "250 ?[2J?A?B", r"Reply(250, '\x1b[2J\rA\u2028B')"),
    ],
)
def test_a_reply_shows_as_one_line_that_is_safe_to_print(reply: Reply, shown: str, spelled: str) -> None:
    assert str(reply) == shown
    assert repr(reply) == spelled


def test_a_reply_has_at_least_one_line() -> None:
    reply = Reply(354)
    assert (reply.code, reply.lines, reply.text, reply.enhanced) == (354, ("",), "", None)
    assert reply == Reply(354, "")
    assert Reply(250, "a", "b").text == "a b"


def test_text_that_is_no_enhanced_code_is_the_callers_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="no enhanced status code: 'OK'"):
        Reply(250, "OK", enhanced="OK")


@pytest.mark.parametrize(
    ("reply", "plain", "enhanced", "reason"),
    [
        (Reply(250, "OK"), b"250 OK\r\n", b"250 2.0.0 OK\r\n", "a code is made when there is none"),
        (Reply(250), b"250 \r\n", b"250 2.0.0 \r\n", "the space stays without text"),
        (
            Reply(250, "a", "b", enhanced="2.1.5"),
            b"250-a\r\n250 b\r\n",
            b"250-2.1.5 a\r\n250 2.1.5 b\r\n",
            "each line carries it",
        ),
        (Reply(451, "x"), b"451 x\r\n", b"451 4.0.0 x\r\n", "temporary"),
        (Reply(550, "x"), b"550 x\r\n", b"550 5.0.0 x\r\n", "permanent"),
        (Reply(334), b"334 \r\n", b"334 \r\n", "a challenge carries none, and keeps its space"),
        (Reply(354, "go"), b"354 go\r\n", b"354 go\r\n", "354 carries none"),
        (Reply(250, "a\tb~"), b"250 a\tb~\r\n", b"250 2.0.0 a\tb~\r\n", "a tab is text"),
        (Reply(250, "\xe9\u20ac"), b"250 ??\r\n", b"250 2.0.0 ??\r\n", "not ASCII, and not asked for"),
    ],
)
def test_reply_to_wire(reply: Reply, plain: bytes, enhanced: bytes, reason: str) -> None:
    assert reply.encode(enhanced=False) == plain, reason
    assert reply.encode(enhanced=True) == enhanced, reason


def test_utf8_goes_out_when_asked_for() -> None:
    assert Reply(250, "\xe9\u20ac").encode(enhanced=False, utf8=True) == b"250 \xc3\xa9\xe2\x82\xac\r\n"


@pytest.mark.parametrize("utf8", [False, True])
@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(199, "x"), "no reply code: 199"),
        (Reply(600, "x"), "no reply code: 600"),
        (Reply(560, "x"), "no reply code: 560"),
        (Reply(25, "x"), "no reply code: 25"),
        (Reply(2500, "x"), "no reply code: 2500"),
        (Reply(-250, "x"), "no reply code: -250"),
        (Reply(250, "x", enhanced="5.0.0"), "a 250 reply cannot carry 5.0.0"),
        (Reply(354, "x", enhanced="2.0.0"), "a 354 reply cannot carry 2.0.0"),
        *[
            (Reply(250, "fine", f"a{character}b"), "control character")
            for character in "\0\x01\x08\n\x0b\r\x1f\x7f\x80\x85\x9f\u2028\u2029\ud800\udfff"
        ],
        (Reply(250, "x" * 507), "reply line of 51[39] octets, at most 512 are allowed"),
    ],
)
def test_what_must_not_be_sent_is_refused(reply: Reply, message: str, enhanced: bool, utf8: bool) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        reply.encode(enhanced=enhanced, utf8=utf8)


def test_a_line_of_512_octets_goes_out_and_one_more_does_not() -> None:
    assert len(Reply(250, "x" * 506).encode(enhanced=False)) == 512
    assert len(Reply(250, "x" * 500).encode(enhanced=True)) == 512
    assert len(Reply(250, "\xe9" * 253).encode(enhanced=False, utf8=True)) == 512
    for reply, enhanced, utf8 in (
        (Reply(250, "x" * 507), False, False),
        (Reply(250, "x" * 501), True, False),
        (Reply(250, "\xe9" * 254), False, True),
    ):
        with pytest.raises(LocalProtocolError, match="reply line of"):
            reply.encode(enhanced=enhanced, utf8=utf8)


@pytest.mark.parametrize(
    ("wire", "reply", "reason"),
    [
        (b"250 OK\r\n", Reply(250, "OK"), "one line"),
        (b"250\r\n", Reply(250), "the bare code"),
        (b"250 \r\n", Reply(250), "no text"),
        (b"250-\r\n250\r\n", Reply(250, "", ""), "no text in any line"),
        (b"250-a\r\n250-b\r\n250 c\r\n", Reply(250, "a", "b", "c"), "three lines"),
        (b"571 no\r\n", Reply(571, "no"), "a second digit that the grammar does not have, and servers do"),
        (b"250  a \r\n", Reply(250, " a "), "only one space is not text"),
        (b"250 2.1.0 OK\r\n", Reply(250, "OK", enhanced="2.1.0"), "an enhanced code"),
        (b"250 2.1.0\r\n", Reply(250, enhanced="2.1.0"), "an enhanced code and no text"),
        (b"250 2.1.0 \r\n", Reply(250, enhanced="2.1.0"), "an enhanced code, a space and no text"),
        (b"250-2.1.0 a\r\n250 2.1.0 b\r\n", Reply(250, "a", "b", enhanced="2.1.0"), "on each line"),
        (b"250-2.1.0 a\r\n250 b\r\n", Reply(250, "a", "b", enhanced="2.1.0"), "on the first line only"),
        (b"250-2.1.0 a\r\n250 2.1.5 b\r\n", Reply(250, "a", "2.1.5 b", enhanced="2.1.0"), "another on the second"),
        (b"250-a\r\n250 2.1.0 b\r\n", Reply(250, "a", "2.1.0 b"), "on the last line only: text"),
        (b"250 5.1.0 OK\r\n", Reply(250, "5.1.0 OK"), "another class: text"),
        (b"354 2.0.0 go\r\n", Reply(354, "2.0.0 go"), "never in a 3yz reply: text"),
        (b"220 2.0.0.1 ready\r\n", Reply(220, "2.0.0.1 ready"), "not quite one: text"),
        (b"250 \xc3\xa9\xff\r\n", Reply(250, "\xe9\ufffd"), "UTF-8, and what is none"),
        (b"250 a\r\0\x1bb\r\n", Reply(250, "a\r\0\x1bb"), "controls are kept as they came"),
    ],
)
def test_wire_to_reply(wire: bytes, reply: Reply, reason: str) -> None:
    assert read(wire) == reply, reason


@pytest.mark.parametrize(
    ("lines", "fault", "reason"),
    [
        ([b""], Fault.REPLY_SYNTAX, "nothing"),
        ([b"25"], Fault.REPLY_SYNTAX, "two digits"),
        ([b"2500"], Fault.REPLY_SYNTAX, "four digits"),
        ([b"250x"], Fault.REPLY_SYNTAX, "no separator"),
        ([b"250\tOK"], Fault.REPLY_SYNTAX, "a tab for a separator"),
        ([b" 250 OK"], Fault.REPLY_SYNTAX, "a space first"),
        ([b"150 OK"], Fault.REPLY_SYNTAX, "1yz is FTP"),
        ([b"600 OK"], Fault.REPLY_SYNTAX, "6yz is nothing"),
        ([b"HTTP/1.1 400 Bad Request"], Fault.REPLY_SYNTAX, "another protocol"),
        ([b"250-a", b"junk"], Fault.REPLY_SYNTAX, "junk inside a reply"),
        ([b"250-a", b"550 b"], Fault.REPLY_MIXED_CODES, "another code, another class"),
        ([b"250-a", b"251 b"], Fault.REPLY_MIXED_CODES, "another code, the same class"),
        ([b"250-a", b"250-b", b"250-c", b"250 d"], Fault.REPLY_TOO_LONG, "too many lines"),
        ([b"250 " + b"x" * 95], Fault.REPLY_TOO_LONG, "too many octets in one line"),
        ([b"250-" + b"x" * 60, b"250 " + b"x" * 60], Fault.REPLY_TOO_LONG, "too many octets together"),
    ],
)
def test_a_reply_that_breaks_the_rules_has_a_fault_and_leaves_nothing(
    lines: list[bytes], fault: Fault, reason: str
) -> None:
    reader = ReplyReader(max_lines=3, max_octets=100)
    *first, last = lines
    for line in first:
        assert reader.add(crlf(line)) is None
    with pytest.raises(GrammarError) as caught:
        reader.add(crlf(last))
    assert caught.value.fault is fault, reason
    assert reader.rejected is None
    assert reader.add(crlf(b"221 bye")) == Reply(221, "bye")


def test_a_line_that_was_dropped_for_its_length_is_too_long() -> None:
    with pytest.raises(GrammarError) as caught:
        ReplyReader(max_lines=3, max_octets=100).add(Line(b"", LineEnding.CRLF, too_long=True))
    assert caught.value.fault is Fault.REPLY_TOO_LONG


EACH = pytest.mark.parametrize("row", REPLY_DEVIANTS, ids=lambda row: row.deviation.name)
MORE_DEVIANTS = [
    (b"250-2.0.0 a\n250 2.0.0 b\r\n", {Deviation.BARE_LF}, "in any line"),
    (b"250-2.0.0 a\r\n250\r\n", {Deviation.BARE_CODE, Deviation.ENHANCED_MISSING}, "bare, and without its code"),
    (b"354 \r\n", set[Deviation](), "with its space it is not bare"),
    (b"354-\r\n354 go\r\n", set[Deviation](), "nor with its hyphen"),
    (b"471 4.0.0 no\r\n", {Deviation.REPLY_CODE}, "any second digit from 6"),
    (b"250 2.0.0 " + b"x" * 500 + b"\r\n", set[Deviation](), "512 octets"),
    (b"250 2.0.0 " + b"x" * 501 + b"\r\n", {Deviation.LONG_REPLY_LINE}, "513"),
    (b"250-2.0.0 " + b"x" * 300 + b"\r\n250 2.0.0 " + b"x" * 300 + b"\r\n", set[Deviation](), "of two lines"),
    (b"334 " + b"x" * 600 + b"\r\n", set[Deviation](), "a challenge may be long"),
    (b"250 2.0.0 \xc3\xa4\r\n", {Deviation.EIGHT_BIT_REPLY}, "UTF-8 that nobody asked for"),
    (b"250 2.0.0 a\tb\r\n", set[Deviation](), "a tab is text"),
    (b"250 2.0.0 a\x7f\r\n", {Deviation.CONTROL_IN_REPLY}, "DEL"),
    (b"250 2.0.0 a\0b\r\n", {Deviation.CONTROL_IN_REPLY}, "NUL"),
    (b"250 2.0.0 a\rb\r\n", {Deviation.CONTROL_IN_REPLY}, "a CR that ends nothing"),
    (b"250 2.0.0 a\r\r\n", {Deviation.CONTROL_IN_REPLY}, "a second CR"),
    (b"250-2.0.0 a\r\n250 2.0.0 b\r\n", set[Deviation](), "one enhanced code in all lines"),
    (b"250-2.0.0 a\r\n250 b\r\n", {Deviation.ENHANCED_MISSING}, "none in the second line"),
    (b"250-a\r\n250 2.0.0 b\r\n", {Deviation.ENHANCED_MISSING}, "none in the first line"),
    (b"250 5.0.0 fine\r\n", {Deviation.ENHANCED_CLASS}, "of another class: it is there, and wrong"),
    (b"250-2.0.0 a\r\n250 5.0.0 b\r\n", {Deviation.ENHANCED_CLASS, Deviation.ENHANCED_UNEQUAL}, "in one line"),
    (b"354 go\r\n", set[Deviation](), "3yz carries none"),
    (b"250 2.0.0\r\n", set[Deviation](), "a code and no text"),
]


@EACH
def test_a_reply_that_breaks_the_grammar_is_read_all_the_same(row: ReplyDeviant) -> None:
    reply = read(row.wire, ALL_FLAGGED, coded=True)
    assert reply == row.reply
    assert (reply.raw, reply.deviations) == (row.wire, frozenset({row.deviation}))


@EACH
@pytest.mark.parametrize("policy", [MX, STRICT], ids=["mx", "strict"])
def test_a_policy_says_what_becomes_of_a_reply(policy: Policy, row: ReplyDeviant) -> None:
    match policy.treatment(row.deviation):
        case Treatment.ACCEPT:
            assert read(row.wire, policy, coded=True).deviations == frozenset()
        case Treatment.FLAG:
            assert read(row.wire, policy, coded=True).deviations == {row.deviation}
        case Treatment.REJECT:
            with pytest.raises(GrammarError) as caught:
                read(row.wire, policy, coded=True)
            assert FAULT_VIOLATIONS[caught.value.fault] is row.violation


def test_what_is_rejected_is_named_and_the_next_reply_is_read() -> None:
    reader = ReplyReader(10, 1000, Policy())
    with pytest.raises(GrammarError):
        reader.add(Line(b"571", LineEnding.LF, too_long=False))
    assert reader.rejected is Deviation.BARE_LF
    assert reader.add(crlf(b"221 bye")) == Reply(221, "bye")
    assert reader.rejected is None


@pytest.mark.parametrize(("wire", "deviations", "reason"), MORE_DEVIANTS)
def test_how_replies_depart(wire: bytes, deviations: set[Deviation], reason: str) -> None:
    assert read(wire, ALL_FLAGGED, coded=True).deviations == deviations, reason


@pytest.mark.parametrize(
    ("wire", "deviations", "reason"),
    [
        (b"250 \xc3\xa4\r\n", set[Deviation](), "asked for"),
        (b"250 \xe4\r\n", {Deviation.EIGHT_BIT_REPLY}, "not what was asked for"),
        (b"250 \xef\xbf\xbd\r\n", set[Deviation](), "the replacement character itself"),
        (b"250 \xc2\x85\r\n", set[Deviation](), "a control that RFC 6531 lets pass"),
    ],
)
def test_utf8_that_was_asked_for_is_none(wire: bytes, deviations: set[Deviation], reason: str) -> None:
    assert read(wire, ALL_FLAGGED, utf8=True).deviations == deviations, reason


@pytest.mark.parametrize("wire", [b"250 fine\r\n", b"354 2.0.0 go\r\n", b"250-2.0.0 a\r\n250 5.0.0 b\r\n"])
def test_enhanced_codes_that_nobody_announced_are_no_deviations(wire: bytes) -> None:
    assert read(wire, ALL_FLAGGED).deviations == frozenset()


def test_raw_and_deviations_are_no_part_of_the_value() -> None:
    plain, received = Reply(250), Reply(250, raw=b"250\n", deviations=frozenset({Deviation.BARE_LF}))
    assert plain == received
    assert hash(plain) == hash(received)
    assert repr(plain) == repr(received)
    assert (plain.raw, plain.deviations) == (b"", frozenset())
    copied = copy.copy(received)
    assert (copied.raw, copied.deviations) == (received.raw, received.deviations)
    assert (received.relayed().raw, received.relayed().deviations) == (b"", frozenset())


def test_a_reply_may_reach_its_limits_and_so_may_the_next() -> None:
    reader = ReplyReader(max_lines=2, max_octets=20)
    for _ in range(3):
        assert reader.add(crlf(b"250-abcd")) is None
        assert reader.add(crlf(b"250 abcd")) == Reply(250, "abcd", "abcd")


texts = st.text(st.characters(codec="ascii", min_codepoint=32, exclude_characters="\x7f"), max_size=60)
enhanced_codes = st.builds(EnhancedCode, st.just(2), st.integers(0, 999), st.integers(0, 999))


@settings(deadline=None, derandomize=True)
@given(st.lists(texts, min_size=1, max_size=5), enhanced_codes)
def test_what_is_encoded_is_read_back(lines: list[str], code: EnhancedCode) -> None:
    reply = Reply(250, *lines, enhanced=code)
    for utf8 in (False, True):
        wire = reply.encode(enhanced=True, utf8=utf8)
        received = read(wire, STRICT, coded=True)
        assert received == reply
        assert (received.raw, received.deviations) == (wire, frozenset())


@pytest.mark.parametrize(
    ("reply", "relayed", "reason"),
    [
        (Reply(550, "no", enhanced="5.1.1"), Reply(550, "no", enhanced="5.1.1"), "nothing to change"),
        (Reply(550, "a\rb\0\x1b[2J"), Reply(550, "a b  [2J"), "controls"),
        (Reply(550, "a\tb\x85\u2028"), Reply(550, "a\tb  "), "Unicode's newlines"),
        (Reply(550, "a\ud800b"), Reply(550, "a?b"), "a lone surrogate"),
        (Reply(550, "no", enhanced="4.1.1"), Reply(550, "no"), "an enhanced code of another class"),
        (Reply(354, "go", enhanced="2.0.0"), Reply(354, "go"), "an enhanced code where none can be"),
        (Reply(571, "no", enhanced="5.7.1"), Reply(554, "no", enhanced="5.7.1"), "5yz outside the grammar"),
        (Reply(471, "no"), Reply(451, "no"), "4yz outside the grammar"),
        (Reply(290, "yes"), Reply(250, "yes"), "2yz outside the grammar"),
        (Reply(390, "more"), Reply(354, "more"), "3yz outside the grammar"),
        (Reply(150, "hm"), Reply(451, "hm"), "no class at all"),
        (Reply(550, "x" * 600), Reply(550, "x" * 500), "too long with the code that is made for it"),
        (Reply(354, "x" * 600), Reply(354, "x" * 506), "too long, and no enhanced code"),
        (Reply(550, "x" * 600, enhanced="5.999.999"), Reply(550, "x" * 496, enhanced="5.999.999"), "a long code"),
        (Reply(550, "x" + "\u20ac" * 200), Reply(550, "x" + "\u20ac" * 166), "cut between characters"),
    ],
)
def test_an_upstreams_reply_is_cleaned(reply: Reply, relayed: Reply, reason: str) -> None:
    assert reply.relayed() == relayed, reason


@settings(deadline=None, derandomize=True)
@given(
    st.integers(-10, 1200),
    st.lists(st.text(max_size=700), max_size=3),
    st.one_of(st.none(), st.builds(EnhancedCode, st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999))),
    st.booleans(),
    st.booleans(),
)
def test_a_relayed_reply_can_always_be_encoded(
    code: int, lines: list[str], enhanced: EnhancedCode | None, with_codes: bool, utf8: bool
) -> None:
    relayed = Reply(code, *lines, enhanced=enhanced).relayed()
    wire = relayed.encode(enhanced=with_codes, utf8=utf8)
    assert all(len(line) <= 512 for line in wire.splitlines(keepends=True))
    assert relayed.relayed() == relayed


def test_a_refusal_carries_a_reply() -> None:
    refusal = Refusal(550, "no", "never", enhanced="5.7.1")
    assert isinstance(refusal, SMTPStateError)
    assert refusal.reply == Reply(550, "no", "never", enhanced="5.7.1")
    assert str(refusal) == "550 5.7.1 no never"
    assert Refusal.of(refusal.reply).reply == refusal.reply
    assert copy.copy(refusal).reply == refusal.reply


@pytest.mark.parametrize("code", [250, 354, 399, 600, 45, -450])
def test_only_4yz_and_5yz_refuse(code: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"a refusal is 4yz or 5yz, not {code}"):
        Refusal(code, "hm")
    with pytest.raises(LocalProtocolError, match="a refusal is"):
        Refusal.of(Reply(code, "hm"))
