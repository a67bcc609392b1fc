"""TLS between the anyio client and the anyio server, in every mode, and where it must fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, wait_all_tasks_blocked

from smtpstate import CloseReason, DeliveryError, Result, TlsUnavailable
from smtpstate_anyio import Listener, connect, serve_messages
from tests.anyio.loopback import Certificates, Inbox, Recorder, background

if TYPE_CHECKING:
    from smtpstate_parts.listen import ListenerTls

pytestmark = pytest.mark.anyio

TO: Any = {"sender": "me@example.com", "recipients": ["you@example.org"]}

MODES: list[Any] = [
    pytest.param("off", "starttls", False, id="plain"),
    pytest.param("opportunistic", "starttls", True, id="opportunistic where there is TLS"),
    pytest.param("opportunistic", "plain", False, id="opportunistic where there is none"),
    pytest.param("required", "starttls", True, id="required"),
    pytest.param("implicit", "implicit", True, id="implicit"),
]


@pytest.mark.parametrize(("mode", "listener", "secure"), MODES)
async def test_mail_arrives_in_every_tls_mode(
    mode: str, listener: ListenerTls, secure: bool, certificates: Certificates
) -> None:
    inbox = Inbox()
    content = b"x" * 70 + b"\r\n"
    serving = background(
        serve_messages, inbox, Listener("127.0.0.1", 0, listener), accept_any=True, tls=certificates.server
    )
    context = certificates.trusting if mode != "opportunistic" else None
    async with serving as port, connect(f"127.0.0.1:{port}", tls=mode, ssl_context=context) as client:
        assert (client.tls is not None) == secure
        for _ in range(2):
            assert (await client.send(content * 20_000, **TO)).all_accepted
    assert inbox.bodies == [content * 20_000] * 2
    for message in inbox.messages:
        assert (message.tls is not None) == secure
        assert message.received_with == ("ESMTPS" if secure else "ESMTP")


@pytest.mark.parametrize(("mode", "listener"), [("required", "starttls"), ("implicit", "implicit")])
async def test_a_certificate_from_elsewhere_is_refused_before_anything_is_said(
    mode: str, listener: ListenerTls, certificates: Certificates
) -> None:
    seen = Recorder()
    serving = background(
        serve_messages,
        Inbox(),
        Listener("127.0.0.1", 0, listener),
        accept_any=True,
        tls=certificates.server,
        observer=seen,
    )
    async with serving as port:
        with pytest.raises(TlsUnavailable, match=r"certificate|issuer"):
            async with connect(f"127.0.0.1:{port}", tls=mode, ssl_context=certificates.suspicious):
                pass
        await seen.somebody_left.wait()
    assert [closed.reason for closed in seen.closed] == [CloseReason.TLS_FAILED]
    said = [line.line.upper()[:8] for line in seen.lines if line.side == "C"]
    assert said == ([] if mode == "implicit" else [b"EHLO " + said[0][5:], b"STARTTLS"])


async def test_a_name_that_the_certificate_lacks_is_refused(certificates: Certificates) -> None:
    serving = background(serve_messages, Inbox(), accept_any=True, tls=certificates.misnamed)
    async with serving as port:
        with pytest.raises(TlsUnavailable, match="not valid for"):
            async with connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting):
                pass


async def test_required_tls_sends_nothing_in_clear_to_a_server_without_it() -> None:
    seen = Recorder()
    async with background(serve_messages, Inbox(), accept_any=True, observer=seen) as port:
        with pytest.raises(TlsUnavailable, match="does not offer"):
            async with connect(f"127.0.0.1:{port}"):
                pass
        await seen.somebody_left.wait()
    assert [line.line[:4] for line in seen.lines if line.side == "C"] == [b"EHLO", b"QUIT"]


async def test_a_plain_server_where_implicit_tls_is_expected(certificates: Certificates) -> None:
    async with background(serve_messages, Inbox(), accept_any=True) as port:
        with pytest.raises(DeliveryError):
            async with connect(f"127.0.0.1:{port}", tls="implicit", ssl_context=certificates.trusting):
                pass


async def test_a_hundred_sessions_at_once_in_tls(certificates: Certificates) -> None:
    inbox = Inbox()

    async def deliver(port: int) -> None:
        async with connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting) as client:
            assert (await client.send(b"x" * 10_000, **TO)).all_accepted

    serving = background(serve_messages, inbox, accept_any=True, tls=certificates.server)
    async with serving as port, create_task_group() as group:
        for _ in range(100):
            group.start_soon(deliver, port)
    assert len(inbox.bodies) == 100


async def test_a_drain_in_tls_says_421_and_close_notify(certificates: Certificates) -> None:
    stop = Event()
    serving = background(serve_messages, Inbox(), accept_any=True, tls=certificates.server, stop=stop)
    async with serving as port, connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting) as client:
        stop.set()
        await wait_all_tasks_blocked()
        delivery = await client.send(b"x", **TO)
    assert [result.outcome for result in delivery] == [Result.RETRY]
    assert delivery.closed is not None
    assert delivery.closed.reason is CloseReason.GOING_AWAY
