"""Hypothesis strategies: what may be said in SMTP, and what should not. Needs Hypothesis (`smtpstate[hypothesis]`)."""

from __future__ import annotations

import ipaddress
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

from hypothesis import strategies as st

from smtpstate import (
    BodyType,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Mail,
    Mailbox,
    Noop,
    Quit,
    Rcpt,
    Reply,
    ReversePath,
    Rset,
    StartTls,
    Vrfy,
)
from smtpstate._syntax import encode_command

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Cut: TypeAlias = "int | list[int] | None"

_LINE: Final = 2048
_ATEXT: Final = string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~"
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
_LET_DIG: Final = string.ascii_letters + string.digits

# Addresses.


def _labels() -> SearchStrategy[str]:
    inner = st.text(_LET_DIG + "-", max_size=8)
    return st.tuples(_one(), inner, _one()).map("".join)


def _one() -> SearchStrategy[str]:
    return st.sampled_from(_LET_DIG)


def domains() -> SearchStrategy[str]:
    """Domains by RFC 5321 section 4.1.2, of one to four labels."""
    names = st.lists(_labels(), min_size=1, max_size=4).map(".".join)
    # A number where a top-level domain should be would read as an address to many.
    return names.filter(lambda name: not name.rpartition(".")[2].isdigit())


def literals() -> SearchStrategy[str]:
    """Address literals, of either family. RFC 5321 section 4.1.3."""
    four = st.integers(0, 2**32 - 1).map(lambda number: f"[{ipaddress.IPv4Address(number)}]")
    six = st.integers(0, 2**128 - 1).map(lambda number: f"[IPv6:{ipaddress.IPv6Address(number).exploded}]")
    return four | six


def local_parts(*, utf8: bool = False) -> SearchStrategy[str]:
    """Local parts of at most 64 octets, without their quoting; with `utf8` those of RFC 6531 as well."""
    atoms = st.text(_ATEXT, min_size=1, max_size=12)
    dotted = st.lists(atoms, min_size=1, max_size=4).map(".".join)
    quoted = st.text(_PRINTABLE, max_size=30)
    plain = st.one_of(dotted, dotted, quoted)
    if not utf8:
        return plain
    letters = st.characters(min_codepoint=0x80, categories=("Ll", "Lo"))
    return plain | st.text(letters, min_size=1, max_size=10)


def mailboxes(*, utf8: bool = False, domain: SearchStrategy[str] | None = None) -> SearchStrategy[Mailbox]:
    """Mailboxes that RFC 5321 knows; `domain` says where, which is anywhere otherwise."""
    return st.builds(Mailbox, local_parts(utf8=utf8), domains() | literals() if domain is None else domain)


def addresses(*, utf8: bool = False, domain: SearchStrategy[str] | None = None) -> SearchStrategy[str]:
    """The same, spelled."""
    return mailboxes(utf8=utf8, domain=domain).map(str)


def reverse_paths(*, utf8: bool = False) -> SearchStrategy[ReversePath]:
    """Who may send: a mailbox, or nobody."""
    return st.builds(ReversePath, st.none() | mailboxes(utf8=utf8))


# Commands.


def _texts() -> SearchStrategy[str]:
    return st.text(_PRINTABLE, max_size=20).map(str.strip)


def commands(*, utf8: bool = False) -> SearchStrategy[Command]:
    """Commands of RFC 5321 and STARTTLS, in any order; their parameters are those of SIZE and 8BITMIME."""
    sizes = st.none() | st.integers(0, 10**6)
    bodies = st.sampled_from([None, BodyType.SEVENBIT, BodyType.EIGHTBITMIME])
    senders = reverse_paths().map(lambda path: path.address)
    mails = st.builds(Mail.of, senders, size=sizes, body=bodies)
    if utf8:
        asks = (("SMTPUTF8", None),)
        mails |= reverse_paths(utf8=True).map(lambda path: Mail.of(path.address, parameters=asks))
    rcpts = addresses(utf8=utf8).map(Rcpt.of) | st.just(Rcpt.of("Postmaster"))
    asked = _texts().filter(bool)
    return st.one_of(
        (domains() | literals()).map(Ehlo),
        domains().map(Helo),
        mails,
        rcpts,
        st.sampled_from([Data(), Rset(), Quit(), StartTls()]),
        _texts().map(Noop),
        _texts().map(Help),
        asked.map(Vrfy),
        asked.map(Expn),
    )


def spelled(command: Command) -> bytes:
    """The line for a command, its CRLF included."""
    return encode_command(command, _LINE, utf8=True)


# Replies, for scripts and handlers.


def replies(classes: tuple[int, ...] = (2, 3, 4, 5)) -> SearchStrategy[Reply]:
    """Replies whose codes begin with one of these digits. RFC 5321 section 4.2."""
    codes = st.sampled_from([100 * first + rest for first in classes for rest in range(60)])
    lines = st.lists(st.text(_PRINTABLE, max_size=40), min_size=1, max_size=3)
    return st.tuples(codes, lines).map(lambda drawn: Reply(drawn[0], *drawn[1]))


# Bodies.

_ATOMS: Final = (
    b"\r",
    b"\n",
    b"\r\n",
    b".",
    b"..",
    b"\r\n.\r\n",
    b"\n.\n",
    b".\r\n",
    b"\0",
    b"\xff",
    b"a",
    b"word " * 9,
)


