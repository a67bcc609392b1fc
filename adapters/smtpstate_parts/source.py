"""What a message may be given as, and what has to be known of it before MAIL. Nothing here waits."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Iterable
from copy import copy
from email.generator import BytesGenerator
from email.headerregistry import Address, AddressHeader, Group
from email.message import Message
from email.policy import EmailPolicy
from io import BytesIO
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final, runtime_checkable

from smtpstate import LocalProtocolError
from smtpstate.extensions import domain_key

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK: Final = 262_144  # octets read from a file at a time
HEADERS: Final = 65_536  # octets in which a header section is looked for an end, where it cannot be read twice
PIECE: Final = 32_768  # octets handed to the core at a time: twice that, stuffed, is below `Limits.unsent`


@runtime_checkable
class BinaryFile(Protocol):
    """A file open for reading in binary mode."""

    def read(self, size: int, /) -> bytes: ...
    def seekable(self) -> bool: ...
    def tell(self) -> int: ...
    def seek(self, offset: int, /) -> int: ...


Source: TypeAlias = bytes | BinaryFile | Iterable[bytes] | Message  # email.message.EmailMessage is a Message


# The end of a line and an empty line after it, in whatever ends lines here. A CR at the end of what is there may be the
# half of a CRLF; that changes nothing, since the empty line is empty either way.
_HEADERS_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


@final
class HeaderScan:
    """Whether the header section of a message has UTF-8 beyond ASCII. RFC 5322 section 2.1: it ends with an empty line.

    Octets that are not UTF-8 are what SMTPUTF8 has no word for (RFC 6532 section 3), so they do not ask for it. Headers
    of parts are not looked at. `over` says that the answer is known, or that `HEADERS` octets have none.
    """

    def __init__(self) -> None:
        self.utf8: bool = False
        self._decoder: Final = getincrementaldecoder("utf-8")()
        self._ended: bool = False
        self._seen: int = 0
        self._last: bytes = b"\n"  # a message may begin with the empty line

    @property
    def over(self) -> bool:
        return self._ended or self.utf8 or self._seen >= HEADERS

    def add(self, block: bytes) -> None:
        """The next octets of the message."""
        if self._ended or self.utf8:
            return
        text = self._last + block
        match = _HEADERS_END.search(text)
        self._ended = match is not None
        self._seen += len(block)
        headers = text[len(self._last) : None if match is None else match.end()]
        self._last = text[-3:]
        try:
            self.utf8 = not self._decoder.decode(headers, self._ended).isascii()
        except UnicodeDecodeError:
            self._ended = True


@final
class Scan:
    """Octets as they will be on the wire, before stuffing, and whether any is above 127, or any of the headers.

    In what is `binary` newlines are not touched.
    """

    def __init__(self, blocks: Iterable[bytes], *, binary: bool = False) -> None:
        headers = HeaderScan()
        self.size: int = 0
        self.eight_bit: bool = False
        for block in blocks:
            self.size += len(block) + (0 if binary else block.count(b"\n") - block.count(b"\r\n"))
            self.eight_bit = self.eight_bit or not block.isascii()
            headers.add(block)
        self.utf8: bool = headers.utf8


def blocks(file: BinaryFile) -> Iterator[bytes]:
    """The rest of `file`. Raises OSError, and TypeError for a file in text mode."""
    while block := file.read(BLOCK):
        yield check_bytes(block)


def scan_file(file: BinaryFile, *, binary: bool = False) -> Scan:
    """Reads the rest of a seekable file, and goes back to where it was. Raises OSError and TypeError."""
    start = file.tell()
    scan = Scan(blocks(file), binary=binary)
    file.seek(start)
    return scan


def check_bytes(block: object) -> bytes:
    """`block`, if it is bytes. Raises TypeError."""
    if not isinstance(block, bytes):
        raise TypeError(f"a message is made of bytes, not {type(block).__name__}; open files in binary mode")
    return block


@final
class Pieces:
    """A message as the core takes it: blocks in, as they are read, and pieces out, at most `PIECE` octets each."""

    def __init__(self, *, eight_bit: bool) -> None:
        self._eight_bit: Final = eight_bit
        self._pieces: Iterator[bytes] = iter(())
        self._held: Final[deque[bytes]] = deque()
        self._headers: HeaderScan | None = None

    def add(self, block: object) -> None:
        """A block that was read. Raises TypeError for what is not bytes."""
        self._pieces = pieces(check_bytes(block))

    def take(self) -> bytes | None:
        """The next piece; None when another block is needed.

        Raises LocalProtocolError for an octet above 127 unless `eight_bit`.
        """
        return self._held.popleft() if self._held else self._next()

    def _next(self) -> bytes | None:
        piece = next(self._pieces, None)
        if piece is not None and not self._eight_bit and not piece.isascii():
            raise LocalProtocolError("the message has octets above 127, and 7 bits were announced")
        return piece

    def scan(self) -> bool | None:
        """Whether the headers have UTF-8, from what was added; None when that takes another block.

        What was looked at comes again. At the end of the message `utf8` is the answer.
        """
        if not self._eight_bit:
            return False
        headers = self._headers = self._headers or HeaderScan()
        while not headers.over:
            piece = self._next()
            if piece is None:
                return None
            self._held.append(piece)
            headers.add(piece)
        return headers.utf8

    @property
    def utf8(self) -> bool:
        """What `scan` has found so far."""
        return self._headers is not None and self._headers.utf8


def pieces(block: bytes) -> Iterator[bytes]:
    """`block` cut into what the core takes at a time; nothing at all if it is empty."""
    if len(block) <= PIECE:
        if block:
            yield block
        return
    for start in range(0, len(block), PIECE):
        yield block[start : start + PIECE]


def flatten(message: Message, *, eight_bit: bool, utf8: bool | None = None) -> bytes:
    """`message` as octets with CRLF, without Bcc; re-encoded to 7 bits unless `eight_bit`. RFC 5322 section 3.6.3.

    Headers are in UTF-8 with `utf8`, in encoded words without; None takes the words unless an address needs UTF-8: its
    local part has no other spelling. RFC 6532 section 3.2, RFC 2047 section 5.
    """
    out = BytesIO()
    shown = _without_bcc(message)
    policy = message.policy.clone(linesep="\r\n", cte_type="8bit" if eight_bit else "7bit")
    if isinstance(policy, EmailPolicy):
        headers = list(_addresses(shown))
        needed = any(not address.username.isascii() for _, found in headers for address in found)
        policy = policy.clone(utf8=needed if utf8 is None else utf8)
        if not policy.utf8:
            shown = _with_a_labels(shown, headers)
    BytesGenerator(out, mangle_from_=False, policy=policy).flatten(shown)
    return out.getvalue()


def _addresses(message: Message) -> Iterator[tuple[str, tuple[Address, ...]]]:
    """The name of each header that has addresses, and these."""
    for name, value in message.items():
        if isinstance(value, AddressHeader):
            yield name, value.addresses


def _with_a_labels(message: Message, headers: list[tuple[str, tuple[Address, ...]]]) -> Message:
    """`message` with the domains of its addresses as A-labels, of which encoded words make nonsense."""
    changed = {name.lower() for name, found in headers if not all(address.domain.isascii() for address in found)}
    if not changed:
        return message
    items = [*zip(message.raw_items(), message.values(), strict=True)]
    message = copy(message)
    for name in set(message.keys()):
        del message[name]
    for (name, raw), value in items:
        if name.lower() in changed and isinstance(value, AddressHeader):
            groups = [Group(one.display_name, tuple(map(_with_a_label, one.addresses))) for one in value.groups]
            message[name] = ", ".join(map(str, groups))
        else:
            message.set_raw(name, raw)
    return message


def _with_a_label(address: Address) -> Address:
    domain = address.domain if address.domain.isascii() else domain_key(address.domain)
    return Address(address.display_name, address.username, domain)


def _without_bcc(message: Message) -> Message:
    hidden = [name for name in ("Bcc", "Resent-Bcc") if name in message]
    if not hidden:
        return message
    message = copy(message)
    for name in hidden:
        del message[name]
    return message
