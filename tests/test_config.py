"""What a server says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smtpstate import LocalProtocolError, Reply, ServerConfig, TlsInfo, Transaction
from smtpstate._budget import Limits
from smtpstate._commands import Mail, Rcpt, Verb
from smtpstate._config import (
    AUTH_LINE_TOO_LONG,
    EARLY_PLAINTEXT,
    ENDINGS,
    HANDLER_TIMED_OUT,
    LINE_TOO_LONG,
    MESSAGE_TOO_LARGE,
    OFFERS,
    SHUTTING_DOWN,
    TIMED_OUT,
    TOO_MANY_DOMAINS,
    TOO_MANY_RECIPIENTS,
    TOO_MANY_TRANSACTIONS,
    UNKNOWN_MECHANISM,
)
from smtpstate._keys import ChannelBinding
from smtpstate._state import HELLOS
from smtpstate.extensions import Extension, OwnVerb, Parameter, deliver_by, flag

NAME = "mx.example.org"
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")
BINDING = ChannelBinding("tls-server-end-point", bytes(32))
MANY = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "PLAIN")
CONFIG = ServerConfig(NAME, Limits(message=1000), starttls=True)


@pytest.mark.parametrize(
    ("offers", "trusted", "lines", "reason"),
    [
        ({"XCLIENT"}, False, (), "nobody else is told"),
        (
            {"XCLIENT"},
            True,
            ("XCLIENT NAME ADDR PORT PROTO HELO REVERSE_NAME LOGIN DESTADDR DESTPORT",),
            "with the attributes that it knows",
        ),
        ({"XFORWARD"}, True, ("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",), "as Postfix announces them"),
        (set[str](), True, (), "it has to be offered at all"),
    ],
)
def test_only_a_trusted_peer_is_offered_to_speak_for_others(
    offers: set[str], trusted: bool, lines: tuple[str, ...], reason: str
) -> None:
    config = ServerConfig(NAME, offers=frozenset(offers))
    assert config.capabilities(secure=False, trusted=trusted).format() == lines, reason
    said = config.encode(Verb.EHLO, Reply(250), secure=False, trusted=trusted)
    assert said.decode().split("\r\n")[1:-1] == [f"250 {line}" for line in lines], reason


@pytest.mark.parametrize(
    ("hostname", "reason"),
    [
        ("mx.example.org", "a domain"),
        ("localhost", "one label is a domain"),
        ("[192.0.2.1]", "a literal"),
        ("[IPv6:2001:db8::1]", "a literal"),
        ("build_host", "hosts are called so, and are only named here"),
    ],
)
def test_a_name_can_be_said(hostname: str, reason: str) -> None:
    assert ServerConfig(hostname).encode(Verb.CONNECT, Reply(220), secure=False).startswith(b"220 "), reason


@pytest.mark.parametrize(
    ("hostname", "reason"),
    [
        ("", "nothing"),
        ("mx example", "a space"),
        ("mx\r\n250 x", "a line of its own"),
        ("b\xfccher.example", "RFC 5321 section 2.3.5: A-labels"),
        ("x." * 127 + "org", "more than 255 octets"),
    ],
)
def test_a_name_that_cannot_be_said_is_refused_at_once(hostname: str, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match="neither a domain"):
        ServerConfig(hostname)


@pytest.mark.parametrize("offers", [{"STARTTLS"}, {"SIZE", "BURL"}, {"size"}])
def test_an_offer_that_would_not_be_kept_is_refused_at_once(offers: set[str]) -> None:
    with pytest.raises(LocalProtocolError, match="not implemented"):
        ServerConfig(NAME, offers=frozenset(offers))


@pytest.mark.parametrize(
    ("config", "secure", "keywords", "reason"),
    [
        (CONFIG, False, "8BITMIME CHUNKING ENHANCEDSTATUSCODES PIPELINING SIZE STARTTLS", "all there is"),
        (CONFIG, True, "8BITMIME CHUNKING ENHANCEDSTATUSCODES PIPELINING SIZE", "RFC 3207 section 4.2: not in TLS"),
        (ServerConfig(NAME), False, "8BITMIME CHUNKING ENHANCEDSTATUSCODES PIPELINING SIZE", "no TLS here"),
        (ServerConfig(NAME, offers=frozenset()), False, "", "nothing at all"),
    ],
)
def test_what_ehlo_announces(config: ServerConfig, secure: bool, keywords: str, reason: str) -> None:
    capabilities = config.capabilities(secure=secure)
    assert " ".join(capabilities.keywords) == keywords, reason
    assert capabilities.size == (config.limits.message if "SIZE" in keywords else None)


def test_a_command_line_has_room_for_what_is_offered() -> None:
    long = Extension("LONG", mail=(Parameter("LONG", flag, 2000),))
    secret = Extension("SECRET", rcpt=(Parameter("SECRET", flag, 3000),), tls_only=True)
    config = ServerConfig(NAME, extensions=(long, secret))
    offered = 26 + 14  # SIZE and 8BITMIME
    assert config.command_line(secure=False) == 512 + offered + 2000
    assert config.command_line(secure=True) == 512 + 3000
    assert CONFIG.command_line(secure=True) == 2048


@pytest.mark.parametrize(
    ("verb", "reply", "octets", "reason"),
    [
        (Verb.CONNECT, Reply(220), b"220 mx.example.org ESMTP\r\n", "section 4.2: the greeting begins with our name"),
        (Verb.CONNECT, Reply(220, "hello"), b"220 mx.example.org ESMTP hello\r\n", "and may say more"),
        (Verb.CONNECT, Reply(554, "No", enhanced="5.7.1"), b"554 No\r\n", "RFC 2034 section 4: no enhanced code"),
        (Verb.HELO, Reply(250), b"250 mx.example.org\r\n", "HELO has one line"),
        (Verb.HELO, Reply(550, "No", enhanced="5.7.1"), b"550 No\r\n", "RFC 2034 section 4"),
        (
            Verb.EHLO,
            Reply(250, "hi"),
            b"250-mx.example.org hi\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n"
            b"250-SIZE 1000\r\n250 STARTTLS\r\n",
            "and EHLO what we offer",
        ),
        (Verb.EHLO, Reply(421, "Later", enhanced="4.3.2"), b"421 Later\r\n", "RFC 2034 section 4"),
        (Verb.NOOP, Reply(250, "OK"), b"250 2.0.0 OK\r\n", "enhanced everywhere else"),
        (Verb.DATA, Reply(354, "Go"), b"354 Go\r\n", "but on 3yz"),
    ],
)
def test_how_a_reply_is_spelled(verb: Verb, reply: Reply, octets: bytes, reason: str) -> None:
    assert CONFIG.encode(verb, reply, secure=False) == octets, reason


def test_without_the_offer_no_reply_is_enhanced() -> None:
    config = ServerConfig(NAME, offers=OFFERS - {"ENHANCEDSTATUSCODES"})
    assert config.encode(Verb.NOOP, TIMED_OUT, secure=False) == b"421 Timeout exceeded\r\n"


def test_a_reply_that_cannot_be_sent_raises() -> None:
    with pytest.raises(LocalProtocolError):
        CONFIG.encode(Verb.EHLO, Reply(250, "a\r\nb"), secure=False)


@pytest.mark.parametrize("secure", [False, True])
def test_what_the_core_says_by_itself_can_be_said(secure: bool) -> None:
    for reply in (
        SHUTTING_DOWN,
        TIMED_OUT,
        HANDLER_TIMED_OUT,
        LINE_TOO_LONG,
        EARLY_PLAINTEXT,
        TOO_MANY_RECIPIENTS,
        TOO_MANY_DOMAINS,
        TOO_MANY_TRANSACTIONS,
        MESSAGE_TOO_LARGE,
        AUTH_LINE_TOO_LONG,
        UNKNOWN_MECHANISM,
        *ENDINGS.values(),
    ):
        for verb in Verb:
            assert CONFIG.encode(verb, reply, secure=secure).startswith(b"%d " % reply.code)


@pytest.mark.parametrize("verb", Verb)
def test_vrfy_and_expn_are_asked_only_on_demand(verb: Verb) -> None:
    always = {Verb.CONNECT, Verb.END, *HELLOS, Verb.AUTH, Verb.RESPONSE, Verb.MAIL, Verb.RCPT, Verb.DATA, Verb.OWN}
    assert ServerConfig(NAME).asks(verb) is (verb in always)
    asking = ServerConfig(NAME, asks_vrfy=True, asks_expn=True)
    assert asking.asks(verb) is (verb in always | {Verb.VRFY, Verb.EXPN})


@pytest.mark.parametrize(
    ("limits", "announced", "reason"),
    [
        (Limits(), "LIMITS RCPTMAX=1000", "what is enforced unless something else is asked for"),
        (
            Limits(recipients=5, transactions=2, recipient_domains=1),
            "LIMITS MAILMAX=2 RCPTMAX=5 RCPTDOMAINMAX=1",
            "all",
        ),
        (Limits(recipients=2_000_000), "LIMITS RCPTMAX=999999", "RFC 9422 section 3 has six digits; less is safe"),
    ],
)
def test_limits_are_announced_as_they_are_enforced(limits: Limits, announced: str, reason: str) -> None:
    config = ServerConfig(NAME, limits, offers=frozenset({"LIMITS"}))
    assert config.capabilities(secure=False).format() == (announced,), reason
    quota = config.quota
    assert (quota.recipients, quota.transactions) == (limits.recipients, limits.transactions), reason
    assert quota.recipient_domains == limits.recipient_domains, reason


@pytest.mark.parametrize("limits", [Limits(recipients=0), Limits(transactions=0), Limits(recipient_domains=-1)])
def test_a_limit_that_cannot_be_announced_is_refused_at_once(limits: Limits) -> None:
    ServerConfig(NAME, limits)
    with pytest.raises(LocalProtocolError, match="LIMITS cannot say this"):
        ServerConfig(NAME, limits, offers=frozenset({"LIMITS"}))


def test_binarymime_is_offered_beside_chunking() -> None:
    config = ServerConfig(NAME, offers=frozenset({"BINARYMIME", "CHUNKING"}))
    assert config.capabilities(secure=False).binary_mime
    with pytest.raises(LocalProtocolError, match="BINARYMIME cannot be offered without CHUNKING"):
        ServerConfig(NAME, offers=frozenset({"BINARYMIME"}))


def test_a_transaction_grows_by_a_recipient() -> None:
    mail, one, two = Mail.of(""), Rcpt.of("a@example.org"), Rcpt.of("b@example.org")
    assert Transaction(mail).plus(one).plus(two) == Transaction(mail, (one, two))


@pytest.mark.parametrize(
    ("lmtp", "tls", "auth"), [(False, False, False), (True, False, False), (False, True, False), (False, False, True)]
)
def test_a_session_begins_as_it_is_configured(lmtp: bool, tls: bool, auth: bool) -> None:
    session = ServerConfig(NAME, lmtp=lmtp, requires_tls=tls, requires_auth=auth).session()
    assert (session.lmtp, session.needs_tls, session.needs_auth) == (lmtp, tls, auth)


@pytest.mark.parametrize(
    ("mechanisms", "in_clear", "secure", "words", "reason"),
    [
        ((), True, True, None, "none are known"),
        (("PLAIN", "X-Y_1"), False, True, ("PLAIN", "X-Y_1"), "RFC 4954 section 4: in TLS"),
        (("PLAIN",), False, False, None, "not in clear"),
        (("PLAIN",), True, False, ("PLAIN",), "unless that was asked for"),
    ],
)
def test_where_auth_is_announced(
    mechanisms: tuple[str, ...], in_clear: bool, secure: bool, words: tuple[str, ...] | None, reason: str
) -> None:
    config = ServerConfig(NAME, mechanisms=mechanisms, auth_in_clear=in_clear)
    mechanisms = config.mechanisms_in(TLS if secure else None)
    assert config.capabilities(secure=secure, mechanisms=mechanisms).keywords.get("AUTH") == words, reason
    assert ("AUTH" in config.offered(secure=secure, auth=bool(mechanisms))) is (words is not None), reason
    octets = config.encode(Verb.EHLO, Reply(250), secure=secure, mechanisms=mechanisms)
    assert (b"AUTH " in octets) is (words is not None), reason


@pytest.mark.parametrize(
    ("tls", "mechanisms", "reason"),
    [
        (None, ("SCRAM-SHA-256", "PLAIN"), "in clear there is neither a channel nor a certificate"),
        (TLS, ("SCRAM-SHA-256", "PLAIN"), "nothing to bind to, and nobody named"),
        (replace(TLS, bindings=(BINDING,)), ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"), "RFC 5802 section 6"),
        (replace(TLS, identities=("joe",)), ("SCRAM-SHA-256", "EXTERNAL", "PLAIN"), "RFC 4422 appendix A"),
        (replace(TLS, bindings=(BINDING,), identities=("joe",)), MANY, "both"),
    ],
)
def test_what_this_session_can_do_is_offered(tls: TlsInfo | None, mechanisms: tuple[str, ...], reason: str) -> None:
    assert ServerConfig(NAME, mechanisms=MANY, auth_in_clear=True).mechanisms_in(tls) == mechanisms, reason


@pytest.mark.parametrize("mechanism", ["", "plain", "PLAIN LOGIN", "X" * 21, "X\r\n", "X.Y"])
def test_a_mechanism_that_could_not_be_asked_for_is_refused_at_once(mechanism: str) -> None:
    """RFC 4422 section 3.1."""
    with pytest.raises(LocalProtocolError, match="names of mechanisms"):
        ServerConfig(NAME, mechanisms=("PLAIN", mechanism))


@pytest.mark.parametrize("keyword", ["PIPELINING", "ENHANCEDSTATUSCODES"])
def test_lmtp_cannot_do_without_what_rfc_2033_has_it_offer(keyword: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"LMTP has to offer {keyword}"):
        ServerConfig(NAME, lmtp=True, offers=OFFERS - {keyword})


def test_lmtp_says_so() -> None:
    config = ServerConfig(NAME, lmtp=True)
    assert config.encode(Verb.CONNECT, Reply(220), secure=False) == b"220 mx.example.org LMTP\r\n"
    assert config.encode(Verb.LHLO, Reply(250), secure=False) == ServerConfig(NAME).encode(
        Verb.EHLO, Reply(250), secure=False
    )


@pytest.mark.parametrize(
    ("config", "clear", "secure", "reason"),
    [
        (ServerConfig(NAME, offers=frozenset({"DSN"})), {"DSN"}, {"DSN"}, "carried for the application"),
        (
            ServerConfig(NAME, offers=frozenset({"REQUIRETLS"})),
            set(),
            {"REQUIRETLS"},
            "RFC 8689 section 2: in TLS only",
        ),
        (ServerConfig(NAME, offers=frozenset(), extensions=(deliver_by(60),)), {"DELIVERBY"}, {"DELIVERBY"}, "given"),
    ],
)
def test_what_is_carried_is_announced_where_it_may_be(
    config: ServerConfig, clear: set[str], secure: set[str], reason: str
) -> None:
    assert (set(config.offered(secure=False)), set(config.offered(secure=True))) == (clear, secure), reason


def test_an_extension_says_its_parameters() -> None:
    config = ServerConfig(NAME, offers=frozenset(), extensions=(deliver_by(60),))
    assert config.capabilities(secure=False).format() == ("DELIVERBY 60",)


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        ((Extension("SIZE"),), "the core's own"),
        ((Extension("X-A"), Extension("X-A")), "twice"),
        ((Extension("X-A", needs=frozenset({"X-B"})),), "what it needs is not offered"),
    ],
)
def test_an_extension_that_cannot_be_offered_is_the_callers_mistake(
    extensions: tuple[Extension, ...], reason: str
) -> None:
    with pytest.raises(LocalProtocolError):
        ServerConfig(NAME, extensions=extensions)


def test_a_verb_is_announced_with_its_keyword() -> None:
    always, inside = OwnVerb("XRUN"), OwnVerb("YRUN", needs_auth=True)
    given = (Extension("X", verb=always), Extension("Y", verb=inside, tls_only=True), Extension("Z"))
    config = ServerConfig(NAME, extensions=given)
    assert config.verbs == {"XRUN", "YRUN"}
    assert config.own_verbs(secure=False) == {always}
    assert config.own_verbs(secure=True) == {always, inside}
    assert (CONFIG.verbs, CONFIG.own_verbs(secure=True)) == (frozenset(), frozenset())
