"""The syntax of commands: one row in COMMANDS for each verb, lines to commands and back, and what is said to either."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate._abnf import HELLO_UNTAGGED, IPV4_ADDRESS_LITERAL, IPV6_ADDRESS_LITERAL, UTF8_NON_ASCII
from smtpstate._address import MAX_DOMAIN, Mailbox, parse_domain_or_literal, parse_forward_path, parse_reverse_path
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
    name_of,
)
from smtpstate._errors import Fault, GrammarError, LocalProtocolError
from smtpstate._params import Parameters, split_parameters
from smtpstate._policy import SENDABLE, Deviation, Notes
from smtpstate._replies import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Container

# A row's parser: the argument without the white space around it, the whole line, and where to note deviations.
Parse: TypeAlias = "Callable[[str, bytes, Notes], Command]"


@final
@dataclass(frozen=True, slots=True)
class Row:
    """What there is to know about a verb.

    `success` is what `accept()` says, or what the core says by itself. `silence` is the verdict when nobody gives
    one; None where none is owed. `ends_group` marks the verbs after which a pipelining sender has to wait (RFC 2920
    section 3.1). `junk` marks those that bring no mail nearer. `bad_address` is what a malformed path or domain earns
    where it is not the usual.
    """

    parse: Parse
    success: Reply
    silence: Reply | None = None
    ends_group: bool = True
    wait: Wait = Wait.COMMAND
    junk: bool = False
    bad_address: Reply | None = None


def _bare(make: Callable[[bytes, frozenset[Deviation]], Command]) -> Parse:
    """A verb without an argument."""

    def parse(argument: str, raw: bytes, notes: Notes) -> Command:
        if argument:
            raise GrammarError(Fault.ARGUMENT)
        return make(raw, notes.flagged)

    return parse


def _hello(make: Callable[[str, bytes, frozenset[Deviation]], Command], *, literals: bool = True) -> Parse:
    """ehlo = "EHLO" SP ( Domain / address-literal ) CRLF; helo = "HELO" SP Domain CRLF; LHLO is as EHLO."""

    def parse(argument: str, raw: bytes, notes: Notes) -> Command:
        domain = argument
        if len(argument) <= MAX_DOMAIN and _UNTAGGED.fullmatch(argument):
            notes.add(Deviation.HELLO_UNTAGGED)
        else:
            domain = parse_domain_or_literal(argument if argument.endswith("].") else argument.removesuffix("."))
            if domain != argument:
                notes.add(Deviation.HELLO_DOT)
            if "_" in domain and domain[0] != "[":
                notes.add(Deviation.HELLO_UNDERSCORE)
            _note_literal(domain, notes)
        if domain[0] == "[" and not literals:
            notes.add(Deviation.HELO_LITERAL)
        return make(domain, raw, notes.flagged)

    return parse


def _string(make: Callable[[str, bytes, frozenset[Deviation]], Command]) -> Parse:
    """A verb with a text, which is taken as it is: the "String" of section 4.1.2 has no room for what 3.5.1 shows."""

    def parse(argument: str, raw: bytes, notes: Notes) -> Command:
        return make(argument, raw, notes.flagged)

    return parse


def _attributes(parse_attributes: Callable[[str, bytes, frozenset[Deviation]], Command]) -> Parse:
    def parse(argument: str, raw: bytes, notes: Notes) -> Command:
        return parse_attributes(f" {argument}", raw, notes.flagged)

    return parse


def _parse_own(argument: str, raw: bytes, notes: Notes) -> Command:
    return OwnCommand(first_word(raw), argument, raw, notes.flagged)


# vrfy = "VRFY" SP String [SP "SMTPUTF8"] CRLF; expn likewise (RFC 6531 section 3.7.4.2).
_FLAG: Final = re.compile(r"[ \t]SMTPUTF8\Z", re.IGNORECASE | re.ASCII)


def _question(make: type[Vrfy | Expn]) -> Parse:
    def parse(argument: str, raw: bytes, notes: Notes) -> Command:
        if not argument:
            raise GrammarError(Fault.ARGUMENT)
        flag = _FLAG.search(argument)
        text = argument[: flag.start()].rstrip(" \t") if flag else argument
        return make(text, raw, notes.flagged, flag is not None)

    return parse


_UNTAGGED: Final = re.compile(HELLO_UNTAGGED)
_KNOWN_LITERAL: Final = re.compile(rf"\[(?:{IPV4_ADDRESS_LITERAL}|{IPV6_ADDRESS_LITERAL})\]")
_LONG: Final = 64  # octets of local part; section 4.5.3.1.1


def _note_literal(domain: str, notes: Notes) -> None:
    if domain.startswith("[") and _KNOWN_LITERAL.fullmatch(domain) is None:
        notes.add(Deviation.UNKNOWN_LITERAL)


# mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF; rcpt likewise with "TO:". Nothing may stand between
# the colon and the path.
_FROM: Final = re.compile(r"FROM:( *)(?=.)", re.IGNORECASE)
_TO: Final = re.compile(r"TO:( *)(?=.)", re.IGNORECASE)


def _after(keyword: re.Pattern[str], argument: str, notes: Notes) -> str:
    """What stands behind the colon: a path, put into brackets where it has none, and parameters."""
    match = keyword.match(argument)
    if match is None:
        raise GrammarError(Fault.ARGUMENT)
    if match[1]:
        notes.add(Deviation.SPACE_AFTER_COLON)
    text = argument[match.end() :]
    if text[0] != "<":
        notes.add(Deviation.NO_BRACKETS)
        word, space, rest = text.partition(" ")
        text = f"<{word}>{space}{rest}"
    return text


def _note_path(text: str, rest: str, mailbox: Mailbox | None, notes: Notes) -> None:
    """The deviations of a path and of the white space behind it."""
    if text.startswith("<@"):
        notes.add(Deviation.SOURCE_ROUTE)
    if mailbox is not None:
        if len(mailbox.local_part.encode()) > _LONG:
            notes.add(Deviation.LONG_LOCAL_PART)
        _note_literal(mailbox.domain, notes)
    _note_words(rest, notes)


def _note_words(text: str, notes: Notes) -> None:
    if "  " in text:
        notes.add(Deviation.EXTRA_SPACE)


def _parse_mail(argument: str, raw: bytes, notes: Notes) -> Command:
    text = _after(_FROM, argument, notes)
    utf8 = not argument.isascii()  # the grammars differ in nothing else, and whether it may be was settled before
    path, rest = parse_reverse_path(text, utf8=utf8)
    parameters = split_parameters(rest, utf8=utf8)
    _note_path(text, rest, path.mailbox, notes)
    return Mail(path, parameters, raw, notes.flagged)


def _parse_rcpt(argument: str, raw: bytes, notes: Notes) -> Command:
    text = _after(_TO, argument, notes)
    utf8 = not argument.isascii()
    path, rest = parse_forward_path(text, utf8=utf8)
    parameters = split_parameters(rest, utf8=utf8)
    _note_path(text, rest, path.mailbox, notes)
    return Rcpt(path, parameters, raw, notes.flagged)


# auth-command = "AUTH" SP sasl-mech [SP initial-response]; sasl-mech is 1*20 of upper case, digits, "-" and "_", and
# compared without case here; initial-response is base64, or "=" for an empty one (RFC 4954 section 8).
_AUTH: Final = re.compile(r"([A-Z0-9_-]{1,20})(?: +([^ \t]+))?", re.IGNORECASE | re.ASCII)
# bdat-cmd = "BDAT" SP chunk-size [SP end-marker]; a size that no counter could hold is none (RFC 3030 section 2).
_BDAT: Final = re.compile(r"([0-9]{1,19})(?: +(LAST))?", re.IGNORECASE | re.ASCII)
_LARGEST_CHUNK: Final = 2**63 - 1


def decode_base64(text: str) -> bytes:
    """The octets behind strict base64 (RFC 4648 section 4): padded, nothing else in it. Raises GrammarError."""
    try:
        return b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; and so is what is not ASCII
        raise GrammarError(Fault.BASE64) from None


def _parse_auth(argument: str, raw: bytes, notes: Notes) -> Command:
    match = _AUTH.fullmatch(argument)
    if match is None:
        raise GrammarError(Fault.ARGUMENT)
    mechanism, response = match.groups()
    if mechanism != mechanism.upper():
        notes.add(Deviation.LOWER_CASE_MECHANISM)
    _note_words(argument, notes)
    if response is None or response == "=":
        return Auth(mechanism.upper(), None if response is None else b"", raw, notes.flagged)
    return Auth(mechanism.upper(), decode_base64(response), raw, notes.flagged)


def _parse_bdat(argument: str, raw: bytes, notes: Notes) -> Command:
    match = _BDAT.fullmatch(argument)
    if match is None or int(match[1]) > _LARGEST_CHUNK:
        raise GrammarError(Fault.CHUNK_SIZE)
    _note_words(argument, notes)
    return Bdat(int(match[1]), match[2] is not None, raw, notes.flagged)


def parse_response(line: bytes, notes: Notes | None = None) -> AuthResponse | AuthCancel:
    """A line of an AUTH exchange, without its ending: base64, or a lone "*". Raises GrammarError.

    What `notes` has flagged of it goes into its `deviations`.
    """
    flagged = (notes or Notes()).flagged
    if line == b"*":
        return AuthCancel(flagged)
    return AuthResponse(decode_base64(line.decode("latin-1")), flagged)


_HELLO_OK: Final = Reply(250)
_BAD_HELLO: Final = Reply(501, "A domain or an address literal is needed", enhanced="5.5.4")
_SENDER_OK: Final = Reply(250, "Sender accepted", enhanced="2.1.0")
AUTHENTICATED: Final = Reply(235, "Authenticated", enhanced="2.7.0")
NOT_AUTHENTICATED: Final = Reply(535, "Authentication failed", enhanced="5.7.8")
AUTH_CANCELLED: Final = Reply(501, "Authentication cancelled", enhanced="5.7.0")
CHUNK_TAKEN: Final = Reply(250, "Chunk taken", enhanced="2.0.0")
LOCAL_ERROR: Final = Reply(451, "Local error in processing", enhanced="4.3.0")
_SEND_BODY: Final = Reply(354, "End the message with <CRLF>.<CRLF>")

COMMANDS: Final[dict[Verb, Row]] = {
    Verb.EHLO: Row(_hello(Ehlo), _HELLO_OK, _HELLO_OK, junk=True, bad_address=_BAD_HELLO),
    Verb.HELO: Row(_hello(Helo, literals=False), _HELLO_OK, _HELLO_OK, junk=True, bad_address=_BAD_HELLO),
    Verb.LHLO: Row(_hello(Lhlo), _HELLO_OK, _HELLO_OK, junk=True, bad_address=_BAD_HELLO),
    Verb.AUTH: Row(_parse_auth, AUTHENTICATED, NOT_AUTHENTICATED),
    # The octets follow at once, so nothing is owed: every chunk is answered at its end (see CHUNK and END).
    Verb.BDAT: Row(_parse_bdat, CHUNK_TAKEN, ends_group=False, wait=Wait.END),
    Verb.STARTTLS: Row(_bare(StartTls), Reply(220, "Begin TLS", enhanced="2.0.0")),
    Verb.MAIL: Row(
        _parse_mail,
        _SENDER_OK,
        _SENDER_OK,
        ends_group=False,
        bad_address=Reply(501, "Malformed sender address", enhanced="5.1.7"),
    ),
    Verb.RCPT: Row(
        _parse_rcpt,
        Reply(250, "Recipient accepted", enhanced="2.1.5"),
        Reply(550, "Recipient not accepted", enhanced="5.7.1"),
        ends_group=False,
    ),
    Verb.DATA: Row(_bare(Data), _SEND_BODY, _SEND_BODY, wait=Wait.DATA),
    Verb.RSET: Row(_bare(Rset), Reply(250, "Reset", enhanced="2.0.0"), ends_group=False, junk=True),
    Verb.NOOP: Row(_string(Noop), Reply(250, "OK", enhanced="2.0.0"), junk=True),
    Verb.QUIT: Row(_bare(Quit), Reply(221, "Bye", enhanced="2.0.0")),
    Verb.VRFY: Row(
        _question(Vrfy),
        Reply(252, "Send some mail, and it will be tried", enhanced="2.5.2"),
        Reply(252, "Send some mail, and it will be tried", enhanced="2.5.2"),
        junk=True,
    ),
    Verb.EXPN: Row(
        _question(Expn),
        Reply(250, "OK", enhanced="2.0.0"),
        Reply(502, "EXPN is not available", enhanced="5.5.1"),
        junk=True,
    ),
    Verb.HELP: Row(_string(Help), Reply(214, "RFC 5321 has all the help there is", enhanced="2.0.0"), junk=True),
    # Nothing is owed for the command itself: the peer that it names is greeted, and that is the answer.
    Verb.XCLIENT: Row(_attributes(XClient.parse), Reply(220)),
    Verb.XFORWARD: Row(_attributes(XForward.parse), Reply(250, "Noted", enhanced="2.0.0")),
    # Whoever offers one has to answer it: that nobody does is our fault, and not the sender's.
    Verb.OWN: Row(_parse_own, Reply(250, "OK", enhanced="2.0.0"), LOCAL_ERROR, junk=True),
}

# What is answered although nobody asked for it in words. A message that nobody took is not ours: 451.
GREETING: Final = Reply(220)
MESSAGE_ACCEPTED: Final = Reply(250, "Message accepted", enhanced="2.0.0")


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said to a verb that is owed a verdict: yes, and what silence means."""

    success: Reply
    silence: Reply


