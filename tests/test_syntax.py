"""The syntax of commands: lines to commands and back, and what both have earned."""

from __future__ import annotations

from typing import get_args

import pytest

from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    OwnCommand,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Verb,
    Vrfy,
    Wait,
    XClient,
    XForward,
)
from smtpstate._errors import Fault, GrammarError, LocalProtocolError
from smtpstate._params import BodyType
from smtpstate._policy import SENDABLE, Deviation, Notes
from smtpstate._syntax import (
    COMMANDS,
    FAULT_REPLIES,
    NOT_IMPLEMENTED,
    VERDICTS,
    encode_command,
    fault_reply,
    find_verb,
    may_be_international,
    parse_command,
    parse_response,
)
from tests.deviations import DEVIANTS, Deviant

A = Mailbox("a", "b.example")


def parse(line: bytes) -> Command:
    return parse_command(find_verb(line, {"XRUN"}), line)


@pytest.mark.parametrize(
    ("line", "command", "reason"),
    [
        (b"EHLO mx.example.com", Ehlo("mx.example.com"), "section 4.1.1.1"),
        (b"ehlo [192.0.2.1]", Ehlo("[192.0.2.1]"), "a verb has no case; a literal"),
        (b"EHLO [IPv6:2001:db8::1]", Ehlo("[IPv6:2001:db8::1]"), "a literal"),
        (b"EHLO win_host", Ehlo("win_host"), "Windows hosts are called so"),
        (b"EHLO  mx.example.com \t", Ehlo("mx.example.com"), "white space around the argument is tolerated"),
        (b"HELO mx.example.com", Helo("mx.example.com"), "section 4.1.1.1"),
        (b"HELO [192.0.2.1]", Helo("[192.0.2.1]"), "not in the grammar, and seen"),
        (b"STARTTLS", StartTls(), "RFC 3207 section 4"),
        (b"StartTLS ", StartTls(), "trailing white space, section 4.1.1"),
        (b"MAIL FROM:<a@b.example>", Mail(ReversePath(A)), "section 4.1.1.2"),
        (b"mail from:<a@b.example>", Mail(ReversePath(A)), "no case"),
        (b"MAIL FROM: <a@b.example>", Mail(ReversePath(A)), "Outlook puts a space there"),
        (b"MAIL FROM:<>", Mail(ReversePath(None)), "the null path, section 4.5.5"),
        (b"MAIL FROM:<@r.example,@s.example:a@b.example>", Mail(ReversePath(A)), "source routes are dropped"),
        (b'MAIL FROM:<"a b"@b.example>', Mail(ReversePath(Mailbox("a b", "b.example"))), "a quoted local part"),
        (
            b"MAIL FROM:<a@b.example> SIZE=12 body=8bitmime ",
            Mail(ReversePath(A), (("SIZE", "12"), ("BODY", "8bitmime"))),
            "parameters, in order, keywords in upper case",
        ),
        (b"RCPT TO:<a@b.example>", Rcpt(ForwardPath(A)), "section 4.1.1.3"),
        (b"rcpt to: <a@b.example>", Rcpt(ForwardPath(A)), "a space, as above"),
        (b"RCPT TO:<postMaster>", Rcpt(ForwardPath(Mailbox("postMaster", ""))), "section 4.5.1, any case"),
        (b"RCPT TO:<a@b.example> X-Y", Rcpt(ForwardPath(A), (("X-Y", None),)), "a parameter without a value"),
        (b"LHLO mx.example.com", Lhlo("mx.example.com"), "RFC 2033 section 4.1"),
        (b"AUTH PLAIN", Auth("PLAIN"), "RFC 4954 section 4: no initial response"),
        (b"auth scram-sha-256 ", Auth("SCRAM-SHA-256"), "no case, and white space may trail"),
        (b"AUTH PLAIN =", Auth("PLAIN", b""), "RFC 4954 section 4: an empty initial response"),
        (b"AUTH PLAIN AGEAYg==", Auth("PLAIN", b"\0a\0b"), "an initial response"),
        (b"AUTH  X  YQ== ", Auth("X", b"a"), "more spaces are tolerated"),
        (b"AUTH " + b"X" * 20, Auth("X" * 20), "RFC 4422 section 3.1: twenty characters"),
        (b"BDAT 0", Bdat(0), "RFC 3030 section 2: an empty chunk"),
        (b"BDAT 0 LAST", Bdat(0, last=True), "an empty last one"),
        (b"bdat 12 last", Bdat(12, last=True), "no case"),
        (b"BDAT  007  LAST\t", Bdat(7, last=True), "leading zeros, more spaces"),
        (b"BDAT 2147483647", Bdat(2**31 - 1), "31 bits"),
        (b"BDAT 2147483648", Bdat(2**31), "no wrap at 2^31"),
        (b"BDAT 4294967296", Bdat(2**32), "no wrap at 2^32"),
        (b"BDAT 9223372036854775807 LAST", Bdat(2**63 - 1, last=True), "the largest there is"),
        (b"DATA", Data(), "section 4.1.1.4"),
        (b"data\t", Data(), "a tab may trail, too"),
        (b"RSET", Rset(), "section 4.1.1.5"),
        (b"NOOP", Noop(), "section 4.1.1.9"),
        (b"NOOP what ever", Noop("what ever"), "its text means nothing"),
        (b"QUIT", Quit(), "section 4.1.1.10"),
        (b"VRFY a@b.example", Vrfy("a@b.example"), "section 4.1.1.6"),
        (b"EXPN list", Expn("list"), "section 4.1.1.7"),
        (b"VRFY a b \t smtputf8 ", Vrfy("a b", smtputf8=True), "RFC 6531 section 3.7.4.2"),
        (b"EXPN list SMTPUTF8", Expn("list", smtputf8=True), "RFC 6531 section 3.7.4.2"),
        (b"VRFY SMTPUTF8", Vrfy("SMTPUTF8"), "a string is needed, so this is one"),
        (b"VRFY aSMTPUTF8", Vrfy("aSMTPUTF8"), "one word"),
        (b"HELP", Help(), "section 4.1.1.8"),
        (b"HELP MAIL", Help("MAIL"), "section 4.1.1.8"),
        (b"xclient addr=192.0.2.1 ", XClient(address="192.0.2.1"), "XCLIENT_README"),
        (b"XFORWARD  HELO=a+20b", XForward(helo="a b"), "XFORWARD_README"),
        (b"XRUN", OwnCommand("XRUN"), "a verb of one's own"),
        (b"xrun  #queue  1 \t", OwnCommand("XRUN", "#queue  1"), "no case, and white space around the argument"),
        (b"XRUN\t", OwnCommand("XRUN"), "a tab may trail, too"),
    ],
)
def test_what_a_line_means(line: bytes, command: Command, reason: str) -> None:
    parsed = parse(line)
    assert parsed == command, reason
    assert type(parsed) is type(command)
    assert not isinstance(parsed, AuthResponse | AuthCancel)
    assert parsed.raw == line


