"""No test talks to a real model by accident."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow import AnthropicModel, ConfigError, Message, ModelRequest, OpenAIModel, Text
from agentflow.models.base import ALLOWED
from agentflow.testing import FakeAnthropic, forbid_model_requests

REQUEST = ModelRequest(messages=[Message("user", (Text("hi"),))])


@pytest.mark.parametrize("model", [AnthropicModel(api_key="sk-ant-none"), OpenAIModel("gpt-6", api_key="sk-none")])
async def test_real_models_are_not_asked_inside_the_block(model: AnthropicModel | OpenAIModel) -> None:
    async with model:
        with forbid_model_requests(), pytest.raises(ConfigError, match="use a model of"):
            await model.call(REQUEST)


async def test_fakes_and_this_machine_may_be_asked() -> None:
    fake = FakeAnthropic("ok", repeat=True)
    with forbid_model_requests():
        assert (await fake.model().call(REQUEST)).text == "ok"
        async with fake.serve() as url, AnthropicModel(api_key="k", base_url=url) as model:
            assert (await model.call(REQUEST)).text == "ok"


def test_the_block_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "1")
    with forbid_model_requests():
        assert os.environ[ALLOWED] == "0"
    assert os.environ[ALLOWED] == "1"
    monkeypatch.delenv(ALLOWED)
    with forbid_model_requests():
        pass
    assert ALLOWED not in os.environ


def test_the_plugin_forbids_it_in_every_test_that_does_not_ask_for_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["agentflow.testing.plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        "import os, pytest\n"
        "def test_forbidden():\n    assert os.environ['AGENTFLOW_ALLOW_MODEL_REQUESTS'] == '0'\n"
        "@pytest.mark.real_models\n"
        "def test_allowed():\n    assert 'AGENTFLOW_ALLOW_MODEL_REQUESTS' not in os.environ\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != ALLOWED}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr
