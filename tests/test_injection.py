"""Nothing that an application gives us can end a line of its own: it raises, and nothing has changed.

Every public function and constructor that takes text or octets is in one of the tables below, or a test fails: what is
said to the peer is tried with each of INJECTED, and of the rest it is said why the peer never sees it.
"""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest

import smtpstate
from smtpstate import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    ClientConnection,
    Command,
    Connected,
    Data,
    Ehlo,
    Expn,
    Flow,
    ForwardPath,
    Helo,
    Help,
    Lhlo,
    LocalProtocolError,
    Mail,
    Mailbox,
    Noop,
    Quit,
    Rcpt,
    Refusal,
    Reply,
    ReversePath,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    TlsMode,
    Verb,
    Vrfy,
    delivery,
    extensions,
    policy,
    proxy,
    sasl,
    tls,
)
from smtpstate.delivery import Envelope, Recipient, ask, open_session, send_message
from smtpstate.extensions import (
    Extension,
    OwnCommand,
    OwnVerb,
    Parameter,
    XClient,
    XForward,
    flag,
    future_release,
    mt_priority,
)
from smtpstate.sasl import Credentials, choose
from tests.helpers import ManualClock, Seat
from tests.property.snapshots import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

# What ends a line for somebody, hides one, or moves a terminal's cursor; and a lone surrogate, which no octets spell.
CONTROLS: Final = [chr(code) for code in (*range(9), *range(10, 32), 127)]
INJECTED: Final = ["\r\nRSET\r\n", "\r\n250 ok", "\n.\n", "\r", "\ud800", *CONTROLS]
UNICODE: Final = ["\x85", "\x9b", "\u2028", "\u2029"]  # for somebody else's splitlines() and terminal

OFFERS: Final = (
    b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n"
    b"250-BINARYMIME\r\n250-AUTH PLAIN LOGIN CRAM-MD5 OAUTHBEARER XOAUTH2\r\n250-ETRN\r\n250-STARTTLS\r\n"
    b"250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME\r\n"
    b"250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n"
)
ETRN: Final = Extension("ETRN", verb=OwnVerb("ETRN"))
YOU: Final = Rcpt(ForwardPath(Mailbox("b", "mx.example")), (("NOTIFY", "NEVER"),))
ME: Final = Mail(ReversePath(Mailbox("a", "c.example")), (("SIZE", "5"), ("ENVID", "x")))
INTERNATIONAL: Final = Mail(ReversePath(Mailbox("ä", "bücher.example")), (("SMTPUTF8", None), ("ENVID", "x")))
HIM: Final = Rcpt(ForwardPath(Mailbox("ö o", "bücher.example")), (("ORCPT", "rfc822;x"),))
PLAIN_MAIL: Final = Mail.of("a@c.example")

# Every command, with all that it can have, and what comes before it.
COMMANDS: Final[tuple[tuple[Command, tuple[Command, ...]], ...]] = (
    (Ehlo("c.example"), ()),
    (Helo("c.example"), ()),
    (Lhlo("c.example"), ()),
    (StartTls(), ()),
    (Auth("PLAIN", b"\0joe\0x"), ()),
    (AuthResponse(b"joe"), (Auth("LOGIN"),)),
    (AuthCancel(), (Auth("LOGIN"),)),
    (ME, ()),
    (INTERNATIONAL, ()),
    (YOU, (PLAIN_MAIL,)),
    (HIM, (INTERNATIONAL,)),
    (Data(), (PLAIN_MAIL, YOU)),
    (Bdat(3, last=True), (PLAIN_MAIL, YOU)),
    (Rset(), ()),
    (Noop("x y"), ()),
    (Vrfy("joe", smtputf8=True), ()),
    (Expn("list", smtputf8=True), ()),
    (Help("MAIL"), ()),
    (
        XClient(
            name="c.example",
            reverse_name="c.example",
            port=25,
            protocol="ESMTP",
            helo="c.example",
            login="joe",
            destination_address="192.0.2.1",
            destination_port=25,
            address="192.0.2.1",
        ),
        (),
    ),
    (
        XForward(
            name="c.example",
            address="192.0.2.1",
            port=25,
            protocol="ESMTP",
            helo="c.example",
            ident="x",
            source=extensions.XForwardSource.REMOTE,
        ),
        (),
    ),
    (OwnCommand("ETRN", "example.org"), ()),
    (Quit(), ()),
)


