"""Messages whose octets are likely to get lost on the way."""

from __future__ import annotations

from typing import Final, NamedTuple

# From and Date, since some clients add what is missing.
_HEADER: Final = (
    b"From: <sender@example.org>\r\n"
    b"To: <recipient@example.org>\r\n"
    b"Date: Wed, 1 Jan 2025 00:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\n"
    b"Subject: %s\r\n"
    b"\r\n"
)


class Content(NamedTuple):
    """A message with CRLF, and why it is here."""

    name: str
    octets: bytes
    reason: str


def _content(name: str, body: bytes, reason: str) -> Content:
    return Content(name, _HEADER % name.encode() + body, reason)


CONTENTS: Final = (
    _content(
        "dots",
        b".\r\n..\r\n.x\r\n...\r\n.. \r\nx.\r\n.\r\n",
        "a dot in front is doubled by one side, halved by the other",
    ),
    _content(
        "long lines", b"y" * 998 + b"\r\n" + b"." + b"x" * 9998 + b"\r\n", "RFC 5321 asks for 998; clients send more"
    ),
    _content("empty lines", b"\r\n\r\nend\r\n\r\n\r\n\r\n", "the end of the message is where lines get trimmed"),
    _content(
        "eight bits", "Grüße\r\n".encode() + bytes(range(128, 256)) + b"\r\n", "UTF-8, and what is no UTF-8 at all"
    ),
    _content("no body", b"", "the shortest message with a header"),
    _content("large", (b"0123456789" * 7 + b"\r\n") * 20_000, "more than any buffer on the way"),
)
