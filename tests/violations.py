"""A row for every way to break the rules, from either side: data for tests and for the documentation.

A new `Violation` needs a row here, or `tests/test_violations.py` says so: in SERVER_ROWS for what a client does to our
server, in CLIENT_ROWS for what a server does to our client; in both where both seats can meet it. Rows stand in the
enum's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate._budget import Limits
from smtpstate._commands import Command, Ehlo, EndOfMessage, Mail, Noop, StartTls
from smtpstate._config import ServerConfig
from smtpstate._events import TlsInfo, Violation
from smtpstate.policy import BareNewline, WireRules

if TYPE_CHECKING:
    from collections.abc import Sequence

Item: TypeAlias = "Command | EndOfMessage"

HELLO: Final = b"EHLO c.example\r\n"
MAIL: Final = b"MAIL FROM:<a@c.example>\r\n"
RCPT: Final = b"RCPT TO:<b@mx.example>\r\n"
PLAIN: Final = ServerConfig("mx.example")
TLS: Final = TlsInfo("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256")


def limited(**limits: int) -> ServerConfig:
    """A server that lets nobody do much."""
    return ServerConfig("mx.example", Limits(**limits))


@final
@dataclass(frozen=True, kw_only=True)
class ServerRow:
    """What a client does to our server: `wire`, after the lines in `said`, each of which was answered.

    `answer` is all that is said to `wire`. `closes` says that the session ends with VIOLATION; else it goes on, and
    `CommandRefused` names the violation. With `burst` all of `wire` is there before anything is answered, in whatever
    pieces it came; without `greeted` it is there before our greeting has left. `also` is what the violation is known
    by beside the section that the enum gives: a CVE, or a paper.
    """

    violation: Violation
    wire: bytes
    answer: bytes
    why: str
    closes: bool = False
    said: Sequence[bytes] = (HELLO,)
    config: ServerConfig = PLAIN
    burst: bool = False
    greeted: bool = True
    also: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class ClientRow:
    """What a server does to our client: `wire`, in answer to `asked`, after the turns in `said`.

    Each turn is what we say and the whole reply; of a `TlsInfo` it is a handshake, and what comes after it. `told` has
    the codes of the replies in `wire` that still count. With `early` all of `wire` is here before what is asked leaves,
    which it then never does. Every row ends the session with VIOLATION: whoever cannot trust one reply can trust none
    that follows.
    """

    violation: Violation
    wire: bytes
    why: str
    asked: Sequence[Item] = (Noop(),)
    told: Sequence[int] = ()
    said: Sequence[tuple[Item | TlsInfo, bytes]] = (
        (Ehlo("me.example"), b"250-mx.example\r\n250-STARTTLS\r\n250 PIPELINING\r\n"),
    )
    early: bool = False
    also: str = ""


SERVER_ROWS: Final[tuple[ServerRow, ...]] = (
    # Commands that are none, or not now.
    ServerRow(
        violation=Violation.UNKNOWN_COMMAND,
        wire=b"HALO c.example\r\n",
        answer=b"500 5.5.2 Command not recognised\r\n",
        why="nobody defined this verb",
        said=(),
    ),
    ServerRow(
        violation=Violation.NOT_IMPLEMENTED,
        wire=b"TURN\r\n",
        answer=b"502 5.5.1 Command not implemented\r\n",
        why="the verb is defined, and this server does not have it",
    ),
    ServerRow(
        violation=Violation.OUT_OF_SEQUENCE,
        wire=RCPT,
        answer=b"503 5.5.1 Send MAIL first\r\n",
        why="a recipient of no message",
    ),
    ServerRow(
        violation=Violation.OUT_OF_SEQUENCE,
        wire=b"STARTTLS\r\n",
        answer=b"503 5.5.1 Bad sequence of commands\r\n",
        why="a transaction that began in clear must not end in TLS",
        said=(HELLO, MAIL),
        config=ServerConfig("mx.example", starttls=True),
    ),
    ServerRow(
        violation=Violation.SYNTAX,
        wire=b"NOOP a\0b\r\n",
        answer=b"500 5.5.2 Syntax error\r\n",
        why="a control octet, which the next program might stop at",
    ),
    ServerRow(
        violation=Violation.ARGUMENT,
        wire=b"DATA now\r\n",
        answer=b"501 5.5.4 Syntax error in the argument\r\n",
        why="DATA has no argument",
        said=(HELLO, MAIL, RCPT),
    ),
    ServerRow(
        violation=Violation.ADDRESS,
        wire=b"MAIL FROM:<a..b@c.example>\r\n",
        answer=b"501 5.1.7 Malformed sender address\r\n",
        why="no mailbox has this name",
    ),
    ServerRow(
        violation=Violation.PARAMETER_SYNTAX,
        wire=b"MAIL FROM:<a@c.example> SIZE=1 SIZE=2\r\n",
        answer=b"501 5.5.4 Syntax error in the parameters\r\n",
        why="which of the two is meant, nobody can know",
    ),
    ServerRow(
        violation=Violation.PARAMETER_VALUE,
        wire=b"MAIL FROM:<a@c.example> SIZE=-1\r\n",
        answer=b"501 5.5.4 Parameter value not understood\r\n",
        why="a size has digits only",
    ),
    ServerRow(
        violation=Violation.PARAMETER_UNKNOWN,
        wire=b"MAIL FROM:<a@c.example> SOLICIT=x\r\n",
        answer=b"555 5.5.4 Parameter not recognised or not offered\r\n",
        why="what it promises would not be kept",
    ),
    ServerRow(
        violation=Violation.NON_ASCII,
        wire="MAIL FROM:<ä@c.example>\r\n".encode(),
        answer=b"550 5.6.7 This address needs SMTPUTF8, which was not asked for\r\n",
        why="the next host may not understand the address",
    ),
    ServerRow(
        violation=Violation.LINE_TOO_LONG,
        wire=b"NOOP " + b"x" * 3000 + b"\r\n",
        answer=b"500 5.5.2 Line too long\r\n",
        why="the whole line is dropped while it comes, and its tail is never a command",
    ),
    # More of something than anybody needs.
    ServerRow(
        violation=Violation.TOO_MANY_RECIPIENTS,
        wire=RCPT,
        answer=b"452 4.5.3 Too many recipients\r\n",
        why="those accepted before stand",
        said=(HELLO, MAIL, RCPT),
        config=limited(recipients=1),
    ),
    ServerRow(
        violation=Violation.TOO_MANY_DOMAINS,
        wire=b"RCPT TO:<b@other.example>\r\n",
        answer=b"452 4.5.3 Too many domains in one session\r\n",
        why="the same, of domains",
        said=(HELLO, MAIL, RCPT),
        config=limited(recipient_domains=1),
    ),
    ServerRow(
        violation=Violation.TOO_MANY_TRANSACTIONS,
        wire=MAIL,
        answer=b"452 4.7.0 Too many transactions in one session\r\n",
        why="the next one needs another session",
        said=(HELLO, MAIL, b"RSET\r\n"),
        config=limited(transactions=1),
    ),
    ServerRow(
        violation=Violation.SIZE_TOO_LARGE,
        wire=b"MAIL FROM:<a@c.example> SIZE=11\r\n",
        answer=b"552 5.3.4 Message exceeds the size limit\r\n",
        why="announced, and so refused before it comes",
        config=limited(message=10),
    ),
    ServerRow(
        violation=Violation.MESSAGE_TOO_LARGE,
        wire=b"x" * 200,
        answer=b"552 5.3.4 Message exceeds the size limit\r\n",
        why="it goes on past half as much again as the limit: nobody is told anything useful any more",
        closes=True,
        said=(HELLO, MAIL, RCPT, b"DATA\r\n"),
        config=limited(message=100),
    ),
    # What no mail program says, or says too soon.
    ServerRow(
        violation=Violation.FORBIDDEN_COMMAND,
        wire=b"GET / HTTP/1.1\r\nHost: mx.example\r\n",
        answer=b"221 2.7.0 This is for mail programs only\r\n",
        why="a browser was sent here, and the commands in the body of its request are none of its own",
        closes=True,
        said=(),
        also="ALPACA (USENIX Security 2021)",
    ),
    ServerRow(
        violation=Violation.FORBIDDEN_COMMAND,
        wire=b"Content-Type: text/plain\r\n",
        answer=b"221 2.7.0 This is for mail programs only\r\n",
        why="a header field, where a command is due",
        closes=True,
        also="ALPACA (USENIX Security 2021)",
    ),
    ServerRow(
        violation=Violation.FORBIDDEN_COMMAND,
        wire=b"\x16\x03\x01\r\n",
        answer=b"221 2.7.0 This is for mail programs only\r\n",
        why="no verb begins with this octet: it is TLS, or some other protocol",
        closes=True,
        said=(),
        also="ALPACA (USENIX Security 2021)",
    ),
    ServerRow(
        violation=Violation.EARLY_TALK,
        wire=HELLO,
        answer=b"554 Not synchronised: wait for the reply\r\n",
        why="who speaks before the greeting does not listen to it",
        closes=True,
        said=(),
        greeted=False,
    ),
    ServerRow(
        violation=Violation.EARLY_COMMAND,
        wire=HELLO + MAIL,
        answer=b"554 5.5.0 Not synchronised: wait for the reply\r\n",
        why="nobody can know what a hello offers before it is answered",
        closes=True,
        said=(),
        burst=True,
    ),
    ServerRow(
        violation=Violation.EARLY_GROUP,
        wire=b"DATA\r\nhello\r\n.\r\n",
        answer=b"554 5.5.0 Not synchronised: wait for the reply\r\n",
        why="the answer to DATA decides whether what follows is a message or commands",
        closes=True,
        said=(HELLO, MAIL, RCPT),
        burst=True,
    ),
    # STARTTLS.
    ServerRow(
        violation=Violation.EARLY_PLAINTEXT,
        wire=b"STARTTLS\r\nRSET\r\n",
        answer=b"554 5.5.0 Nothing may follow STARTTLS before the handshake\r\n",
        why="somebody in between put it there, to be taken for something that came in TLS",
        closes=True,
        config=ServerConfig("mx.example", starttls=True),
        burst=True,
        also="CVE-2011-0411; NO STARTTLS (USENIX Security 2021)",
    ),
    ServerRow(
        violation=Violation.EARLY_PLAINTEXT,
        wire=b"R",
        answer=b"",
        why="the same a moment later: nothing is said in clear where TLS is due",
        closes=True,
        said=(HELLO, b"STARTTLS\r\n"),
        config=ServerConfig("mx.example", starttls=True),
        also="CVE-2011-0411; NO STARTTLS (USENIX Security 2021)",
    ),
    # Newlines that are none.
    ServerRow(
        violation=Violation.BARE_NEWLINE,
        wire=b"NOOP\rQUIT\r\n",
        answer=b"500 5.5.2 Syntax error\r\n",
        why="a CR that no LF follows: two lines to some, and one to others",
        also="SMTP smuggling (2023)",
    ),
    ServerRow(
        violation=Violation.BARE_NEWLINE,
        wire=b"NOOP\nRSET\r\n",
        answer=b"550 5.5.2 Bare CR or LF received, lines end with CRLF\r\n",
        why="an LF without a CR, where such are refused: two lines to us, and one to others",
        closes=True,
        config=ServerConfig("mx.example", wire=WireRules(BareNewline.REJECT)),
        also="SMTP smuggling (2023)",
    ),
    # AUTH and chunks.
    ServerRow(
        violation=Violation.BASE64,
        wire=b"=\r\n",
        answer=b"501 5.5.2 That is not base64\r\n",
        why="it does not answer the challenge, and the exchange is over",
        said=(HELLO, b"AUTH PLAIN\r\n"),
        config=ServerConfig("mx.example", mechanisms=("PLAIN",), auth_in_clear=True),
    ),
    ServerRow(
        violation=Violation.UNKNOWN_MECHANISM,
        wire=b"AUTH LOGIN\r\n",
        answer=b"504 5.5.4 Mechanism not offered\r\n",
        why="the EHLO reply did not have it",
        config=ServerConfig("mx.example", mechanisms=("PLAIN",), auth_in_clear=True),
    ),
    ServerRow(
        violation=Violation.CHUNK_SIZE,
        wire=b"BDAT 0x10 LAST\r\nRSET\r\n",
        answer=b"501 5.5.4 Chunk size not understood\r\n",
        why="where its octets end nobody knows, so what follows might be text or commands",
        closes=True,
        said=(HELLO, MAIL, RCPT),
    ),
    # What there was too much of for one session.
    ServerRow(
        violation=Violation.TOO_MANY_AUTH_FAILURES,
        wire=b"AUTH PLAIN AGEAYg==\r\n" * 2,
        answer=b"535 5.7.8 Authentication failed\r\n" * 2 + b"421 4.7.0 Too many failed attempts\r\n",
        why="a guess costs a connection",
        closes=True,
        config=ServerConfig("mx.example", Limits(auth_failures=2), mechanisms=("PLAIN",), auth_in_clear=True),
    ),
    ServerRow(
        violation=Violation.TOO_MANY_ERRORS,
        wire=b"HALO\r\n" * 2,
        answer=b"500 5.5.2 Command not recognised\r\n421 4.7.0 Too many errors\r\n",
        why="it is no mail program, or a broken one",
        closes=True,
        config=limited(errors=1),
    ),
    ServerRow(
        violation=Violation.TOO_MANY_COMMANDS,
        wire=b"RSET\r\n" * 2,
        answer=b"250 2.0.0 Reset\r\n421 4.7.0 Too many commands without a message\r\n",
        why="commands, and never a message",
        closes=True,
        config=limited(commands=2),
    ),
    ServerRow(
        violation=Violation.TOO_MUCH_JUNK,
        wire=b"NOOP\r\n" * 2,
        answer=b"250 2.0.0 OK\r\n421 4.7.0 Too many commands without a message\r\n",
        why="it only keeps the connection busy",
        closes=True,
        config=limited(junk=2, errors=0),
    ),
)

CLIENT_ROWS: Final[tuple[ClientRow, ...]] = (
    ClientRow(
        violation=Violation.EARLY_PLAINTEXT,
        asked=(StartTls(),),
        wire=b"220 go\r\n250-mx.example\r\n250 AUTH PLAIN\r\n",
        told=(220,),
        why="somebody in between put it there, to answer what we will ask in TLS",
        also="response injection, NO STARTTLS (USENIX Security 2021)",
    ),
    ClientRow(
        violation=Violation.UNSOLICITED_REPLY,
        wire=b"250 OK\r\n250 OK\r\n",
        told=(250,),
        why="it would be taken for the answer to what we say next, and each later one with it",
    ),
    ClientRow(
        violation=Violation.UNSOLICITED_REPLY,
        asked=(Mail.of("a@me.example"),),
        wire=b"250 OK\r\n",
        why="in TLS, before MAIL has left: it answers whoever began this session and had it renegotiated into ours",
        said=(
            (Ehlo("me.example"), b"250-mx.example\r\n250 STARTTLS\r\n"),
            (StartTls(), b"220 go\r\n"),
            (TLS, b""),
            (Ehlo("me.example"), b"250-mx.example\r\n250 PIPELINING\r\n"),
        ),
        early=True,
        also="CVE-2009-3555",
    ),
    ClientRow(
        violation=Violation.UNEXPECTED_REPLY,
        asked=(Mail.of("a@me.example"),),
        wire=b"354 go ahead\r\n",
        why="nothing was asked that could be gone on with",
    ),
    ClientRow(
        violation=Violation.REPLY_SYNTAX,
        wire=b"HTTP/1.1 400 Bad Request\r\n",
        why="this is no reply, and whoever speaks is no SMTP server",
    ),
    ClientRow(
        violation=Violation.REPLY_MIXED_CODES,
        wire=b"250-OK\r\n550 no\r\n",
        why="a yes and a no in one",
    ),
    ClientRow(
        violation=Violation.REPLY_TOO_LONG,
        wire=b"250 " + b"x" * 5000 + b"\r\n",
        why="who listens to it for ever runs out of memory",
    ),
)

ROWS: Final[tuple[ServerRow | ClientRow, ...]] = (*SERVER_ROWS, *CLIENT_ROWS)
