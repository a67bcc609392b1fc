"""PORT CA SENDER RECIPIENT: sends standard input with STARTTLS, which smtpproto uses wherever it is offered."""

from __future__ import annotations

import ssl
import sys
from email import message_from_bytes, policy

from smtpproto.client import SyncSMTPClient

port, ca, sender, recipient = sys.argv[1:]
message = message_from_bytes(sys.stdin.buffer.read(), policy=policy.SMTP)
client = SyncSMTPClient(
    "127.0.0.1", int(port), domain="client.example.org", ssl_context=ssl.create_default_context(cafile=ca)
)
client.send_message(message, sender=sender, recipients=[recipient])
