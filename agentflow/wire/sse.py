"""A run as Server-Sent Events or as lines of JSON, with a cursor to go on from. No I/O.

A browser's `EventSource` reconnects by itself and says where it was (`Last-Event-ID`). So that nothing is lost or comes
twice, each frame has as its id the `Cursor` of its event:

```python
cursor = Cursor.parse(request.headers.get("last-event-id"))
stream = SseEncoder(cursor)
async with runner.attach(run_id, after=cursor.position) as run:
    async for event in run:
        yield stream.event(event)
    yield stream.end(run.result.status)
```
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agentflow.errors import InvalidCursor
from agentflow.events import Event

MEDIA_TYPE = "text/event-stream"
NDJSON_MEDIA_TYPE = "application/x-ndjson"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What a response of either kind should carry, or proxies keep it back."""
KEEP_ALIVE = b": \n\n"
"""A comment: it tells proxies that the connection lives, and clients nothing. Send one every 15 seconds of silence."""

_CURSOR = re.compile(r"(\d{1,18})(?:\.(\d{1,18}))?", re.ASCII)
_MARK = b"\xef\xbb\xbf"
_MOST = 64 * 1024 * 1024


class Cursor(NamedTuple):
    """How far a reader has got. To clients it is opaque text: `str(cursor)`, and back with `parse`.

    Attributes:
        position: The `serial` of the last stored event that was sent; what `runner.attach(after=...)` takes.
        piece: How many partial events have been sent since. They are not stored, so a reader who was away misses those
            that came meanwhile, and gets the whole that they are pieces of.
    """

    position: int = 0
    piece: int = 0

    def __str__(self) -> str:
        return f"{self.position}.{self.piece}" if self.piece else f"{self.position}"

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """The cursor that `str` wrote; that of the beginning for `None` and empty text.

        Raises:
            InvalidCursor: It is no cursor: an HTTP server answers 400.
        """
        if not text:
            return cls()
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise InvalidCursor(f"{text[:40]!r} is no position in a run: send back the id of the last event as it came")
        return cls(int(found[1]), int(found[2] or 0))

    def then(self, event: Event) -> "Cursor":
        """The cursor after `event`."""
        if event.serial is None:
            return Cursor(self.position, self.piece + 1)
        return Cursor(max(self.position, event.serial), 0)


class SseEncoder:
    """Makes the frames of one response. One frame for each event, so that no buffering is needed.

    Args:
        cursor: Where the reader was: its ids go on from there.
    """

    def __init__(self, cursor: Cursor | None = None) -> None:
        self.cursor = cursor or Cursor()

    def retry(self, milliseconds: int) -> bytes:
        """Tell the client how long to wait before it reconnects; to be sent first, if at all."""
        return b"retry: %d\n\n" % milliseconds

    def event(self, event: Event) -> bytes:
        """An event: a message (what `EventSource.onmessage` hears), its JSON as data, the cursor as id."""
        self.cursor = self.cursor.then(event)
        return f"id: {self.cursor}\ndata: {event.to_json()}\n\n".encode()

    def end(self, status: str, *, error: str = "") -> bytes:
        """The end of the run: an event named `end`, with `{"status": ..., "error": ...}` as data.

        An `EventSource` must be closed when it hears it; otherwise it reconnects for ever.
        """
        return f"event: end\nid: {self.cursor}\ndata: {_ending(status, error)}\n\n".encode()


class NdjsonEncoder:
    """The same as lines of JSON: `{"cursor": "7", "event": {...}}`, and at the end `{"cursor": "9", "end": {...}}`.

    Args:
        cursor: Where the reader was.
    """

    def __init__(self, cursor: Cursor | None = None) -> None:
        self.cursor = cursor or Cursor()

    def event(self, event: Event) -> bytes:
        """An event as a line."""
        self.cursor = self.cursor.then(event)
        return f'{{"cursor":"{self.cursor}","event":{event.to_json()}}}\n'.encode()

    def keep_alive(self) -> bytes:
        """An empty line, which readers skip."""
        return b"\n"

    def end(self, status: str, *, error: str = "") -> bytes:
        """The end of the run as a line."""
        return f'{{"cursor":"{self.cursor}","end":{_ending(status, error)}}}\n'.encode()


def _ending(status: str, error: str) -> str:
    return json.dumps({"status": status, "error": error} if error else {"status": status}, ensure_ascii=False)


@dataclass(slots=True)
class Frame:
    """A frame as a client reads it.

    Attributes:
        data: Its data lines, joined.
        event: Its name; `message` if it had none.
        id: The last id that was sent, in this frame or before.
    """

    data: str
    event: str = "message"
    id: str = ""


class SseDecoder:
    """Reads frames from a response's bytes, in whatever pieces they come, by the rules of the HTML standard.

    Attributes:
        last_id: To be sent as `Last-Event-ID` when reconnecting.
        retry: Milliseconds to wait before that, where the server said so.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: int | None = None
        self._begun = False
        self._parts: list[bytes] = []
        self._after_return = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that are complete with these bytes.

        Raises:
            ValueError: One is larger than 64 MiB.
        """
        frames = []
        for line in self._lines(chunk):
            if line:
                self._field(line)
                continue
            if self._data:
                frames.append(Frame("\n".join(self._data), self._name or "message", self.last_id))
            self._name, self._data, self._size = "", [], 0
        return frames

    def _lines(self, chunk: bytes) -> Iterator[str]:
        if not self._begun:
            chunk = b"".join([*self._parts, chunk])
            if _MARK.startswith(chunk):  # it may be, or become, a byte order mark
                self._parts = [chunk]
                return
            self._begun, self._parts = True, []
            chunk = chunk.removeprefix(_MARK)
        if self._after_return and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_return = False
        self._after_return = self._after_return or chunk.endswith(b"\r")
        first, *more = re.split(b"\r\n|\r|\n", chunk)
        self._part(first)
        for line in more:
            yield b"".join(self._parts).decode("utf-8", "replace")
            self._parts = []
            self._part(line)

    def _part(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > _MOST:
            raise ValueError(f"a frame is larger than {_MOST:,} bytes")

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)
