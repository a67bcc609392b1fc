"""Parameters of MAIL and RCPT."""

from __future__ import annotations

from typing import Final

from tests.differential.rows import BODY, DATA, EHLO, HELO, MAIL, MESSAGE, RCPT, Session, refused, session


def _mail(
    name: str, parameters: bytes, ours: str, reason: str, postfix: str | None = None, differs: str = ""
) -> Session:
    line = b"MAIL FROM:<a@example.com>" + parameters + b"\r\n"
    rest = (RCPT, DATA, BODY) if ours == "2" and postfix in ("2", None) else ()
    return session(f"MAIL {name}", reason, EHLO, (line, ours, postfix), *rest, differs=differs)


def _rcpt(
    name: str, parameters: bytes, ours: str, reason: str, postfix: str | None = None, differs: str = ""
) -> Session:
    line = b"RCPT TO:<b@example.org>" + parameters + b"\r\n"
    return session(f"RCPT {name}", reason, EHLO, MAIL, (line, ours, postfix), differs=differs)


PARAMETERS: Final = (
    _mail("SIZE", b" SIZE=100", "2", "RFC 1870"),
    _mail("SIZE of nothing", b" SIZE=0", "2", "RFC 1870 section 3: a number"),
    _mail("SIZE in lower case", b" size=100", "2", "RFC 5321 section 2.4: keywords have no case"),
    _mail("SIZE at the limit", b" SIZE=%d" % MESSAGE, "2", "RFC 1870 section 6.1"),
    _mail("SIZE over the limit", b" SIZE=%d" % (MESSAGE + 1), "5", "RFC 1870 section 6.1: 552"),
    _mail("SIZE of 20 digits", b" SIZE=" + b"9" * 20, "5", "RFC 1870 section 3: 1*20DIGIT, and too large"),
    _mail("SIZE of 21 digits", b" SIZE=" + b"9" * 21, "5", "RFC 1870 section 3: 1*20DIGIT"),
    _mail("SIZE with zeros in front", b" SIZE=00000100", "2", "RFC 1870 section 3: digits"),
    _mail("SIZE below nothing", b" SIZE=-1", "5", "RFC 1870 section 3: digits"),
    _mail("SIZE with a plus", b" SIZE=+1", "5", "RFC 1870 section 3: digits"),
    _mail("SIZE of letters", b" SIZE=abc", "5", "RFC 1870 section 3: digits"),
    _mail("SIZE with a unit", b" SIZE=100k", "5", "RFC 1870 section 3: digits"),
    _mail("SIZE without a value", b" SIZE=", "5", "RFC 5321 section 4.1.2: esmtp-value has one octet at least"),
    _mail("SIZE without an equals sign", b" SIZE", "5", "RFC 1870 section 3: a number"),
    _mail(
        "SIZE twice",
        b" SIZE=1 SIZE=2",
        "5",
        "RFC 5321 section 4.1.1.11: no parameter more than once",
        "2",
        "Postfix takes the last one",
    ),
    _mail("BODY=7BIT", b" BODY=7BIT", "2", "RFC 6152"),
    _mail("BODY=8BITMIME", b" BODY=8BITMIME", "2", "RFC 6152"),
    _mail("BODY in lower case", b" body=8bitmime", "2", "RFC 6152: neither has a case"),
    _mail("BODY of another kind", b" BODY=9BIT", "5", "RFC 6152: one of two"),
    _mail("BODY=BINARYMIME", b" BODY=BINARYMIME", "5", "RFC 3030: not offered"),
    _mail("BODY without a value", b" BODY", "5", "RFC 6152: one of two"),
    _mail(
        "BODY twice",
        b" BODY=7BIT BODY=8BITMIME",
        "5",
        "RFC 5321 section 4.1.1.11: no parameter more than once",
        "2",
        "Postfix takes the last one",
    ),
    _mail("SIZE and BODY", b" SIZE=100 BODY=8BITMIME", "2", "two of them"),
    _mail("BODY and SIZE", b" BODY=8BITMIME SIZE=100", "2", "in any order"),
    _mail("of no extension", b" FOO=bar", "5", "RFC 5321 section 4.1.1.11: 555"),
    _mail("of no extension, without a value", b" FOO", "5", "RFC 5321 section 4.1.1.11: 555"),
    _mail("after two blanks", b"  SIZE=100", "2", "a run of SP cannot mean anything else"),
    _mail(
        "after a tab",
        b"\tSIZE=100",
        "5",
        "RFC 5321 section 4.1.1.2: SP",
        "2",
        "RFC 5321 section 4.1.1 has one SP; Postfix takes any white space apart",
    ),
    _mail("with blanks around the equals sign", b" SIZE = 100", "5", "RFC 5321 section 4.1.2"),
    _mail("with an equals sign in front", b" =100", "5", "RFC 5321 section 4.1.2: esmtp-keyword"),
    _mail("with two equals signs", b" SIZE=1=2", "5", "RFC 5321 section 4.1.2: esmtp-value has none"),
    _mail("in brackets", b" <x>", "5", "RFC 5321 section 4.1.2: esmtp-keyword"),
    _mail("RET where DSN is not offered", b" RET=HDRS", "5", "RFC 3461: not offered"),
    _mail("ENVID where DSN is not offered", b" ENVID=x", "5", "RFC 3461: not offered"),
    _mail(
        "AUTH where AUTH is not offered",
        b" AUTH=<>",
        "5",
        "RFC 4954: not offered",
        "2",
        "Postfix reads it and forgets it; RFC 5321 section 4.1.1.11 says 555",
    ),
    _mail("SMTPUTF8 where it is not offered", b" SMTPUTF8", "5", "RFC 6531: not offered"),
    _mail("REQUIRETLS where it is not offered", b" REQUIRETLS", "5", "RFC 8689: not offered"),
    _mail("NOTIFY", b" NOTIFY=NEVER", "5", "RFC 3461: RCPT has it"),
    _mail("8 bits in a value", b" FOO=\xc3\xb6", "5", "RFC 5321 section 4.1.2: esmtp-value is ASCII"),
    _rcpt("NOTIFY where DSN is not offered", b" NOTIFY=NEVER", "5", "RFC 3461: not offered"),
    _rcpt("ORCPT where DSN is not offered", b" ORCPT=rfc822;b@example.org", "5", "RFC 3461: not offered"),
    _rcpt("SIZE", b" SIZE=100", "5", "RFC 1870: MAIL has it"),
    _rcpt("of no extension", b" FOO=bar", "5", "RFC 5321 section 4.1.1.11: 555"),
    _rcpt("after two blanks", b"  ", "2", "nothing but white space"),
    session(
        "SIZE after HELO",
        "RFC 5321 section 4.1.1.1: HELO offers nothing",
        HELO,
        (b"MAIL FROM:<a@example.com> SIZE=100\r\n", "5", "2"),
        differs="Postfix takes parameters after HELO; RFC 5321 section 4.1.1.11 says 555 for what was not offered",
    ),
    session(
        "BODY after HELO",
        "RFC 5321 section 4.1.1.1: HELO offers nothing",
        HELO,
        (b"MAIL FROM:<a@example.com> BODY=8BITMIME\r\n", "5", "2"),
        differs="Postfix takes parameters after HELO; RFC 5321 section 4.1.1.11 says 555 for what was not offered",
    ),
    session(
        "a parameter of the null path",
        "the path is over at its bracket",
        EHLO,
        (b"MAIL FROM:<> SIZE=100\r\n", "2"),
        RCPT,
        DATA,
        BODY,
    ),
    session(
        "a refused parameter opens nothing",
        "RFC 5321 section 4.1.4",
        EHLO,
        (b"MAIL FROM:<a@example.com> FOO\r\n", "5"),
        refused(RCPT),
        MAIL,
        RCPT,
        DATA,
        BODY,
    ),
)
