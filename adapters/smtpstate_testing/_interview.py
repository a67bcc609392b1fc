"""Interview: our client's seat at one end of a channel, that holds whatever the server says against the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate import (
    Body,
    CapabilitiesChanged,
    ClientConnection,
    Command,
    Connected,
    ConnectionClosed,
    EndOfMessage,
    Flow,
    Limits,
    LocalProtocolError,
    NoRecipients,
    Phase,
    Reply,
    ReplyReceived,
    Verb,
)
from smtpstate_testing._conversation import Conversation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smtpstate.policy import Policy
    from smtpstate_testing._channel import Channel

# Nobody minds how long it takes: the channel knows when it has waited enough.
_PATIENT: Final = Limits()


def _still() -> float:
    return 0.0


@final
class Interview:
    """A session with the server. Whatever it does that the rules do not know fails, with all that was said."""

    def __init__(self, channel: Channel, policy: Policy, successes: Mapping[Verb, frozenset[int]]) -> None:
        self.client: Final = ClientConnection("client.example.com", clock=_still, limits=_PATIENT, policy=policy)
        self.recorded: Final = Conversation()
        self._channel: Final = channel
        self._successes: Final = successes

    @property
    def phase(self) -> Phase:
        """Where the session is, by the replies that came."""
        return self.client.phase

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be said."""
        return self.client.closed is not None

    # Talk.

    def greeting(self) -> Reply:
        """What the server says first."""
        [reply] = self._settle(1)
        return reply

    def ask(self, *items: Command | Body | EndOfMessage) -> list[Reply]:
        """Says all of it, in groups where the server takes them; a reply for each command and each end, in order."""
        client = self.client
        due = 0
        for item in items:
            self.require(client.send(item), "the connection is over")
            due += not isinstance(item, Body)
        return self._settle(due)

    def is_in_order(self, command: Command) -> bool:
        """Whether the table lets it come now; whoever sends it anyway is the one to blame."""
        trial = self.client
        try:
            trial.check(command)
        except LocalProtocolError:
            return False
        return True

    def blurt(self, line: bytes) -> Reply:
        """Says a line that our own seat would not; nothing may be outstanding. The one reply to it."""
        self.send(line)
        lines: list[bytes] = []
        held = b""
        while not lines or lines[-1][3:4] == b"-":
            held += self._receive("a reply")
            while b"\n" in held and (not lines or lines[-1][3:4] == b"-"):
                one, _, held = held.partition(b"\n")
                lines.append(one.rstrip(b"\r"))
                head = lines[-1][:3]
                self.require(head.isdigit() and lines[-1][3:4] in (b" ", b"-", b""), f"no reply: {one!r}")
                self.require(head == lines[0][:3], "one reply has several codes")
        self.require(not held, f"more than one reply to {line!r}")
        return Reply(int(lines[0][:3]), *(one[4:].decode("utf-8", "replace") for one in lines))

    def send(self, octets: bytes) -> None:
        """Puts octets on the wire, past our own seat."""
        self.recorded.heard(octets)
        self._channel.send(octets)

    def expect_end(self) -> None:
        """The server has to close now, and to have said all that it had to say."""
        data = self._channel.receive()
        self.require(not data, f"this came after the last reply: {data!r}")

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()

    # What comes of it.

    def _settle(self, due: int) -> list[Reply]:
        """Moves octets until nothing is outstanding; all replies."""
        client, replies = self.client, list[Reply]()
        while True:
            event = client.next_event()
            match event:
                case Flow.NEED_DATA:
                    self._drain()
                    data = self._receive_or_end()
                    client.receive_data(data) if data else client.receive_eof()
                case Flow():
                    self._drain()
                    break
                case ReplyReceived(to, reply):
                    replies.append(reply)
                    self._check_code(to.verb, reply)
                case ConnectionClosed():
                    self._check_end(event)
                    break
                case CapabilitiesChanged() | NoRecipients():
                    pass
        self.require(client.closed is not None or len(replies) == due, f"{due} replies were due, {len(replies)} came")
        return replies

    def _check_code(self, verb: Verb, reply: Reply) -> None:
        known = self._successes.get(verb)
        self.require(
            known is None or reply.code in known or reply.code // 100 in (4, 5),
            f"{reply.code} is no answer to {verb.name}",
        )

    def _check_end(self, closed: ConnectionClosed) -> None:
        if closed.violation is not None:
            what = closed.violation if closed.deviation is None else closed.deviation
            raise AssertionError(self.said(f"the server breaks the rules: {what.name}, {what.value}"))

    def _drain(self) -> None:
        while data := self.client.data_to_send():
            self.send(data)

    def _receive_or_end(self) -> bytes:
        try:
            data = self._channel.receive()
        except TimeoutError:
            raise AssertionError(self.said("a reply is due, and none comes")) from None
        self.recorded.said(data)
        return data

    def _receive(self, what: str) -> bytes:
        data = self._receive_or_end()
        self.require(bool(data), f"{what} was due, and the server closed")
        return data

    def require(self, fact: bool, why: str) -> None:  # noqa: FBT001  # as assert has it
        """Raises AssertionError, with all that was said, unless it is so."""
        if not fact:
            raise AssertionError(self.said(why))

    def said(self, why: str) -> str:
        """`why`, and all that was said before."""
        return f"{why}\nwhat was said:\n{self.recorded}"


# RFC 5321 section 4.3.2: the successes of each command.
SUCCESSES: Final[Mapping[Verb, frozenset[int]]] = {
    Connected.verb: frozenset({220}),
    Verb.EHLO: frozenset({250}),
    Verb.HELO: frozenset({250}),
    Verb.MAIL: frozenset({250}),
    Verb.RCPT: frozenset({250, 251}),
    Verb.DATA: frozenset({354}),
    Verb.END: frozenset({250}),
    Verb.BDAT: frozenset({250}),
    Verb.RSET: frozenset({250}),
    Verb.NOOP: frozenset({250}),
    Verb.VRFY: frozenset({250, 251, 252}),
    Verb.EXPN: frozenset({250, 252}),
    Verb.HELP: frozenset({211, 214}),
    Verb.QUIT: frozenset({221}),
}
