"""NO-SOLICITING (RFC 3865): EHLO says which solicitations nobody here wants, SOLICIT= says which ones a message is."""

import re

from smtpstate import Mail, Reply, ServerConnection, ServerEvent
from smtpstate.extensions import Extension, Parameter

# Solicitation-keywords = word 0*("," word) ; length of this string is limited to <= 1000 characters
# word = ALPHA 0*("." / "-" / "_" / ":" / ALPHA / DIGIT)
WORD = r"[A-Za-z][A-Za-z0-9._:-]*"
WORDS = re.compile(rf"{WORD}(?:,{WORD})*")
UNWANTED = frozenset({"net.example:ADV", "org.example:ADV:ADLT"})


def is_solicitation(value: str | None) -> bool:
    return value is not None and len(value) <= 1000 and WORDS.fullmatch(value) is not None


NO_SOLICITING = Extension(
    "NO-SOLICITING",
    announced=(",".join(sorted(UNWANTED)),),
    mail=(Parameter("SOLICIT", is_solicitation, increment=len(" SOLICIT=") + 1000),),
)


def handle(server: ServerConnection, event: ServerEvent) -> None:
    if isinstance(event, Mail):
        value = dict(event.parameters).get("SOLICIT") or ""
        if UNWANTED & set(value.split(",")):
            server.reply(Reply(550, "No solicitations of that kind", enhanced="5.7.1"))
