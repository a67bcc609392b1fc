"""What a message may be given as, and what has to be known of it before MAIL. Nothing here needs an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from copy import copy
from email.generator import BytesGenerator
from email.message import Message
from io import BytesIO
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK: Final = 262_144  # octets read from a file at a time
PIECE: Final = 32_768  # octets handed to the core at a time: twice that, stuffed, is below `Limits.unsent`


@runtime_checkable
class BinaryFile(Protocol):
    """A file open for reading in binary mode."""

    def read(self, size: int, /) -> bytes: ...
    def seekable(self) -> bool: ...
    def tell(self) -> int: ...
    def seek(self, offset: int, /) -> int: ...


Octets: TypeAlias = bytes | BinaryFile | Iterable[bytes] | AsyncIterable[bytes]
Source: TypeAlias = Octets | Message  # email.message.EmailMessage is a Message


@final
class Scan:
    """Octets as they will be on the wire, before stuffing, and whether any is above 127.

    In what is `binary` newlines are not touched.
    """

    def __init__(self, blocks: Iterable[bytes], *, binary: bool = False) -> None:
        self.size: int = 0
        self.eight_bit: bool = False
        for block in blocks:
            self.size += len(block) + (0 if binary else block.count(b"\n") - block.count(b"\r\n"))
            self.eight_bit = self.eight_bit or not block.isascii()


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


def pieces(block: bytes) -> Iterator[bytes]:
    """`block` cut into what the core takes at a time; nothing at all if it is empty."""
    if len(block) <= PIECE:
        if block:
            yield block
        return
    for start in range(0, len(block), PIECE):
        yield block[start : start + PIECE]


def flatten(message: Message, *, eight_bit: bool) -> bytes:
    """`message` as octets with CRLF, without Bcc; re-encoded to 7 bits unless `eight_bit`. RFC 5322 section 3.6.3."""
    out = BytesIO()
    policy = message.policy.clone(linesep="\r\n", cte_type="8bit" if eight_bit else "7bit")
    shown = _without_bcc(message)
    BytesGenerator(out, mangle_from_=False, policy=policy).flatten(shown)
    return out.getvalue()


def _without_bcc(message: Message) -> Message:
    hidden = [name for name in ("Bcc", "Resent-Bcc") if name in message]
    if not hidden:
        return message
    message = copy(message)
    for name in hidden:
        del message[name]
    return message
