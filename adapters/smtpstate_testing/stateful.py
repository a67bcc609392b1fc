"""A state machine for Hypothesis that tests anybody's server. Needs Hypothesis (`smtpstate[hypothesis]`).

    TestMyServer = server_rules(lambda: SocketChannel("127.0.0.1", 2525)).TestCase

Our own client's seat is at the other end: it knows which command may come when, and which replies may answer it. What
it would not send is sent past it, and has to be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from smtpstate import (
    Bdat,
    Body,
    BodyType,
    Command,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Help,
    LocalProtocolError,
    Mail,
    Noop,
    Phase,
    Quit,
    Rcpt,
    Reply,
    Rset,
    Verb,
    Vrfy,
)
from smtpstate.policy import MX, Policy
from smtpstate_testing import strategies
from smtpstate_testing._channel import Channel as Channel  # noqa: TC001  # a name of this module
from smtpstate_testing._channel import MemoryChannel as MemoryChannel
from smtpstate_testing._channel import SocketChannel as SocketChannel
from smtpstate_testing._interview import SUCCESSES, Interview
from smtpstate_testing.strategies import Sent as Sent
from smtpstate_testing.strategies import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import SearchStrategy

# Lines that are no command of anybody's.
NONSENSE: Final = (
    b"XYZZY\r\n",
    b"MAIL\r\n",
    b"MAIL FROM\r\n",
    b"MAIL FROM:<a@b\r\n",
    b"RCPT TO:<>\r\n",
    b"RCPT FROM:<a@example.org>\r\n",
    b"\r\n",
    b"220 mx.example.org\r\n",
    b"MAIL FROM:<me@example.com> XYZZY=1\r\n",
    b"NOOP\0\r\n",
)
# What says that the server closes now: 521 as well (RFC 7504 section 3), and 221, which Postfix has for nonsense only.
_FED_UP: Final = frozenset({421, 521})
_GOODBYE: Final = _FED_UP | {221}
# The most lenient of servers has to keep these in order.
ORDERED: Final = frozenset({Verb.MAIL, Verb.RCPT, Verb.DATA})


class Stored(Protocol):
    """A message as a server kept it; `Sent` and `ReceivedMessage` are such."""

    @property
    def sender(self) -> str: ...
    @property
    def recipients(self) -> tuple[str, ...]: ...
    @property
    def data(self) -> bytes: ...


Keeps: TypeAlias = "Callable[[Reply], Stored | None]"


def _own(name: str) -> SearchStrategy[Any]:
    """What the machine that runs has for a strategy under this name."""
    return st.runner().flatmap(lambda machine: getattr(machine, name))


# Where a command may be said.
_BETWEEN: Final = (Phase.READY, Phase.MAIL, Phase.RCPT)
# What has its place in each of them, beside what may always come.
_PLACES: Final = {
    Phase.READY: {Verb.MAIL},
    Phase.MAIL: {Verb.RCPT},
    Phase.RCPT: {Verb.RCPT, Verb.DATA, Verb.BDAT},
}


class ServerRules(RuleBasedStateMachine):
    """Talks to a server, and checks all that it says. Override what is not true of yours; `open` has to be.

    What holds: each command has one reply, in order and by the grammar, with a code that may answer it; what is in
    order is not refused for good; what is not in order is, and changes nothing; what was accepted is kept as it was
    sent. A 4yz is no failure: a server may be busy. Nor is it one to end the session for what is not in order, by 421
    or 521, or by 221 for what is no command at all; but nothing may come after that.
    """

    # Whom the server takes mail for and from; and whom it does not, if there is anybody.
    recipients: ClassVar[SearchStrategy[str]] = st.sampled_from(["you@example.org", "postmaster@example.org"])
    senders: ClassVar[SearchStrategy[str]] = st.sampled_from(["me@example.com", ""])
    strangers: ClassVar[SearchStrategy[str] | None] = None
    contents: ClassVar[SearchStrategy[bytes]] = strategies.messages()
    eight_bit_contents: ClassVar[SearchStrategy[bytes]] = strategies.messages(eight_bit=True)
    # Lines that have to be refused.
    nonsense: ClassVar[tuple[bytes, ...]] = NONSENSE
    # What may be refused though it is in order, and what is held to its order.
    may_refuse: ClassVar[frozenset[Verb]] = frozenset({Verb.VRFY, Verb.EXPN, Verb.HELP})
    ordered: ClassVar[frozenset[Verb]] = ORDERED
    # The codes that say yes to each command.
    successes: ClassVar[Mapping[Verb, frozenset[int]]] = SUCCESSES
    # How strict to be about replies that break the grammar and are understood.
    policy: ClassVar[Policy] = MX
    # How many errors a session may have before the server is fed up.
    errors: ClassVar[int] = 5

    def open(self) -> Channel:
        """A new connection to the server."""
        raise NotImplementedError("a server to talk to")

    def stored(self, reply: Reply) -> Stored | None:
        """What the server has kept of the message that `reply` has accepted just now; None where nobody can look."""
        return None

    def same(self, sent: bytes, kept: bytes) -> bool:
        """Whether `kept` is `sent`, or may be what became of it."""
        return sent == kept

    # A session begins.

    def __init__(self) -> None:
        super().__init__()
        self.interview: Interview | None = None
        self._mail: Mail | None = None
        self._to: list[Rcpt] = []
        self._left: int = self.errors

    @property
    def _at(self) -> Phase:
        return Phase.CLOSED if self.interview is None or self.interview.is_over else self.interview.phase

    @property
    def _talk(self) -> Interview:
        assert self.interview is not None
        return self.interview

    @precondition(lambda self: self._at is Phase.CLOSED)
    @rule(esmtp=st.sampled_from([True, True, True, False]))
    def begin(self, *, esmtp: bool) -> None:
        """Somebody connects, and says who it is."""
        if self.interview is not None:
            self.interview.close()
        self.interview = Interview(self.open(), self.policy, self.successes)
        self._left = self.errors
        self._fits(self.interview.greeting(), 2, "the greeting")
        self.hello(esmtp=esmtp)

    @precondition(lambda self: self._at in _BETWEEN)
    @rule(esmtp=st.booleans())
    def hello(self, *, esmtp: bool) -> None:
        """A hello, which ends whatever was open."""
        self._yes(Ehlo("client.example.com") if esmtp else Helo("client.example.com"))
        self._forget()

    # Commands in order.

    @precondition(lambda self: self._at is Phase.READY)
    @rule(sender=_own("senders"), size=st.none() | st.integers(1, 1000))
    def mail(self, sender: str, size: int | None) -> None:
        """A transaction begins."""
        mail = Mail.of(sender, size=size if "SIZE" in self._talk.client.capabilities else None)
        if self._yes(mail):
            self._mail = mail

    @precondition(lambda self: self._at in (Phase.MAIL, Phase.RCPT))
    @rule(recipient=_own("recipients"))
    def rcpt(self, recipient: str) -> None:
        """A recipient."""
        rcpt = Rcpt.of(recipient)
        if self._yes(rcpt):
            self._to.append(rcpt)

    @precondition(lambda self: self._at in (Phase.MAIL, Phase.RCPT) and self.strangers is not None and self._left > 1)
    @rule(data=st.data())
    def stranger(self, data: st.DataObject) -> None:
        """A recipient whom the server does not take mail for."""
        assert self.strangers is not None
        self._left -= 1
        [reply] = self._talk.ask(Rcpt.of(data.draw(self.strangers)))
        self._talk.require(reply.code // 100 in (4, 5), "a stranger was accepted")

    @precondition(lambda self: self._at is Phase.RCPT)
    @rule(content=_own("contents"), cut=st.integers(1, 60))
    def message(self, content: bytes, cut: int) -> None:
        """A message to those who were accepted, in pieces."""
        mail, to = self._mail, tuple(self._to)
        assert mail is not None
        [go_on] = self._talk.ask(Data())
        if self._fits(go_on, 3, "DATA"):
            pieces = [Body(content[at : at + cut]) for at in range(0, len(content), cut)]
            [reply] = self._talk.ask(*pieces, EndOfMessage())
            self._take(mail, to, content, reply)
        self._forget()

    @precondition(lambda self: self._at is Phase.READY)
    @rule(sender=_own("senders"), to=st.lists(_own("recipients"), min_size=1, max_size=3), data=st.data())
    def transaction(self, sender: str, to: list[str], data: st.DataObject) -> None:
        """A whole transaction: where the server takes it, in one group (RFC 2920)."""
        offered = self._talk.client.capabilities
        eight_bit = "8BITMIME" in offered
        content = data.draw(self.eight_bit_contents if eight_bit else self.contents)
        mail = Mail.of(sender, body=BodyType.EIGHTBITMIME if eight_bit else None)
        rcpts = [Rcpt.of(recipient) for recipient in to]
        replies = self._talk.ask(mail, *rcpts, Data())
        if self._talk.is_over:
            return
        for verb, reply in zip((Verb.MAIL, *(Verb.RCPT for _ in rcpts)), replies, strict=False):
            self._fits(reply, 2, verb.name)
        if self._at is Phase.BODY:
            [reply] = self._talk.ask(Body(content), EndOfMessage())
            accepted = zip(rcpts, replies[1:-1], strict=True)
            self._take(mail, tuple(rcpt for rcpt, said in accepted if said.code // 100 == 2), content, reply)
        self._forget()
        if self._at is not Phase.READY:
            self._yes(Rset())

    @precondition(lambda self: self._at is Phase.RCPT and "CHUNKING" in self._talk.client.capabilities)
    @rule(content=_own("contents"), at=st.integers(0, 200))
    def chunks(self, content: bytes, at: int) -> None:
        """A message in two chunks, cut anywhere (RFC 3030)."""
        mail, to = self._mail, tuple(self._to)
        assert mail is not None
        replies: list[Reply] = []
        for octets, last in ((content[:at], False), (content[at:], True)):
            if self._at in (Phase.RCPT, Phase.CHUNKED):
                replies += self._talk.ask(Bdat(len(octets), last=last), *([Body(octets)] if octets else []))
        if len(replies) == 2 and replies[0].code // 100 == 2:
            self._take(mail, to, content, replies[1])
        self._forget()
        if self._at is not Phase.READY and self._at is not Phase.CLOSED:
            self._yes(Rset())

    @precondition(lambda self: self._at in _BETWEEN)
    @rule(command=st.sampled_from([Noop(), Noop("text"), Help(), Vrfy("you"), Expn("list")]))
    def aside(self, command: Command) -> None:
        """What changes nothing."""
        before = self._at
        self._yes(command)
        assert self._at in (before, Phase.CLOSED)

    @precondition(lambda self: self._at in _BETWEEN)
    @rule()
    def rset(self) -> None:
        """Whatever was open is gone."""
        self._yes(Rset())
        self._forget()

    # What is not in order.

    @precondition(lambda self: self._at in _BETWEEN and self._left > 1)
    @rule(command=st.sampled_from([Mail.of("me@example.com"), Rcpt.of("you@example.org"), Data(), Bdat(0, last=True)]))
    def out_of_order(self, command: Command) -> None:
        """A command that has no place here, if it has none: it is refused, and all is as before.

        But for the transaction in which BDAT was refused: only RSET leads out of it (RFC 3030 section 2).
        """
        before = self._at
        if command.verb not in self.ordered or command.verb in _PLACES[before]:
            return
        self._left -= 1
        self._no(spelled(command), f"{command.verb.name} was out of order")
        if command.verb is Verb.BDAT and before is not Phase.READY and self._at is not Phase.CLOSED:
            self._yes(Rset())
            self._forget()

    @precondition(lambda self: self._at in _BETWEEN and self._left > 1)
    @rule(data=st.data())
    def nonsense_is_refused(self, data: st.DataObject) -> None:
        """A line that is no command, or not one that could be understood."""
        line = data.draw(st.sampled_from(self.nonsense))
        self._left -= 1
        self._no(line, f"this was no command: {line!r}", _GOODBYE)

    # The end.

    @precondition(lambda self: self._at in _BETWEEN)
    @rule()
    def leave(self) -> None:
        """QUIT, which is answered, and nothing comes after it."""
        replies = self._talk.ask(Quit())
        self._talk.require([reply.code for reply in replies] == [221], "QUIT has one answer, 221")
        self._talk.expect_end()
        self._forget()

    @precondition(lambda self: self._at in _BETWEEN)
    @rule(half=st.sampled_from([b"", b"NO", b"MAIL FROM:<me@exam"]))
    def vanish(self, half: bytes) -> None:
        """The client is gone without a word, or in the middle of one."""
        self._talk.send(half)
        self._talk.close()
        self.interview = None
        self._forget()

    @precondition(lambda self: self._at is Phase.RCPT)
    @rule(content=_own("contents"))
    def vanish_in_body(self, content: bytes) -> None:
        """The client is gone before the lone dot: there is no message."""
        self._talk.ask(Data())
        if self._at is Phase.BODY:
            self._talk.send(content[:-1])
        self._talk.close()
        self.interview = None
        self._forget()

    def teardown(self) -> None:
        """Says goodbye, if there is anybody to say it to: what is one reply too many comes out now at the latest."""
        try:
            if self._at in _BETWEEN:
                self.leave()
        finally:
            if self.interview is not None:
                self.interview.close()

    # What has to hold.

    def _forget(self) -> None:
        self._mail = None
        self._to = []

    def _yes(self, command: Command) -> bool:
        """Asks what is in order; whether it was done."""
        try:
            replies = self._talk.ask(command)
        except LocalProtocolError as error:
            raise AssertionError(self._talk.said(str(error))) from error
        if not replies:
            return False
        return self._fits(replies[0], 2, command.verb.name, may_refuse=command.verb in self.may_refuse)

    def _no(self, line: bytes, why: str, ends: frozenset[int] = _FED_UP) -> None:
        """Says what is not in order, and is refused; whoever is fed up with it says one of `ends`, and closes."""
        reply = self._talk.blurt(line)
        if reply.code in ends:
            self._talk.expect_end()
            self._talk.close()
            self.interview = None
            self._forget()
        else:
            self._talk.require(reply.code // 100 == 5, why)

    def _fits(self, reply: Reply, digit: int, what: str, *, may_refuse: bool = False) -> bool:
        """Whether it is what was hoped for; a 5yz fails, since there was nothing wrong."""
        first = reply.code // 100
        self._talk.require(first in (digit, 4) or may_refuse, f"{reply.code} to {what}, which was in order")
        return first == digit

    def _take(self, mail: Mail, to: tuple[Rcpt, ...], content: bytes, reply: Reply) -> None:
        """A message was answered."""
        if not self._fits(reply, 2, "the end of a message"):
            return
        kept = self.stored(reply)
        if kept is None:
            return
        recipients = sorted(rcpt.recipient.address for rcpt in to)
        self._talk.require(kept.sender == mail.reverse_path.address, f"it is from {kept.sender!r} now")
        self._talk.require(sorted(set(kept.recipients)) == sorted(set(recipients)), f"it is for {kept.recipients} now")
        self._talk.require(self.same(content, kept.data), f"sent {content!r}, kept {kept.data!r}")


def server_rules(
    connect: Callable[[], Channel], *, stored: Keeps | None = None, **options: object
) -> type[ServerRules]:
    """The machine for the server that `connect` reaches. `options` are attributes of `ServerRules`."""
    members: dict[str, object] = dict(options)
    unknown = [name for name in options if not hasattr(ServerRules, name)]
    if unknown:
        raise TypeError(f"no such options: {', '.join(unknown)}")

    def open(rules: ServerRules) -> Channel:  # as the method
        return connect()

    def look(rules: ServerRules, reply: Reply) -> Stored | None:
        return None if stored is None else stored(reply)

    return type("ServerRules", (ServerRules,), members | {"open": open, "stored": look})
