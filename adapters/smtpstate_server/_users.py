"""The users of `serve --users`: Dovecot's passwd-file, `name:{SCHEME}password`, and the answers that AUTH needs.

What comes after a second ":" is for Dovecot. Empty lines, and lines that begin with "#", are left alone.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from smtpstate import LocalProtocolError
from smtpstate.extensions import domain_key
from smtpstate.sasl import MIN_ITERATIONS, ScramKeys, password_work, read_name, unknown_keys
from smtpstate_anyio import hashing
from smtpstate_server._exits import Exit, Failure
from smtpstate_server._files import create
from smtpstate_server._log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMES: Final = ("SCRAM-SHA-256", "ARGON2ID", "PLAIN")

# Of PBKDF2, some 20 ms: each login pays it, on a server as well as on a telephone. Cyrus SASL, by which Postfix and
# Sendmail log in, refuses more than these ("iteration-count is too big", as of 2.1.28).
_ITERATIONS: Final = 65_536
_SECRET: Final = 32  # octets
_FIELD: Final = re.compile(r"\{([A-Za-z0-9.-]+)\}(.+)", re.DOTALL)
_HASHER: Final = argon2.PasswordHasher()  # verifying takes its parameters from the hash


@final
@dataclass(frozen=True, slots=True)
class Argon2Hash:
    """`$argon2id$v=19$m=...`, as its reference implementation spells it; it is checked when it is made."""

    text: str = field(repr=False)

    def matches(self, password: str) -> bool:
        """Blocks, for as long as the hash says."""
        try:
            return _HASHER.verify(self.text, password)
        except VerificationError:
            return False


Verifier: TypeAlias = ScramKeys | Argon2Hash


def account(name: str) -> str:
    """What the spellings of one user name have in common: after an "@", the A-labels of a domain in lower case."""
    local_part, at, domain = name.rpartition("@")
    return f"{local_part}@{domain_key(domain)}" if at else name


@final
class PasswdFile:
    """Accounts, by name. See `smtpstate_anyio.Users`.

    A name without account costs as much as one that has: it is checked against what one of the others has, always the
    same one.
    """

    def __init__(self, accounts: dict[str, Verifier], secret: bytes) -> None:
        self.secret: Final = secret
        self._accounts: Final = {account(name): verifier for name, verifier in accounts.items()}
        self._all: Final = tuple(accounts.values())

    @property
    def mechanisms(self) -> Sequence[str]:
        """SCRAM only if it works for everybody: a client that can do it tries it first, and takes no for an answer."""
        scram = all(isinstance(verifier, ScramKeys) for verifier in self._all)
        return (*(("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256") if scram else ()), "EXTERNAL", "PLAIN", "LOGIN")

    async def keys(self, username: str) -> ScramKeys | None:
        """Keys for everybody: nobody has the password to those that are made up here."""
        username = account(username)
        known = self._accounts.get(username)
        if known is not None:
            return known if isinstance(known, ScramKeys) else None
        other = self._other(username)
        iterations = other.iterations if isinstance(other, ScramKeys) else MIN_ITERATIONS
        return unknown_keys(self.secret, username, iterations=iterations)

    async def check(self, username: str, password: str) -> bool:
        username = account(username)
        known = self._accounts.get(username)
        verifier = self._other(username) if known is None else known
        if isinstance(verifier, Argon2Hash):
            right = await hashing(lambda: verifier.matches(password))
        else:
            work = verifier.work(password)
            right = work is not None and verifier.matches(await hashing(work.run))
        return right and known is not None

    async def token(self, username: str, token: str) -> str | None:
        """No such mechanism is offered."""
        return None

    async def certificate(self, name: str) -> str | None:
        """A name in a certificate is the account of that name; the authority answers for it."""
        return name if account(name) in self._accounts else None

    def _other(self, username: str) -> Verifier:
        digest = hmac.digest(self.secret, b"other\0" + username.encode(), "sha256")
        return self._all[int.from_bytes(digest) % len(self._all)]


def read_users(path: Path, secret: bytes) -> PasswdFile:
    """The accounts in a passwd-file. Raises Failure: the file and the line are named, and no password is."""
    try:
        octets = path.read_bytes()
        if path.stat().st_mode & 0o077:
            logger.warning("others can read or write %s: chmod 600", path)
    except OSError as error:
        raise Failure(f"cannot read the users {path}: {error.strerror or error}", Exit.NOINPUT) from None
    accounts: dict[str, Verifier] = {}
    names: set[str] = set()
    for number, line in enumerate(octets.split(b"\n"), start=1):
        try:
            found = read_line(line.removesuffix(b"\r"), secret)
            if found is not None and account(found[0]) in names:
                raise ValueError("a name that another line has")
        except ValueError as error:
            raise Failure(f"{path}, line {number}: {error}", Exit.CONFIG) from None
        if found is not None:
            names.add(account(found[0]))
            accounts[found[0]] = found[1]
    if not accounts:
        raise Failure(f"{path} holds no user; to make one: smtpstate passwd NAME --users {path}", Exit.CONFIG)
    return PasswdFile(accounts, secret)


def read_line(line: bytes, secret: bytes) -> tuple[str, Verifier] | None:
    """The account of one line, without its end; None where there is none. Raises ValueError."""
    if not line.strip() or line.startswith(b"#"):
        return None
    raw_name, colon, rest = line.partition(b":")
    if not colon:
        raise ValueError("not NAME:{SCHEME}PASSWORD")
    name = read_name(raw_name)
    if name is None:
        raise ValueError("a name that is empty, has controls in it, or is longer than 255 octets")
    try:
        match = _FIELD.fullmatch(rest.partition(b":")[0].decode())
    except UnicodeDecodeError:
        raise ValueError("a password that is not UTF-8") from None
    if match is None:
        raise ValueError("no {SCHEME} before the password, or nothing after it")
    return name, _verifier(name, match[1].upper(), match[2], secret)


def _verifier(name: str, scheme: str, text: str, secret: bytes) -> Verifier:
    match scheme:
        case "SCRAM-SHA-256":
            keys = ScramKeys.parse(f"{{{scheme}}}{text}")
            if keys is None:
                raise ValueError("not {SCRAM-SHA-256}ITERATIONS,SALT,STOREDKEY,SERVERKEY")
            return keys
        case "ARGON2ID":
            try:
                parameters = argon2.extract_parameters(text)
            except InvalidHashError:
                parameters = None
            if parameters is None or parameters.type is not argon2.Type.ID:
                raise ValueError("not {ARGON2ID}$argon2id$...")
            return Argon2Hash(text)
        case "PLAIN":
            # A salt that stays the same from one start to the next, like everybody else's.
            salt = unknown_keys(secret, name, iterations=MIN_ITERATIONS).salt
            try:
                work = password_work(text, salt)
            except LocalProtocolError:
                raise ValueError("a password with characters that RFC 4013 prohibits") from None
            return ScramKeys.derive(work, work.run())
        case _:
            raise ValueError(f"the scheme is not one of {', '.join(SCHEMES)}")


def kept_secret(directory: Path) -> bytes:
    """The octets that make up keys for those who do not exist, from the file in `directory`; it is made if need be.

    Where that cannot be done they are good until we end.
    """
    path = directory / "auth-secret"
    fresh = secrets.token_bytes(_SECRET)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = fresh if create(path, fresh, 0o600) else path.read_bytes()
    except OSError as error:
        logger.warning("cannot keep %s: %s; a restart shows which names have no account", path, error.strerror or error)
        return fresh
    return kept if len(kept) >= _SECRET else fresh


def account_line(name: str, password: str, scheme: str) -> str:
    """A line of a passwd-file. Blocks while it hashes. Raises ValueError for what could not log in."""
    salt = secrets.token_bytes(16)
    try:
        work = password_work(password, salt, _ITERATIONS)
    except LocalProtocolError:
        raise ValueError("a password that is empty, or has characters that RFC 4013 prohibits") from None
    match scheme:
        case "SCRAM-SHA-256":
            return f"{name}:{ScramKeys.derive(work, work.run()).format()}"
        case "ARGON2ID":
            return f"{name}:{{ARGON2ID}}{_HASHER.hash(password)}"
        case _:
            if ":" in password:
                raise ValueError("a password with a colon cannot be kept as PLAIN")
            return f"{name}:{{PLAIN}}{password}"
