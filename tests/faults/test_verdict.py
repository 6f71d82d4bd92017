"""From what was seen to a verdict: each invariant can fail, and the gravest one counts."""

import pytest
from msgspec.structs import replace

from localnet.agreement import Contradiction
from localnet.audit import AuditReport, DoubleSign
from localnet.faults.disks import read_disks
from localnet.faults.memory import MemoryGrowth, MemorySample, compute_growth
from localnet.faults.orders import OrdersSeen
from localnet.faults.progress import Progress
from localnet.faults.scenario import parse_scenario
from localnet.faults.verdict import Heal, Seen, judge
from localnet.network import create_network

GOOD = Seen(
    committed_height=100,
    fills=20,
    longest_pause_s=2.0,
    heals=(Heal(5.0, 40, 1.0, 1.0),),
    orders=OrdersSeen(10, 8, 7, 1),
)
FORK = Contradiction("block", 7, "node0", b"a", "node1", b"b")
ROOTS = Contradiction("state_root", 7, "node0", b"a", "node1", b"b")


def scenario(expectation=""):
    text = f'run_for = "20s"\nheal_within = "3s"\n{expectation}'
    return parse_scenario("x", text)


def broken(seen, expectation=""):
    verdict, findings = judge(scenario(expectation), seen)
    return verdict, [finding.name for finding in findings if not finding.holds]


def test_a_good_run_passes():
    assert broken(GOOD) == ("pass", [])


@pytest.mark.parametrize(
    ("changes", "verdict", "invariant", "code"),
    [
        ({"contradictions": (FORK,)}, "safety", "agreement", 20),
        ({"double_signs": ("node0 signed twice",)}, "safety", "no_double_sign", 20),
        ({"halts": ("node0 halted",)}, "safety", "no_halt", 20),
        (
            {"orders": OrdersSeen(9, 9, 8, 0, ("ab available",))},
            "safety",
            "acknowledged_orders",
            20,
        ),
        ({"convictions": (("node1", "x"),)}, "safety", "no_false_conviction", 20),
        ({"contradictions": (ROOTS,)}, "safety", "state_roots", 20),
        ({"replay_problem": "another root"}, "nondeterminism", "replay", 22),
        ({"unexpected_exits": ("node0 ended",)}, "crash", "no_crash", 1),
        ({"heals": (Heal(5.0, 40, 3.5, 3.5),)}, "liveness", "progress_after_heal", 21),
        ({"heals": (Heal(5.0, 40, None, 3.5),)}, "liveness", "progress_after_heal", 21),
        ({"not_converged": "node0 does not answer"}, "liveness", "convergence", 21),
    ],
)
def test_each_invariant_has_its_verdict(changes, verdict, invariant, code):
    found, names = broken(replace(GOOD, **changes))
    assert (found, names, found.exit_code) == (verdict, [invariant], code)


def test_a_heal_that_the_next_fault_cut_short_is_no_loss_of_liveness():
    assert broken(replace(GOOD, heals=(Heal(5.0, 40, None, 2.5),)))[0] == "pass"


def test_different_roots_of_different_blocks_are_a_fork_only():
    assert broken(replace(GOOD, contradictions=(FORK, ROOTS))) == ("safety", ["agreement"])


def test_orders_are_not_lost_before_the_nodes_have_come_together():
    seen = replace(
        GOOD, orders=OrdersSeen(9, 9, 8, 0, ("ab available",)), not_converged="no height came"
    )
    assert broken(seen) == ("liveness", ["convergence"])
    (finding,) = (each for each in judge(scenario(), seen)[1] if each.name == "acknowledged_orders")
    assert finding.detail == "1 without a result: not judged without convergence"


def test_the_conviction_of_a_liar_is_right():
    seen = replace(GOOD, liars=("node1",), convictions=(("node1", "x"),))
    assert broken(seen, '[[expect]]\nevidence_against = "node1"') == ("pass", [])


def test_the_gravest_verdict_counts():
    seen = replace(GOOD, contradictions=(FORK,), unexpected_exits=("node0 ended",), fills=0)
    verdict, names = broken(seen, "[[expect]]\nfills_at_least = 1")
    assert verdict == "safety"
    assert len(names) == 3


