"""Programs that send one message and end deliver to `smtpstate serve`; what is stored is what they were given."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import pytest

from tests.interop.headers import without
from tests.interop.peers import PROGRAMS, libraries, program, unpacked
from tests.peers.contents import CONTENTS, Content
from tests.peers.programs import SECONDS, needs
from tests.peers.serving import RECIPIENT, SENDER, Serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN, STARTTLS, TLS = "plain", "STARTTLS", "TLS"
LMTP, LMTPS = "LMTP", "LMTP, STARTTLS"
HELLO = "client.example.org"


class Given(NamedTuple):
    """What a client has to be told, and a directory to write it into."""

    serving: Serving
    mode: str
    octets: bytes
    directory: Path
    built: Path  # what was compiled, for all tests

    @property
    def port(self) -> str:
        if self.mode in (LMTP, LMTPS):
            return str(self.serving.lmtp_port)
        return str(self.serving.tls_port if self.mode == TLS else self.serving.port)

    @property
    def ca(self) -> str:
        return str(self.serving.certificates.ca)

    @property
    def lines(self) -> bytes:
        """The message as Unix has it."""
        return self.octets.replace(b"\r\n", b"\n")

    def file(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def run(self, command: list[str], stdin: bytes, environment: dict[str, str] | None = None) -> None:
        settings = {"PATH": "/usr/bin:/bin", "HOME": str(self.directory), "LC_ALL": "C", "TZ": "UTC"}
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            env=settings | (environment or {}),
            cwd=self.directory,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])


Client: TypeAlias = "Callable[[Given], None]"

JARS = "/usr/share/java/jakarta-mail.jar:/usr/share/java/jakarta-activation.jar"
GO = {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off"}  # Debian's libraries, and no downloads


def compiled(folder: Path, source: str) -> str:
    """The program, or the folder of its classes, which is compiled when it is asked for first."""
    target = folder / source
    if not target.exists():
        if source.endswith(".go"):
            command = [needs("go"), "build", "-o", str(target), str(PROGRAMS / source)]
        else:
            command = [needs("javac"), "-cp", JARS, "-d", str(target), str(PROGRAMS / source)]
        settings = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C"} | GO
        done = subprocess.run(command, capture_output=True, timeout=4 * SECONDS, env=settings, check=False)
        assert done.returncode == 0, done.stderr
    return str(target)


def s_nail(given: Given) -> None:
    settings = {
        "mta": f"smtps://localhost:{given.port}" if given.mode == TLS else f"smtp://localhost:{given.port}",
        "smtp-auth": "none",
        "hostname": HELLO,
        "from": SENDER,
        "DEAD": str(given.directory / "dead.letter"),
        "ttycharset": "utf-8",
        "tls-verify": "strict",
        "tls-ca-file": given.ca,
        "tls-ca-no-defaults": "",
    }
    if given.mode == STARTTLS:
        settings["smtp-use-starttls"] = ""
    options = [word for name, value in settings.items() for word in ("-S", f"{name}={value}" if value else name)]
    given.run([program("s-nail", "usr/bin/s-nail"), "-:/", "-S", "v15-compat", *options, "-t"], given.lines)


def nullmailer(given: Given) -> None:
    """Its protocol program alone: options on one descriptor, envelope and message on another."""
    options = ["host=127.0.0.1", f"port={given.port}", f"x509cafile={given.ca}"]
    options += {PLAIN: [], STARTTLS: ["starttls"], TLS: ["ssl"]}[given.mode]
    path = given.directory / "queued"
    path.write_bytes(f"{SENDER}\n{RECIPIENT}\n\n".encode() + given.lines)
    command = ["sh", "-c", f"exec {program('nullmailer', 'usr/lib/nullmailer/smtp')} 3<queued"]
    given.run(command, "\n".join([*options, "", ""]).encode(), {"HELOHOST": HELLO})


def esmtp(given: Given) -> None:
    mode = "required" if given.mode == STARTTLS else "disabled"
    settings = given.file("esmtprc", f"hostname=localhost:{given.port}\nhelo={HELLO}\nstarttls={mode}\n")
    (given.directory / ".config/libesmtp").mkdir(mode=0o700, parents=True)
    given.file(".config/libesmtp/ca.pem", given.serving.certificates.ca.read_text())
    # With TLS 1.3 it forgets what it was about to say if session tickets come first, and waits.
    openssl = given.file(
        "openssl.cnf", "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nMaxProtocol=TLSv1.2\n"
    )
    command = [program("esmtp", "usr/bin/esmtp"), "-C", settings, "-f", SENDER, RECIPIENT]
    given.run(command, given.lines, libraries("libesmtp6") | {"OPENSSL_CONF": openssl})


def ssmtp(given: Given) -> None:
    mode = {PLAIN: "", STARTTLS: "UseTLS=YES\nUseSTARTTLS=YES\n", TLS: "UseTLS=YES\n"}[given.mode]
    settings = f"mailhub=127.0.0.1:{given.port}\nhostname={HELLO}\nFromLineOverride=YES\n{mode}"
    command = [program("ssmtp", "usr/sbin/ssmtp"), "-C" + given.file("ssmtp.conf", settings), f"-f{SENDER}", RECIPIENT]
    given.run(command, given.lines)


def nodemailer(given: Given) -> None:
    modules = unpacked("npm/node_modules/nodemailer").parent
    command = [needs("node"), str(PROGRAMS / "nodemailer.js"), given.port, given.mode, given.ca, SENDER, RECIPIENT]
    given.run(command, given.octets, {"NODE_PATH": str(modules)})


def go(given: Given) -> None:
    given.run([compiled(given.built, "net_smtp.go"), given.port, given.mode, given.ca, SENDER, RECIPIENT], given.octets)


def go_smtp(given: Given) -> None:
    given.run([compiled(given.built, "go_smtp.go"), given.port, given.mode, given.ca, SENDER, RECIPIENT], given.octets)


def java(given: Given) -> None:
    by_jakarta_mail(given, chunk="")


def java_by_chunks(given: Given) -> None:
    by_jakarta_mail(given, chunk="100000")


def by_jakarta_mail(given: Given, chunk: str) -> None:
    classes = f"{compiled(given.built, 'JakartaMail.java')}:{JARS}"
    # Quick to start, which is most of what it does.
    command = [needs("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", classes]
    given.run([*command, "JakartaMail", given.port, given.mode, given.ca, SENDER, RECIPIENT, chunk], given.octets)


def php(given: Given) -> None:
    command = [needs("php"), str(PROGRAMS / "net_smtp.php"), given.port, given.mode, given.ca, SENDER, RECIPIENT]
    given.run(command, given.octets)


def perl(given: Given) -> None:
    command = [needs("perl"), str(PROGRAMS / "net_smtp.pl"), given.port, given.mode, given.ca, SENDER, RECIPIENT]
    given.run(command, given.octets)


def ruby(given: Given) -> None:
    command = [needs("ruby"), str(PROGRAMS / "net_smtp.rb"), given.port, given.mode, given.ca, SENDER, RECIPIENT]
    given.run(command, given.octets)


def smtpproto(given: Given) -> None:
    command = [sys.executable, str(PROGRAMS / "by_smtpproto.py"), given.port, given.ca, SENDER, RECIPIENT]
    given.run(command, given.octets)


class Row(NamedTuple):
    """A client in one mode; the header fields it adds, and what is not tried, since it could not send it as it is."""

    client: Client
    mode: str
    reason: str
    protocol: str = "ESMTP"
    adds: str = ""
    omits: tuple[str, ...] = ()


# It writes a header of its own, and encodes as MIME says what is not short lines of ASCII.
S_NAIL = ("date message-id user-agent", ("eight bits", "long lines"))
# It writes line by line, and waits a second before it ends; a large message takes it many.
SSMTP = ("received", ("large",))
# It doubles the dots of chunks too, which RFC 3030 section 2 has as they are.
JAKARTA_CHUNKS = ("dots", "long lines")

ROWS = (
    Row(s_nail, PLAIN, "mailx; with -t, a header is what its user wrote", "SMTP", *S_NAIL),
    Row(s_nail, STARTTLS, "EHLO where it needs an extension, HELO elsewhere", "SMTP", *S_NAIL),
    Row(s_nail, TLS, "OpenSSL, verifying", "SMTP", *S_NAIL),
    Row(nullmailer, PLAIN, "a relay for hosts without a mail server", "SMTP"),
    Row(nullmailer, STARTTLS, "GnuTLS, verifying", "SMTP"),
    Row(nullmailer, TLS, "GnuTLS, verifying", "SMTP"),
    Row(esmtp, PLAIN, "libesmtp, which pipelines"),
    Row(esmtp, STARTTLS, "libesmtp, verifying; TLS 1.2"),
    Row(ssmtp, PLAIN, "no queue", "SMTP", *SSMTP),
    Row(ssmtp, STARTTLS, "GnuTLS", "SMTP", *SSMTP),
    Row(ssmtp, TLS, "GnuTLS", "SMTP", *SSMTP),
    Row(nodemailer, PLAIN, "what programs in JavaScript send with"),
    Row(nodemailer, STARTTLS, "verifying"),
    Row(nodemailer, TLS, "verifying"),
    Row(nodemailer, LMTP, "a reply for each recipient", "LMTP"),
    Row(nodemailer, LMTPS, "verifying", "LMTPS"),
    Row(go, PLAIN, "net/smtp, a part of Go; asks for SMTPUTF8 wherever it is offered", "UTF8SMTP"),
    Row(go, STARTTLS, "crypto/tls, verifying", "UTF8SMTPS"),
    Row(go, TLS, "crypto/tls, verifying", "UTF8SMTPS"),
    Row(go_smtp, STARTTLS, "what programs in Go send with"),
    Row(go_smtp, TLS, "verifying"),
    Row(go_smtp, LMTP, "NewClientLMTP", "LMTP"),
    Row(go_smtp, LMTPS, "says LHLO again after the handshake", "LMTPS"),
    Row(java, STARTTLS, "Jakarta Mail, verifying"),
    Row(java_by_chunks, PLAIN, "BDAT, as soon as it has 100,000 octets", omits=JAKARTA_CHUNKS),
    Row(php, PLAIN, "PEAR's Net_SMTP, which pipelines"),
    Row(php, STARTTLS, "OpenSSL, verifying"),
    Row(php, TLS, "OpenSSL, verifying"),
    Row(perl, PLAIN, "Net::SMTP, a part of Perl"),
    Row(perl, STARTTLS, "IO::Socket::SSL, verifying"),
    Row(perl, TLS, "IO::Socket::SSL, verifying"),
    Row(ruby, PLAIN, "net/smtp"),
    Row(ruby, STARTTLS, "verifying"),
    Row(ruby, TLS, "verifying"),
    Row(smtpproto, STARTTLS, "sans-IO, like us; asks for SMTPUTF8 wherever it is offered", "UTF8SMTPS"),
)


CASES = [(row, content) for row in ROWS for content in CONTENTS if content.name not in row.omits]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("built")


@pytest.mark.parametrize(
    ("row", "content"), CASES, ids=[f"{row.client.__name__}, {row.mode}, {content.name}" for row, content in CASES]
)
def test_what_a_client_sends_is_what_is_stored(
    serving: Serving, tmp_path: Path, built: Path, row: Row, content: Content
) -> None:
    row.client(Given(serving, row.mode, content.octets, tmp_path, built))
    [stored] = serving.take()
    protocol = "ESMTPS" if row.protocol == "ESMTP" and row.mode in (STARTTLS, TLS) else row.protocol
    assert (stored.sender, stored.recipient, stored.protocol) == (SENDER, RECIPIENT, protocol)
    assert without(row.adds, stored.content) == without(row.adds, content.octets)


RECIPIENTS = (RECIPIENT, "other@example.org", "third@example.org")  # nodemailer says nobody's name twice


def lmtp_nodemailer(given: Given) -> None:
    modules = unpacked("npm/node_modules/nodemailer").parent
    command = [needs("node"), str(PROGRAMS / "nodemailer.js"), given.port, LMTP, given.ca, SENDER, *RECIPIENTS]
    given.run(command, given.octets, {"NODE_PATH": str(modules)})


def lmtp_go_smtp(given: Given) -> None:
    given.run([compiled(given.built, "go_smtp.go"), given.port, LMTP, given.ca, SENDER, *RECIPIENTS], given.octets)


def lmtp_smtp_source(given: Given) -> None:
    """Two messages in one session: a reply too many would be the next MAIL's."""
    command = [needs("smtp-source"), "-L", "-d", "-m", "2", "-r", "3", "-f", SENDER, "-t", RECIPIENT]
    given.run([*command, f"inet:127.0.0.1:{given.port}"], b"")


