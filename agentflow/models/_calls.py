"""What happens around one call of a model: its turn in the queue, retries, the cost, and the `chat` span."""

import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio

from agentflow import tracing as names
from agentflow.content import Text, part_to_wire
from agentflow.errors import ModelError
from agentflow.events import Usage
from agentflow.models.prices import cost_of
from agentflow.policies import Retry
from agentflow.tracing import Tracing

# `models/base.py` imports this module: its types are `Any` here.
OnChunk = Callable[[Any], Awaitable[None]]

_random = random.Random()


class Call:
    """One call, retries included."""

    def __init__(
        self, model: Any, request: Any, on_chunk: OnChunk | None, retry: Retry | None, *, patient: bool
    ) -> None:
        self.model = model
        self.request = request
        self.on_chunk: OnChunk | None = None if on_chunk is None else self._show
        self._push = on_chunk
        self.retry = retry
        self.patient = patient
        self.attempts = 0
        self.waited = 0.0
        self.shown = False
        self.first: float | None = None
        self.lost: Usage | None = None
        self.began = time.perf_counter()

    async def _show(self, chunk: Any) -> None:
        if not self.shown:
            self.shown = True
            self.first = time.perf_counter() - self.began
        assert self._push is not None
        await self._push(chunk)

    async def run(self, on_wait: Callable[[float], None] | None) -> Any:
        """Ask until there is an answer or no hope."""
        response: Any = None
        while response is None:
            self.attempts += 1
            try:
                response = await self._attempt(on_wait)
            except ModelError as raised:
                error = raised
            else:
                continue
            error.shown = error.shown or self.shown
            if error.usage is not None:
                usage = await self._priced(error.usage, error.model)
                self.lost = usage if self.lost is None else self.lost + usage
            pause = self._pause(error)
            if pause is None:
                error.usage = self.lost
                raise error
            await anyio.sleep(pause)
        usage = await self._priced(response.usage or Usage(model_calls=1), response.model)
        if self.lost is not None:
            usage = self.lost + usage
        return replace(response, usage=self._with_extra(usage))

    async def _attempt(self, on_wait: Callable[[float], None] | None) -> Any:
        limiter = self.model.limiter
        if limiter is None:
            return await self.model.generate(self.request, self.on_chunk)
        async with limiter.slot(self.request.model or self.model.name, patient=self.patient) as waited:
            self.waited += waited
            if waited > 0 and on_wait is not None:
                on_wait(waited)
            return await self.model.generate(self.request, self.on_chunk)

    def _pause(self, error: ModelError) -> float | None:
        """Seconds to wait before asking again; `None`: don't."""
        retry = self.retry
        if retry is None or error.shown or self.attempts >= retry.attempts:
            return None
        if not (error.retryable if retry.on is None else retry.covers(error)):
            return None
        if error.retry_after is None:
            rng = getattr(self.request.site, "rng", None)
            return retry.wait(self.attempts, rng() if rng is not None else _random)
        return error.retry_after if error.retry_after <= retry.max_delay else None

    async def _priced(self, usage: Usage, model: str) -> Usage:
        if usage.cost or not usage.total_tokens:
            return usage
        cost = await cost_of(usage, self.model.provider, model or self.model.name, self.model.price)
        return replace(usage, cost=cost) if cost else usage

    def _with_extra(self, usage: Usage) -> Usage:
        extra: dict[str, Any] = dict(usage.extra or {})
        if self.attempts > 1:
            extra["attempts"] = self.attempts
        if self.waited > 0.0005:
            extra["queueMs"] = round(self.waited * 1000, 1)
        return replace(usage, extra=extra) if extra else usage


_OWN: Any = object()


async def call_model(
    model: Any, request: Any, on_chunk: OnChunk | None, retry: Retry | None = _OWN, *, patient: bool = True
) -> Any:
    """See `Model.call`.

    Args:
        model: Who is asked.
        request: What.
        on_chunk: Gets the pieces.
        retry: Instead of the model's own.
        patient: Wait where the provider has said that it wants no calls for a while; else that is an error.
    """
    call = Call(model, request, on_chunk, model.retry if retry is _OWN else retry, patient=patient)
    site = request.site
    tracing: Tracing | None = None if site is None else site.tracing
    try:
        if tracing is None or site.span is None:
            return await call.run(None)
        return await _traced(call, tracing, site)
    except ModelError as error:
        error.model = error.model or request.model or model.name
        error.provider = error.provider or model.provider
        if site is not None and not error.agent:
            error.agent, error.branch, error.invocation_id = site.path, site.branch, site.invocation_id
        raise


