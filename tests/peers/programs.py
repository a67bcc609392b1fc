"""Programs that others wrote: where they are, and how long they may run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
SECONDS = 30.0  # nothing takes that long; what would hang fails instead

# Debian keeps smtp-source and smtp-sink where only root's PATH looks.
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def needs(program: str) -> str:
    """The path of `program`. Without it the test is skipped, but where CI=true it fails."""
    path = shutil.which(program, path=PATH)
    if path is not None:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{program} is not installed")
    pytest.skip(f"{program} is not installed")


def run(command: Sequence[str], stdin: bytes = b"", home: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end, whatever that is; it reads nobody's configuration."""
    environment = {"PATH": PATH, "HOME": "/nonexistent", "LC_ALL": "C"}
    if home is not None:
        environment |= ours(home)
    return subprocess.run(command, input=stdin, capture_output=True, timeout=SECONDS, env=environment, check=False)


def ours(home: Path) -> dict[str, str]:
    """The environment in which `python -m smtpstate_server` runs from this checkout, and finds nothing in its home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "XDG_", "PYTHON"))}
    return kept | {"HOME": str(home), "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "adapters")))}


def smtpstate(*arguments: str) -> list[str]:
    """Our own command."""
    return [sys.executable, "-m", "smtpstate_server", *arguments]
