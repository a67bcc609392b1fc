"""The PROXY protocol for drivers of your own: a `ProxyReader` reads its header, before TLS and before SMTP.

It is driven like a connection, and leaves what came after the header in `trailing_data`. Every name, one line each.
"""

from smtpstate._networks import Network as Network
from smtpstate._networks import parse_networks as parse_networks
from smtpstate._networks import trusted as trusted
from smtpstate._proxy import MAX_SECONDS as MAX_SECONDS
from smtpstate._proxy import ProxyEvent as ProxyEvent
from smtpstate._proxy import ProxyFault as ProxyFault
from smtpstate._proxy import ProxyHeader as ProxyHeader
from smtpstate._proxy import ProxyReader as ProxyReader
from smtpstate._proxy import ProxyVersion as ProxyVersion
from smtpstate._proxy import Tlv as Tlv
from smtpstate._proxy import TlvType as TlvType
