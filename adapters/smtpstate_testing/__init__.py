"""smtpstate for tests: virtual time, two machines joined in memory, and a real server for code that sends mail."""

from smtpstate_testing._check_driver import check_async_driver as check_async_driver
from smtpstate_testing._check_driver import check_driver as check_driver
from smtpstate_testing._clock import ManualClock as ManualClock
from smtpstate_testing._inbox import ReceivedMessage as ReceivedMessage
from smtpstate_testing._inbox import SmtpServer as SmtpServer
from smtpstate_testing._link import Input as Input
from smtpstate_testing._pair import Pair as Pair
from smtpstate_testing._prompter import PromptedPair as PromptedPair
from smtpstate_testing._recording import Handler as Handler
from smtpstate_testing._recording import Recording as Recording
from smtpstate_testing._recording import Replayed as Replayed
from smtpstate_testing._recording import accept_everything as accept_everything
from smtpstate_testing._recording import replay as replay
from smtpstate_testing._retrace import retrace as retrace
from smtpstate_testing._run_transcript import run_transcript as run_transcript
