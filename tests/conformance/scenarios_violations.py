"""Scenarios made of `tests/violations.py`: each way to break the rules as a dialogue, for the modes that have TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtpstate import CloseReason, Ehlo, EndOfMessage, Mail, Noop
from smtpstate_testing._core_scenarios import hello
from smtpstate_testing._scenario import Ask, Scenario

if TYPE_CHECKING:
    from tests.violations import ClientRow, ServerRow

ANY_REPLY = "S= "


def named(row: ServerRow | ClientRow) -> str:
    return f"{row.violation.name.lower()}-{row.why.split()[-1]}"


def raw(side: str, octets: bytes) -> str:
    """A line of a dialogue for octets as they are."""
    return f"{side}= " + octets.decode("latin-1").encode("unicode_escape").decode()


def lines(octets: bytes) -> list[bytes]:
    return octets.splitlines(keepends=True)


def of_a_client(row: ServerRow) -> Scenario:
    """What a client does to our server."""
    said = [turn for octets in row.said for turn in (raw("C", octets), ANY_REPLY)]
    if row.burst:
        turns = [raw("C", row.wire), *(raw("S", line) for line in lines(row.answer))]
    else:  # command by command, as far as there are answers
        asked = row.wire.split(b"\r\n")
        commands = [part + b"\r\n" for part in asked[:-1]] + ([asked[-1]] if asked[-1] else [])
        answers = lines(row.answer)
        turns = []
        for number, command in enumerate(commands):
            turns.append(raw("C", command))
            turns += [raw("S", line) for line in answers[number : number + 1]]
        turns += [raw("S", line) for line in answers[len(commands) :]]
    end = ["S* fin"] if row.closes else ["C* fin"]
    return Scenario(
        name=named(row),
        why=row.why,
        dialogue="\n".join([ANY_REPLY, *said, *turns, *end]),
        seats=("server",),
        config=row.config,
        refused=None,
        server_ends=CloseReason.VIOLATION if row.closes else CloseReason.EOF,
        server_violation=row.violation if row.closes else None,
    )


def of_a_server(row: ClientRow) -> Scenario:
    """What a server does to our client."""
    [asked] = row.asked
    assert not isinstance(asked, EndOfMessage | Ehlo)
    line = {Noop: "C: NOOP", Mail: "C: MAIL FROM:<a@me.example>"}[type(asked)]
    told = tuple(map(str, row.told)) or ("ConnectionBroken",)
    return Scenario(
        name=named(row),
        why=row.why,
        dialogue="\n".join([hello("PIPELINING"), line, raw("S", row.wire), "C* fin"]),
        seats=("client",),
        actions=(Ask(asked),),
        told=told,
        client_ends=CloseReason.VIOLATION,
        client_violation=row.violation,
    )
