"""Where mail goes: what `--deliver` says, as the coroutine that takes each message."""

from __future__ import annotations

import importlib
import inspect
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from smtpstate_server._exits import Exit, Failure
from smtpstate_server._log import logger
from smtpstate_server._maildir import Maildir
from smtpstate_server._received import Envelope, trace_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from smtpstate_anyio import Message

OnMessage: TypeAlias = "Callable[[Message], Awaitable[None]]"

_MAILDIR: Final = "maildir:"


def delivery(spec: str, hostname: str) -> OnMessage:
    """`maildir:DIR`, `discard`, or `MODULE:FUNCTION`. Raises Failure."""
    if spec == "discard":
        return _discard
    if spec.startswith(_MAILDIR):
        path = spec.removeprefix(_MAILDIR)
        if not path:
            raise Failure("--deliver maildir: names no directory", Exit.USAGE)
        return to_maildir(Path(path).absolute(), hostname)
    module, _, function = spec.partition(":")
    if not module or not function:
        raise Failure(f"--deliver takes maildir:DIR, discard or MODULE:FUNCTION, not {spec!r}", Exit.USAGE)
    return _load(module, function)


def to_maildir(path: Path, hostname: str) -> OnMessage:
    """Stores each message in the Maildir `path`, which is made if need be. Raises Failure."""
    maildir = Maildir(path)
    maildir.open()

    async def store(message: Message) -> None:
        await maildir.store(trace_headers(_envelope(message, hostname)), message.body)

    return store


def _envelope(message: Message, hostname: str) -> Envelope:
    return Envelope(
        id=message.id,
        sender=message.sender.address,
        recipients=[recipient.address for recipient in message.recipients],
        hello="" if message.hello is None else message.hello.domain,
        peer=message.peer,
        hostname=hostname,
        protocol=message.received_with,
        tls=message.tls,
        time=datetime.now(UTC).astimezone(),
        utf8=message.smtputf8,
    )


async def _discard(message: Message) -> None:
    async for _ in message.body:
        pass


def _load(module: str, function: str) -> OnMessage:
    """The coroutine function that MODULE:FUNCTION names; modules are looked for in the current directory as well."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: object = importlib.import_module(module)
        for name in function.split("."):
            found = getattr(found, name)
    except AttributeError:
        raise Failure(f"--deliver {module}:{function}: {module} has no {function}", Exit.CONFIG) from None
    except Exception as error:  # the module is the user's, and may do anything while it is imported
        logger.debug("importing %s", module, exc_info=True)
        text = f"--deliver {module}:{function}: cannot import {module}: {type(error).__name__}: {error}"
        raise Failure(text, Exit.CONFIG) from None
    if not callable(found) or not _is_asynchronous(found):
        raise Failure(f"--deliver {module}:{function} is not a coroutine function", Exit.CONFIG)
    return _awaitable(found)


def _is_asynchronous(function: Callable[..., object]) -> bool:
    # An object may be called like one: inspect looks through partials, not through __call__.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _awaitable(function: Callable[..., object]) -> OnMessage:
    async def call(message: Message) -> None:
        result = function(message)
        assert inspect.isawaitable(result)
        await result

    return call