VERDICTS: Final[dict[Verb, Verdict]] = {
    Verb.CONNECT: Verdict(GREETING, GREETING),
    Verb.END: Verdict(MESSAGE_ACCEPTED, LOCAL_ERROR),
    Verb.RESPONSE: Verdict(AUTHENTICATED, NOT_AUTHENTICATED),
    **{verb: Verdict(row.success, row.silence) for verb, row in COMMANDS.items() if row.silence is not None},
}

ATTRIBUTE_VERBS: Final = frozenset({Verb.XCLIENT, Verb.XFORWARD})
ATTRIBUTE_LINE: Final = 512  # octets of their lines that any receiver takes, CRLF included; XFORWARD_README

_VERBS: Final[dict[str, Verb]] = {verb.name: verb for verb in COMMANDS if verb is not Verb.OWN}
# Verbs that RFCs define and no configuration here enables: known, so 502 and not 500 (section 4.2.4).
NOT_IMPLEMENTED: Final = frozenset({"ATRN", "BURL", "ETRN", "SAML", "SEND", "SOML", "TURN"})

# Syntax faults and what they earn. What a malformed address earns may stand in a row.
FAULT_REPLIES: Final[dict[Fault, Reply]] = {
    Fault.SYNTAX: Reply(500, "Syntax error", enhanced="5.5.2"),
    Fault.VERB_UNKNOWN: Reply(500, "Command not recognised", enhanced="5.5.2"),
    Fault.VERB_NOT_IMPLEMENTED: Reply(502, "Command not implemented", enhanced="5.5.1"),
    Fault.ARGUMENT: Reply(501, "Syntax error in the argument", enhanced="5.5.4"),
    Fault.BASE64: Reply(501, "That is not base64", enhanced="5.5.2"),
    Fault.CHUNK_SIZE: Reply(501, "Chunk size not understood", enhanced="5.5.4"),
    Fault.ADDRESS: Reply(501, "Malformed address", enhanced="5.1.3"),
    Fault.PARAMETER_SYNTAX: Reply(501, "Syntax error in the parameters", enhanced="5.5.4"),
    Fault.PARAMETER_VALUE: Reply(501, "Parameter value not understood", enhanced="5.5.4"),
    Fault.PARAMETER_UNKNOWN: Reply(555, "Parameter not recognised or not offered", enhanced="5.5.4"),
    Fault.NON_ASCII: Reply(553, "This address needs SMTPUTF8, which MAIL did not ask for", enhanced="5.6.7"),
}
# RFC 6531 section 3.5 has a code of its own for MAIL, RFC 5321 section 4.2.2 for parameters of other verbs.
_OTHER_REPLIES: Final[dict[tuple[Verb | None, Fault], Reply]] = {
    (Verb.MAIL, Fault.NON_ASCII): Reply(550, "This address needs SMTPUTF8, which was not asked for", enhanced="5.6.7"),
    **{
        (verb, Fault.PARAMETER_UNKNOWN): Reply(504, "SMTPUTF8 is not offered", enhanced="5.5.4")
        for verb in (Verb.VRFY, Verb.EXPN)
    },
}

