"""The entry point of `smtpstate`: thin, and runnable with nothing installed beside it."""

from __future__ import annotations

import sys
from typing import Final

# What the extra `server` brings, by the names that are imported.
_EXTRA: Final = frozenset({"anyio", "argon2", "click", "cryptography", "platformdirs"})
_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h


def main() -> int:
    """Runs the command that `sys.argv` holds; returns the exit code."""
    try:
        from smtpstate_server._cli import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write("smtpstate: this needs the server extra: pip install 'smtpstate[server]'\n")
        return _UNAVAILABLE
    return run()


if __name__ == "__main__":
    sys.exit(main())
