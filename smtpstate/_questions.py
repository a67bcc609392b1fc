"""What a reply can be bound to: what can be said to it, where that leads, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from smtpstate._capabilities import NO_CAPABILITIES, Capabilities
from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Command,
    EndOfMessage,
    Expn,
    Mail,
    Rcpt,
    Verb,
    Vrfy,
    Wait,
    XClient,
    XForward,
    name_of,
)
from smtpstate._errors import Fault, GrammarError, LocalProtocolError
from smtpstate._events import Connected, Timer
from smtpstate._params import ParameterTable, check_parameters, command_line
from smtpstate._policy import MX
from smtpstate._state import HELLOS, Outcome
from smtpstate._syntax import (
    ATTRIBUTE_LINE,
    ATTRIBUTE_VERBS,
    AUTHENTICATED,
    COMMANDS,
    GREETING,
    MESSAGE_ACCEPTED,
    decode_base64,
    encode_command,
    may_be_international,
)
from smtpstate.extensions import BUILT_IN, own_verbs, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from smtpstate._budget import Limits
    from smtpstate._policy import Policy
    from smtpstate._replies import Reply
    from smtpstate._state import Session
    from smtpstate.extensions import Extension

Question: TypeAlias = Command | Connected | EndOfMessage

EXCHANGE: Final = frozenset({Verb.AUTH, Verb.RESPONSE})  # RFC 4954 section 4: challenges, and lines of their own length
# What an EHLO has to offer first, whole verbs and not only their parameters.
OFFERED: Final = frozenset({Verb.STARTTLS, Verb.AUTH, Verb.BDAT, Verb.XCLIENT, Verb.XFORWARD, Verb.OWN})
_WAIT_TIMERS: Final[dict[Wait, Timer]] = {
    Wait.GREETING: Timer.GREETING,
    Wait.COMMAND: Timer.COMMAND,
    Wait.DATA: Timer.DATA,
    Wait.END: Timer.END,
}


def hoped(question: Question) -> Outcome:
    """What the table calls success. All that an exchange called off can earn is a refusal (RFC 4954 section 4)."""
    match question:
        case Connected():
            return Outcome.of(GREETING.code)
        case EndOfMessage():
            return Outcome.of(MESSAGE_ACCEPTED.code)
        case AuthResponse():
            return Outcome.of(AUTHENTICATED.code)
        case AuthCancel():
            return Outcome.FAIL
        case _:
            return Outcome.of(COMMANDS[question.verb].success.code)


def possible(question: Question) -> frozenset[Outcome]:
    """What can be said to it at all; a challenge only within AUTH (RFC 4954 section 4)."""
    challenged = question.verb in EXCHANGE and not isinstance(question, AuthCancel)
    return frozenset({hoped(question), Outcome.FAIL, Outcome.CLOSE, *((Outcome.MORE,) if challenged else ())})


def advance(session: Session, question: Question, outcome: Outcome) -> None:
    """Moves a session by a reply. BDAT and XCLIENT have two steps in the table, and one reply for both."""
    if isinstance(question, Bdat) and outcome is not Outcome.CLOSE and session.check(Verb.BDAT) is None:
        session.advance(Verb.BDAT, Outcome.MORE)
        session.advance(Verb.END if question.last else Verb.CHUNK, outcome)
    elif isinstance(question, XClient) and outcome is Outcome.OK:
        # Its 220 is a greeting. A greeting refused is a 421 or 521; so any other refusal is that of the command.
        session.advance(Verb.XCLIENT, outcome)
        session.advance(Verb.CONNECT, outcome)
        session.authenticated = isinstance(question.login, str)
    else:
        session.advance(question.verb, outcome, binary=isinstance(question, Mail) and question.binary)


def announce(session: Session, offered: Capabilities, extensions: Iterable[Extension] = ()) -> None:
    """Tells a session what a hello was answered with. `extensions` are those beside the built-in ones."""
    session.announce(
        tls=offered.starttls,
        auth="AUTH" in offered,
        chunking=offered.chunking,
        xclient="XCLIENT" in offered,
        xforward="XFORWARD" in offered,
        own=own_verbs(extensions, offered),
    )


def ends_message(session: Session, question: Question) -> bool:
    """Whether the answer is that to a message; a last chunk that is out of order is only refused."""
    if isinstance(question, Bdat):
        return question.last and session.check(Verb.BDAT) is None
    return isinstance(question, EndOfMessage)


def ends_group(question: Question) -> bool:
    """Whether a pipelining sender has to wait for the answer (RFC 2920 section 3.1)."""
    row = COMMANDS.get(question.verb)
    return row is None or row.ends_group


def time_for(question: Question, limits: Limits) -> tuple[Timer, float]:
    """The timer that waits for the answer, and its seconds (RFC 5321 section 4.5.3.2)."""
    match question:
        case Connected():
            wait = Wait.GREETING
        case EndOfMessage():
            wait = Wait.END
        case AuthResponse() | AuthCancel():
            wait = Wait.COMMAND
        case _:
            wait = COMMANDS[question.verb].wait
    return _WAIT_TIMERS[wait], limits.wait_seconds(wait)


_BUILT_IN: Final = tables()[:2]


def line_limit(
    command: Command,
    limits: Limits,
    offered: Capabilities = NO_CAPABILITIES,
    tables: tuple[ParameterTable, ParameterTable] = _BUILT_IN,
) -> int:
    """How many octets its line may have."""
    if command.verb in EXCHANGE:
        return limits.auth_line
    if command.verb in ATTRIBUTE_VERBS:
        return min(ATTRIBUTE_LINE, limits.command_line)
    return command_line(limits.command_line, tables, offered)


def line_of(
    command: Command,
    limits: Limits,
    offered: Capabilities = NO_CAPABILITIES,
    tables: tuple[ParameterTable, ParameterTable] = _BUILT_IN,
    *,
    asked: bool = False,
) -> bytes:
    """Its line. UTF-8 stands in it only where SMTPUTF8 is `offered`, and in RCPT where its MAIL `asked` for it.

    Raises LocalProtocolError for what cannot be spelled.
    """
    utf8 = offered.smtputf8 and may_be_international(command, asked=asked)
    return encode_command(command, line_limit(command, limits, offered, tables), utf8=utf8)


def require_offered(
    command: Command, offered: Capabilities, tables: tuple[ParameterTable, ParameterTable] = _BUILT_IN
) -> None:
    """Raises LocalProtocolError when `command` needs what is not offered, or gives it a value that it cannot have."""
    try:
        match command:
            case Mail():
                check_parameters(command.parameters, tables[0], offered)
                if command.binary and not offered.binary_mime:
                    raise GrammarError(Fault.PARAMETER_VALUE, "BINARYMIME without CHUNKING")  # RFC 3030 section 3
            case Rcpt():
                check_parameters(command.parameters, tables[1], offered)
            case Auth(mechanism) if mechanism not in map(str.upper, offered.keywords.get("AUTH", ())):
                raise GrammarError(Fault.PARAMETER_UNKNOWN, f"{mechanism} is not offered")
            case Vrfy(smtputf8=True) | Expn(smtputf8=True) if not offered.smtputf8:
                raise GrammarError(Fault.PARAMETER_UNKNOWN)
            case XClient() | XForward():
                unknown = command.names.difference(map(str.upper, offered.keywords.get(command.verb.name, ())))
                if unknown:
                    raise GrammarError(Fault.PARAMETER_UNKNOWN, f"not offered: {', '.join(sorted(unknown))}")
            case _:
                pass
    except GrammarError as error:
        raise LocalProtocolError(f"{command.verb.name}: {error}") from None


def require_order(
    command: Command, session: Session, outstanding: Sequence[Question], chunk_left: int, *, may_write: bool
) -> None:
    """Raises LocalProtocolError when `command` cannot come next.

    `session` is where all that is `outstanding`, and has no reply yet, leads if it succeeds; `chunk_left` octets are
    missing of a chunk; `may_write` says that the command would leave at once.
    """
    if chunk_left:
        raise LocalProtocolError(f"{chunk_left} octets are missing of the chunk that was announced")
    verbs = {question.verb for question in outstanding}
    if not verbs.isdisjoint(EXCHANGE):
        raise LocalProtocolError("AUTH is not answered: what comes next may be a response, or a command")
    if command.verb in OFFERED and not verbs.isdisjoint(HELLOS):
        raise LocalProtocolError(
            f"what is offered is not known before the hello is answered, {name_of(command)} least of all"
        )
    refusal = session.check(command.verb, name_of(command))
    if refusal is not None:
        raise LocalProtocolError(f"{name_of(command)} is out of order: {refusal}")
    if command.verb is Verb.RSET and outstanding:
        raise LocalProtocolError("RSET cannot tell its reply from those outstanding")
    if command.verb is Verb.BDAT and not may_write:
        raise LocalProtocolError("a chunk cannot wait for its turn: its octets follow at once")


def offered_by(
    lines: Sequence[str], extensions: Mapping[str, Extension], *, secure: bool, policy: Policy = MX
) -> Capabilities:
    """What the lines of a hello's reply offer. What is for TLS only counts for nothing in clear, as in RFC 8689.

    `extensions` are those beside the built-in ones; `policy` says which lines that break the grammar count.
    """
    found = Capabilities.parse(lines, policy)
    known = {**BUILT_IN, **extensions}
    void = frozenset[str]() if secure else frozenset(name for name, one in known.items() if one.tls_only)
    kept = {name: said for name, said in found.keywords.items() if name not in void}
    return Capabilities(kept, deviations=found.deviations)


def challenge_of(reply: Reply) -> bytes | None:
    """The challenge in a 3yz reply to AUTH or a response, decoded; None when there is none, or it is not base64."""
    if Outcome.of(reply.code) is not Outcome.MORE:
        return None
    try:
        return decode_base64(reply.text)
    except GrammarError:
        return None
