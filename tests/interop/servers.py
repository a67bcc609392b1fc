"""Servers that others wrote, each on a port of its own, and what they stored."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.interop.headers import without
from tests.interop.peers import PROGRAMS, free_port, listens, running, staged, unpacked, until
from tests.peers.programs import needs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Generator
    from pathlib import Path

    from tests.peers.serving import Certificates

# What they add, in front of a message.
_TRACE = "received return-path delivered-to x-original-to x-cyrus-session-id x-sieve"

# The folder named stored, and the certificate, for users who may not look into ours.
_SHARED = """
mkdir -p /stored /srv/tls stored
chown nobody stored
mount --bind stored /stored
install -m 644 chain.pem /srv/tls/chain.pem
install -m 600 key.pem /srv/tls/key.pem
"""

_EXIM = """
user Debian-exim
install -d -o Debian-exim -g Debian-exim /var/spool/exim4
chown Debian-exim /srv/tls/key.pem
mkdir /etc/exim4
cat >/etc/exim4/exim4.conf <<.
primary_hostname = mx.example.org
daemon_smtp_ports = {port}
tls_on_connect_ports = {tls_port}
local_interfaces = 127.0.0.1
log_file_path = /var/spool/exim4/%slog
keep_environment =
tls_advertise_hosts = {advertise}
tls_certificate = /srv/tls/chain.pem
tls_privatekey = /srv/tls/key.pem
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
rcpt:
  deny local_parts = nobody
       message = 5.1.1 No such mailbox
  defer local_parts = full
       message = 4.2.2 Mailbox full
  accept
data:
  accept
begin routers
keep:
  driver = accept
  transport = keep
begin transports
keep:
  driver = appendfile
  directory = /stored
  maildir_format
  user = nobody
