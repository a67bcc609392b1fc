"""Mailboxes, paths and the EHLO argument."""

import pytest

from smtpstate._address import (
    MAX_DOMAIN,
    MAX_LOCAL_PART,
    ForwardPath,
    Mailbox,
    ReversePath,
    ascii_form,
    domain_key,
    needs_smtputf8,
    parse_domain_or_literal,
    parse_forward_path,
    parse_reverse_path,
)
from smtpstate._errors import Fault, GrammarError, LocalProtocolError

DOMAIN_255 = ".".join(["a" * 63] * 3 + ["a" * 63])
DOMAIN_256 = ".".join(["a" * 63] * 3 + ["a" * 61, "a" * 2])


@pytest.mark.parametrize(
    ("text", "local_part", "domain", "spelt", "reason"),
    [
        ("alice@example.org", "alice", "example.org", "alice@example.org", "plain"),
        ("Alice@Example.ORG", "Alice", "Example.ORG", "Alice@Example.ORG", "kept as written"),
        ("a.b+c@x", "a.b+c", "x", "a.b+c@x", "a dot-string"),
        ('"alice"@x', "alice", "x", "alice@x", "quoted without need"),
        (r'"a\l\i"@x', "ali", "x", "ali@x", "quoted pairs without need"),
        ('"a b"@x', "a b", "x", '"a b"@x', "a space"),
        ('"a..b"@x', "a..b", "x", '"a..b"@x', "an empty atom"),
        (r'"a\"\\b"@x', r'a"\b', "x", r'"a\"\\b"@x', "the two that need a quoted pair"),
        (r'"\ @"@x', " @", "x", '" @"@x', "a quoted pair that is not needed between the quotes"),
        ('""@x', "", "x", '""@x', "empty, which the grammar allows"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]", "a@[192.0.2.1]", "an IPv4 literal"),
        ("a@[IPv6:::1]", "a", "[IPv6:::1]", "a@[IPv6:::1]", "an IPv6 literal"),
        ("a@[tag:b>c]", "a", "[tag:b>c]", "a@[tag:b>c]", "a general literal with a bracket in it"),
    ],
)
def test_a_mailbox_is_parsed_and_spelt(text: str, local_part: str, domain: str, spelt: str, reason: str) -> None:
    mailbox = Mailbox.parse(text)
    assert (mailbox.local_part, mailbox.domain) == (local_part, domain), reason
    assert str(mailbox) == spelt, reason
    assert Mailbox.parse(spelt) == mailbox, reason
    assert parse_reverse_path(f"<{text}>") == (ReversePath(mailbox), ""), reason
    assert parse_forward_path(f"<{text}>") == (ForwardPath(mailbox), ""), reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("alice", "no domain"),
        ("postmaster", "a path, not a mailbox"),
        ("<a@b>", "brackets"),
        ("a@b\n", "a newline at the end"),
        (" a@b", "a space in front"),
        ("a b@c", "an unquoted space"),
        ("a@b_c", "an underscore in a domain"),
        ("a@b.", "a dot at the end"),
        ("a@[192.0.2.256]", "past 255"),
        ("a@[IPv6:1:2:3:4:5:6:7::]", "more than six groups beside ::"),
        ("a@[IPv6:x]", "not an IPv6 address"),
        ("é@b", "not ASCII"),
        ("a@é", "not ASCII"),
        ("@x:a@b", "a source route belongs to a path"),
    ],
)
def test_what_is_no_mailbox_is_refused(text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Mailbox.parse(text)
    assert caught.value.fault is Fault.ADDRESS, reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a" * 64 + "@x", "section 4.5.3.1.1: 64 octets"),
        ("a@" + DOMAIN_255, "section 4.5.3.1.2: 255 octets"),
        ("a" * 64 + "@" + "b" * 63 + "." + "c" * 63 + "." + "d" * 61, "section 4.5.3.1.3: a path of 256 octets"),
        ("a" * MAX_LOCAL_PART + "@x", "the cap"),
        ('"' + "\\a" * MAX_LOCAL_PART + '"@x', "the cap, quoted pairs counted once"),
        ("a" * MAX_LOCAL_PART + "@" + DOMAIN_255, "both caps at once"),
        ("a@[t:" + "b" * (MAX_DOMAIN - 4) + "]", "the cap, of a literal"),
    ],
)
def test_sizes_up_to_the_caps_are_accepted(text: str, reason: str) -> None:
    assert ReversePath.parse(f"<{text}>").mailbox == Mailbox.parse(text), reason
    assert ForwardPath.parse(f"<{text}>").mailbox == Mailbox.parse(text), reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a" * (MAX_LOCAL_PART + 1) + "@x", "a local part past the cap"),
        ('"' + " " * (MAX_LOCAL_PART + 1) + '"@x', "a quoted local part past the cap"),
        ("a@" + DOMAIN_256, "a domain past the cap"),
        ("a@" + "b" * 64, "a label past 63"),
        ("a@[t:" + "b" * (MAX_DOMAIN - 3) + "]", "a literal past the cap"),
    ],
)
def test_sizes_past_the_caps_are_refused(text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Mailbox.parse(text)
    assert caught.value.fault is Fault.ADDRESS, reason
    with pytest.raises(GrammarError):
        parse_reverse_path(f"<{text}>")
    with pytest.raises(GrammarError):
        parse_forward_path(f"<{text}>")


def test_the_domains_of_these_tests_have_the_lengths_they_say() -> None:
    assert (len(DOMAIN_255), len(DOMAIN_256)) == (255, 256)


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (Mailbox("a", "Example.ORG"), Mailbox("a", "example.org"), "domains have no case"),
        (Mailbox("a", "bücher.example"), Mailbox("a", "xn--bcher-kva.example"), "U-label and A-label"),
        (Mailbox("a", "BÜCHER.Example"), Mailbox("a", "XN--bcher-KVA.example"), "both at once"),
        (Mailbox("a", "[IPv6:FE80::1]"), Mailbox("a", "[ipv6:fe80::1]"), "literals have no case"),
        (Mailbox("Postmaster", ""), Mailbox("POSTMASTER", ""), "<Postmaster> has no case"),
    ],
)
def test_mailboxes_that_are_the_same_are_equal(one: Mailbox, other: Mailbox, reason: str) -> None:
    assert one == other, reason
    assert hash(one) == hash(other), reason
    assert ForwardPath(one) == ForwardPath(other), reason


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (Mailbox("a", "x"), Mailbox("A", "x"), "local parts have a case"),
        (Mailbox("a", "x"), Mailbox("a", "y"), "another domain"),
        (Mailbox("postmaster", ""), Mailbox("postmaster", "x"), "with and without a domain"),
        (Mailbox("a", "x"), "a@x", "not a mailbox"),
    ],
)
def test_mailboxes_that_are_not_the_same_are_not_equal(one: Mailbox, other: object, reason: str) -> None:
    assert one != other, reason


def test_a_domain_that_has_no_a_labels_is_lower_cased() -> None:
    assert domain_key("É" * 64 + ".Org") == "é" * 64 + ".org"


@pytest.mark.parametrize(
    ("domain", "key", "reason"),
    [
        ("bücher.example", "xn--bcher-kva.example", "a U-label beside another label"),
        ("BÜCHER.Example", "xn--bcher-kva.example", "capitals"),
        ("straße.example", "xn--strae-oqa.example", "IDNA 2008: sharp s is a letter of its own"),
        ("βόλος.example", "xn--nxasmm1c.example", "IDNA 2008: so is final sigma"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah", "kana and han"),
        ("إختبار.example", "xn--kgbechtv.example", "right to left"),
        ("परीक्षा.example", "xn--11b5bs3a9aj6g.example", "marks inside a label"),
        ("\u3007.example", "xn--w6j.example", "RFC 5892 section 2.6: ideographic zero"),
        ("é-1.example", "xn---1-9ia.example", "a hyphen and a digit beside a letter"),
    ],
)
def test_a_domain_has_a_labels(domain: str, key: str, reason: str) -> None:
    assert domain_key(domain) == key, reason
    assert domain_key(key.upper()) == key, reason
    assert Mailbox.parse(f"a@{domain}", utf8=True) == Mailbox.parse(f"a@{key}"), reason


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("☕", "a symbol: RFC 5892 section 2.1"),
        ("a\u3002é", "an ideographic full stop, which IDNA 2003 took for a dot"),
        ("\uff45xample", "a full-width letter, which is not as NFKC leaves it"),
        ("\u212aé", "a Kelvin sign, likewise, although small it would be a k"),
        ("\u212a", "alone, likewise"),
        ("e\u0301", "a letter that is not composed"),
        ("\u0301a", "a mark at the start: RFC 5891 section 4.2.3.2"),
        ("éé--a", "hyphens in the third and fourth place: section 4.2.3.1"),
        ("a\u200dé", "a joiner"),
        ("l·l", "a middle dot"),
        ("\u0640é", "RFC 5892 section 2.6: tatweel"),
        ("é_é", "an underscore"),
        ("é" * 58, "63 octets at most, as an A-label"),
        ("é" * 99, "more than that as a U-label"),
        ("\ud800", "a surrogate"),
    ],
)
def test_a_label_that_idna_does_not_know_is_only_lower_cased_and_no_domain(label: str, reason: str) -> None:
    assert domain_key(f"X.{label}") == f"x.{label.lower()}", reason
    with pytest.raises(GrammarError) as caught:
        Mailbox.parse(f"a@x.{label}", utf8=True)
    assert caught.value.fault is Fault.ADDRESS, reason
    with pytest.raises(LocalProtocolError):
        ascii_form(Mailbox("a", f"x.{label}"))


@pytest.mark.parametrize(
    ("text", "local_part", "domain", "spelt", "reason"),
    [
        ("é@x", "é", "x", "é@x", "a local part"),
        ("a@bücher.example", "a", "bücher.example", "a@bücher.example", "a domain"),
        ("δοκιμή@παράδειγμα.δοκιμή", "δοκιμή", "παράδειγμα.δοκιμή", "δοκιμή@παράδειγμα.δοκιμή", "both"),
        ("\U0001f4e7@x", "\U0001f4e7", "x", "\U0001f4e7@x", "a local part of a symbol"),
        ('"é"@x', "é", "x", "é@x", "quoted without need"),
        ('"é é"@x', "é é", "x", '"é é"@x', "quoted with need"),
        ("e\u0301@x", "e\u0301", "x", "e\u0301@x", "a local part is as it is written"),
        ("a.b@[192.0.2.1]", "a.b", "[192.0.2.1]", "a.b@[192.0.2.1]", "ASCII as ever"),
        ("é" * 128 + "@x", "é" * 128, "x", "é" * 128 + "@x", "256 octets"),
    ],
)
def test_with_utf8_a_mailbox_need_not_be_ascii(
    text: str, local_part: str, domain: str, spelt: str, reason: str
) -> None:
    mailbox = Mailbox.parse(text, utf8=True)
    assert (mailbox.local_part, mailbox.domain) == (local_part, domain), reason
    assert str(mailbox) == spelt, reason
    assert Mailbox.parse(spelt, utf8=True) == mailbox, reason
    assert parse_reverse_path(f"<{text}> X", utf8=True) == (ReversePath(mailbox), " X"), reason
    assert parse_forward_path(f"<@é,@y:{text}>", utf8=True) == (ForwardPath(mailbox), ""), reason
    assert ReversePath.parse(f"<{text}>", utf8=True) == ReversePath(mailbox), reason
    assert ForwardPath.parse(f"<{text}>", utf8=True) == ForwardPath(mailbox), reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\x85@x", "a C1 control"),
        ("a\u2028@x", "a line separator"),
        ("\ud800@x", "a surrogate"),
        ('"\\é"@x', "a quoted pair of what is not ASCII"),
        ("a@[é]", "a literal"),
        ("é" * 129 + "@x", "a local part of 258 octets"),
        ("a@" + ".".join(["é" * 30] * 5), "a domain of 304 octets"),
        ("a@" + ".".join(["é"] * 40), "a domain of 119 octets, of 319 as A-labels"),
        ("é", "no domain"),
    ],
)
def test_with_utf8_what_is_no_mailbox_is_refused(text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Mailbox.parse(text, utf8=True)
    assert caught.value.fault is Fault.ADDRESS, reason


def test_with_utf8_postmaster_and_the_null_path_are_as_ever() -> None:
    assert parse_reverse_path("<>", utf8=True) == (ReversePath(None), "")
    assert parse_forward_path("<Postmaster>", utf8=True)[0].is_postmaster
    with pytest.raises(GrammarError):
        parse_forward_path("<po\u017ftmaster>", utf8=True)


@pytest.mark.parametrize(
    ("mailbox", "needs", "form"),
    [
        (Mailbox("a", "Example.ORG"), False, "a@Example.ORG"),
        (Mailbox("a", "Bücher.Example"), False, "a@xn--bcher-kva.example"),
        (Mailbox("é", "example.org"), True, "é@example.org"),
        (Mailbox("é", "bücher.example"), True, "é@xn--bcher-kva.example"),
        (Mailbox("Postmaster", ""), False, "Postmaster"),
    ],
)
def test_a_local_part_needs_smtputf8_and_a_domain_has_an_ascii_form(mailbox: Mailbox, needs: bool, form: str) -> None:
    assert needs_smtputf8(mailbox) is needs
    assert str(ascii_form(mailbox)) == form
    assert ascii_form(mailbox) == mailbox


def test_the_null_path_is_parsed_and_spelt() -> None:
    path, rest = parse_reverse_path("<> SIZE=1")
    assert (path, rest) == (ReversePath(None), " SIZE=1")
    assert path.is_null
    assert (str(path), path.address) == ("", "")
    assert ReversePath.parse("<>") == path


def test_a_path_is_spelt_without_brackets() -> None:
    reverse, forward = ReversePath.parse('<"a b"@x>'), ForwardPath.parse('<"a b"@x>')
    assert not reverse.is_null
    assert (str(reverse), reverse.address) == ('"a b"@x', '"a b"@x')
    assert (str(forward), forward.address) == ('"a b"@x', '"a b"@x')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<@a.example:u@x>", "one host"),
        ("<@a.example,@b.example:u@x>", "two hosts"),
    ],
)
def test_a_source_route_is_accepted_and_dropped(text: str, reason: str) -> None:
    assert str(ReversePath.parse(text)) == "u@x", reason
    assert str(ForwardPath.parse(text)) == "u@x", reason


