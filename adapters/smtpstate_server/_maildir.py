"""Delivery into a Maildir: nothing is acknowledged before it is safe on disk, and no half message is ever seen.

A message grows in tmp/; when it is whole it is synced, renamed into new/, and new/ is synced. All that touches the disk
runs in a worker thread, a batch at a time.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

import anyio
import anyio.to_thread

from smtpstate import Refusal
from smtpstate_server._exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterable
    from pathlib import Path

_log: Final = logging.getLogger("smtpstate.maildir")

_BATCH: Final = 65_536  # octets that are gathered for one trip to a worker thread; all that is held of a message
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def storage_refusal(error: OSError) -> Refusal:
    """What to say when the disk does not do its part: always to try again later, never a 5yz.

    452 4.3.1 when it is full (RFC 5321 section 4.2.3, RFC 3463 section 3.4), else 451 4.3.0.
    """
    if error.errno in _FULL:
        return Refusal(452, "Insufficient system storage", enhanced="4.3.1")
    return Refusal(451, "Local error in processing", enhanced="4.3.0")


@final
class Maildir:
    """One Maildir. `open()` makes it; `store()` adds a message."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._host: Final = _host_part(socket.gethostname())
        self._count = 0

    def open(self) -> None:
        """Makes the directories that are missing and sees whether they can be written. Raises Failure."""
        name = self._unique_name()
        probe = self.path / "new" / f".{name}"  # with a dot in front, which whoever reads a Maildir passes over
        try:
            for directory in (self.path, self.path / "tmp", self.path / "new", self.path / "cur"):
                _make_directory(directory)
            with _Draft(self.path / "tmp" / name) as draft:
                draft.complete([b"probe"])
                draft.publish(probe)
            probe.unlink()
        except OSError as error:
            raise Failure(
                f"cannot write to the Maildir {self.path}: {error.strerror or error}", Exit.CANTCREAT
            ) from None

    async def store(self, headers: bytes, body: AsyncIterable[bytes]) -> Path:
        """Stores `headers` and all of `body`; when it returns, the message is in new/ to stay.

        Raises Refusal, a 4yz, when the disk fails; what `body` raises comes through. Either way nothing is left behind.
        """
        name = self._unique_name()
        draft = _Draft(self.path / "tmp" / name)
        target = self.path / "new" / name
        try:
            batch, size = [headers], len(headers)
            async for piece in body:
                batch.append(piece)
                size += len(piece)
                if size >= _BATCH:
                    await anyio.to_thread.run_sync(draft.write, batch)
                    batch, size = [], 0
            await anyio.to_thread.run_sync(draft.complete, batch)
            # A trip of its own: a handler cut off because the disk is slow is cut off here, before anything shows.
            await anyio.to_thread.run_sync(draft.publish, target)
        except OSError as error:
            _log.error("cannot store %s in %s: %s", name, self.path, error.strerror or error)
            raise storage_refusal(error) from error
        finally:
            if not draft.settled:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(draft.discard)
        return target

    def _unique_name(self) -> str:
        """As in Bernstein's description of Maildir, with randomness so that no two processes need to agree."""
        self._count += 1
        now = time.time_ns()
        seconds, microseconds = now // 1_000_000_000, now // 1000 % 1_000_000
        return f"{seconds}.M{microseconds}P{os.getpid()}Q{self._count}R{secrets.token_hex(8)}.{self._host}"


@final
class _Draft:
    """A file in tmp/ on its way into new/. Blocking; every method but `discard` raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.settled = True  # nothing of it is left to clean up
        self._fd = -1

    def __enter__(self) -> _Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, pieces: list[bytes]) -> None:
        """Appends the pieces; the first call makes the file."""
        if self._fd == -1:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            self.settled = False
        view = memoryview(b"".join(pieces))
        while view:
            view = view[os.write(self._fd, view) :]

    def complete(self, pieces: list[bytes]) -> None:
        """Appends the last pieces and sees that all of them reach the disk."""
        self.write(pieces)
        _sync(self._fd)

    def publish(self, target: Path) -> None:
        """Moves the file to where others look, for good."""
        fd, self._fd = self._fd, -1
        os.close(fd)
        self.path.rename(target)
        self.settled = True
        try:
            _sync_directory(target.parent)
        except OSError:
            # It may or may not survive; the client will be told to come again, so it must not stay.
            target.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Takes away whatever is not published. Never raises: the reason for it matters more."""
        if self._fd != -1:
            fd, self._fd = self._fd, -1
            try:
                os.close(fd)
            except OSError as error:
                _log.warning("closing %s: %s", self.path, error.strerror or error)
        if self.settled:
            return
        self.settled = True
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("cannot remove %s: %s", self.path, error.strerror or error)


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        # fsync() leaves the octets in the drive's cache there; this one does not (macOS fcntl(2), F_FULLFSYNC).
        import fcntl

        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(fd)  # file systems from elsewhere do not know it
    else:
        os.fsync(fd)


def _sync_directory(path: Path) -> None:
    """A rename is safe when its directory is."""
    if sys.platform == "win32":
        return  # directories cannot be opened there
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_directory(path: Path) -> None:
    """Makes a directory, and those above it that are missing, such that they are there after a crash."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    with suppress(PermissionError):  # one that we may write to and not read
        _sync_directory(path.parent)


def _host_part(name: str) -> str:
    """The host name as a file name may hold it; "/" and ":" have a meaning in a Maildir."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", name) or "localhost"
