"""Claude, on the `anthropic` SDK: imported when a Claude model is first asked, and never before."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from anyio.to_thread import run_sync

from agentflow._settings import check_names
from agentflow.errors import ConfigError, ModelError
from agentflow.events import Usage
from agentflow.models._anthropic_errors import from_answer, translate
from agentflow.models._anthropic_messages import Form, Turn, build_turns, dumps
from agentflow.models._anthropic_request import build_params
from agentflow.models._anthropic_stream import PROVIDER, Answer
from agentflow.models._sdk import SdkModel, read_answer
from agentflow.models.base import (
    Capabilities,
    Message,
    Model,
    ModelRequest,
    ModelResponse,
    ModelSettings,
    OnChunk,
    check_model,
)
from agentflow.models.limiter import ConcurrencyLimiter
from agentflow.models.prices import Price
from agentflow.policies import Retry

_CONTINUED = 16
"""How often one call goes on after `pause_turn`."""

_KEY = "set the environment variable ANTHROPIC_API_KEY, or pass AnthropicModel(..., api_key=...)"
_PROVIDERS = (
    ("Bedrock", "aws.bedrock"),
    ("AWS", "aws.bedrock"),
    ("Vertex", "gcp.vertex_ai"),
    ("GoogleCloud", "gcp.vertex_ai"),
    ("Foundry", "azure.ai.openai"),
)
"""What OpenTelemetry calls those who serve Claude, by the names of the SDK's clients."""