def client(*before: Command, lmtp: bool = False) -> ClientConnection:
    """A client that is offered everything, after these commands."""
    connection = ClientConnection("me.example", clock=ManualClock(), lmtp=lmtp, extensions=(ETRN,))
    replies = {Verb.AUTH: b"334 VXNlcm5hbWU6\r\n", Verb.DATA: b"354 go\r\n", Verb.EHLO: OFFERS, Verb.LHLO: OFFERS}
    connection.receive_data(b"220 mx.example\r\n")
    for command in (None, Lhlo("me.example") if lmtp else Ehlo("me.example"), *before):
        if command is not None:
            connection.send(command)
            connection.data_to_send()
            connection.receive_data(replies.get(command.verb, b"250 ok\r\n"))
        while not isinstance(connection.next_event(), Flow):
            pass
    connection.data_to_send()
    return connection


def spoiled(value: Any, text: str) -> Iterator[Any]:
    """`value` with `text` in it, at each place that a string has in it, however deep."""
    match value:
        case str():
            middle = len(value) // 2
            yield from (text + value, value + text, value[:middle] + text + value[middle:], text)
        case tuple():
            for index, item in enumerate(value):
                yield from ((*value[:index], other, *value[index + 1 :]) for other in spoiled(item, text))
        case _ if is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                if field.compare and field.init:
                    for other in spoiled(getattr(value, field.name), text):
                        yield replace(value, **{field.name: other})
        case _:
            return


def test_every_command_is_here_with_all_that_it_can_have() -> None:
    assert {type(command) for command, _ in COMMANDS} == set(get_args(Command))
    for command, _ in COMMANDS:
        for field in fields(command):
            assert not field.compare or getattr(command, field.name), f"{command!r} lacks {field.name}"


@pytest.mark.parametrize(("command", "before"), COMMANDS, ids=[command.verb.name for command, _ in COMMANDS])
def test_a_command_with_a_control_in_it_is_not_sent(command: Command, before: tuple[Command, ...]) -> None:
    lmtp = isinstance(command, Lhlo)
    connection = client(*before, lmtp=lmtp)
    unchanged = snapshot(connection)
    for text in (*INJECTED, *UNICODE):
        for bad in spoiled(command, text):
            with pytest.raises(LocalProtocolError):
                connection.send(bad)
            with pytest.raises(LocalProtocolError):
                connection.check(bad)
            with pytest.raises(LocalProtocolError):
                next(ask(connection, bad))
            assert snapshot(connection) == unchanged, bad
    assert connection.send(command) or isinstance(command, Helo), "without one it is"
    [line] = connection.data_to_send().decode().splitlines()
    assert line.isprintable()


# What a server says.


def verdicts(connection: ServerConnection, text: str) -> tuple[Callable[[], object], ...]:
    """All ways to say `text`, alone or among others, whatever is owed."""
    replies = [Reply(421, text), Reply(421, "bye", text), Reply(421, text, "bye", enhanced="4.3.2")]
    return (
        lambda: connection.accept(text),
        lambda: connection.accept(f"well {text} then"),
        *(
            partial(say, Reply(code, *reply.lines))
            for code in (250, 354, 450, 550)
            for reply in replies
            for say in (connection.reply, connection.refuse)
        ),
        *(partial(connection.close, reply) for reply in replies),
    )


CONFIG: Final = ServerConfig(
    "mx.example",
    asks_vrfy=True,
    asks_expn=True,
    mechanisms=("PLAIN",),
    auth_in_clear=True,
    extensions=(ETRN,),
    offers=ServerConfig("mx.example").offers | {"SMTPUTF8"},
)
SAID: Final = (
    (Verb.CONNECT, b""),
    (Verb.HELO, b"HELO c.example\r\n"),
    (Verb.EHLO, b"EHLO c.example\r\n"),
    (Verb.AUTH, b"AUTH PLAIN AGpvZQB4\r\n"),
    (Verb.VRFY, b"VRFY joe\r\n"),
    (Verb.EXPN, b"EXPN list SMTPUTF8\r\n"),
    (Verb.OWN, b"ETRN example.org\r\n"),
    (Verb.MAIL, b"MAIL FROM:<a@c.example>\r\n"),
    (Verb.RCPT, b"RCPT TO:<b@mx.example>\r\n"),
    (Verb.DATA, b"DATA\r\n"),
    (None, b"hello\r\n"),
    (Verb.END, b".\r\n"),
)


