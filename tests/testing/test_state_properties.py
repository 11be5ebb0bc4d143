"""State against a model of it: an overlay of writes over what is committed, and folds in declaration order."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from agentflow import ConfigError
from agentflow.state import REMOVED, Group, State

always_the_same = settings(max_examples=200, deadline=None, derandomize=True, database=None)

KEYS = st.sampled_from(["a", "b", "app:a", "user:b", "temp:c", "votes"])
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
COMMITTED = st.dictionaries(KEYS, VALUES, max_size=4)
WRITES = st.lists(st.tuples(KEYS, VALUES | st.just(REMOVED)), max_size=8)


def join(first: list[str], second: list[str]) -> list[str]:
    """A reducer whose order shows."""
    return [*first, *second]


def write(target: Any, writes: list[tuple[str, Any]]) -> None:
    for key, value in writes:
        if value is REMOVED:
            try:
                del target[key]
            except KeyError:
                continue
        else:
            target[key] = value


def same(state: State, model: dict[str, Any]) -> None:
    assert dict(state) == model
    assert len(state) == len(model)
    assert sorted(state) == sorted(model)
    for key in ("a", "b", "app:a", "user:b", "temp:c", "votes", "never"):
        assert (key in state) == (key in model)
        assert state.get(key, "missing") == model.get(key, "missing")
    assert repr(state) == f"State({dict(state)!r})"


@always_the_same
@given(COMMITTED, WRITES)
def test_an_agent_reads_its_own_writes_over_what_is_committed(committed, writes):
    model, kept = dict(committed), dict(committed)
    state = State(committed)
    for number in range(len(writes) + 1):
        same(state, model)
        write(state, writes[number : number + 1])
        write(model, writes[number : number + 1])
    assert committed == kept  # nobody else sees any of it


@always_the_same
@given(COMMITTED, WRITES, WRITES)
def test_pending_writes_are_what_makes_the_committed_state_what_was_read(committed, writes, more):
    state = State(committed)
    write(state, writes)
    read = dict(state)
    for key, value in (state.take_pending() or {}).items():
        if value is REMOVED:
            committed.pop(key, None)  # written and deleted again: it never was there
        else:
            committed[key] = value
    assert committed == read
    same(state, committed)
    write(state, more)
    state.drop_pending()
    same(state, committed)
    assert state.take_pending() is None


@always_the_same
@given(COMMITTED, COMMITTED, WRITES)
def test_what_others_commit_is_seen_but_where_the_agent_wrote_itself(committed, others, writes):
    state = State(committed)
    write(state, writes)
    mine = {key: state.get(key, REMOVED) for key, value in writes if value is not REMOVED or key in committed}
    committed.update(others)
    model = {**committed, **mine}
    for key, value in writes:
        if value is REMOVED and key not in mine:
            assert state.get(key) == committed.get(key)  # there was nothing to delete
    same(state, {key: value for key, value in model.items() if value is not REMOVED})


@given(st.one_of(st.just(""), st.integers(), st.none(), st.tuples(st.text())))
@always_the_same
def test_a_key_is_a_string_that_is_not_empty(key):
    state = State({})
    with pytest.raises(ConfigError, match="state key"):
        state[key] = 1
    assert state.take_pending() is None


@always_the_same
@given(COMMITTED, WRITES)
def test_an_ended_turn_writes_nothing(committed, writes):
    state = State(committed)
    write(state, writes)
    state.close()
    same(state, committed)
    with pytest.raises(ConfigError, match="turn has ended"):
        state["a"] = 1
    with pytest.raises(ConfigError, match="turn has ended"):
        del state["a"]


# Reducers

CONTRIBUTIONS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["votes", "names"]), st.text("xyz", max_size=2)), max_size=12
)


@always_the_same
@given(CONTRIBUTIONS, st.sets(st.integers(0, 3)), st.sets(st.integers(0, 3)))
def test_contributions_fold_in_declaration_order_whenever_they_came(contributions, ended_well, forgotten):
    group = Group("fan", {"votes": join, "names": join})
    for index, key, value in contributions:
        group.contribute(index, key, [value])
    for index in forgotten:
        group.forget(index)
    folded = group.fold(list(ended_well))
    model: dict[str, list[str]] = {}
    for branch in sorted(ended_well - forgotten):
        for index, key, value in contributions:
            if index == branch:
                model.setdefault(key, []).append(value)
    assert folded == model


@always_the_same
@given(st.lists(st.text("xyz", max_size=2), max_size=2), CONTRIBUTIONS)
def test_a_branch_reads_what_is_committed_and_what_it_brought_itself(before, contributions):
    committed = {"votes": before} if before else {}
    group = Group("fan", {"votes": join, "names": join})
    for index, key, value in contributions:
        group.contribute(index, key, [value])
    for branch in range(4):
        model = dict(committed)
        for index, key, value in contributions:
            if index == branch:
                model[key] = [*model.get(key, []), value]
        same(State(committed, ((group, branch),)), model)


@always_the_same
@given(st.lists(st.tuples(st.sampled_from([(), ("a",), ("a", "b"), ("c",)]), st.text("xyz", max_size=2)), max_size=8))
def test_what_a_turn_brought_is_dropped_when_it_is_tried_again_and_nothing_else_is(notes):
    """Reading in between, which joins what can be joined, changes nothing."""
    group = Group("fan", {"votes": join})
    for tries, value in notes:
        group.contribute(0, "votes", [value], tries)
        same(State({}, ((group, 0),)), {"votes": State({}, ((group, 0),))["votes"]})
    group.forget(0, "a")
    kept = [value for tries, value in notes if "a" not in tries]
    same(State({}, ((group, 0),)), {"votes": kept} if kept else {})


def test_a_group_reduces_what_those_around_it_reduce():
    outer = Group("outer", {"votes": join, "n": max})
    inner = Group("inner", {"n": min}, ((outer, 0),))
    assert inner.reducers == {"votes": join, "n": min}
    assert Group("plain", "error", ((inner, 0), (outer, 0))).reducers == inner.reducers


def test_a_key_that_a_branch_contributed_and_deletes_is_gone():
    group = Group("fan", {"votes": join})
    group.contribute(0, "votes", ["x"])
    state = State({}, ((group, 0),))
    del state["votes"]
    same(state, {})


def test_a_nested_group_reads_what_its_outer_branch_brought():
    """An earlier step of the same branch contributed to the outer group; the inner group reduces that key too."""
    outer, inner = Group("outer", {"votes": join}), Group("inner", {"votes": join})
    outer.contribute(0, "votes", ["x"])
    state = State({}, ((inner, 1), (outer, 0)))
    same(state, {"votes": ["x"]})
    inner.contribute(1, "votes", ["y"])
    same(state, {"votes": ["x", "y"]})
    same(State({"votes": ["w"]}, ((inner, 1), (outer, 0))), {"votes": ["w", "x", "y"]})


def test_two_branches_conflict_and_one_branch_with_itself_does_not():
    group = Group("fan", "last")
    assert group.conflict("k", 0) is None
    group.writers["k"] = (0, "fan.a")
    assert group.conflict("k", 0) is None
    assert group.conflict("k", 1) == "fan.a"
    assert group.conflict("other", 1) is None
