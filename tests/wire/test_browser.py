"""The web example in a real browser whose connection is cut again and again."""

import html
import importlib
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from tests.browser import dom, needs_chromium

HERE = Path(__file__).parents[2] / "examples" / "web"
WAIT = """
<script>
// The page counts as loaded when this picture is: when the run has ended.
const picture = document.body.appendChild(new Image());
picture.src = "/held";
const ended = new MutationObserver(() => { if (document.body.dataset.ended) fetch("/release"); });
ended.observe(document.body, {attributes: true});
ASK
</script>
"""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example, and a page that says when it is done."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    monkeypatch.syspath_prepend(str(HERE))
    module = importlib.import_module("app")
    yield module
    for name in ("app", "panel"):
        sys.modules.pop(name, None)


def with_wait(module: Any, ask: str = 'ask("Shall we?")') -> Any:
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    released = anyio.Event()

    async def page(request: object) -> Response:
        script = WAIT.replace("ASK", ask)
        return HTMLResponse((HERE / "page.html").read_text(encoding="utf-8").replace("</body>", script + "</body>"))

    async def held(request: object) -> Response:
        await released.wait()
        return Response(b"", media_type="image/png")

    async def release(request: object) -> Response:
        released.set()
        return Response()

    module.app.router.routes[0:0] = [Route("/test", page), Route("/held", held), Route("/release", release)]
    return module.app


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    """The app on a port of this machine."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server._serve, [listener])  # without its signal handlers
            with anyio.fail_after(30):
                while not server.started:  # noqa: ASYNC110 - it has no event for it
                    await anyio.sleep(0.01)
            yield listener.getsockname()[1]
            server.should_exit = True


class Wire:
    """Between browser and server: cuts the connections that carry events, each after some bytes."""

    def __init__(self, port: int, *, cuts: int, seed: int) -> None:
        self._port = port
        self._left = cuts
        self._random = Random(seed)
        self.cut = 0

    async def carry(self, browser: SocketStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError):
            server = await anyio.connect_tcp("127.0.0.1", self._port)
            async with browser, server, anyio.create_task_group() as tasks:
                budget: list[int | None] = [None]
                tasks.start_soon(self._there, browser, server, budget)
                await self._back(server, browser, budget)
                tasks.cancel_scope.cancel()

    async def _there(self, browser: SocketStream, server: SocketStream, budget: list[int | None]) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                data = await browser.receive()
                if b"/events" in data.partition(b"\r\n")[0] and self._left:
                    self._left -= 1
                    budget[0] = self._random.randrange(300, 3_000)
                await server.send(data)

    async def _back(self, server: SocketStream, browser: SocketStream, budget: list[int | None]) -> None:
        while True:
            data = await server.receive()
            if budget[0] is not None:
                data, budget[0] = data[: budget[0]], budget[0] - len(data)
            await browser.send(data)
            if budget[0] is not None and budget[0] <= 0:
                self.cut += 1
                return


@needs_chromium
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn knows no other
async def test_a_browser_that_is_cut_off_again_and_again_gets_every_event_once(app: Any, tmp_path: Path) -> None:
    """However the bytes are cut: in the middle of a frame, between two, in the headers."""
    with anyio.fail_after(120):
        async with serving(with_wait(app)) as port:
            wire = Wire(port, cuts=6, seed=7)
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            async with listener, anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, wire.carry)
                near = listener.extra(SocketAttribute.local_port)
                page = await anyio.to_thread.run_sync(dom, f"http://127.0.0.1:{near}/test", tmp_path)
                tasks.cancel_scope.cancel()
            runner = app.app.state.runner
            (info,) = await runner.sessions.list()
            session = await runner.sessions.get(info.key)
    stored = [event for event in session.events if event.path]
    found = re.search(r'data-ended="([^"]*)"', page)
    assert found is not None, page[-3000:]
    assert json.loads(html.unescape(found[1])) == [event.serial for event in stored]
    assert wire.cut >= 4
    shown = html.unescape(re.sub(r"<[^>]+>", "\n", page))
    for event in stored:
        if event.text:
            assert shown.count(event.text) == 1, event.text
    assert page.count('class="agent" data-state="ok"') == 11
    assert "ended: ok" in page


@needs_chromium
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn knows no other
async def test_a_page_that_asks_again_shows_the_new_run_alone(app: Any, tmp_path: Path) -> None:
    twice = (
        'ask("First?").then(() => { source.onmessage = message => { source.onmessage = null; ask("Shall we?"); }; })'
    )
    with anyio.fail_after(120):
        async with serving(with_wait(app, twice)) as port:
            page = await anyio.to_thread.run_sync(dom, f"http://127.0.0.1:{port}/test", tmp_path)
    found = re.search(r'data-ended="([^"]*)"', page)
    assert found is not None, page[-3000:]
    serials = json.loads(found[1])
    assert serials == sorted(set(serials))
    assert page.count("It will sell: nobody else is there yet.") == 1


@needs_chromium
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn knows no other
async def test_a_page_says_why_a_run_cant_be_shown(app: Any, tmp_path: Path) -> None:
    with anyio.fail_after(120):
        async with serving(with_wait(app, 'follow("nothing")')) as port:
            page = await anyio.to_thread.run_sync(dom, f"http://127.0.0.1:{port}/test", tmp_path)
    assert re.search(r"ended: error: [^<]*nothing", page), page[-1000:]
