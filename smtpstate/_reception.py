"""Reception: how the octets of a message are read, whole or in chunks, and those of a chunk that nobody wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate._commands import Bdat, Verb
from smtpstate._config import MESSAGE_TOO_LARGE
from smtpstate._events import Body, CommandRefused, Flow, ResetCause, Timer, Violation
from smtpstate._intake import Intake
from smtpstate._state import CLOSING_CODES, Outcome, Phase
from smtpstate._syntax import CHUNK_TAKEN

if TYPE_CHECKING:
    from smtpstate._conversation import Conversation
    from smtpstate._replies import Reply


@final
class Reception:
    """Reads what `talk` is in the middle of: events are queued and replies given, or a Flow says what is missing."""

    __slots__ = ("_due", "_intake", "_refused", "_talk")

    def __init__(self, talk: Conversation) -> None:
        self._talk: Final = talk
        self._intake: Intake = Intake(0)
        self._refused: CommandRefused | None = None
        self._due: int = 1

    @property
    def drops(self) -> bool:
        """Whether the octets of a refused BDAT are still coming."""
        return self._refused is not None

    def begin(self) -> None:
        """A whole message follows: DATA was answered 354."""
        self._intake = Intake(self._talk.config.limits.message, newline=self._talk.bare_newline)
        self._talk.budgets.expect(Timer.BODY)

    def begin_chunk(self, chunk: Bdat) -> None:
        """The octets of `chunk` follow, the first one's or the next one's."""
        talk = self._talk
        if talk.session.phase is not Phase.CHUNKED:
            self._intake = Intake(
                talk.config.limits.message, chunked=True, binary=talk.session.binary, newline=talk.bare_newline
            )
        self._intake.begin_chunk(chunk)
        talk.session.advance(Verb.BDAT, Outcome.MORE)
        self._expect(chunk.size)
        talk.events.append(chunk)
        if self._intake.too_large:
            self.doom(MESSAGE_TOO_LARGE, ResetCause.TOO_LARGE)

    def begin_refused(self, refused: CommandRefused, size: int) -> None:
        """The `size` octets of a refused BDAT follow all the same, and are no commands (RFC 3030 section 2)."""
        self._intake = Intake(self._talk.config.limits.message, chunked=True, binary=True)
        self._intake.begin_chunk(Bdat(size))
        self._refused = refused
        self._expect(size)

    def _expect(self, size: int) -> None:
        """`size` octets of a chunk are due; some may be here."""
        self._talk.budgets.expect(Timer.BODY)
        self._talk.budgets.came_ahead(min(size, len(self._talk.lines)))

    def doom(self, reply: Reply, cause: ResetCause) -> None:
        """The message under way will be answered with `reply`, whatever is still to come of it."""
        if self._intake.refusal is None:
            self._intake.refusal = reply
            # LMTP has a verdict for each recipient, but a reply that closes is the last one anywhere.
            self._due = 1 if reply.code in CLOSING_CODES else self._talk.recipients_due
            self._talk.drop_transaction(cause)

    def read(self) -> Flow | None:
        """Reads on in the message or chunk. RFC 1870 section 6.3 for one that is too large."""
        talk, intake = self._talk, self._intake
        if intake.ended:
            self._end()
            return None
        if not len(talk.lines):
            return talk.need(Flow.NEED_DATA)
        content = intake.read(talk.lines)
        if intake.too_large:
            self.doom(MESSAGE_TOO_LARGE, ResetCause.TOO_LARGE)
        self._judge()
        if intake.hopeless:
            talk.violate(Violation.MESSAGE_TOO_LARGE, MESSAGE_TOO_LARGE)
        elif content and intake.refusal is None:
            talk.events.append(Body(content))
        return None

    def _end(self) -> None:
        """The message or chunk was read, and all of it was handed out before: refusals came in time."""
        talk, intake = self._talk, self._intake
        intake.finish()
        self._judge()
        talk.heard(b"(%d octets)%s" % (intake.size, b" ." if intake.last else b""))
        talk.budgets.expect(Timer.COMMAND)
        if intake.refusal is None:
            if intake.last:
                talk.events.append(intake.end)
            else:
                talk.answer(Verb.CHUNK, CHUNK_TAKEN)
            return
        for _ in range(self._due - 1 if intake.last else 0):
            talk.say(intake.refusal)
        talk.answer(Verb.END if intake.last else Verb.CHUNK, intake.refusal)
        talk.blame(intake.refusal)

    def _judge(self) -> None:
        """Bare newlines where none are taken; the sender hears of it at the end, when it listens."""
        if self._intake.misspelled:
            self.doom(self._talk.config.wire.bare_newline_refusal, ResetCause.BARE_NEWLINE)

    def drop(self) -> Flow | None:
        """Drops the octets of a refused BDAT, which is answered at their end."""
        talk, intake, refused = self._talk, self._intake, self._refused
        assert refused is not None  # `drops` says so
        if not intake.ended:
            if not len(talk.lines):
                return talk.need(Flow.NEED_DATA)
            intake.read(talk.lines)
            if intake.hopeless:
                talk.violate(Violation.MESSAGE_TOO_LARGE, MESSAGE_TOO_LARGE)
            return None
        self._refused = None
        talk.budgets.expect(Timer.COMMAND)
        talk.session.advance(Verb.BDAT, Outcome.FAIL)
        talk.turn_down(refused)
        if talk.session.phase is Phase.DEAD:
            talk.drop_transaction(ResetCause.REFUSED)
        return None