@pytest.mark.parametrize(
    ("line", "fault", "reason"),
    [
        (b"", Fault.VERB_UNKNOWN, "an empty line"),
        (b" NOOP", Fault.VERB_UNKNOWN, "a verb stands first"),
        (b"NOOP\tx", Fault.VERB_UNKNOWN, "SP alone separates"),
        (b"NOOPS", Fault.VERB_UNKNOWN, "a verb is a whole word"),
        (b"FROB", Fault.VERB_UNKNOWN, "nobody knows it"),
        (b"NOOP\0", Fault.VERB_UNKNOWN, "NUL is part of no verb"),
        (b"\xff\xfe\xfd", Fault.VERB_UNKNOWN, "nor are 8-bit octets"),
        (b"GET / HTTP/1.1", Fault.VERB_UNKNOWN, "another protocol"),
        (b"XCLIENT", Fault.PARAMETER_SYNTAX, "no attribute"),
        (b"XCLIENT ", Fault.PARAMETER_SYNTAX, "no attribute"),
        (b"XCLIENT IDENT=x", Fault.PARAMETER_UNKNOWN, "the other one's"),
        (b"XFORWARD SOURCE=x", Fault.PARAMETER_VALUE, "no source"),
        (b"XFORWARD HELO=\xc3\xbc", Fault.SYNTAX, "8-bit"),
        (b"etrn x", Fault.VERB_NOT_IMPLEMENTED, "RFC 1985, any case"),
        (b"RESPONSE x", Fault.VERB_UNKNOWN, "nobody spells it out"),
        (b"CHUNK", Fault.VERB_UNKNOWN, "nor this"),
        (b"LHLO", Fault.ADDRESS, "no domain"),
        (b"AUTH", Fault.ARGUMENT, "no mechanism"),
        (b"AUTH ", Fault.ARGUMENT, "no mechanism"),
        (b"AUTH " + b"X" * 21, Fault.ARGUMENT, "RFC 4422 section 3.1: twenty characters at most"),
        (b"AUTH X.Y", Fault.ARGUMENT, "no dot in a mechanism"),
        (b"AUTH PLAIN a b", Fault.ARGUMENT, "three words"),
        (b"AUTH PLAIN ==", Fault.BASE64, "one = is an empty response, two are nothing"),
        (b"AUTH PLAIN *", Fault.BASE64, "nothing to call off yet"),
        (b"AUTH PLAIN YQ", Fault.BASE64, "no padding"),
        (b"AUTH PLAIN YQ=", Fault.BASE64, "half a padding"),
        (b"AUTH PLAIN YQ===", Fault.BASE64, "too much of it"),
        (b"AUTH PLAIN YQ==YQ==", Fault.BASE64, "text after the padding"),
        (b"AUTH PLAIN Y", Fault.BASE64, "six bits"),
        (b"AUTH PLAIN YQ-_", Fault.BASE64, "the alphabet of URLs"),
        (b"AUTH PLAIN \xff", Fault.SYNTAX, "8-bit"),
        (b"BDAT", Fault.CHUNK_SIZE, "no size"),
        (b"BDAT ", Fault.CHUNK_SIZE, "no size"),
        (b"BDAT LAST", Fault.CHUNK_SIZE, "no size"),
        (b"BDAT x", Fault.CHUNK_SIZE, "no number"),
        (b"BDAT -1", Fault.CHUNK_SIZE, "a sign"),
        (b"BDAT +1", Fault.CHUNK_SIZE, "a sign"),
        (b"BDAT 0x10", Fault.CHUNK_SIZE, "hexadecimal"),
        (b"BDAT 1e3", Fault.CHUNK_SIZE, "an exponent"),
        (b"BDAT 1_000", Fault.CHUNK_SIZE, "Python's int() takes this"),
        (b"BDAT 1.0", Fault.CHUNK_SIZE, "a fraction"),
        (b"BDAT 1LAST", Fault.CHUNK_SIZE, "no space"),
        (b"BDAT 1 FIRST", Fault.CHUNK_SIZE, "another word"),
        (b"BDAT 1 LAST x", Fault.CHUNK_SIZE, "a word more"),
        (b"BDAT 9223372036854775808", Fault.CHUNK_SIZE, "2^63"),
        (b"BDAT 18446744073709551617", Fault.CHUNK_SIZE, "2^64 + 1, which wraps to 1"),
        (b"BDAT " + b"0" * 19 + b"1", Fault.CHUNK_SIZE, "twenty digits"),
        (b"BDAT \xb2", Fault.SYNTAX, "a digit of latin-1"),
        (b"NOOP \0", Fault.SYNTAX, "NUL"),
        (b"NOOP a\rb", Fault.SYNTAX, "a CR that ends nothing"),
        (b"NOOP \x1b[31m", Fault.SYNTAX, "an escape sequence"),
        (b"NOOP \x7f", Fault.SYNTAX, "DEL"),
        (b"VRFY b\xfccher", Fault.SYNTAX, "8-bit"),
        (b"MAIL FROM:<\xc3\xbc@b.example>", Fault.SYNTAX, "UTF-8 without SMTPUTF8"),
        (b"DATA now", Fault.ARGUMENT, "takes none"),
        (b"RSET x", Fault.ARGUMENT, "takes none"),
        (b"QUIT x", Fault.ARGUMENT, "takes none"),
        (b"STARTTLS x", Fault.ARGUMENT, "RFC 3207 section 4"),
        (b"VRFY", Fault.ARGUMENT, "needs one"),
        (b"EXPN ", Fault.ARGUMENT, "needs one"),
        (b"MAIL", Fault.ARGUMENT, "no FROM:"),
        (b"MAIL FROM", Fault.ARGUMENT, "no colon"),
        (b"MAIL FROM:", Fault.ARGUMENT, "no path"),
        (b"MAIL FROM:A <a@b.example>", Fault.ADDRESS, "no address comes first"),
        (b"MAIL FROM:a@b.example>", Fault.PARAMETER_SYNTAX, "half a pair of brackets"),
        (b"MAIL FROM:\t<a@b.example>", Fault.ADDRESS, "a tab is not what clients put there"),
        (b"MAIL FROM :<a@b.example>", Fault.ARGUMENT, "FROM: is one word"),
        (b"MAIL FROM:<a@[2001:db8::1]>", Fault.ADDRESS, "section 4.1.3: an IPv6 address without its tag"),
        (b"EHLO .", Fault.ADDRESS, "a dot behind no domain"),
        (b"EHLO a..", Fault.ADDRESS, "one dot is taken, two are not"),
        (b"EHLO [192.0.2.1].", Fault.ADDRESS, "a literal is no name"),
        (b"EHLO [::" + b"1" * 252 + b"]", Fault.ADDRESS, "section 4.5.3.1.2"),
        (b"MAIL TO:<a@b.example>", Fault.ARGUMENT, "the other one's keyword"),
        (b"RCPT", Fault.ARGUMENT, "no TO:"),
        (b"RCPT TO:", Fault.ARGUMENT, "no path"),
        (b"EHLO", Fault.ADDRESS, "no domain"),
        (b"EHLO a b", Fault.ADDRESS, "two words"),
        (b"HELO -", Fault.ADDRESS, "no domain"),
        (b"MAIL FROM:<a@b.example", Fault.ADDRESS, "an open bracket"),
        (b"MAIL FROM:<a..b@b.example>", Fault.ADDRESS, "two dots"),
        (b"MAIL FROM:<postmaster>", Fault.ADDRESS, "only RCPT knows it without a domain"),
        (b"RCPT TO:<>", Fault.ADDRESS, "nobody"),
        (b"MAIL FROM:<a@b.example>SIZE=1", Fault.PARAMETER_SYNTAX, "no space before it"),
        (b"MAIL FROM:<a@b.example> SIZE=1 size=2", Fault.PARAMETER_SYNTAX, "twice"),
    ],
)
def test_why_a_line_is_no_command(line: bytes, fault: Fault, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse(line)
    assert caught.value.fault is fault, reason


@pytest.mark.parametrize(
    "row", [row for row in DEVIANTS if row.wire.endswith(b"\r\n")], ids=lambda row: row.deviation.name
)
def test_how_a_line_departs_from_the_grammar(row: Deviant) -> None:
    """The line ending alone is not seen here."""
    command = parse(row.wire[:-2])
    assert command == row.command
    assert not isinstance(command, AuthResponse | AuthCancel)
    assert command.deviations == {row.deviation}


COLON = Deviation.SPACE_AFTER_COLON
EXTRA = Deviation.EXTRA_SPACE
BRACKETS = Deviation.NO_BRACKETS
ROUTE = Deviation.SOURCE_ROUTE
TRAILING = Deviation.TRAILING_SPACE
UNKNOWN = Deviation.UNKNOWN_LITERAL


@pytest.mark.parametrize(
    ("line", "command", "deviations"),
    [
        (b"NOOP x  y", Noop("x  y"), set()),  # a text is taken as it is
        (b"VRFY a@b.example", Vrfy("a@b.example"), set()),  # as section 3.5.1 has it, whatever String says
        (b"mail from:<> size=1", Mail(ReversePath(None), (("SIZE", "1"),)), set()),
        (b"RCPT TO:<" + b"x" * 64 + b"@b.example>", Rcpt(ForwardPath(Mailbox("x" * 64, "b.example"))), set()),
        (b"MAIL FROM:<a@[IPv6:::1]>", Mail(ReversePath(Mailbox("a", "[IPv6:::1]"))), set()),
        (b"EHLO [ipv6:2001:db8::1]", Ehlo("[ipv6:2001:db8::1]"), set()),
        (b"LHLO [192.0.2.1]", Lhlo("[192.0.2.1]"), set()),
        (b"EHLO  b.example\t", Ehlo("b.example"), {EXTRA, TRAILING}),
        (b"EHLO\t b.example", Ehlo("b.example"), {EXTRA}),
        (b"DATA\t", Data(), {TRAILING}),
        (b"NOOP  ", Noop(), {TRAILING}),
        (b"EHLO [x-tag:y_z]", Ehlo("[x-tag:y_z]"), {UNKNOWN}),
        (b"EHLO [::1]", Ehlo("[::1]"), {Deviation.HELLO_UNTAGGED}),
        (b"EHLO [fe80::1%eth0]", Ehlo("[fe80::1%eth0]"), {Deviation.HELLO_UNTAGGED}),
        (b"HELO [fe80::1]", Helo("[fe80::1]"), {Deviation.HELLO_UNTAGGED, Deviation.HELO_LITERAL}),
        (b"EHLO my_host.", Ehlo("my_host"), {Deviation.HELLO_UNDERSCORE, Deviation.HELLO_DOT}),
        (b"MAIL FROM:   <a@b.example>", Mail(ReversePath(A)), {COLON}),
        (b"MAIL FROM:<>  SIZE=1", Mail(ReversePath(None), (("SIZE", "1"),)), {EXTRA}),
        (b"MAIL FROM:<> SIZE=1 ", Mail(ReversePath(None), (("SIZE", "1"),)), {TRAILING}),
        (b"MAIL FROM: a@b.example A=1", Mail(ReversePath(A), (("A", "1"),)), {COLON, BRACKETS}),
        (b"MAIL FROM:@r.example:a@b.example", Mail(ReversePath(A)), {BRACKETS, ROUTE}),
        (b"RCPT TO:postmaster", Rcpt.of("postmaster"), {BRACKETS}),
        (b"RCPT TO:<@r.example:a@[x-y:z]>", Rcpt(ForwardPath(Mailbox("a", "[x-y:z]"))), {ROUTE, UNKNOWN}),
        (b"BDAT  5  LAST ", Bdat(5, last=True), {EXTRA, TRAILING}),
        (b"BDAT 5  LAST", Bdat(5, last=True), {EXTRA}),
        (b"AUTH PLAIN  =", Auth("PLAIN", b""), {EXTRA}),
    ],
)
def test_what_is_noted_of_a_line(line: bytes, command: Command, deviations: set[Deviation]) -> None:
    parsed = parse(line)
    assert parsed == command
    assert not isinstance(parsed, AuthResponse | AuthCancel)
    assert parsed.deviations == deviations


def test_upper_case_is_a_matter_of_ascii() -> None:
    """In latin-1 the sharp s is one letter, whose upper case is two."""
    for octet in range(0x80, 0x100):
        with pytest.raises(GrammarError):
            find_verb(b"HE" + bytes([octet]) + b"P")


@pytest.mark.parametrize("verb", sorted(NOT_IMPLEMENTED))
def test_what_others_define_is_known(verb: str) -> None:
    assert verb not in Verb.__members__
    with pytest.raises(GrammarError) as caught:
        find_verb(verb.encode())
    assert caught.value.fault is Fault.VERB_NOT_IMPLEMENTED


@pytest.mark.parametrize(
    ("command", "octets", "reason"),
    [
        (Ehlo("mx.example.com"), b"EHLO mx.example.com\r\n", "an argument"),
        (Helo("[192.0.2.1]"), b"HELO [192.0.2.1]\r\n", "an argument"),
        (Lhlo("mx.example.com"), b"LHLO mx.example.com\r\n", "an argument"),
        (Auth("PLAIN"), b"AUTH PLAIN\r\n", "no initial response"),
        (Auth("PLAIN", b""), b"AUTH PLAIN =\r\n", "an empty one"),
        (Auth("PLAIN", b"\0a\0b"), b"AUTH PLAIN AGEAYg==\r\n", "in base64"),
        (Bdat(12), b"BDAT 12\r\n", "a size"),
        (Bdat(0, last=True), b"BDAT 0 LAST\r\n", "the last"),
        (Bdat(2**63 - 1, last=True), b"BDAT 9223372036854775807 LAST\r\n", "the largest"),
        (StartTls(), b"STARTTLS\r\n", "none"),
        (Mail.of(""), b"MAIL FROM:<>\r\n", "the null path"),
        (
            Mail.of("a@b.example", size=12, body=BodyType.EIGHTBITMIME),
            b"MAIL FROM:<a@b.example> SIZE=12 BODY=8BITMIME\r\n",
            "parameters",
        ),
        (Mail.of('"a b"@b.example'), b'MAIL FROM:<"a b"@b.example>\r\n', "quoted again"),
        (Rcpt.of("a@b.example"), b"RCPT TO:<a@b.example>\r\n", "a recipient"),
        (Rcpt.of("PostMaster"), b"RCPT TO:<PostMaster>\r\n", "as it was written"),
        (Rcpt(ForwardPath(A), (("X-Y", None), ("Z", "1"))), b"RCPT TO:<a@b.example> X-Y Z=1\r\n", "both kinds"),
        (Data(), b"DATA\r\n", "none"),
        (Rset(), b"RSET\r\n", "none"),
        (Noop(), b"NOOP\r\n", "none"),
        (Noop("x y"), b"NOOP x y\r\n", "text"),
        (Quit(), b"QUIT\r\n", "none"),
        (Vrfy("x"), b"VRFY x\r\n", "text"),
        (Expn("x"), b"EXPN x\r\n", "text"),
        (Vrfy("x y", smtputf8=True), b"VRFY x y SMTPUTF8\r\n", "text and a flag"),
        (Expn("x", smtputf8=True), b"EXPN x SMTPUTF8\r\n", "text and a flag"),
        (Help(), b"HELP\r\n", "none"),
        (Help("x"), b"HELP x\r\n", "text"),
        (XClient(address="2001:db8::1", name="a"), b"XCLIENT NAME=a ADDR=IPV6:2001:db8::1\r\n", "attributes"),
        (XForward(helo="\u00fc"), b"XFORWARD HELO=+C3+BC\r\n", "UTF-8 in xtext"),
        (OwnCommand("XRUN"), b"XRUN\r\n", "a verb of one's own"),
        (OwnCommand("XRUN", "@example.net x"), b"XRUN @example.net x\r\n", "with an argument, which is its own, too"),
    ],
)
def test_how_a_command_is_spelled_and_read_back(command: Command, octets: bytes, reason: str) -> None:
    assert encode_command(command, len(octets)) == octets, reason
    read = parse(octets[:-2])
    assert read == command
    assert not isinstance(read, AuthResponse | AuthCancel)
    assert read.deviations == ({Deviation.HELO_LITERAL} if octets.startswith(b"HELO [") else set())


@pytest.mark.parametrize("row", DEVIANTS, ids=lambda row: row.deviation.name)
def test_what_is_sent_departs_from_the_grammar_in_given_names_alone(row: Deviant) -> None:
    try:
        sent = encode_command(row.command, 512)
    except LocalProtocolError:
        sent = b""
    assert (sent == row.wire) is (row.deviation in SENDABLE.accepts)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Ehlo(""), "no argument"),
        (XClient(), "no attribute"),
        (XClient(helo="a\r\nQUIT"), "a second command"),
        (XForward(helo="\ud800"), "what no octets spell"),
        (XForward(address="2001:DB8::1"), "an address that is not canonical"),
        (Ehlo("a\r\nQUIT"), "a second command"),
        (Ehlo("[2001:db8::1]"), "section 4.1.3: tolerated when heard, and never said"),
        (Ehlo("a."), "would come back without its dot"),
        (Helo("a b"), "two words"),
        (Lhlo("a b"), "two words"),
        (Auth(""), "no mechanism"),
        (Auth("plain"), "mechanisms are in upper case"),
        (Auth("PLAIN\r\nQUIT"), "a second command"),
        (Auth("PLAIN YQ=="), "a response inside the mechanism"),
        (Bdat(-1), "less than nothing"),
        (Bdat(2**63), "no counter holds it"),
        (Noop("a\nRSET"), "a second command"),
        (Noop(" x"), "would come back without its space"),
        (Noop("\xfc"), "8-bit"),
        (OwnCommand("XRUN", "a\r\nQUIT"), "a second command"),
        (OwnCommand("XRUN", " x"), "would come back without its space"),
        (OwnCommand("XRUN", "\xfc"), "8-bit"),
        (OwnCommand("xrun"), "verbs are in upper case"),
        (OwnCommand("XRUN x"), "an argument inside the verb"),
        (OwnCommand("XRUN\t"), "white space in it"),
        (Vrfy(""), "needs one"),
        (Vrfy("x SMTPUTF8"), "would come back as a flag"),
        (Mail(ReversePath(Mailbox("a", "b>c"))), "no domain"),
        (Mail(ReversePath(Mailbox("a\r\n", "b.example"))), "line breaks"),
        (Mail(ReversePath(Mailbox("postmaster", ""))), "only RCPT knows it"),
        (Mail(ReversePath(A), (("SIZE", "1 RET=FULL"),)), "a parameter inside a parameter"),
        (Mail(ReversePath(A), (("size", "1"),)), "keywords are in upper case"),
        (Mail(ReversePath(A), (("A", "1"), ("A", "1"))), "twice"),
        (Rcpt(ForwardPath(Mailbox("", ""))), "nobody"),
        (Rcpt(ForwardPath(Mailbox("\xfc", "b.example"))), "8-bit"),
    ],
)
def test_what_could_not_be_read_back_is_not_sent(command: Command, reason: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_command(command, 512)


U = Mailbox("\xe9", "b\xfccher.example")


@pytest.mark.parametrize(
    ("command", "octets", "reason"),
    [
        (
            Mail(ReversePath(U), (("SMTPUTF8", None),)),
            "MAIL FROM:<\xe9@b\xfccher.example> SMTPUTF8\r\n",
            "RFC 6531 section 3.3",
        ),
        (Mail(ReversePath(A), (("X", "\xe9"),)), "MAIL FROM:<a@b.example> X=\xe9\r\n", "esmtp-value"),
        (Rcpt(ForwardPath(U)), "RCPT TO:<\xe9@b\xfccher.example>\r\n", "both sides"),
        (Rcpt(ForwardPath(Mailbox("\xe9 \U0001f4e7", "x"))), 'RCPT TO:<"\xe9 \U0001f4e7"@x>\r\n', "quoted"),
        (Rcpt(ForwardPath(A), (("ORCPT", "utf-8;\xe9@x"),)), "RCPT TO:<a@b.example> ORCPT=utf-8;\xe9@x\r\n", "a value"),
        (Vrfy("\xe9", smtputf8=True), "VRFY \xe9 SMTPUTF8\r\n", "section 3.7.4.2"),
        (Expn("\xe9"), "EXPN \xe9\r\n", "the flag is about the reply"),
        (Noop("x"), "NOOP x\r\n", "ASCII as ever"),
    ],
)
def test_with_utf8_a_command_is_spelled_and_read_back(command: Command, octets: str, reason: str) -> None:
    line = octets.encode()
    assert encode_command(command, len(line), utf8=True) == line, reason
    assert parse_command(command.verb, line[:-2], utf8=True) == command
    with pytest.raises(LocalProtocolError):
        encode_command(command, len(line) - 1, utf8=True)


@pytest.mark.parametrize(
    ("line", "fault", "reason"),
    [
        (b"VRFY \xff", Fault.SYNTAX, "no UTF-8"),
        (b"VRFY \xc3", Fault.SYNTAX, "half a character"),
        (b"VRFY \xc0\xaf", Fault.SYNTAX, "too long a form"),
        (b"VRFY \xe0\x80\xaf", Fault.SYNTAX, "too long a form"),
        (b"VRFY \xed\xa0\x80", Fault.SYNTAX, "a surrogate"),
        (b"VRFY \xf4\x90\x80\x80", Fault.SYNTAX, "above U+10FFFF"),
        (b"VRFY \xc2\x85", Fault.SYNTAX, "NEL, a control"),
        (b"VRFY \xe2\x80\xa8", Fault.SYNTAX, "a line separator"),
        (b"VRFY \xc3\xa9\0", Fault.SYNTAX, "NUL beside it"),
        (b"VRFY \xc3\xa9\x7f", Fault.SYNTAX, "DEL beside it"),
        (b"VRFY \xc3\xa9 \r x", Fault.SYNTAX, "a CR beside it"),
        (b"NOOP \xc3\xa9", Fault.SYNTAX, "not in NOOP"),
        (b"HELP \xc3\xa9", Fault.SYNTAX, "nor HELP"),
        (b"EHLO b\xc3\xbccher.example", Fault.SYNTAX, "RFC 6531 section 3.7.1: A-labels"),
        (b"AUTH PLAIN \xc3\xa9", Fault.SYNTAX, "base64"),
        (b"RCPT TO:<a@\xf0\x9f\x93\xa7.example>", Fault.ADDRESS, "no U-label"),
        (b"MAIL FROM:<\xc3\xa9@x> \xc3\xa9=1", Fault.PARAMETER_SYNTAX, "a keyword is ASCII"),
        (b"MAIL \xc3\xa9", Fault.ARGUMENT, "no FROM:"),
    ],
)
def test_with_utf8_the_rest_of_the_grammar_holds(line: bytes, fault: Fault, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_command(find_verb(line), line, utf8=True)
    assert caught.value.fault is fault, reason


def test_a_lone_surrogate_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        encode_command(Vrfy("\ud800"), 512, utf8=True)


@pytest.mark.parametrize(
    ("command", "asked", "expected"),
    [
        (Mail.of(""), True, False),
        (Mail(ReversePath(None), (("SMTPUTF8", None),)), False, True),
        (Rcpt.of("a@b.example"), False, False),
        (Rcpt.of("a@b.example"), True, True),
        (Vrfy("x"), False, True),
        (Expn("x"), False, True),
        (Noop(), True, False),
        (AuthCancel(), True, False),
    ],
)
def test_what_need_not_be_ascii(command: Command, asked: bool, expected: bool) -> None:
    assert may_be_international(command, asked=asked) is expected


@pytest.mark.parametrize(
    ("verb", "fault", "code", "enhanced"),
    [
        (Verb.MAIL, Fault.NON_ASCII, 550, "5.6.7"),
        (Verb.RCPT, Fault.NON_ASCII, 553, "5.6.7"),
        (Verb.VRFY, Fault.PARAMETER_UNKNOWN, 504, "5.5.4"),
        (Verb.EXPN, Fault.PARAMETER_UNKNOWN, 504, "5.5.4"),
        (Verb.MAIL, Fault.PARAMETER_UNKNOWN, 555, "5.5.4"),
    ],
)
def test_what_smtputf8_out_of_place_has_earned(verb: Verb, fault: Fault, code: int, enhanced: str) -> None:
    reply = fault_reply(verb, fault)
    assert (reply.code, str(reply.enhanced)) == (code, enhanced)


@pytest.mark.parametrize(
    ("response", "octets", "reason"),
    [
        (AuthResponse(b"a"), b"YQ==\r\n", "base64"),
        (AuthResponse(b""), b"\r\n", "an empty one is an empty line"),
        (AuthResponse(b"\xff" * 3), b"////\r\n", "any octets"),
        (AuthCancel(), b"*\r\n", "RFC 4954 section 4"),
    ],
)
def test_how_a_response_is_spelled_and_read_back(
    response: AuthResponse | AuthCancel, octets: bytes, reason: str
) -> None:
    assert encode_command(response, 100) == octets, reason
    parsed = parse_response(octets[:-2])
    assert (parsed, parsed.deviations) == (response, frozenset())
    notes = Notes()
    notes.add(Deviation.BARE_LF)
    assert parse_response(octets[:-2], notes).deviations == {Deviation.BARE_LF}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"=", "only an initial response is spelled so"),
        (b"**", "one calls off"),
        (b"* ", "alone"),
        (b"YQ", "no padding"),
        (b"YQ===", "too much of it"),
        (b"YQ==YQ==", "text after the padding"),
        (b" YQ==", "a space"),
        (b"YQ== ", "a space"),
        (b"Y\rQ=", "a control"),
        (b"Y\0Q=", "NUL"),
        (b"\xe9Q==", "8-bit"),
        (b"-_-_", "the alphabet of URLs"),
    ],
)
def test_what_is_no_response(line: bytes, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_response(line)
    assert caught.value.fault is Fault.BASE64, reason


def test_a_response_is_as_long_as_allowed_and_no_longer() -> None:
    assert len(encode_command(AuthResponse(b"x" * 9213), 12_288)) == 12_286
    with pytest.raises(LocalProtocolError, match="12290 octets"):
        encode_command(AuthResponse(b"x" * 9216), 12_288)


def test_a_secret_that_cannot_be_sent_is_not_told() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_command(Auth("not one", b"secret"), 512)
    assert "secret" not in str(caught.value)


def test_a_line_is_as_long_as_allowed_and_no_longer() -> None:
    assert len(encode_command(Noop("x" * 505), 512)) == 512
    with pytest.raises(LocalProtocolError):
        encode_command(Noop("x" * 506), 512)


def test_every_row_has_a_command() -> None:
    assert {kind.verb for kind in get_args(Command)} == set(COMMANDS) | {Verb.RESPONSE}
    assert set(Verb) - set(COMMANDS) == {Verb.CONNECT, Verb.TLS, Verb.END, Verb.RESPONSE, Verb.CHUNK}


@pytest.mark.parametrize(
    ("verb", "success", "silence", "reason"),
    [
        (Verb.CONNECT, 220, 220, "goes on"),
        (Verb.EHLO, 250, 250, "goes on"),
        (Verb.HELO, 250, 250, "goes on"),
        (Verb.LHLO, 250, 250, "goes on"),
        (Verb.AUTH, 235, 535, "silence authenticates nobody"),
        (Verb.RESPONSE, 235, 535, "silence authenticates nobody"),
        (Verb.MAIL, 250, 250, "goes on"),
        (Verb.RCPT, 250, 550, "silence opens no relay"),
        (Verb.DATA, 354, 354, "goes on"),
        (Verb.END, 250, 451, "silence loses no mail"),
        (Verb.VRFY, 252, 252, "section 3.5.3: will try"),
        (Verb.EXPN, 250, 502, "section 3.5.3: switched off"),
        (Verb.OWN, 250, 451, "what was offered and nobody answers is our fault"),
    ],
)
def test_silence_is_never_a_yes(verb: Verb, success: int, silence: int, reason: str) -> None:
    verdict = VERDICTS[verb]
    assert (verdict.success.code, verdict.silence.code) == (success, silence), reason


def test_nothing_else_is_owed_a_verdict() -> None:
    assert {row.silence is not None for verb, row in COMMANDS.items() if verb in VERDICTS} == {True}
    unasked = {Verb.STARTTLS, Verb.RSET, Verb.NOOP, Verb.QUIT, Verb.HELP, Verb.BDAT, Verb.XCLIENT, Verb.XFORWARD}
    assert set(COMMANDS) - set(VERDICTS) == unasked


def test_what_may_be_pipelined_is_what_rfcs_2920_and_3030_say() -> None:
    grouped = {verb for verb, row in COMMANDS.items() if not row.ends_group}
    assert grouped == {Verb.MAIL, Verb.RCPT, Verb.RSET, Verb.BDAT}


def test_only_what_carries_a_message_is_waited_for_differently() -> None:
    waits = {verb: row.wait for verb, row in COMMANDS.items() if row.wait is not Wait.COMMAND}
    assert waits == {Verb.DATA: Wait.DATA, Verb.BDAT: Wait.END}


def test_junk_is_what_brings_no_mail_nearer() -> None:
    junk = {verb.name for verb, row in COMMANDS.items() if row.junk}
    assert junk == {"EHLO", "HELO", "LHLO", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "OWN"}


@pytest.mark.parametrize(
    ("verb", "fault", "code", "enhanced"),
    [
        (None, Fault.VERB_UNKNOWN, 500, "5.5.2"),
        (None, Fault.VERB_NOT_IMPLEMENTED, 502, "5.5.1"),
        (Verb.NOOP, Fault.SYNTAX, 500, "5.5.2"),
        (Verb.DATA, Fault.ARGUMENT, 501, "5.5.4"),
        (Verb.EHLO, Fault.ADDRESS, 501, "5.5.4"),
        (Verb.HELO, Fault.ADDRESS, 501, "5.5.4"),
        (Verb.LHLO, Fault.ADDRESS, 501, "5.5.4"),
        (Verb.AUTH, Fault.ARGUMENT, 501, "5.5.4"),
        (Verb.AUTH, Fault.BASE64, 501, "5.5.2"),
        (Verb.BDAT, Fault.CHUNK_SIZE, 501, "5.5.4"),
        (Verb.MAIL, Fault.ADDRESS, 501, "5.1.7"),
        (Verb.RCPT, Fault.ADDRESS, 501, "5.1.3"),
        (Verb.MAIL, Fault.PARAMETER_SYNTAX, 501, "5.5.4"),
        (Verb.MAIL, Fault.PARAMETER_VALUE, 501, "5.5.4"),
        (Verb.RCPT, Fault.PARAMETER_UNKNOWN, 555, "5.5.4"),
        (Verb.XCLIENT, Fault.PARAMETER_UNKNOWN, 501, "5.5.4"),
        (Verb.XFORWARD, Fault.PARAMETER_SYNTAX, 501, "5.5.4"),
    ],
)
def test_what_a_fault_has_earned(verb: Verb | None, fault: Fault, code: int, enhanced: str) -> None:
    reply = fault_reply(verb, fault)
    assert (reply.code, str(reply.enhanced)) == (code, enhanced)


def test_every_fault_of_a_command_has_a_reply() -> None:
    assert {fault for fault in Fault if not fault.name.startswith("REPLY_")} == set(FAULT_REPLIES)
