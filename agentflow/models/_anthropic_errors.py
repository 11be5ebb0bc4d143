"""What can go wrong between here and Claude, in agentflow's words; the SDK's errors are told by what they carry."""

import email.utils
import time
from typing import Any

from agentflow.errors import ModelError, ModelErrorKind
from agentflow.models._anthropic_stream import PROVIDER
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
_BY_STATUS: dict[int, ModelErrorKind] = {
    400: "bad_request",
    401: "auth",
    402: "billing",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "server",
    413: "too_large",
    422: "bad_request",
    429: "rate_limit",
    504: "timeout",
    529: "overloaded",
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
    fallback: ModelErrorKind = "bad_request" if 400 <= status < 500 else "server"
    kind = _BY_TYPE.get(type_) or _BY_STATUS.get(status) or fallback
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


def retry_after(headers: Any) -> float | None:
    """Seconds that the provider asks to wait, by its headers."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            when = email.utils.parsedate_tz(value)
            if when is not None:
                return max(0.0, email.utils.mktime_tz(when) - time.time())
    return None
