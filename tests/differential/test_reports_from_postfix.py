"""What our client asks for with DSN, as Postfix understands it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import anyio

from smtpstate import Result
from smtpstate.delivery import Recipient
from smtpstate.extensions import Envid, Notify, OriginalRecipient, Ret, parameters
from smtpstate_anyio import connect
from tests.differential.rows import DOMAIN
from tests.peers.programs import SECONDS

if TYPE_CHECKING:
    from tests.differential.postfix import Postfix

_ATTRIBUTE: Final = re.compile(
    r"^named_attribute: (envelope_id|ret_flags|notify_flags|dsn_orig_rcpt)=(.*)$", re.MULTILINE
)


def test_postfix_is_asked_for_the_reports_that_we_were_asked_for(reporting_postfix: Postfix) -> None:
    first = f"you+tag@{DOMAIN}"
    second = Recipient(f"b@{DOMAIN}", parameters(Notify.NEVER, OriginalRecipient("rfc822", "list@example.net")))

    async def send() -> str:
        with anyio.fail_after(SECONDS):
            async with connect(
                f"127.0.0.1:{reporting_postfix.port}", tls="off", hostname="client.example.com"
            ) as client:
                delivery = await client.send(
                    b"Subject: hello\r\n\r\nhello\r\n",
                    sender="me@example.com",
                    recipients=[first, second],
                    notify=Notify.SUCCESS | Notify.DELAY,
                    ret=Ret.HDRS,
                    envid=Envid("a+b=c"),
                )
        assert [result.outcome for result in delivery] == [Result.ACCEPTED] * 2, delivery
        return str(delivery.results[0].reply)

    envelope = reporting_postfix.envelope(anyio.run(send)).decode()
    attributes = re.findall(
        r"^named_attribute: (envelope_id|ret_flags|notify_flags|dsn_orig_rcpt)=(.*)$", envelope, re.M
    )
    assert attributes == [
        ("envelope_id", "a+b=c"),
        ("ret_flags", "2"),  # HDRS
        ("notify_flags", "10"),  # SUCCESS and DELAY
        ("dsn_orig_rcpt", f"rfc822;{first}"),
        ("notify_flags", "1"),  # NEVER
        ("dsn_orig_rcpt", "rfc822;list@example.net"),
    ]
