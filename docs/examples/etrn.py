"""ETRN (RFC 1985): a host that is not always there asks for the mail that waits for it. A verb of one's own."""

from smtpstate import Reply, ServerConnection, ServerEvent
from smtpstate.extensions import Extension, OwnCommand, OwnVerb

ETRN = Extension("ETRN", verb=OwnVerb("ETRN"))

# How many messages wait, by the domain that may ask for them.
WAITING = {"example.net": 2, "example.org": 0}


def start(node: str) -> Reply:
    count = WAITING.get(node.lower())
    if count is None:
        return Reply(459, f"Node {node} not allowed", enhanced="4.7.1")
    if count == 0:
        return Reply(251, f"OK, no messages waiting for node {node}", enhanced="2.0.0")
    return Reply(253, f"OK, {count} pending messages for node {node} started", enhanced="2.0.0")


def handle(server: ServerConnection, event: ServerEvent) -> None:
    match event:
        case OwnCommand("ETRN", ""):
            server.reply(Reply(501, "Which node?", enhanced="5.5.4"))
        case OwnCommand("ETRN", node):
            server.reply(start(node))
        case _:
            pass
