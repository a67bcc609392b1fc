"""Client procedures without I/O: open a session, send one message, say goodbye.

A procedure is a generator. What it yields says what it wants from whoever drives it: `Wants.EVENT`, the next event
of the connection (the driver moves bytes until there is one, or until the connection has nothing outstanding and
answers NEED_COMMAND); `Wants.CHUNK`, the next piece of the body (b"" at its end); or a `Work`, what its `run()`
returns, which may take its time. The driver sends it back in. What the procedure returns is the result.

    wanted = next(procedure)
    while True:
        wanted = procedure.send(event, chunk or work)      # StopIteration.value is the result
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar, final

from smtpstate._commands import (
    Bdat,
    Command,
    Data,
    Ehlo,
    EndOfMessage,
    Helo,
    Lhlo,
    Mail,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Verb,
)
from smtpstate._envelope import Recipient, fitted, recipients_of, usable
from smtpstate._errors import LocalProtocolError, SMTPStateError
from smtpstate._events import (
    Body,
    ClientEvent,
    ConnectionClosed,
    Flow,
    NoRecipients,
    ReplyReceived,
)
from smtpstate._international import spelled
from smtpstate._newlines import Newlines
from smtpstate._outcomes import Answers, Delivery, Result, is_yes
from smtpstate._params import BodyType, Parameters
from smtpstate._quota import plan
from smtpstate._replies import Reply
from smtpstate._state import Outcome, Phase
from smtpstate.extensions import server_limits

if TYPE_CHECKING:
    from smtpstate._client import ClientConnection

_T = TypeVar("_T")


class Wants(Enum):
    """What a procedure waits for."""

    EVENT = "the next event, or NEED_COMMAND"
    CHUNK = "the next piece of the body"


class Work(Protocol):
    """Something that keeps a processor busy: call `run()` where that does not matter, in a bounded worker."""

    def run(self) -> bytes: ...


Procedure: TypeAlias = Generator[Wants | Work, "ClientEvent | Flow | bytes", _T]


class TlsMode(StrEnum):
    """When to use TLS. With REQUIRED nothing but hellos, STARTTLS and QUIT ever leaves in clear text.

    IMPLICIT goes with a connection made with `implicit_tls`, whose first octets are a handshake (RFC 8314 section 3).
    """

    OFF = "off"
    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    IMPLICIT = "implicit"


class DeliveryError(SMTPStateError):
    """The session could not be opened, so nothing was sent for anybody."""


@final
class SessionRefused(DeliveryError):
    """The server does not want to talk to us: `reply` says why, in answer to the greeting or the hello."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"the server refused the session: {reply}")
        self.reply: Reply = reply


@final
class TlsUnavailable(DeliveryError):
    """TLS was required and could not be had; nothing was sent in clear text."""


@final
class ConnectionBroken(DeliveryError):
    """The connection ended before the session was open; `closed` says how."""

    def __init__(self, closed: ConnectionClosed) -> None:
        what = [closed.reason.value]
        what += [rule.name for rule in (closed.violation, closed.deviation) if rule is not None]
        if closed.timer is not None:
            what.append(closed.timer.name.lower())
        if closed.reply is not None:
            what.append(str(closed.reply))
        super().__init__("the connection broke: " + ", ".join(what))
        self.closed: ConnectionClosed = closed


