"""Our client against aiosmtpd: plain, STARTTLS and implicit TLS, and recipients with different fates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

from smtpstate import DeliveryError, Result, TlsUnavailable
from smtpstate_anyio import connect
from smtpstate_server._exits import Exit
from tests.peers.contents import CONTENTS, Content
from tests.peers.lodger import Handler, aiosmtpd
from tests.peers.programs import SECONDS, run, smtpstate
from tests.peers.serving import RECIPIENT, SENDER, Certificates

if TYPE_CHECKING:
    from pathlib import Path

    from smtpstate import Delivery

BACKENDS = ("asyncio", "trio")
MODES = ("off", "required", "opportunistic", "implicit")
DOTS = CONTENTS[0].octets

# aiosmtpd refuses lines of more than 1001 octets: that has a test of its own.
SHORT_LINES = tuple(content for content in CONTENTS if content.name != "long lines")
LONG_LINES = next(content for content in CONTENTS if content.name == "long lines")


def options(mode: str, certificates: Certificates) -> dict[str, Any]:
    """What aiosmtpd needs for this mode of our client."""
    if mode == "implicit":
        return {"implicit": certificates.server}
    return {} if mode == "off" else {"tls_context": certificates.server}


async def deliver(port: int, mode: str, certificates: Certificates, octets: bytes, *recipients: str) -> Delivery:
    context = None if mode == "off" else certificates.trusting
    with anyio.fail_after(SECONDS):
        async with connect(f"127.0.0.1:{port}", tls=mode, ssl_context=context, hostname="client.example.org") as client:
            assert (client.tls is not None) is (mode != "off")
            return await client.send(octets, sender=SENDER, recipients=recipients or (RECIPIENT,))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("content", SHORT_LINES, ids=lambda content: content.name)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_sent_is_what_arrives(certificates: Certificates, mode: str, content: Content, backend: str) -> None:
    handler = Handler()
    with aiosmtpd(handler, **options(mode, certificates)) as port:
        delivery = anyio.run(deliver, port, mode, certificates, content.octets, backend=backend)
    assert delivery.all_accepted
    [envelope] = handler.kept
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, [RECIPIENT])
    assert envelope.original_content == content.octets
    assert handler.encrypted == [mode != "off"]


@pytest.mark.parametrize("mode", MODES)
def test_the_command_delivers_too(certificates: Certificates, tmp_path: Path, mode: str) -> None:
    handler = Handler()
    with aiosmtpd(handler, **options(mode, certificates)) as port:
        server = ("--server", f"127.0.0.1:{port}", "--ca", str(certificates.ca), "--tls", mode)
        done = run(smtpstate("send", *server, "--from", SENDER, "--to", RECIPIENT), stdin=DOTS, home=tmp_path)
    assert (done.returncode, done.stdout) == (Exit.OK, f"{RECIPIENT} accepted 250 2.0.0 OK\n".encode()), done.stderr
    assert [envelope.original_content for envelope in handler.kept] == [DOTS]
    assert handler.encrypted == [mode != "off"]


class Row(NamedTuple):
    """Recipients, what aiosmtpd says to the message, and what has to come of each."""

    recipients: tuple[str, ...]
    verdict: str
    results: tuple[tuple[Result, int], ...]
    exit_code: Exit
    reason: str


YES, NO, LATER = (Result.ACCEPTED, 250), (Result.REFUSED, 550), (Result.RETRY, 450)
OK = "250 2.0.0 OK"
ROWS = (
    Row(("a", "nobody", "b"), OK, (YES, NO, YES), Exit.UNAVAILABLE, "one is refused, and the others get it"),
    Row(("full", "a"), OK, (LATER, YES), Exit.TEMPFAIL, "one is to be tried again"),
    Row(("full", "nobody", "a"), OK, (LATER, NO, YES), Exit.TEMPFAIL, "one of each"),
    Row(("full", "nobody"), OK, (LATER, NO), Exit.TEMPFAIL, "nobody is left, so there is no message"),
    Row(("nobody",), OK, (NO,), Exit.UNAVAILABLE, "nobody is left, so there is no message"),
    Row(("a", "nobody"), "554 5.6.0 No", ((Result.REFUSED, 554), NO), Exit.UNAVAILABLE, "each has the reply it got"),
    Row(("a", "nobody"), "451 4.3.0 No", ((Result.RETRY, 451), NO), Exit.TEMPFAIL, "each has the reply it got"),
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["off", "required"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{'+'.join(row.recipients)}, {row.verdict}")
def test_each_recipient_has_its_own_outcome(certificates: Certificates, row: Row, mode: str, backend: str) -> None:
    handler = Handler(row.verdict)
    recipients = [f"{local}@example.org" for local in row.recipients]
    with aiosmtpd(handler, **options(mode, certificates)) as port:
        delivery = anyio.run(deliver, port, mode, certificates, DOTS, *recipients, backend=backend)
    assert [result.address for result in delivery] == recipients
    assert tuple((result.outcome, result.reply and result.reply.code) for result in delivery) == row.results
    accepted = [to for to, result in zip(recipients, row.results, strict=True) if result[0] is Result.ACCEPTED]
    assert [envelope.rcpt_tos for envelope in handler.kept] == ([accepted] if accepted else [])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{'+'.join(row.recipients)}, {row.verdict}")
def test_the_command_has_a_line_for_each(tmp_path: Path, row: Row) -> None:
    to = [word for local in row.recipients for word in ("--to", f"{local}@example.org")]
    with aiosmtpd(Handler(row.verdict)) as port:
        server = ("--server", f"127.0.0.1:{port}", "--tls", "off")
        done = run(smtpstate("send", *server, "--from", SENDER, *to), stdin=DOTS, home=tmp_path)
    lines = [line.split(" ", 3)[:3] for line in done.stdout.decode().splitlines()]
    expected = zip(row.recipients, row.results, strict=True)
    assert lines == [[f"{local}@example.org", result.value, str(code)] for local, (result, code) in expected]
    assert done.returncode == row.exit_code


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_line_that_is_too_long_for_aiosmtpd_is_refused(certificates: Certificates, backend: str) -> None:
    handler = Handler()
    with aiosmtpd(handler) as port:
        delivery = anyio.run(deliver, port, "off", certificates, LONG_LINES.octets, backend=backend)
    [result] = delivery
    assert result.outcome is Result.REFUSED
    assert result.reply is not None
    assert (result.reply.code, handler.kept) == (500, [])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_message_beyond_the_size_that_is_announced_is_refused_at_mail(
    certificates: Certificates, backend: str
) -> None:
    handler = Handler()
    with aiosmtpd(handler, data_size_limit=100) as port:
        delivery = anyio.run(deliver, port, "off", certificates, DOTS, backend=backend)
    [result] = delivery
    assert result.outcome is Result.REFUSED
    assert result.reply is not None
    assert (result.reply.code, handler.kept) == (552, [])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_server_that_wants_tls_refuses_what_comes_without(certificates: Certificates, backend: str) -> None:
    with aiosmtpd(Handler(), tls_context=certificates.server, require_starttls=True) as port:
        [result] = anyio.run(deliver, port, "off", certificates, DOTS, backend=backend)
        assert result.outcome is Result.REFUSED
        assert result.reply is not None
        assert result.reply.code == 530
        assert anyio.run(deliver, port, "required", certificates, DOTS, backend=backend).all_accepted


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("mode", "server", "error", "reason"),
    [
        ("required", {}, TlsUnavailable, "no STARTTLS, so nothing is sent in clear"),
        ("implicit", {}, DeliveryError, "a greeting where a handshake should begin"),
    ],
)
def test_no_tls_means_no_delivery(
    certificates: Certificates, mode: str, server: dict[str, Any], error: type[DeliveryError], reason: str, backend: str
) -> None:
    handler = Handler()
    with aiosmtpd(handler, **server) as port, pytest.raises(error):
        anyio.run(deliver, port, mode, certificates, DOTS, backend=backend)
    assert handler.kept == [], reason


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["required", "implicit"])
def test_a_certificate_that_nobody_vouches_for_means_no_delivery(
    certificates: Certificates, mode: str, backend: str
) -> None:
    async def send(port: int) -> None:
        async with connect(f"127.0.0.1:{port}", tls=mode, hostname="client.example.org"):
            raise AssertionError("connected")

    handler = Handler()
    with aiosmtpd(handler, **options(mode, certificates)) as port, pytest.raises(DeliveryError):
        anyio.run(send, port, backend=backend)
    assert handler.kept == []
