"""Evidence: what a peer sent, as it may be kept and shown: short, and without what is secret."""

from __future__ import annotations

import re
from typing import Final

EVIDENCE: Final = 100  # octets kept of what a session was ended for, as Postfix logs
PEEK: Final = 3 * EVIDENCE  # octets to look at for that: what is hidden may be longer than what stands in its place

# In place of a secret.
HIDDEN: Final = b"***"

# AUTH and its mechanism, where there is one, and then something.
_SECRET: Final = re.compile(
    rb"([ \t]*AUTH[^A-Z0-9+/]++(?![A-Z0-9_-]{1,20}[ \t]*\Z)(?:[A-Z0-9_-]{1,20}[ \t]+)?).", re.IGNORECASE | re.DOTALL
)
_AUTH: Final = re.compile(rb"[ \t]*AUTH(?![A-Z0-9])", re.IGNORECASE)

# A header may hold a cookie or a password, and the target of a request (RFC 9112 section 3) whatever a form was told.
_HEADER: Final = re.compile(rb"\A([!-9;-~]{1,100}[ \t]*:).*", re.DOTALL)
_BLANK: Final = (b"", b"\r")
_QUERY: Final = re.compile(rb"\A([!-~]{1,20} [^ ?]*\?)[^ ]+")


def masked(line: bytes) -> bytes:
    """`line` as it may be shown: what follows AUTH and its mechanism is a secret, however it is spelled."""
    match = _SECRET.match(line)
    return match[1] + HIDDEN if match else line


def begins_auth(line: bytes) -> bool:
    """Whether what comes after `line` may answer a challenge, or be meant to: however it is spelled, it says AUTH."""
    return _AUTH.match(line) is not None


def evidence(octets: bytes) -> bytes:
    """What `octets` show, EVIDENCE octets of it at most; give at least PEEK where there are so many.

    Of AUTH its mechanism and nothing behind it, of a header its name, of an HTTP request no query; nothing that comes
    after headers and an empty line.
    """
    shown: list[bytes] = []
    for line in octets[:PEEK].split(b"\n"):
        # This may answer a challenge, or be what a form was told, or a message.
        if shown and (begins_auth(shown[-1]) or (len(shown) > 1 and shown[-1] in _BLANK)):
            shown.append(line and HIDDEN)
            break
        text = masked(line.removesuffix(b"\r"))
        text = _QUERY.sub(rb"\1" + HIDDEN, _HEADER.sub(rb"\1" + HIDDEN, text, count=1), count=1)
        shown.append(text + line[len(line.rstrip(b"\r")) :][-1:])
    return b"\n".join(shown)[:EVIDENCE]
