"""Handing over, and who answers the user's next message: adk-go's rules (2.13), its bugs fixed."""

import pytest

from agentflow import (
    ConfigError,
    InMemorySessionService,
    LimitExceeded,
    LlmAgent,
    Message,
    ParallelAgent,
    Runner,
    SequentialAgent,
    Text,
    ToolCall,
    ToolResult,
    agent,
)
from agentflow.core import ToolContext
from agentflow.testing import ScriptedModel
from agentflow.tools.function import FunctionTool
from tests.agents.thinking import asked, look
from tests.core.actors import Played, fails, play, says


def hands(to: object, id: str = "t") -> ToolCall:
    """A model's call that hands over."""
    return ToolCall(id, "transfer_to_agent", {"agent_name": to})


def thinks(name: str, *script: object, **settings: object) -> LlmAgent:
    return LlmAgent(name, model=ScriptedModel(*script), **settings)


def speakers(played: Played) -> list[str]:
    """Who said what, in order, calls and results aside."""
    return [f"{event.path}: {event.text}" for event in played.session.events if event.text and event.author != "user"]


# Who may be handed over to


def targets(node: LlmAgent) -> list[str]:
    return [target.name for target in node.targets]


def test_the_targets_are_the_sub_agents_the_parent_and_its_other_sub_agents() -> None:
    child, peer, flow = LlmAgent("child", sub_agents=[LlmAgent("leaf")]), LlmAgent("peer"), says("flow")
    root = LlmAgent("root", sub_agents=[child, peer, flow])
    assert targets(root) == ["child", "peer", "flow"]
    assert targets(child) == ["leaf", "root", "peer", "flow"]
    assert targets(peer) == ["root", "child", "flow"]


def test_parent_and_peers_can_be_forbidden() -> None:
    shut = {"transfer_to_parent": False}
    alone = {"transfer_to_peers": False}
    root = LlmAgent("root", sub_agents=[LlmAgent("a", **shut), LlmAgent("b", **alone), LlmAgent("c", **shut, **alone)])
    assert [targets(one) for one in root.sub_agents] == [["b", "c"], ["root"], []]


def test_a_workflow_above_is_no_target_nor_are_its_others() -> None:
    inside = LlmAgent("inside", sub_agents=[LlmAgent("below")])
    SequentialAgent("flow", [inside, LlmAgent("beside")])
    assert targets(inside) == ["below"]


async def test_an_agent_without_targets_is_told_nothing_of_handing_over() -> None:
    alone = thinks("alone", "x")
    await play(alone)
    assert alone.model.requests[0].tools == []
    assert "hand" not in alone.model.requests[0].system


async def test_the_tool_names_whom_it_can_reach() -> None:
    root = thinks("root", "x", sub_agents=[LlmAgent("b"), LlmAgent("a")])
    await play(root)
    (tool,) = root.model.requests[0].tools
    assert tool.name == "transfer_to_agent"
    assert tool.parameters["properties"]["agent_name"]["enum"] == ["a", "b"]


async def test_a_parent_is_named_as_the_way_out() -> None:
    child = thinks("child", "x")
    await play(thinks("root", hands("child"), sub_agents=[child]))
    assert "hand over to your parent, root" in child.model.requests[0].system


# Handing over


async def test_the_other_answers_inline_in_the_same_run_and_the_turn_ends() -> None:
    child = thinks("child", "from below")
    root = thinks("root", hands("child"), sub_agents=[child])
    played = await play(root)
    assert speakers(played) == ["root.child: from below"]
    assert played.run.result.text == "from below"
    assert len({event.invocation_id for event in played.session.events}) == 1
    assert {event.branch for event in played.session.events} == {""}
    assert len(root.model.requests) == 1
    assert next(words for _, words in asked(child.model)) == "go"
    assert "[root] called tool `transfer_to_agent`" in asked(child.model)[1][1]


