"""SMTPUTF8: any address that there is arrives as it was written, however its octets are cut."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate import EndOfMessage, Mail, Rcpt, ServerConfig, TlsMode
from smtpstate._address import MAX_LOCAL_PART, ForwardPath, Mailbox
from smtpstate._config import OFFERS
from smtpstate._delivery import Envelope, open_session, send_message
from smtpstate._errors import GrammarError
from smtpstate._international import RECIPIENT_NEEDS_UTF8, SENDER_NEEDS_UTF8
from smtpstate_testing import Pair
from tests.property.wire import cuts

_FORBIDDEN = "\u2028\u2029" + "".join(map(chr, range(0x7F, 0xA0)))
local_parts = st.text(
    st.characters(codec="utf-8", min_codepoint=32, exclude_characters=_FORBIDDEN), min_size=1, max_size=64
).filter(lambda text: len(text.encode()) <= MAX_LOCAL_PART)
domains = st.lists(st.text("abz09\u00e9\u00df\u4f8b\u0448\u0e01", min_size=1, max_size=9), min_size=1, max_size=4).map(
    ".".join
)
mailboxes = st.builds(Mailbox, local_parts, domains)


def spelled(mailbox: Mailbox) -> str | None:
    with suppress(GrammarError):
        return str(Mailbox.parse(str(mailbox), utf8=True))
    return None


addresses = mailboxes.map(spelled).filter(lambda address: address is not None).map(str)


@settings(max_examples=80, deadline=None)
@given(sender=addresses, recipients=st.lists(addresses, min_size=1, max_size=3), cut=cuts, offered=st.booleans())
def test_any_address_arrives_or_is_refused_by_us(
    sender: str, recipients: list[str], cut: int | list[int] | None, offered: bool
) -> None:
    offers = OFFERS | {"SMTPUTF8"} if offered else OFFERS
    pair = Pair(ServerConfig("mx.example.org", offers=offers), cut=cut)
    pair.run(open_session(pair.client, TlsMode.OFF))
    delivery = pair.run(send_message(pair.client, Envelope(sender, tuple(recipients))), [b"Hi\r\n"])

    mails = [event.reverse_path.mailbox for event in pair.server_events if isinstance(event, Mail)]
    rcpts = [event.recipient for event in pair.server_events if isinstance(event, Rcpt)]
    wanted = [ForwardPath(Mailbox.parse(to, utf8=True)) for to in recipients]
    me = Mailbox.parse(sender, utf8=True)
    if not offered and not me.local_part.isascii():
        assert {result.reply for result in delivery} == {SENDER_NEEDS_UTF8}
        assert not mails
        return
    lost = [not offered and not path.mailbox.local_part.isascii() for path in wanted]
    assert [result.reply == RECIPIENT_NEEDS_UTF8 for result in delivery] == lost
    assert rcpts == [path for path, gone in zip(wanted, lost, strict=True) if not gone]
    assert mails == ([] if all(lost) else [me])
    assert sum(isinstance(event, EndOfMessage) for event in pair.server_events) == (not all(lost))
    if not offered:
        assert pair.transcript.isascii()
