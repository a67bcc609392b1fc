"""What a peer sent, as it may be shown."""

import pytest

from smtpstate._evidence import EVIDENCE, evidence, masked


@pytest.mark.parametrize(
    ("octets", "shown", "reason"),
    [
        (b"", b"", "nothing"),
        (b"GET / HTTP/1.1", b"GET / HTTP/1.1", "as it is"),
        (b"\x16\x03\x01\0", b"\x16\x03\x01\0", "escaping is for the log"),
        (b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", "a colon makes no header"),
        (b"x" * 500, b"x" * EVIDENCE, "no more than that"),
        (b"AUTH PLAIN AGEAYg==\r\nRSET\r\n", b"AUTH PLAIN ***\r\n***", "a password"),
        (b"RSET\r\nauth login\r\nYQ==\r\nYg==\r\n", b"RSET\r\nauth login\r\n***", "what may answer a challenge"),
        (b"AUTH\r\nYQ==", b"AUTH\r\n***", "whatever may answer one"),
        (b"AUTH" + b" " * 200 + b"x" * 50, b"AUTH" + b" " * 96, "where the mask itself does not fit"),
        (b"GET /a?password=b HTTP/1.1\r\nHost: c\r\n", b"GET /a?*** HTTP/1.1\r\nHost:***\r\n", "what a form was told"),
        (b"Authorization: Basic YTpi\r\n", b"Authorization:***\r\n", "what a header says"),
        (b"Cookie : a=b", b"Cookie :***", "white space before the colon"),
        (
            b"POST / HTTP/1.1\r\nHost: c\r\n\r\nuser=a&password=b\r\n",
            b"POST / HTTP/1.1\r\nHost:***\r\n\r\n***",
            "what a form was told, behind the headers",
        ),
        (b"Subject: a\n\ntext\n", b"Subject:***\n\n***", "a message"),
        (b"\r\nRSET\r\n", b"\r\nRSET\r\n", "an empty line at the beginning ends no headers"),
    ],
)
def test_what_is_shown(octets: bytes, shown: bytes, reason: str) -> None:
    assert evidence(octets) == shown, reason


@pytest.mark.parametrize(
    "line", [b"AUTH PLAIN secret", b"AUTH  PLAIN secret words", b"auth\tLOGIN secret", b"AUTH=LOGIN secret"]
)
def test_a_masked_line_has_no_secret(line: bytes) -> None:
    assert b"secret" not in masked(line).lower()
    assert masked(b"AUTH PLAIN") == b"AUTH PLAIN"
