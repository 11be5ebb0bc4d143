"""OpenAI's Chat Completions, and everybody who speaks like them (extra `openai`)."""

import json
import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from anyio.to_thread import run_sync

from agentflow.errors import ConfigError
from agentflow.models._openai_wire import PROVIDER, Answer, build_body, from_answer, translate
from agentflow.models._sdk import SdkModel, read_answer
from agentflow.models.base import Capabilities, Model, ModelRequest, ModelResponse, ModelSettings, OnChunk, check_model
from agentflow.models.limiter import ConcurrencyLimiter
from agentflow.models.prices import Price
from agentflow.policies import Retry

_KEY = "OPENAI_API_KEY"


class OpenAIModel(SdkModel):
    """A model behind OpenAI's Chat Completions: OpenAI's own, or any server's that speaks like it.

        OpenAIModel("gpt-6")
        OpenAIModel("llama-4", base_url="http://localhost:11434/v1")

    Args:
        name: The model's name.
        settings: How to generate; what a request says goes over it. `extra` goes into the body as it is.
        client: An `openai.AsyncOpenAI` (or `AsyncAzureOpenAI`), which you close; or a function that makes one, which is
            called once per event loop and what it makes closed.
        api_key: Instead of `OPENAI_API_KEY`. A server of your own may need none.
        base_url: Instead of `OPENAI_BASE_URL`.
        retry: When it fails in a way that may pass and nothing was shown; `None` never tries again.
        limiter: How many of its calls may be on their way at once.
        price: What it costs, where `genai-prices` doesn't know.
        capabilities: What it can do, where that isn't what OpenAI's models can.

    Raises:
        ConfigError: The extra `openai` isn't installed.
    """

    provider = PROVIDER

    def __init__(
        self,
        name: str,
        *,
        settings: ModelSettings | None = None,
        client: Any = None,
        api_key: str | None = None,
        base_url: str | None = None,
        retry: Retry | None = Model.retry,
        limiter: ConcurrencyLimiter | None = None,
        price: Price | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"OpenAIModel needs a model's name, not {name!r}")
        if find_spec("openai") is None:
            raise ConfigError(f"model {name!r} needs the extra `openai` (agentflow-py[openai])")
        if client is not None and (api_key is not None or base_url is not None):
            raise ConfigError("OpenAIModel: give api_key and base_url to the client that you pass")
        check_model(self, settings, retry, limiter, price, capabilities)
        super().__init__(name, api_key, base_url)
        self.settings = settings or ModelSettings()
        self.retry = retry
        self.limiter = limiter
        self.price = price
        self.capabilities = capabilities or Capabilities(thinking=True, images=True, documents=True)
        self._given = client

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        client = await self._client()
        settings = request.settings.over(self.settings)
        theirs = (urlsplit(str(client.base_url)).hostname or "").endswith(("openai.com", "azure.com"))
        body = build_body(self.name, request, settings, theirs=theirs)
        model = body["model"]
        options: dict[str, Any] = {"max_retries": 0}
        if settings.timeout is not None:
            options["timeout"] = settings.timeout
        try:
            stream = await client.post(
                "/chat/completions",
                cast_to=object,
                body=body,
                options=options,
                stream=True,
                stream_cls=_sdk().AsyncStream[object],
            )
        except Exception as error:
            raise translate(error, model, streaming=False) from error
        return await read_answer(
            stream,
            Answer(model),
            on_chunk,
            lambda _name, data: _parse(data, stream.response, model),
            lambda error: translate(error, model, streaming=True),
            request.site,
        )

    async def _make(self) -> tuple[Any, bool]:
        if not _sdk.cache_info().currsize:  # a second of work, in which other branches go on
            await run_sync(_sdk, abandon_on_cancel=True)
        if self._given is not None and not isinstance(self._given, type) and hasattr(self._given, "post"):
            return self._given, False
        if self._given is not None:
            return self._given(), True
        key = self._api_key or os.environ.get(_KEY)
        base_url = self._base_url or os.environ.get("OPENAI_BASE_URL")
        if key is None and base_url is None:
            raise ConfigError(
                f"model {self.name!r} needs a key: set the environment variable {_KEY}, "
                "or pass OpenAIModel(..., api_key=...); for a server of your own pass base_url=..."
            )
        return _sdk().AsyncOpenAI(api_key=key or "none", base_url=base_url, max_retries=0), True


@cache
def _sdk() -> Any:
    return import_module("openai")


def _parse(data: bytes, response: Any, model: str) -> Any:
    if data.strip() == b"[DONE]" or not data:
        return None
    chunk = json.loads(data)
    if isinstance(chunk, dict) and chunk.get("error"):
        raise from_answer(response.status_code, chunk["error"], response.headers, model)
    return chunk
