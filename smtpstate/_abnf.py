r"""The grammar of RFC 5321 sections 4.1.2 and 4.1.3 as regex text: each production stands above its expression.

Plain strings, so that a module puts together and compiles what it needs. They have no anchors, and no capturing group
but those that a comment names. They know characters and structure; sizes are the business of the
modules that use them, with one exception: the 63 octets of a label, which a repetition count says best.

All are ASCII. RFC 6531 section 3.3 adds UTF-8 to four productions and no other: atext, qtextSMTP, sub-domain and
esmtp-value. Whatever names people here is built from these four (ATEXT, QTEXT, SUB_DOMAIN, ESMTP_VALUE), so `with_utf8`
makes the one grammar of the other.
"""

from typing import Final

# Let-dig        = ALPHA / DIGIT
LET_DIG: Final = r"[0-9A-Za-z]"

# Ldh-str        = *( ALPHA / DIGIT / "-" ) Let-dig
LDH_STR: Final = rf"[0-9A-Za-z-]*{LET_DIG}"

# sub-domain     = Let-dig [Ldh-str]
#
# A label has 63 octets at most: RFC 1035 section 2.3.4.
SUB_DOMAIN: Final = rf"{LET_DIG}(?:[0-9A-Za-z-]{{0,61}}{LET_DIG})?"

# Domain         = sub-domain *("." sub-domain)
DOMAIN: Final = rf"{SUB_DOMAIN}(?:\.{SUB_DOMAIN})*"

# Not a production. Windows and container hosts with an underscore in their name say it in EHLO and HELO, where the
# name is only compared and logged, so it is taken there, in any place of a label. Never in a mailbox.
HELLO_SUB_DOMAIN: Final = r"[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?"
HELLO_DOMAIN: Final = rf"{HELLO_SUB_DOMAIN}(?:\.{HELLO_SUB_DOMAIN})*"

# Snum           = 1*3DIGIT
#                ; representing a decimal integer
#                ; value in the range 0 through 255
#
# Leading zeros are legal, and decimal.
SNUM: Final = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"

# IPv4-address-literal  = Snum 3("."  Snum)
IPV4_ADDRESS_LITERAL: Final = rf"{SNUM}(?:\.{SNUM}){{3}}"

# IPv6-hex       = 1*4HEXDIG
IPV6_HEX: Final = r"[0-9A-Fa-f]{1,4}"

# IPv6-full      = IPv6-hex 7(":" IPv6-hex)
IPV6_FULL: Final = rf"{IPV6_HEX}(?::{IPV6_HEX}){{7}}"


def _groups(most: int, *, after: str = "") -> str:
    """[IPv6-hex *n(":" IPv6-hex) after] for `most` groups, 0 to 6."""
    return rf"(?:{IPV6_HEX}(?::{IPV6_HEX}){{0,{most - 1}}}{after})?" if most else ""


def _compressed(groups: int, *, after: str = "", tail: str = "") -> str:
    """At most `groups` groups around a "::", then `tail`: one alternative for each number of groups in front of it."""
    fronts = ("", *(rf"{IPV6_HEX}(?::{IPV6_HEX}){{{front - 1}}}" for front in range(1, groups + 1)))
    return "|".join(f"{front}::{_groups(groups - count, after=after)}{tail}" for count, front in enumerate(fronts))


# IPv6-comp      = [IPv6-hex *5(":" IPv6-hex)] "::"
#                [IPv6-hex *5(":" IPv6-hex)]
#                ; The "::" represents at least 2 16-bit groups of
#                ; zeros.  No more than 6 groups in addition to the
#                ; "::" may be present.
#
# Errata 2467 (rejected) and 4315 (held for an update) would let "::" stand for one group, as RFC 4291 section 2.2
# does. RFC 5952 section 4.2.2 forbids to write that, and neither erratum is in force, so two it is.
IPV6_COMP: Final = rf"(?:{_compressed(6)})"

# IPv6v4-full    = IPv6-hex 5(":" IPv6-hex) ":" IPv4-address-literal
IPV6V4_FULL: Final = rf"{IPV6_HEX}(?::{IPV6_HEX}){{5}}:{IPV4_ADDRESS_LITERAL}"

# IPv6v4-comp    = [IPv6-hex *3(":" IPv6-hex)] "::"
#                [IPv6-hex *3(":" IPv6-hex) ":"]
#                IPv4-address-literal
#                ; The "::" represents at least 2 16-bit groups of
#                ; zeros.  No more than 4 groups in addition to the
#                ; "::" and IPv4-address-literal may be present.
IPV6V4_COMP: Final = rf"(?:{_compressed(4, after=':', tail=IPV4_ADDRESS_LITERAL)})"

