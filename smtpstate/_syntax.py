"""The syntax of commands: one row in COMMANDS for each verb, lines to commands and back, and what is said to either."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from smtpstate._address import parse_domain_or_literal, parse_forward_path, parse_reverse_path
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
from smtpstate._params import Parameters, split_parameters
from smtpstate._replies import Reply

if TYPE_CHECKING:
    from collections.abc import Callable


@final
@dataclass(frozen=True, slots=True)
class Row:
    """What there is to know about a verb.

    `success` is what `accept()` says, or what the core says by itself. `silence` is the verdict when nobody gives
    one; None where none is owed. `ends_group` marks the verbs after which a pipelining sender has to wait (RFC 2920
    section 3.1). `junk` marks those that bring no mail nearer. `bad_address` is what a malformed path or domain earns
    where it is not the usual.
    """

    parse: Callable[[str, bytes], Command]
    success: Reply
    silence: Reply | None = None
    ends_group: bool = True
    wait: Wait = Wait.COMMAND
    junk: bool = False
    bad_address: Reply | None = None


def _bare(make: Callable[[bytes], Command]) -> Callable[[str, bytes], Command]:
    """A verb without an argument; white space before the line ending is tolerated (section 4.1.1)."""

    def parse(argument: str, raw: bytes) -> Command:
        if argument.strip(" \t"):
            raise GrammarError(Fault.ARGUMENT)
        return make(raw)

    return parse


def _hello(make: Callable[[str, bytes], Command]) -> Callable[[str, bytes], Command]:
    """ehlo = "EHLO" SP ( Domain / address-literal ) CRLF. Literals are tolerated in HELO too: such clients exist."""

    def parse(argument: str, raw: bytes) -> Command:
        return make(parse_domain_or_literal(argument.strip(" \t")), raw)

    return parse


def _string(make: Callable[[str, bytes], Command], *, required: bool) -> Callable[[str, bytes], Command]:
    def parse(argument: str, raw: bytes) -> Command:
        text = argument.strip(" \t")
        if required and not text:
            raise GrammarError(Fault.ARGUMENT)
        return make(text, raw)

    return parse


# mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF; rcpt likewise with "TO:". Nothing may stand between
# the colon and the path, yet Outlook and others put a space there, so one is tolerated.
_FROM: Final = re.compile(r"FROM: ?(?=<)", re.IGNORECASE)
_TO: Final = re.compile(r"TO: ?(?=<)", re.IGNORECASE)


def _parse_mail(argument: str, raw: bytes) -> Command:
    match = _FROM.match(argument)
    if match is None:
        raise GrammarError(Fault.ARGUMENT)
    path, rest = parse_reverse_path(argument[match.end() :])
    return Mail(path, split_parameters(rest), raw)


def _parse_rcpt(argument: str, raw: bytes) -> Command:
    match = _TO.match(argument)
    if match is None:
        raise GrammarError(Fault.ARGUMENT)
    path, rest = parse_forward_path(argument[match.end() :])
    return Rcpt(path, split_parameters(rest), raw)


# auth-command = "AUTH" SP sasl-mech [SP initial-response]; sasl-mech is 1*20 of upper case, digits, "-" and "_", and
# compared without case here; initial-response is base64, or "=" for an empty one (RFC 4954 section 8).
_AUTH: Final = re.compile(r" *([A-Z0-9_-]{1,20})(?: +([^ \t]+))?[ \t]*", re.IGNORECASE | re.ASCII)
# bdat-cmd = "BDAT" SP chunk-size [SP end-marker]; a size that no counter could hold is none (RFC 3030 section 2).
_BDAT: Final = re.compile(r" *([0-9]{1,19})(?: +(LAST))?[ \t]*", re.IGNORECASE | re.ASCII)
_LARGEST_CHUNK: Final = 2**63 - 1


def decode_base64(text: str) -> bytes:
    """The octets behind strict base64 (RFC 4648 section 4): padded, nothing else in it. Raises GrammarError."""
    try:
        return b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; and so is what is not ASCII
        raise GrammarError(Fault.BASE64) from None


def _parse_auth(argument: str, raw: bytes) -> Command:
    match = _AUTH.fullmatch(argument)
    if match is None:
        raise GrammarError(Fault.ARGUMENT)
    mechanism, response = match.groups()
    if response is None or response == "=":
        return Auth(mechanism.upper(), None if response is None else b"", raw)
    return Auth(mechanism.upper(), decode_base64(response), raw)


def _parse_bdat(argument: str, raw: bytes) -> Command:
    match = _BDAT.fullmatch(argument)
    if match is None or int(match[1]) > _LARGEST_CHUNK:
        raise GrammarError(Fault.CHUNK_SIZE)
    return Bdat(int(match[1]), match[2] is not None, raw)


def parse_response(line: bytes) -> AuthResponse | AuthCancel:
    """A line of an AUTH exchange, without its ending: base64, or a lone "*". Raises GrammarError."""
    if line == b"*":
        return AuthCancel()
    return AuthResponse(decode_base64(line.decode("latin-1")))


_HELLO_OK: Final = Reply(250)
_BAD_HELLO: Final = Reply(501, "A domain or an address literal is needed", enhanced="5.5.4")
_SENDER_OK: Final = Reply(250, "Sender accepted", enhanced="2.1.0")
AUTHENTICATED: Final = Reply(235, "Authenticated", enhanced="2.7.0")
NOT_AUTHENTICATED: Final = Reply(535, "Authentication failed", enhanced="5.7.8")
AUTH_CANCELLED: Final = Reply(501, "Authentication cancelled", enhanced="5.7.0")
CHUNK_TAKEN: Final = Reply(250, "Chunk taken", enhanced="2.0.0")
_SEND_BODY: Final = Reply(354, "End the message with <CRLF>.<CRLF>")

COMMANDS: Final[dict[Verb, Row]] = {
    Verb.EHLO: Row(_hello(Ehlo), _HELLO_OK, _HELLO_OK, junk=True, bad_address=_BAD_HELLO),
    Verb.HELO: Row(_hello(Helo), _HELLO_OK, _HELLO_OK, junk=True, bad_address=_BAD_HELLO),
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
    Verb.NOOP: Row(_string(Noop, required=False), Reply(250, "OK", enhanced="2.0.0"), junk=True),
    Verb.QUIT: Row(_bare(Quit), Reply(221, "Bye", enhanced="2.0.0")),
    Verb.VRFY: Row(
        _string(Vrfy, required=True),
        Reply(252, "Send some mail, and it will be tried", enhanced="2.5.2"),
        Reply(252, "Send some mail, and it will be tried", enhanced="2.5.2"),
        junk=True,
    ),
    Verb.EXPN: Row(
        _string(Expn, required=True),
        Reply(250, "OK", enhanced="2.0.0"),
        Reply(502, "EXPN is not available", enhanced="5.5.1"),
        junk=True,
    ),
    Verb.HELP: Row(
        _string(Help, required=False), Reply(214, "RFC 5321 has all the help there is", enhanced="2.0.0"), junk=True
    ),
    # Nothing is owed for the command itself: the peer that it names is greeted, and that is the answer.
    Verb.XCLIENT: Row(lambda argument, raw: XClient.parse(f" {argument}", raw), Reply(220), junk=True),
    Verb.XFORWARD: Row(
        lambda argument, raw: XForward.parse(f" {argument}", raw), Reply(250, "Noted", enhanced="2.0.0"), junk=True
    ),
}

# What is answered although nobody asked for it in words. A message that nobody took is not ours: 451.
GREETING: Final = Reply(220)
MESSAGE_ACCEPTED: Final = Reply(250, "Message accepted", enhanced="2.0.0")
LOCAL_ERROR: Final = Reply(451, "Local error in processing", enhanced="4.3.0")


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

_VERBS: Final[dict[str, Verb]] = {verb.name: verb for verb in COMMANDS}
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
}

# VCHAR, SP and HT: nothing else may stand in a command line (section 4.1.2; NUL, stray CR and 8-bit octets never).
_CLEAN: Final = re.compile(rb"[\t\x20-\x7e]*")


def find_verb(line: bytes) -> Verb:
    """The verb that `line`, without its ending, begins with. Raises GrammarError."""
    # Upper case is made of octets: latin-1 text has letters of which upper() makes others.
    word = line.split(b" ", 1)[0].rstrip(b"\t").upper().decode("latin-1")
    verb = _VERBS.get(word)
    if verb is None:
        raise GrammarError(Fault.VERB_NOT_IMPLEMENTED if word in NOT_IMPLEMENTED else Fault.VERB_UNKNOWN)
    return verb


def parse_command(verb: Verb, line: bytes) -> Command:
    """The command in `line`, which begins with `verb`. Raises GrammarError."""
    if _CLEAN.fullmatch(line) is None:
        raise GrammarError(Fault.SYNTAX)
    return COMMANDS[verb].parse(line[len(verb.name) + 1 :].decode("ascii"), line)


def fault_reply(verb: Verb | None, fault: Fault) -> Reply:
    """The reply that a syntax fault has earned."""
    row = None if verb is None else COMMANDS[verb]
    if fault is Fault.ADDRESS and row is not None and row.bad_address is not None:
        return row.bad_address
    if fault is Fault.PARAMETER_UNKNOWN and verb in ATTRIBUTE_VERBS:
        fault = Fault.PARAMETER_VALUE  # 555 is for MAIL and RCPT (RFC 5321 section 4.1.1.11)
    return FAULT_REPLIES[fault]


def _parameters(parameters: Parameters) -> str:
    return "".join(f" {keyword}" if value is None else f" {keyword}={value}" for keyword, value in parameters)


def encode_command(command: Command, limit: int) -> bytes:
    """The line for `command`, its CRLF included, `limit` octets at most.

    Whatever could not be read back as the same command is not sent: LocalProtocolError.
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
        case XClient() | XForward():
            argument = command.format()
        case Noop(text) | Vrfy(text) | Expn(text) | Help(text):
            argument = f" {text}" if text else ""
        case _:
            argument = ""
    try:
        line = (command.verb.name + argument).encode("ascii")
        same = parse_command(command.verb, line) == command
    except (UnicodeEncodeError, GrammarError):
        same = False
        line = b""
    if not same:
        raise LocalProtocolError(f"this {command.verb.name} cannot be sent: {command!r}")
    return _limited(line + b"\r\n", limit)


def _limited(line: bytes, limit: int) -> bytes:
    if len(line) > limit:
        raise LocalProtocolError(f"a line of {len(line)} octets cannot be sent, {limit} is the limit")
    return line


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
