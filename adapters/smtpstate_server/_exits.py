"""Exit codes, and the exception that ends the command with one of them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, final


class Exit(IntEnum):
    """The codes of sysexits.h. Python's `os` has them too, but not on Windows."""

    OK = 0
    USAGE = 64  # the command line makes no sense
    NOINPUT = 66  # the message cannot be read
    UNAVAILABLE = 69  # refused for good; or the server extra is missing
    OSERR = 71  # the system did not let us listen
    CANTCREAT = 73  # the Maildir or the certificate cannot be written
    TEMPFAIL = 75  # try again later, or nobody knows what became of it
    PROTOCOL = 76  # the peer broke the protocol
    NOPERM = 77  # no TLS where TLS is required
    CONFIG = 78  # a certificate, a key or a delivery function is of no use
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@final
class Failure(Exception):
    """Ends the command: `text` is said in one line on stderr, `exit_code` is how it ends."""

    def __init__(self, text: str, exit_code: Exit) -> None:
        super().__init__(text)
        self.text: Final = text
        self.exit_code: Final = exit_code
