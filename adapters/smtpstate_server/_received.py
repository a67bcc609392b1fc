"""Trace headers: Return-Path, Delivered-To and Received (RFC 5321 section 4.4).

Whatever a peer said is made fit before it stands here: no text, however odd, can end a line or begin another. The core
lets no such text through in the first place; these functions do not rely on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import format_datetime
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, final

from smtpstate._abnf import UTF8_NON_ASCII

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from smtpstate import Peer, TlsInfo

# Printable ASCII and the space; nothing else stands in a header that we write. That leaves out every control, and all
# that somebody's idea of a line break might be: VT, FF, NEL, U+2028, U+2029.
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
# The same with SMTPUTF8, in addresses: what may stand in one goes beside them.
_UNPRINTABLE_UTF8: Final = re.compile(rf"(?!{UTF8_NON_ASCII})[^ -~]")
# A name or an address literal, without what has a meaning of its own in a structured header: RFC 5322 section 3.2.3.
_NO_NAME: Final = re.compile(r'[^!-~]|[()<>@,;\\"]')
# An atom, and the dots that "id" may have: RFC 5321 section 4.4, ID = CFWS "ID" FWS ( Atom / msg-id ).
_NO_ATOM: Final = re.compile(r"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]")

# OpenSSL names the cipher suites of TLS 1.2 in its own way: RFC 8314 section 4.3 wants IANA's names. One row for each
# way to say it; suites of TLS 1.3 have IANA's names already.
_OPENSSL_SUITE: Final = re.compile(
    r"(ECDHE|DHE)-(ECDSA|RSA)-(?:AES(128|256)-(GCM|CCM)(?:-SHA(256|384))?|(CHACHA20-POLY1305))"
)


@final
@dataclass(frozen=True, slots=True)
class Envelope:
    """All that the trace headers of one message say."""

    id: str
    sender: str  # "" is the null reverse-path
    recipients: Sequence[str]
    hello: str  # what the client said in EHLO or HELO
    peer: Peer | None
    hostname: str  # ours
    protocol: str  # the WITH keyword, RFC 3848
    tls: TlsInfo | None
    time: datetime  # aware
    utf8: bool = False  # the client asked for SMTPUTF8: addresses may hold UTF-8, RFC 6531 section 3.7.3


def trace_headers(envelope: Envelope) -> bytes:
    """The headers that go before a message, each line ended by CRLF.

    Return-Path, one Delivered-To for each recipient, and Received. ASCII, but for addresses with `utf8`. Never raises
    for what a peer said.
    """
    lines = [f"Return-Path: <{_address(envelope.sender, utf8=envelope.utf8)}>"]
    lines.extend(f"Delivered-To: {_address(recipient, utf8=envelope.utf8)}" for recipient in envelope.recipients)
    lines.extend(_received(envelope))
    return "".join(f"{line}\r\n" for line in lines).encode()


def _received(envelope: Envelope) -> list[str]:
    """Time-stamp-line: RFC 5321 section 4.4, with the clauses in the order of its grammar."""
    source = _name(envelope.hello)
    if envelope.peer is not None:
        source += f" ({address_literal(envelope.peer.address)})"
    lines = [
        f"Received: from {source}",
        f"\tby {_name(envelope.hostname)} with {_name(envelope.protocol)} id {_atom(envelope.id)}",
    ]
    if len(envelope.recipients) == 1:  # with several it would tell each of the others: RFC 5321 section 7.6
        lines.append(f"\tfor <{_address(envelope.recipients[0], utf8=envelope.utf8)}>")
    if envelope.tls is not None:
        lines.append(f"\t{_tls_clause(envelope.tls)}")
    lines[-1] += ";"
    lines.append(f"\t{format_datetime(envelope.time)}")
    return lines


def address_literal(address: str) -> str:
    """The literal of an IP address: [192.0.2.1], [IPv6:2001:db8::1]. RFC 5321 section 4.1.3."""
    try:
        parsed = ip_address(address.partition("%")[0])  # a scope is nobody's business
    except ValueError:
        return f"[{_name(address)}]"
    if isinstance(parsed, IPv6Address):
        return f"[{parsed.ipv4_mapped}]" if parsed.ipv4_mapped is not None else f"[IPv6:{parsed}]"
    return f"[{parsed}]"


def _tls_clause(tls: TlsInfo) -> str:
    """tls-cipher-clause of RFC 8314 section 4.3; the version goes into a comment, for it has no clause."""
    suite = _iana_suite(tls.cipher)
    version = _NO_ATOM.sub("?", tls.version)
    if suite is None:  # without IANA's name no clause, but a comment
        return f"({version} {_NO_ATOM.sub('?', tls.cipher)})"
    return f"tls {suite} ({version})"


def _iana_suite(cipher: str) -> str | None:
    if re.fullmatch(r"TLS_[A-Z0-9_]+", cipher):
        return cipher
    match = _OPENSSL_SUITE.fullmatch(cipher)
    if match is None:
        return None
    exchange, signature, bits, mode, digest, chacha = match.groups()
    if chacha is not None:
        return f"TLS_{exchange}_{signature}_WITH_CHACHA20_POLY1305_SHA256"
    if mode == "GCM" and digest is None:
        return None
    return f"TLS_{exchange}_{signature}_WITH_AES_{bits}_{mode}" + (f"_SHA{digest}" if digest else "")


def _address(text: str, *, utf8: bool) -> str:
    return (_UNPRINTABLE_UTF8 if utf8 else _UNPRINTABLE).sub("?", text)


def _name(text: str) -> str:
    return _NO_NAME.sub("?", text) or "?"


def _atom(text: str) -> str:
    return _NO_ATOM.sub("?", text) or "?"