def test_a_reply_with_a_control_in_it_is_not_said_whatever_is_owed() -> None:
    tried: list[Verb | None] = []

    def tries(connection: ServerConnection, event: ServerEvent) -> None:
        owed = connection.owed
        tried.append(None if owed is None else owed.verb)
        unchanged = snapshot(connection)
        for text in (*INJECTED, *UNICODE):
            for say in verdicts(connection, text):
                with pytest.raises(LocalProtocolError):
                    say()
            assert snapshot(connection) == unchanged, (owed, text)
        if isinstance(owed, Vrfy | Expn | OwnCommand):
            connection.reply(Reply(250, "ok"))
        elif owed is not None and not isinstance(owed, Auth):
            connection.accept("ok")

    seat = Seat(CONFIG, handler=tries)
    for _, octets in SAID[1:]:
        seat.say(octets)
    assert tried == [verb for verb, _ in SAID]


def test_a_challenge_is_encoded_whatever_is_in_it() -> None:
    def challenges(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Auth):
            connection.challenge(bytes(range(32)) + b"\r\n\0")
        elif connection.owed is event:
            connection.accept()

    seat = Seat(CONFIG, handler=challenges)
    seat.say(b"EHLO c.example\r\n")
    assert seat.say(b"AUTH PLAIN\r\n").decode().removesuffix("\r\n").isprintable()


# What neither is a command nor a reply, and ends up in one. Each is given a text, and has to raise for it.


def opens(text: str) -> None:
    procedure = open_session(ClientConnection(text, clock=ManualClock()), TlsMode.OFF)
    next(procedure)
    procedure.send(smtpstate.ReplyReceived(Connected(), Reply(220)))


def delivers(envelope: Envelope) -> None:
    connection = client()
    unchanged = snapshot(connection)
    try:
        next(send_message(connection, envelope))
    finally:
        assert snapshot(connection) == unchanged


def logs_in(mechanism: str, *, username: str = "joe", password: str = "x", token: str = "x", authzid: str = "") -> None:
    choose([mechanism], Credentials(username, password, token, authzid), nonce="n" * 20, secure=True, host="mx.example")


def announces(*mechanisms: str) -> None:
    CONFIG.encode(Verb.EHLO, Reply(250), secure=False, mechanisms=mechanisms)


