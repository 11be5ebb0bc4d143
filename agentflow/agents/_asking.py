"""One call of a model for an agent: callbacks around it, its pieces streamed, its price checked before it is paid."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any

from agentflow._generators import short
from agentflow._turn import error_info
from agentflow.content import Part, Text, ToolCall
from agentflow.core import InvocationContext
from agentflow.errors import InvalidEvent, ModelError
from agentflow.events import Event, Usage, build_event
from agentflow.models.base import Model, ModelRequest, ModelResponse

Reply = ModelResponse | str | None

BeforeModel = Callable[[InvocationContext, ModelRequest], Awaitable[Reply] | Reply]
"""Called before a model is; what it returns is the answer, and the model isn't called. It may change the request."""

AfterModel = Callable[[InvocationContext, ModelResponse], Awaitable[Reply] | Reply]
"""Called with each answer, and each streamed piece of one (`partial`); what it returns replaces it."""

OnModelError = Callable[[InvocationContext, ModelRequest, Exception], Awaitable[Reply] | Reply]
"""Called when a model call failed; what it returns is the answer."""


class Callbacks:
    """The callbacks around an agent's model: plugins' first, then its own."""

    __slots__ = ("after", "before", "on_error")

    def __init__(
        self, before: Sequence[BeforeModel], after: Sequence[AfterModel], on_error: Sequence[OnModelError]
    ) -> None:
        self.before = before
        self.after = after
        self.on_error = on_error


async def first(ctx: InvocationContext, hook: str, callbacks: Sequence[Callable[..., Any]], *args: Any) -> Any:
    """What the first plugin or callback returns that returns something."""
    reply = await ctx._services.plugins.first(hook, ctx, *args)
    for callback in callbacks:
        if reply is not None:
            break
        reply = callback(ctx, *args)
        if isawaitable(reply):
            reply = await reply
    return reply


async def ask(
    ctx: InvocationContext, model: Model, request: ModelRequest, callbacks: Callbacks, *, stream: bool
) -> ModelResponse:
    """Have the model answer. Its pieces are emitted as they come; its answer is not, unless it is a refusal.

    Raises:
        LimitExceeded: The run has nothing left to pay with; the model wasn't asked.
        ModelError: It couldn't answer, or wouldn't.
    """
    plugins = ctx._services.plugins
    if callbacks.before or plugins.having("before_model"):
        reply = await first(ctx, "before_model", callbacks.before, request)
        if reply is not None:
            return _as_response(ctx, "before_model", reply)
    _begin(ctx)
    try:
        return await _ask(ctx, model, request, callbacks, stream=stream)
    except BaseException:
        ctx._run.asking.discard(ctx)
        raise


async def _ask(
    ctx: InvocationContext, model: Model, request: ModelRequest, callbacks: Callbacks, *, stream: bool
) -> ModelResponse:
    plugins = ctx._services.plugins
    call = _Call(ctx, callbacks.after if callbacks.after or plugins.having("after_model") else None)
    answer: ModelResponse | None = None
    failure: Exception | None
    site = request.site
    try:
        answer = await model.call(request, call.show if stream else None)
        failure, paid = _refusal(answer, model), answer.usage
    except Exception as error:
        if error is call.broken:  # it was not the model that failed
            ctx.lose(site.lost if site is not None else None)
            raise
        failure, paid = error, getattr(error, "usage", None)
    except BaseException:
        ctx.lose(site.lost if site is not None else None)
        raise
    try:
        response = answer
        if failure is not None:
            reply = await first(ctx, "on_model_error", callbacks.on_error, request, failure)
            if reply is None:
                raise failure
            response = _as_response(ctx, "on_model_error", reply)
            response.usage = response.usage or paid
        assert response is not None
        if call.after is not None:
            response = await call.review(response)
        response.response_id = response.response_id or call.id
        return response
    except Exception as error:
        lost = error
    except BaseException:
        ctx.lose(paid)
        raise
    if paid is not None:  # and so it is stored
        parts = answer.parts if answer is not None and lost is failure else ()
        await ctx.emit(spoken(ctx, ModelResponse(parts=parts, response_id=call.id, usage=paid), lost))
    raise lost