# IPv6-addr      = IPv6-full / IPv6-comp / IPv6v4-full / IPv6v4-comp
IPV6_ADDR: Final = rf"(?:{IPV6_FULL}|{IPV6_COMP}|{IPV6V4_FULL}|{IPV6V4_COMP})"

# IPv6-address-literal  = "IPv6:" IPv6-addr
#
# A quoted string in ABNF has no case (RFC 5234 section 2.3): ASCII case, as without the "a" flag a dotless i is an i.
IPV6_ADDRESS_LITERAL: Final = rf"(?ai:IPv6:){IPV6_ADDR}"

# Standardized-tag  = Ldh-str
#                   ; Standardized-tag MUST be specified in a
#                   ; Standards-Track RFC and registered with IANA
#
# Stricter than the production, which matches "IPv6" too and so would take any malformed IPv6 literal as a general one.
# Nor may all of it be hexadecimal digits: that is an IPv6 address without its tag, and Postfix refuses it, too. That
# any other tag is registered cannot be checked, so any is taken.
STANDARDIZED_TAG: Final = rf"(?!(?ai:IPv6:)|[0-9A-Fa-f]+:){LDH_STR}"

# dcontent       = %d33-90 / ; Printable US-ASCII
#                %d94-126 ; excl. "[", "\", "]"
DCONTENT: Final = r"[!-Z^-~]"

# General-address-literal  = Standardized-tag ":" 1*dcontent
GENERAL_ADDRESS_LITERAL: Final = rf"{STANDARDIZED_TAG}:{DCONTENT}+"

# address-literal  = "[" ( IPv4-address-literal /
#                  IPv6-address-literal /
#                  General-address-literal ) "]"
#                  ; See Section 4.1.3
ADDRESS_LITERAL: Final = rf"\[(?:{IPV4_ADDRESS_LITERAL}|{IPV6_ADDRESS_LITERAL}|{GENERAL_ADDRESS_LITERAL})\]"

# Not a production. Some mail clients on IPv6 forget the tag, and say [2001:db8::1] or [fe80::1%eth0] in EHLO and HELO,
# where it is only logged, so it is taken there, whatever it is. Never in a mailbox.
HELLO_UNTAGGED: Final = rf"\[[0-9A-Fa-f]*:{DCONTENT}+\]"

# atext          = ALPHA / DIGIT /    ; Printable US-ASCII
#                  "!" / "#" /        ;  characters not including
#                  "$" / "%" /        ;  specials.  Used for atoms.
#                  "&" / "'" /
#                  "*" / "+" /
#                  "-" / "/" /
#                  "=" / "?" /
#                  "^" / "_" /
#                  "`" / "{" /
#                  "|" / "}" /
#                  "~"
#
# RFC 5321 uses it without a definition; this one is RFC 5322 section 3.2.3.
ATEXT: Final = r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~-]"

# Atom           = 1*atext
ATOM: Final = rf"{ATEXT}+"

# Dot-string     = Atom *("."  Atom)
DOT_STRING: Final = rf"{ATOM}(?:\.{ATOM})*"

# qtextSMTP      = %d32-33 / %d35-91 / %d93-126
#                ; i.e., within a quoted string, any
#                ; ASCII graphic or space is permitted
#                ; without blackslash-quoting except
#                ; double-quote and the backslash itself.
QTEXT: Final = r"[ !#-\[\]-~]"

# quoted-pairSMTP  = %d92 %d32-126
#                  ; i.e., backslash followed by any ASCII
#                  ; graphic (including itself) or SPace
QUOTED_PAIR: Final = r"\\[ -~]"

# QcontentSMTP   = qtextSMTP / quoted-pairSMTP
#
# A whole run of it; the possessive quantifiers keep a long one from being matched in many ways.
QUOTED_CONTENT: Final = rf"(?:{QTEXT}++|{QUOTED_PAIR})*+"

# Local-part     = Dot-string / Quoted-string
#                ; MAY be case-sensitive
# Quoted-string  = DQUOTE *QcontentSMTP DQUOTE
#
# Groups: the dot-string, what stands between the quotes. That may be nothing: erratum 3135 (held for an update) would
# end this, but for the quoted-string of RFC 5322.
LOCAL_PART: Final = rf'(?:({DOT_STRING})|"({QUOTED_CONTENT})")'

# Mailbox        = Local-part "@" ( Domain / address-literal )
#
# Groups: those of LOCAL_PART, the domain or literal.
MAILBOX: Final = rf"{LOCAL_PART}@({DOMAIN}|{ADDRESS_LITERAL})"

# At-domain      = "@" Domain
AT_DOMAIN: Final = rf"@{DOMAIN}"

# A-d-l          = At-domain *( "," At-domain )
#                ; Note that this form, the so-called "source
#                ; route", MUST BE accepted, SHOULD NOT be
#                ; generated, and SHOULD be ignored.
A_D_L: Final = rf"{AT_DOMAIN}(?:,{AT_DOMAIN})*"

