"""The message that `send` is given: a file, or standard input, as something that can be read twice."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO

from smtpstate_server._exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def message_file(path: Path | None) -> Generator[tuple[BinaryIO, int], None, None]:
    """The file, and how many octets are left in it; None is standard input.

    What cannot be read twice, a pipe for instance, is put into a temporary file first. Raises Failure.
    """
    with ExitStack() as stack:
        try:
            file: BinaryIO = sys.stdin.buffer if path is None else stack.enter_context(path.open("rb"))
            if not file.seekable():
                spool = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(file, spool)
                spool.seek(0)
                file = spool
            start = file.tell()
            size = file.seek(0, os.SEEK_END) - start
            file.seek(start)
        except OSError as error:
            where = "standard input" if path is None else str(path)
            raise Failure(f"cannot read {where}: {error.strerror or error}", Exit.NOINPUT) from None
        yield file, size
