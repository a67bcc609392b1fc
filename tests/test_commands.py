"""The command vocabulary, alone: each line and what it means, and each command and how it is spelled."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._commands import (
    COMMANDS,
    FAULT_REPLIES,
    NOT_IMPLEMENTED,
    VERDICTS,
    Command,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Verb,
    Vrfy,
    Wait,
    encode_command,
    fault_reply,
    find_verb,
    parse_command,
)
from smtpstate._errors import Fault, GrammarError, LocalProtocolError
from smtpstate._params import BodyType

A = Mailbox("a", "b.example")


def parse(line: bytes) -> Command:
    return parse_command(find_verb(line), line)


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
        (b"DATA", Data(), "section 4.1.1.4"),
        (b"data\t", Data(), "a tab may trail, too"),
        (b"RSET", Rset(), "section 4.1.1.5"),
        (b"NOOP", Noop(), "section 4.1.1.9"),
        (b"NOOP what ever", Noop("what ever"), "its text means nothing"),
        (b"QUIT", Quit(), "section 4.1.1.10"),
        (b"VRFY a@b.example", Vrfy("a@b.example"), "section 4.1.1.6"),
        (b"EXPN list", Expn("list"), "section 4.1.1.7"),
        (b"HELP", Help(), "section 4.1.1.8"),
        (b"HELP MAIL", Help("MAIL"), "section 4.1.1.8"),
    ],
)
def test_what_a_line_means(line: bytes, command: Command, reason: str) -> None:
    parsed = parse(line)
    assert parsed == command, reason
    assert type(parsed) is type(command)
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
        (b"BDAT 0 LAST", Fault.VERB_NOT_IMPLEMENTED, "RFC 3030"),
        (b"auth plain", Fault.VERB_NOT_IMPLEMENTED, "RFC 4954, any case"),
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
        (b"MAIL FROM:a@b.example", Fault.ARGUMENT, "no brackets"),
        (b"MAIL FROM:  <a@b.example>", Fault.ARGUMENT, "one space is tolerated, two are not"),
        (b"MAIL  FROM:<a@b.example>", Fault.ARGUMENT, "one SP"),
        (b"MAIL TO:<a@b.example>", Fault.ARGUMENT, "the other one's keyword"),
        (b"RCPT", Fault.ARGUMENT, "no TO:"),
        (b"RCPT TO:a@b.example", Fault.ARGUMENT, "no brackets"),
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


def test_upper_case_is_a_matter_of_ascii() -> None:
    """In latin-1 the sharp s is one letter, whose upper case is two."""
    for octet in range(0x80, 0x100):
        with pytest.raises(GrammarError):
            find_verb(b"HE" + bytes([octet]) + b"P")


@pytest.mark.parametrize("verb", NOT_IMPLEMENTED)
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
        (Help(), b"HELP\r\n", "none"),
        (Help("x"), b"HELP x\r\n", "text"),
    ],
)
def test_how_a_command_is_spelled_and_read_back(command: Command, octets: bytes, reason: str) -> None:
    assert encode_command(command, len(octets)) == octets, reason
    assert parse(octets[:-2]) == command


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Ehlo(""), "no argument"),
        (Ehlo("a\r\nQUIT"), "a second command"),
        (Helo("a b"), "two words"),
        (Noop("a\nRSET"), "a second command"),
        (Noop(" x"), "would come back without its space"),
        (Noop("\xfc"), "8-bit"),
        (Vrfy(""), "needs one"),
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


def test_a_line_is_as_long_as_allowed_and_no_longer() -> None:
    assert len(encode_command(Noop("x" * 505), 512)) == 512
    with pytest.raises(LocalProtocolError):
        encode_command(Noop("x" * 506), 512)


@pytest.mark.parametrize("address", ["a", "a@", "@b", "<a@b>", "a@b\r\n", "a b@c", "\xfc@b.example", ""])
def test_what_is_no_mailbox_is_the_callers_mistake(address: str) -> None:
    with pytest.raises(LocalProtocolError):
        Rcpt.of(address)
    if address:
        with pytest.raises(LocalProtocolError):
            Mail.of(address)


def test_mail_knows_its_parameters() -> None:
    bare = Mail.of("a@b.example")
    assert (bare.size, bare.body) == (None, None)
    full = parse(b"MAIL FROM:<a@b.example> SIZE=00012 BODY=7bit")
    assert isinstance(full, Mail)
    assert (full.size, full.body) == (12, BodyType.SEVENBIT)


def test_what_only_the_receiver_knows_does_not_compare() -> None:
    assert Noop("x", raw=b"noop x") == Noop("x")
    assert EndOfMessage(size=5) == EndOfMessage()
    assert len({Ehlo("a"), Helo("a"), Ehlo("a", raw=b"ehlo a")}) == 2


@pytest.mark.parametrize("kind", get_args(Command))
def test_every_command_has_a_verb_with_a_row_and_keeps_its_line(kind: type[Command]) -> None:
    assert kind.verb in COMMANDS
    raw = {field.name: field for field in fields(kind)}["raw"]
    assert (raw.compare, raw.repr) == (False, False)


def test_every_row_has_a_command() -> None:
    assert {kind.verb for kind in get_args(Command)} == set(COMMANDS)
    assert set(Verb) - set(COMMANDS) == {Verb.CONNECT, Verb.TLS, Verb.END}


@pytest.mark.parametrize(
    ("verb", "success", "silence", "reason"),
    [
        (Verb.CONNECT, 220, 220, "goes on"),
        (Verb.EHLO, 250, 250, "goes on"),
        (Verb.HELO, 250, 250, "goes on"),
        (Verb.MAIL, 250, 250, "goes on"),
        (Verb.RCPT, 250, 550, "silence opens no relay"),
        (Verb.DATA, 354, 354, "goes on"),
        (Verb.END, 250, 451, "silence loses no mail"),
        (Verb.VRFY, 252, 252, "section 3.5.3: will try"),
        (Verb.EXPN, 250, 502, "section 3.5.3: switched off"),
    ],
)
def test_silence_is_never_a_yes(verb: Verb, success: int, silence: int, reason: str) -> None:
    verdict = VERDICTS[verb]
    assert (verdict.success.code, verdict.silence.code) == (success, silence), reason


def test_nothing_else_is_owed_a_verdict() -> None:
    assert {row.silence is not None for verb, row in COMMANDS.items() if verb in VERDICTS} == {True}
    assert set(COMMANDS) - set(VERDICTS) == {Verb.STARTTLS, Verb.RSET, Verb.NOOP, Verb.QUIT, Verb.HELP}


def test_what_may_be_pipelined_is_what_rfc_2920_says() -> None:
    assert {verb for verb, row in COMMANDS.items() if not row.ends_group} == {Verb.MAIL, Verb.RCPT, Verb.RSET}


def test_only_data_is_waited_for_differently() -> None:
    assert {verb: row.wait for verb, row in COMMANDS.items() if row.wait is not Wait.COMMAND} == {Verb.DATA: Wait.DATA}


def test_junk_is_what_brings_no_mail_nearer() -> None:
    junk = {verb.name for verb, row in COMMANDS.items() if row.junk}
    assert junk == {"EHLO", "HELO", "RSET", "NOOP", "VRFY", "EXPN", "HELP"}


@pytest.mark.parametrize(
    ("verb", "fault", "code", "enhanced"),
    [
        (None, Fault.VERB_UNKNOWN, 500, "5.5.2"),
        (None, Fault.VERB_NOT_IMPLEMENTED, 502, "5.5.1"),
        (Verb.NOOP, Fault.SYNTAX, 500, "5.5.2"),
        (Verb.DATA, Fault.ARGUMENT, 501, "5.5.4"),
        (Verb.EHLO, Fault.ADDRESS, 501, "5.5.4"),
        (Verb.HELO, Fault.ADDRESS, 501, "5.5.4"),
        (Verb.MAIL, Fault.ADDRESS, 501, "5.1.7"),
        (Verb.RCPT, Fault.ADDRESS, 501, "5.1.3"),
        (Verb.MAIL, Fault.PARAMETER_SYNTAX, 501, "5.5.4"),
        (Verb.MAIL, Fault.PARAMETER_VALUE, 501, "5.5.4"),
        (Verb.RCPT, Fault.PARAMETER_UNKNOWN, 555, "5.5.4"),
    ],
)
def test_what_a_fault_has_earned(verb: Verb | None, fault: Fault, code: int, enhanced: str) -> None:
    reply = fault_reply(verb, fault)
    assert (reply.code, str(reply.enhanced)) == (code, enhanced)


def test_every_fault_of_a_command_has_a_reply() -> None:
    assert {fault for fault in Fault if not fault.name.startswith("REPLY_")} == set(FAULT_REPLIES)
