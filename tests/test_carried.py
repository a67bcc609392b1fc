"""The values of carried parameters: what parses, to what, and how it is spelt again."""

from __future__ import annotations

from typing import Any

import pytest

from smtpstate._address import Mailbox
from smtpstate._carried import (
    DateTime,
    DeliverBy,
    Envid,
    HoldFor,
    HoldUntil,
    Notify,
    OriginalRecipient,
    Priority,
    Ret,
    Rrvs,
    ServerLimits,
    Submitter,
)
from smtpstate._errors import Fault, GrammarError

KINDS: dict[str, Any] = {
    "RET": Ret,
    "NOTIFY": Notify,
    "ENVID": Envid,
    "ORCPT": OriginalRecipient,
    "AUTH": Submitter,
    "BY": DeliverBy,
    "MT-PRIORITY": Priority,
    "HOLDFOR": HoldFor,
    "HOLDUNTIL": HoldUntil,
    "RRVS": Rrvs,
}
NOON = DateTime("2024-02-29T12:00:60Z", 2024, 2, 29, 12, 0, 60, "", 0)
EVENING = DateTime("2023-12-31t23:59:59.125-01:30", 2023, 12, 31, 23, 59, 59, "125", -90)


@pytest.mark.parametrize(
    ("keyword", "text", "value", "spelt", "reason"),
    [
        ("RET", "FULL", Ret.FULL, "FULL", "RFC 3461 section 4.3"),
        ("RET", "hdrs", Ret.HDRS, "HDRS", "any case"),
        ("NOTIFY", "NEVER", Notify.NEVER, "NEVER", "RFC 3461 section 4.1"),
        ("NOTIFY", "never", Notify.NEVER, "NEVER", "any case"),
        ("NOTIFY", "SUCCESS", Notify.SUCCESS, "SUCCESS", "one"),
        (
            "NOTIFY",
            "delay,Failure,SUCCESS",
            Notify.SUCCESS | Notify.FAILURE | Notify.DELAY,
            "SUCCESS,FAILURE,DELAY",
            "all, in any order",
        ),
        ("ENVID", "QQ314159", Envid("QQ314159"), "QQ314159", "RFC 3461 section 4.4"),
        ("ENVID", "a+2Bb+20c+3D", Envid("a+b c="), "a+2Bb+20c+3D", "hexchars"),
        ("ENVID", "x" * 100, Envid("x" * 100), "x" * 100, "100 of them"),
        ("ENVID", "+2B" * 100, Envid("+" * 100), "+2B" * 100, "counted when decoded"),
        (
            "ORCPT",
            "rfc822;a+2Bb@x",
            OriginalRecipient("rfc822", "a+b@x"),
            "rfc822;a+2Bb@x",
            "RFC 3461 section 4.2",
        ),
        ("ORCPT", "x400;/c=de".replace("=", "+3D"), OriginalRecipient("x400", "/c=de"), "x400;/c+3Dde", "another type"),
        ("ORCPT", "rfc822;", OriginalRecipient("rfc822", ""), "rfc822;", "xtext may be nothing"),
        ("ORCPT", "rfc822;" + "a" * 493, OriginalRecipient("rfc822", "a" * 493), "rfc822;" + "a" * 493, "500 octets"),
        (
            "ORCPT",
            r"UTF-8;a\x{2b}b\x{fc}\x{20AC}\x{1F4E7}\x{10FFFF}@x",
            OriginalRecipient("UTF-8", "a+bü€\U0001f4e7\U0010ffff@x"),
            r"UTF-8;a\x{2B}b\x{FC}\x{20AC}\x{1F4E7}\x{10FFFF}@x",
            "RFC 6533: every length of code point, hex in any case",
        ),
        (
            "ORCPT",
            "utf-8;ü@bücher.example",
            OriginalRecipient("utf-8", "ü@bücher.example"),
            r"utf-8;\x{FC}@b\x{FC}cher.example",
            "RFC 6533: characters as they are",
        ),
        ("ORCPT", "utf-8;a@x", OriginalRecipient("utf-8", "a@x"), "utf-8;a@x", "nothing that needs it"),
        (
            "ORCPT",
            r'utf-8;"\x{20}\x{5C}\x{5C}\x{3D}"@x',
            OriginalRecipient("utf-8", r'" \\="@x'),
            r'utf-8;"\x{20}\x{5C}\x{5C}\x{3D}"@x',
            "what QCHAR lacks, in a quoted string",
        ),
        ("AUTH", "<>", Submitter(None), "<>", "RFC 4954 section 5"),
        ("AUTH", "e+3Dmc2@example.com", Submitter(Mailbox("e=mc2", "example.com")), "e+3Dmc2@example.com", "xtext"),
        ("AUTH", "+C3+BC@x", Submitter(Mailbox("ü", "x")), "+C3+BC@x", "UTF-8 in xtext"),
        ("AUTH", "nobody", Submitter(None), "<>", "no mailbox is nobody known"),
        ("AUTH", "+FF@x", Submitter(None), "<>", "not UTF-8"),
        ("BY", "120;N", DeliverBy(120), "120;N", "RFC 2852 section 4"),
        ("BY", "-1;nt", DeliverBy(-1, trace=True), "-1;NT", "N may be past, any case"),
        ("BY", "+999999999;R", DeliverBy(999_999_999, returns=True), "999999999;R", "a sign, nine digits"),
        ("BY", "1;rT", DeliverBy(1, returns=True, trace=True), "1;RT", "the least for R"),
        ("MT-PRIORITY", "-9", Priority(-9), "-9", "RFC 6710: the least"),
        ("MT-PRIORITY", "0", Priority(0), "0", "nothing special"),
        ("MT-PRIORITY", "9", Priority(9), "9", "the most"),
        ("HOLDFOR", "0", HoldFor(0), "0", "RFC 4865: one digit"),
        ("HOLDFOR", "999999999", HoldFor(999_999_999), "999999999", "nine"),
        ("HOLDUNTIL", NOON.text, HoldUntil(NOON), NOON.text, "a leap day and a leap second"),
        ("RRVS", NOON.text, Rrvs(NOON), NOON.text, "RFC 7293: refuse, unsaid"),
        ("RRVS", NOON.text + ";R", Rrvs(NOON), NOON.text, "refuse, said"),
        ("RRVS", EVENING.text + ";c", Rrvs(EVENING, continues=True), EVENING.text + ";C", "continue; a zone"),
    ],
)
def test_a_value_is_parsed_and_spelt(keyword: str, text: str, value: object, spelt: str, reason: str) -> None:
    kind = KINDS[keyword]
    parsed = kind.parse(text)
    assert parsed == value, reason
    assert parsed.format() == spelt, reason
    assert kind.parse(spelt) == value, reason


