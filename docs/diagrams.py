"""Writes what the documentation takes from the code: the states' diagram, and the tables of what is nearly right.

python docs/diagrams.py            write them into the pages that show them
python docs/diagrams.py --check    say what is stale, exit 1
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from smtpstate._commands import Verb  # noqa: E402
from smtpstate._state import TRANSITIONS, Outcome, Phase  # noqa: E402
from tests.deviations import DEVIANTS  # noqa: E402
from tests.near_terminators import NEAR_TERMINATORS  # noqa: E402
from tests.reply_deviations import OFFER_DEVIANTS, REPLY_DEVIANTS  # noqa: E402
from tests.violations import CLIENT_ROWS, SERVER_ROWS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate._policy import Deviation, Treatment
    from tests.violations import ClientRow, ServerRow

SAID: Final = {Outcome.OK: "2yz", Outcome.MORE: "3yz", Outcome.FAIL: "4yz 5yz"}
NAMED: Final = {
    Verb.CONNECT: "greeting",
    Verb.TLS: "handshake",
    Verb.END: "end of message",
    Verb.RESPONSE: "AUTH answer",
    Verb.CHUNK: "end of chunk",
}
DEVIATIONS_HEAD: Final = (
    "| deviation | for instance | breaks | `mx` | `strict` | who sends it |\n| --- | --- | --- | --- | --- | --- |\n"
)
OCTETS: Final = {0: "NUL", 9: "HT", 10: "LF", 13: "CR", 32: "SP"}


def mermaid() -> str:
    """The diagram: one arrow for each pair of phases, with the verbs that lead along it."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for phase, row in TRANSITIONS.items():
        for verb, outcomes in row.items():
            for outcome, target in outcomes.items():
                if target is not phase:
                    arrows.setdefault((phase, target), []).append(f"{NAMED.get(verb, verb.name)} {SAID[outcome]}")
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {Phase.CONNECT.name}"]
    lines += [f"    {a.name} --> {b.name}: {', '.join(labels)}" for (a, b), labels in arrows.items()]
    lines += [f"    {Phase.CLOSING.name} --> {Phase.CLOSED.name}", f"    {Phase.CLOSED.name} --> [*]", "```"]
    return "\n".join(lines) + "\n"


def near_terminators() -> str:
    """The table: what is on the wire, what comes out of it, what is noted, and why the row is there."""
    lines = ["| on the wire | comes out as | noted | why it is here |", "| --- | --- | --- | --- |"]
    for row in NEAR_TERMINATORS:
        noted = ", ".join(sorted(anomaly.name for anomaly in row.anomalies)) or "nothing"
        lines.append(f"| `{spelled(row.near)}` | `{spelled(row.content)}` | {noted} | {row.reason} |")
    return "\n".join(lines) + "\n"


def deviations() -> str:
    """The table: each deviation with a line that has it, where it is forbidden, what is done, and who sends it."""
    return DEVIATIONS_HEAD + "".join(
        deviation_row(row.wire, row.deviation, row.mx, row.strict, row.senders) for row in DEVIANTS
    )


def reply_deviations() -> str:
    """The same of replies, and of the lines of an EHLO reply."""
    replies = (deviation_row(row.wire, row.deviation, row.mx, row.strict, row.senders) for row in REPLY_DEVIANTS)
    offers = (
        deviation_row(
            "\r\n".join(f"250-{line}" for line in row.lines).encode(), row.deviation, row.mx, row.strict, row.senders
        )
        for row in OFFER_DEVIANTS
    )
    return DEVIATIONS_HEAD + "".join((*replies, *offers))


