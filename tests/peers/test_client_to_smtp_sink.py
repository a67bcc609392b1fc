"""Our client against Postfix's smtp-sink: what it says became of a message is what was provoked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import pytest

from smtpstate import CloseReason, ConnectionBroken, Result, SessionRefused, TlsUnavailable
from smtpstate_anyio import connect
from smtpstate_server._exits import Exit
from tests.peers.contents import CONTENTS
from tests.peers.programs import SECONDS, run, smtpstate
from tests.peers.serving import RECIPIENT, SENDER
from tests.peers.sink import Sink, smtp_sink

if TYPE_CHECKING:
    from pathlib import Path

    from smtpstate import Delivery, DeliveryError

BACKENDS = ("asyncio", "trio")
OTHER = "other@example.org"
DOTS = CONTENTS[0].octets
EIGHT_BITS = next(content.octets for content in CONTENTS if content.name == "eight bits")
LARGE = next(content.octets for content in CONTENTS if content.name == "large")


class Row(NamedTuple):
    """What smtp-sink is told, and what has to come of it.

    `code` is that of the reply that decides, None when there is none; `raises` means that no session came about.
    """

    options: str
    result: Result
    code: int | None
    exit_code: Exit
    reason: str
    raises: type[DeliveryError] | None = None
    octets: bytes = DOTS
    tls: str = "off"


ACCEPTED = (Result.ACCEPTED, 250, Exit.OK)
REFUSED = (Result.REFUSED, 500, Exit.UNAVAILABLE)
RETRY = (Result.RETRY, 450, Exit.TEMPFAIL)
AWAY = (Result.RETRY, 421, Exit.TEMPFAIL)
CUT = (Result.RETRY, None, Exit.TEMPFAIL)
UNKNOWN = (Result.UNKNOWN, None, Exit.TEMPFAIL)

ROWS = (
    # What it does not offer.
    Row("", *ACCEPTED, "everything offered; the last line of its EHLO reply has no keyword"),
    Row("-p", *ACCEPTED, "no PIPELINING: lock-step"),
    Row("-E", *ACCEPTED, "no ENHANCEDSTATUSCODES: the text begins with none"),
    Row("-e", *ACCEPTED, "no ESMTP: EHLO is refused, HELO is not"),
    Row("-P", *ACCEPTED, "a greeting full of asterisks, and no ESMTP"),
    Row("-8 -N -a -C -F", *ACCEPTED, "nothing is needed for seven bits"),
    Row("", *ACCEPTED, "8BITMIME is offered", octets=EIGHT_BITS),
    Row("-8", Result.REFUSED, 554, Exit.UNAVAILABLE, "8BITMIME is not offered: RFC 6152 section 3", octets=EIGHT_BITS),
    Row("-e", Result.REFUSED, 554, Exit.UNAVAILABLE, "nor is it without ESMTP", octets=EIGHT_BITS),
    Row("", *ACCEPTED, "TLS where there is some", tls="opportunistic"),
    Row("", Result.RETRY, None, Exit.NOPERM, "TLS is not offered", raises=TlsUnavailable, tls="required"),
    Row("", *ACCEPTED, "more than fits any buffer", octets=LARGE),
    # 5yz. -f and -r take PIPELINING away.
    Row("-f CONNECT", *REFUSED, "RFC 5321 section 3.1", raises=SessionRefused),
    Row("-f EHLO", *ACCEPTED, "RFC 5321 section 3.2: HELO is tried"),
    Row("-f EHLO,HELO", *REFUSED, "no hello will do", raises=SessionRefused),
    Row("-f MAIL", *REFUSED, "the sender is refused, so nobody gets anything"),
    Row("-f RCPT", *REFUSED, "everybody is refused, so DATA is not said"),
    Row("-f DATA", *REFUSED, "after all of them were accepted"),
    Row("-f .", *REFUSED, "after it had the message"),
    Row("-f QUIT", *ACCEPTED, "a farewell changes nothing"),
    # 4yz
    Row("-r CONNECT", *RETRY, "busy", raises=SessionRefused),
    Row("-r EHLO", *RETRY, "HELO would be no better", raises=SessionRefused),
    Row("-r MAIL", *RETRY, "greylisted"),
    Row("-r RCPT", *RETRY, "greylisted"),
    Row("-r DATA", *RETRY, "after all of them were accepted"),
    Row("-r .", *RETRY, "after it had the message"),
    Row("-r QUIT", *ACCEPTED, "a farewell changes nothing"),
    # It hangs up, in a pipelined session and in lock-step.
    Row("-q CONNECT", *CUT, "before a greeting", raises=ConnectionBroken),
    Row("-q EHLO", *CUT, "no answer to the hello", raises=ConnectionBroken),
    Row("-q MAIL", *CUT, "RCPT and DATA are on their way already"),
    Row("-q RCPT", *CUT, "MAIL was accepted, DATA is on its way already"),
    Row("-q DATA", *CUT, "everybody was accepted, and nothing was sent"),
    Row("-q .", *UNKNOWN, "it has the message, and nobody knows whether it keeps it"),
    Row("-q QUIT", *ACCEPTED, "a farewell changes nothing"),
    Row("-p -q MAIL", *CUT, "lock-step"),
    Row("-p -q RCPT", *CUT, "lock-step"),
    Row("-p -q DATA", *CUT, "lock-step"),
    Row("-p -q .", *UNKNOWN, "lock-step"),
    # It says 421 first.
    Row("-Q CONNECT", *AWAY, "RFC 5321 section 3.8", raises=SessionRefused),
    Row("-Q EHLO", *AWAY, "RFC 5321 section 3.8", raises=SessionRefused),
    Row("-Q MAIL", *AWAY, "the 421 decides for what was pipelined after it"),
    Row("-Q RCPT", *AWAY, "the 421 decides for what was pipelined after it"),
    Row("-Q DATA", *AWAY, "nothing was sent"),
    Row("-Q .", *AWAY, "it says that it did not take it: not unknown"),
    Row("-Q QUIT", *ACCEPTED, "a farewell changes nothing"),
    Row("-p -Q MAIL", *AWAY, "lock-step"),
    Row("-p -Q RCPT", *AWAY, "lock-step"),
    # Odd ones.
    Row("-h [127.0.0.1]", *ACCEPTED, "a name in brackets"),
    Row("-T 1024", *ACCEPTED, "a window so small that we have to wait", octets=LARGE),
)


def name(row: Row) -> str:
    return f"{row.options or 'as it is'}: {row.reason}"


async def deliver(row: Row, sink: Sink) -> Delivery:
    with anyio.fail_after(SECONDS):
        async with connect(f"127.0.0.1:{sink.port}", tls=row.tls, hostname="client.example.org") as client:
            return await client.send(row.octets, sender=SENDER, recipients=[RECIPIENT, OTHER])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row", ROWS, ids=name)
def test_what_became_of_it_is_what_was_provoked(tmp_path: Path, row: Row, backend: str) -> None:
    with smtp_sink(tmp_path, row.options.split()) as sink:
        attempt = partial(anyio.run, partial(deliver, row, sink), backend=backend)
        if row.raises is None:
            _settled(row, attempt())
        else:
            with pytest.raises(row.raises) as caught:
                attempt()
            _refused(row, caught.value)
    expected = [row.octets.replace(b"\r\n", b"\n")] if row.result is Result.ACCEPTED else []
    if row.options.endswith(" ."):
        return  # it dumps what it then refuses
    assert sink.messages() == expected


def _settled(row: Row, delivery: Delivery) -> None:
    assert [result.address for result in delivery] == [RECIPIENT, OTHER]
    assert {result.outcome for result in delivery} == {row.result}
    assert {None if result.reply is None else result.reply.code for result in delivery} == {row.code}


def _refused(row: Row, error: DeliveryError) -> None:
    if isinstance(error, SessionRefused):
        assert error.reply.code == row.code
    else:
        assert row.code is None
    if isinstance(error, ConnectionBroken):
        assert error.closed.reason in (CloseReason.EOF, CloseReason.LOST)


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_command_says_it_too(tmp_path: Path, row: Row) -> None:
    recipients = ("--to", RECIPIENT, "--to", OTHER)
    with smtp_sink(tmp_path, row.options.split()) as sink:
        arguments = ("--server", f"127.0.0.1:{sink.port}", "--from", SENDER, *recipients, "--tls", row.tls)
        done = run(smtpstate("send", *arguments), stdin=row.octets, home=tmp_path)
    assert done.returncode == row.exit_code, (done.stdout, done.stderr)
    code = "-" if row.code is None else row.code
    lines = done.stdout.decode().splitlines()
    assert [line.split(" ", 3)[:3] for line in lines] == [
        [to, row.result.value, str(code)] for to in (RECIPIENT, OTHER)
    ]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", ["", "-p", "-e"])
def test_one_session_carries_many_messages(tmp_path: Path, options: str, backend: str) -> None:
    octets = [content.octets for content in CONTENTS if options != "-e" or content.octets.isascii()]

    async def send(port: int) -> None:
        with anyio.fail_after(SECONDS):
            async with connect(f"127.0.0.1:{port}", tls="off", hostname="client.example.org") as client:
                for message in octets:
                    delivery = await client.send(message, sender=SENDER, recipients=RECIPIENT)
                    assert delivery.all_accepted

    with smtp_sink(tmp_path, options.split()) as sink:
        anyio.run(send, sink.port, backend=backend)
    assert sink.messages() == [message.replace(b"\r\n", b"\n") for message in octets]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", ["-f RCPT", "-r MAIL", "-f DATA"])
def test_a_session_is_whole_after_a_refusal(tmp_path: Path, options: str, backend: str) -> None:
    async def send(port: int) -> None:
        with anyio.fail_after(SECONDS):
            async with connect(f"127.0.0.1:{port}", tls="off", hostname="client.example.org") as client:
                for _ in range(3):
                    delivery = await client.send(DOTS, sender=SENDER, recipients=RECIPIENT)
                    assert not delivery.all_accepted
                    assert delivery.closed is None
                assert client.closed is None

    with smtp_sink(tmp_path, options.split()) as sink:
        anyio.run(send, sink.port, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_refusal_in_the_middle_of_the_body_is_heard_unless_tcp_loses_it(tmp_path: Path, backend: str) -> None:
    """550 right after 354, then a reset, since nothing of the body was read; that may overtake the 550."""
    row = Row("-A 0", Result.REFUSED, 550, Exit.UNAVAILABLE, "", octets=LARGE)
    with smtp_sink(tmp_path, row.options.split()) as sink:
        delivery = anyio.run(deliver, row, sink, backend=backend)
    [(outcome, code)] = {(result.outcome, result.reply and result.reply.code) for result in delivery}
    assert (outcome, code) in ((Result.REFUSED, 550), (Result.RETRY, None))
    assert delivery.closed is not None
