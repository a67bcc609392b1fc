"""The client's AUTH as a procedure: a mechanism is driven from its first word to the server's verdict (RFC 4954)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate._commands import Auth, AuthCancel, AuthResponse, Verb
from smtpstate._delivery import ConnectionBroken, DeliveryError, Procedure, ask, next_reply
from smtpstate._keys import WorkNeeded
from smtpstate._questions import challenge_of
from smtpstate._sasl import Failure, Respond, SaslFault
from smtpstate._state import Outcome

if TYPE_CHECKING:
    from smtpstate._client import ClientConnection
    from smtpstate._replies import Reply
    from smtpstate._sasl import ClientMechanism, ClientStep

# Octets of an AUTH line with an initial response: RFC 4954 section 4 leaves it under the limit of RFC 5321 section
# 4.5.3.1.4, and has what is longer sent in answer to an empty challenge.
_INITIAL_LINE: Final = 512


@final
class AuthenticationFailed(DeliveryError):
    """The server does not know us, or we do not believe the server.

    `reply` is what it said last, None if it was not asked or did not answer; `why` is what we found wrong, None if it
    was the server who said no.
    """

    def __init__(self, reply: Reply | None, why: SaslFault | None = None) -> None:
        what = ([] if why is None else [why.value]) + ([] if reply is None else [str(reply)])
        super().__init__("authentication failed: " + ", ".join(what))
        self.reply: Reply | None = reply
        self.why: SaslFault | None = why


def authenticate(client: ClientConnection, mechanism: ClientMechanism) -> Procedure[None]:
    """AUTH with one mechanism; goes with a session that `open_session` opened. One refusal is the end of it.

    Raises AuthenticationFailed, after which the session is as it was before, unless the server said yes too early:
    then it is closed. Raises ConnectionBroken; and LocalProtocolError, before anything is sent, when the mechanism is
    not offered, a response is longer than the line it needs, or AUTH is out of order.
    """
    first = yield from _worked(mechanism, mechanism.step(None))
    if isinstance(first, Failure):
        raise AuthenticationFailed(None, first.why)
    auth, held = Auth(mechanism.name), first.data  # what waits for an empty challenge
    if held is not None:
        client.check(AuthResponse(held))
        if len(client.check(auth)) + len(" ") + max(1, 4 * -(-len(held) // 3)) <= _INITIAL_LINE:
            auth, held = Auth(mechanism.name, held), None
    reply = yield from ask(client, auth)
    while Outcome.of(reply.code) is Outcome.MORE:
        challenge = challenge_of(reply)
        step: Respond | Failure
        if challenge is None:
            step = Failure(SaslFault.MALFORMED)
        elif held is not None:
            step, held = Respond(held), None
        else:
            step = yield from _worked(mechanism, mechanism.step(challenge))
        if isinstance(step, Failure):
            client.send(AuthCancel())
            answer = yield from next_reply(Verb.RESPONSE)
            raise AuthenticationFailed(answer.reply, step.why)
        reply = yield from ask(client, AuthResponse(step.data or b""))
    if Outcome.of(reply.code) is Outcome.FAIL:
        raise AuthenticationFailed(reply)
    if client.closed is not None:
        raise ConnectionBroken(client.closed)
    verdict = mechanism.concluded() if held is None else Failure(SaslFault.UNVERIFIED)
    if isinstance(verdict, Failure):
        client.close()
        raise AuthenticationFailed(reply, verdict.why)


def _worked(mechanism: ClientMechanism, step: ClientStep) -> Procedure[Respond | Failure]:
    """The step that comes of a step, once its work is done."""
    while isinstance(step, WorkNeeded):
        done = yield step
        assert isinstance(done, bytes)
        step = mechanism.step(done)
    return step
