"""CONPERM and CONNEG (RFC 4141): a sender allows conversion, and asks what a recipient's device can show."""

from smtpstate import Rcpt, Reply, ServerConnection, ServerEvent
from smtpstate.extensions import Extension, Parameter, flag

CONPERM = Extension("CONPERM", mail=(Parameter("CONPERM", flag, increment=len(" CONPERM")),))
CONNEG = Extension("CONNEG", rcpt=(Parameter("CONNEG", flag, increment=len(" CONNEG")),))

# Media features (RFC 2533) by recipient.
FEATURES = {
    "fax@example.org": ("(&(color=Binary)", " (image-file-structure=TIFF-minimal)", " (dpi=204))"),
}


def handle(server: ServerConnection, event: ServerEvent) -> None:
    match event:
        case Rcpt(recipient, parameters) if ("CONNEG", None) in parameters:
            features = FEATURES.get(recipient.address, ())
            server.reply(Reply(250, "Recipient accepted", *features, enhanced="2.1.5"))
        case Rcpt():
            server.accept()
        case _:
            pass