# What may hold UTF-8 under SMTPUTF8: RFC 6531 sections 3.3 and 3.7.4.2.
_INTERNATIONAL: Final = frozenset({Verb.MAIL, Verb.RCPT, Verb.VRFY, Verb.EXPN})
# VCHAR, SP and HT: nothing else may stand in a command line (section 4.1.2; NUL, stray CR and 8-bit octets never).
# UTF-8 beside them only where SMTPUTF8 allows it, and then strictly: RFC 6531 section 3.3, RFC 3629 section 4.
_CLEAN: Final = re.compile(rb"[\t\x20-\x7e]*")
_CLEAN_UTF8: Final = re.compile(rf"(?:[\t\x20-\x7e]|{UTF8_NON_ASCII})*")


def first_word(line: bytes) -> str:
    """What stands in `line`, without its ending, where a verb should; in upper case."""
    # Upper case is made of octets: latin-1 text has letters of which upper() makes others.
    return line.split(b" ", 1)[0].rstrip(b"\t").upper().decode("latin-1")


def find_verb(line: bytes, own: Container[str] = ()) -> Verb:
    """The verb that `line` begins with; OWN for one of those named in `own`. Raises GrammarError."""
    word = first_word(line)
    verb = Verb.OWN if word in own else _VERBS.get(word)
    if verb is None:
        raise GrammarError(Fault.VERB_NOT_IMPLEMENTED if word in NOT_IMPLEMENTED else Fault.VERB_UNKNOWN)
    return verb


