"""Schedules that once showed a fault, here or elsewhere: each is kept, and runs clean."""

from pathlib import Path

import pytest

from localnet.sim.mutants.plant import Change, Mutant, planted
from localnet.sim.mutants.table import MUTANTS
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.rulebook import Finality
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import load_schedule

FILES = sorted((Path(__file__).parent / "schedules").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_kept_schedule_runs_clean(file: Path) -> None:
    schedule = load_schedule(file)
    outcome = run_schedule(schedule)
    assert outcome.violation is None
    assert outcome.views >= schedule.views


def test_a_repeated_timeout_left_a_slow_disk_before_its_record() -> None:
    """A view's timer fires again while the view lasts. Where writing took longer than that, the
    timeout was broadcast a second time before its record was durable: a crash forgot it."""
    schedule = load_schedule(Path(__file__).parent / "schedules" / "slow_disk.json")
    change = Change("consensus.voter:Voter.repeat_timeout", ", sent.after)", ")")
    with planted(Mutant("early_timeout", "a repeated timeout waits", "SignedOnce", (change,))):
        violation = run_schedule(schedule).violation
    assert violation is not None
    assert (violation.oracle, violation.phase) == ("SignedOnce", "attack")
    assert "not durable" in violation.detail


def test_what_one_half_saw_reached_the_other_too_early_and_a_certificate_of_it_too_late() -> None:
    """A leader's twins each propose to one half. What the first half saw was shown in timeouts to
    the other before that had seen anything, and was forgotten; and the one time that a quorum
    certified a rival, who held the other block got that certificate inside a fetched block only,
    and showed nothing. So six times two blocks of a view went without proof."""
    schedule = load_schedule(Path(__file__).parent / "schedules" / "shown_too_early.json")
    early = Change(
        "consensus.accuser:Accuser.compare_proposal",
        "self._verify_apart(source, shown, check.claims)",
        "pass",
    )
    skipped = Change(
        "consensus.core:ConsensusCore._apply_response",
        "self._accuser.note_certified(block.qc)",
        "pass",
    )
    forgetful = Mutant("forgetful", "what is shown waits", "Justice", (early, skipped))
    with planted(forgetful):
        violation = run_schedule(schedule).violation
    assert violation is not None
    assert (violation.oracle, violation.phase) == ("Justice", "rest")
    assert "has not convicted 1 of DoubleProposal" in violation.detail


def test_the_flaw_of_fast_hotstuff_forks_the_chain_where_it_is_planted(monkeypatch) -> None:
    """Seven views in which who formed a QC is cut off before anybody hears of it: two leaders
    each commit a block of height 1 over a gap of views."""
    schedule = load_schedule(Path(__file__).parent / "schedules" / "fast_hotstuff.json")
    flaw = next(mutant for mutant in MUTANTS if mutant.name == "fast_hotstuff")
    with planted(flaw):
        first = run_schedule(schedule).violation
        # The oracle that knows the rule speaks at the first commit; without it the fork shows.
        monkeypatch.setattr(Finality, "on_effect", lambda self, index, effect: None)
        fork = run_schedule(schedule).violation
    assert first is not None
    assert first.oracle == "Finality"
    assert fork is not None
    assert "conflicting_certificate view 3, height 1, committed 1" in fork.detail


def test_what_nobody_can_prove_available_any_more_binds_nobody_but_only_that() -> None:
    schedule = load_schedule(Path(__file__).parent / "schedules" / "lost_certificate.json")
    clusters: list[NodeCluster] = []
    assert run_schedule(schedule, clusters.append).violation is None
    (cluster,) = clusters
    height = cluster.lowest_committed()
    assert not cluster.promises.outstanding(cluster.order, cluster.expiries, height)
    assert 2 not in cluster.running()
    # Node 2's own places are excused, since nobody holds a certificate of them; no others are.
    cluster.promises.is_provable = lambda author, sequence: author != 2
    assert not cluster.promises.outstanding(cluster.order, cluster.expiries, height)
    cluster.promises.is_provable = lambda author, sequence: True
    assert cluster.promises.outstanding(cluster.order, cluster.expiries, height)
