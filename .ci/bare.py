"""Run by .ci/run in an environment that holds the wheel alone: the core and `smtpstate_asyncio` need nothing else."""

import sys
from importlib.metadata import distributions
from pathlib import Path

import smtpstate
import smtpstate_asyncio
import smtpstate_blocking
import smtpstate_parts
from smtpstate import Connected, ServerConfig, ServerConnection

others = {distribution.name for distribution in distributions()} - {"smtpstate", "pip", "setuptools"}
assert not others, others
assert Path(smtpstate.__file__).is_relative_to(sys.prefix), smtpstate.__file__
for module in (smtpstate, smtpstate_parts, smtpstate_asyncio, smtpstate_blocking):
    assert Path(module.__file__ or "").with_name("py.typed").exists()

connection = ServerConnection(ServerConfig(hostname="mx.example.org"), clock=lambda: 0.0)
assert isinstance(connection.next_event(), Connected)
connection.accept()
greeting = connection.data_to_send()
assert greeting.startswith(b"220 mx.example.org"), greeting
sys.stdout.write(f"{smtpstate.__name__} greets: {greeting.decode()}")