@pytest.mark.parametrize(
    ("keyword", "text", "reason"),
    [
        ("RET", "", "empty"),
        ("RET", "HEADERS", "another word"),
        ("RET", "HDR\u017f", "a long s"),
        ("NOTIFY", "NEVER,SUCCESS", "RFC 3461 section 4.1: NEVER alone"),
        ("NOTIFY", "SUCCESS,NEVER", "likewise"),
        ("NOTIFY", "NEVER,NEVER", "likewise"),
        ("NOTIFY", "DELAY,DELAY", "twice"),
        ("NOTIFY", "SUCCESS,FAILURE,success", "twice, in another case"),
        ("NOTIFY", "SUCCESS,", "an empty element"),
        ("NOTIFY", "SUCCESS;DELAY", "not a comma"),
        ("NOTIFY", "SUCCESS,FAILURE,DELAY,SUCCESS", "four"),
        ("ENVID", "", "empty"),
        ("ENVID", "x" * 101, "101"),
        ("ENVID", "a+0D+0Ab", "a line ending: it goes into the lines of a report"),
        ("ENVID", "+7F", "DEL"),
        ("ENVID", "+FC", "not ASCII"),
        ("ENVID", "+2b", "not xtext"),
        ("ORCPT", "a@x", "no type"),
        ("ORCPT", ";a@x", "an empty type"),
        ("ORCPT", "rf c;a@x", "a space in the type"),
        ("ORCPT", "rfc822;+0D", "a control"),
        ("ORCPT", "rfc822;+C3+BC@x", "not ASCII under another type than utf-8"),
        ("ORCPT", "rfc822;ü@x", "likewise, raw"),
        ("ORCPT", "rfc822;a=b", "not xtext"),
        ("ORCPT", "rfc822;" + "a" * 494, "501 octets"),
        ("ORCPT", "utf-8;" + "ü" * 246 + "@xy", "501 octets, fewer characters"),
        ("ORCPT", "utf-8;", "empty"),
        ("ORCPT", "utf-8;ü", "no mailbox"),
        ("ORCPT", "utf-8;a+2Bb@x", "a plus sign, xtext's and not RFC 6533's"),
        ("ORCPT", r"utf-8;a\b@x", "a backslash that begins nothing"),
        ("ORCPT", r"utf-8;\x{}@x", "no digits"),
        ("ORCPT", r"utf-8;\x{41}@x", "an ASCII letter"),
        ("ORCPT", r"utf-8;\x{0FC}@x", "a leading zero"),
        ("ORCPT", r"utf-8;\x{D800}@x", "a surrogate"),
        ("ORCPT", r"utf-8;\x{110000}@x", "past the last code point"),
        ("ORCPT", r"utf-8;\x{1000000}@x", "seven digits"),
        ("ORCPT", r"utf-8;\x{01}@x", "a control, which no mailbox has"),
        ("ORCPT", r"utf-8;\x{85}@x", "a C1 control, likewise"),
        ("ORCPT", "utf-8;\ud800@x", "a raw surrogate"),
        ("ORCPT", "utf-8;\x85@x", "a raw C1 control"),
        ("ORCPT", r"utf-8;a@\x{1F4E7}", "a domain of symbols, which IDNA 2008 does not know"),
        ("AUTH", "<a@x>x=", "neither"),
        ("AUTH", "a+zz", "not xtext"),
        ("BY", "120", "no mode"),
        ("BY", "120;X", "no such mode"),
        ("BY", "120;NTT", "a trace too many"),
        ("BY", "0;R", "RFC 2852 section 4: R needs a positive time"),
        ("BY", "-5;RT", "likewise"),
        ("BY", "1000000000;N", "ten digits"),
        ("BY", "٣;N", "a digit that is not ASCII"),
        ("MT-PRIORITY", "10", "past 9"),
        ("MT-PRIORITY", "+1", "a plus sign"),
        ("MT-PRIORITY", "-0", "minus nothing"),
        ("MT-PRIORITY", "01", "a leading zero"),
        ("MT-PRIORITY", "", "empty"),
        ("HOLDFOR", "-1", "a sign"),
        ("HOLDFOR", "1000000000", "ten digits"),
        ("HOLDFOR", "", "empty"),
        ("HOLDUNTIL", EVENING.text, "RFC 4865: UTC only"),
        ("HOLDUNTIL", "2024-02-29T12:00:00+00:00", "UTC is written Z"),
        ("HOLDUNTIL", "2023-02-29T12:00:00Z", "no leap year"),
        ("HOLDUNTIL", "1900-02-29T12:00:00Z", "no leap year either"),
        ("HOLDUNTIL", "2024-04-31T12:00:00Z", "April has 30 days"),
        ("HOLDUNTIL", "2024-13-01T12:00:00Z", "month 13"),
        ("HOLDUNTIL", "2024-00-01T12:00:00Z", "month 0"),
        ("HOLDUNTIL", "2024-01-00T12:00:00Z", "day 0"),
        ("HOLDUNTIL", "2024-01-01T24:00:00Z", "hour 24"),
        ("HOLDUNTIL", "2024-01-01T12:60:00Z", "minute 60"),
        ("HOLDUNTIL", "2024-01-01T12:00:61Z", "second 61"),
        ("HOLDUNTIL", "2024-01-01T12:00:00.Z", "a point and no fraction"),
        ("HOLDUNTIL", "2024-01-01T12:00:00", "no zone"),
        ("HOLDUNTIL", "2024-01-01 12:00:00Z", "a space"),
        ("RRVS", NOON.text + ";X", "no such action"),
        ("RRVS", NOON.text + ";", "no action"),
        ("RRVS", NOON.text + ";C;R", "two"),
        ("RRVS", "2024-01-01T12:00:00+24:00", "a zone of 24 hours"),
        ("RRVS", "yesterday", "not a time"),
    ],
)
def test_a_value_that_its_extension_does_not_allow_is_refused(keyword: str, text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        KINDS[keyword].parse(text)
    assert caught.value.fault is Fault.PARAMETER_VALUE, reason


@pytest.mark.parametrize(
    ("text", "offset", "utc"),
    [("2000-02-29T00:00:00z", 0, True), ("2024-01-01T00:00:00+05:45", 345, False), (EVENING.text, -90, False)],
)
def test_a_time_has_its_offset_in_minutes(text: str, offset: int, utc: bool) -> None:
    time = DateTime.parse(text)
    assert (time.offset, time.is_utc) == (offset, utc)


@pytest.mark.parametrize(
    ("mailbox", "value"),
    [
        (Mailbox("a", "x"), OriginalRecipient("rfc822", "a@x")),
        (Mailbox("a b", "x"), OriginalRecipient("rfc822", '"a b"@x')),
        (Mailbox("ü", "x"), OriginalRecipient("utf-8", "ü@x")),
        (Mailbox("a", "bücher.example"), OriginalRecipient("utf-8", "a@bücher.example")),
    ],
)
def test_a_mailbox_becomes_an_original_recipient_of_the_type_it_needs(
    mailbox: Mailbox, value: OriginalRecipient
) -> None:
    assert OriginalRecipient.of(mailbox) == value
    assert OriginalRecipient.parse(value.format()) == value


def test_under_smtputf8_characters_may_stay_as_they_are_and_xtext_specials_may_not() -> None:
    value = OriginalRecipient("utf-8", "ü+b@x")
    assert value.format(utf8=True) == r"utf-8;ü\x{2B}b@x"
    assert OriginalRecipient.parse(value.format(utf8=True)) == value


def test_never_is_false_and_the_others_are_true() -> None:
    assert not Notify.parse("NEVER")
    assert Notify.parse("DELAY")


@pytest.mark.parametrize(
    ("announced", "limits", "reason"),
    [
        ((), ServerLimits(), "none"),
        (("MAILMAX=10", "RCPTMAX=100", "RCPTDOMAINMAX=1"), ServerLimits(10, 100, 1), "all"),
        (("rcptmax=999999",), ServerLimits(recipients=999_999), "any case, six digits"),
        (("RCPTMAX=007",), ServerLimits(recipients=7), "leading zeros"),
        (("FUTURE_LIMIT-1=a:b<c", "MAILMAX=2"), ServerLimits(2), "one that we do not know"),
        (("RCPTMAX=0", "MAILMAX=2"), ServerLimits(2), "zero: that limit is ignored"),
        (("RCPTMAX=000", "MAILMAX=2"), ServerLimits(2), "zero in three digits"),
        (("RCPTMAX=1000000", "MAILMAX=2"), ServerLimits(2), "seven digits: likewise"),
        (("RCPTMAX=x", "MAILMAX=2"), ServerLimits(2), "no number: likewise"),
        (("MAILMAX=2", "RCPTMAX"), ServerLimits(), "no value: the line is ignored"),
        (("MAILMAX=2", "RCPTMAX="), ServerLimits(), "an empty value: likewise"),
        (("MAILMAX=2", "RCPT.MAX=3"), ServerLimits(), "no name: likewise"),
        (("MAILMAX=2", "X=a;b"), ServerLimits(), "a semicolon: likewise"),
        (("MAILMAX=5", "MAILMAX=2", "MAILMAX=9"), ServerLimits(2), "the smallest of several"),
        (("MAILMAX=5", "MAILMAX=0"), ServerLimits(5), "of those that are numbers"),
    ],
)
def test_limits_are_read_and_nonsense_is_ignored(announced: tuple[str, ...], limits: ServerLimits, reason: str) -> None:
    assert ServerLimits.parse(announced) == limits, reason


def test_a_limit_above_what_can_be_said_is_announced_as_less() -> None:
    assert ServerLimits(recipients=1_000_000).format() == ("RCPTMAX=999999",)


@pytest.mark.parametrize("limits", [ServerLimits(), ServerLimits(1), ServerLimits(1, 2, 3), ServerLimits(None, 5)])
def test_limits_are_spelt(limits: ServerLimits) -> None:
    assert ServerLimits.parse(limits.format()) == limits
