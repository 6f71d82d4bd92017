"""Campaigns: many schedules, one verdict; what is broken or not repeatable is named."""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from msgspec.structs import replace

import localnet
import localnet.sim.campaign as campaign
import localnet.sim.scenario as scenario
import localnet.sim.workers as workers
from consensus.outbox import Outbox
from localnet.sim.campaign import generate_all, run_campaign
from localnet.sim.faults import PartitionFault
from localnet.sim.parts import measure_parts
from localnet.sim.report import describe_times
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule, decode_schedule, encode_schedule
from localnet.sim.twin_plans import generate_twins
from localnet.sim.workers import Ran, Task
from localnet.verdicts import Verdict


def test_the_schedule_in_the_documentation_runs_without_a_violation() -> None:
    page = (Path(localnet.__file__).parent.parent / "docs" / "simulator.md").read_text()
    example = re.findall(r"```json\n(.*?)```", page, re.S)
    assert len(example) == 1
    outcome = scenario.run_schedule(decode_schedule(example[0].encode()))
    assert outcome.violation is None
    assert {"fault.partition", "fault.crash_at_persist", "fault.clock"} <= set(outcome.coverage)


def test_a_campaign_in_two_processes_repeats_one_seed_in_twenty_and_sums_up() -> None:
    seen = []
    schedules = chain(generate_all(range(20), 4), generate_twins(4))
    report = run_campaign(schedules, jobs=2, on_progress=lambda r: seen.append(r))
    assert (report.runs, report.repeated, report.findings) == (24, 2, [])
    assert report.verdict() is Verdict.PASS
    assert report.views_least is not None
    assert report.views_least >= 4
    assert report.views > 24 * 4
    assert report.coverage["proposal.sent"] > 24
    assert report.views_per_s > 10
    assert {"consensus", "lanes", "engine", "simulator", "oracles"} <= set(report.parts)
    assert len(seen) == 24 + 2 + 1


def test_a_broken_rule_gives_exit_code_20_and_names_the_oracle(
    run_sim, one_process, monkeypatch, tmp_path
) -> None:
    send = Outbox.send
    monkeypatch.setattr(Outbox, "send", lambda self, to, message, after=(): send(self, to, message))
    code, document = run_sim("run", *["--seeds", "1..2", "--views", "5", "-n", "4", "--jobs", "1"])
    assert (code, document["verdict"]) == (20, "safety")
    assert [each["seed"] for each in document["violations"]] == [1, 2]
    assert {each["oracle"] for each in document["violations"]} == {"SignedOnce"}
    assert {each["verdict"] for each in document["violations"]} == {"safety"}
    assert {path.name for path in (tmp_path / "sim-failures").iterdir()} == {"1", "2"}


def test_a_run_that_cannot_be_repeated_gives_exit_code_22(monkeypatch) -> None:
    drifting = iter(range(100))

    def run_drifting(schedule):
        return scenario.run_schedule(Schedule(seed=next(drifting), views=2))

    monkeypatch.setattr(workers, "run_schedule", run_drifting)
    report = run_campaign([Schedule(seed=1, views=2)])
    assert [finding.violation.oracle for finding in report.findings] == ["determinism"]
    assert report.verdict().exit_code == 22


def test_a_file_is_replayed_to_the_same_trace(run_sim, tmp_path) -> None:
    path = tmp_path / "schedule.json"
    path.write_bytes(encode_schedule(Schedule(seed=6, views=4)))
    first = run_sim("replay", str(path))
    assert first == run_sim("replay", str(path))
    assert (first[0], first[1]["verdict"], first[1]["exit_code"]) == (0, "pass", 0)
    assert first[1]["views"] >= 4


@pytest.mark.parametrize("seeds", ["3..1", "x", "1..", "-1..4", "1..9999999999999999999"])
def test_a_range_that_is_none_is_refused(run_sim, seeds: str) -> None:
    code, document = run_sim("run", "--seeds", seeds)
    assert (code, document["error"]["code"]) == (2, "usage.invalid")


@pytest.mark.parametrize("command", [("replay",), ("shrink",), ("twins", "run")])
@pytest.mark.parametrize(
    "text", [b"{", b'{"liars": [{"member": 0, "behaviour": "none"}]}', b"\xff", b'{"views": 0}']
)
def test_a_file_that_is_no_schedule_is_refused_alike_by_every_command(
    run_sim, tmp_path, command: tuple[str, ...], text: bytes
) -> None:
    path = tmp_path / "files" / "schedule.json"
    path.parent.mkdir()
    path.write_bytes(text)
    target = path.parent if command[0] == "twins" else path
    code, document = run_sim(*command, str(target))
    assert (code, document["error"]["code"]) == (3, "sim.schedule_invalid")


def test_of_short_times_tenths_are_told() -> None:
    assert describe_times(9.94, 0.04) == "9.9 s, under 0.1 s of processor"
    assert describe_times(0.44, 1_012.6) == "0.4 s, 1,013 s of processor"


def test_time_in_library_functions_belongs_to_whoever_called_them() -> None:
    def encode_often():
        for _ in range(20):
            encode_schedule(Schedule())

    parts = measure_parts(encode_often)
    assert parts["simulator"] > 0
    assert sum(parts.values()) == pytest.approx(parts["simulator"], rel=0.2)
    assert "site-packages" not in sys.modules["localnet"].__file__


def test_an_attack_that_stops_all_views_still_makes_a_run_of_full_length() -> None:
    halves = PartitionFault(at_ms=0, side=(0, 1))
    outcome = scenario.run_schedule(Schedule(seed=2, views=3, faults=(halves,)))
    assert outcome.violation is None
    assert outcome.views >= 3


def test_a_run_that_is_healed_and_comes_to_no_full_length_lost_its_liveness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scenario._Run, "_find_highest_view", lambda self: 2)
    monkeypatch.setattr(scenario, "VIEW_MAX_MS", 200)
    monkeypatch.setattr(scenario, "HEAL_MAX_MS", 2_000)
    outcome = scenario.run_schedule(Schedule(seed=2, views=3))
    assert outcome.violation is not None
    assert outcome.violation.oracle == "liveness"
    assert "healed, and no more than 2 of 3 views" in outcome.violation.detail


def test_a_run_without_any_view_stays_the_one_with_fewest(monkeypatch: pytest.MonkeyPatch):
    outcome = run_schedule(Schedule(seed=1, views=1))

    def run_first(tasks: Iterable[Task], jobs: int, *_: object) -> Iterator[Ran]:
        for task in tasks:
            if not task.is_repetition and not task.is_profiled:
                ended = replace(outcome, views=7 * task.number, virtual_ms=600)
                yield Ran(task, ended, 0.0, {})

    monkeypatch.setattr(campaign, "run_tasks", run_first)
    schedules = [Schedule(seed=seed, views=1) for seed in (1, 2)]
    report = run_campaign(schedules)
    assert report.views_least == 0
    assert report.virtual_ms == 1_200, "runs of less than a second add up"