def parse_command(verb: Verb, line: bytes, notes: Notes | None = None, *, utf8: bool = False) -> Command:
    """The command in `line`, which begins with `verb`. Raises GrammarError.

    How it departs from the grammar goes into `notes`, and from there into the command's `deviations`. White space
    around the argument is no part of it. `utf8` reads UTF-8 where SMTPUTF8 would have it; whether that was asked for is
    for `may_be_international` to say.
    """
    notes = notes or Notes()
    text = _text(line, utf8=utf8 and verb in _INTERNATIONAL)[len(first_word(line)) :]
    argument = text.strip(" \t")
    if text[-1:] in (" ", "\t"):
        notes.add(Deviation.TRAILING_SPACE)
    if argument and len(text) - len(text.lstrip(" \t")) > 1:
        notes.add(Deviation.EXTRA_SPACE)
    return COMMANDS[verb].parse(argument, line, notes)


def _text(line: bytes, *, utf8: bool) -> str:
    if _CLEAN.fullmatch(line) is not None:
        return line.decode("ascii")
    try:
        text = line.decode("utf-8") if utf8 else ""
    except UnicodeDecodeError:
        text = ""
    if not text or _CLEAN_UTF8.fullmatch(text) is None:
        raise GrammarError(Fault.SYNTAX)
    return text


