"""A nested parallel run in the browser, live. Run: `uvicorn app:app --app-dir examples/web`, then open the address.

A run goes on when its page is closed, and a page that comes back goes on where it was.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from panel import panel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from agentflow import Run, Runner
from agentflow.errors import InvalidCursor
from agentflow.wire.sse import HEADERS, KEEP_ALIVE, MEDIA_TYPE, Cursor, SseEncoder

readers: dict[str, Run] = {}


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("page.html"))


async def start(request: Request) -> Response:
    message = (await request.body()).decode()
    async with request.app.state.runner.run(message, on_consumer_gone="detach") as run:
        return JSONResponse({"run": run.id})  # leaving the block detaches it: it goes on


async def events(request: Request) -> Response:
    try:
        cursor = Cursor.parse(request.headers.get("last-event-id"))
    except InvalidCursor as error:
        return PlainTextResponse(str(error), status_code=400)
    run_id: str = request.path_params["run"]
    if run_id in readers:  # its connection is lost, and we have not heard of it yet
        await readers[run_id].aclose()
    frames = follow(request.app.state.runner.attach(run_id, after=cursor.position), run_id, SseEncoder(cursor))
    return StreamingResponse(frames, media_type=MEDIA_TYPE, headers=HEADERS)


async def follow(run: Run, run_id: str, stream: SseEncoder) -> AsyncIterator[bytes]:
    yield stream.retry(200)
    try:
        async with run:
            readers[run_id] = run
            while True:
                event = None
                with anyio.move_on_after(15) as silence:
                    event = await anext(run, None)
                if event is not None:
                    yield stream.event(event)
                elif silence.cancelled_caught:
                    yield KEEP_ALIVE
                else:
                    break
            if run.status != "running":  # or another connection has taken over
                yield stream.end(run.status)
    except Exception as error:
        yield stream.end("error", error=str(error))
    finally:
        if readers.get(run_id) is run:
            del readers[run_id]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with Runner(panel()) as app.state.runner:
        yield


app = Starlette(
    routes=[Route("/", page), Route("/runs", start, methods=["POST"]), Route("/runs/{run}/events", events)],
    lifespan=lifespan,
)
