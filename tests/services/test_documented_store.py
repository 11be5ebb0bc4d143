"""The store that docs/how-to/session-store.md shows keeps every promise too."""

from pathlib import Path

from agentflow.testing import SessionServiceSuite

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "session-store.md"


def documented() -> type:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict = {"__name__": __name__}
    exec(compile(code.replace("anyio.run(main)", ""), str(PAGE), "exec"), names)
    return names["JsonSessions"]


Sessions = documented()


class TestJsonSessions(SessionServiceSuite):
    async def make(self):
        return Sessions()