# Path           = "<" [ A-d-l ":" ] Mailbox ">"
PATH: Final = rf"<(?:{A_D_L}:)?{MAILBOX}>"

# Reverse-path   = Path / "<>"
REVERSE_PATH: Final = rf"(?:{PATH}|<>)"

# Forward-path   = Path
# rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" /
#                 Forward-path ) [SP Rcpt-parameters] CRLF
#
# "<Postmaster@" Domain ">" is a Path too. Groups: those of MAILBOX, a postmaster without a domain as it was spelt
# (section 4.1.1.3: in any case).
FORWARD_PATH: Final = rf"(?:{PATH}|<((?ai:Postmaster))>)"

# esmtp-keyword  = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
ESMTP_KEYWORD: Final = r"[0-9A-Za-z][0-9A-Za-z-]*"

# esmtp-value    = 1*(%d33-60 / %d62-126)
#                ; any CHAR excluding "=", SP, and control
#                ; characters.  If this string is an email address,
#                ; i.e., a Mailbox, then the "xtext" syntax [32]
#                ; SHOULD be used.
ESMTP_VALUE: Final = r"[!-<>-~]+"

# esmtp-param    = esmtp-keyword ["=" esmtp-value]
ESMTP_PARAM: Final = rf"{ESMTP_KEYWORD}(?:={ESMTP_VALUE})?"

# mail = "MAIL FROM:" Reverse-path
#                                 [SP Mail-parameters] CRLF
# Mail-parameters  = esmtp-param *(SP esmtp-param)
# Rcpt-parameters  = esmtp-param *(SP esmtp-param)
#
# What may follow a path, its first SP included. Laxer than the productions: white space may stand at the end, which
# section 4.1.1 says SHOULD be tolerated, and a run of SP counts as one, since it cannot mean anything else.
PARAMETERS: Final = rf"(?: +{ESMTP_PARAM})*[ \t]*"

# The next three: RFC 3461 section 4.
#
# xchar = any ASCII CHAR between "!" (33) and "~" (126) inclusive, except for "+" and "=".
XCHAR: Final = r"[!-*,-<>-~]"

# ; "hexchar"s are intended to encode octets that cannot appear
# ; as ASCII characters within an esmtp-value.
#
# hexchar = ASCII "+" immediately followed by two upper case hexadecimal digits
HEXCHAR: Final = r"\+[0-9A-F]{2}"

# xtext = *( xchar / hexchar )
XTEXT: Final = rf"(?:{XCHAR}++|{HEXCHAR})*+"

# RFC 1870 section 3, item 4.
#
# size-value ::= 1*20DIGIT
SIZE_VALUE: Final = r"[0-9]{1,20}"

# The rest: the values of parameters that extensions define. A quoted string in ABNF has no case, hence "(?ai:".

# RFC 3461 section 4.3.
#
# ret-value = "FULL" / "HDRS"
RET_VALUE: Final = r"(?ai:FULL|HDRS)"

# RFC 3461 section 4.1.
#
# notify-esmtp-value = "NEVER" / 1#notify-list-element
# notify-list-element = "SUCCESS" / "FAILURE" / "DELAY"
#
# The "#" of RFC 822 would allow white space and empty elements; an esmtp-value has no room for the first, and nobody
# sends the second. That an element comes once is the business of whoever reads it.
NOTIFY_VALUE: Final = r"(?ai:NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2})"

# RFC 3461 section 4.2.
#
# original-recipient-address = addr-type ";" xtext
# addr-type = atom
#
# Groups: the type, the address as xtext.
ORIGINAL_RECIPIENT: Final = rf"({ATEXT}+);({XTEXT})"

# The next six: RFC 6533 section 3.
#
# QCHAR              = %x21-2a / %x2c-3c / %x3e-5b / %x5d-7e
#                     ; ASCII printable characters except
#                     ; CTLs, SP, '\', '+', '='.
QCHAR: Final = r"[!-*,-<>-\[\]-~]"

# UTF8-non-ascii  = UTF8-2 / UTF8-3 / UTF8-4
#
# RFC 6532 section 3.1; UTF8-2 to UTF8-4 are RFC 3629 section 4, which leaves no surrogates. Stricter in two places:
# the controls U+0080 to U+009F and the line and paragraph separators U+2028 and U+2029 end lines where text is taken
# apart, so no name has them.
UTF8_NON_ASCII: Final = r"[\u00a0-\u2027\u202a-\ud7ff\ue000-\U0010ffff]"

# QUCHAR              = QCHAR / UTF8-2 / UTF8-3 / UTF8-4
QUCHAR: Final = rf"(?:{QCHAR}|{UTF8_NON_ASCII})"

