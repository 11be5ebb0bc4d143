"""Tools for testing agents and services: orders of branches, faults, a clock, and one contract suite per service.

Nothing here needs pytest to be imported. The suites' tests are run by anyio's pytest plugin:

    class TestMySessions(SessionServiceSuite):
        async def make(self) -> SessionService:
            return MySessionService()
"""

from agentflow._invocation import Scheduler as Scheduler
from agentflow.testing import _pytest as _pytest  # before the suites: see there
from agentflow.testing.anthropic_rules import anthropic_problems as anthropic_problems
from agentflow.testing.artifacts import ArtifactServiceSuite as ArtifactServiceSuite
from agentflow.testing.clock import FakeClock as FakeClock, counting_ids as counting_ids
from agentflow.testing.fake_anthropic import (
    FakeAnthropic as FakeAnthropic,
    Received as Received,
    Reply as Reply,
    fails as fails,
    says as says,
)
from agentflow.testing.faults import FailingSessionService as FailingSessionService, FaultScheduler as FaultScheduler
from agentflow.testing.memory import MemoryServiceSuite as MemoryServiceSuite
from agentflow.testing.models import (
    FunctionModel as FunctionModel,
    ScriptedModel as ScriptedModel,
    UnexpectedCall as UnexpectedCall,
)
from agentflow.testing.recording import RecordingModel as RecordingModel, ReplayModel as ReplayModel
from agentflow.testing.requests import forbid_model_requests as forbid_model_requests
from agentflow.testing.scheduling import (
    Explored as Explored,
    OrderFailed as OrderFailed,
    SeededScheduler as SeededScheduler,
    explore as explore,
)
from agentflow.testing.sessions import SessionServiceSuite as SessionServiceSuite