@pytest.mark.parametrize("text", ["<postmaster>", "<Postmaster>", "<POSTMASTER>"])
def test_postmaster_needs_no_domain_in_a_forward_path(text: str) -> None:
    path, rest = parse_forward_path(text + " X")
    assert path.is_postmaster
    assert rest == " X"
    assert str(path) == text[1:-1]
    assert ForwardPath.parse(text) == ForwardPath(Mailbox("Postmaster", ""))
    with pytest.raises(GrammarError):
        parse_reverse_path(text)


def test_only_postmaster_without_a_domain_is_postmaster() -> None:
    assert not ForwardPath.parse("<postmaster@example.org>").is_postmaster
    assert not ForwardPath(Mailbox("alice", "")).is_postmaster


@pytest.mark.parametrize(
    ("text", "domain", "within", "reason"),
    [
        ("<a@example.org>", "example.org", True, "its own domain"),
        ("<a@EXAMPLE.org>", "example.ORG", True, "in any case"),
        ("<a@xn--bcher-kva.example>", "bücher.example", True, "as a U-label"),
        ("<a@mail.example.org>", "example.org", False, "a subdomain is another domain"),
        ("<a@notexample.org>", "example.org", False, "the same ending"),
        ("<a@example.org>", "mail.example.org", False, "the parent domain"),
        ("<postmaster>", "example.org", True, "section 4.5.1: postmaster is at home everywhere"),
        ("<postmaster@example.net>", "example.org", False, "but not with another domain"),
        ("<@example.org:a@example.net>", "example.org", False, "a source route does not count"),
        ("<a@[192.0.2.1]>", "[192.0.2.1]", True, "a literal"),
    ],
)
def test_a_path_is_within_its_domain(text: str, domain: str, within: bool, reason: str) -> None:
    assert ForwardPath.parse(text).within(domain) is within, reason


def test_a_mailbox_made_without_a_domain_is_within_none() -> None:
    assert not ForwardPath(Mailbox("alice", "")).within("example.org")


@pytest.mark.parametrize("text", ["<a@x>", "<@y:a@x>", '<"a> "@x>', "<a@[t:>]>"])
@pytest.mark.parametrize("rest", ["", " SIZE=1", "x", ">"])
def test_what_follows_a_path_is_handed_back(text: str, rest: str) -> None:
    assert parse_reverse_path(text + rest)[1] == rest
    assert parse_forward_path(text + rest)[1] == rest


@pytest.mark.parametrize(
    "text", ["", "a@x", "<a@x", "<a@x ", " <a@x>", "< a@x>", "<a>", "<a@x,b@x>", "<<a@x>>", "<@y a@x>"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_reverse_path(text)
    assert caught.value.fault is Fault.ADDRESS
    with pytest.raises(GrammarError) as caught:
        parse_forward_path(text)
    assert caught.value.fault is Fault.ADDRESS


def test_the_null_path_is_no_forward_path() -> None:
    with pytest.raises(GrammarError):
        parse_forward_path("<>")


def test_a_whole_path_has_nothing_behind_it() -> None:
    with pytest.raises(GrammarError):
        ReversePath.parse("<a@x> ")
    with pytest.raises(GrammarError):
        ForwardPath.parse("<a@x>\n")


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "mx.example.org",
        "MY_PC",
        "_a.b_",
        "192.0.2.1",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        "[t:x]",
        DOMAIN_255,
    ],
)
def test_an_ehlo_argument_is_handed_back_as_written(text: str) -> None:
    assert parse_domain_or_literal(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "a b", "a.", ".a", "-a", "a..b", "[::1]", "[192.0.2.1", "2001:db8::1", "é", "a\n", "a" * 64, DOMAIN_256],
)
def test_what_is_no_ehlo_argument_is_refused(text: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_domain_or_literal(text)
    assert caught.value.fault is Fault.ADDRESS
