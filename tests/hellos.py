"""ClientHellos, made by hand, so that they can be wrong."""

from __future__ import annotations

HANDSHAKE = 22


def vector(width: int, data: bytes) -> bytes:
    """`data` behind its length. RFC 8446 section 3.4."""
    return len(data).to_bytes(width) + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, data)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def body(*extensions: bytes, end: bytes | None = None) -> bytes:
    """The ClientHello itself; `end` stands in for all that comes after the compression methods."""
    start = b"\3\3" + bytes(32) + vector(1, bytes(32)) + vector(2, b"\x13\1") + vector(1, b"\0")
    return start + (vector(2, b"".join(extensions)) if end is None else end)


def message(content: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(3, content)


def records(octets: bytes, fragment: int = 16_384, kind: int = HANDSHAKE, version: bytes = b"\3\1") -> bytes:
    pieces = [octets[at : at + fragment] for at in range(0, len(octets), fragment)]
    return b"".join(bytes([kind]) + version + vector(2, piece) for piece in pieces)


def hello(*extensions: bytes, fragment: int = 16_384) -> bytes:
    """A whole ClientHello in records of `fragment` octets; an extension without content comes first."""
    return records(message(body(extension(23, b""), *extensions)), fragment)
