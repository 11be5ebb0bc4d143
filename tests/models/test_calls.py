"""What happens around a model call: waits, retries, what it costs, who is asked next."""

from collections.abc import AsyncIterator
from random import Random

import anyio
import pytest

from agentflow import (
    CallSite,
    Capabilities,
    ConcurrencyLimiter,
    ConfigError,
    FallbackModel,
    ModelError,
    ModelRequest,
    ModelResponse,
    Price,
    Retry,
    Text,
    Usage,
)
from agentflow.testing import FunctionModel, ScriptedModel
from tests.faults.clocks import jumpy_backend
from tests.models.asking import Pieces, ask, busy, scripted
from tests.models.traces import Traced


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return jumpy_backend(request.param)


async def test_waits_before_trying_again_grow_and_end() -> None:
    began = anyio.current_time()
    script = scripted(busy(), busy(), busy(), retry=Retry(attempts=3, delay=1, factor=3))
    with script as asked, pytest.raises(ModelError):
        await asked.call(ask())
    assert anyio.current_time() - began == pytest.approx(1 + 3)


async def test_the_jitter_is_the_runs_own() -> None:
    def asked() -> ModelRequest:
        return ask(site=CallSite(rng=lambda: rng))

    waits = []
    for _ in range(2):
        rng = Random(7)
        began = anyio.current_time()
        await scripted(busy(), "ok", retry=Retry(delay=8, jitter=1)).call(asked())
        waits.append(anyio.current_time() - began)
    assert waits == [pytest.approx(8 * (1 - Random(7).random()))] * 2


async def test_the_providers_wish_counts_up_to_a_bound() -> None:
    began = anyio.current_time()
    with scripted(busy(retry_after=7), "ok", retry=Retry(delay=1, max_delay=60)) as asked:
        assert (await asked.call(ask())).text == "ok"
    assert anyio.current_time() - began == pytest.approx(7)
    with scripted(busy(retry_after=61), retry=Retry(delay=1, max_delay=60)) as asked:
        with pytest.raises(ModelError) as caught:
            await asked.call(ask())
        assert caught.value.retry_after == 61
    assert anyio.current_time() - began == pytest.approx(7)


async def test_what_can_not_pass_is_not_tried_again() -> None:
    with scripted(ModelError("no", kind="auth"), retry=Retry()) as asked, pytest.raises(ModelError):
        await asked.call(ask())
    with scripted(ModelError("no", kind="auth"), "ok", retry=Retry(delay=0, on=ModelError)) as asked:
        assert (await asked.call(ask())).text == "ok"


async def test_after_something_was_shown_it_is_not_tried_again() -> None:
    async def half(request: ModelRequest) -> AsyncIterator[str]:
        yield "half "
        raise busy()

    pieces = Pieces()
    asked = FunctionModel(half)
    asked.retry = Retry(delay=0)
    with pytest.raises(ModelError) as caught:
        await asked.call(ask(), pieces)
    assert (pieces.text, caught.value.shown) == ("half ", True)


async def test_what_failed_attempts_cost_is_counted() -> None:
    lost = Usage(100, 1, model_calls=1)
    good = ModelResponse(parts=(Text("ok"),), usage=Usage(100, 20, model_calls=1))
    asked = scripted(busy(usage=lost), good, retry=Retry(delay=0))
    asked.price = Price(input=10, output=100)
    usage = (await asked.call(ask())).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.model_calls) == (200, 21, 2)
    assert usage.cost == pytest.approx((200 * 10 + 21 * 100) / 1e6)
    assert usage.extra == {"attempts": 2}
    asked = scripted(busy(usage=lost), busy(usage=lost), retry=Retry(attempts=2, delay=0))
    with pytest.raises(ModelError) as caught:
        await asked.call(ask())
    assert caught.value.usage.input_tokens == 200


async def test_an_error_says_whose_it_is() -> None:
    site = CallSite(agent="critic", path="team.critic", branch="p.critic", invocation_id="e-1")
    with pytest.raises(ModelError) as caught:
        await scripted(busy()).call(ask(site=site))
    error = caught.value
    assert (error.agent, error.branch, error.invocation_id) == ("team.critic", "p.critic", "e-1")
    assert (error.model, error.provider) == ("scripted", "agentflow")


