"""Counterpart: plays one side of a dialogue, and holds the other to it."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

from smtpstate_testing._dialogue import Act, Side, Step

if TYPE_CHECKING:
    from collections.abc import Sequence


@final
class Mismatch(AssertionError):
    """The side under test said something else, or nothing, or went away."""


@final
class Counterpart:
    """Plays one side of a dialogue, and holds the other to it. Without I/O; its TLS is Python's own, not `tls.secure`.

    What a server has to say is compared line by line: each line here begins a line of the reply, and the codes are the
    same; so a test does not hang on the wording. What a client has to say is compared octet by octet. `receive` raises
    Mismatch. When the dialogue is over it closes, unless that ends with "stay", and nothing more may be said to it.
    """

    def __init__(
        self,
        side: Side,
        steps: Sequence[Step],
        *,
        context: ssl.SSLContext | None = None,
        hostname: str = "mx.example.org",
    ) -> None:
        self.side: Final[Side] = side
        self.ends: Act | None = None  # what to do once all is sent
        self.eof: bool = False  # the other side has closed
        self._steps: Final = tuple(steps)
        self._context: Final = context
        self._hostname: Final = hostname
        self._position: int = 0
        self._heard: bytes = b""
        self._out: list[bytes] = []
        self._tls: ssl.SSLObject | None = None
        self._shaking: bool = False
        self._drops: bool = False
        self._farewell: bool = False  # the other side's close_notify has come
        self._from_wire: Final = ssl.MemoryBIO()
        self._to_wire: Final = ssl.MemoryBIO()
        self._advance()

    @property
    def finished(self) -> bool:
        """Whether the whole dialogue was played."""
        return self._position == len(self._steps)

    def to_send(self) -> bytes:
        """The next piece for the other side, b"" when there is none."""
        return self._out.pop(0) if self._out else b""

    def receive(self, data: bytes) -> None:
        """What the other side has sent; b"" when it has closed. Raises Mismatch."""
        if not data:
            self.eof = True
        elif self._tls is None:
            self._heard += data
        else:
            self._from_wire.write(data)
        self._advance()
        if self.eof and not self.finished:
            raise Mismatch(self.explain("the connection was closed"))
        lenient = self._drops or self.ends is Act.RESET  # nothing can follow what has left in part
        if self.eof and self._tls is not None and not (self._farewell or lenient):
            raise Mismatch(self.explain("TLS was cut off without a close_notify"))

    def check_finished(self) -> None:
        """Raises Mismatch unless all was played."""
        if not self.finished:
            raise Mismatch(self.explain("nothing more came"))

    def _advance(self) -> None:
        while not self.finished:
            self._decrypt()
            step = self._steps[self._position]
            if step.act is Act.TLS:
                if not self._shake_hands():
                    return
            elif step.side == self.side:
                self._do(step)
            elif step.act is Act.SAY:
                if not self._hears(step.octets):
                    return
            elif step.act in (Act.FIN, Act.RESET) and not self.eof:
                return
            self._position += 1
        self._decrypt()
        if self._drops:
            self._heard = b""
        if self._heard:
            raise Mismatch(self.explain(f"it went on: {self._heard!r}"))
        if self.ends is None:
            self._do(Step(self.side, Act.FIN))

    def _do(self, step: Step) -> None:
        if step.act is Act.SAY and self._tls is not None:
            self._tls.write(step.octets)
            self._flush()
        elif step.act is Act.SAY:
            self._out.append(step.octets)
        elif step.act is Act.DROP:
            self._drops = True
        else:
            self.ends = step.act
            if step.act is Act.FIN and self._tls is not None and not self._shaking:
                with suppress(ssl.SSLError):
                    self._tls.unwrap()  # it need not be answered
                self._flush()

    def _hears(self, expected: bytes) -> bool:
        """Whether all of what is expected has come. Raises Mismatch."""
        heard = self._heard
        if self.side == "S":
            if not (heard.startswith(expected) or expected.startswith(heard)):
                raise Mismatch(self.explain(f"it said {heard!r}"))
            self._heard = heard[len(expected) :]
            if len(heard) < len(expected):
                self._heard = heard
                return False
            return True
        lines = heard.split(b"\r\n")[:-1]
        length = next((number for number, line in enumerate(lines, 1) if line[3:4] != b"-"), 0)
        if not length:
            return False
        reply = lines[:length]
        for line in expected.splitlines():
            if not any(said[:3] == line[:3] and said[4:].startswith(line[4:]) for said in reply):
                raise Mismatch(self.explain(f"it said {reply!r}"))
        self._heard = b"\r\n".join(heard.split(b"\r\n")[length:])
        return True

    # TLS.

    def _shake_hands(self) -> bool:
        if self._tls is None:
            assert self._context is not None, "this dialogue needs a context"
            self._shaking = True
            self._tls = self._context.wrap_bio(
                self._from_wire,
                self._to_wire,
                server_side=self.side == "S",
                server_hostname=None if self.side == "S" else self._hostname,
            )
            self._from_wire.write(self._heard)
            self._heard = b""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise Mismatch(self.explain(f"the handshake failed: {error.reason}")) from error
        else:
            self._shaking = False
            return True
        finally:
            self._flush()

    def _decrypt(self) -> None:
        if self._tls is None or self._shaking:
            return
        try:
            while data := self._tls.read(65_536):
                self._heard += data
            self._farewell = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # where we have said goodbye, too
            self._farewell = True
        except ssl.SSLError as error:
            raise Mismatch(self.explain(f"that is no TLS of this session: {error.reason}")) from error
        finally:
            self._flush()

    def _flush(self) -> None:
        if data := self._to_wire.read():
            self._out.append(data)

    def explain(self, what: str) -> str:
        played = "\n".join(map(str, self._steps[: self._position]))
        due = str(self._steps[self._position]) if not self.finished else "the end"
        return f"{what}, where this was due:\n{due}\nafter:\n{played}"