async def test_workflows_and_functions_can_be_handed_over_to() -> None:
    flow = ParallelAgent("flow", [says("a", "x"), says("b", "y")])
    played = await play(thinks("root", hands("flow"), sub_agents=[flow]))
    assert played.run.result.text == "x\n\ny"


async def test_callbacks_of_who_takes_over_are_called() -> None:
    child = thinks("child", before_agent=lambda ctx: f"{ctx.path} is closed")
    assert (await play(thinks("root", hands("child"), sub_agents=[child]))).texts[-1] == "root.child is closed"


async def test_one_hands_over_to_a_peer_and_back_to_the_parent() -> None:
    a = thinks("a", hands("b"))
    b = thinks("b", hands("root"))
    root = thinks("root", hands("a"), "home", sub_agents=[a, b])
    played = await play(root)
    assert speakers(played) == ["root.a.b.root: home"]


async def test_of_two_at_once_the_last_takes_over() -> None:
    team = [thinks("a"), thinks("b", "b it is")]
    played = await play(thinks("root", [hands("a", "1"), hands("b", "2")], sub_agents=team))
    assert played.run.result.text == "b it is"


@pytest.mark.parametrize("name", ["nobody", "root", "", 3, None])
async def test_a_name_that_is_no_target_is_told_to_the_model(name: object) -> None:
    """adk-go ends the run."""
    root = thinks("root", hands(name), "I'll do it", sub_agents=[thinks("child")])
    played = await play(root)
    assert played.run.result.text == "I'll do it"
    (result,) = root.model.requests[1].messages[-1].parts
    assert result.is_error
    assert "only child" in result.result


async def test_a_tool_that_hands_over_to_no_target_is_a_mistake_of_the_program() -> None:
    async def leave(ctx: ToolContext) -> None:
        """Leave."""
        ctx.actions.transfer_to_agent = "nobody"

    with pytest.raises(ConfigError, match="agent 'root' can't hand over to 'nobody'"):
        await play(thinks("root", ToolCall("1", "leave"), tools=[leave]))


async def test_a_target_that_says_nothing_leaves_the_answer_to_who_handed_over() -> None:
    @agent
    async def silent(ctx) -> None: ...

    root = thinks("root", hands("silent"), "then I", sub_agents=[silent])
    assert (await play(root)).run.result.text == "then I"


async def test_a_failure_of_who_took_over_ends_the_turn() -> None:
    with pytest.raises(ValueError, match="child failed") as caught:
        await play(thinks("root", hands("child"), sub_agents=[fails("child")]))
    assert "'root.child'" in caught.value.__notes__[0]


async def test_two_that_hand_over_to_one_another_for_ever_are_stopped() -> None:
    a, b = (LlmAgent(n, model=ScriptedModel(hands(o), repeat=True)) for n, o in ("ab", "ba"))
    with pytest.raises(LimitExceeded, match=r"keep handing over to one another: root\.a\.b\.a\.b") as caught:
        await play(thinks("root", hands("a"), sub_agents=[a, b]))
    assert caught.value.limit == "handovers"


async def test_a_transfer_beside_another_call_waits_for_its_result() -> None:
    child = thinks("child", "done")
    root = thinks("root", [ToolCall("1", "look"), hands("child")], tools=[look], sub_agents=[child])
    await play(root)
    assert 'tool returned result: "seen"' in asked(child.model)[2][1]


# Who answers next


async def conversation(root: object, *messages: object, store: InMemorySessionService | None = None) -> list[str]:
    """Paths of who answered each message of a session, each in a Runner of its own, as after a restart."""
    store = store or InMemorySessionService()
    answered = []
    for message in messages:
        async with Runner(root, sessions=store) as runner, runner.run(message, session_id="s") as run:
            events = [event async for event in run]
        answered.append([event.path for event in events if event.text and not event.partial][-1])
    return answered


