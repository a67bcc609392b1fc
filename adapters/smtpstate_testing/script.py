"""Servers and clients written as tables, that misbehave on purpose. Every public name, one line each.

    greylisting = Script(on(Rcpt("bob@*")).reply(451).then(250), after(Data).drop(), slow(octets_per_second=10))

The names of commands are here as patterns, with wildcards where there is something to compare.
"""

from smtpstate import AuthResponse as AuthResponse
from smtpstate import Bdat as Bdat
from smtpstate import Connected as Connected
from smtpstate import Data as Data
from smtpstate import EndOfMessage as EndOfMessage
from smtpstate import Help as Help
from smtpstate import Noop as Noop
from smtpstate import Quit as Quit
from smtpstate import Rset as Rset
from smtpstate import StartTls as StartTls
from smtpstate_testing._client_script import ClientScript as ClientScript
from smtpstate_testing._patterns import Auth as Auth
from smtpstate_testing._patterns import Ehlo as Ehlo
from smtpstate_testing._patterns import Expn as Expn
from smtpstate_testing._patterns import Helo as Helo
from smtpstate_testing._patterns import Lhlo as Lhlo
from smtpstate_testing._patterns import Line as Line
from smtpstate_testing._patterns import Mail as Mail
from smtpstate_testing._patterns import Rcpt as Rcpt
from smtpstate_testing._patterns import Vrfy as Vrfy
from smtpstate_testing._player import Played as Played
from smtpstate_testing._rows import Row as Row
from smtpstate_testing._rows import after as after
from smtpstate_testing._rows import garbage as garbage
from smtpstate_testing._rows import on as on
from smtpstate_testing._rows import slow as slow
from smtpstate_testing._rows import stall_handshake as stall_handshake
from smtpstate_testing._script import Course as Course
from smtpstate_testing._script import Script as Script
from smtpstate_testing._script_server import ScriptServer as ScriptServer
from smtpstate_testing._scripted_pair import ScriptedPair as ScriptedPair