def bodies() -> SearchStrategy[bytes]:
    """Contents with all that dots and newlines can do to each other, and octets that no mail should hold."""
    return st.lists(st.sampled_from(_ATOMS), max_size=30).map(b"".join)


def messages(*, eight_bit: bool = False) -> SearchStrategy[bytes]:
    """Contents that RFC 5322 allows: a header, and lines of at most 998 octets that end with CRLF.

    With `eight_bit` they may hold octets above 127, for which 8BITMIME is needed.
    """
    letters = _PRINTABLE + ("\xe4\xff" if eight_bit else "")
    line = st.text(letters, max_size=20).map(lambda text: text.encode("latin-1"))
    special = st.sampled_from([b"", b".", b"..", b".x", b"From x", b"--", b"x" * 998])
    lines = st.lists(line | special, max_size=8)
    return lines.map(lambda rows: b"Subject: test\r\n\r\n" + b"".join(row + b"\r\n" for row in rows))


# Dialogues.


@final
@dataclass(frozen=True)
class Sent:
    """A message in a dialogue: its envelope, and its content as it has to arrive."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes


@final
@dataclass(frozen=True)
class Dialogue:
    """All that a client says in one session, in the pieces that it may send at once; and the messages in it."""

    pieces: tuple[bytes, ...]
    messages: tuple[Sent, ...]

    @property
    def octets(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


def _stuffed(data: bytes) -> bytes:
    return (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@st.composite
def dialogues(
    draw: st.DrawFn,
    *,
    recipients: SearchStrategy[str] | None = None,
    contents: SearchStrategy[bytes] | None = None,
    pipelined: bool = True,
) -> Dialogue:
    """Sessions in which everything is in order, from the hello to QUIT; with `pipelined` groups go out at once."""
    pieces = [spelled(Ehlo(draw(domains())))]
    if recipients is None:
        recipients = addresses()
    if contents is None:
        contents = messages()
    sent: list[Sent] = []
    asides: SearchStrategy[Command] = st.sampled_from([Noop(), Rset(), Help(), Vrfy("somebody")])
    for _ in range(draw(st.integers(0, 3))):
        pieces += map(spelled, draw(st.lists(asides, max_size=2)))
        path = draw(reverse_paths())
        to = draw(st.lists(recipients, min_size=1, max_size=3))
        group = [spelled(Mail(path)), *(spelled(Rcpt.of(address)) for address in to)]
        if draw(st.booleans()):
            group.append(draw(st.sampled_from([b"NOOP\r\n", b"RSET\r\n"])))
            pieces += [b"".join(group)] if pipelined else group
            if group[-1] == b"RSET\r\n":
                continue
            group = []
        group.append(spelled(Data()))
        pieces += [b"".join(group)] if pipelined else group
        content = draw(contents)
        pieces.append(_stuffed(content))
        sent.append(Sent(path.address, tuple(Rcpt.of(address).recipient.address for address in to), content))
    pieces.append(spelled(Quit()))
    return Dialogue(tuple(pieces), tuple(sent))


_INSERTED: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b".\r\n",
    b"\r\n.\r\n",
    b"NOOP\r\n",
    b"DATA\r\n",
    b"x" * 3000,
)


@st.composite
def mutated(draw: st.DrawFn, valid: SearchStrategy[Dialogue] | None = None) -> bytes:
    """The octets of a dialogue with some pieces gone, doubled, exchanged or cut, and some octets changed or added."""
    pieces = list(draw(dialogues() if valid is None else valid).pieces)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(pieces) - 1)))
        if not pieces:
            break
        match draw(st.sampled_from(["drop", "double", "exchange", "cut", "change", "insert"])):
            case "drop":
                del pieces[at]
            case "double":
                pieces.insert(at, pieces[at])
            case "exchange":
                other = draw(st.integers(0, len(pieces) - 1))
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case "cut":
                pieces[at] = pieces[at][: draw(st.integers(0, len(pieces[at])))]
            case "change" if pieces[at]:
                where = draw(st.integers(0, len(pieces[at]) - 1))
                pieces[at] = pieces[at][:where] + draw(st.binary(min_size=1, max_size=1)) + pieces[at][where + 1 :]
            case _:
                where = draw(st.integers(0, len(pieces[at])))
                pieces[at] = pieces[at][:where] + draw(st.sampled_from(_INSERTED)) + pieces[at][where:]
    return b"".join(pieces)


# How octets get there.


def cuts() -> SearchStrategy[Cut]:
    """How what is written is cut into what is read: a Pair's `cut`."""
    return st.one_of(st.none(), st.integers(1, 9), st.lists(st.integers(1, 40), min_size=1, max_size=5))


@st.composite
def schedules(
    draw: st.DrawFn, octets: bytes, *, pauses: SearchStrategy[float] | None = None
) -> list[tuple[float, bytes]]:
    """The octets in pieces, each after a pause of so many seconds; all of them, in order."""
    wait = pauses if pauses is not None else st.sampled_from([0.0, 0.0, 0.0, 1.0, 30.0, 299.0, 301.0])
    schedule: list[tuple[float, bytes]] = []
    at = 0
    while at < len(octets):
        size = draw(st.integers(1, max(1, len(octets) // 3)))
        schedule.append((draw(wait), octets[at : at + size]))
        at += size
    return schedule
