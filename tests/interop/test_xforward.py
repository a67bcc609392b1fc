"""Postfix tells `smtpstate serve` where it has a message from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.interop.peers import staged, until
from tests.interop.test_relays import POSTFIX
from tests.peers.programs import needs
from tests.peers.serving import RECIPIENT, SENDER, Certificates, Serving

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

OPTIONS = "smtp_send_xforward_command = yes"


@pytest.fixture
def trusting(tmp_path: Path, certificates: Certificates) -> Generator[Serving, None, None]:
    """A server of its own, which believes whoever is on this host, and logs what it is told."""
    (tmp_path / "serving").mkdir()
    serving = Serving(tmp_path / "serving", certificates, "--xforward-from", "127.0.0.1")
    try:
        yield serving
    finally:
        serving.kill()


def test_the_log_has_where_postfix_had_a_message_from(trusting: Serving, tmp_path: Path) -> None:
    needs("postfix")
    script = POSTFIX.format(port=trusting.port, sender=SENDER, recipient=RECIPIENT, options=OPTIONS)
    with staged(tmp_path, (), f"{script}echo hello | submit\ncat\n") as process:
        until(process, tmp_path, lambda: any((trusting.maildir / "new").iterdir()))
    assert trusting.stop() == 0
    log = trusting.log.read_text()
    assert re.findall(r" message id=.* origin='(.*)' from=", log) == ["LOCAL"], log
