"""`smtpstate serve -o NAME=VALUE`: the table of limits, its values, what is said of wrong ones."""

from __future__ import annotations

import re
import socket
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import Limits
from smtpstate.policy import BareNewline, EarlyInput, Forbidden, WireRules
from smtpstate.proxy import parse_networks
from smtpstate_anyio import Admission
from smtpstate_server import _cli
from smtpstate_server._descriptors import make_room
from smtpstate_server._exits import Exit
from smtpstate_server._settings import BY_NAME, CLIENTS, SETTINGS, Settings
from tests.server.running import ROOT, SECONDS, Home, Serve

if TYPE_CHECKING:
    from smtpstate_server._serve import ServeOptions

DEFAULTS = Settings(Limits(), Admission())
EVERY_FIELD = {field.name for field in (*fields(Limits), *fields(Admission), *fields(WireRules))}


def changed(*texts: str) -> dict[str, Any]:
    """The fields that these set, as `-o`."""
    settings = DEFAULTS.plus(texts)
    pairs: list[tuple[Any, Any]] = [
        (DEFAULTS.limits, settings.limits),
        (DEFAULTS.admission, settings.admission),
        (DEFAULTS.wire, settings.wire),
    ]
    return {
        field.name: getattr(new, field.name)
        for old, new in pairs
        for field in fields(old)
        if getattr(old, field.name) != getattr(new, field.name)
    }


def test_every_limit_of_a_server_can_be_set_by_its_own_name() -> None:
    assert EVERY_FIELD - BY_NAME.keys() == CLIENTS
    assert not CLIENTS & BY_NAME.keys()
    assert len(BY_NAME) == len({one.name for one in SETTINGS} | {name for one in SETTINGS for name in one.fields})


POSTFIX = "CONNECT GET POST regexp:{{/^[^A-Z]/ Bogus}}"

TAKEN: list[tuple[str, dict[str, Any], str]] = [
    ("default_process_limit=20", {"connections": 20}, "all connections"),
    ("smtpd_client_connection_count_limit=3", {"per_source": 3}, "a source"),
    ("smtpd_client_connection_count_limit=0", {"per_source": None}, "Postfix: 0 is no limit"),
    (
        "smtpd_client_event_limit_exceptions=127.0.0.0/8, [::1]/128 192.0.2.0/24",
        {"exempt": parse_networks(["127.0.0.0/8", "::1/128", "192.0.2.0/24"])},
        "as $mynetworks is written",
    ),
    ("smtpd_client_event_limit_exceptions=192.0.2.1", {"exempt": parse_networks(["192.0.2.1"])}, "an address"),
    ("smtpd_client_event_limit_exceptions=", {"exempt": ()}, "nobody"),
    ("smtpd_client_ipv4_prefix_length=24", {"ipv4_prefix": 24}, "IPv4"),
    ("smtpd_client_ipv6_prefix_length=84", {"ipv6_prefix": 84}, "Postfix's default"),
    ("stress=yes", {"stress": True}, "always"),
    ("stress=no", {"stress": False}, "never"),
    ("stress=auto", {}, "the default"),
    ("smtpd_timeout=10s", {"command_seconds": 10.0, "body_seconds": 10.0}, "commands and bodies"),
    ("smtpd_timeout=2", {"command_seconds": 2.0, "body_seconds": 2.0}, "seconds need no unit"),
    ("smtpd_timeout=0.5", {"command_seconds": 0.5, "body_seconds": 0.5}, "less than Postfix takes"),
    ("body_seconds=2m", {"body_seconds": 120.0}, "one of the two, by its own name"),
    ("smtpd_starttls_timeout=1h", {"handshake_seconds": 3600.0}, "the handshake"),
    ("session_seconds=1d", {"session_seconds": 86_400.0}, "ours alone"),
    ("session_seconds=1w", {"session_seconds": 604_800.0}, "a week"),
    ("smtpd_per_request_deadline=yes", {}, "it is"),
    ("smtpd_min_data_rate=10", {"body_rate": 10}, "octets a second"),
    ("smtpd_soft_error_limit=3", {"soft_errors": 3}, "delays"),
    ("smtpd_error_sleep_time=0", {"error_delay_seconds": 0.0}, "no delay"),
    ("smtpd_hard_error_limit=1", {"errors": 1}, "errors"),
    ("smtpd_junk_command_limit=1", {"junk": 1}, "junk"),
    ("smtpd_recipient_limit=100", {"recipients": 100}, "recipients"),
    ("smtpd_recipient_overshoot_limit=5", {"recipient_overshoot": 5}, "beyond them"),
    ("smtpd_forbid_bare_newline=auto", {}, "the default"),
    ("smtpd_forbid_bare_newline=reject", {"bare_newline": BareNewline.REJECT}, "refused"),
    ("smtpd_forbid_bare_newline=normalize", {"bare_newline": BareNewline.NORMALIZE}, "made CRLF"),
    ("smtpd_forbid_bare_newline=Yes", {"bare_newline": BareNewline.NORMALIZE}, "Postfix: an alias, in any case"),
    ("smtpd_forbid_bare_newline=note", {"bare_newline": BareNewline.NOTE}, "as it is"),
    ("smtpd_forbid_bare_newline=no", {"bare_newline": BareNewline.NOTE}, "another end of a message there is not"),
    (
        "smtpd_forbid_bare_newline_exclusions=192.0.2.0/24",
        {"bare_newline_exclusions": parse_networks(["192.0.2.0/24"])},
        "noted from there",
    ),
    ("smtpd_forbid_bare_newline_reject_code=521", {"bare_newline_code": 521}, "and close"),
    ("smtpd_forbidden_commands=", {"forbidden": Forbidden()}, "headers and requests of HTTP are forbidden even so"),
    (f"smtpd_forbidden_commands={POSTFIX}", {"forbidden": Forbidden(POSTFIX)}, "Postfix's default"),
    ("smtpd_forbidden_commands = !GET /=/", {"forbidden": Forbidden("!GET /=/")}, "it may hold what divides -o"),
    ("smtpd_forbid_unauth_pipelining=yes", {}, "the default"),
    ("smtpd_forbid_unauth_pipelining=no", {"early_input": EarlyInput.NOTE}, "noted only"),
    ("message_size_limit=10240000", {"message": 10_240_000}, "Postfix's default"),
    ("line_length_limit=4096", {"command_line": 4096}, "a line"),
    ("smtpd_sasl_response_limit=65536", {"auth_line": 65_536}, "a line of AUTH"),
    ("bodies=5", {"bodies": 5}, "ours alone"),
    ("transactions=0", {}, "no limit, as by default"),
    (" junk = 7 ", {"junk": 7}, "white space around them is none of theirs"),
]