async def test_who_spoke_last_answers_next_at_its_place_in_the_tree() -> None:
    leaf = thinks("leaf", "1", "2", "3")
    middle = thinks("middle", hands("leaf"), sub_agents=[leaf])
    root = thinks("root", hands("middle"), sub_agents=[middle])
    assert await conversation(root, "a", "b", "c") == ["root.middle.leaf"] * 3
    assert asked(leaf.model)[0] == ("user", "a")
    assert asked(leaf.model)[-4:] == [("assistant", "1"), ("user", "b"), ("assistant", "2"), ("user", "c")]


async def test_a_peer_that_was_handed_over_to_answers_next() -> None:
    a, b = thinks("a", hands("b")), thinks("b", "1", "2")
    root = thinks("root", hands("a"), sub_agents=[a, b])
    assert await conversation(root, "x", "y") == ["root.a.b", "root.b"]


async def test_who_may_not_go_back_up_does_not_keep_the_floor_nor_do_those_below() -> None:
    leaf = thinks("leaf", "1")
    shut = thinks("shut", hands("leaf"), sub_agents=[leaf], transfer_to_parent=False)
    root = thinks("root", hands("shut"), "2", sub_agents=[shut])
    assert await conversation(root, "x", "y") == ["root.shut.leaf", "root"]


async def test_agents_that_are_no_llm_agents_and_those_below_do_not_keep_the_floor() -> None:
    flow = SequentialAgent("flow", [thinks("inside", "1"), says("plain", "2")])
    root = thinks("root", hands("flow"), "3", sub_agents=[flow])
    assert await conversation(root, "x", "y") == ["root.flow.plain", "root"]


async def test_those_that_do_not_count_are_passed_over_to_who_spoke_before_them() -> None:
    plain = says("plain", "2")
    child = thinks("child", "1", hands("plain"), "3")
    root = thinks("root", hands("child"), sub_agents=[child, plain])
    assert await conversation(root, "x", "y", "z") == ["root.child", "root.child.plain", "root.child"]


async def test_a_workflow_as_root_begins_from_its_start() -> None:
    root = SequentialAgent("root", [thinks("a", "1", "3"), thinks("b", "2", "4")])
    assert await conversation(root, "x", "y") == ["root.b", "root.b"]
    assert root.find_agent("a").model.requests[1].messages[-1].text == "y"


async def test_the_answer_to_a_call_goes_to_who_made_it() -> None:
    order = FunctionTool(begin, name="order", long_running=True)
    child = thinks("child", ToolCall("order-1", "order"), hands("other"), "arrived!", tools=[order])
    root = thinks("root", hands("child"), sub_agents=[child, thinks("other", "hello")])
    store = InMemorySessionService()
    await play(root, sessions=store)
    assert await conversation(root, "hi", ToolResult("order-1", "order", "here"), store=store) == [
        "root.child.other",
        "root.child",
    ]
    assert Message("user", (ToolResult("order-1", "order", "here"),)) in child.model.requests[-1].messages


async def begin() -> None:
    """Begin."""


async def test_an_agent_that_is_gone_from_the_tree_is_passed_over() -> None:
    store = InMemorySessionService()
    await conversation(thinks("root", hands("old"), sub_agents=[thinks("old", "1")]), "x", store=store)
    assert await conversation(thinks("root", "2", sub_agents=[thinks("new")]), "y", store=store) == ["root"]


async def test_the_root_is_not_run_where_another_answers() -> None:
    calls = []
    root = thinks(
        "root", hands("child"), sub_agents=[thinks("child", "1", "2")], before_agent=lambda ctx: calls.append(1)
    )
    await conversation(root, "x", "y")
    assert calls == [1]


async def test_text_is_what_was_said_whoever_answered() -> None:
    root = thinks("root", hands("child"), sub_agents=[thinks("child", "1", "2")])
    store = InMemorySessionService()
    await play(root, sessions=store)
    played = await play(root, sessions=store)
    assert played.run.result.text == "2"
    assert played.events[-1].parts == ()
    assert played.session.events[-2].parts == (Text("2"),)
