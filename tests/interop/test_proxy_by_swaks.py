"""swaks says in front of its session, as a load balancer does, whom it has it from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.peers.serving import Certificates, Serving
from tests.peers.test_xclient_by_swaks import swaks

if TYPE_CHECKING:
    from pathlib import Path

PORTS = "--proxy-source-port 9 --proxy-dest-port 25"
FOUR = f"{PORTS} --proxy-source 192.0.2.9 --proxy-dest 192.0.2.1"
SIX = f"{PORTS} --proxy-source 2001:db8::9 --proxy-dest 2001:db8::1"


@pytest.mark.parametrize(("version", "families"), [(1, ("TCP4", "TCP6")), (2, ("AF_INET", "AF_INET6"))])
def test_received_names_whom_swaks_speaks_for(
    tmp_path: Path, certificates: Certificates, version: int, families: tuple[str, str]
) -> None:
    serving = Serving(tmp_path, certificates, "--accept-any", "--proxy", f"v{version}", "--proxy-from", "127.0.0.1")
    rows = ((FOUR, b"[192.0.2.9]", ""), (SIX, b"[IPv6:2001:db8::9]", "--tls"))
    try:
        for (whom, literal, tls), family in zip(rows, families, strict=True):
            said = swaks(serving, f"--proxy-version {version} --proxy-family {family} {whom} {tls}")
            [file] = (serving.maildir / "new").iterdir()
            assert b"Received: from c.example (" + literal + b")" in file.read_bytes(), said
            file.unlink()
        assert serving.stop() == 0
    finally:
        serving.kill()