@pytest.mark.parametrize(("text", "fields", "reason"), TAKEN)
def test_a_setting_sets_its_fields(text: str, fields: dict[str, Any], reason: str) -> None:
    assert changed(text) == fields, reason


def test_a_later_one_wins() -> None:
    assert changed("smtpd_timeout=5", "junk=1", "body_seconds=7") == {
        "command_seconds": 5.0,
        "body_seconds": 7.0,
        "junk": 1,
    }


WRONG = [
    ("smtpd_timeout", "NAME=VALUE is needed"),
    ("=5", "NAME=VALUE is needed"),
    ("smtpd_tiemout=5", "there is no smtpd_tiemout; is it smtpd_timeout"),
    ("soft_bounce_x_y_z=yes", "there is no soft_bounce_x_y_z; --show-limits shows the names"),
    ("greeting_seconds=5", "greeting_seconds is for clients, a server has no use for it"),
    ("smtpd_timeout=0", "a time is needed, above 0 and up to 52w"),
    ("smtpd_timeout=-5", "a time is needed"),
    ("smtpd_timeout=five", "a time is needed"),
    ("smtpd_timeout=5y", "a time is needed"),
    ("smtpd_timeout=53w", "a time is needed"),
    ("smtpd_timeout=inf", "a time is needed"),
    ("smtpd_error_sleep_time=", "a time is needed, from 0 up to 52w"),
    ("smtpd_junk_command_limit=0", "a whole number is needed, from 1"),
    ("smtpd_junk_command_limit=1.5", "a whole number is needed"),
    ("smtpd_junk_command_limit=4294967296", "a whole number is needed"),
    ("smtpd_junk_command_limit=\u0663", "a whole number is needed"),
    ("bodies=many", "a whole number is needed, from 1, or 0 for no limit"),
    ("smtpd_client_ipv4_prefix_length=33", "a whole number is needed, from 0 to 32"),
    ("message_size_limit=0", "a whole number is needed, from 1"),
    ("smtpd_min_data_rate=0", "a whole number is needed, from 1"),
    ("line_length_limit=100", "a whole number is needed, from 512"),
    ("smtpd_per_request_deadline=no", "it is always on, so only yes is taken"),
    ("smtpd_forbid_bare_newline=maybe", "reject, normalize (or yes), note (or no) or auto is needed"),
    ("smtpd_forbid_bare_newline_reject_code=250", "a reply code is needed"),
    ("smtpd_forbid_bare_newline_reject_code=569", "a reply code is needed"),
    ("smtpd_forbidden_commands=/(/", "not a pattern: '/(/': missing ), unterminated subpattern at position 0"),
    ("smtpd_forbidden_commands=regexp:/etc/commands", "neither a word nor a /pattern/: 'regexp:/etc/commands'"),
    ("smtpd_forbid_unauth_pipelining=maybe", "yes or no is needed"),
    ("stress=maybe", "yes, no or auto is needed"),
    ("smtpd_client_event_limit_exceptions=localhost", "no names and no tables"),
    ("smtpd_client_event_limit_exceptions=127.0.0.1/8", "host bits set"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_wrong_is_said_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^-o {re.escape(text)}: .*{re.escape(words)}") as caught:
        DEFAULTS.plus(["smtpd_timeout=5", text])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.name)
def test_every_default_is_written_as_it_is_read(setting: Any) -> None:
    assert DEFAULTS.plus([f"{setting.name}={DEFAULTS.value(setting)}"]) == DEFAULTS


def test_two_fields_that_differ_are_both_shown() -> None:
    assert "smtpd_timeout = 5s, 300s " in DEFAULTS.plus(["command_seconds=5"]).table()


def as_written(setting: Any) -> str:
    """Its default as the page has it: as code where Markdown would make something of it."""
    value = DEFAULTS.value(setting) or "none"
    return f"`{value}`" if set(value) & set("[]*_") else value


def test_the_page_on_the_server_has_the_same_table() -> None:
    page = (ROOT / "docs" / "run-a-server.md").read_text("utf-8")
    rows = [f"| `{one.name}` | {as_written(one)} | {one.kind.unit} | {one.what} |" for one in SETTINGS]
    found = [line for line in page.splitlines() if re.match(r"\| `[a-z0-9_]+` \|", line)]
    assert found == rows


# The command.


def test_show_limits_shows_what_would_be_and_starts_nothing(home: Home) -> None:
    done = home.run("serve", "-o", "smtpd_timeout=1m", "-o", "bodies=9", "--message-size-limit", "77", "--show-limits")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (Exit.OK, b"")
    assert [line.split()[0] for line in lines] == [one.name for one in SETTINGS]
    values = {line.split()[0]: line.split()[2] for line in lines}
    assert (values["smtpd_timeout"], values["bodies"], values["message_size_limit"]) == ("60s", "9", "77")
    assert not list(home.path.iterdir())


def test_what_is_wrong_ends_the_command(home: Home) -> None:
    done = home.run("serve", "-o", "smtpd_tiemout=5")
    assert done.returncode == Exit.USAGE
    assert done.stderr.decode() == (
        "smtpstate: -o smtpd_tiemout=5: there is no smtpd_tiemout; is it smtpd_timeout or smtpd_starttls_timeout?\n"
    )


def test_what_is_set_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[ServeOptions] = []

    def take(options: ServeOptions) -> int:
        taken.append(options)
        return 0

    monkeypatch.setattr(_cli, "serve", take)
    options = ["--message-size-limit", "5", "-o", "message_size_limit=7", "-o", "default_process_limit=3"]
    assert _cli.run(["serve", *options]) == 0
    assert (taken[0].settings.limits.message, taken[0].settings.admission.connections) == (7, 3)


def test_one_too_many_is_told_and_logged_and_the_totals_at_the_end(serve: Serve) -> None:
    served = serve("--no-tls", "-o", "default_process_limit=2")

    def first_line() -> bytes:
        peer = socket.create_connection(("127.0.0.1", served.port), SECONDS)
        held.append(peer)
        return peer.makefile("rb").readline()

    held: list[socket.socket] = []
    assert [first_line()[:4] for _ in range(2)] == [b"220 ", b"220 "]
    assert first_line() == b"421 Too many connections, try again later\r\n"
    for peer in held:
        peer.close()
    assert served.stop() == 0
    log = "".join(served.log)
    assert " WARNING stress begins: 2 of 2 connections, 0 messages under way\n" in log
    assert " INFO stress ends: 1 of 2 connections, 0 messages under way\n" in log
    assert " WARNING too many connections: the limit is 2, 1 refused since it was reached\n" in log
    assert " INFO limits: sessions=2; connections current=0 peak=2 limit=2 refused=1; " in log


def test_a_command_takes_no_longer_than_it_may(serve: Serve) -> None:
    served = serve("--no-tls", "-o", "smtpd_timeout=0.2")
    with socket.create_connection(("127.0.0.1", served.port), SECONDS) as peer, peer.makefile("rb") as replies:
        assert replies.readline().startswith(b"220 ")
        assert replies.readline().startswith(b"421 4.4.2 ")


# What the system allows, what is needed, what is set, and what is said.
ROOM = [
    ((1024, 4096), 3164, None),
    ((1024, -1), 3164, None),
    ((1024, 2048), 2048, "2048 files may be open (ulimit -Hn), and 1000 connections can need 3164"),
    ((5000, 5000), None, None),
    ((-1, -1), None, None),
]


@pytest.mark.parametrize(("allowed", "raised", "words"), ROOM)
def test_there_is_room_for_the_connections_where_the_system_allows_it(
    allowed: tuple[int, int],
    raised: int | None,
    words: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    resource = pytest.importorskip("resource")
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "RLIM_INFINITY", -1)
    monkeypatch.setattr(resource, "getrlimit", lambda _: allowed)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    make_room(Admission())
    assert limits == ([] if raised is None else [(raised, allowed[1])])
    assert [words] == [one.getMessage()[: len(words)] for one in caplog.records] if words else not caplog.records


def test_where_the_limit_cannot_be_raised_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 5000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    make_room(Admission(connections=50, bodies=10))
    assert "100 files may be open (ulimit -Hn), and 50 connections can need 234" in caplog.text
