"""Messages without what a mail server adds to their headers."""

from __future__ import annotations

import re


def without(names: str, message: bytes) -> bytes:
    """The message without the header fields of these names, which are in lower case with a space between them."""
    header, empty, body = message.partition(b"\r\n\r\n")
    fields = re.findall(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*", header + b"\r\n")
    kept = [field for field in fields if field.partition(b":")[0].lower().decode("latin-1") not in names.split()]
    return b"".join(kept) + empty.removeprefix(b"\r\n") + body
