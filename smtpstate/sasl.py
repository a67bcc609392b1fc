"""SASL for drivers of your own: mechanisms in both seats, what their steps can be, and what is kept of a password.

A client chooses a mechanism with `choose` and gives it to `smtpstate.delivery.authenticate`. A server makes one for
each `Auth` with `server_mechanism`, and takes its steps: a `Challenge` goes out by `ServerConnection.challenge`, the
questions `PasswordGiven`, `KeysNeeded`, `TokenGiven` and `CertificateGiven` are answered by `answer`, `Success` is told
to `authenticated`, and a `Failure` has its reply. Every name, one line each.
"""

from smtpstate._choice import SERVER_MECHANISMS as SERVER_MECHANISMS
from smtpstate._choice import choose as choose
from smtpstate._choice import server_mechanism as server_mechanism
from smtpstate._keys import MIN_ITERATIONS as MIN_ITERATIONS
from smtpstate._keys import ChannelBinding as ChannelBinding
from smtpstate._keys import ScramKeys as ScramKeys
from smtpstate._keys import WorkNeeded as WorkNeeded
from smtpstate._keys import channel_bindings as channel_bindings
from smtpstate._keys import password_work as password_work
from smtpstate._keys import unknown_keys as unknown_keys
from smtpstate._questions import challenge_of as challenge_of
from smtpstate._sasl import MAX_NAME as MAX_NAME
from smtpstate._sasl import CertificateGiven as CertificateGiven
from smtpstate._sasl import Challenge as Challenge
from smtpstate._sasl import ClientMechanism as ClientMechanism
from smtpstate._sasl import ClientStep as ClientStep
from smtpstate._sasl import Credentials as Credentials
from smtpstate._sasl import Done as Done
from smtpstate._sasl import Failure as Failure
from smtpstate._sasl import KeysNeeded as KeysNeeded
from smtpstate._sasl import PasswordGiven as PasswordGiven
from smtpstate._sasl import Respond as Respond
from smtpstate._sasl import SaslFault as SaslFault
from smtpstate._sasl import ServerMechanism as ServerMechanism
from smtpstate._sasl import ServerStep as ServerStep
from smtpstate._sasl import Success as Success
from smtpstate._sasl import TokenGiven as TokenGiven
from smtpstate._sasl import read_name as read_name
