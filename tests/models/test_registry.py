"""A model by its name."""

import pytest

from agentflow import ConfigError, register_model, resolve_model
from agentflow.testing import FunctionModel, ScriptedModel


def test_a_model_is_itself() -> None:
    model = ScriptedModel("hi")
    assert resolve_model(model) is model


@pytest.mark.parametrize(
    ("name", "meant"), [("cluade-opus-5-5", "claude-opus-5-5"), ("Claude-Sonnet-5", "claude-sonnet-5")]
)
def test_a_misspelt_name_is_told_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        resolve_model(name)


@pytest.mark.parametrize("name", ["", "  ", None, 7])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="a model is a Model or a name"):
        resolve_model(name)  # type: ignore[arg-type]


def test_a_name_of_nobody_says_how_names_begin() -> None:
    with pytest.raises(ConfigError, match=r"begins with one of 'claude-\.\.\.'"):
        resolve_model("zzz")


def test_a_registered_prefix_makes_models_and_agents_share_them() -> None:
    register_model("ours:", lambda name: FunctionModel(lambda request: "hi", name=name))
    first = resolve_model("ours:one")
    assert first.name == "ours:one"
    assert resolve_model("ours:one") is first
    assert resolve_model("ours:two") is not first
