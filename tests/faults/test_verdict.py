"""From what was seen to a verdict: each invariant can fail, and the gravest one counts."""

import subprocess

import pytest
from msgspec.structs import replace

from localnet.agreement import Contradiction
from localnet.audit import AuditReport, DoubleSign, NodeAudit
from localnet.faults.disks import read_disks, replay_home
from localnet.faults.memory import MemoryGrowth, MemorySample, compute_growth
from localnet.faults.orders import OrdersSeen
from localnet.faults.progress import Heal, Progress
from localnet.faults.scenario import parse_scenario
from localnet.faults.strikes import Strike
from localnet.faults.verdict import Seen, judge
from localnet.network import create_network
from node.exit_codes import ExitCode

GOOD = Seen(
    committed_height=100,
    fills=20,
    longest_pause_s=2.0,
    heals=(Heal(5.0, 40, 1.0, 1.0),),
    orders=OrdersSeen(10, 8, 7, 1),
    signatures_compared=100,
    strikes=(Strike(1, "kill", 1),),
)
FORK = Contradiction("block", 7, "node0", b"a", "node1", b"b")
ROOTS = Contradiction("state_root", 7, "node0", b"a", "node1", b"b")


KILL = '[[fault]]\nat = "1s"\nfor = "2s"\nkind = "kill"\nnodes = ["node1"]\n'


def scenario(expectation=""):
    text = f'run_for = "20s"\nheal_within = "3s"\n{KILL}{expectation}'
    return parse_scenario("x", text)


def broken(seen, expectation=""):
    verdict, findings = judge(scenario(expectation), seen)
    return verdict, [finding.name for finding in findings if finding.holds is False]


def find(name, seen):
    (finding,) = (each for each in judge(scenario(), seen)[1] if each.name == name)
    return finding


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
        ({"heals": (Heal(5.0, 40, None, 3.5, True),)}, "liveness", "progress_after_heal", 21),
        ({"strikes": (Strike(1, "kill", 0, "did not end"),)}, "expectation", "faults_struck", 23),
        ({"strikes": ()}, "expectation", "faults_struck", 23),
        (
            {"liars": ("node3",), "liar_exits": ("node3 ended",)},
            "expectation",
            "liars_ran",
            23,
        ),
        ({"liars": ("node3",), "lies": (("node3", 0),)}, "expectation", "liars_ran", 23),
        ({"not_converged": "node0 does not answer"}, "liveness", "convergence", 21),
    ],
)
def test_each_invariant_has_its_verdict(changes, verdict, invariant, code):
    found, names = broken(replace(GOOD, **changes))
    assert (found, names, found.exit_code) == (verdict, [invariant], code)


CUT = Heal(5.0, 40, None, 2.5, True)
QUICK = Heal(5.0, 40, 1.0, 1.0)


def test_a_heal_that_the_next_fault_cut_short_is_no_loss_of_liveness_if_most_are_judged():
    heals = (*[QUICK] * 4, CUT)
    assert judge(scenario(), replace(GOOD, heals=heals))[0] == "pass"
    finding = find("progress_after_heal", replace(GOOD, heals=heals))
    assert (finding.holds, finding.detail) == (True, "4 of 5 heals judged")


@pytest.mark.parametrize(
    ("changes", "name", "detail"),
    [
        ({"heals": (CUT,) * 40}, "progress_after_heal", "0 of 40 heals judged"),
        ({"heals": (*[QUICK] * 3, CUT)}, "progress_after_heal", "3 of 4 heals judged"),
        ({"heals": ()}, "progress_after_heal", "0 of 0 heals judged"),
        (
            {"orders": OrdersSeen(4, 4, 4, 0)},
            "acknowledged_orders",
            "only 4 were acknowledged, less than 5",
        ),
        ({"orders": OrdersSeen()}, "acknowledged_orders", "only 0 were acknowledged, less than 5"),
        ({"not_replayed": "it had not ended"}, "replay", "it had not ended"),
        ({"signatures_compared": 0}, "no_double_sign", "no signature was compared"),
        ({"not_audited": ("node2",)}, "no_double_sign", "nothing to compare of node2"),
        (
            {"not_asked": ("node0", "node1")},
            "no_false_conviction",
            "no answer from node0, node1",
        ),
    ],
)
def test_what_there_was_nothing_to_judge_by_neither_holds_nor_passes(changes, name, detail):
    seen = replace(GOOD, **changes)
    verdict, findings = judge(scenario(), seen)
    assert (verdict, verdict.exit_code) == ("expectation", 23)
    assert [each.name for each in findings if each.holds is not True] == [name]
    assert (find(name, seen).holds, find(name, seen).detail) == (None, detail)


