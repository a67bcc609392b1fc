"""A Postfix of our own: smtpd and what it needs, in a private directory, on a port of loopback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from time import monotonic
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from tests.differential.talk import Stored
from tests.peers.programs import SECONDS, needs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VERSION: Final = "3.7."  # Debian 12's; others are more or less strict here and there

# Postfix's own names for its queues, and who has to be able to write there.
_OWNED: Final = ("incoming", "active", "bounce", "defer", "deferred", "flush", "saved", "trace", "corrupt", "hold")
_MASTER: Final = """\
127.0.0.1:{port} inet n - n - 100 smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
_QUEUED: Final = re.compile(r"queued as (\w+)")
# What postcat prints of an envelope; addresses stand there without any quoting.
_ENVELOPE: Final = re.compile(rb"^(sender|recipient): (.*)$", re.MULTILINE)
_RECEIVED: Final = re.compile(rb"Received: [^\n]*\n(?:[ \t][^\n]*\n)*")


class Postfix:
    """smtpd and cleanup. Messages are put on hold, so that what was accepted stays where postcat finds it."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        postconf = needs("postconf")
        self._postcat = needs("postcat")
        version = _run(postconf, "-d", "-h", "mail_version").decode().strip()
        if not version.startswith(_VERSION):
            _cannot(f"the rows say what Postfix {_VERSION} does, and this is {version}")
        if os.geteuid() != 0:
            _cannot("Postfix's master runs as root only")
        self._config = home / "etc"
        self._queue = home / "queue"
        self.log = home / "log"
        self._config.mkdir()
        self._make_queue(home)
        with socket.socket() as probe:  # master cannot be asked which port it got
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        own = {
            "queue_directory": str(self._queue),
            "data_directory": str(home / "data"),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(home),
        }
        main = "".join(f"{name} = {value}\n" for name, value in {**own, **settings}.items())
        (self._config / "main.cf").write_text(main)
        (self._config / "master.cf").write_text(_MASTER.format(port=self.port))
        directory = _run(postconf, "-c", str(self._config), "-h", "daemon_directory").decode().strip()
        # -d: stays in the foreground, and leads the process group that it is given
        self.process = subprocess.Popen(
            [f"{directory}/master", "-c", str(self._config), "-d"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
        self._await()

    def _make_queue(self, home: Path) -> None:
        self._queue.mkdir()
        for name in ("pid", "private", "public", "maildrop", *_OWNED):
            (self._queue / name).mkdir()
            if name != "pid":
                shutil.chown(self._queue / name, "postfix")
        (home / "data").mkdir()
        shutil.chown(home / "data", "postfix")

    def _await(self) -> None:
        until = monotonic() + SECONDS
        while monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), SECONDS).close()
            except ConnectionRefusedError:
                os.sched_yield()
            else:
                return
        self.stop()
        # Before it has a log file it says nothing to anybody.
        pytest.fail(f"Postfix does not listen: {self.log.read_text() if self.log.exists() else 'no log'}")

    def stop(self) -> None:
        """master ends what it has started."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(SECONDS)

    def stored(self, reply: str) -> Stored:
        """What was kept of the message that `reply` accepted."""
        envelope = self.envelope(reply)
        found: dict[bytes, list[str]] = {b"sender": [], b"recipient": []}
        for kind, address in _ENVELOPE.findall(envelope):
            found[kind].append(address.decode("latin-1"))
        (sender,) = found[b"sender"]
        content = self._print("-hb", _name(reply))
        received = _RECEIVED.match(content)
        assert received is not None, content[:1000]
        return Stored(sender, tuple(found[b"recipient"]), content[received.end() :])

    def envelope(self, reply: str) -> bytes:
        """All that is known of it beside its content, a line each, as postcat prints them."""
        return self._print("-e", _name(reply))

    def _print(self, what: str, name: str) -> bytes:
        return _run(self._postcat, "-c", str(self._config), what, "-q", name)


def _name(reply: str) -> str:
    match = _QUEUED.search(reply)
    assert match is not None, reply
    return match[1]


def _run(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout


def _cannot(why: str) -> NoReturn:
    """Skips, but where CI=true fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
