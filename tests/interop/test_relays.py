"""Mail servers relay to `smtpstate serve` what they were given on the spot, octet by octet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.interop.headers import without
from tests.interop.peers import staged, until
from tests.interop.servers import COURIER_USERS
from tests.peers.contents import CONTENTS
from tests.peers.programs import needs
from tests.peers.serving import RECIPIENT, SENDER, Serving

if TYPE_CHECKING:
    from pathlib import Path

EXIM = """
user Debian-exim
install -d -o Debian-exim -g Debian-exim /var/spool/exim4
mkdir /etc/exim4
cat >/etc/exim4/exim4.conf <<.
primary_hostname = client.example.org
log_file_path = /var/spool/exim4/%slog
keep_environment =
begin routers
relay:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = relay
begin transports
relay:
  driver = smtp
  port = {port}
  message_linelength_limit = 2147483647
  {options}
.
submit() {{ exim4 -odf -oi -f {sender} {recipient}; }}
"""

POSTFIX = """
cat >/etc/postfix/main.cf <<.
compatibility_level = 3.6
myhostname = client.example.org
mydestination =
relayhost = [127.0.0.1]:{port}
inet_interfaces = loopback-only
inet_protocols = ipv4
smtp_line_length_limit = 0
alias_maps =
alias_database =
maillog_file = /dev/stdout
{options}
.
sed -i '/^smtp *inet/d' /etc/postfix/master.cf
rm -f /var/lib/postfix/master.lock
postfix start
submit() {{ sendmail -i -f {sender} {recipient}; }}
"""

OPENSMTPD = """
user opensmtpd
user opensmtpq
cat >/etc/smtpd.conf <<.
listen on socket
action out relay host {options}://127.0.0.1:{port} helo client.example.org
match from any for any action out
.
cat ca.pem >>/etc/ssl/certs/ca-certificates.crt
install -d -m 711 /var/spool/smtpd
chgrp opensmtpq /usr/sbin/smtpctl
chmod 2755 /usr/sbin/smtpctl
ln -sf smtpctl /usr/sbin/sendmail  # which it is goes by the name
smtpd -d &
until smtpctl show status >/dev/null 2>&1; do :; done
submit() {{ sendmail -i -f {sender} {recipient}; }}
"""

SENDMAIL = """
user smmta
user smmsp
install -d /etc/mail /var/spool/mqueue
cat >sendmail.mc <<'.'
VERSIONID(`client')
OSTYPE(`linux')
define(`confDOMAIN_NAME', `client.example.org')
define(`SMART_HOST', `esmtp:[127.0.0.1]')
define(`ESMTP_MAILER_ARGS', `TCP $h {port}')
define(`confTO_IDENT', `0')
define(`confEIGHT_BIT_HANDLING', `pass8')
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')
FEATURE(`nocanonify')
FEATURE(`accept_unresolvable_domains')
FEATURE(`no_default_msa')
MAILER(`smtp')
.
echo client.example.org >/etc/mail/local-host-names
: >/etc/mail/aliases
echo "127.0.0.1 client.example.org $(uname -n)" >/etc/hosts  # it would sleep a minute for its name
echo hosts files >/etc/mail/service.switch
cf=/usr/share/sendmail/cf/
m4 -D_CF_DIR_=$cf $cf/m4/cf.m4 sendmail.mc >/etc/mail/sendmail.cf
submit() {{ /usr/libexec/sendmail/sendmail -Am -odi -i -f {sender} {recipient}; }}
"""

DMA = """
cat >/etc/dma/dma.conf <<.
SMARTHOST 127.0.0.1
PORT {port}
MAILNAME client.example.org
{options}
.
: >/etc/dma/auth.conf
submit() {{ dma -i -D -f {sender} {recipient}; }}
"""

COURIER = (
    COURIER_USERS
    + """
for name in me defaultdomain dsnfrom locals; do echo client.example.org >/etc/courier/$name; done
echo ':[127.0.0.1],{port}{options}' >/etc/courier/esmtproutes
cat >>/etc/courier/courierd <<.
TLS_TRUSTCERTS=$PWD/ca.pem
ESMTP_USE_STARTTLS={starttls}
.
makealiases
courier start
submit() {{ sendmail -f {sender} {recipient}; }}
"""
)


class Row(NamedTuple):
    """A mail server; `options` go into its settings, and header fields it `rewrites` are not compared."""

    name: str
    packages: tuple[str, ...]
    setup: str
    options: str
    protocol: str
    reason: str
    alters: tuple[str, ...] = ()
    rewrites: str = ""


# dma refuses lines beyond 1000 octets, the sendmail of OpenSMTPD encodes them, and sendmail's own breaks them.
LONG = ("long lines",)
BARE = (LONG, "from to")  # an address without its brackets
COURIER_PACKAGES = ("courier-authlib", "courier-base", "courier-mta")
POSTFIX_LMTP = "default_transport = lmtp:inet:127.0.0.1:{lmtp_port}\nlmtp_line_length_limit = 0"

ROWS = (
    Row("Exim", ("exim4-daemon-light",), EXIM, "hosts_avoid_tls = *", "ESMTP", "pipelines, and chunks where it may"),
    Row("Exim", ("exim4-daemon-light",), EXIM, "hosts_require_tls = *", "ESMTPS", "GnuTLS"),
    Row("Postfix", (), POSTFIX, "smtp_tls_security_level = none", "ESMTP", "pipelines"),
    Row("Postfix", (), POSTFIX, "smtp_tls_security_level = encrypt", "ESMTPS", "OpenSSL"),
    Row("OpenSMTPD", ("opensmtpd",), OPENSMTPD, "smtp+notls", "ESMTP", "hangs on for another message", LONG),
    Row("OpenSMTPD", ("opensmtpd",), OPENSMTPD, "smtp+tls", "ESMTPS", "OpenSSL, verifying", LONG),
    Row("OpenSMTPD", ("opensmtpd",), OPENSMTPD, "smtps", "ESMTPS", "the other port", LONG),
    Row("sendmail", ("sendmail-bin", "sendmail-cf"), SENDMAIL, "", "ESMTPS", "TLS, where it is offered", LONG),
    Row("Courier", COURIER_PACKAGES, COURIER, "", "UTF8SMTP", "asks for SMTPUTF8 wherever it is offered", *BARE),
    Row("Courier", COURIER_PACKAGES, COURIER, "/SECURITY=REQUIRED", "UTF8SMTPS", "GnuTLS", *BARE),
    Row("Courier", COURIER_PACKAGES, COURIER, "/SECURITY=SMTPS", "UTF8SMTPS", "the other port", *BARE),
    Row("Exim", ("exim4-daemon-light",), EXIM, "protocol = lmtp", "LMTPS", "TLS, where it is offered"),
    Row("Postfix", (), POSTFIX, POSTFIX_LMTP, "LMTP", "lmtp(8)"),
    Row("OpenSMTPD", ("opensmtpd",), OPENSMTPD, "lmtp", "LMTP", "its relay", LONG),
    Row("dma", ("dma",), DMA, "", "ESMTP", "DragonFly's", LONG),
    Row("dma", ("dma",), DMA, "SECURETRANSFER\nSTARTTLS", "ESMTPS", "OpenSSL", LONG),
    Row("dma", ("dma",), DMA, "SECURETRANSFER", "ESMTPS", "the other port", LONG),
)
IMPLICIT = ("smtps", "SECURETRANSFER", "/SECURITY=SMTPS")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}, {row.options or row.protocol}")
def test_what_a_mail_server_was_given_is_what_is_stored(serving: Serving, tmp_path: Path, row: Row) -> None:
    if row.name == "Postfix":
        needs("postfix")
    port = serving.tls_port if row.options in IMPLICIT else serving.port
    if row.protocol in ("LMTP", "LMTPS"):
        port = serving.lmtp_port
    options = row.options.format(lmtp_port=serving.lmtp_port)
    starttls = int("SECURITY" in options)
    script = row.setup.format(port=port, sender=SENDER, recipient=RECIPIENT, options=options, starttls=starttls)
    contents = [content for content in CONTENTS if content.name not in row.alters]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.eml").write_bytes(content.octets.replace(b"\r\n", b"\n"))
    (tmp_path / "ca.pem").write_bytes(serving.certificates.ca.read_bytes())
    # It stays until it is killed, since what it started may not be done yet.
    script += "for message in *.eml; do submit <$message; done; cat\n"
    with staged(tmp_path, row.packages, script) as process:
        until(process, tmp_path, lambda: len(list((serving.maildir / "new").iterdir())) == len(contents))
        stored = serving.take()
    assert {message[:3] for message in stored} == {(SENDER, RECIPIENT, row.protocol)}
    kept = {without(f"received {row.rewrites}", message.content) for message in stored}
    assert kept == {without(row.rewrites, content.octets) for content in contents}