@pytest.mark.parametrize(
    ("client", "messages"),
    [(lmtp_nodemailer, 1), (lmtp_go_smtp, 1), (lmtp_smtp_source, 2)],
    ids=["nodemailer", "go-smtp", "smtp-source"],
)
def test_an_lmtp_client_takes_a_reply_for_each_recipient(
    serving: Serving, tmp_path: Path, built: Path, client: Client, messages: int
) -> None:
    client(Given(serving, LMTP, CONTENTS[0].octets, tmp_path, built))
    paths = list((serving.maildir / "new").iterdir())
    stored = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    assert [message.count(b"\r\nDelivered-To: ") for message in stored] == [3] * messages
    assert all(b" with LMTP id " in message for message in stored)


def test_nodemailer_asks_for_smtputf8_where_an_address_needs_it(serving: Serving, tmp_path: Path, built: Path) -> None:
    given = Given(serving, STARTTLS, CONTENTS[0].octets, tmp_path, built)
    modules = unpacked("npm/node_modules/nodemailer").parent
    sender, recipient = "s\u00e9nder@example.org", "\u4f8b@example.org"
    command = [needs("node"), str(PROGRAMS / "nodemailer.js"), given.port, given.mode, given.ca, sender, recipient]
    given.run(command, given.octets, {"NODE_PATH": str(modules), "LC_ALL": "C.UTF-8"})
    [stored] = serving.take()
    assert stored == (sender, recipient, "UTF8SMTPS", given.octets)