@final
@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends to whom, and what must be known of the body before MAIL.

    `size` is an estimate in octets or None; `eight_bit` says that the body has octets above 127. `chunked` sends it by
    BDAT where the server offers CHUNKING (RFC 3030), and by DATA elsewhere. `parameters` are those of MAIL beside SIZE
    and BODY; a `Recipient` has those of its RCPT. Where the server does not offer what they belong to, some are left
    out, as all of DSN, and with others the recipients are refused, as with REQUIRETLS: see docs/extend.md. `utf8` says
    that the headers hold UTF-8, for which SMTPUTF8 is needed (RFC 6531); what the addresses need is found out. `binary`
    sends it by BDAT as it is, lines or not; where BINARYMIME is not offered nobody gets it.
    """

    sender: str
    recipients: tuple[str | Recipient, ...]
    size: int | None = None
    eight_bit: bool = False
    chunked: bool = False
    parameters: Parameters = ()
    utf8: bool = False
    binary: bool = False


# Phases that a transaction which went wrong can leave behind.
_HALF_DONE = frozenset({Phase.MAIL, Phase.RCPT, Phase.CHUNKED, Phase.DEAD})

NO_EIGHT_BIT = Reply(554, "The message has 8-bit octets and the server does not offer 8BITMIME", enhanced="5.6.3")
NO_BINARY = Reply(554, "The message is binary and the server does not offer BINARYMIME", enhanced="5.6.3")

# Stands in for the 354 that a server gave although it had refused every recipient; it decides nothing.
_NO_RECIPIENTS = Reply(554, "No valid recipients", enhanced="5.5.1")


def next_reply(verb: Verb) -> Procedure[ReplyReceived | ConnectionClosed]:
    """Waits for the reply to `verb`, or for the end of the connection. Replies to what was asked before pass by."""
    while True:
        event = yield Wants.EVENT
        if isinstance(event, ConnectionClosed) or (isinstance(event, ReplyReceived) and event.to.verb is verb):
            return event
        if isinstance(event, NoRecipients):
            return ReplyReceived(Data(), _NO_RECIPIENTS)


def _answer(verb: Verb) -> Procedure[Reply]:
    event = yield from next_reply(verb)
    if isinstance(event, ConnectionClosed):
        raise ConnectionBroken(event)
    return event.reply


def ask(client: ClientConnection, command: Command) -> Procedure[Reply]:
    """Sends one command and waits for its answer. Raises ConnectionBroken, and what `send` raises."""
    client.send(command)
    return (yield from _answer(command.verb))


def open_session(client: ClientConnection, tls: TlsMode) -> Procedure[None]:
    """Greeting, hello, and STARTTLS with another hello where `tls` asks for it.

    The hello is EHLO, HELO if that is refused and clear text would do; in LMTP it is LHLO.
    Where TLS is required nothing but EHLO and STARTTLS goes out in clear, not even HELO.

    Raises SessionRefused, TlsUnavailable or ConnectionBroken.
    """
    greeting = yield from _answer(Verb.CONNECT)
    if Outcome.of(greeting.code) is not Outcome.OK:
        raise SessionRefused(greeting)
    if tls is TlsMode.IMPLICIT and client.tls is None:
        raise TlsUnavailable("TLS is required, and the connection was made without it")
    yield from _hello(client, tls)
    if tls is TlsMode.OFF or client.tls is not None:
        return
    if not client.capabilities.starttls:
        if tls is TlsMode.REQUIRED:
            raise TlsUnavailable("TLS is required, and the server does not offer STARTTLS")
        return
    reply = yield from ask(client, StartTls())
    if Outcome.of(reply.code) is not Outcome.OK:
        if tls is TlsMode.REQUIRED:
            raise TlsUnavailable(f"TLS is required, and the server refused STARTTLS: {reply}")
        if client.closed is not None:
            raise ConnectionBroken(client.closed)
        return
    while client.phase is Phase.TLS:
        yield Wants.EVENT
    yield from _hello(client, tls)


def _hello(client: ClientConnection, tls: TlsMode) -> Procedure[None]:
    if client.lmtp:  # RFC 2033 section 4.1 knows no other
        reply = yield from ask(client, Lhlo(client.hostname))
    else:
        reply = yield from ask(client, Ehlo(client.hostname))
    # RFC 5321 section 3.2: some know HELO only.
    if reply.code // 100 == 5 and client.closed is None and not client.lmtp:
        if tls is TlsMode.REQUIRED and client.tls is None:  # nothing is offered to HELO, TLS least of all
            raise TlsUnavailable(f"TLS is required, and the server refused EHLO: {reply}")
        reply = yield from ask(client, Helo(client.hostname))
    if Outcome.of(reply.code) is not Outcome.OK:
        raise SessionRefused(reply)


def send_message(client: ClientConnection, envelope: Envelope) -> Procedure[Delivery]:
    """One message: MAIL, every RCPT, the body as DATA or in chunks. Pipelined where the server allows it (RFC 2920).

    Refusals of one recipient do not touch the others. Never raises for what the server does; the `Delivery` says it.
    Raises LocalProtocolError, before anything is sent, when there is no recipient, an address cannot be spelled,
    another transaction is open, or the server's LIMITS do not allow it (`Batches` keeps within them).
    """
    return (yield from _Message(client, envelope).run())


def check_message(client: ClientConnection, envelope: Envelope) -> None:
    """Raises LocalProtocolError where `send_message` would; nothing is sent."""
    _Message(client, envelope).commands()


def refusals(client: ClientConnection, envelope: Envelope) -> dict[int, Reply]:
    """Those whom `send_message` would ask nobody about, since the server lacks what they need; by their place, and why.

    Raises LocalProtocolError when there is no recipient, or something cannot be spelled, whatever the limits are.
    """
    message = _Message(client, envelope)
    message.fitting()
    return message.answers.refused


@final
class _Message:
    def __init__(self, client: ClientConnection, envelope: Envelope) -> None:
        self.client = client
        self.envelope = envelope
        self.recipients = recipients_of(envelope.recipients)
        self.answers = Answers([one.address for one in self.recipients])
        self.chunked: bool = envelope.binary or (envelope.chunked and client.capabilities.chunking)

    def run(self) -> Procedure[Delivery]:
        client, answers = self.client, self.answers
        commands = self.commands()
        if not commands:
            return self.judged(Result.REFUSED)
        pipelining = client.capabilities.pipelining
        if pipelining:
            for command in commands:
                client.send(command)
        for command in commands:
            if not pipelining:
                if self.is_hopeless(command):
                    break
                client.send(command)
            event = yield from next_reply(command.verb)
            if isinstance(event, ConnectionClosed):
                return self.judged(Result.RETRY)
            match event.to:
                case Mail():
                    answers.mail = event.reply
                case Rcpt():
                    answers.rcpts.append(event.reply)
                case _ if Outcome.of(event.reply.code) is Outcome.MORE:
                    pass  # the body decides
                case _:
                    answers.verdict = event.reply
        if self.chunked and answers.accepted and is_yes(answers.mail):
            undecided = yield from self.chunks()
        elif client.can_send_body:
            undecided = yield from self.body()
        else:
            undecided = Result.RETRY
            while client.outstanding:  # the lone dot of a message without recipients
                yield Wants.EVENT
        yield from self.reset()
        return self.judged(undecided)

    def lacks(self) -> Reply | None:
        """Why nobody can be sent this body, if that is so."""
        # Headers in UTF-8 have 8 bits, too; that they need SMTPUTF8 says more.
        offered, envelope = self.client.capabilities, self.envelope
        if envelope.binary:
            return None if offered.binary_mime else NO_BINARY
        return NO_EIGHT_BIT if envelope.eight_bit and not envelope.utf8 and not offered.eight_bit_mime else None

    def fitting(self) -> tuple[Mail, list[Rcpt]]:
        """What can be said to this server; those of whom nothing can are refused. Raises LocalProtocolError."""
        client, envelope, answers = self.client, self.envelope, self.answers
        if not self.recipients:
            raise LocalProtocolError("a message needs a recipient")
        mail_table, rcpt_table, extensions = client.tables
        offered = usable(client.capabilities, extensions, client.tls)
        size = envelope.size if "SIZE" in client.capabilities else None
        needs_eight_bit = envelope.eight_bit or envelope.utf8
        body = BodyType.EIGHTBITMIME if needs_eight_bit and client.capabilities.eight_bit_mime else None
        body = BodyType.BINARYMIME if envelope.binary else body
        mail = Mail.of(envelope.sender, size=size, body=body, parameters=envelope.parameters)
        if (lacks := self.lacks()) is not None:
            answers.refused = dict.fromkeys(range(len(self.recipients)), lacks)
            return mail, []
        mail, refusal = fitted(mail, mail_table, offered)
        rcpts: dict[int, Rcpt] = {}
        for index, recipient in enumerate(self.recipients):
            rcpt = Rcpt.of(recipient.address, parameters=recipient.parameters)
            rcpts[index], refused = fitted(rcpt, rcpt_table, offered)
            if (lacks := refusal or refused) is not None:
                answers.refused[index] = lacks
                del rcpts[index]
        # RFC 6531 section 3.1: SMTPUTF8 is nothing without 8BITMIME.
        smtputf8 = client.capabilities.smtputf8 and client.capabilities.eight_bit_mime
        mail, tried = spelled(mail, list(rcpts.values()), headers=envelope.utf8, offered=smtputf8)
        answers.refused |= {index: to for index, to in zip(rcpts, tried, strict=True) if isinstance(to, Reply)}
        return mail, [to for to in tried if isinstance(to, Rcpt)]

    def commands(self) -> list[Mail | Rcpt | Data]:
        """The whole transaction up to its body; nothing where all are refused. Raises LocalProtocolError."""
        client = self.client
        mail, rcpts = self.fitting()
        if not rcpts:
            return []
        commands: list[Mail | Rcpt | Data] = [mail, *rcpts]
        if not self.chunked:
            commands.append(Data())
        for command in commands:
            client.check(command, utf8=mail.smtputf8)
        asked = [one.address for index, one in enumerate(self.recipients) if index not in self.answers.refused]
        planned = plan(asked, server_limits(client.capabilities), client.tally)
        if len(planned.batches) != 1 or planned.left_out:
            raise LocalProtocolError("more than one transaction may have, or the session: see the server's LIMITS")
        return commands

    def is_hopeless(self, command: Mail | Rcpt | Data) -> bool:
        """In lock-step we know better than to go on: MAIL was refused, or nobody is left for DATA."""
        match command:
            case Mail():
                return False
            case Rcpt():
                return not is_yes(self.answers.mail)
            case _:
                return not self.answers.accepted

    def body(self) -> Procedure[Result]:
        """The body after a 354, and what decides; what is undecided after that is returned."""
        client = self.client
        dotted = False
        while client.can_send_body:
            chunk = yield Wants.CHUNK
            assert isinstance(chunk, bytes)
            if not chunk:
                dotted = client.send(EndOfMessage())
            elif client.send(Body(chunk)):
                event = yield Wants.EVENT  # lets it leave, and looks whether the server has had enough
                if isinstance(event, ReplyReceived):
                    self.answers.verdict = event.reply
                    return Result.RETRY
        yield from self.end(Verb.END)
        return Result.UNKNOWN if dotted else Result.RETRY

    def chunks(self) -> Procedure[Result]:
        """The body by BDAT, a piece a chunk; the next one leaves when the last was taken (RFC 3030 section 2)."""
        binary, newlines = self.envelope.binary, Newlines(normalize=True)
        held, end = b"", b"\r\n"  # the last piece waits for LAST; how the content ends
        while self.client.closed is None:
            piece = yield Wants.CHUNK
            assert isinstance(piece, bytes)
            if not piece:
                # Lines end as the lone dot would have made them.
                last = held if binary or end == b"\r\n" else held + b"\r\n"
                if not self.chunk(last, last=True):
                    break
                yield from self.end(Verb.BDAT)
                return Result.UNKNOWN
            if held:
                self.chunk(held, last=False)
                event = yield from next_reply(Verb.BDAT)
                if isinstance(event, ConnectionClosed):
                    break
                if not is_yes(event.reply):
                    self.answers.verdict = event.reply
                    break
            held = piece if binary else newlines.read(piece)
            end = held[-2:] or end
        return Result.RETRY

    def chunk(self, octets: bytes, *, last: bool) -> bool:
        return self.client.send(Bdat(len(octets), last)) and (not octets or self.client.send(Body(octets)))

    def end(self, verb: Verb) -> Procedure[None]:
        """The reply to the end of the message; in LMTP those for all that were accepted (RFC 2033 section 4.2)."""
        due = self.answers.accepted if self.client.lmtp else 1
        while len(self.answers.finals) < due:
            event = yield from next_reply(verb)
            if isinstance(event, ConnectionClosed):
                if event.reply is not None and Outcome.of(event.reply.code) is Outcome.FAIL:
                    # It came before the dot left: the message was refused, for everybody.
                    self.answers.verdict = event.reply
                return
            self.answers.finals.append(event.reply)

    def reset(self) -> Procedure[None]:
        """Leaves no half transaction behind on a connection that may be used again."""
        if self.client.in_sync and self.client.phase in _HALF_DONE:
            try:
                yield from ask(self.client, Rset())
            except ConnectionBroken:
                return

    def judged(self, undecided: Result) -> Delivery:
        """What became of it, with this for those whom no answer decides for."""
        return self.answers.delivery(undecided, self.client.closed, each=self.client.lmtp)


def quit_session(client: ClientConnection) -> Procedure[None]:
    """QUIT, as a courtesy, and the end: nothing that happens here changes what became of a message."""
    if client.in_sync:
        client.send(Quit())
        yield from next_reply(Verb.QUIT)
    client.close()
