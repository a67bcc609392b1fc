"""A FastAPI application with a mail server in it: what arrives at SMTP, GET /messages shows.

uvicorn --app-dir docs/examples fastapi_inbox:app        HTTP on port 8000, SMTP on 127.0.0.1:2525
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import anyio
from fastapi import FastAPI
from pydantic import BaseModel

from smtpstate import Limits
from smtpstate_anyio import BoundListener, Message, serve_messages

LIMITS = Limits(message=1_000_000)


class Received(BaseModel):
    """One message, as the endpoint shows it."""

    id: str
    sender: str  # "" is the null reverse-path
    recipients: list[str]
    content: str


class Inbox:
    """The last hundred messages, and the server that takes them in."""

    def __init__(self, *listen: str) -> None:
        self.messages: deque[Received] = deque(maxlen=100)
        self.bound: list[BoundListener] = []  # where it listens, once it does
        self._listen = listen

    async def keep(self, message: Message) -> None:
        content = b"".join([piece async for piece in message.body])
        self.messages.append(
            Received(
                id=message.id,
                sender=message.sender.address,
                recipients=[recipient.address for recipient in message.recipients],
                content=content.decode("utf-8", "replace"),
            )
        )

    async def show(self) -> list[Received]:
        return list(self.messages)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        """The server listens before the first request is answered, and has finished when the application ends."""
        stop = anyio.Event()
        serve = partial(
            serve_messages,
            self.keep,
            *self._listen,
            hostname="mx.example.org",
            domains=("example.org",),
            limits=LIMITS,
            stop=stop,
            grace=5,
        )
        async with anyio.create_task_group() as group:
            self.bound = await group.start(serve)  # raises what keeps it from listening
            yield
            stop.set()  # lets a message that is under way come to its end; an exception would cancel, and drain, too


def application(*listen: str) -> FastAPI:
    inbox = Inbox(*listen)
    app = FastAPI(title="Inbox", lifespan=inbox.lifespan)
    app.state.inbox = inbox
    app.add_api_route("/messages", inbox.show, methods=["GET"])
    return app


app = application("127.0.0.1:2525")
