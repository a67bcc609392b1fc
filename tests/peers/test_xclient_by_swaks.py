"""swaks speaks for somebody else, as postmasters do who test what a server thinks of an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.peers.programs import needs, run
from tests.peers.serving import RECIPIENT, SENDER, Certificates, Serving

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SWAKS = "--server 127.0.0.1 --ehlo c.example --from {sender} --to {recipient} --timeout 30 --port {port} {options}"
WHO = "--xclient-name c.example --xclient-addr {address} --xclient-port 9 --xclient-helo c.example"


@pytest.fixture
def trusting(tmp_path: Path, certificates: Certificates) -> Generator[Serving, None, None]:
    """A server of its own, which believes whoever is on this host."""
    serving = Serving(tmp_path, certificates, "--accept-any", "--xclient-from", "127.0.0.1")
    try:
        yield serving
    finally:
        serving.kill()


def swaks(serving: Serving, options: str) -> str:
    arguments = SWAKS.format(sender=SENDER, recipient=RECIPIENT, port=serving.port, options=options)
    return run([needs("swaks"), *arguments.split()]).stdout.decode()


@pytest.mark.parametrize(
    ("options", "literal", "protocol", "reason"),
    [
        (WHO.format(address="192.0.2.9"), b"[192.0.2.9]", b"ESMTP", "one command"),
        (WHO.format(address="IPV6:2001:db8::1"), b"[IPv6:2001:db8::1]", b"ESMTP", "IPv6"),
        (WHO.format(address="192.0.2.9") + " --tls", b"[192.0.2.9]", b"ESMTPS", "it does STARTTLS first"),
        (
            WHO.format(address="192.0.2.9") + " --tls --xclient-before-starttls",
            b"[192.0.2.9]",
            b"ESMTPS",
            "and XCLIENT first when told to",
        ),
        (
            "--xclient-name c.example --xclient-delim --xclient-addr 192.0.2.9",
            b"[192.0.2.9]",
            b"ESMTP",
            "a command for each",
        ),
        ("--xclient-login joe --xclient-addr 192.0.2.9", b"[192.0.2.9]", b"ESMTPA", "and the user"),
    ],
)
def test_received_names_whom_swaks_speaks_for(
    trusting: Serving, options: str, literal: bytes, protocol: bytes, reason: str
) -> None:
    said = swaks(trusting, options)
    [file] = (trusting.maildir / "new").iterdir()
    stored = file.read_bytes()
    assert b"Received: from c.example (" + literal + b")" in stored, (reason, said)
    assert b" with " + protocol + b" id " in stored, reason
    assert trusting.stop() == 0
    assert " via=127.0.0.1:" in trusting.log.read_text()


def test_where_it_is_not_trusted_swaks_is_not_offered_to_speak_for_others(serving: Serving) -> None:
    said = swaks(serving, WHO.format(address="192.0.2.9"))
    assert " -> EHLO" in said
    assert "XCLIENT" not in said
    assert serving.take() == []