async def _traced(call: Call, tracing: Tracing, site: Any) -> Any:
    labels = {names.PROVIDER: call.model.provider, names.REQUEST_MODEL: call.request.model or call.model.name}
    attributes = _asked(call, site, labels, tracing.captures)
    span = tracing.start_chat(site.span, attributes)
    response: Any = None
    failure: BaseException | None = None
    try:
        with names.current(span):
            response = await call.run(lambda waited: tracing.waited(span, labels, waited))
        return response
    except BaseException as error:
        failure = error
        raise
    finally:
        answered = _answered(call, response, failure, tracing.captures)
        if names.RESPONSE_MODEL in answered:
            labels[names.RESPONSE_MODEL] = answered[names.RESPONSE_MODEL]
        tracing.end_chat(span, labels, call.began, answered, failure)


def _asked(call: Call, site: Any, labels: dict[str, Any], captures: bool) -> dict[str, Any]:
    """Attributes that are known at the start."""
    request, settings = call.request, call.request.settings
    attributes = {
        **labels,
        names.REQUEST_STREAM: call.on_chunk is not None or None,
        names.REQUEST_MAX_TOKENS: settings.max_tokens,
        names.REQUEST_TEMPERATURE: settings.temperature,
        names.REQUEST_TOP_P: settings.top_p,
        names.REQUEST_STOP: settings.stop or None,
        names.REQUEST_SEED: settings.seed,
        names.REQUEST_REASONING: settings.effort,
        names.OUTPUT_TYPE: "json" if request.output_schema is not None else None,
        names.CONVERSATION_ID: site.session_id or None,
        names.AGENT_NAME: site.agent or None,
        names.INVOCATION_ID: site.invocation_id or None,
        names.PATH: site.path or None,
        names.BRANCH: site.branch,
    }
    if captures:
        attributes[names.INPUT_MESSAGES] = json.dumps([_as_message(m.role, m.parts) for m in request.messages])
        if request.system:
            attributes[names.SYSTEM_INSTRUCTIONS] = json.dumps([{"type": "text", "content": request.system}])
        if request.tools:
            attributes[names.TOOL_DEFINITIONS] = json.dumps([_as_definition(tool) for tool in request.tools])
    return {key: value for key, value in attributes.items() if value is not None}


def _answered(call: Call, response: Any, failure: BaseException | None, captures: bool) -> dict[str, Any]:
    """Attributes that are known at the end."""
    attributes: dict[str, Any] = {names.QUEUE_SECONDS: call.waited or None}
    if call.attempts > 1:
        attributes[names.ATTEMPTS] = call.attempts
    if call.first is not None:
        attributes[names.FIRST_CHUNK] = call.first
    usage = call.lost if isinstance(failure, ModelError) else None
    if response is not None:
        usage = response.usage
        attributes[names.RESPONSE_ID] = response.response_id
        attributes[names.FINISH_REASONS] = (response.finish_reason,) if response.finish_reason else None
        if response.model:
            attributes[names.RESPONSE_MODEL] = response.model
        if captures:
            attributes[names.OUTPUT_MESSAGES] = json.dumps([_as_message("assistant", response.parts)])
    if usage is not None:
        attributes[names.INPUT_TOKENS] = usage.input_tokens
        attributes[names.OUTPUT_TOKENS] = usage.output_tokens
        attributes[names.CACHE_READ_TOKENS] = usage.cache_read_tokens
        attributes[names.CACHE_WRITE_TOKENS] = usage.cache_write_tokens
        attributes[names.REASONING_TOKENS] = usage.reasoning_tokens
        attributes[names.COST] = usage.cost
    return attributes


def _as_message(role: str, parts: Any) -> dict[str, Any]:
    """A message as the GenAI conventions write one."""
    written = []
    for part in parts:
        if type(part) is Text:
            written.append({"type": "text", "content": part.text})
            continue
        wire = part_to_wire(part)
        kind = wire.pop("kind", "")
        if kind == "thinking":
            written.append({"type": "reasoning", "content": part.text})
        elif kind == "tool_call":
            written.append({"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.args})
        elif kind == "tool_result":
            written.append({"type": "tool_call_response", "id": part.id, "response": part.result})
        elif kind == "blob":
            written.append({"type": "blob", "mime_type": part.mime_type, "content": wire["data"]})
        elif kind == "file":
            written.append({"type": "uri", "uri": part.uri, "mime_type": part.mime_type or ""})
        else:
            written.append({"type": kind or "unknown", **wire})
    return {"role": role, "parts": written}


def _as_definition(tool: Any) -> dict[str, Any]:
    block = getattr(tool, "block", None)
    if block is not None:
        return {"type": "extension", **block}
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