@pytest.mark.parametrize(
    ("expectation", "changes"),
    [
        ('commits_within = "1s"', {}),
        ("height_at_least = 101", {}),
        ("fills_at_least = 21", {}),
        ('evidence_against = "node1"', {}),
        ("rss_growth_below = 10", {}),
        ("rss_growth_below = 10", {"memory": (MemoryGrowth("node0", 100, 111),)}),
    ],
)
def test_each_expectation_can_fail(expectation, changes):
    verdict, names = broken(replace(GOOD, **changes), f"[[expect]]\n{expectation}")
    assert verdict == "expectation"
    assert len(names) == 1
    assert verdict.exit_code == 23


@pytest.mark.parametrize(
    "expectation",
    [
        'commits_within = "2s"',
        "height_at_least = 100",
        "fills_at_least = 20",
        "rss_growth_below = 10",
    ],
)
def test_each_expectation_can_hold(expectation):
    seen = replace(GOOD, memory=(MemoryGrowth("node0", 100, 109),))
    assert broken(seen, f"[[expect]]\n{expectation}") == ("pass", [])


# ---- what the runner makes of moments ------------------------------------------------------


def test_progress_is_measured_from_the_heal_to_the_next_height():
    progress = Progress()
    for now_s, height, faults, is_healed in [
        (0, 1, 0, False),
        (1, 5, 1, False),
        (4, 5, 0, True),
        (5, 5, 0, False),
        (6, 6, 0, False),
        (7, 7, 0, False),
    ]:
        progress.look(now_s, height, faults, is_healed)
    assert progress.heals == [Heal(4, 5, 2, 2)]
    assert progress.longest_pause_s == 5


def test_a_heal_in_which_no_node_answers_waits_for_a_height_above_the_last_one():
    progress = Progress()
    progress.look(0, 9, 1, False)
    progress.look(1, 0, 0, True)
    progress.look(2, 9, 0, False)
    progress.look(3, 10, 0, False)
    assert progress.heals == [Heal(1, 9, 2, 2)]


def test_a_heal_is_watched_until_the_next_fault_or_the_end():
    progress = Progress()
    progress.look(0, 9, 1, False)
    progress.look(1, 9, 0, True)
    progress.look(3, 9, 1, False)
    progress.look(4, 9, 0, True)
    progress.end(9)
    assert progress.heals == [Heal(1, 9, None, 2), Heal(4, 9, None, 5)]


# ---- memory --------------------------------------------------------------------------------


def samples(node, sizes, starts=1):
    return [MemorySample(at_s, node, starts, size) for at_s, size in sizes]


def test_growth_is_of_medians_after_the_warm_up():
    grown = compute_growth(
        samples("node0", [(0, 10), (100, 100), (105, 102), (110, 101), (290, 110), (300, 112)]),
        300,
    )
    assert grown == [MemoryGrowth("node0", 101, 111)]
    assert grown[0].percent == 9.9


def test_a_node_that_was_started_anew_is_not_compared():
    before, after = samples("node0", [(100, 100)]), samples("node0", [(300, 500)], starts=2)
    assert compute_growth(before + after, 300) == []


# ---- the replay ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "verdict"), [(0, "pass"), (22, "nondeterminism"), (1, "crash"), (72, "crash")]
)
def test_only_a_replay_that_came_to_something_else_is_nondeterminism(
    tmp_path, monkeypatch, code, verdict
):
    network = create_network(tmp_path / "net", port_first=18_500)
    report = AuditReport((), 0, 0, 0, (DoubleSign("node1", "proposed two blocks"),))
    monkeypatch.setattr("localnet.faults.disks.audit_stores", lambda network: report)
    homes = []

    def replay(home):
        homes.append(home.name)
        return code, "what it said"

    seen = read_disks(network, replace(GOOD, liars=("node0", "node1")), replay)
    assert homes == ["node2"], "the first honest one"
    assert seen.double_signs == (), "a liar's"
    assert broken(seen)[0] == verdict
    seen = read_disks(network, replace(GOOD, liars=("node",)), replay)
    assert seen.double_signs == ("node1 proposed two blocks",), "a name that begins alike"
