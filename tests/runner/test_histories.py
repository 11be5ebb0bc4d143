"""What a Runner keeps of the sessions that it has read, and for how long."""

from agentflow import (
    AgentTool,
    InMemorySessionService,
    LlmAgent,
    LoopAgent,
    ParallelAgent,
    Runner,
    SequentialAgent,
    Session,
    ToolCall,
)
from agentflow.history import Histories, History
from agentflow.testing import FunctionModel, ScriptedModel
from tests.core.actors import hears, read


def index(serial: int) -> History:
    history = History()
    history.serial = serial
    return history


def test_those_not_used_for_long_make_room_by_their_size() -> None:
    kept = Histories(events=1000)
    indexes = {key: index(200) for key in "abc"}
    for key, history in indexes.items():
        kept.keep(key, history)
    assert kept.take("a") is indexes["a"]
    assert kept.take("a") is None, "who takes it has it alone"
    kept.keep("a", indexes["a"])
    kept.keep("d", index(300))
    assert [kept.take(key) for key in "bc"] == [None, indexes["c"]]
    assert kept.take("a") is indexes["a"]


def test_the_last_one_is_kept_however_large_it_is() -> None:
    kept = Histories(events=10)
    large = index(1000)
    kept.keep("a", large)
    assert kept.take("a") is large


async def test_what_branches_made_of_the_history_goes_with_them() -> None:
    model = FunctionModel(lambda request: "x")
    views = ParallelAgent(
        "p", [LlmAgent("a", model=model), LoopAgent("l", [LlmAgent("b", model=model)], max_iterations=2)]
    )
    asks = LlmAgent("c", model=ScriptedModel(ToolCall("1", "d", {"request": "?"}), "y"), tools=[
        AgentTool(LlmAgent("d", model=model)),
    ])  # fmt: skip
    async with Runner(SequentialAgent("s", [views, asks])) as runner:
        run = await read(runner.run("go", session_id="s"))
        history = runner._histories.take(run.session)
    assert history is not None
    held = {branch for (_, branch), line in history._lines.items() if line.views}
    assert held == set()
    assert history._root.views is not None, "the session's own line goes on"


async def test_a_session_is_read_once_and_then_only_what_is_new() -> None:
    asked: list[int | None] = []

    class Store(InMemorySessionService):
        async def get(self, key, *, recent=None, after=None, limit=None) -> Session | None:
            if recent is None:
                asked.append(after)
            return await super().get(key, recent=recent, after=after, limit=limit)

    heard: list[str] = []
    async with Runner(hears("a", heard), sessions=Store()) as runner:
        for words in ("one", "two", "three"):
            await read(runner.run(words, session_id="s"))
    assert heard == ["one", "one", "two", "one", "two", "three"]
    assert asked == [None, 2, 5], "from the last event that is known, to see that it is the same"
