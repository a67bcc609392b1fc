"""Hearing: what becomes of a line that the server read, a command, a response, or a rule broken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, assert_never, final

from smtpstate._admission import admit, admit_response, announced, refuse_bare_cr, refuse_long
from smtpstate._commands import AuthCancel, AuthResponse, Bdat, Command, Mail, Rcpt, StartTls, Verb, XClient
from smtpstate._config import (
    EARLY_PLAINTEXT,
    FORBIDDEN_COMMAND,
    MESSAGE_TOO_LARGE,
    TLS_UNAVAILABLE,
    TOO_MANY_DOMAINS,
    TOO_MANY_RECIPIENTS,
    TOO_MANY_TRANSACTIONS,
)
from smtpstate._early import early, has_to_wait
from smtpstate._errors import GrammarError
from smtpstate._events import CommandRefused, Flow, Timer, Violation
from smtpstate._evidence import HIDDEN, begins_auth, evidence, masked
from smtpstate._lines import LineEnding
from smtpstate._newlines import BareNewline
from smtpstate._policy import Leftover
from smtpstate._quota import Excess, Tally
from smtpstate._state import Outcome
from smtpstate._syntax import AUTH_CANCELLED, COMMANDS, find_verb

if TYPE_CHECKING:
    from collections.abc import Container

    from smtpstate._conversation import Conversation
    from smtpstate._lines import Line
    from smtpstate._reception import Reception
    from smtpstate._replies import Reply

# It brings no mail nearer.
_EMPTY_CHUNK: Final = Bdat(0)

# 452 leaves the session, and what was accepted in it (RFC 5321 section 4.5.3.1.10).
_EXCESSES: Final[dict[Excess, tuple[Violation, Reply]]] = {
    Excess.TRANSACTIONS: (Violation.TOO_MANY_TRANSACTIONS, TOO_MANY_TRANSACTIONS),
    Excess.RECIPIENTS: (Violation.TOO_MANY_RECIPIENTS, TOO_MANY_RECIPIENTS),
    Excess.DOMAINS: (Violation.TOO_MANY_DOMAINS, TOO_MANY_DOMAINS),
}


def _verb_of(line: bytes, own: Container[str]) -> Verb | None:
    """The verb of a line that was refused; None where nobody knows it."""
    try:
        return find_verb(line, own)
    except GrammarError:
        return None


@final
class Hearing:
    """Reads lines for `talk`: events are queued and refusals said, or a Flow says what is missing."""

    __slots__ = ("_after_auth", "_overshoot", "_quota", "_reception", "_talk", "_tally")

    def __init__(self, talk: Conversation, reception: Reception) -> None:
        self._talk: Final = talk
        self._reception: Final = reception
        self._quota: Final = talk.config.quota
        self._tally: Final = Tally()
        self._after_auth: bool = False  # what is no command may be the secret of a client that does not listen
        self._overshoot: int = 0  # recipients above the limit, in the open transaction

    def read_command(self) -> Flow | None:
        """The next command."""
        talk, config = self._talk, self._talk.config
        limit = config.command_line(secure=talk.session.secure)
        line = talk.lines.next_line(max(config.limits.auth_line, limit) if talk.session.offers_auth else limit)
        if line is None:
            return talk.need(Flow.NEED_DATA)
        talk.budgets.expect(Timer.COMMAND)
        secret = self._is_secret(line)
        talk.heard(HIDDEN if secret else masked(line.data))
        if talk.ends_for(talk.conduct.command()) or self._ends_for_newline(line):
            return None
        admitted = (
            refuse_long(line, talk.lines.dropped, limit)
            or refuse_bare_cr(line.data)
            or admit(
                line.data,
                talk.session,
                config.offered(secure=talk.session.secure, auth=bool(talk.mechanisms)),
                talk.mechanisms,
                config.tables,
                config.verbs,
                utf8=talk.transaction is not None and talk.transaction.mail.smtputf8,
                policy=config.policy,
                ending=line.ending,
            )
        )
        if self._forbids(line, admitted):
            start = talk.lines.dropped if line.too_long else line.data
            talk.violate(Violation.FORBIDDEN_COMMAND, FORBIDDEN_COMMAND, HIDDEN if secret else evidence(start))
            return None
        if self._came_early(line, admitted):
            return None
        match admitted:
            case CommandRefused(violation=Violation.CHUNK_SIZE):
                start = talk.lines.dropped if line.too_long else line.data
                talk.violate(Violation.CHUNK_SIZE, admitted.reply, evidence(start))
            case CommandRefused() if (size := announced(admitted)) is not None:
                self._reception.begin_refused(admitted, size)
            case CommandRefused():
                talk.turn_down(replace(admitted, line=HIDDEN) if secret else admitted)
            case _:
                self._take(admitted)
        return None

    def _is_secret(self, line: Line) -> bool:
        """Whether not to show a line that is no command: AUTH came before it, and was refused or is over."""
        start = self._talk.lines.dropped if line.too_long else line.data
        secret = self._after_auth and _verb_of(start, self._talk.config.verbs) is None
        self._after_auth = secret or begins_auth(start)
        return secret

    def _forbids(self, line: Line, admitted: Command | CommandRefused) -> bool:
        """Whether no mail client says that."""
        config = self._talk.config
        forbidden = config.wire.forbidden
        if line.too_long:  # its end, where HTTP has its version, is gone
            return _verb_of(self._talk.lines.dropped, ()) is None and forbidden.forbids(self._talk.lines.dropped)
        refused = isinstance(admitted, CommandRefused)
        return forbidden.forbids(line.data, known=not refused or _verb_of(line.data, config.verbs) is not None)

    def _came_early(self, line: Line, admitted: Command | CommandRefused) -> bool:
        """Whether the session ends for what stands behind a command that was to be the last of its group."""
        talk = self._talk
        if isinstance(admitted, CommandRefused):
            verb = None if line.too_long else _verb_of(line.data, talk.config.verbs)
        else:
            # What follows STARTTLS has a rule of its own.
            verb = None if isinstance(admitted, StartTls) else admitted.verb
        pipelining = talk.session.esmtp and "PIPELINING" in talk.config.offers
        if verb is None or not has_to_wait(verb, pipelining=pipelining):
            return False
        return talk.pause(early(verb), secret=verb is Verb.AUTH)

    def read_response(self) -> Flow | None:
        """A line of an AUTH exchange; all of it is one request, with one deadline."""
        talk = self._talk
        line = talk.lines.next_line(self._talk.config.limits.auth_line)
        if line is None:
            return talk.need(Flow.NEED_DATA)
        talk.heard(HIDDEN)
        if self._ends_for_newline(line) or talk.pause(Violation.EARLY_GROUP, secret=True):
            return None
        match admitted := admit_response(line, talk.config.policy):
            case CommandRefused():
                talk.session.advance(Verb.RESPONSE, Outcome.FAIL)
                talk.budgets.expect(Timer.COMMAND)
                talk.turn_down(admitted)
            case AuthCancel():
                talk.events.append(admitted)
                talk.answer(Verb.RESPONSE, AUTH_CANCELLED)
                talk.ends_for(talk.conduct.failure())
            case AuthResponse():
                talk.events.append(admitted)
            case _:
                assert_never(admitted)
        return None

    def _ends_for_newline(self, line: Line) -> bool:
        """Ends the session where a line ended with LF alone and none such is taken; whether it did."""
        talk = self._talk
        if line.ending is LineEnding.CRLF or talk.bare_newline is not BareNewline.REJECT:
            return False
        talk.violate(Violation.BARE_NEWLINE, talk.config.wire.bare_newline_refusal)
        return True

    def _take(self, command: Command) -> None:
        talk, row = self._talk, COMMANDS[command.verb]
        limits = talk.config.limits
        if (row.junk or command == _EMPTY_CHUNK) and talk.ends_for(talk.conduct.junk()):
            return
        match command:
            case Mail() if (command.size or 0) > limits.message:
                talk.turn_down(CommandRefused(command.raw, Violation.SIZE_TOO_LARGE, MESSAGE_TOO_LARGE))
            case Bdat():
                self._reception.begin_chunk(command)
            case Mail() | Rcpt() if (excess := self._tally.excess(command, self._quota)) is not None:
                violation, reply = _EXCESSES[excess]
                talk.turn_down(CommandRefused(command.raw, violation, reply), error=self._is_error(excess))
            case XClient():
                talk.speak_for(command)
            case StartTls():
                self._start_tls(command)
            case _:
                talk.events.append(command)
                if not talk.config.asks(command.verb):
                    talk.answer(command.verb, row.silence or row.success)

    def _start_tls(self, command: StartTls) -> None:
        """RFC 3207 section 4. Whatever came with it came in clear, and must not live on behind the handshake."""
        talk = self._talk
        if not talk.tls_available:
            talk.events.append(command)
            talk.answer(Verb.STARTTLS, TLS_UNAVAILABLE)
            return
        if len(talk.lines):
            if talk.config.leftover is Leftover.CLOSE:
                talk.violate(Violation.EARLY_PLAINTEXT, EARLY_PLAINTEXT)
                return
            talk.lines.clear()
        talk.events.append(command)
        talk.answer(Verb.STARTTLS, COMMANDS[Verb.STARTTLS].success)

    def _is_error(self, excess: Excess) -> bool:
        """A client that has more recipients than we knew is no nuisance, up to a point; one that says MAIL again is."""
        if excess is Excess.TRANSACTIONS:
            return True
        self._overshoot += 1
        return self._overshoot > self._talk.config.limits.recipient_overshoot

    def count(self, accepted: Mail | Rcpt) -> None:
        """A transaction or a recipient was accepted."""
        self._tally.count(accepted, self._quota)
        if isinstance(accepted, Mail):
            self._overshoot = 0
