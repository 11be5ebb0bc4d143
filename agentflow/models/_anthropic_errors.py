"""What can go wrong between here and Claude, in agentflow's words; the SDK's errors are told by what they carry."""

from typing import Any

from agentflow.errors import ModelError, ModelErrorKind
from agentflow.models._anthropic_stream import PROVIDER
from agentflow.models._sdk import kind_of_status, retry_after
from agentflow.models.registry import suggestion

_BY_TYPE: dict[str, ModelErrorKind] = {
    "api_error": "server",
    "authentication_error": "auth",
    "billing_error": "billing",
    "gateway_timeout_error": "timeout",
    "invalid_request_error": "bad_request",
    "not_found_error": "not_found",
    "overloaded_error": "overloaded",
    "permission_error": "permission",
    "rate_limit_error": "rate_limit",
    "request_too_large": "too_large",
    "timeout_error": "timeout",
}


def translate(error: Exception, model: str, *, streaming: bool) -> ModelError:
    """The `ModelError` for what the SDK or its HTTP client raised.

    Args:
        error: What it raised.
        model: Who was asked.
        streaming: Whether the answer had begun.
    """
    status = getattr(error, "status_code", None)
    if status is not None:
        response: Any = error
        return from_answer(int(status), response.body, response.response.headers, model)
    name = type(error).__name__
    kind: ModelErrorKind
    if "Timeout" in name:
        kind, said = "timeout", "no answer in time"
    elif streaming:
        kind, said = "stream", "the answer broke off"
    elif "Credentials" in name or "Identity" in name:
        kind, said = "auth", "the credentials can't be used"
    else:
        kind, said = "connection", "can't be reached"
    cause = error.__cause__ or error
    why = f"{type(cause).__name__}: {cause}".rstrip(": ")
    return ModelError(f"model {model!r}: {said} ({why})", kind=kind, provider=PROVIDER, model=model)


def from_answer(status: int, body: Any, headers: Any, model: str) -> ModelError:
    """The `ModelError` for an answer that is one. The body decides: an error within a stream has status 200."""
    inner: Any = body["error"] if isinstance(body, dict) and isinstance(body.get("error"), dict) else {}
    type_, said = str(inner.get("type") or ""), str(inner.get("message") or "")
    kind = _BY_TYPE.get(type_) or kind_of_status(status)
    if kind == "bad_request" and ("too long" in said or "context window" in said or "context limit" in said):
        kind = "context_window"
    hint = suggestion(model) if kind == "not_found" and model in said else ""
    after = retry_after(headers)
    wanted = headers.get("x-should-retry")
    return ModelError(
        f"model {model!r}: {status} {type_ or kind}{': ' if said else ''}{said}{hint}"
        + (f" (retry after {after:g} s)" if after is not None else ""),
        kind=kind,
        retryable={"true": True, "false": False}.get(wanted),
        retry_after=after,
        status=status,
        provider=PROVIDER,
        model=model,
        request_id=headers.get("request-id") or (body.get("request_id") if isinstance(body, dict) else None),
    )