.
exim4 -bdf
"""

_OPENSMTPD = """
user opensmtpd
user opensmtpq
cat >/etc/smtpd.conf <<.
table everybody {{ "@" = "nobody" }}
listen on socket
listen on 127.0.0.1 port {port} hostname mx.example.org
action keep maildir "/stored" virtual <everybody>
match from any for any rcpt-to "nobody@example.org" reject
match from any for any action keep
.
install -d -m 711 /var/spool/smtpd
smtpd -d
"""

# Its local mailer is a script, for it knows no Maildir.
_SENDMAIL = """
user smmta
user smmsp
user recipient
install -d /etc/mail /var/spool/mqueue
install -d -m 1777 stored stored/new
cat >/usr/bin/keep <<'.'
#!/bin/sh
umask 22
cat >"/stored/.$$"
mv "/stored/.$$" "/stored/new/$$"
.
chmod 755 /usr/bin/keep
cat >sendmail.mc <<'.'
VERSIONID(`server')
OSTYPE(`linux')
define(`confDOMAIN_NAME', `mx.example.org')
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')
define(`confTO_IDENT', `0')
define(`confDELIVERY_MODE', `interactive')
define(`confSERVER_CERT', `{certificate}')
define(`confSERVER_KEY', `/srv/tls/key.pem')
define(`confCACERT', `/srv/tls/chain.pem')
define(`confCACERT_PATH', `/srv/tls')
define(`confDEF_USER_ID', `nobody:nogroup')
define(`LOCAL_MAILER_PATH', `/usr/bin/keep')
define(`LOCAL_MAILER_ARGS', `keep $u')
define(`LOCAL_MAILER_FLAGS', `nS8')
define(`LOCAL_MAILER_MAX', `100000000')
FEATURE(`use_cw_file')
FEATURE(`no_default_msa')
FEATURE(`nocanonify')
FEATURE(`accept_unresolvable_domains')
FEATURE(`access_db', `hash /etc/mail/access')
FEATURE(`blocklist_recipients')
DAEMON_OPTIONS(`Addr=127.0.0.1, Port={port}, Name=MTA')
MAILER(`local')
.
echo example.org >/etc/mail/local-host-names
: >/etc/mail/aliases
echo "127.0.0.1 mx.example.org $(uname -n)" >/etc/hosts  # it would sleep a minute for its name
echo hosts files >/etc/mail/service.switch
cf=/usr/share/sendmail/cf/
m4 -D_CF_DIR_=$cf $cf/m4/cf.m4 sendmail.mc >/etc/mail/sendmail.cf
echo 'To:nobody@example.org REJECT' | /usr/libexec/sendmail/makemap hash /etc/mail/access
/usr/libexec/sendmail/sendmail -bD
"""

_DOVECOT = """
mkdir -p /etc/dovecot
cat >/etc/dovecot/dovecot.conf <<.
protocols = lmtp
login_trusted_networks = 127.0.0.1
hostname = mx.example.org
postmaster_address = postmaster@example.org
log_path = /dev/stderr
ssl = no
mail_location = maildir:/stored
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = passwd-file
  args = /etc/dovecot/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
.
for name in recipient other; do
  echo "$name@example.org::65534:65534::/stored::" >>/etc/dovecot/users
done
dovecot -F
"""

# It makes a mailbox when the first message for it comes, and keeps messages as numbers with a dot.
_CYRUS = """
user cyrus
install -d -o cyrus -g cyrus /var/lib/cyrus /run/cyrus/socket /run/cyrus/proc /run/cyrus/lock
chown -R cyrus /stored /srv/tls/key.pem
cat >/etc/imapd.conf <<.
configdirectory: /var/lib/cyrus
partition-default: /stored
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
lmtpsocket: /run/cyrus/socket/lmtp
servername: mx.example.org
virtdomains: userid
defaultdomain: example.org
autocreate_quota: 0
autocreate_post: yes
autocreate_users: recipient other
duplicatesuppression: no
.
cat >/etc/cyrus.conf <<.
START {{
  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -r"
}}
SERVICES {{
  lmtp cmd="lmtpd -a" listen="127.0.0.1:{port}" prefork=1
}}
EVENTS {{
}}
.
cyrmaster
"""

# Its settings are variables of the shell. STS would ask the network.
COURIER_USERS = """
user courier
chown -R courier /var/lib/courier /etc/courier
install -d -o courier -g courier /run/courier/authdaemon /etc/courier/filters/active /etc/courier/aliasdir
install -d -o courier -g courier /var/lib/courier/sts
testmxlookup --sts-cache-disable
ln -s /usr/lib/courier/makedat /usr/bin/makedat
"""
_COURIER = (
    COURIER_USERS
    + """
for name in me defaultdomain dsnfrom locals esmtpacceptmailfor; do echo example.org >/etc/courier/$name; done
install -d -o nobody -g nogroup stored/new stored/cur stored/tmp
cat chain.pem key.pem >/etc/courier/esmtpd.pem
chown courier /etc/courier/esmtpd.pem
chmod 600 /etc/courier/esmtpd.pem
echo '127.0.0.1	allow' >/etc/courier/smtpaccess/default
echo 'recipient	uid=65534|gid=65534|home=/stored|mail=/stored' >/etc/courier/userdb
chmod 600 /etc/courier/userdb
makeuserdb
sed -i 's/="authpam"/="authuserdb"/' /etc/courier/authdaemonrc
authdaemond start
sed -i 's,^DEFAULTDELIVERY=.*,DEFAULTDELIVERY=/stored,' /etc/courier/courierd
makealiases
makesmtpaccess
makeacceptmailfor
courier start
set -a
sysconfdir=/etc/courier exec_prefix=/usr
. /etc/courier/esmtpd
PATH=$PATH:/usr/sbin NOADDRREWRITE=1 BOFHCHECKDNS=0 TARPIT=0 TLS_TRUSTCERTS=
couriertcpd -user=courier -group=courier -access=/etc/courier/smtpaccess.dat -maxperip=40 -maxperc=40 -nodnslookup \\
  -noidentlookup -address=127.0.0.1 {port} /usr/sbin/courieresmtpd
"""
)


class Server(NamedTuple):
    """A running one. `files` are the messages in the folder named stored."""

    process: subprocess.Popen[bytes]
    port: int
    directory: Path
    files: str = "new/*"

    def stored(self, count: int) -> list[bytes]:
        """Waits for so many messages, and gives them as they were received: without trace headers, with CRLF."""
        folder = self.directory / "stored"
        until(self.process, self.directory, lambda: len(list(folder.glob(self.files))) >= count)
        read = (path.read_bytes() for path in folder.glob(self.files))
        messages = [octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for octets in read]
        return [without(_TRACE, message) for message in messages]


@contextmanager
def serve(
    directory: Path, certificates: Certificates, packages: tuple[str, ...], script: str, port: int, mode: str = "off"
) -> Generator[Server, None, None]:
    """Runs the script on a stage with these packages, until the block ends; `port` is where it is to listen."""
    (directory / "chain.pem").write_bytes(certificates.chain.read_bytes())
    (directory / "key.pem").write_bytes(certificates.key.read_bytes())
    with staged(directory, packages, _SHARED + script) as process:
        until(process, directory, lambda: listens(port, greets=mode != "implicit"))
        yield Server(process, port, directory)


@contextmanager
def exim(directory: Path, certificates: Certificates, mode: str) -> Generator[Server, None, None]:
    port = free_port()
    script = _EXIM.format(port=port, tls_port=port if mode == "implicit" else 0, advertise="" if mode == "off" else "*")
    with serve(directory, certificates, ("exim4-daemon-light",), script, port, mode) as server:
        yield server


@contextmanager
def opensmtpd(directory: Path, certificates: Certificates, mode: str) -> Generator[Server, None, None]:
    """Without TLS: in Debian 12 it fails in every handshake, whoever connects ("EVP lib")."""
    port = free_port()
    script = _OPENSMTPD.format(port=port)
    with serve(directory, certificates, ("opensmtpd",), script, port, mode) as server:
        yield server


@contextmanager
def sendmail(directory: Path, certificates: Certificates, mode: str) -> Generator[Server, None, None]:
    port = free_port()
    script = _SENDMAIL.format(port=port, certificate="" if mode == "off" else "/srv/tls/chain.pem")
    with serve(directory, certificates, ("sendmail-bin", "sendmail-cf"), script, port, mode) as server:
        yield server


@contextmanager
def dovecot(directory: Path, certificates: Certificates, mode: str) -> Generator[Server, None, None]:
    """LMTP, without TLS."""
    needs("dovecot")
    port = free_port()
    with serve(directory, certificates, (), _DOVECOT.format(port=port), port, mode) as server:
        yield server


@contextmanager
def cyrus(directory: Path, certificates: Certificates, mode: str) -> Generator[Server, None, None]:
    """LMTP. Whom it trusts, as here, it offers no TLS."""
    port = free_port()
    with serve(directory, certificates, ("cyrus-common",), _CYRUS.format(port=port), port, mode) as server:
        yield server._replace(files="**/[0-9]*.")


@contextmanager
def courier(directory: Path, certificates: Certificates, mode: str) -> Generator[Server, None, None]:
    port = free_port()
    packages = ("courier-authdaemon", "courier-authlib", "courier-authlib-userdb", "courier-base", "courier-mta")
    with serve(directory, certificates, packages, _COURIER.format(port=port), port, mode) as server:
        yield server


@contextmanager
def smtp_server(directory: Path, certificates: Certificates, mode: str) -> Generator[Server, None, None]:
    """Nodemailer's. It also knows the modes "lmtp" and "trusting", in which its log has what it was told."""
    modules = unpacked("npm/node_modules/smtp-server").parent
    folder = directory / "stored" / "new"
    folder.mkdir(parents=True)
    arguments = [mode, str(certificates.chain), str(certificates.key), str(folder)]
    command = [needs("node"), str(PROGRAMS / "smtp_server.js"), *arguments]
    with running(command, directory, {"NODE_PATH": str(modules)}) as process:
        until(process, directory, lambda: (directory / "log").read_bytes().endswith(b"\n"))
        yield Server(process, int((directory / "log").read_text().split()[0]), directory)