def deviation_row(wire: bytes, deviation: Deviation, mx: Treatment, strict: Treatment, senders: str) -> str:
    """One row of these tables. A line ending is spelled where it is the point, or another line follows."""
    octets = re.sub(rb"x{9,}", b"x...x", wire.removesuffix(b"\r\n")).decode("latin-1")
    shown = re.sub(r"[^ -~]|\s$", lambda odd: named(ord(odd[0])), octets)
    treatments = f"{mx.name.lower()} | {strict.name.lower()}"
    return f"| {deviation.name} | `{shown}` | {deviation.value} | {treatments} | {senders} |\n"


def server_violations() -> str:
    """The table: what a client does to our server, what that says, whether it hangs up, and why it is a violation."""
    lines = [
        "| violation | after | a client sends | we answer | and then | why | known from |",
        "| --- |" + " --- |" * 6,
    ]
    for row in SERVER_ROWS:
        after = ", ".join(line.split()[0].decode() for line in row.said) or (
            "the greeting" if row.greeted else "nothing"
        )
        answer = shown(row.answer.splitlines(keepends=True)[-1]) if row.answer else "nothing"
        then = "close" if row.closes else "go on"
        lines.append(f"| {row.violation.name} | {after} | {shown(row.wire)} | {answer} | {then} | {why(row)} |")
    return "\n".join(lines) + "\n"


def client_violations() -> str:
    """The table: what a server does to our client, which then says nothing more, and why it is a violation."""
    lines = ["| violation | asked for | a server sends | why | known from |", "| --- |" + " --- |" * 4]
    for row in CLIENT_ROWS:
        asked = ", ".join(item.verb.name for item in row.asked) or "nothing"
        lines.append(f"| {row.violation.name} | {asked} | {shown(row.wire)} | {why(row)} |")
    return "\n".join(lines) + "\n"


def why(row: ServerRow | ClientRow) -> str:
    """The last two columns of both tables."""
    return f"{row.why} | {row.violation.value}{'; ' * bool(row.also)}{row.also}"


def shown(octets: bytes) -> str:
    """An example: lines as they are, what ends them spelled where another one follows, long runs left out."""
    text = re.sub(rb"x{9,}", b"x...x", octets.removesuffix(b"\r\n")).decode("utf-8", "backslashreplace")
    return "`" + re.sub(r"[\x00-\x1f\x7f]", lambda odd: named(ord(odd[0])), text) + "`"


def named(octet: int) -> str:
    """An octet as RFCs spell those that have no shape: `<CR>`, or in hexadecimal."""
    return f"<{OCTETS.get(octet) or format(octet, '02X')}>"


def spelled(octets: bytes) -> str:
    """Octets as RFCs spell them: `<CR><LF>`, and in hexadecimal what has neither a name nor a shape."""
    return "".join(chr(octet) if 33 <= octet <= 126 else named(octet) for octet in octets)


# page -> what stands on it between two markers, by the markers' name
PAGES: Final[dict[Path, dict[str, Callable[[], str]]]] = {
    ROOT / "README.md": {"states": mermaid},
    ROOT / "docs" / "states.md": {"states": mermaid},
    ROOT / "docs" / "near-terminators.md": {"near-terminators": near_terminators},
    ROOT / "docs" / "security.md": {"server-violations": server_violations, "client-violations": client_violations},
    ROOT / "docs" / "deviations.md": {"deviations": deviations, "reply-deviations": reply_deviations},
}


def written(text: str, name: str, content: str) -> str:
    """`text` with `content` between the two markers called `name`."""
    begin, end = f"<!-- {name}: begin, made by docs/diagrams.py -->\n", f"<!-- {name}: end -->\n"
    head, rest = text.split(begin)
    return head + begin + content + end + rest.split(end)[1]


def main() -> int:
    check, stale = "--check" in sys.argv[1:], False
    for path, tables in PAGES.items():
        fresh = text = path.read_text("utf-8")
        for name, make in tables.items():
            fresh = written(fresh, name, make())
        if fresh == text:
            continue
        stale = True
        if check:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run python docs/diagrams.py\n")
        else:
            path.write_text(fresh, "utf-8", newline="\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