def test_heals_and_liars_are_asked_for_only_where_there_are_some():
    verdict, findings = judge(parse_scenario("x", 'run_for = "5s"'), replace(GOOD, heals=()))
    assert verdict == "pass"
    assert not {"progress_after_heal", "faults_struck", "liars_ran"} & {
        each.name for each in findings
    }


def test_a_liar_that_did_not_live_to_say_that_it_lied_shows_nothing():
    text = '[[byz]]\nnode = "node3"\nbehaviour = "silent"\nat = "3s"\nfor = "5s"\n'
    seen = replace(GOOD, liars=("node3",))
    verdict, findings = judge(scenario(text), seen)
    assert (verdict, verdict.exit_code) == ("expectation", 23)
    (finding,) = (each for each in findings if each.name == "liars_ran")
    assert finding.detail == "node3 did not live to say how often it lied"
    assert judge(scenario(text), replace(seen, lies=(("node3", 2),)))[0] == "pass"


def test_a_conviction_of_somebody_honest_counts_even_if_others_did_not_answer():
    seen = replace(GOOD, convictions=(("node1", "x"),), not_asked=("node2",))
    assert broken(seen) == ("safety", ["no_false_conviction"])


def test_different_roots_of_different_blocks_are_a_fork_only():
    assert broken(replace(GOOD, contradictions=(FORK, ROOTS))) == ("safety", ["agreement"])


def test_orders_are_not_lost_before_the_nodes_have_come_together():
    seen = replace(
        GOOD, orders=OrdersSeen(9, 9, 8, 0, ("ab available",)), not_converged="no height came"
    )
    assert broken(seen) == ("liveness", ["convergence"])
    finding = find("acknowledged_orders", seen)
    assert finding.holds is None
    assert finding.detail == "without convergence, 1 without a result may get one yet"


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
        ('pause_at_least = "3s"', {}),
        ("view_changes_at_least = 4", {"view_changes": 3}),
        ("reconnects_at_least = 4", {"strikes": (Strike(1, "reset", 9, reconnects=3),)}),
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
        'pause_at_least = "2s"',
        "view_changes_at_least = 5",
        "reconnects_at_least = 3",
        "height_at_least = 100",
        "fills_at_least = 20",
        "rss_growth_below = 10",
    ],
)
def test_each_expectation_can_hold(expectation):
    seen = replace(
        GOOD,
        memory=(MemoryGrowth("node0", 100, 109),),
        view_changes=5,
        strikes=(Strike(1, "reset", 9, reconnects=3),),
    )
    assert broken(seen, f"[[expect]]\n{expectation}") == ("pass", [])


# ---- what the runner makes of moments ------------------------------------------------------


def look(progress, *moments):
    """Each is a time, a height, whether a quorum is whole, and whether the last fault ended."""
    for now_s, height, is_whole, is_healed in moments:
        progress.look(now_s, height, is_whole=is_whole, is_healed=is_healed)


def test_progress_is_measured_from_the_heal_to_the_next_height():
    progress = Progress()
    look(
        progress,
        (0, 1, True, False),
        (1, 5, True, False),
        (4, 5, True, True),
        (5, 5, True, False),
        (6, 6, True, False),
        (7, 7, True, False),
    )
    assert progress.heals == [Heal(4, 5, 2, 2)]
    assert progress.longest_pause_s == 5


