"""What a connection tells whoever follows it. Every public name, one line each.

Give a connection a `trace`, and it is called with each record as it comes: a line that was said, as far as it is no
secret (bodies are counted); a new phase; a verdict; a budget that is spent. It must not call the connection.
"""

from smtpstate._events import TraceLine as TraceLine
from smtpstate._trace import Trace as Trace
from smtpstate._trace import TraceBudget as TraceBudget
from smtpstate._trace import TracePhase as TracePhase
from smtpstate._trace import TraceRecord as TraceRecord
from smtpstate._trace import TraceVerdict as TraceVerdict
from smtpstate._trace import render as render