# HEXPOINT = ( ( "0"/"1" ) %x31-39 ) / "10" / "20" /
#            "2B" / "3D" / "7F" /         ; all xtext-specials
#            "5C" / (HEXDIG8 HEXDIG) /    ; 2-digit forms
#            ( NZHEXDIG 2(HEXDIG) ) /     ; 3-digit forms
#            ( NZDHEXDIG 3(HEXDIG) ) /    ; 4-digit forms excluding
#            ( "D" %x30-37 2(HEXDIG) ) /  ; ... surrogate
#            ( NZHEXDIG 4(HEXDIG) ) /     ; 5-digit forms
#            ( "10" 4*HEXDIG )            ; 6-digit forms
#
# Stricter in its last line: more than six digits name no character. Controls pass here, and fail as part of a mailbox.
HEXPOINT: Final = (
    "(?ai:[01][1-9]|10|20|2B|3D|7F|5C|[8-9A-F][0-9A-F]|[1-9A-F][0-9A-F]{2}|[1-9A-CE-F][0-9A-F]{3}"
    "|D[0-7][0-9A-F]{2}|[1-9A-F][0-9A-F]{4}|10[0-9A-F]{4})"
)

# EmbeddedUnicodeChar =   %x5C.78 "{" HEXPOINT "}"
#                     ; starts with "\x"
EMBEDDED_UNICODE_CHAR: Final = rf"\\x\{{{HEXPOINT}\}}"

# utf-8-addr-xtext    = 1*(QCHAR / EmbeddedUnicodeChar)
# utf-8-addr-unitext  = 1*(QUCHAR / EmbeddedUnicodeChar)
#
# The second has the first in it; where non-ASCII characters may stand at all has been settled before this is asked.
UTF_8_ADDR_UNITEXT: Final = rf"(?:{QUCHAR}|{EMBEDDED_UNICODE_CHAR})+"

# RFC 2852 section 4.
#
# by-value = by-time";"by-mode[by-trace]
# by-time  = ["-" / "+"]1*9digit ; a negative or zero value is not allowed with a by-mode of "R"
# by-mode  = "N" / "R"           ; "Notify" or "Return"
# by-trace = "T"                 ; "Trace"
#
# Groups: time, mode, trace.
BY_VALUE: Final = r"([+-]?[0-9]{1,9});([NRnr])([Tt]?)"

# RFC 6710 section 4.
#
# priority-value = (["-"] NZDIGIT) / "0"
PRIORITY_VALUE: Final = r"(?:-?[1-9]|0)"

# RFC 4865 section 4: 1*9DIGIT seconds after HOLDFOR.
HOLDFOR_VALUE: Final = r"[0-9]{1,9}"

# RFC 3339 section 5.6.
#
# time-hour       = 2DIGIT  ; 00-23
# time-minute     = 2DIGIT  ; 00-59
# time-second     = 2DIGIT  ; 00-58, 00-59, 00-60 based on leap second rules
# time-secfrac    = "." 1*DIGIT
# time-numoffset  = ("+" / "-") time-hour ":" time-minute
# time-offset     = "Z" / time-numoffset
# date-time       = full-date "T" full-time
#
# Groups: year, month, day, hour, minute, second, fraction, and the offset's sign, hours and minutes. How many days a
# month has is the business of whoever reads it.
TIME_HOUR: Final = r"(?:[01][0-9]|2[0-3])"
TIME_OFFSET: Final = rf"(?:[Zz]|([+-])({TIME_HOUR}):([0-5][0-9]))"
DATE_TIME: Final = (
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]"
    rf"({TIME_HOUR}):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]+))?{TIME_OFFSET}"
)

# RFC 9422 section 3.
#
# limit-name = 1*(ALPHA / DIGIT / "-" / "_")
# limit-value = 1*(%x21-3A / %x3C-7E)
#
# Groups: name, value.
LIMIT: Final = r"([0-9A-Za-z_-]+)=([!-:<-~]+)"


def with_utf8(production: str) -> str:
    """`production` with what RFC 6531 section 3.3 adds; sizes and U-labels are checked by whoever uses it.

    sub-domain   =/  U-label
    atext        =/  UTF8-non-ascii
    qtextSMTP    =/  UTF8-non-ascii
    esmtp-value  =/  UTF8-non-ascii
    """
    non_ascii = UTF8_NON_ASCII[1:-1]
    label = rf"[0-9A-Za-z{non_ascii}]"
    for ascii_only, extended in (
        (SUB_DOMAIN, rf"{label}(?:[0-9A-Za-z{non_ascii}-]{{0,61}}{label})?"),
        (ATEXT, rf"[{non_ascii}{ATEXT[1:-1]}]"),
        (QTEXT, rf"[{non_ascii}{QTEXT[1:-1]}]"),
        (ESMTP_VALUE, rf"[{non_ascii}{ESMTP_VALUE[1:-2]}]+"),
    ):
        production = production.replace(ascii_only, extended)
    return production
