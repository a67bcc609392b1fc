"""The client procedures: what a driver of your own runs to open a session, to log in, and to send a message.

A procedure is a generator that does no I/O. `Wants` and `Work` say what it may ask for, `Procedure` what it is; what a
message became is a `smtpstate.Delivery`. docs/embed.md drives one by hand. Every name, one line each.
"""

from smtpstate._authentication import AuthenticationFailed as AuthenticationFailed
from smtpstate._authentication import authenticate as authenticate
from smtpstate._batches import Batches as Batches
from smtpstate._delivery import Envelope as Envelope
from smtpstate._delivery import Procedure as Procedure
from smtpstate._delivery import Wants as Wants
from smtpstate._delivery import Work as Work
from smtpstate._delivery import ask as ask
from smtpstate._delivery import open_session as open_session
from smtpstate._delivery import quit_session as quit_session
from smtpstate._delivery import send_message as send_message
from smtpstate._envelope import Recipient as Recipient
from smtpstate._envelope import recipients_of as recipients_of
