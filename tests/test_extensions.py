"""Extensions: the table rows, where each parameter may stand, how commands are read, and two of a user's own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smtpstate import Reply, ReplyReceived, ServerConfig, TlsMode, extensions
from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._capabilities import NO_CAPABILITIES, Capabilities
from smtpstate._commands import Mail, Rcpt
from smtpstate._delivery import open_session
from smtpstate._errors import Fault, GrammarError, LocalProtocolError
from smtpstate._params import Parameters, check_parameters, increment, split_parameters, without_expendable
from smtpstate.extensions import (
    BUILT_IN,
    DSN,
    DateTime,
    DeliverBy,
    Envid,
    Extension,
    HoldFor,
    HoldUntil,
    Notify,
    OriginalRecipient,
    OwnCommand,
    OwnVerb,
    Parameter,
    Priority,
    Ret,
    Rrvs,
    ServerLimits,
    Submitter,
    flag,
)
from smtpstate_testing import Pair

if TYPE_CHECKING:
    from collections.abc import Container
    from types import ModuleType

MAIL, RCPT, _ = extensions.tables()
EVERYTHING = frozenset({"SIZE", "8BITMIME", "CHUNKING", "BINARYMIME", *BUILT_IN})
NOON = "2024-01-01T12:00:00Z"
NOW = DateTime.parse(NOON)

# Each parameter: where it stands, the extension that has to be offered, a legal one, and its longest spelling.
ROWS = [
    ("MAIL", "SIZE", "SIZE=1", "SIZE=" + "9" * 20),
    ("MAIL", "8BITMIME", "BODY=8BITMIME", "BODY=8BITMIME"),
    ("MAIL", "BINARYMIME", "BODY=BINARYMIME", "BODY=BINARYMIME"),
    ("MAIL", "DSN", "RET=HDRS", "RET=FULL"),
    ("MAIL", "DSN", "ENVID=QQ314159", "ENVID=" + "+2B" * 100),
    ("MAIL", "AUTH", "AUTH=<>", "AUTH=e+3Dmc2@" + "a" * 63 + ".example.com"),
    ("MAIL", "SMTPUTF8", "SMTPUTF8", "SMTPUTF8"),
    ("MAIL", "REQUIRETLS", "REQUIRETLS", "REQUIRETLS"),
    ("MAIL", "FUTURERELEASE", "HOLDUNTIL=" + NOON, "HOLDUNTIL=2024-01-01T12:00:00.25Z"),
    ("MAIL", "DELIVERBY", "BY=120;R", "BY=-999999999;NT"),
    ("MAIL", "MT-PRIORITY", "MT-PRIORITY=3", "MT-PRIORITY=-9"),
    ("RCPT", "DSN", "NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE,DELAY"),
    ("RCPT", "DSN", "ORCPT=rfc822;a+2Bb@x", "ORCPT=rfc822;" + "a" * 493),
    ("RCPT", "RRVS", "RRVS=" + NOON, "RRVS=2024-01-01T12:00:00+01:00;C"),
]
# It is counted with HOLDUNTIL, beside which it may not stand.
HOLDFOR = ("MAIL", "FUTURERELEASE", "HOLDFOR=60", "HOLDFOR=999999999")


def fault(verb: str, text: str, offered: Container[str] = EVERYTHING, *, utf8: bool = False) -> Fault | None:
    """What is wrong with the parameters `text` of `verb`."""
    try:
        check_parameters(split_parameters(f" {text}", utf8=utf8), MAIL if verb == "MAIL" else RCPT, offered)
    except GrammarError as error:
        return error.fault
    return None


@pytest.mark.parametrize(("verb", "extension", "text", "longest"), [*ROWS, HOLDFOR])
def test_a_parameter_stands_on_its_verb_when_its_extension_is_offered(
    verb: str, extension: str, text: str, longest: str
) -> None:
    assert fault(verb, text) is None
    assert fault(verb, text, {extension}) is None
    assert fault(verb, longest, {extension}) is None


@pytest.mark.parametrize(("verb", "extension", "text", "longest"), [*ROWS, HOLDFOR])
def test_a_parameter_in_the_wrong_place_or_not_offered_is_unknown(
    verb: str, extension: str, text: str, longest: str
) -> None:
    assert fault("RCPT" if verb == "MAIL" else "MAIL", text) is Fault.PARAMETER_UNKNOWN, "section 1.12: wrong place"
    assert fault(verb, text, ()) is Fault.PARAMETER_UNKNOWN, "after HELO nothing is offered"
    if not text.startswith("BODY="):  # of which the other extension knows other values
        assert fault(verb, text, EVERYTHING - {extension}) is Fault.PARAMETER_UNKNOWN


@pytest.mark.parametrize(("verb", "extension", "text", "longest"), ROWS)
def test_the_longest_spelling_of_a_parameter_fits_its_increment(
    verb: str, extension: str, text: str, longest: str
) -> None:
    keyword = longest.partition("=")[0]
    assert len(f" {longest}") <= (MAIL if verb == "MAIL" else RCPT)[keyword][extension].increment


def test_every_row_has_its_keyword_and_is_in_the_tests_above() -> None:
    found = {
        (verb, extension, row.keyword)
        for verb, table in (("MAIL", MAIL), ("RCPT", RCPT))
        for keyword, rows in table.items()
        for extension, row in rows.items()
        if keyword == row.keyword
    }
    assert found == {(verb, extension, text.partition("=")[0]) for verb, extension, text, _ in [*ROWS, HOLDFOR]}


@pytest.mark.parametrize(
    ("offered", "mail", "rcpt"),
    [
        ({"DSN"}, 316, 536),
        ({"AUTH"}, 500, 0),
        ({"SMTPUTF8"}, 10, 0),
        ({"DELIVERBY"}, 17, 0),
        ({"MT-PRIORITY"}, 15, 0),
        ({"FUTURERELEASE"}, 34, 0),
        ({"REQUIRETLS"}, 11, 0),
        ({"RRVS"}, 0, 33),
        ({"LIMITS", "PIPELINING"}, 0, 0),
    ],
)
def test_command_lines_grow_by_what_the_extensions_say(offered: set[str], mail: int, rcpt: int) -> None:
    assert (increment(MAIL, offered), increment(RCPT, offered)) == (mail, rcpt)


@pytest.mark.parametrize(
    ("verb", "text", "missing", "reason"),
    [
        ("MAIL", "RET=HDRS ENVID=x", None, "RFC 3461 section 5.2.2: the reports are the sender's to make"),
        ("RCPT", "NOTIFY=SUCCESS ORCPT=rfc822;a@b.example", None, "likewise"),
        ("MAIL", "AUTH=a@b.example", None, "RFC 4954 section 5"),
        ("MAIL", "MT-PRIORITY=9", None, "RFC 6710: any priority is a wish"),
        ("MAIL", "BY=60;N", None, "RFC 2852: late is only reported"),
        ("MAIL", "BY=60;R", "DELIVERBY", "RFC 2852: it would not come back"),
        ("RCPT", f"RRVS={NOON};C", None, "RFC 7293 section 5: the header field goes on"),
        ("RCPT", f"RRVS={NOON};R", "RRVS", "RFC 7293 section 5"),
        ("RCPT", f"RRVS={NOON}", "RRVS", "which is what silence means"),
        ("MAIL", "HOLDFOR=9", "FUTURERELEASE", "RFC 4865: it would arrive at once"),
        ("MAIL", f"HOLDUNTIL={NOON}", "FUTURERELEASE", "likewise"),
        ("MAIL", "REQUIRETLS", "REQUIRETLS", "RFC 8689 section 4"),
        ("MAIL", "SMTPUTF8", "SMTPUTF8", "RFC 6531 section 3.2"),
        ("MAIL", "SIZE=1", "SIZE", "whoever spells it out means it"),
    ],
)
def test_what_a_message_may_lose_where_nothing_is_offered(
    verb: str, text: str, missing: str | None, reason: str
) -> None:
    table = MAIL if verb == "MAIL" else RCPT
    assert without_expendable(split_parameters(f" {text}"), table, ()) == ((), missing), reason


def test_none_is_no_parameter() -> None:
    assert extensions.parameters(None, Ret.FULL, None) == (("RET", "FULL"),)


@pytest.mark.parametrize(
    ("verb", "text", "expected", "reason"),
    [
        ("MAIL", "RET", Fault.PARAMETER_VALUE, "a value is needed"),
        ("MAIL", "RET=HEADERS", Fault.PARAMETER_VALUE, "no such word"),
        ("MAIL", "RET=FULL RET=HDRS", Fault.PARAMETER_SYNTAX, "twice"),
        ("MAIL", "ENVID=a+0Ab", Fault.PARAMETER_VALUE, "a control"),
        ("MAIL", "AUTH=a+b", Fault.PARAMETER_VALUE, "not xtext"),
        ("MAIL", "SMTPUTF8=1", Fault.PARAMETER_VALUE, "it has no value"),
        ("MAIL", "REQUIRETLS=yes", Fault.PARAMETER_VALUE, "it has no value"),
        ("MAIL", "BY=0;R", Fault.PARAMETER_VALUE, "RFC 2852: not for R"),
        ("MAIL", "MT-PRIORITY=+1", Fault.PARAMETER_VALUE, "RFC 6710: no plus sign"),
        ("MAIL", f"HOLDFOR=1 HOLDUNTIL={NOON}", Fault.PARAMETER_SYNTAX, "section 1.12: one or the other"),
        ("MAIL", f"HOLDUNTIL={NOON} HOLDFOR=1", Fault.PARAMETER_SYNTAX, "in either order"),
        ("MAIL", "HOLDUNTIL=2024-01-01T12:00:00+01:00", Fault.PARAMETER_VALUE, "UTC only"),
        ("RCPT", "NOTIFY=NEVER,SUCCESS", Fault.PARAMETER_VALUE, "section 1.12: NEVER alone"),
        ("RCPT", "NOTIFY=DELAY,DELAY", Fault.PARAMETER_VALUE, "each word once"),
        ("RCPT", "ORCPT=a@x", Fault.PARAMETER_VALUE, "no type"),
        ("RCPT", "ORCPT=utf-8;ü@x", Fault.PARAMETER_SYNTAX, "raw UTF-8 without SMTPUTF8"),
        ("RCPT", r"ORCPT=utf-8;\x{FC}@x", None, "section 1.12: DSN has RFC 6533 in it"),
        ("RCPT", f"RRVS={NOON};X", Fault.PARAMETER_VALUE, "no such action"),
        ("MAIL", "SOLICIT=a", Fault.PARAMETER_UNKNOWN, "RFC 3865 is not built in"),
        ("MAIL", "CONPERM", Fault.PARAMETER_UNKNOWN, "nor is RFC 4141"),
        ("RCPT", "CONNEG", Fault.PARAMETER_UNKNOWN, "on either command"),
        ("MAIL", "MTRK=cert", Fault.PARAMETER_UNKNOWN, "nor is RFC 3885"),
        ("MAIL", "TRANSID=<1>", Fault.PARAMETER_UNKNOWN, "nor is RFC 1845"),
        ("MAIL", "SIZE=1 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x AUTH=<> REQUIRETLS", None, "several at once"),
    ],
)
def test_value_rules_and_interactions(verb: str, text: str, expected: Fault | None, reason: str) -> None:
    assert fault(verb, text) is expected, reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ORCPT=utf-8;ü@bücher.example", None),
        ("ORCPT=rfc822;ü@x", Fault.PARAMETER_VALUE),
        ("NOTIFY=NÉVER", Fault.PARAMETER_VALUE),
    ],
)
def test_under_smtputf8_an_original_recipient_may_be_utf8(text: str, expected: Fault | None) -> None:
    assert fault("RCPT", text, utf8=True) is expected


@pytest.mark.parametrize("text", ["AUTH=<>", "AUTH=a@x"])
def test_auth_on_mail_needs_auth_announced(text: str) -> None:
    assert fault("MAIL", text, {"AUTH"}) is None
    assert fault("MAIL", text, EVERYTHING - {"AUTH"}) is Fault.PARAMETER_UNKNOWN


# What a server says beside the keyword, and enforces.


def allows(extension: Extension, text: str) -> bool:
    mail, _, given = extensions.tables([extension])
    try:
        check_parameters(split_parameters(f" {text}"), mail, given)
    except GrammarError as error:
        if error.fault is not Fault.PARAMETER_VALUE:
            raise
        return False
    return True


@pytest.mark.parametrize(
    ("text", "allowed", "reason"),
    [
        ("BY=60;R", True, "the minimum"),
        ("BY=59;R", False, "sooner"),
        ("BY=59;N", True, "a report is no return"),
        ("BY=-1;N", True, "likewise"),
        ("BY=x", False, "no value at all"),
    ],
)
def test_deliver_by_has_a_minimum(text: str, allowed: bool, reason: str) -> None:
    assert allows(extensions.deliver_by(60), text) is allowed, reason


def test_deliver_by_without_a_minimum_takes_any() -> None:
    assert extensions.deliver_by().announced == ()
    assert extensions.deliver_by(60).announced == ("60",)
    assert allows(extensions.deliver_by(), "BY=1;R")


@pytest.mark.parametrize(
    ("text", "allowed", "reason"),
    [
        ("HOLDFOR=86400", True, "the most"),
        ("HOLDFOR=86401", False, "longer"),
        ("HOLDFOR=x", False, "no value at all"),
        ("HOLDUNTIL=2024-06-01T00:00:00.5Z", True, "the last instant"),
        ("HOLDUNTIL=2024-06-01T00:00:00.500z", True, "spelt otherwise"),
        ("HOLDUNTIL=2024-06-01T00:00:00Z", True, "before its fraction"),
        ("HOLDUNTIL=2024-05-31T23:59:60.9Z", True, "the day before"),
        ("HOLDUNTIL=2024-06-01T00:00:00.51Z", False, "a little later"),
        ("HOLDUNTIL=2024-06-01T00:00:01Z", False, "a second later"),
        ("HOLDUNTIL=2025-01-01T00:00:00Z", False, "a year later"),
        ("HOLDUNTIL=yesterday", False, "no value at all"),
    ],
)
def test_future_release_has_its_ends(text: str, allowed: bool, reason: str) -> None:
    extension = extensions.future_release(86_400, "2024-06-01T00:00:00.5Z")
    assert extension.announced == ("86400", "2024-06-01T00:00:00.5Z")
    assert allows(extension, text) is allowed, reason


@pytest.mark.parametrize("until", ["tomorrow", "2024-06-01T00:00:00+00:00"])
def test_future_release_ends_at_a_time_in_utc(until: str) -> None:
    with pytest.raises(LocalProtocolError):
        extensions.future_release(1, until)


def test_a_priority_profile_is_announced() -> None:
    assert extensions.mt_priority("MIXER").announced == ("MIXER",)
    assert extensions.mt_priority().announced == ()


def test_requiretls_is_for_tls_and_smtputf8_needs_8bitmime() -> None:
    assert {keyword for keyword, extension in BUILT_IN.items() if extension.tls_only} == {"REQUIRETLS"}
    assert {keyword for keyword, extension in BUILT_IN.items() if extension.needs} == {"SMTPUTF8"}


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ({"SMTPUTF8", "DSN"}, "section 1.12: SMTPUTF8 needs 8BITMIME"),
        ({"BINARYMIME", "8BITMIME"}, "section 1.12: BINARYMIME needs CHUNKING"),
        ({"X-MORE"}, "one's own need"),
    ],
)
def test_an_offer_needs_what_it_builds_on(offered: set[str], reason: str) -> None:
    more = Extension("X-MORE", needs=frozenset({"8BITMIME", "CHUNKING"}))
    with pytest.raises(LocalProtocolError):
        extensions.check_offers(offered, [more])
    extensions.check_offers(offered | {"8BITMIME", "CHUNKING"}, [more])


# One's own.


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([Extension("SIZE")], "the core's"),
        ([Extension("AUTH")], "the core's"),
        ([Extension("LIMITS")], "the core's, who keeps them"),
        ([Extension("X"), Extension("X")], "twice"),
        ([Extension("X", mail=(Parameter("SIZE", flag, 5),))], "a parameter of the core"),
        ([Extension("X", mail=(Parameter("RET", flag, 5),))], "of a built-in extension"),
        ([Extension("X", rcpt=(Parameter("ORCPT", flag, 5),))], "of RCPT"),
        ([Extension("X", mail=(Parameter("Y", flag, 2),)), Extension("Z", mail=(Parameter("Y", flag, 2),))], "another"),
        ([Extension("X", mail=(Parameter("Y", flag, 2), Parameter("Y", flag, 2)))], "its own"),
        ([Extension("X", verb=OwnVerb("XRUN")), Extension("Y", verb=OwnVerb("XRUN"))], "another's verb"),
        ([Extension("X", verb=OwnVerb("XRUN")), Extension("Y", verb=OwnVerb("XRUN", needs_tls=True))], "even so"),
    ],
)
def test_what_there_is_already_cannot_be_defined_again(given: list[Extension], reason: str) -> None:
    with pytest.raises(LocalProtocolError):
        extensions.tables(given)


def test_one_parameter_name_may_stand_for_two_things_on_two_verbs() -> None:
    row = Parameter("X-Y", flag, 4)
    mail, rcpt, given = extensions.tables([Extension("X", mail=(row,), rcpt=(row,))])
    assert mail["X-Y"] == rcpt["X-Y"] == {"X": row}
    assert set(given) == {"X"}
    assert "X-Y" not in MAIL, "nobody else's tables have it"


def test_a_built_in_extension_may_be_replaced() -> None:
    mail, rcpt, given = extensions.tables([Extension("DSN", mail=(Parameter("RET", flag, 4),))])
    assert mail["RET"]["DSN"].check is flag
    assert "ENVID" not in mail
    assert "NOTIFY" not in rcpt
    assert given["DSN"] is not DSN


@pytest.mark.parametrize(
    ("keyword", "announced", "parameter"),
    [
        ("x", (), "Y"),
        ("", (), "Y"),
        ("-X", (), "Y"),
        ("X_Y", (), "Y"),
        ("X", ("a b",), "Y"),
        ("X", ("",), "Y"),
        ("X", ("é",), "Y"),
        ("X", ("a\r\n250 Z",), "Y"),
        ("X", (), "y"),
        ("X", (), "Y="),
    ],
)
def test_what_ehlo_cannot_say_is_no_extension(keyword: str, announced: tuple[str, ...], parameter: str) -> None:
    with pytest.raises(LocalProtocolError):
        Extension(keyword, announced, mail=(Parameter(parameter, flag, 0),))
    with pytest.raises(LocalProtocolError):
        Extension(keyword, announced, rcpt=(Parameter(parameter, flag, 0),))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("NOOP", "the core's"),
        ("BDAT", "the core's, offered or not"),
        ("XCLIENT", "the core's, offered or not"),
        ("CONNECT", "what other protocols begin with"),
        ("RUN", "section 4.1.1: four letters"),
        ("etrn", "in upper case"),
        ("ETRN ", "white space"),
        ("X-RUN", "letters alone"),
        ("ETRN1", "letters alone"),
        ("\u00c9TRN", "of ASCII"),
        ("", "nothing"),
    ],
)
def test_what_is_no_verb_of_ones_own(name: str, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match="no verb"):
        Extension("X", verb=OwnVerb(name))


def test_a_verb_comes_with_its_keyword() -> None:
    given = (Extension("X", verb=OwnVerb("XRUN")), Extension("Y", verb=OwnVerb("YRUN")), Extension("Z"))
    assert extensions.own_verbs(given, {"X", "Z"}) == {OwnVerb("XRUN")}
    assert extensions.own_verbs(given, {"X", "Y"}) == {OwnVerb("XRUN"), OwnVerb("YRUN")}
    assert extensions.own_verbs((), {"X"}) == frozenset()
    assert extensions.tables(given)[2].keys() == {"X", "Y", "Z"}


def example(name: str) -> ModuleType:
    path = Path(__file__).parent.parent / "docs" / "examples" / f"{name}.py"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    assert len(path.read_text("utf-8").splitlines()) <= 35, "about 30 lines"
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Recorder:
    """Stands in for a connection: what a handler says to it."""

    def __init__(self) -> None:
        self.said: list[Reply | None] = []

    def reply(self, reply: Reply) -> None:
        self.said.append(reply)

    def accept(self) -> None:
        self.said.append(None)


@pytest.mark.parametrize(
    ("text", "expected", "replies", "reason"),
    [
        ("SOLICIT=net.example:ADV", None, [550], "unwanted"),
        ("SOLICIT=com.example:X,org.example:ADV:ADLT", None, [550], "one of two is unwanted"),
        ("SOLICIT=com.example:X", None, [], "nobody minds"),
        ("SIZE=1", None, [], "no solicitation"),
        ("SOLICIT=1a", Fault.PARAMETER_VALUE, [], "a word begins with a letter"),
        ("SOLICIT=a,,b", Fault.PARAMETER_VALUE, [], "an empty word"),
        ("SOLICIT=" + "a" * 1000, None, [], "RFC 3865: 1000 characters"),
        ("SOLICIT=" + "a" * 1001, Fault.PARAMETER_VALUE, [], "1001"),
        ("SOLICIT", Fault.PARAMETER_VALUE, [], "no value"),
    ],
)
def test_no_soliciting_is_an_extension_of_ones_own(
    text: str, expected: Fault | None, replies: list[int], reason: str
) -> None:
    module = example("no_soliciting")
    mail, rcpt, given = extensions.tables([module.NO_SOLICITING])
    parameters, found = split_parameters(f" {text}"), None
    try:
        check_parameters(parameters, mail, {"SIZE", *given})
    except GrammarError as error:
        found = error.fault
    assert found is expected, reason
    if found is None:
        recorder = Recorder()
        module.handle(recorder, Mail(ReversePath(None), parameters))
        assert [reply and reply.code for reply in recorder.said] == replies, reason
    with pytest.raises(GrammarError):
        check_parameters((("SOLICIT", "a"),), rcpt, given)
    assert increment(mail, given) == 1009
    assert Capabilities({keyword: one.announced for keyword, one in given.items()}).format() == (
        "NO-SOLICITING net.example:ADV,org.example:ADV:ADLT",
    )


def test_conneg_is_two_extensions_of_ones_own() -> None:
    module = example("conneg")
    mail, rcpt, given = extensions.tables([module.CONPERM, module.CONNEG])
    check_parameters((("CONPERM", None),), mail, given)
    check_parameters((("CONNEG", None),), rcpt, given)
    for parameters, table, offered, expected in (
        ((("CONPERM", "1"),), mail, given, Fault.PARAMETER_VALUE),
        ((("CONNEG", "1"),), rcpt, given, Fault.PARAMETER_VALUE),
        ((("CONNEG", None),), mail, given, Fault.PARAMETER_UNKNOWN),
        ((("CONPERM", None),), rcpt, given, Fault.PARAMETER_UNKNOWN),
        ((("CONPERM", None),), mail, {"CONNEG"}, Fault.PARAMETER_UNKNOWN),
    ):
        with pytest.raises(GrammarError) as caught:
            check_parameters(parameters, table, offered)
        assert caught.value.fault is expected
    assert (increment(mail, given), increment(rcpt, given)) == (8, 7)
    assert (given["CONPERM"].announced, given["CONNEG"].announced) == ((), ())


@pytest.mark.parametrize(
    ("address", "parameters", "lines"),
    [
        ("fax@example.org", (("CONNEG", None),), 4),
        ("you@example.org", (("CONNEG", None),), 1),
        ("fax@example.org", (), None),
    ],
)
def test_conneg_asks_for_the_features_of_a_recipient(address: str, parameters: Parameters, lines: int | None) -> None:
    module, recorder = example("conneg"), Recorder()
    module.handle(recorder, Rcpt(ForwardPath(Mailbox.parse(address)), parameters))
    module.handle(recorder, Mail(ReversePath(None)))
    [reply] = recorder.said
    assert (None if reply is None else len(reply.lines)) == lines
    if reply is not None:
        assert reply.encode(enhanced=True).startswith(b"250")


# Commands and values.

FROM = ReversePath(None)
TO = ForwardPath(Mailbox("you", "x"))


@pytest.mark.parametrize(
    ("read", "values", "value"),
    [
        (extensions.ret, (Ret.FULL,), Ret.FULL),
        (extensions.envid, (Envid("a b"),), Envid("a b")),
        (extensions.submitter, (Submitter(None),), Submitter(None)),
        (extensions.hold, (HoldFor(0),), HoldFor(0)),
        (extensions.hold, (HoldUntil(NOW),), HoldUntil(NOW)),
        (extensions.by, (DeliverBy(60, returns=True),), DeliverBy(60, returns=True)),
        (extensions.priority, (Priority(0),), Priority(0)),
    ],
)
def test_what_mail_carries_is_read(read, values, value: object) -> None:
    parameters = extensions.parameters(*values)
    check_parameters(parameters, MAIL, EVERYTHING)
    assert read(Mail(FROM, parameters)) == value
    assert read(Mail(FROM, (("SIZE", "1"),))) is None


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (extensions.notify, Notify.NEVER),
        (extensions.notify, Notify.SUCCESS | Notify.DELAY),
        (extensions.original_recipient, OriginalRecipient("utf-8", "ü@x")),
        (extensions.rrvs, Rrvs(NOW, continues=True)),
    ],
)
def test_what_rcpt_carries_is_read(read, value) -> None:
    parameters = extensions.parameters(value)
    check_parameters(parameters, RCPT, EVERYTHING)
    assert read(Rcpt(TO, parameters)) == value
    assert read(Rcpt(TO)) is None


def test_flags_are_read() -> None:
    both = Mail(FROM, (("SMTPUTF8", None), ("REQUIRETLS", None)))
    assert extensions.smtputf8(both)
    assert extensions.requires_tls(both)
    assert not extensions.smtputf8(Mail(FROM))
    assert not extensions.requires_tls(Mail(FROM))


def test_requiretls_returns_headers_only() -> None:
    assert extensions.ret(Mail(FROM, (("RET", "FULL"), ("REQUIRETLS", None)))) is Ret.HDRS
    assert extensions.ret(Mail(FROM, (("REQUIRETLS", None),))) is Ret.HDRS


def test_a_command_of_ones_own_making_may_not_parse() -> None:
    with pytest.raises(GrammarError):
        extensions.priority(Mail(FROM, (("MT-PRIORITY", "most"),)))


def test_several_values_stand_in_the_order_given() -> None:
    assert extensions.parameters(Notify.FAILURE, OriginalRecipient.of(Mailbox("a b", "x"))) == (
        ("NOTIFY", "FAILURE"),
        ("ORCPT", 'rfc822;"a+20b"@x'),
    )


def test_what_a_server_says_of_its_limits_is_read() -> None:
    capabilities = Capabilities.parse(["LIMITS RCPTMAX=20 MAILMAX=5"])
    assert extensions.server_limits(capabilities) == ServerLimits(5, 20)
    assert extensions.server_limits(NO_CAPABILITIES) == ServerLimits()


# Names.


def test_the_public_names_are_these() -> None:
    public = {name for name in vars(extensions) if name[0] != "_"}
    helpers = {"TYPE_CHECKING", "annotations", "re", "dataclass", "Final", "TypeAlias", "TypeVar", "final"}
    internal = {"ESMTP_KEYWORD", "Fault", "GrammarError", "LocalProtocolError", "MAIL_PARAMETERS", "RCPT_PARAMETERS"}
    internal |= {"Parameters", "ParameterTable", "Verb"}
    assert public - helpers - internal == {
        *("Carried", "DateTime", "DeliverBy", "Envid", "HoldFor", "HoldUntil", "Notify", "OriginalRecipient"),
        *("Priority", "Ret", "Rrvs", "ServerLimits", "Submitter", "Extension", "Parameter", "flag"),
        *("Absence", "XClient", "XForward", "XForwardSource"),
        *("OwnCommand", "OwnVerb", "own_verbs"),
        *("BUILT_IN", "DSN", "REQUIRETLS", "RRVS", "SMTPUTF8"),
        *("deliver_by", "future_release", "mt_priority", "tables", "check_offers"),
        *("parameters", "ret", "envid", "submitter", "smtputf8", "requires_tls", "hold", "by", "priority"),
        *("notify", "original_recipient", "rrvs", "server_limits", "ascii_form", "domain_key"),
        *("needs_smtputf8", "Absence", "XClient", "XForward", "XForwardSource"),
    }


@pytest.mark.parametrize(
    ("mail", "reply", "reason"),
    [
        (b"MAIL FROM:<a@b.example> SOLICIT=net.example:ADV", b"550 5.7.1 ", "unwanted"),
        (b"MAIL FROM:<a@b.example> SOLICIT=net.example:NEWS", b"250 2.1.0 ", "nobody minds"),
        (b"MAIL FROM:<a@b.example> SOLICIT=,", b"501 5.5.4 ", "not its grammar"),
        (b"MAIL FROM:<a@b.example> RET=FULL", b"555 5.5.4 ", "DSN is not offered"),
    ],
)
def test_a_server_takes_an_extension_of_ones_own(mail: bytes, reply: bytes, reason: str) -> None:
    module = example("no_soliciting")
    pair = Pair(ServerConfig("mx.example.org", extensions=(module.NO_SOLICITING,)), handler=module.handle)
    assert b"250 NO-SOLICITING net.example:ADV,org.example:ADV:ADLT\r\n" in pair.talk(b"EHLO c.example\r\n")
    assert pair.talk(mail + b"\r\n").startswith(reply), reason


def test_a_client_sends_the_parameters_of_what_is_offered() -> None:
    module = example("no_soliciting")
    config = ServerConfig("mx.example.org", offers=frozenset({"DSN"}), extensions=(module.NO_SOLICITING,))
    pair = Pair(config, client_extensions=(module.NO_SOLICITING,))
    pair.run(open_session(pair.client, TlsMode.OFF))
    unknown = Mail(FROM, (("SOLICIT", "net.example:NEWS"), ("BY", "60;R")))
    with pytest.raises(LocalProtocolError):
        pair.client.send(unknown)
    assert pair.client.send(Mail(FROM, (("SOLICIT", "net.example:NEWS"), *extensions.parameters(Ret.HDRS))))
    pair.drive()
    assert "C: MAIL FROM:<> SOLICIT=net.example:NEWS RET=HDRS\nS: 250 Sender accepted\n" in pair.transcript


@pytest.mark.parametrize(
    ("line", "reply", "reason"),
    [
        (
            b"ETRN example.net",
            b"253 2.0.0 OK, 2 pending messages for node example.net started\r\n",
            "RFC 1985 section 5.3",
        ),
        (b"etrn Example.ORG", b"251 2.0.0 OK, no messages waiting for node Example.ORG\r\n", "nothing waits"),
        (b"ETRN example.com", b"459 4.7.1 Node example.com not allowed\r\n", "somebody else's"),
        (b"ETRN", b"501 5.5.4 Which node?\r\n", "no argument"),
        (b"ATRN example.net", b"502 5.5.1 Command not implemented\r\n", "known, and not offered"),
        (b"MAIL FROM:<>\r\nETRN example.net", b"250 2.1.0 Sender accepted\r\n503 5.5.1 ", "not inside a transaction"),
    ],
)
def test_etrn_is_a_verb_of_ones_own(line: bytes, reply: bytes, reason: str) -> None:
    module = example("etrn")
    pair = Pair(ServerConfig("mx.example.org", extensions=(module.ETRN,)), handler=module.handle)
    early = pair.talk(b"ETRN example.net\r\n")
    assert early.endswith(b"503 5.5.1 Send EHLO first\r\n")
    assert b"250 ETRN\r\n" in pair.talk(b"EHLO c.example\r\n")
    assert pair.talk(line + b"\r\n").startswith(reply), reason


def test_a_client_asks_for_its_mail() -> None:
    module = example("etrn")
    config = ServerConfig("mx.example.org", extensions=(module.ETRN,))
    pair = Pair(config, client_extensions=(module.ETRN,), handler=module.handle)
    pair.run(open_session(pair.client, TlsMode.OFF))
    assert pair.client.send(OwnCommand("ETRN", "example.net"))
    pair.drive()
    answered = pair.client_events[-1]
    assert answered == ReplyReceived(
        OwnCommand("ETRN", "example.net"),
        Reply(253, "OK, 2 pending messages for node example.net started", enhanced="2.0.0"),
    )