class AnthropicModel(SdkModel):
    """A Claude model.

        LlmAgent("critic", model="claude-opus-5-5")  # the same as AnthropicModel("claude-opus-5-5")

    Needs nothing but `ANTHROPIC_API_KEY`. What it is sent is always valid, whatever the history: roles take turns, each
    tool call has its result, thoughts go back as they came. Prompts are cached; a turn that the provider paused is
    continued; tools of the provider's own are declared with `ServerTool`.

    Args:
        name: The model's name.
        settings: How to generate; what a request says goes over it. `extra` goes into the body as it is
            (`context_management`, `container`, `metadata`, ...); its `betas` go into the header.
        client: An `AsyncAnthropic`, or one for Bedrock, Vertex or Foundry, which you close; or a function that makes
            one, which is called once per event loop and what it makes closed.
        api_key: Instead of `ANTHROPIC_API_KEY`.
        base_url: Instead of `ANTHROPIC_BASE_URL`.
        betas: Beta features to ask for in each request.
        retry: When it fails in a way that may pass and nothing was shown; `None` never tries again.
        limiter: How many of its calls may be on their way at once.
        price: What it costs, where `genai-prices` doesn't know.
        capabilities: What it can do, where that isn't what Claude models can.
    """

    provider = PROVIDER

    def __init__(
        self,
        name: str = "claude-opus-5-5",
        *,
        settings: ModelSettings | None = None,
        client: Any = None,
        api_key: str | None = None,
        base_url: str | None = None,
        betas: Sequence[str] = (),
        retry: Retry | None = Model.retry,
        limiter: ConcurrencyLimiter | None = None,
        price: Price | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"AnthropicModel needs a model's name, not {name!r}")
        betas = check_names("AnthropicModel", "betas", betas)
        if client is not None and (api_key is not None or base_url is not None):
            raise ConfigError("AnthropicModel: give api_key and base_url to the client that you pass")
        check_model(self, settings, retry, limiter, price, capabilities)
        super().__init__(name, api_key, base_url)
        self.settings = settings or ModelSettings()
        self.retry = retry
        self.limiter = limiter
        self.price = price
        self.betas = betas
        self.capabilities = capabilities or Capabilities(thinking=True, images=True, documents=True)
        self._given = client
        self.provider = _provider(client)

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        client = await self._client()
        response = await self._ask(client, request, on_chunk, None)
        for _ in range(_CONTINUED):
            if response.finish_reason != "pause":
                break
            so_far = Message("assistant", tuple(response.parts))
            more = replace(request, messages=[*request.messages, so_far])
            showing = _Showing(on_chunk) if on_chunk is not None else None
            try:
                rest = await self._ask(client, more, showing, response.response_id)
            except ModelError as error:
                paid = (response.usage or Usage()) + (error.usage or Usage())
                if not error.retryable or (showing is not None and showing.shown):
                    error.usage = paid
                    raise
                response.usage = paid
                break  # what there is can be stored, and the next call goes on from there
            except BaseException:
                if request.site is not None:
                    request.site.lose(response.usage)
                raise
            if not rest.parts and rest.finish_reason == "pause":
                break  # it doesn't get any further
            response = ModelResponse(
                parts=(*response.parts, *rest.parts),
                response_id=response.response_id,
                finish_reason=rest.finish_reason,
                usage=(response.usage or Usage()) + (rest.usage or Usage()),
                model=rest.model,
                refusal=rest.refusal,
                details=rest.details,
            )
        return response

    async def count_tokens(self, request: ModelRequest) -> int:
        """How many tokens the request has, by the provider's own count. Costs nothing, but has a rate limit.

        Raises:
            ModelError: It can't be asked.
        """
        client = await self._client()
        turns = build_turns(request.messages)
        params, headers, query = self._params(client, request, turns)
        names = ("model", "system", "tools", "tool_choice", "thinking", "output_config", "context_management")
        body = {name: params[name] for name in names if name in params}
        body["messages"] = [{"role": turn.role, "content": turn.blocks()} for turn in turns]
        try:
            counted = await client.post(
                f"/v1/messages/count_tokens{query}",
                cast_to=object,
                body=body,
                options={"headers": headers, "max_retries": 2},
            )
            return int(counted["input_tokens"])
        except Exception as error:
            raise translate(error, params["model"], streaming=False) from error

    # How it is done

    async def _make(self) -> tuple[Any, bool]:
        if not _sdk.cache_info().currsize:  # a second of work, in which other branches go on
            await run_sync(_sdk, abandon_on_cancel=True)
        if self._given is not None and not isinstance(self._given, type) and hasattr(self._given, "post"):
            return self._given, False
        if self._given is not None:
            made = self._given()
            self.provider = _provider(made)
            return made, True
        sdk = _sdk()
        try:
            client = sdk.AsyncAnthropic(
                api_key=self._api_key, base_url=self._base_url, max_retries=0, open_telemetry=False
            )
        except sdk.AnthropicError as error:  # a profile that is named but isn't there
            raise ConfigError(f"model {self.name!r} needs a key ({error}); {_KEY}") from error
        if client.api_key is None and client.auth_token is None and client.credentials is None:
            await client.close()
            raise ConfigError(f"model {self.name!r} needs a key: {_KEY}")
        return client, True

    async def _ask(
        self, client: Any, request: ModelRequest, on_chunk: OnChunk | None, shown_as: str | None
    ) -> ModelResponse:
        """One request, and its answer as it comes."""
        turns = build_turns(request.messages)
        params, headers, query = self._params(client, request, turns)
        model = params["model"]
        sdk = _sdk()
        options: dict[str, Any] = {"headers": headers, "max_retries": 0}
        timeout = request.settings.timeout or self.settings.timeout
        if timeout is not None:
            options["timeout"] = timeout
        params["stream"] = True
        body: dict[str, Any] = {}
        if type(client) is sdk.AsyncAnthropic:  # others put the body together in their own way
            messages = b",".join([turn.json() for turn in turns])
            body["content"] = b'%s,"messages":[%s]}' % (dumps(params)[:-1], messages)
        else:
            params["messages"] = [{"role": turn.role, "content": turn.blocks()} for turn in turns]
            body["body"] = params
        try:
            stream = await client.post(
                f"/v1/messages{query}",
                cast_to=object,
                options=options,
                stream=True,
                stream_cls=sdk.AsyncStream[object],
                **body,
            )
        except ImportError as error:
            raise ConfigError(f"{self!r}: its client needs the package {error.name!r}, which isn't there") from error
        except Exception as error:
            raise translate(error, model, streaming=False) from error
        return await read_answer(
            stream,
            Answer(shown_as),
            on_chunk,
            lambda name, data: _parse(name, data, stream.response, model),
            lambda error: translate(error, model, streaming=True),
            request.site,
        )

    def _params(
        self, client: Any, request: ModelRequest, turns: list[Form | Turn]
    ) -> tuple[dict[str, Any], dict[str, str], str]:
        itself = type(client).__name__ in ("AsyncAnthropic", "AsyncAnthropicFoundry")
        return build_params(self.name, self.settings, self.betas, request, turns, _sdk(), by_itself=itself)


class _Showing:
    """Passes pieces on, and knows whether there were any."""

    def __init__(self, on_chunk: OnChunk) -> None:
        self.on_chunk = on_chunk
        self.shown = False

    async def __call__(self, piece: ModelResponse) -> None:
        self.shown = True
        await self.on_chunk(piece)


@cache
def _sdk() -> Any:
    return import_module("anthropic")


def _provider(client: Any) -> str:
    kind = type(client).__name__
    return next((name for part, name in _PROVIDERS if part in kind), PROVIDER)


def _parse(name: bytes, data: bytes, response: Any, model: str) -> Any:
    if name == b"error":
        try:
            body = json.loads(data)
        except ValueError:
            body = None
        raise from_answer(response.status_code, body, response.headers, model)
    return None if name == b"ping" else json.loads(data)
