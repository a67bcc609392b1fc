"""`smtpstate passwd`: one line of a users file, written or printed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import click

from smtpstate.sasl import MAX_NAME, read_name
from smtpstate_server._exits import Exit, Failure
from smtpstate_server._files import replace
from smtpstate_server._users import account_line

if TYPE_CHECKING:
    from pathlib import Path


@final
@dataclass(frozen=True, slots=True)
class PasswdOptions:
    """What the command line says. `users` None prints the line."""

    name: str
    scheme: str
    users: Path | None


def passwd(options: PasswdOptions) -> Exit:
    """Asks for the password, and keeps the account. Raises Failure."""
    name = _name(options.name)
    before = None if options.users is None else _read(options.users)
    password = _password()
    if len(password.encode()) > MAX_NAME:
        raise Failure(f"a password of more than {MAX_NAME} octets", Exit.USAGE)
    try:
        line = account_line(name, password, options.scheme)
    except ValueError as error:
        raise Failure(str(error), Exit.USAGE) from None
    if options.users is None or before is None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    else:
        _write(options.users, with_account(before, line.encode()))
    return Exit.OK


def _name(text: str) -> str:
    name = read_name(text.encode(errors="surrogateescape"))
    if name is None or ":" in name or name.startswith("#") or name != name.strip():
        raise Failure(f"{text!r} cannot be the name of a user", Exit.USAGE)
    return name


def _password() -> str:
    """From the terminal, twice and unseen; else the first line of standard input."""
    if sys.stdin.isatty():
        answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return answer
    try:
        return sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise Failure("a password that is not UTF-8", Exit.USAGE) from None


def with_account(octets: bytes, line: bytes) -> bytes:
    """A users file with `line` in the place of the one for that name, or at its end; all else stays as it is."""
    name, _, password = line.partition(b":")
    lines = octets.splitlines(keepends=True)
    for index, old in enumerate(lines):
        old_name, colon, rest = old.rstrip(b"\r\n").partition(b":")
        if colon and not old.startswith(b"#") and (read_name(old_name) or "").encode() == name:
            _, colon, others = rest.partition(b":")  # uid, gid and what else Dovecot keeps there
            lines[index] = name + b":" + password + colon + others + b"\n"
            return b"".join(lines)
    if octets and not octets.endswith(b"\n"):
        lines.append(b"\n")
    return b"".join((*lines, line, b"\n"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Failure(f"cannot read the users {path}: {error.strerror or error}", Exit.NOINPUT) from None


def _write(path: Path, octets: bytes) -> None:
    try:
        target = path.resolve()  # a link stays one
        owner = target.stat() if target.exists() else None
        replace(target, octets, 0o600)
        if owner is not None and sys.platform != "win32" and os.geteuid() == 0:
            os.chown(target, owner.st_uid, owner.st_gid)  # so that who reads it still can
    except OSError as error:
        raise Failure(f"cannot write the users {path}: {error.strerror or error}", Exit.CANTCREAT) from None
