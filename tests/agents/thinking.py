"""What tests of agents that think have in common."""

from agentflow.testing import ScriptedModel


def asked(model: ScriptedModel, call: int = -1) -> list[tuple[str, str]]:
    """What a model read in one of its calls: roles and words."""
    return [(message.role, message.text) for message in model.requests[call].messages]


async def look() -> str:
    """Look."""
    return "seen"
