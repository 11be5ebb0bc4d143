"""How the bytes of `FakeAnthropic` travel: as an HTTP transport in this process, or over a socket of this machine."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anthropic
import anyio
import httpx2
from anyio.abc import SocketAttribute, SocketStream
from anyio.lowlevel import checkpoint

from agentflow.testing.fake_anthropic import FakeAnthropic, Received, Reply

_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


def make_client(fake: FakeAnthropic) -> anthropic.AsyncAnthropic:
    """The real client, on a transport that ends at the fake."""
    return anthropic.AsyncAnthropic(
        api_key="sk-ant-fake",
        base_url="http://anthropic.invalid",
        max_retries=0,
        open_telemetry=False,
        http_client=make_http_client(fake),
    )


def make_http_client(fake: FakeAnthropic) -> httpx2.AsyncClient:
    """An HTTP client that ends at the fake."""
    return httpx2.AsyncClient(transport=_Transport(fake))


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, fake: FakeAnthropic) -> None:
        self.fake = fake

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(await request.aread() or b"{}")
        await checkpoint()
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.method, request.url.raw_path.decode(), headers, body)
        reply = self.fake.take(received)
        if reply.error is not None or not received.streams:
            return httpx2.Response(reply.status, headers=reply.headers, content=reply.body())
        patience = (request.extensions.get("timeout") or {}).get("read")
        return httpx2.Response(reply.status, headers=reply.headers, stream=_Stream(self.fake, reply, patience))


class _Stream(httpx2.AsyncByteStream):
    """A reply on its way. What the SDK reads stops when it is closed, as a socket does."""

    def __init__(self, fake: FakeAnthropic, reply: Reply, patience: float | None) -> None:
        self.fake = fake
        self.reply = reply
        self.patience = patience
        self.closed = False
        fake.open_streams += 1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, frame in enumerate(self.reply.frames()):
            if self.reply.pace is not None:
                await self.reply.pace(number)
            await checkpoint()
            self._check()
            yield frame
            self._check()  # at once, and not when the next frame is due, which may be never
        if self.reply.failure == "drop":
            raise httpx2.ReadError("connection reset by peer")
        if self.reply.failure == "stall":
            with anyio.move_on_after(self.patience):
                await anyio.sleep_forever()
            raise httpx2.ReadTimeout("nothing came")

    def _check(self) -> None:
        if self.closed:
            raise httpx2.ReadError("the connection is closed")

    async def aclose(self) -> None:
        if not self.closed:
            self.closed = True
            self.fake.open_streams -= 1


@asynccontextmanager
async def serving(fake: FakeAnthropic) -> AsyncGenerator[str]:
    """A small HTTP/1.1 server in front of the fake."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, lambda stream: _talk(fake, stream))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            tasks.cancel_scope.cancel()


async def _talk(fake: FakeAnthropic, stream: SocketStream) -> None:
    """One connection, request after request, until it is closed or broken."""
    fake.connections += 1
    async with stream:
        with suppress(*_GONE):
            buffered, goes_on = b"", True
            while goes_on:
                request, buffered = await _receive(stream, buffered)
                reply = fake.take(request)
                fake.open_streams += 1
                try:
                    goes_on = await _send(stream, reply, streamed=request.streams)
                finally:
                    fake.open_streams -= 1


async def _receive(stream: SocketStream, buffered: bytes) -> tuple[Received, bytes]:
    while b"\r\n\r\n" not in buffered:
        buffered += await stream.receive()
    head, _, buffered = buffered.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    size = int(headers.get("content-length", "0"))
    while len(buffered) < size:
        buffered += await stream.receive()
    body: dict[str, Any] = json.loads(buffered[:size] or b"{}")
    return Received(method, path, headers, body), buffered[size:]


async def _send(stream: SocketStream, reply: Reply, *, streamed: bool) -> bool:
    """Send a reply; whether the connection can be used again."""
    head = [f"HTTP/1.1 {reply.status} Fake", *(f"{name}: {value}" for name, value in reply.headers.items())]
    if reply.error is not None or not streamed:
        body = reply.body()
        await stream.send("\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body)
        return True
    await stream.send("\r\n".join([*head, "transfer-encoding: chunked", "", ""]).encode())
    whole = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch, stream, tasks.cancel_scope)
        with suppress(*_GONE):
            for number, frame in enumerate(reply.frames()):
                if reply.pace is not None:
                    await reply.pace(number)
                await stream.send(b"%x\r\n%s\r\n" % (len(frame), frame))
            if reply.failure == "stall":
                await anyio.sleep_forever()
            if reply.failure != "drop":
                await stream.send(b"0\r\n\r\n")
                whole = True
        tasks.cancel_scope.cancel()
    return whole


async def _watch(stream: SocketStream, scope: anyio.CancelScope) -> None:
    """Stop sending when the client goes away, which it may do while it waits."""
    with suppress(*_GONE):
        await stream.receive()
        return
    scope.cancel()
