"""What models on a provider's own SDK have in common: a client for each event loop, and how its streams are read."""

import email.utils
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import RunVar

from agentflow.errors import ConfigError, ModelError, ModelErrorKind
from agentflow.models.base import CallSite, Model, ModelResponse, OnChunk, check_allowed

Parse = Callable[[bytes, bytes], Any]
"""Name and data of a server-sent event to the event, or `None` if it says nothing; raises what the event is, if it is
an error."""


_BY_STATUS: dict[int, ModelErrorKind] = {
    400: "bad_request",
    401: "auth",
    402: "billing",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "server",
    413: "too_large",
    422: "bad_request",
    429: "rate_limit",
    504: "timeout",
    529: "overloaded",
}


class _Open:
    """What one event loop holds open."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.client: Any = None
        self.own = False


class SdkModel(Model):
    """A model whose provider's SDK does the talking: one client per event loop, made when it is first needed."""

    def __init__(self, name: str, api_key: str | None, base_url: str | None) -> None:
        owner = type(self).__name__
        if api_key is not None and not isinstance(api_key, str):  # it isn't shown: it may be one all the same
            raise ConfigError(f"{owner}: api_key must be text, not {type(api_key).__name__}")
        if base_url is not None and not isinstance(base_url, str):
            raise ConfigError(f"{owner}: base_url must be text, not {base_url!r}")
        self.name = name
        self._api_key = api_key
        self._base_url = base_url
        self._open: RunVar[_Open] = RunVar(f"agentflow client of {name}")

    @abstractmethod
    async def _make(self) -> tuple[Any, bool]:
        """A client, and whether it is to be closed."""

    async def _client(self) -> Any:
        held = self._open.get(None)
        if held is None:
            held = _Open()
            self._open.set(held)
        if held.client is None:
            async with held.lock:
                if held.client is None:
                    held.client, held.own = await self._make()
        check_allowed(f"model {self.name!r}", urlsplit(str(held.client.base_url)).hostname or "")
        return held.client

    async def aclose(self) -> None:
        """Close this event loop's client, unless it was given by the user; it is made again when it is needed."""
        held = self._open.get(None)
        if held is not None and held.client is not None:
            client, held.client = held.client, None
            if held.own:
                await client.close()


class EventReader:
    """Server-sent events out of bytes, as they come.

    The SDKs' own can't be left in the middle on trio: their generators, each inside of another, would be left to the
    garbage collector.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._name = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Names and data of the events that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = []
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].lstrip(b" "))
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()
            elif not line and (self._data or self._name):
                events.append((self._name, b"\n".join(self._data)))
                self._name, self._data = b"", []
        return events


class Growing(Protocol):
    """An answer that is put together from events."""

    finished: bool

    def feed(self, event: Any) -> ModelResponse | None:
        """Take in an event; gives what can be shown of it."""

    def response(self) -> ModelResponse:
        """The whole answer, or what is wrong with it."""

    def used(self) -> Any:
        """What was charged so far, where that is known."""


async def read_answer(
    stream: Any,
    answer: Growing,
    on_chunk: OnChunk | None,
    parse: Parse,
    translate: Callable[[Exception], ModelError],
    site: CallSite | None,
) -> ModelResponse:
    """Read a stream of the SDK's to its end, and close the connection if that isn't reached.

    Args:
        stream: The SDK's `AsyncStream`, of which nothing was read.
        answer: Takes the events.
        on_chunk: Gets the pieces.
        parse: Makes an event of its name and data.
        translate: Makes a `ModelError` of what reading raised.
        site: Is told what was charged, where the reading is broken off from outside.
    """
    response = stream.response
    reader = EventReader() if response.headers.get("content-type", "").startswith("text/event-stream") else None
    # Bedrock has a format of its own, which only the SDK reads.
    pieces = aiter(stream) if reader is None else response.aiter_bytes()
    try:
        while True:
            try:
                piece = await anext(pieces, None)
                events = _events(piece, reader, parse)
            except Exception as raised:
                if answer.finished:
                    return answer.response()  # all of it was there
                error = raised if isinstance(raised, ModelError) else translate(raised)
                error.usage = answer.used()
                if error is raised:
                    raise
                raise error from raised
            if piece is None:
                return answer.response()
            for event in events:
                chunk = answer.feed(event)
                if chunk is not None and on_chunk is not None:
                    await on_chunk(chunk)
    except ModelError:
        raise
    except BaseException:
        if site is not None:
            site.lose(answer.used())
        raise
    finally:
        if not response.is_closed:
            with anyio.move_on_after(5, shield=True):
                await _shut(response, pieces)


def text_of(value: Any) -> str:
    """`value`, which the provider says is text.

    Raises:
        TypeError: It isn't.
    """
    if type(value) is not str:
        raise TypeError(f"{value!r} is no text")
    return value


def mapping_of(value: Any) -> dict[str, Any]:
    """`value`, which the provider says is an object.

    Raises:
        TypeError: It isn't.
    """
    if type(value) is not dict:
        raise TypeError(f"{value!r} is no object")
    return value


def count_of(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    return value if type(value) is int and value > 0 else 0


def _events(piece: Any, reader: EventReader | None, parse: Parse) -> list[Any]:
    if piece is None:
        return []
    if reader is None:
        return [piece]
    parsed = [parse(name, data) for name, data in reader.feed(piece)]
    return [event for event in parsed if event is not None]


async def _shut(response: Any, pieces: Any) -> None:
    """Close the connection of an answer that isn't read to its end, and let the generators that read it run out."""
    try:
        await response.aclose()
        async for _ in pieces:
            pass
    except Exception:
        pass


def kind_of_status(status: int) -> ModelErrorKind:
    """What an HTTP status says went wrong, where nothing says more."""
    return _BY_STATUS.get(status) or ("bad_request" if 400 <= status < 500 else "server")


def retry_after(headers: Any) -> float | None:
    """Seconds that the provider asks to wait, by its headers."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            when = email.utils.parsedate_tz(value)
            if when is not None:
                return max(0.0, email.utils.mktime_tz(when) - time.time())
    return None
