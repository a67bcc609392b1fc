"""Maildir delivery, without a network: what is stored, and what happens when the disk fails."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from smtpstate import Refusal
from smtpstate_server import _maildir
from smtpstate_server._exits import Exit, Failure
from smtpstate_server._maildir import Maildir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HEADERS = b"Return-Path: <>\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    maildir = Maildir(tmp_path / "mail")
    maildir.open()
    return maildir


async def pieces(*octets: bytes) -> AsyncIterator[bytes]:
    for piece in octets:
        yield piece


def listing(maildir: Maildir) -> dict[str, list[str]]:
    return {name: sorted(os.listdir(maildir.path / name)) for name in ("tmp", "new", "cur")}


EMPTY: dict[str, list[str]] = {"tmp": [], "new": [], "cur": []}


def test_opening_makes_the_three_directories_for_their_owner_alone_and_leaves_no_probe(maildir: Maildir) -> None:
    assert listing(maildir) == EMPTY
    assert {os.stat(maildir.path / name).st_mode & 0o777 for name in (".", *EMPTY)} == {0o700}


def test_opening_makes_what_is_above_it_too(tmp_path: Path) -> None:
    Maildir(tmp_path / "a" / "b" / "mail").open()
    assert sorted(os.listdir(tmp_path / "a" / "b" / "mail")) == ["cur", "new", "tmp"]


def test_opening_what_is_there_changes_nothing(maildir: Maildir) -> None:
    (maildir.path / "new" / "old").write_bytes(b"x")
    maildir.open()
    assert listing(maildir) == EMPTY | {"new": ["old"]}


@pytest.mark.parametrize("part", ["mail", "mail/tmp", "mail/new"])
def test_a_file_in_the_way_is_said_in_one_line(tmp_path: Path, part: str) -> None:
    (tmp_path / part).parent.mkdir(exist_ok=True)
    (tmp_path / part).write_bytes(b"")
    with pytest.raises(Failure, match="cannot write to the Maildir") as caught:
        Maildir(tmp_path / "mail").open()
    assert caught.value.exit_code is Exit.CANTCREAT


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body",
    [
        [],
        [b"Subject: x\r\n\r\nhello\r\n"],
        [b"a\r", b"\n", b".\r\n"],
        [bytes(range(256)) * 8] * 300,  # many batches, every octet
        [b"x" * 1_000_000, b"y"],  # one piece beyond a batch
    ],
    ids=["nothing", "one piece", "cut", "many batches", "a large piece"],
)
async def test_what_is_stored_is_what_came(maildir: Maildir, body: list[bytes]) -> None:
    path = await maildir.store(HEADERS, pieces(*body))
    assert path.read_bytes() == HEADERS + b"".join(body)
    assert path.stat().st_mode & 0o777 == 0o600
    assert listing(maildir) == EMPTY | {"new": [path.name]}


@pytest.mark.anyio
async def test_a_message_grows_in_tmp_and_is_not_held_in_memory(maildir: Maildir) -> None:
    sizes: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 100_000
            [name] = os.listdir(maildir.path / "tmp")
            sizes.append((maildir.path / "tmp" / name).stat().st_size)
            assert not os.listdir(maildir.path / "new")

    await maildir.store(b"", body())
    assert sizes == [100_000 * n for n in range(1, 11)]


@pytest.mark.anyio
async def test_everything_is_synced_before_it_is_acknowledged(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def traced_fsync(fd: int) -> None:
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    def traced_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(Path, "rename", traced_rename)
    await maildir.store(HEADERS, pieces(b"x"))
    assert steps == ["sync file", "rename", "sync directory"]


@pytest.mark.anyio
async def test_a_thousand_names_are_a_thousand_messages(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    def fast(_fd: int) -> None:
        """A thousand syncs take a slow disk too long, and are not what this is about."""

    monkeypatch.setattr(os, "fsync", fast)
    other = Maildir(maildir.path)

    async def store(into: Maildir) -> None:
        for _ in range(25):
            await into.store(HEADERS, pieces(b"x"))

    async with anyio.create_task_group() as group:
        for n in range(40):
            group.start_soon(store, (maildir, other)[n % 2])
    assert len(os.listdir(maildir.path / "new")) == 1000


@pytest.mark.parametrize("name", ["mx.example.org", "a/b:c", "\u00e9 \r\n", ""])
def test_a_host_name_makes_no_path_and_no_flags(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: name)
    maildir = Maildir(tmp_path)
    maildir.open()
    path = anyio.run(lambda: maildir.store(HEADERS, pieces()))
    assert path.parent == tmp_path / "new"
    assert ":" not in path.name
    assert path.name.isprintable()
    assert path.name.isascii()


def fails_with(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


FULL = (452, "4.3.1")
LOCAL = (451, "4.3.0")
FAILURES = [
    ("write", errno.ENOSPC, FULL),
    ("write", errno.EDQUOT, FULL),
    ("write", errno.EIO, LOCAL),
    ("open", errno.ENOSPC, FULL),  # no inode left
    ("open", errno.EMFILE, LOCAL),
    ("open", errno.EACCES, LOCAL),
    ("open", errno.EROFS, LOCAL),
    ("fsync", errno.ENOSPC, FULL),  # where space is taken late
    ("fsync", errno.EIO, LOCAL),
    ("rename", errno.EXDEV, LOCAL),
    ("rename", errno.ENOSPC, FULL),
    ("directory", errno.EIO, LOCAL),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("call", "number", "answer"), FAILURES)
async def test_a_disk_that_fails_is_a_4xx_and_leaves_nothing(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch, call: str, number: int, answer: tuple[int, str]
) -> None:
    with monkeypatch.context() as patch:
        match call:
            case "rename":
                patch.setattr(Path, "rename", fails_with(number))
            case "directory":
                patch.setattr(_maildir, "_sync_directory", fails_with(number))
            case _:
                patch.setattr(os, call, fails_with(number))
        with pytest.raises(Refusal) as caught:
            await maildir.store(HEADERS, pieces(b"x" * 70_000, b"y"))
    assert (caught.value.reply.code, str(caught.value.reply.enhanced)) == answer
    assert listing(maildir) == EMPTY


@pytest.mark.anyio
async def test_a_disk_that_fills_half_way_leaves_nothing(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = os.write, [150_000]

    def fills(fd: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(fd, data[: left[0]])  # the last write before a full disk is a short one
        left[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fills)
        with pytest.raises(Refusal) as caught:
            await maildir.store(HEADERS, pieces(*[b"x" * 50_000] * 10))
    assert caught.value.reply.code == 452
    assert listing(maildir) == EMPTY
    assert (await maildir.store(HEADERS, pieces(b"x"))).exists()  # it goes on when there is room again


@pytest.mark.anyio
@pytest.mark.parametrize("missing", ["tmp", "new", "."])
async def test_a_missing_directory_is_a_4xx_until_it_is_back(maildir: Maildir, missing: str) -> None:
    away = maildir.path.parent / "away"
    (maildir.path / missing).rename(away) if missing != "." else maildir.path.rename(away)
    with pytest.raises(Refusal) as caught:
        await maildir.store(HEADERS, pieces(b"x"))
    assert str(caught.value.reply) == "451 4.3.0 Local error in processing"
    away.rename(maildir.path / missing) if missing != "." else away.rename(maildir.path)
    assert listing(maildir) == EMPTY
    await maildir.store(HEADERS, pieces(b"x"))


class CutError(Exception):
    """Stands for the end of a connection in the middle of a message."""


@pytest.mark.anyio
@pytest.mark.parametrize("octets", [0, 10, 200_000])
async def test_a_message_that_is_cut_leaves_nothing(maildir: Maildir, octets: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * octets
        raise CutError

    with pytest.raises(CutError):
        await maildir.store(HEADERS, body())
    assert listing(maildir) == EMPTY


@pytest.mark.anyio
@pytest.mark.parametrize("octets", [0, 10, 200_000])
async def test_a_delivery_that_is_cancelled_leaves_nothing(maildir: Maildir, octets: int) -> None:
    started = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * octets
        started.set()
        await anyio.sleep_forever()

    async def store() -> None:
        await maildir.store(HEADERS, body())

    async with anyio.create_task_group() as group:
        group.start_soon(store)
        await started.wait()
        group.cancel_scope.cancel()
    assert listing(maildir) == EMPTY


@pytest.mark.anyio
async def test_a_delivery_cut_off_while_the_disk_is_slow_shows_nothing(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def slow(fd: int) -> None:
        anyio.from_thread.run_sync(scope.cancel)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    with anyio.CancelScope() as scope:
        await maildir.store(HEADERS, pieces(b"x"))
    assert scope.cancelled_caught
    assert listing(maildir) == EMPTY
