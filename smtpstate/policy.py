"""What is done about what breaks the rules.

A `Policy` is for lines that break the grammar and are understood all the same: commands, replies, EHLO keywords.
`ServerConfig(hostname, policy=STRICT)` and `ClientConnection(hostname, policy=STRICT, ...)` are the RFCs to the letter.
`MX` is the default, for mail from and to everywhere. Your own begins with one of the two:
`MX.but(Treatment.REJECT, Deviation.BARE_LF)`.

`Leftover` is about octets that came in clear with STARTTLS, or with its 220.
`WireRules` are for octets, whatever they say: `ServerConfig(hostname, wire=WireRules(BareNewline.REJECT))`. They also
have what no mail client does: commands that are `Forbidden`, and `EarlyInput`, where it has to wait for a reply.
"""

from smtpstate._forbidden import FORBIDDEN as FORBIDDEN
from smtpstate._forbidden import Forbidden as Forbidden
from smtpstate._newlines import BareNewline as BareNewline
from smtpstate._policy import MX as MX
from smtpstate._policy import STRICT as STRICT
from smtpstate._policy import Deviation as Deviation
from smtpstate._policy import EarlyInput as EarlyInput
from smtpstate._policy import Leftover as Leftover
from smtpstate._policy import Policy as Policy
from smtpstate._policy import Treatment as Treatment
from smtpstate._wire import WireRules as WireRules