class _Call:
    """What one call of a model streams."""

    __slots__ = ("after", "broken", "ctx", "id")

    def __init__(self, ctx: InvocationContext, after: Sequence[AfterModel] | None) -> None:
        self.ctx = ctx
        self.after = after
        self.id = ctx._run.new_id()
        self.broken: Exception | None = None  # what went wrong in showing a piece

    async def show(self, piece: ModelResponse) -> None:
        """Emit a piece."""
        try:
            if self.after is not None:
                piece = await self.review(piece)
            ctx, parts, response_id = self.ctx, piece.parts, piece.response_id or self.id
            if len(parts) == 1 and type(parts[0]) is Text:
                await ctx.emit(ctx.text(parts[0].text, partial=True, response_id=response_id))
            elif parts:
                await ctx.emit(event_of(ctx, parts, response_id, partial=True))
        except Exception as error:
            self.broken = error
            raise

    async def review(self, response: ModelResponse) -> ModelResponse:
        """What plugins and callbacks make of an answer or of a piece of it. What was paid for it stays paid."""
        assert self.after is not None
        reply = await first(self.ctx, "after_model", self.after, response)
        if reply is None:
            return response
        other = _as_response(self.ctx, "after_model", reply)
        other.partial = response.partial
        other.response_id = other.response_id or response.response_id
        other.usage = other.usage or response.usage
        return other


def spoken(ctx: InvocationContext, response: ModelResponse, error: Exception | None = None) -> Event:
    """An answer as an event; calls without an id get one, since their results need it."""
    parts = tuple(response.parts)
    event = event_of(ctx, parts, response.response_id)
    if any(type(part) is ToolCall for part in parts):
        event.__dict__["parts"] = _with_ids(parts, event.id)
    event.__dict__["usage"], event.__dict__["finish_reason"] = response.usage, response.finish_reason
    if error is not None:
        event.__dict__["error"] = error_info(error)
    return event


def event_of(ctx: InvocationContext, parts: Sequence[Part], response_id: str | None, *, partial: bool = False) -> Event:
    """An event of the agent's, ready to be emitted."""
    run = ctx._run
    event = build_event(ctx.form, run.new_id(), run.time(), tuple(parts), None, partial)
    event.__dict__["response_id"] = response_id
    return event


def _with_ids(parts: tuple[Part, ...], event_id: str) -> tuple[Part, ...]:
    seen: set[str] = {""}
    named: list[Part] = []
    for index, part in enumerate(parts):
        if type(part) is ToolCall:
            if part.id in seen:
                part = ToolCall(f"call-{event_id}-{index}", part.name, part.args, extra=part.extra)
            seen.add(part.id)
        named.append(part)
    return tuple(named)


def _refusal(response: ModelResponse, model: Model) -> ModelError | None:
    """The error that an answer is, if the model has refused, or couldn't read all of it."""
    if response.usage is None or not response.usage.model_calls:
        response.usage = (response.usage or Usage()) + Usage(model_calls=1)
    if response.refusal is not None or response.finish_reason == "refusal":
        why = response.refusal.explanation if response.refusal is not None else ""
        return ModelError(
            f"model {model.name!r} refused to answer{': ' if why else ''}{why}", kind="refusal", model=model.name
        )
    if response.finish_reason == "context_window":
        return ModelError(
            f"model {model.name!r} ran out of its context window: bound what it reads (history=...)",
            kind="context_window", model=model.name,
        )  # fmt: skip
    return None


def _as_response(ctx: InvocationContext, hook: str, reply: object) -> ModelResponse:
    if isinstance(reply, str):
        return ModelResponse(parts=(Text(reply),))
    if isinstance(reply, ModelResponse):
        return reply
    raise InvalidEvent(f"{hook} of agent {ctx.path!r} must return text, a ModelResponse or None, not {short(reply)}")


def _begin(ctx: InvocationContext) -> None:
    """A model call costs something: it isn't begun when nothing is left. It counts from now on, until it is charged.

    Raises:
        LimitExceeded: A budget is used up, or will be by the calls that are under way.
    """
    run = ctx._run
    run.asking.discard(ctx)
    for name in ("model_calls", "tokens", "cost"):
        limit = getattr(run.limits, name)
        if limit is None:
            continue
        under_way = len(run.asking) if name == "model_calls" else 0
        if getattr(run.spent, name) + under_way >= limit:
            raise run.out_of(name, ctx._place, ctx.path)
    run.asking.add(ctx)
