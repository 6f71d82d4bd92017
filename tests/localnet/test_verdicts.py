"""One trouble has one word, one exit code and one place in the order, whatever command meets it."""

from itertools import pairwise

import pytest
from msgspec.structs import replace

from localnet.agreement import Contradiction
from localnet.faults.orders import OrdersSeen
from localnet.faults.scenario import parse_scenario
from localnet.faults.verdict import Seen, judge
from localnet.report import Observations, compute_report
from localnet.sim.campaign import Finding, Report
from localnet.sim.schedule import Schedule
from localnet.sim.violation import Violation
from localnet.verdicts import Verdict, find_gravest

ROOTS = Contradiction("state_root", 7, "node0", b"a", "node1", b"b")
SEEN = Seen(
    committed_height=100,
    fills=20,
    longest_pause_s=2.0,
    heals=(),
    orders=OrdersSeen(10, 8, 7, 1),
    signatures_compared=9,
)
OBSERVED = Observations(
    elapsed_s=10.0,
    nodes=(),
    committed_height=100,
    blocks=90,
    instructions=0,
    fills=0,
    envelopes_refused=0,
    stalled_s=0.1,
    contradictions=(),
    common_root=(80, bytes(32)),
    unexpected_exits=(),
    halted=False,
    orders=None,
    orders_rejected=None,
    commit_latency_ms=None,
    receipt_latency_ms=None,
    tape=None,
)


def judge_localnet(**changes):
    """The word and the exit code of `rota localnet up --for`."""
    document, code = compute_report(replace(OBSERVED, **changes))
    return document["verdict"], int(code)


def judge_scenario(**changes):
    """Those of `rota fault run`."""
    verdict, _ = judge(parse_scenario("x", 'run_for = "5s"'), replace(SEEN, **changes))
    return verdict, int(verdict.exit_code)


def judge_simulation(*verdicts: Verdict):
    """Those of `rota sim run`, when runs ended with these."""
    report = Report()
    for verdict in verdicts:
        violation = Violation("x", "", 0, "attack", verdict)
        report.findings.append(Finding(Schedule(), violation, ""))
    return report.verdict(), int(report.verdict().exit_code)


def test_the_order_of_gravity_and_the_exit_codes_are_these() -> None:
    assert [(str(each), int(each.exit_code)) for each in Verdict] == [
        ("safety", 20),
        ("nondeterminism", 22),
        ("crash", 1),
        ("liveness", 21),
        ("expectation", 23),
        ("pass", 0),
    ]
    for graver, lighter in pairwise(Verdict):
        assert find_gravest([lighter, graver, lighter]) is graver
    assert find_gravest([]) is Verdict.PASS


def test_different_state_roots_of_one_block_are_safety_everywhere() -> None:
    assert judge_localnet(contradictions=(ROOTS,)) == ("safety", 20)
    assert judge_scenario(contradictions=(ROOTS,)) == ("safety", 20)


def test_a_replay_that_differs_is_nondeterminism() -> None:
    assert judge_scenario(replay_problem="another root") == ("nondeterminism", 22)
    assert judge_simulation(Verdict.NONDETERMINISM) == ("nondeterminism", 22)


def test_a_crash_outranks_a_stall_everywhere() -> None:
    crashed = ("crash", 1)
    assert judge_localnet(unexpected_exits=("node1 ended",), blocks=0) == crashed
    assert judge_scenario(unexpected_exits=("node1 ended",), not_converged="silent") == crashed
    assert judge_simulation(Verdict.LIVENESS, Verdict.CRASH) == crashed


@pytest.mark.parametrize("judged", [judge_localnet, judge_scenario, judge_simulation])
def test_success_has_one_word(judged) -> None:
    assert judged() == ("pass", 0)
