"""Every aggregator: what it makes of the answers, when it stops, and what it can't use."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from agentflow import (
    Aggregator,
    Collect,
    Combine,
    ConfigError,
    Consensus,
    Decision,
    First,
    InvalidAnswer,
    Judge,
    NoDecision,
    Outcome,
    Panel,
    Rubric,
    ScatterGatherAgent,
    Synthesis,
    Voting,
    Weighted,
)
from agentflow.patterns.aggregate import EarlyStop
from agentflow.patterns.weighted import weighted_mean, weighted_median
from tests.core.actors import play
from tests.patterns.answering import Fails, Hangs, Silent, answers, echoes, gathered, script, spoken


def panel(aggregator: object, *lines: object, after: object = (), **options: object) -> ScatterGatherAgent:
    return ScatterGatherAgent(
        "panel", script("voter", lines, after=after), n=len(lines), aggregator=aggregator, **options
    )


# Complementary answers


async def test_collect_gives_all_in_order_of_declaration() -> None:
    result = await gathered(panel(Collect(), "one", "two", {"n": 3}, after=[3, 1, 2]))
    assert result.answer == ["one", "two", {"n": 3}]
    assert result.text == "one\n\ntwo"
    assert (result.strategy, result.winner) == ("collect", "")


async def test_synthesis_is_told_the_task_the_answers_in_order_and_what_is_missing() -> None:
    heard: list[str] = []
    writer = echoes("writer", heard, "They say 42.")
    result = await gathered(
        panel(Synthesis(writer, request="Write it."), "42", Fails("no idea"), "```\n43", after=[3, 2, 1])
    )
    assert (result.answer, result.text, result.strategy) == ("They say 42.", "They say 42.", "synthesis")
    told = heard[0]
    assert "What is 6 x 7?" in told
    assert told.endswith("Write it.")
    assert told.index("### 1. voter\n\n```\n42\n```") < told.index("### 2. voter#3\n\n````\n```\n43\n````")
    assert "2 of 3 answered" in told
    assert "- voter#2: ValueError: no idea" in told


async def test_a_structured_synthesis_is_the_answer() -> None:
    result = await gathered(panel(echoes("writer", reply={"verdict": "go"}), "a", "b"))
    assert result.answer == {"verdict": "go"}


async def test_a_synthesis_of_which_nothing_comes_is_an_error() -> None:
    with pytest.raises(InvalidAnswer, match="agent 'writer', who was to make one answer of them, said nothing"):
        await gathered(panel(answers("writer", Silent()), "a", "b"))


async def test_a_function_is_given_every_outcome() -> None:
    def longest(outcomes: list[Outcome]) -> dict[str, object]:
        assert [outcome.status for outcome in outcomes] == ["ok", "error", "ok"]
        return {
            "longest": max((outcome.text for outcome in outcomes), key=len),
            "lost": sum(not one.ok for one in outcomes),
        }

    result = await gathered(panel(longest, "a", Fails(), "bbb"))
    assert result.answer == {"longest": "bbb", "lost": 1}
    assert result.strategy == "function"

    async def later(outcomes: list[Outcome]) -> int:
        return len(outcomes)

    assert (await gathered(panel(Combine(later), "a", "b"))).answer == 2


async def test_a_function_may_answer_a_model_or_a_dataclass() -> None:
    class Grade(BaseModel):
        mark: int

    assert (await gathered(panel(lambda outcomes: Grade(mark=len(outcomes)), "a", "b"))).answer == {"mark": 2}
    found = await gathered(panel(lambda outcomes: [Rubric({"x": 1}), ("a", 1)], "a"))
    assert found.answer == [{"criteria": {"x": 1}, "scale": 10.0}, ["a", 1]]


# Competing answers


async def test_first_takes_the_first_and_cancels_the_rest() -> None:
    result = await gathered(panel("first", Fails(), "slow", "quick", Hangs(), after=[0, 2, 1, 0]))
    assert (result.answer, result.winner) == ("quick", "voter#3")
    assert [branch.status for branch in result.branches] == ["error", "cancelled", "ok", "cancelled"]
    assert result.metrics.saved_calls == 2
    assert result.metrics.wall_seconds == pytest.approx(1)


async def test_first_without_early_stop_takes_the_quickest_of_all() -> None:
    result = await gathered(panel(First(), "slow", "quick", after=[2, 1], early_stop=False))
    assert (result.answer, result.metrics.saved_calls) == ("quick", 0)


async def test_votes_are_counted_by_what_they_say() -> None:
    result = await gathered(panel(Voting(), "41", "The answer is **42**.", "42", 42, "forty-two", early_stop=False))
    assert (result.answer, result.text, result.winner) == ("42", "The answer is **42**.", "voter#2")
    assert result.metrics.agreement == 0.6
    assert [(one.answer, one.weight, one.branches) for one in result.candidates] == [
        ("42", 3, ("voter#2", "voter#3", "voter#4")),
        ("41", 1, ("voter",)),
        ("forty-two", 1, ("voter#5",)),
    ]


async def test_a_vote_that_can_not_change_any_more_ends() -> None:
    result = await gathered(panel(Voting(), "a", "a", "b", "a", "b", after=[1, 2, 3, 4, 5]))
    assert (result.answer, result.reason) == ("a", "the vote can't change any more")
    assert [branch.status for branch in result.branches] == ["ok", "ok", "ok", "ok", "cancelled"]
    assert result.metrics.saved_calls == 1
    assert result.missing == {"voter#5": "cut short"}


async def test_failures_count_as_votes_that_do_not_come() -> None:
    result = await gathered(panel(Voting(), "a", Fails(), Silent(), "a", Hangs(), after=[1, 2, 3, 4, 0]))
    assert (result.answer, result.metrics.saved_calls) == ("a", 1)
    assert result.missing == {"voter#2": "ValueError: no idea", "voter#3": "said nothing", "voter#5": "cut short"}


async def test_the_first_to_reach_the_quorum_wins() -> None:
    result = await gathered(panel(Voting(quorum=2), "a", "b", "b", "a", "a", after=[1, 2, 3, 4, 5]))
    assert (result.answer, result.reason, result.metrics.saved_calls) == ("b", "2 votes reached", 2)
    result = await gathered(panel(Voting(quorum=0.6), "a", "b", "b", "a", "a", after=[1, 2, 3, 4, 5]))
    assert result.answer == "a"


async def test_a_quorum_that_is_missed_is_an_error_as_soon_as_it_is_out_of_reach() -> None:
    with pytest.raises(NoDecision, match="no answer has 3 votes; the most is 1") as caught:
        await gathered(panel(Voting(quorum=3), "a", "b", Hangs(), "c", after=[1, 2, 0, 3]))
    assert caught.value.agent == "panel"


async def test_ahead_by_stops_at_a_lead() -> None:
    result = await gathered(panel(Voting(ahead_by=2), *"abaabbbbb", after=lambda place: place + 1.0))
    assert (result.answer, result.reason) == ("a", "ahead by 2")
    assert result.metrics.saved_calls == 5


async def test_confidence_stops_when_the_lead_is_sure() -> None:
    result = await gathered(panel(Voting(confidence=0.95), *"aaaaaaaaaaaaaaa", after=lambda place: place + 1.0))
    assert (result.reason, result.metrics.saved_calls) == ("96.9% sure of the lead", 11)


@pytest.mark.parametrize(("tie", "expected"), [("first", "b"), ("judge", "c")])
async def test_a_tie_is_broken(tie: str, expected: str) -> None:
    seen: list[list[object]] = []

    def pick_last(answers: list[object]) -> int:
        seen.append(list(answers))
        return len(answers) - 1

    voting = Voting(tie=tie, judge=pick_last if tie == "judge" else None)
    result = await gathered(panel(voting, "b", "c", "a", "c", "b"))
    assert result.answer == expected
    assert result.candidates[0].answer == expected
    assert seen == ([["b", "c"]] if tie == "judge" else [])


async def test_a_tie_can_be_an_error() -> None:
    with pytest.raises(NoDecision, match="2 answers have 1 votes each") as caught:
        await gathered(panel(Voting(tie="error"), "a", "b"))
    assert caught.value.candidates == ("a", "b")


async def test_votes_on_a_field_and_by_a_function() -> None:
    lines = [{"label": "A", "why": "x"}, {"label": "a", "why": "y"}, {"label": "B", "why": "z"}, {"why": "-"}]
    result = await gathered(panel(Voting(key="label"), *lines, early_stop=False))
    assert (result.answer, result.winner) == ("A", "voter")
    assert result.missing == {"voter#4": "not counted: the answer has no field 'label': \"{'why': '-'}\""}
    with pytest.raises(InvalidAnswer, match="'voter#4' can't be used"):
        await gathered(panel(Voting(key="label", invalid="error"), *lines, early_stop=False))
    result = await gathered(panel(Voting(key=lambda text: text[0]), "ab", "ac", "bb", early_stop=False))
    assert (result.answer, result.text, result.metrics.agreement) == ("a", "ab", pytest.approx(2 / 3))


async def test_no_vote_that_can_be_counted_is_an_error() -> None:
    with pytest.raises(InvalidAnswer, match="no answer can be counted"):
        await gathered(panel(Voting(key="label"), "a", "b"))


async def test_weights_of_the_pattern_count_in_a_vote() -> None:
    agents = [answers("expert", "a"), answers("novice", "b"), answers("layman", "b")]
    weights = {"expert": 3, "novice": 1, "layman": 1}
    vote = ScatterGatherAgent("panel", agents, aggregator="voting", weights=weights, early_stop=False)
    result = await gathered(vote)
    assert (result.answer, result.metrics.agreement) == ("a", 0.6)


async def test_a_share_as_a_quorum_is_of_the_votes_of_all() -> None:
    vote = Voting(quorum=0.55)  # of 100 that is 55, though 0.55 * 100 is more as floating point has it
    assert (await gathered(panel(vote, *"a" * 55, *"b" * 45))).answer == "a"
    with pytest.raises(NoDecision, match="no answer has 55 votes; the most is 54"):
        await gathered(panel(vote, *"a" * 54, *"b" * 46, early_stop=False))


async def test_a_share_as_a_quorum_is_of_the_weight_of_all() -> None:
    agents = [answers("expert", "a"), answers("novice", "b"), answers("layman", Silent())]
    weights = {"expert": 0.6, "novice": 0.2, "layman": 0.2}
    vote = ScatterGatherAgent("panel", agents, aggregator=Voting(quorum=0.6), weights=weights)
    assert (await gathered(vote)).winner == "expert"
    with pytest.raises(NoDecision, match=r"no answer has 0.7 votes; the most is 0.6"):
        await gathered(vote.clone(aggregator=Voting(quorum=0.7)))


@pytest.mark.parametrize(
    "aggregator",
    [Voting(), Weighted("choice", weights={"novice": 0, "expert": 1}),
     Weighted("choice", accuracy={"novice": 0.4, "expert": 0.9})],
    ids=str,
)  # fmt: skip
async def test_answers_that_weigh_nothing_decide_nothing(aggregator: Aggregator) -> None:
    agents = [answers("novice", "b"), answers("expert", Fails())]
    vote = ScatterGatherAgent("panel", agents, aggregator=aggregator, weights={"novice": 0, "expert": 1})
    with pytest.raises(InvalidAnswer, match="none of the answers weighs anything: those of 'novice'"):
        await gathered(vote)


async def test_the_weighted_mean_of_the_seed() -> None:
    agents = [answers("agent_a", 10), answers("agent_b", "20"), answers("agent_c", "The answer is 30.")]
    weights = {"agent_a": 0.5, "agent_b": 0.3, "agent_c": 0.2}
    result = await gathered(ScatterGatherAgent("panel", agents, aggregator="weighted", weights=weights))
    assert result.answer == pytest.approx(17)
    assert [branch.weight for branch in result.branches] == [0.5, 0.3, 0.2]


async def test_the_median_is_not_moved_by_an_outlier() -> None:
    agents = [answers(name, value) for name, value in (("a", 1), ("b", 2), ("c", 1e9))]
    weights = dict.fromkeys("abc", 1)
    assert (await gathered(ScatterGatherAgent("p", agents, aggregator=Weighted("median", weights=weights)))).answer == 2


async def test_numbers_weighed_by_confidence() -> None:
    lines = [{"value": 10, "sure": 0.9}, {"value": 20, "sure": 0.1}]
    assert (await gathered(panel(Weighted(key="value", confidence="sure"), *lines))).answer == pytest.approx(11)
    with pytest.raises(InvalidAnswer, match="must be a number from 0 to 1"):
        await gathered(panel(Weighted(key="value", confidence="sure"), {"value": 1, "sure": 3}, *lines))
    result = await gathered(panel(Weighted(key="value", confidence="sure", invalid="drop"), {"value": 1}, *lines))
    assert result.answer == pytest.approx(11)
    assert "no field 'sure'" in result.missing["voter"]


async def test_a_choice_weighed_by_past_accuracy_is_by_log_odds() -> None:
    """One who is right 9 times of 10 outweighs two who are right 7 times of 10, but not three."""
    agents = [answers("star", "x"), *[answers(name, "y") for name in ("b", "c", "d")]]
    accuracy = {"star": 0.9, "b": 0.7, "c": 0.7, "d": 0.7}
    weigh = Weighted("choice", accuracy=accuracy)
    assert (await gathered(ScatterGatherAgent("p", agents, aggregator=weigh))).answer == "y"
    two = Weighted("choice", accuracy={name: accuracy[name] for name in ("star", "b", "c")})
    pair = ScatterGatherAgent("q", [agent.clone() for agent in agents[:3]], aggregator=two)
    assert (await gathered(pair)).answer == "x"


async def test_a_weighted_choice_stops_when_it_can_not_change() -> None:
    agents = [answers("a", "x", after=1), answers("b", "y", after=2), answers("c", "y", after=3)]
    weigh = Weighted("choice", weights={"a": 3, "b": 1, "c": 1})
    result = await gathered(ScatterGatherAgent("p", agents, aggregator=weigh))
    assert (result.answer, result.metrics.saved_calls) == ("x", 2)


async def test_a_choice_weighed_by_confidence() -> None:
    lines = [{"label": "a", "sure": 0.9}, {"label": "b", "sure": 0.4}, {"label": "b", "sure": 0.4}, {"label": "b"}]
    result = await gathered(panel(Weighted("choice", key="label", confidence="sure", invalid="drop"), *lines))
    assert (result.answer, result.metrics.agreement) == ("a", pytest.approx(0.9 / 1.7))
    assert "no field 'sure'" in result.missing["voter#4"]
    with pytest.raises(InvalidAnswer, match="no answer has a weight"):
        await gathered(panel(Weighted("choice", confidence="sure", invalid="drop"), "a", "b"))


@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(0, 10)), min_size=1).filter(lambda rows: any(w for _, w in rows))
)
def test_means_and_medians_are_between_the_values_that_count(numbers: list[tuple[float, float]]) -> None:
    values = [value for value, weight in numbers if weight]
    for value in (weighted_mean(numbers), weighted_median(numbers)):
        assert min(values) <= value <= max(values)
    equal = [(value, 1.0) for value, _ in numbers]
    assert weighted_median(equal) == pytest.approx(median(value for value, _ in numbers), abs=1e-6)


@pytest.mark.parametrize("take", ["mean", "median"])
async def test_text_to_a_mean_of_numbers_is_an_error_or_dropped(take: str) -> None:
    weigh = Weighted(take, weights={"voter": 1})
    with pytest.raises(InvalidAnswer, match="'voter#2' can't be used: it is no number: 'lots'"):
        await gathered(panel(weigh, "4", "lots", "6"))
    result = await gathered(panel(Weighted(take, weights={"voter": 1}, invalid="drop"), "4", "lots", "6"))
    assert result.answer == 5
    assert result.missing == {"voter#2": "not counted: it is no number: 'lots'"}
    with pytest.raises(InvalidAnswer, match="no answer is a number"):
        await gathered(panel(Weighted(take, weights={"voter": 1}, invalid="drop"), "x", "lots"))


async def test_consensus_takes_the_answer_most_like_the_others() -> None:
    lines = ["ship on monday", "bake a cake", "ship on monday morning", "ship it monday"]
    result = await gathered(panel("consensus", *lines))
    assert result.winner in ("voter", "voter#3")
    assert min(result.scores, key=result.scores.__getitem__) == "voter#2"
    assert result.metrics.agreement == max(result.scores.values())
    assert result.rounds == 1


async def test_agents_see_each_others_answers_in_further_rounds() -> None:
    """They change their minds in the second round, so there is no third."""
    heard: list[str] = []

    def reply(told: str) -> str:
        heard.append(told)
        return "red" if "red" in told.split("Your own answer was")[0] else "blue"

    agents = [answers("first", "red"), echoes("second", reply=reply), echoes("third", reply=reply)]
    result = await gathered(ScatterGatherAgent("panel", agents, aggregator=Consensus(rounds=3)), "Which colour?")
    assert (result.answer, result.rounds, result.metrics.agreement) == ("red", 2, 1.0)
    again = next(told for told in heard if "### 2. third" in told)
    assert "### 1. first\n\n```\nred\n```" in again
    assert "Your own answer was:\n\n```\nblue" in again
    assert result.metrics.calls == 6


async def test_tokens_of_a_branch_are_those_of_all_rounds() -> None:
    agents = [answers("first", "red", tokens=10), answers("second", "blue", tokens=1)]
    result = await gathered(ScatterGatherAgent("panel", agents, aggregator=Consensus(rounds=2)))
    assert ([branch.tokens for branch in result.branches], result.metrics.tokens) == ([30, 3], 33)
    assert [branch.cost for branch in result.branches] == pytest.approx([0.03, 0.003])


async def test_who_fails_in_a_further_round_keeps_its_answer() -> None:
    calls = 0

    def reply(told: str) -> str:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise ValueError("tired")
        return "blue"

    agents = [answers("first", "red"), echoes("second", reply=reply)]
    result = await gathered(ScatterGatherAgent("panel", agents, aggregator=Consensus(rounds=1)))
    assert result.outputs == {"first": "red", "second": "blue"}
    assert result.rounds == 2


async def test_a_similarity_of_ones_own_is_checked() -> None:
    def same_length(one: str, other: str) -> float:
        return float(len(one) == len(other))

    assert (await gathered(panel(Consensus(similarity=same_length), "aa", "b", "cc"))).answer == "aa"
    with pytest.raises(InvalidAnswer, match="similarity must be a number from 0 to 1"):
        await gathered(panel(Consensus(similarity=lambda one, other: 7), "aa", "b"))


async def test_a_judge_picks_and_its_scores_are_kept() -> None:
    heard: list[str] = []
    critic = echoes("critic", heard, {"winner": "voter#2", "scores": {"voter": 3, "voter#2": 8}, "reason": "shorter"})
    result = await gathered(panel(Judge(critic), "long", "short"))
    assert (result.answer, result.winner, result.reason) == ("short", "voter#2", "shorter")
    assert result.scores == {"voter": 3, "voter#2": 8}
    assert "Which answer is the best?" in heard[0]
    assert "Names: voter, voter#2" in heard[0]


async def test_a_judge_with_a_rubric_marks_each_criterion() -> None:
    marks = {"scores": {"voter": {"true": 2, "short": 10}, "voter#2": {"true": 9, "short": 1}}}
    result = await gathered(panel(Judge(echoes("critic", reply=marks), Rubric({"true": 2, "short": 1})), "a", "b"))
    assert (result.answer, result.scores["voter"]) == ("b", pytest.approx(14 / 3))


async def test_a_judge_that_returns_nonsense_is_asked_once_more_and_told_why() -> None:
    heard: list[str] = []
    replies = iter(["I like both.", '{"winner": 1}'])
    result = await gathered(panel(Judge(echoes("critic", heard, lambda told: next(replies))), "a", "b"))
    assert result.answer == "a"
    assert "couldn't be used: there is no candidate 'I like both.'" in heard[1]
    with pytest.raises(InvalidAnswer, match="judge 'critic' can't be used: there is no candidate 'nobody'"):
        await gathered(panel(Judge(echoes("critic", reply="nobody"), attempts=1), "a", "b"))


@pytest.mark.parametrize("verdict", [None, 5, "x", [1], {"voter": 1}])
async def test_a_function_that_judges_nonsense_is_an_error(verdict: object) -> None:
    with pytest.raises(InvalidAnswer, match="the judge's verdict can't be used"):
        await gathered(panel(Judge(lambda answers: verdict), "a", "b"))


async def test_one_answer_alone_is_an_answer_to_every_aggregator() -> None:
    for aggregator in (
        Collect(),
        First(),
        Voting(),
        Consensus(rounds=2),
        Judge(lambda given: 0),
        Weighted(weights={"voter": 1}),
    ):
        result = await gathered(panel(aggregator, "7", Fails()))
        assert result.answer in (["7"], "7", 7.0)


# What can't work is said when built


@pytest.mark.parametrize(
    ("aggregator", "complaint"),
    [
        (Voting(quorum=0), "quorum must be"),
        (Voting(quorum=3), "from 1 to 2"),
        (Voting(quorum=1.5), "share below 1"),
        (Voting(ahead_by=0), "ahead_by"),
        (Voting(ahead_by=1.5), "ahead_by"),  # type: ignore[arg-type]
        (Voting(confidence=1), "confidence"),
        (Voting(confidence=0.5), "confidence"),
        (Voting(tie="coin"), "tie must be"),  # type: ignore[arg-type]
        (Voting(tie="judge"), "go together"),
        (Voting(judge=lambda given: 0), "go together"),
        (Voting(key=""), "key must be"),
        (Voting(key=3), "key must be"),  # type: ignore[arg-type]
        (Voting(invalid="maybe"), "invalid must be"),  # type: ignore[arg-type]
        (Weighted(), "needs weights"),
        (Weighted("sum", weights={"a": 1, "b": 1}), "take must be"),  # type: ignore[arg-type]
        (Weighted(weights={"a": 1}), "no weight for 'b'"),
        (Weighted(weights={"a": 1, "b": 1, "c": 1}), "weights name 'c'"),
        (Weighted(weights={"a": 1, "b": -1}), "weight of 'b' must be"),
        (Weighted(weights={"a": 1, "b": float("nan")}), "weight of 'b' must be"),
        (Weighted(weights={"a": 0, "b": 0}), "all weights are 0"),
        (Weighted(weights={"a": 1, "b": 1}, confidence="sure"), "give one of"),
        (Weighted(confidence=""), "name of a field"),
        (Weighted(accuracy={"a": 1, "b": 0.5}), "above 0 and below 1"),
        (Weighted("choice", accuracy={"a": 0.4, "b": 0.5}), "no choice would count"),
        (Consensus(rounds=-1), "rounds"),
        (Consensus(enough=0), "enough"),
        (Consensus(similarity="tokens"), "similarity must be"),  # type: ignore[arg-type]
        (Judge("me"), "needs an agent or a function"),  # type: ignore[arg-type]
        (Judge(lambda given: 0, attempts=0), "attempts"),
        (Judge(lambda given: 0, rubric={"a": 1}), "must be a Rubric"),  # type: ignore[arg-type]
        (Synthesis(print), "needs an agent, not .*wrap a function with @agent"),  # type: ignore[arg-type]
        (Combine(3), "needs a function"),  # type: ignore[arg-type]
        ("voteing", "no aggregator named 'voteing'; there are 'collect', 'first', 'voting'"),
        ("synthesis", "give the agent that is to write it"),
        (Voting, r"write Voting\(...\)"),
        (7, "aggregator must be"),
    ],
    ids=spoken,
)
def test_an_aggregator_that_can_not_work_is_refused(aggregator: object, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ScatterGatherAgent("p", [answers("a", 1), answers("b", 2)], aggregator=aggregator)


def test_the_confidence_rule_counts_votes_so_it_takes_no_weights() -> None:
    with pytest.raises(ConfigError, match="can't be had together with weights"):
        ScatterGatherAgent("p", answers("a", 1), aggregator=Voting(confidence=0.9), weights={"a": 1})


def test_aggregators_say_whether_answers_compete() -> None:
    assert [kind.picks for kind in (Collect, First, Synthesis, Combine, Voting, Weighted, Consensus, Judge)] == [
        False, True, False, False, True, True, True, True,
    ]  # fmt: skip
    assert all(issubclass(kind, Aggregator) for kind in (Collect, Voting))


@dataclass(frozen=True)
class Shortest(Aggregator):
    """An aggregator of one's own, whose rule to stop early may be broken."""

    broken: bool = False
    strategy: ClassVar[str] = "shortest"
    picks: ClassVar[bool] = True

    def early_stop(self, agents: Sequence[str], weights: Sequence[float]) -> EarlyStop:
        return lambda place, outcome: str(1 / 0) if self.broken else ""

    async def combine(self, panel: Panel) -> Decision:
        best = min(panel.given, key=lambda one: len(one.outcome.text))
        return Decision(answer=best.answer, winner=best.place)


async def test_a_rule_to_stop_that_is_broken_fails_the_pattern_and_no_branch() -> None:
    with pytest.raises(ZeroDivisionError):
        await play(panel(Shortest(broken=True), "a", Hangs()))


async def test_an_aggregator_of_ones_own() -> None:
    played = await play(panel(Shortest(), "long one", "tiny", "longer one"))
    assert played.run.result.text == "tiny"
    assert played.records("synthesis_complete")[0].aggregation_strategy == "shortest"
