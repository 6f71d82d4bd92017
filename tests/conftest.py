"""What tests share. They run the sources, whatever is compiled: many replace functions. Those of
schedules make their runs twice, for equal schedules leave equal traces."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from msgspec.structs import replace

import rota_build

# Before anything of ours is imported: which build runs is decided once a process.
os.environ[rota_build.PURE_VARIABLE] = "1"

from localnet.sim import scenario
from localnet.sim.campaign import is_same_run
from localnet.sim.schedule import Schedule

settings.register_profile(
    "gate",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""For `make test`: equal code gives equal examples, and no slow machine fails it. Whoever looks for
what nobody has thought of takes `default`, which draws anew each time, or `long`."""

settings.load_profile("gate")

settings.register_profile("long", settings.get_profile("default"))
"""For streams of orders: `pytest tests/engine --hypothesis-profile=long` plays 100,000 and more."""

WHOLE_VIEWS_MAX = 12
"""Longer runs are compared over their first `SHORT_VIEWS` only: they take too long."""

SHORT_VIEWS = 6

REPEATED_MAX = 2
"""Runs of one test that are repeated, for a test may make hundreds."""

run_once = scenario.run_schedule


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "one_run: what the test plants counts across runs, so none is repeated"
    )


def validate_repeatable(
    schedule: Schedule, outcome: scenario.Outcome, prepare: Callable[[Any], None] | None
) -> None:
    """Run a schedule again and compare. What a test adds to a run it may add only once, so such a
    run is made twice more without."""
    if prepare is not None or schedule.views > WHOLE_VIEWS_MAX:
        schedule = replace(schedule, views=min(schedule.views, SHORT_VIEWS))
        outcome = run_once(schedule)
    again = run_once(schedule)
    assert is_same_run(outcome, again), (
        f"seed {schedule.seed}: {outcome.trace_hash} and {again.trace_hash}"
    )


@pytest.fixture(autouse=True)
def every_run_twice(request: pytest.FixtureRequest, monkeypatch) -> None:
    """Replaces `run_schedule` in the test's module by one that runs and compares twice."""
    if getattr(request.module, "run_schedule", None) is not run_once:
        return
    if request.node.get_closest_marker("one_run") is not None:
        return
    count = 0

    @wraps(run_once)
    def run_twice(schedule: Schedule, prepare=None) -> scenario.Outcome:
        nonlocal count
        outcome = run_once(schedule, prepare)
        if count < REPEATED_MAX:
            count += 1
            validate_repeatable(schedule, outcome, prepare)
        return outcome

    monkeypatch.setattr(request.module, "run_schedule", run_twice)