def test_a_price_for_each_kind_of_token() -> None:
    usage = Usage(1000, 100, 500, 100)
    assert Price(input=10, output=20).of(usage) == pytest.approx((1000 * 10 + 100 * 20) / 1e6)
    dear = Price(input=10, output=20, cache_read=1, cache_write=12)
    assert dear.of(usage) == pytest.approx((400 * 10 + 500 * 1 + 100 * 12 + 100 * 20) / 1e6)
    with pytest.raises(ConfigError):
        Price(input=-1, output=2)


# Falling back


async def test_the_next_model_is_asked_when_one_is_busy() -> None:
    lost = Usage(10, 0, model_calls=1)
    first, second = scripted(busy(usage=lost), retry=Retry(), name="first"), scripted("ok", name="second")
    with first, second:
        answer = await FallbackModel(first, second).call(ask())
    assert (answer.text, answer.model) == ("ok", "second")
    assert answer.usage is not None
    assert answer.usage.model_calls == 2
    assert answer.usage.extra == {"failed": ["first"]}
    assert second.requests[0].model == "second"


async def test_it_does_not_fall_back_on_what_another_can_not_help_with() -> None:
    with scripted(ModelError("no", kind="bad_request")) as first, pytest.raises(ModelError):
        await FallbackModel(first, scripted()).call(ask())
    with scripted(ModelError("no", kind="billing")) as first, scripted("ok") as second:
        either = FallbackModel(first, second, on=lambda error: error.kind == "billing")
        assert (await either.call(ask())).text == "ok"


async def test_it_does_not_take_back_what_was_shown() -> None:
    async def half(request: ModelRequest) -> AsyncIterator[str]:
        yield "half "
        raise busy()

    second = scripted("never")
    with pytest.raises(ModelError):
        await FallbackModel(FunctionModel(half), second).call(ask(), Pieces())
    assert second.requests == []


async def test_a_model_that_wants_a_pause_is_left_alone() -> None:
    began = anyio.current_time()
    first, second = scripted(busy(retry_after=30), "back again", name="first"), scripted("one", "two", name="second")
    first.limiter = ConcurrencyLimiter(4)
    either = FallbackModel(first, second)
    with first, second:
        assert [(await either.call(ask())).text for _ in range(2)] == ["one", "two"]
        assert (len(first.requests), anyio.current_time()) == (1, began)
        await anyio.sleep(30)
        assert (await either.call(ask())).text == "back again"


async def test_the_last_one_tries_as_often_as_it_wants_and_tells_of_the_others() -> None:
    last = scripted(busy(), busy(), retry=Retry(attempts=2, delay=0), name="last")
    with last, pytest.raises(ModelError) as caught:
        await FallbackModel(scripted(busy(), name="first"), last).call(ask())
    assert caught.value.model == "last"
    assert caught.value.__notes__ == ["before that: busy"]


def test_it_is_made_of_at_least_two_and_can_what_all_can() -> None:
    with pytest.raises(ConfigError):
        FallbackModel("claude-opus-5-5")
    both = FallbackModel("claude-opus-5-5", ScriptedModel(capabilities=Capabilities(max_input_tokens=9, images=False)))
    assert both.name == "claude-opus-5-5|scripted"
    assert both.capabilities == Capabilities(thinking=True, images=False, max_input_tokens=9)
    with pytest.raises(ConfigError, match="did you mean"):
        FallbackModel("claude-opus-5-5", "cluade-sonnet-5-5")


# Waiting


async def test_waiting_for_a_turn_can_be_seen(traced: Traced) -> None:
    async def slow(request: ModelRequest) -> str:
        await anyio.sleep(2)
        return "ok"

    asked = FunctionModel(slow)
    asked.limiter = ConcurrencyLimiter(1)
    answers: list[ModelResponse] = []

    async def one() -> None:
        answers.append(await asked.call(ask(site=traced.site())))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    waits = [(answer.usage and answer.usage.extra) for answer in answers]
    assert waits == [None, {"queueMs": 2000.0}]
    queue, chat = traced.spans()["queue function"], traced.spans()["chat function"]
    assert queue.parent is not None
    assert queue.parent.span_id == chat.context.span_id
    assert dict(chat.attributes or {})["agentflow.queue.duration"] == pytest.approx(2)
    assert [point.sum for point in traced.metric("agentflow.model.queue.duration")] == [pytest.approx(2)]
