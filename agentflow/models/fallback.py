"""Several models as one: the next is asked when one can't answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from agentflow.errors import ConfigError, ModelError
from agentflow.events import Usage
from agentflow.models._calls import call_model
from agentflow.models.base import Capabilities, Model, ModelRequest, ModelResponse, OnChunk
from agentflow.models.registry import resolve_model


class FallbackModel(Model):
    """Asks its models in order until one answers.

        LlmAgent("critic", model=FallbackModel("claude-opus-5-5", "claude-sonnet-5-5", "openai:gpt-6"))

    The next one is asked when a failure may pass (busy, down, too slow) and nothing of an answer was shown yet: words
    that somebody has read aren't taken back. Each is asked once, the last as often as its own `retry` says; one whose
    provider has asked for a pause (and that has a `limiter` to remember it) isn't asked at all. Every model has a span
    of its own, and what the failed ones cost is counted.

    Args:
        *models: Two or more, or their names.
        on: Which failures make it ask the next one; by default those that are `retryable`.

    Raises:
        ConfigError: Fewer than two, or something that is no model.
    """

    def __init__(self, *models: Model | str, on: Callable[[ModelError], bool] | None = None) -> None:
        if len(models) < 2:
            raise ConfigError("FallbackModel needs at least two models")
        if on is not None and not callable(on):
            raise ConfigError(f"FallbackModel: on must be a function of the error, not {on!r}")
        self.models: Sequence[Model] = tuple(resolve_model(model) for model in models)
        self.on = on
        self.name = "|".join(model.name for model in self.models)
        self.provider = self.models[0].provider
        self.capabilities = _shared([model.capabilities for model in self.models])

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        return await self.call(request, on_chunk)

    async def call(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        lost: Usage | None = None
        failures: list[ModelError] = []
        for model in self.models:
            last = model is self.models[-1]
            asked = replace(request, model=model.name)
            try:
                if last or type(model).call is not Model.call:  # one that wraps others knows best itself
                    response = await model.call(asked, on_chunk)
                else:
                    response = await call_model(model, asked, on_chunk, None, patient=False)
            except ModelError as error:
                if error.usage is not None:
                    lost = error.usage if lost is None else lost + error.usage
                    error.usage = lost
                if last or error.shown or not (error.retryable if self.on is None else self.on(error)):
                    for other in failures:
                        error.add_note(f"before that: {other}")
                    raise
                failures.append(error)
            else:
                usage = response.usage or Usage()
                if failures:
                    extra = {**(usage.extra or {}), "failed": [failure.model for failure in failures]}
                    response.usage = replace(usage if lost is None else lost + usage, extra=extra)
                return response
        raise AssertionError("the last model answers or raises")

    async def count_tokens(self, request: ModelRequest) -> int:
        """As the first of its models counts them."""
        return await self.models[0].count_tokens(replace(request, model=self.models[0].name))

    async def aclose(self) -> None:
        for model in self.models:
            await model.aclose()

    async def __aenter__(self) -> Self:
        for model in self.models:
            await model.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for model in self.models:
            await model.__aexit__(kind, error, trace)  # noqa: ASYNC102 - closing sockets doesn't wait for anyone


def _shared(all_of_them: Sequence[Capabilities]) -> Capabilities:
    """What each of them can do."""
    inputs = [one.max_input_tokens for one in all_of_them if one.max_input_tokens is not None]
    outputs = [one.max_output_tokens for one in all_of_them if one.max_output_tokens is not None]
    return Capabilities(
        tools=all(one.tools for one in all_of_them),
        parallel_tool_calls=all(one.parallel_tool_calls for one in all_of_them),
        output_schema=all(one.output_schema for one in all_of_them),
        output_schema_with_tools=all(one.output_schema_with_tools for one in all_of_them),
        thinking=any(one.thinking for one in all_of_them),
        images=all(one.images for one in all_of_them),
        documents=all(one.documents for one in all_of_them),
        max_input_tokens=min(inputs, default=None),
        max_output_tokens=min(outputs, default=None),
    )