MAKERS: Final[dict[str, tuple[Callable[[str], object], ...]]] = {
    "ClientConnection.__init__": (opens,),
    "Credentials.__init__": (
        lambda text: logs_in("PLAIN", username=text),
        lambda text: logs_in("PLAIN", password=text),
        lambda text: logs_in("PLAIN", authzid=text),
        lambda text: logs_in("CRAM-MD5", username=text),
        lambda text: logs_in("XOAUTH2", username=text),
        lambda text: logs_in("XOAUTH2", token=text),
        lambda text: logs_in("OAUTHBEARER", username=text),
        lambda text: logs_in("OAUTHBEARER", token=text),
        lambda text: logs_in("SCRAM-SHA-256", username=text),
    ),
    "choose": (
        lambda text: choose(["OAUTHBEARER"], Credentials(token="x"), nonce="n" * 20, secure=True, host=f"mx{text}"),
        lambda text: choose(
            ["SCRAM-SHA-256"], Credentials("joe", "x"), nonce=f"{text}{'n' * 20}", secure=True, host="mx.example"
        ),
    ),
    "Envelope.__init__": (
        lambda text: delivers(Envelope(f"a{text}@c.example", ("b@mx.example",))),
        lambda text: delivers(Envelope("a@c.example", ("b@mx.example", f"b@mx{text}.example"))),
        lambda text: delivers(Envelope("a@c.example", ("b@mx.example",), parameters=(("ENVID", f"x{text}"),))),
        lambda text: delivers(Envelope("a@c.example", ("b@mx.example",), parameters=((f"ENVID{text}", "x"),))),
    ),
    "Recipient.__init__": (
        lambda text: delivers(Envelope("a@c.example", (Recipient(f"b{text}@mx.example"),))),
        lambda text: delivers(Envelope("a@c.example", (Recipient("b@mx.example", (("NOTIFY", f"NEVER{text}"),)),))),
    ),
    "Mail.of": (lambda text: Mail.of(f"a{text}@c.example"),),
    "Rcpt.of": (lambda text: Rcpt.of(f"a@mx{text}.example"), lambda text: Rcpt.of(f"postmaster{text}")),
    "Refusal.__init__": (
        lambda text: Refusal(550, "no", enhanced=f"5.7.1{text}"),
        lambda text: CONFIG.encode(Verb.RCPT, Refusal(550, f"no{text}").reply, secure=True),
    ),
    "Refusal.of": (lambda text: CONFIG.encode(Verb.RCPT, Refusal.of(Reply(550, text)).reply, secure=True),),
    "Reply.__init__": (
        lambda text: Reply(250, enhanced=f"{text}2.0.0"),
        lambda text: Reply(250, "ok", text).encode(enhanced=False),
        lambda text: Reply(250, f"ok{text}").encode(enhanced=True, utf8=True),
    ),
    "ServerConfig.__init__": (
        lambda text: ServerConfig(f"mx{text}.example"),
        lambda text: ServerConfig("mx.example", mechanisms=(f"PLAIN{text}",)),
        lambda text: ServerConfig("mx.example", offers=frozenset({f"SIZE{text}"})),
    ),
    "ServerConfig.capabilities": (lambda text: announces(f"PLAIN{text}"),),
    "ServerConfig.encode": (
        lambda text: announces("PLAIN", text),
        lambda text: CONFIG.encode(Verb.CONNECT, Reply(220, text), secure=False),
        lambda text: CONFIG.encode(Verb.VRFY, Reply(252, text), secure=False, utf8=True),
    ),
    "Extension.__init__": (
        lambda text: Extension(f"X{text}"),
        lambda text: Extension("X", (f"1{text}",)),
        lambda text: Extension("X", mail=(Parameter(f"Y{text}", flag, 5),)),
        lambda text: Extension("X", rcpt=(Parameter(f"Y{text}", flag, 5),)),
        lambda text: Extension("ETRN", verb=OwnVerb(f"ETRN{text}")),
    ),
    "Parameter.__init__": (lambda text: Extension("X", mail=(Parameter(f"Y{text}", flag, 5),)),),
    "OwnVerb.__init__": (lambda text: Extension("ETRN", verb=OwnVerb(f"{text}ETRN")),),
    "future_release": (lambda text: future_release(100, f"2030-01-01T00:00:00Z{text}"),),
    "mt_priority": (lambda text: mt_priority(f"MIXER{text}"),),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_ends_up_in_a_command_or_a_reply_has_no_control_in_it(name: str) -> None:
    for make in MAKERS[name]:
        # A name or a password leaves in base64, where those of Unicode mean nothing to anybody.
        for text in INJECTED if name == "Credentials.__init__" else (*INJECTED, *UNICODE):
            with pytest.raises(LocalProtocolError):
                make(text)


# And what of the rest. All that takes text or octets is either tried above, or has its reason here.


UNSAID: Final[dict[str, tuple[str, ...]]] = {
    "it is made of what came from the peer": (
        "Capabilities.__init__ Capabilities.parse ClientConnection.receive_data ServerConnection.receive_data",
        "SecureConnection.receive_data TlsCapable.receive_data ProxyReader.receive_data ServerMechanism.step",
        "ClientMechanism.step EnhancedCode.parse ForwardPath.parse ReversePath.parse Mailbox.parse DateTime.parse",
        "DeliverBy.parse Envid.parse HoldFor.parse HoldUntil.parse OriginalRecipient.parse Priority.parse Rrvs.parse",
        "ServerLimits.parse Submitter.parse XClient.parse XForward.parse challenge_of read_name",
        "channel_bindings GrammarError.__init__ Forbidden.forbids HelloReader.receive_data ClientHello.__init__",
        "ClientHello.fault Shown.__init__ public_key_of",
    ),
    "it is told to the application": (
        "AuthenticationFailed.__init__ CommandRefused.__init__ ConnectionClosed.__init__ ReplyReceived.__init__",
        "RecipientResult.__init__ SessionRefused.__init__ TlsInfo.__init__ TraceLine.__init__ Peer.__init__",
        "CertificateGiven.__init__ KeysNeeded.__init__ PasswordGiven.__init__ TokenGiven.__init__ Success.__init__",
        "WorkNeeded.__init__ ChannelBinding.__init__ HandshakeRefused.__init__",
    ),
    "it is a part of a command, and tried with that": (
        "Mailbox.__init__ DateTime.__init__ Envid.__init__ OriginalRecipient.__init__ recipients_of",
    ),
    "it is compared, and goes no further": (
        "ForwardPath.within domain_key flag check_offers own_verbs trusted parse_networks server_mechanism",
        "ServerConnection.authenticated Forbidden.__init__ MtaSts.__init__ MtaSts.unmet_by_host Dane.unmet_by_host",
        "TlsPolicy.unmet_by_host Tlsa.__init__ Tlsa.matches Tlsa.parse",
    ),
    "it is hashed": (
        "ScramKeys.__init__ ScramKeys.derive ScramKeys.matches ScramKeys.parse ScramKeys.work password_work",
        "unknown_keys",
    ),
    "it leaves in base64": ("Challenge.__init__ Respond.__init__ ServerConnection.challenge",),
    "it is the content of a message": ("Body.__init__",),
    "OpenSSL has it": ("secure SecureConnection.__init__ client_context server_context sent_name",),
}
SENDERS: Final = {
    *("ClientConnection.send", "ClientConnection.check", "ask"),
    *("ServerConnection.accept", "ServerConnection.reply", "ServerConnection.refuse", "ServerConnection.close"),
    *(f"{type(command).__name__}.__init__" for command, _ in COMMANDS),
}
PUBLIC: Final = (smtpstate, delivery, extensions, policy, proxy, sasl, tls)
TEXT: Final = ("str", "bytes", "Text", "Reply", "Command", "Parameters")


def takes_text(function: object) -> bool:
    if not inspect.isfunction(function):
        return False
    annotations = [str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()]
    return any(word in annotation for annotation in annotations for word in TEXT)


def makers(module: ModuleType) -> Iterator[str]:
    """The public functions, constructors and methods of `module` that take text, octets, or what has some in it."""
    for name, value in vars(module).items():
        if name.startswith("_") or not getattr(value, "__module__", "").startswith("smtpstate"):
            continue
        if inspect.isfunction(value) and takes_text(value):
            yield name
        elif isinstance(value, type) and not issubclass(value, Enum):
            methods = {name: one for name, one in vars(value).items() if not name.startswith("_")}
            for method, one in {"__init__": value.__init__, **methods}.items():
                if takes_text(one.__func__ if isinstance(one, staticmethod | classmethod) else one):
                    yield f"{value.__name__}.{method}"


def test_all_that_takes_text_is_tried_or_has_a_reason_not_to_be() -> None:
    found = {name for module in PUBLIC for name in makers(module)}
    unsaid = [name for rows in UNSAID.values() for row in rows for name in row.split()]
    tried = {*MAKERS, *SENDERS}
    assert len(unsaid) == len(set(unsaid))
    assert tried.isdisjoint(unsaid)
    assert found - tried == set(unsaid)
    assert {*MAKERS} <= found


def test_octets_of_auth_are_encoded_whatever_they_are() -> None:
    for octets in (bytes(range(256)), b"\r\n", b"\0"):
        for command, before in ((Auth("PLAIN", octets), ()), (AuthResponse(octets), (Auth("LOGIN"),))):
            connection = client(*before)
            connection.send(command)
            assert connection.data_to_send().decode().removesuffix("\r\n").isprintable()
