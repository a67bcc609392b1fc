"""The adapter without an event loop, with programs that others wrote at the other end."""

from __future__ import annotations

import smtplib
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import pytest

from smtpstate import Result
from smtpstate_blocking import Listener, Message, connect, serving_messages
from tests.peers.contents import CONTENTS
from tests.peers.programs import needs, run
from tests.peers.sink import smtp_sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smtpstate_blocking import BoundListener
    from tests.peers.serving import Certificates


@contextmanager
def inbox(
    *listen: str | Listener, certificates: Certificates | None = None
) -> Iterator[tuple[BoundListener, list[bytes]]]:
    """A server that takes everything, and what it took."""
    bodies: list[bytes] = []
    lock = Lock()

    def keep(message: Message) -> None:
        body = b"".join(message.body)
        with lock:
            bodies.append(body)

    tls = None if certificates is None else certificates.server
    with serving_messages(keep, *listen, hostname="mx.example.org", accept_any=True, tls=tls) as [bound]:
        yield bound, bodies


@pytest.mark.parametrize("options", [(), ("-s", "10"), ("-L",)], ids=["one at a time", "ten at once", "LMTP"])
def test_smtp_source_delivers(options: tuple[str, ...]) -> None:
    listener = Listener("127.0.0.1", 0, service="lmtp" if "-L" in options else "smtp")
    with inbox(listener) as (bound, bodies):
        done = run([needs("smtp-source"), *options, "-m", "100", "-l", "10000", f"inet:{bound.address}"])
        assert done.returncode == 0, done.stderr
    assert len(bodies) == 100
    assert min(map(len, bodies)) >= 10_000


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",)], ids=["pipelined", "lock-step", "HELO"])
def test_smtp_sink_takes_what_we_send(options: tuple[str, ...], tmp_path: Path) -> None:
    contents = [content.octets for content in CONTENTS if content.octets.isascii()]
    outcomes: list[Result] = []
    with smtp_sink(tmp_path, options) as sink, connect(f"127.0.0.1:{sink.port}", tls="off") as client:
        for octets in contents:
            delivery = client.send(octets, sender="a@example.com", recipients=["b@example.org", "c@example.org"])
            outcomes.extend(result.outcome for result in delivery)
    assert set(outcomes) == {Result.ACCEPTED}
    assert len(sink.messages()) == len(contents)


@pytest.mark.parametrize("listens", ["starttls", "implicit"])
def test_smtplib_delivers_inside_tls(listens: str, certificates: Certificates) -> None:
    listener = Listener("127.0.0.1", 0, "implicit" if listens == "implicit" else "starttls")
    with inbox(listener, certificates=certificates) as (bound, bodies):
        client: smtplib.SMTP
        if listens == "implicit":
            client = smtplib.SMTP_SSL("127.0.0.1", bound.port, context=certificates.trusting)
        else:
            client = smtplib.SMTP("127.0.0.1", bound.port)
            client.starttls(context=certificates.trusting)
        with client:
            client.sendmail("a@example.com", ["b@example.org"], "Subject: x\r\n\r\n.dot\r\n" * 1000)
    assert bodies == [b"Subject: x\r\n\r\n.dot\r\n" * 1000]
