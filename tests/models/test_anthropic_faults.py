"""Each thing that can go wrong, after each event of an answer: recovered, or a typed error; never a leak."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from agentflow import (
    AnthropicModel,
    ModelError,
    ModelResponse,
    ModelSettings,
    Retry,
    Text,
    Thinking,
    ToolCall,
    ToolSpec,
)
from agentflow.testing import FakeAnthropic, says
from tests.models.asking import Pieces, ask

WHOLE = says(Thinking("let me", "sig"), "hello big", ToolCall("toolu_1", "clock", {"zone": "UTC"}), input_tokens=70)
EVENTS = len(WHOLE.events)
FIRST_PIECE = 3  # message_start, ping, content_block_start of a thought; then its first words
LAST_WORD = EVENTS - 1  # message_delta says why it stopped; message_stop says nothing more
FAILURES = {"drop": "stream", "eof": "stream", "garbage": "stream", "error": "overloaded", "stall": "timeout"}
TOOLS = [ToolSpec("clock")]


async def outcome(claude: AnthropicModel, pieces: Pieces | None) -> tuple[ModelResponse, ModelError | None]:
    try:
        return await claude.call(ask("hi", tools=TOOLS), pieces), None
    except ModelError as error:
        return ModelResponse(parts=()), error


@pytest.mark.parametrize("shows", [True, False], ids=["shown", "unseen"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_after_each_event(failure: str, shows: bool) -> None:
    for after in range(EVENTS + 1):
        fake = FakeAnthropic(WHOLE.breaking(failure, after), "recovered")  # type: ignore[arg-type]
        claude = fake.model(settings=ModelSettings(timeout=0.02), retry=Retry(delay=0))
        pieces = Pieces()
        with anyio.fail_after(5):
            answer, error = await outcome(claude, pieces if shows else None)
            if error is not None:
                assert shows
                assert FIRST_PIECE < after < LAST_WORD
                assert (error.kind, error.retryable, error.shown) == (FAILURES[failure], True, True)
                assert error.usage.input_tokens == 70
                assert error.usage.cost > 0
            elif after >= LAST_WORD:
                assert answer.tool_calls == [ToolCall("toolu_1", "clock", {"zone": "UTC"})]
                assert len(fake.requests) == 1
            else:
                assert answer.text == "recovered"
                assert len(fake.requests) == 2
                assert after <= FIRST_PIECE or not shows
                assert answer.usage is not None
                assert answer.usage.model_calls == (2 if after else 1), "what was begun is charged"
            await claude.aclose()
        assert fake.open_streams == 0, f"after {after} events"


@pytest.mark.parametrize("failure", FAILURES)
async def test_over_a_real_socket(failure: str) -> None:
    for after in (0, 1, 5, EVENTS - 2, EVENTS):
        fake = FakeAnthropic(WHOLE.breaking(failure, after), "recovered")  # type: ignore[arg-type]
        with anyio.fail_after(10):
            async with fake.serve() as url:
                claude = AnthropicModel(
                    api_key="sk-ant-none", base_url=url, settings=ModelSettings(timeout=0.2), retry=Retry(delay=0)
                )
                async with claude:
                    answer, error = await outcome(claude, Pieces())
                    if error is not None:
                        assert (error.kind, error.shown) == (FAILURES[failure], True)
                    else:
                        assert answer.text == ("hello big" if after >= LAST_WORD else "recovered")
                await closed(fake)


async def closed(fake: FakeAnthropic) -> None:
    """The fake has noticed that nobody reads any more; it tells of it by this count alone."""
    while fake.open_streams:  # noqa: ASYNC110 - see above
        await anyio.lowlevel.checkpoint()


def stopping(how: str, at: int, scope: anyio.CancelScope) -> Callable[[ModelResponse], Awaitable[None]]:
    count = 0

    async def stop(piece: ModelResponse) -> None:
        nonlocal count
        count += 1
        if count == at and how == "cancel":
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        elif count == at:
            raise KeyError("the reader broke")

    return stop


@pytest.mark.parametrize("socket", [False, True], ids=["in process", "over a socket"])
@pytest.mark.parametrize("how", ["cancel", "raise"])
async def test_who_stops_reading_closes_the_connection(how: str, socket: bool) -> None:
    """Also where nothing else can be seen of it: the fake notices."""
    for at in range(1, 8):
        fake = FakeAnthropic(WHOLE)
        scope = anyio.CancelScope()
        with anyio.fail_after(5):
            async with fake.serve() as url:
                claude = AnthropicModel(api_key="sk-ant-none", base_url=url) if socket else fake.model()
                async with claude:
                    with scope:
                        if how == "raise":
                            with pytest.raises(KeyError):
                                await claude.call(ask("hi", tools=TOOLS), stopping(how, at, scope))
                        else:
                            await claude.call(ask("hi", tools=TOOLS), stopping(how, at, scope))
                    assert scope.cancelled_caught == (how == "cancel")
                    await closed(fake)


async def test_a_cancelled_wait_for_the_first_word_closes_the_connection() -> None:
    waiting = anyio.Event()

    async def hold(number: int) -> None:
        waiting.set()
        await anyio.sleep_forever()

    fake = FakeAnthropic(says("never", pace=hold))
    with anyio.fail_after(5):
        async with fake.serve() as url, AnthropicModel(api_key="sk-ant-none", base_url=url) as claude:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(claude.call, ask(), Pieces())
                await waiting.wait()
                assert fake.open_streams == 1
                tasks.cancel_scope.cancel()
            await closed(fake)


async def test_a_reader_that_is_slow_slows_the_model() -> None:
    """No piece is handed over before the last one was taken."""
    busy = 0

    async def slow(piece: ModelResponse) -> None:
        nonlocal busy
        busy += 1
        assert busy == 1
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        busy -= 1

    answer = await FakeAnthropic("one two three four").model().call(ask(), slow)
    assert answer.parts == (Text("one two three four"),)


async def test_a_connection_is_used_again() -> None:
    fake = FakeAnthropic("ok", repeat=True)
    async with fake.serve() as url, AnthropicModel(api_key="sk-ant-none", base_url=url) as claude:
        for _ in range(3):
            assert (await claude.call(ask())).text == "ok"
    assert fake.connections == 1


async def test_nobody_is_there() -> None:
    with anyio.fail_after(10):
        async with AnthropicModel(api_key="k", base_url="http://127.0.0.1:9", retry=Retry(delay=0)) as claude:
            with pytest.raises(ModelError, match="can't be reached") as caught:
                await claude.call(ask())
    assert (caught.value.kind, caught.value.retryable, caught.value.shown) == ("connection", True, False)
