"""What the command says: the log on stderr, one line for each message and each session's end; results on stdout."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import Final

logger: Final = logging.getLogger("smtpstate.server")

_UNPRINTABLE: Final = re.compile(r"[^ -~]")


def set_up(level: str) -> None:
    """Sends what is logged at `level` and above to stderr; what other libraries log, from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ("smtpstate", "smtpstate_anyio", "smtpstate_server"):
        logging.getLogger(name).setLevel(level.upper())


def tell(line: str) -> None:
    """A line on stdout, at once. Where nobody reads it any more it is dropped: what was done stays done."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError:
        # What is left in the buffer would fail once more at the end, and change the exit code.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def printable(text: str) -> str:
    """`text` as it may go to a log or a terminal: no control, nothing beyond ASCII, so no escape and no second line."""
    return _UNPRINTABLE.sub("?", text)