def may_be_international(command: Command, *, asked: bool) -> bool:
    """Whether its line need not be ASCII, where SMTPUTF8 is offered; `asked` says that the open transaction asked.

    RFC 6531 section 3.4. VRFY and EXPN may always: their flag is about the reply (section 3.7.4.2).
    """
    match command:
        case Mail():
            return command.smtputf8
        case Rcpt():
            return asked
        case _:
            return command.verb in _INTERNATIONAL


def fault_reply(verb: Verb | None, fault: Fault) -> Reply:
    """The reply that a syntax fault has earned."""
    row = None if verb is None else COMMANDS[verb]
    if fault is Fault.ADDRESS and row is not None and row.bad_address is not None:
        return row.bad_address
    if fault is Fault.PARAMETER_UNKNOWN and verb in ATTRIBUTE_VERBS:
        fault = Fault.PARAMETER_VALUE  # 555 is for MAIL and RCPT (RFC 5321 section 4.1.1.11)
    return _OTHER_REPLIES.get((verb, fault), FAULT_REPLIES[fault])


def _parameters(parameters: Parameters) -> str:
    return "".join(f" {keyword}" if value is None else f" {keyword}={value}" for keyword, value in parameters)


def encode_command(command: Command, limit: int, *, utf8: bool = False) -> bytes:
    """The line for `command`, its CRLF included, `limit` octets at most; ASCII, or UTF-8 with `utf8`.

    Whatever could not be read back as the same command is not sent, nor what departs from the grammar for another
    reason than a name that it was given (SENDABLE): LocalProtocolError.
    """
    match command:
        case Ehlo(domain) | Helo(domain) | Lhlo(domain):
            argument = " " + domain
        case Auth(mechanism, response):
            argument = f" {mechanism}" + ("" if response is None else f" {_base64(response) or '='}")
        case AuthResponse(data):
            return _limited(_base64(data).encode() + b"\r\n", limit)
        case AuthCancel():
            return b"*\r\n"
        case Bdat(size, last):
            argument = f" {size}" + (" LAST" if last else "")
        case Mail(path, parameters):
            argument = f" FROM:<{path}>{_parameters(parameters)}"
        case Rcpt(path, parameters):
            argument = f" TO:<{path}>{_parameters(parameters)}"
        case Vrfy(text=text, smtputf8=smtputf8) | Expn(text=text, smtputf8=smtputf8):
            argument = f" {text}" + (" SMTPUTF8" if smtputf8 else "")
        case XClient() | XForward():
            argument = command.format()
        case Noop(text) | Help(text) | OwnCommand(argument=text):
            argument = f" {text}" if text else ""
        case _:
            argument = ""
    try:
        line = (name_of(command) + argument).encode("utf-8" if utf8 else "ascii")
        same = parse_command(command.verb, line, Notes(SENDABLE), utf8=utf8) == command
    except (UnicodeEncodeError, GrammarError):
        same = False
        line = b""
    if not same:
        raise LocalProtocolError(f"this {name_of(command)} cannot be sent: {command!r}")
    return _limited(line + b"\r\n", limit)


def _limited(line: bytes, limit: int) -> bytes:
    if len(line) > limit:
        raise LocalProtocolError(f"a line of {len(line)} octets cannot be sent, {limit} is the limit")
    return line


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
