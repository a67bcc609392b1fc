"""docs/examples/aiosmtpd_shim.py: one handler under aiosmtpd and under the shim, and what differs."""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from docs.examples import aiosmtpd_shim as shim
from tests.peers.lodger import aiosmtpd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smtpstate import Reply

SECONDS = 20.0  # reached only when something hangs
LETTER = b"Subject: hello\r\n\r\n.hello\r\n"


@dataclass
class Silent:
    """Has no hook but the one that keeps what came."""

    kept: list[tuple[object, ...]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.kept.append(
            (
                session.host_name,
                session.extended_smtp,
                envelope.mail_from,
                tuple(envelope.rcpt_tos),
                tuple(envelope.mail_options),
                envelope.smtp_utf8,
                envelope.content,
                envelope.original_content,
            )
        )
        return "250 2.0.0 Kept"


@dataclass
class Talkative(Silent):
    """Has every hook, and does in each what aiosmtpd's documentation asks of it."""

    calls: list[str] = field(default_factory=list)

    async def handle_HELO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
        self.calls.append(f"HELO {hostname}")
        session.host_name = hostname
        return f"250 {server.hostname}" if hostname != "spam.example" else "550 We do not like you"

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.calls.append(f"EHLO {hostname}")
        session.host_name = hostname
        assert responses[0] == f"250-{server.hostname}"
        assert responses[-1] == "250 HELP"
        return responses if hostname != "spam.example" else ["550 We do not like you"]

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.calls.append(f"MAIL {address} {options}")
        if address == "spammer@example.com":
            return "553 5.1.8 Not from you"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Hello there"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.calls.append(f"RCPT {address} {options}")
        match address.partition("@")[0]:
            case "full":
                return "452 4.2.2 Mailbox full"
            case "nobody":
                return "550-5.1.1 Nobody\r\n550 5.1.1 of that name"
            case "broken":
                raise RuntimeError("out of order")
            case "alias":
                address = "you@example.org"
            case _:
                pass
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Go on"

    async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
        self.calls.append(f"NOOP {arg}")
        return "250 OK"

    async def handle_RSET(self, server: Any, session: Any, envelope: Any) -> str:
        self.calls.append("RSET")
        return "250 OK"

    async def handle_VRFY(self, server: Any, session: Any, envelope: Any, address: str) -> str:
        self.calls.append(f"VRFY {address}")
        return "252 2.5.0 Perhaps" if address == "you@example.org" else "550 5.1.1 Nobody of that name"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        self.calls.append("QUIT")
        return "221 Bye"

    async def handle_exception(self, error: Exception) -> str:
        self.calls.append(f"exception {error}")
        return "451 4.3.0 Try again"


def talk(port: int, lines: Sequence[bytes]) -> list[Reply]:
    """The replies to the greeting and to each line, in lock-step; the body of a message is a line, too."""
    replies: list[Reply] = []
    with socket.create_connection(("127.0.0.1", port), SECONDS) as sock, sock.makefile("rb") as file:
        for line in (b"", *lines):
            sock.sendall(line)
            said = [file.readline()]
            while said[-1][3:4] == b"-":
                said.append(file.readline())
            replies.append(shim.reply_of(b"".join(said).decode().replace("\r\n", "\n")))
    return replies


HELLO = b"EHLO client.example.com\r\n"
MAIL = b"MAIL FROM:<me@example.com>\r\n"
RCPT = b"RCPT TO:<you@example.org>\r\n"
DATA = b"DATA\r\n"
CONTENT = b"Subject: hello\r\n\r\n..hello\r\n.\r\n"
QUIT = b"QUIT\r\n"

# What is said alike: every code, and every word that is the handler's.
ALIKE: list[tuple[str, tuple[bytes, ...]]] = [
    ("a message", (HELLO, MAIL, RCPT, DATA, CONTENT, QUIT)),
    ("two messages", (HELLO, MAIL, RCPT, DATA, CONTENT, MAIL, RCPT, RCPT, DATA, CONTENT, QUIT)),
    ("a report", (HELLO, b"MAIL FROM:<>\r\n", RCPT, DATA, CONTENT)),
    ("HELO", (b"HELO client.example.com\r\n", MAIL, RCPT, DATA, CONTENT, QUIT)),
    ("parameters", (HELLO, b"MAIL FROM:<me@example.com> SIZE=100 BODY=8BITMIME\r\n", RCPT, DATA, CONTENT)),
    ("a parameter that is not offered", (HELLO, b"MAIL FROM:<me@example.com> RET=HDRS\r\n", MAIL, RCPT)),
    ("a size that is too large", (HELLO, b"MAIL FROM:<me@example.com> SIZE=99999999\r\n", MAIL, RCPT)),
    ("SMTPUTF8", (HELLO, "MAIL FROM:<josé@example.com> SMTPUTF8\r\n".encode(), RCPT, DATA, CONTENT)),
    ("RSET in a transaction", (HELLO, MAIL, RCPT, b"RSET\r\n", MAIL, RCPT, DATA, CONTENT)),
    ("a hello in a transaction", (HELLO, MAIL, RCPT, HELLO, MAIL, RCPT, DATA, CONTENT)),
    ("NOOP", (HELLO, b"NOOP\r\n", b"NOOP hi there\r\n", MAIL, b"NOOP\r\n", RCPT, DATA, CONTENT)),
    ("some refused", (HELLO, MAIL, b"RCPT TO:<full@example.org>\r\n", RCPT, DATA, CONTENT)),
    ("a refusal of two lines", (HELLO, MAIL, b"RCPT TO:<nobody@example.org>\r\n", RCPT, DATA, CONTENT)),
    ("a recipient rewritten", (HELLO, MAIL, b"RCPT TO:<alias@example.org>\r\n", DATA, CONTENT)),
    ("a hook that fails", (HELLO, MAIL, b"RCPT TO:<broken@example.org>\r\n", RCPT, DATA, CONTENT)),
    ("MAIL refused", (HELLO, b"MAIL FROM:<spammer@example.com>\r\n", MAIL, RCPT, DATA, CONTENT)),
    ("HELO refused", (b"HELO spam.example\r\n",)),
    ("EHLO refused", (b"EHLO spam.example\r\n",)),
    ("out of order", (MAIL, HELLO, RCPT, DATA, MAIL, MAIL, RCPT, DATA, CONTENT)),
    ("VRFY", (HELLO, b"VRFY you@example.org\r\n", QUIT)),
    ("VRFY in a transaction", (HELLO, MAIL, b"VRFY you@example.org\r\n", RCPT, DATA, CONTENT)),
    ("unknown", (HELLO, b"FROBNICATE\r\n", QUIT)),
    ("not implemented", (HELLO, b"EXPN all\r\n", QUIT)),
    ("arguments missing", (HELLO, b"MAIL\r\n", b"MAIL FROM:\r\n", MAIL, b"RCPT\r\n", b"RCPT TO:\r\n", RCPT)),
    ("arguments too many", (HELLO, b"RSET now\r\n", b"DATA now\r\n", b"QUIT now\r\n")),
]
WORDS = {
    "Hello there",
    "Not from you",
    "Go on",
    "Mailbox full",
    "Nobody of that name",
    "Try again",
    "We do not like you",
    "Kept",
    "Perhaps",
}


def comparable(replies: Sequence[Reply]) -> list[object]:
    """The codes; whole replies where their words are the handler's."""
    return [reply if reply.text in WORDS else reply.code for reply in replies]


@pytest.mark.parametrize("kind", [Silent, Talkative])
@pytest.mark.parametrize("lines", [pytest.param(lines, id=reason) for reason, lines in ALIKE])
def test_the_shim_answers_as_aiosmtpd_does(lines: tuple[bytes, ...], kind: type[Silent]) -> None:
    before, after = kind(), kind()
    with aiosmtpd(before, enable_SMTPUTF8=True) as port:
        theirs = talk(port, lines)
    with shim.Controller(after, port=0, server_hostname="mx.example.org") as controller:
        ours = talk(controller.port, lines)
    assert comparable(theirs) == comparable(ours)
    assert before == after  # it was called in the same order, with the same arguments, and kept the same


def test_the_dialogues_have_all_the_words() -> None:
    source = "".join(str(reply) for _, lines in ALIKE for reply in under_shim(Talkative(), lines))
    assert all(word in source for word in WORDS)


def under_shim(handler: object, lines: Sequence[bytes], **options: Any) -> list[Reply]:
    with shim.Controller(handler, port=0, server_hostname="mx.example.org", **options) as controller:
        return talk(controller.port, lines)


# What is not said alike. docs/coming-from.md explains each.


class Forgetful:
    """Answers, and leaves out what else aiosmtpd's hooks have to do."""

    async def handle_HELO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
        return "250 mx.example.org"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        return "250 OK"


class Nested:
    """Sets what it was given before it decides."""

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        envelope.mail_from = address
        return "250 OK" if address == "me@example.com" else "550 No"


class Contrary:
    """Says no to what nobody can say no to."""

    async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
        return "550 No"

    async def handle_RSET(self, server: Any, session: Any, envelope: Any) -> str:
        return "550 No"


HELO = b"HELO client.example.com\r\n"
UNLIKE: list[tuple[str, object, tuple[bytes, ...], list[int], list[int]]] = [
    ("a hello that is not noted", Forgetful(), (HELO, MAIL), [220, 250, 503], [220, 250, 250]),
    (
        "a recipient not noted",
        Forgetful(),
        (HELLO, MAIL, RCPT, DATA),
        [220, 250, 250, 250, 503],
        [220, 250, 250, 250, 354],
    ),
    (
        "MAIL after one refused",
        Nested(),
        (HELLO, b"MAIL FROM:<a@b.c>\r\n", MAIL),
        [220, 250, 550, 503],
        [220, 250, 550, 250],
    ),
    (
        "NOOP and RSET",
        Contrary(),
        (HELLO, b"NOOP\r\n", b"RSET\r\n"),
        [220, 250, 550, 550],
        [220, 250, 250, 250],
    ),
    ("not an address", Silent(), (HELLO, b"MAIL FROM:<me@>\r\n"), [220, 250, 553], [220, 250, 501]),
    ("BDAT", Silent(), (HELLO, MAIL, RCPT, b"BDAT 0 LAST\r\n"), [220, 250, 250, 250, 500], [220, 250, 250, 250, 250]),
    ("HELP", Silent(), (HELLO, b"HELP\r\n"), [220, 250, 250], [220, 250, 214]),
]


@pytest.mark.parametrize(
    ("handler", "lines", "theirs", "ours"), [pytest.param(*rest, id=reason) for reason, *rest in UNLIKE]
)
def test_where_the_shim_differs(handler: object, lines: tuple[bytes, ...], theirs: list[int], ours: list[int]) -> None:
    with aiosmtpd(handler) as port:
        assert [reply.code for reply in talk(port, lines)] == theirs
    assert [reply.code for reply in under_shim(handler, lines)] == ours


# What a handler may do wrong, and what else a Controller does.


class Wrong:
    """Each hook fails in its way."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, lines: list[str]) -> object:
        return self.answers.get("ehlo", lines)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> object:
        return self.answers.get("mail", "250 OK")


@pytest.mark.parametrize(
    ("handler", "codes"),
    [
        pytest.param(
            Wrong(ehlo=["250-mx.example.org", "250-X-NEW", "250 HELP"]), [451, 503], id="a keyword of its own"
        ),
        pytest.param(Wrong(ehlo="250 HELP"), [451, 503], id="no list"),
        pytest.param(Wrong(mail=None), [250, 451], id="no status"),
        pytest.param(Wrong(mail="fine"), [250, 451], id="no code"),
        pytest.param(Wrong(mail=""), [250, 451], id="nothing"),
        pytest.param(Wrong(mail="250 a\r\n251 b"), [250, 451], id="two codes"),
        pytest.param(Wrong(mail="354 Go on"), [250, 451], id="a code that MAIL cannot have"),
        pytest.param(Wrong(mail="550 a\x07b"), [250, 451], id="a character that no reply can have"),
    ],
)
def test_a_hook_that_says_what_cannot_be_said_is_a_local_error(
    handler: object, codes: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert [reply.code for reply in under_shim(handler, (HELLO, MAIL))][1:] == codes
    assert [record.name for record in caplog.records] == [shim.logger.name]


class Excusing(Wrong):
    def handle_exception(self, error: Exception) -> object:  # as documented: no coroutine
        if "excuse" not in self.answers:
            raise RuntimeError("not even that")
        return self.answers["excuse"]


@pytest.mark.parametrize(
    ("handler", "code", "logged"),
    [
        (Excusing(mail="fine", excuse="454 Later"), 454, 0),
        (Excusing(mail="fine", excuse=None), 451, 1),
        (Excusing(mail="fine"), 451, 1),
    ],
)
def test_handle_exception_has_the_word(
    handler: object, code: int, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert under_shim(handler, (HELLO, MAIL))[-1].code == code
    assert len(caplog.records) == logged


class OldEhlo(Silent):
    """The hook's form of four arguments, and text."""

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
        return "250 HELP" if hostname == "client.example.com" else "550 No"


def test_the_old_form_of_the_hook_for_ehlo_decides_too() -> None:
    refused, taken = under_shim(OldEhlo(), (b"EHLO spam.example\r\n", HELLO))[1:]
    assert refused.code == 550
    assert "PIPELINING" in taken.lines


def test_content_can_be_text() -> None:
    handler = Silent()
    under_shim(handler, (HELLO, MAIL, RCPT, DATA, "Subject: grüße\r\n.\r\n".encode()), decode_data=True)
    assert handler.kept[0][-2:] == ("Subject: grüße\r\n", "Subject: grüße\r\n".encode())


def test_a_message_that_is_too_large_is_refused_and_not_kept() -> None:
    handler = Silent()
    assert (
        under_shim(handler, (HELLO, MAIL, RCPT, DATA, b"x" * 120 + b"\r\n.\r\n"), data_size_limit=100)[-1].code == 552
    )
    assert handler.kept == []


@dataclass
class Curious:
    seen: list[tuple[object, ...]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        assert session.loop.is_running()
        self.seen.append(
            (session.peer[0], session.ssl and session.ssl.version, session.auth_data, session.authenticated)
        )
        return "250 OK"


class Accounts:
    mechanisms = ("PLAIN",)

    async def keys(self, username: str) -> None:
        return None

    async def check(self, username: str, password: str) -> bool:
        return (username, password) == ("user", "pencil")

    async def token(self, username: str, token: str) -> None:
        return None

    async def certificate(self, name: str) -> None:
        return None


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "TLS"])
def test_hooks_see_tls_and_who_logged_in(*, implicit: bool) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    handler = Curious()
    options: dict[str, Any] = {"ssl_context" if implicit else "tls_context": context, "users": Accounts()}
    with shim.Controller(handler, port=0, **options) as controller:
        if implicit:
            client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", controller.port, timeout=SECONDS, context=trusting)
        else:
            client = smtplib.SMTP("127.0.0.1", controller.port, timeout=SECONDS)
        with client:
            if not implicit:
                client.starttls(context=trusting)
            client.sendmail("me@example.com", ["you@example.org"], LETTER)
            client.login("user", "pencil")
            client.sendmail("me@example.com", ["you@example.org"], LETTER)
    assert handler.seen == [("127.0.0.1", "TLSv1.3", None, None), ("127.0.0.1", "TLSv1.3", "user", True)]


def test_start_raises_what_keeps_it_from_listening_and_stop_frees_the_port() -> None:
    controller = shim.Controller(Silent(), port=0)
    controller.start()
    with pytest.raises(OSError, match="in use"):
        shim.Controller(Silent(), port=controller.port).start()
    controller.stop()
    with socket.create_server(("127.0.0.1", controller.port)):
        pass
    controller.stop()  # again: nothing
