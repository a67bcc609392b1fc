"""The attributes of XCLIENT and XFORWARD."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpstate._errors import Fault, GrammarError
from smtpstate._xclient import XCLIENT_NAMES, XFORWARD_NAMES, Absence, XClient, XForward, XForwardSource

UNAVAILABLE, TEMPUNAVAIL = Absence.UNAVAILABLE, Absence.TEMPUNAVAIL

XCLIENTS = [
    (" NAME=spike.example.org", XClient(name="spike.example.org"), "a name"),
    (" NAME=[UNAVAILABLE]", XClient(name=UNAVAILABLE), "no name"),
    (" NAME=[TEMPUNAVAIL] REVERSE_NAME=[tempunavail]", XClient(name=TEMPUNAVAIL, reverse_name=TEMPUNAVAIL), "not now"),
    (" REVERSE_NAME=a.example", XClient(reverse_name="a.example"), "a name that was not checked"),
    (" ADDR=192.0.2.1", XClient(address="192.0.2.1"), "IPv4"),
    (" ADDR=IPV6:2001:DB8:0::1", XClient(address="2001:db8::1"), "IPv6, made canonical"),
    (" ADDR=ipv6:2001:db8::1", XClient(address="2001:db8::1"), "the tag has no case"),
    (" ADDR=IPV6:::ffff:192.0.2.1", XClient(address="192.0.2.1"), "IPv4 from a socket of IPv6"),
    (" ADDR=[unavailable]", XClient(address=UNAVAILABLE), "no address, in lower case"),
    (" PORT=25 DESTPORT=0", XClient(port=25, destination_port=0), "ports"),
    (" PORT=[UNAVAILABLE]", XClient(port=UNAVAILABLE), "no port"),
    (" DESTADDR=192.0.2.9", XClient(destination_address="192.0.2.9"), "where it connected to"),
    (" PROTO=esmtp", XClient(protocol="ESMTP"), "a protocol has no case"),
    (" HELO=a+20b LOGIN=me+40example.org", XClient(helo="a b", login="me@example.org"), "xtext"),
    (" login=J+C3+BCrgen", XClient(login="Jürgen"), "UTF-8, and a name in lower case"),
    ("  NAME=a  PORT=1 ", XClient(name="a", port=1), "more white space than needed"),
    (" HELO=" + "x" * 255, XClient(helo="x" * 255), "as long as allowed"),
    (" HELO=" + "+20" * 255, XClient(helo=" " * 255), "decoded octets count"),
]

XFORWARDS = [
    (" NAME=spike ADDR=192.0.2.1 PORT=9 PROTO=ESMTP", XForward("spike", "192.0.2.1", 9, "ESMTP"), "the client"),
    (" NAME=not_of+20the+20DNS", XForward(name="not_of the DNS"), "any name will do"),
    (" HELO=x IDENT=4F1 SOURCE=local", XForward(helo="x", ident="4F1", source=XForwardSource.LOCAL), "the message"),
    (" SOURCE=REMOTE", XForward(source=XForwardSource.REMOTE), "from elsewhere"),
    (" SOURCE=[UNAVAILABLE] NAME=[TEMPUNAVAIL]", XForward(name=TEMPUNAVAIL, source=UNAVAILABLE), "absent"),
    (" PROTO=" + "x" * 64, XForward(protocol="x" * 64), "as long as allowed"),
    (" PROTO=[UNAVAILABLE]", XForward(protocol=UNAVAILABLE), "none"),
]


@pytest.mark.parametrize(("text", "value", "reason"), XCLIENTS)
def test_xclient(text: str, value: XClient, reason: str) -> None:
    assert XClient.parse(text) == value, reason
    assert XClient.parse(value.format()) == value, reason


@pytest.mark.parametrize(("text", "value", "reason"), XFORWARDS)
def test_xforward(text: str, value: XForward, reason: str) -> None:
    assert XForward.parse(text) == value, reason
    assert XForward.parse(value.format()) == value, reason


SYNTAX, UNKNOWN, VALUE = Fault.PARAMETER_SYNTAX, Fault.PARAMETER_UNKNOWN, Fault.PARAMETER_VALUE
BOTH = (XClient, XForward)

WRONG = [
    (BOTH, "", SYNTAX, "no attribute"),
    (BOTH, " ", SYNTAX, "white space alone"),
    (BOTH, "NAME=a", SYNTAX, "no SP in front"),
    (BOTH, "\tNAME=a", SYNTAX, "a tab"),
    (BOTH, " NAME", SYNTAX, "no value"),
    (BOTH, " NAME=", SYNTAX, "an empty value"),
    (BOTH, " =a", SYNTAX, "no name"),
    (BOTH, " NAME=a=b", SYNTAX, "an equals sign that is not encoded"),
    (BOTH, " NAME=a\r\n", SYNTAX, "a line end"),
    (BOTH, " NAME=ü", SYNTAX, "8 bits"),
    (BOTH, " NAME=a name=b", SYNTAX, "twice"),
    (BOTH, " COLOUR=red", UNKNOWN, "a name that nobody defined"),
    ((XClient,), " IDENT=a", UNKNOWN, "of XFORWARD"),
    ((XForward,), " LOGIN=a", UNKNOWN, "of XCLIENT"),
    (BOTH, " HELO=a+0", VALUE, "half an xtext escape"),
    (BOTH, " HELO=a+0d+0a", VALUE, "xtext has upper case"),
    (BOTH, " HELO=a+0D+0ADATA", VALUE, "a line of one's own"),
    (BOTH, " HELO=+00", VALUE, "NUL"),
    (BOTH, " HELO=+C2+85", VALUE, "NEL"),
    (BOTH, " HELO=+E2+80+A8", VALUE, "LINE SEPARATOR"),
    (BOTH, " HELO=+FF", VALUE, "no UTF-8"),
    (BOTH, " HELO=" + "x" * 256, VALUE, "too long"),
    (BOTH, " HELO=[TEMPUNAVAIL]", VALUE, "only a look-up fails for now"),
    (BOTH, " ADDR=[TEMPUNAVAIL]", VALUE, "no look-up gives an address"),
    (BOTH, " ADDR=2001:db8::1", VALUE, "IPv6 without its tag"),
    (BOTH, " ADDR=IPV6:192.0.2.1", VALUE, "IPv4 with it"),
    (BOTH, " ADDR=IPV6:fe80::1%eth0", VALUE, "a scope"),
    (BOTH, " ADDR=192.0.2.256", VALUE, "an octet too high"),
    (BOTH, " ADDR=example.org", VALUE, "a name"),
    (BOTH, " PORT=65536", VALUE, "too high"),
    (BOTH, " PORT=-1", VALUE, "a sign"),
    (BOTH, " PORT=smtp", VALUE, "a word"),
    (BOTH, " PORT=+D9+A1", VALUE, "a digit of another script"),
    ((XClient,), " NAME=a+20b", VALUE, "no host name"),
    ((XClient,), " PROTO=LMTP", VALUE, "only SMTP and ESMTP"),
    ((XForward,), " PROTO=" + "x" * 65, VALUE, "too long"),
    ((XForward,), " SOURCE=ELSEWHERE", VALUE, "no source"),
]


@pytest.mark.parametrize(("kinds", "text", "fault", "reason"), WRONG)
def test_what_is_refused(kinds: tuple[type[XClient | XForward], ...], text: str, fault: Fault, reason: str) -> None:
    for kind in kinds:
        with pytest.raises(GrammarError) as caught:
            kind.parse(text)
        assert caught.value.fault is fault, reason


def test_addr_goes_last() -> None:
    sent = XClient(name="a.example", address="2001:db8::1", helo="a b", login=UNAVAILABLE).format()
    assert sent == " NAME=a.example HELO=a+20b LOGIN=[UNAVAILABLE] ADDR=IPV6:2001:db8::1"
    assert XForward(source=XForwardSource.LOCAL, port=25).format() == " PORT=25 SOURCE=LOCAL"
    assert XClient().format() == ""


NOT_THERE = XClient(
    UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE
)
NOTHING_KNOWN = XForward(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE)


def test_what_was_not_said_again_is_as_it_was() -> None:
    first = XClient("a", "b", 1, "SMTP", "c", "joe", "192.0.2.1", 2, "192.0.2.2")
    second = NOT_THERE
    assert XClient().over(first) == XClient("a", "b", 1, "SMTP", "c", None, "192.0.2.1", 2, "192.0.2.2"), "LOGIN is not"
    assert second.over(first) == second
    assert first.over(None) is first
    forwarded = XForward("a", "192.0.2.1", 1, "SMTP", "b", "c", XForwardSource.LOCAL)
    absent = NOTHING_KNOWN
    assert XForward().over(forwarded) == forwarded
    assert absent.over(forwarded) == absent
    assert forwarded.over(None) is forwarded


def test_what_may_be_sent_has_a_name() -> None:
    assert NOT_THERE.names == set(XCLIENT_NAMES)
    assert NOTHING_KNOWN.names == set(XFORWARD_NAMES)
    assert XClient(port=0).names == {"PORT"}


@given(st.sampled_from(BOTH), st.one_of(st.text(max_size=60), st.from_regex(r"( [A-Z]{4,5}=[!-~]{1,9}){1,4}")))
def test_any_text_is_parsed_or_refused(kind: type[XClient | XForward], text: str) -> None:
    try:
        parsed = kind.parse(text)
    except GrammarError:
        return
    assert kind.parse(parsed.format()) == parsed
