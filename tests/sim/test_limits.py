"""What a campaign, its bundles, its pages and its worlds keep is bounded."""

from random import Random

import pytest

from consensus.messages import BatchRequest
from consensus.types import VoteData
from crypto.codec import encode
from crypto.mock import MockScheme
from localnet.sim import (
    bundle,
    campaign,
    network,
    node_world,
    recorder,
    timeline,
    workers,
)
from localnet.sim.bundle import BUNDLES_MAX, Bundle, keep_findings, record_run
from localnet.sim.campaign import FINDINGS_MAX, Finding, generate_all, run_campaign
from localnet.sim.links import ARRIVALS_MAX, PERMILLE, Duplicate, Passage, Scope
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles import certificates
from localnet.sim.scenario import Outcome, run_schedule
from localnet.sim.schedule import Schedule
from localnet.sim.timeline import render_timeline
from localnet.sim.violation import Violation
from localnet.verdicts import Verdict

BROKEN = Violation("Finality", "planted", 1, "attack", Verdict.SAFETY)


def test_a_campaign_that_finds_much_ends(one_process, monkeypatch) -> None:
    outcome = Outcome(1, "", 1, 0, 0, 0, 1, 1, BROKEN, {})
    monkeypatch.setattr(workers, "run_schedule", lambda schedule: outcome)
    report = run_campaign(generate_all(range(10 * FINDINGS_MAX), 1))
    assert len(report.findings) == FINDINGS_MAX == 20


def test_a_few_findings_are_written_down_and_one_of_each_oracle_is_shrunk(
    monkeypatch, tmp_path
) -> None:
    shrinks: list[int] = []

    def write(directory, finding, runs_max) -> Bundle:
        shrinks.append(runs_max)
        return Bundle(directory, directory)

    monkeypatch.setattr(bundle, "write_bundle", write)
    findings = [Finding(Schedule(seed=seed), BROKEN, "") for seed in range(3 * BUNDLES_MAX)]
    kept = list(keep_findings(tmp_path, findings, lambda text: None))
    assert len(kept) == BUNDLES_MAX == 5
    assert shrinks == [bundle.BUNDLE_SHRINK_RUNS_MAX, 0, 0, 0, 0]


def test_only_some_runs_are_profiled(monkeypatch) -> None:
    monkeypatch.setattr(campaign, "PROFILE_EVERY", 2)
    monkeypatch.setattr(campaign, "PROFILED_MAX", 3)
    profiled: list[int] = []

    def run(task) -> workers.Ran:
        if task.is_profiled:
            profiled.append(task.number)
        return workers.Ran(task, Outcome(1, "", 1, 0, 0, 0, 1, 1, None, {}), 0.0, {})

    monkeypatch.setattr(campaign, "run_tasks", lambda tasks, jobs: map(run, tasks))
    run_campaign(generate_all(range(20), 1))
    assert profiled == [0, 2, 4]


def test_a_world_that_never_comes_to_rest_is_stopped(monkeypatch) -> None:
    monkeypatch.setattr(network, "STEPS_MAX", 100)
    world = network.World(1, MockScheme())

    def again() -> None:
        world.after(0, again)

    again()
    with pytest.raises(AssertionError, match="does not come to rest"):
        world.run_for(1)
    assert world.steps == 101


def test_a_trace_keeps_the_newest_moments_and_a_page_the_newest_views(monkeypatch) -> None:
    monkeypatch.setattr(recorder, "MOMENTS_MAX", 100)
    monkeypatch.setattr(timeline, "VIEWS_SHOWN_MAX", 3)
    schedule = Schedule(seed=3, views=12)
    outcome, kept = record_run(schedule)
    assert 100 <= len(kept.moments) <= 200
    assert kept.moments[-1].at_ms > kept.moments[0].at_ms > 100
    page = render_timeline(schedule, outcome, kept)
    last = max(moment.view for moment in kept.moments if moment.kind == "enter")
    assert f"<b>{last}</b>" in page
    assert f"<b>{last - 2}</b>" in page
    assert f"<b>{last - 3}</b>" not in page


def test_what_an_oracle_remembers_only_to_be_quick_may_be_forgotten(monkeypatch) -> None:
    schedule = Schedule(seed=3, views=8)
    outcome = run_schedule(schedule)
    monkeypatch.setattr(certificates, "HISTORY_MAX", 2)
    monkeypatch.setattr(certificates, "RECORDS_MAX", 2)
    monkeypatch.setattr(certificates, "LEADERS_MAX", 2)
    monkeypatch.setattr(node_world, "LISTED_BODIES_MAX", 2)
    assert run_schedule(schedule) == outcome


def test_a_judge_remembers_so_much(monkeypatch) -> None:
    monkeypatch.setattr(certificates, "HISTORY_MAX", 8)
    monkeypatch.setattr(certificates, "RECORDS_MAX", 8)
    monkeypatch.setattr(certificates, "LEADERS_MAX", 8)
    monkeypatch.setattr(node_world, "LISTED_BODIES_MAX", 8)
    clusters: list[NodeCluster] = []
    judges: list[certificates.Judge] = []
    watchers: list[certificates.Certificates] = []

    def prepare(cluster: NodeCluster) -> None:
        clusters.append(cluster)
        for observer in cluster.world.observers:
            if isinstance(observer, certificates.Certificates):
                watchers.append(observer)
                judges.append(observer._judge)

    assert run_schedule(Schedule(seed=3, views=30), prepare).violation is None
    [judge], [watcher] = judges, watchers
    for number in range(20):
        assert judge.read(VoteData, encode(VoteData(0, number, 1, bytes(32)))).view == number
        judge.find_leader(1_000_000 + number)
    assert 0 < len(judge._records) <= 8
    assert 0 < len(judge._known) <= 8
    assert 0 < len(watcher._good) <= 8
    assert judge._leader.cache_info()[2:] == (8, 8)
    assert judge._identify.cache_info()[2:] == (8, 8)
    assert clusters[0].world._list_envelopes.cache_info()[2:] == (8, 8)


def test_however_many_rules_duplicate_a_message_it_arrives_so_often() -> None:
    arrivals_ms, random = [1], Random(3)
    passage = Passage(0, 0, 1, BatchRequest((bytes(32),)))
    for _ in range(40):
        arrivals_ms = Duplicate(Scope(), PERMILLE, 5).bend(passage, arrivals_ms, random)
    assert len(arrivals_ms) == ARRIVALS_MAX
    assert arrivals_ms[0] == 1


@pytest.mark.parametrize("members", [1, 2, 3])
def test_the_smallest_committees_are_run(members: int) -> None:
    outcome = run_schedule(Schedule(seed=10, powers=(1,) * members, views=5))
    assert outcome.violation is None
    assert outcome.committed_height > 3