def test_a_heal_in_which_no_node_answers_waits_for_a_height_above_the_last_one():
    progress = Progress()
    look(
        progress, (0, 9, True, False), (1, 0, True, True), (2, 9, True, False), (3, 10, True, False)
    )
    assert progress.heals == [Heal(1, 9, 2, 2)]


def test_a_quorum_that_is_whole_again_is_a_heal_whatever_else_is_in_force():
    progress = Progress()
    look(progress, (0, 9, False, False), (2, 9, True, False), (3, 10, True, False))
    assert progress.heals == [Heal(2, 9, 1, 1)]


def test_a_heal_is_watched_until_a_fault_takes_the_quorum_or_the_end():
    progress = Progress()
    look(
        progress,
        (0, 9, False, False),
        (1, 9, True, True),
        (2, 9, True, False),
        (3, 9, False, False),
        (4, 9, True, True),
    )
    progress.end(9)
    assert progress.heals == [Heal(1, 9, None, 2, True), Heal(4, 9, None, 5)]


def test_nothing_is_promised_after_a_heal_that_leaves_no_quorum():
    progress = Progress()
    look(progress, (0, 9, False, False), (1, 9, False, True))
    progress.end(9)
    assert progress.heals == []


def test_views_without_a_block_are_counted_from_the_first_look():
    progress = Progress()
    assert progress.view_changes == 0
    for view, height in [(12, 10), (13, 11), (20, 12), (21, 19)]:
        progress.note_view(view, height)
    assert progress.view_changes == 6


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
    early = samples("node0", [(5, 100)])
    anew = samples("node0", [(100, 30), (300, 100)], starts=2)
    assert compute_growth(early + anew, 300) == []


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
    whole = replace(seen, strikes=GOOD.strikes, signatures_compared=1)
    assert broken(whole)[0] == verdict
    seen = read_disks(network, replace(GOOD, liars=("node",)), replay)
    assert seen.double_signs == ("node1 proposed two blocks",), "a name that begins alike"


def node_audit(name, *, recorded, checked, found):
    return NodeAudit(name, None, None, None, None, recorded, 0, 0, 0, checked, 0, 0, found, 0, 0)


def test_who_stands_in_certificates_without_any_record_of_it_is_no_honest_node(
    tmp_path, monkeypatch
):
    network = create_network(tmp_path / "net", port_first=18_500)
    audits = (
        node_audit("node0", recorded=5, checked=4, found=5),
        node_audit("node1", recorded=0, checked=0, found=5),
        node_audit("node2", recorded=5, checked=0, found=5),
        node_audit("node3", recorded=5, checked=0, found=0),
    )
    report = AuditReport(audits, 9, 9, 9, ())
    monkeypatch.setattr("localnet.faults.disks.audit_stores", lambda network: report)
    seen = read_disks(network, GOOD, lambda home: (0, ""))
    assert seen.double_signs == ("node1 is in 5 certificates and has no record of any",)
    assert (seen.signatures_compared, seen.not_audited) == (4, ("node1", "node2"))
    liar = replace(GOOD, liars=("node1",))
    assert read_disks(network, liar, lambda home: (0, "")).double_signs == ()


def test_a_replay_that_does_not_end_is_told_with_all_else_that_was_found(tmp_path, monkeypatch):
    def wait(*_, timeout, **__):
        raise subprocess.TimeoutExpired("replay", timeout)

    monkeypatch.setattr(subprocess, "run", wait)
    assert replay_home(tmp_path) == (ExitCode.TIMED_OUT, "it had not ended after 600 s")
    report = AuditReport((), 0, 0, 0, ())
    monkeypatch.setattr("localnet.faults.disks.audit_stores", lambda _: report)
    network = create_network(tmp_path / "net")
    assert read_disks(network, GOOD).not_replayed == "it had not ended after 600 s"


def test_an_error_of_the_replay_is_told_in_words(tmp_path):
    code, said = replay_home(tmp_path / "absent")
    assert code not in (ExitCode.OK, ExitCode.NONDETERMINISM)
    assert not said.startswith("{")
    assert said.endswith("]")
