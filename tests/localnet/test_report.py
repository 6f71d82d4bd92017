"""The verdict: disagreement outranks a crash, a crash a stall, and a stall outranks success."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localnet.agreement import HEIGHTS_REMEMBERED_MAX, Agreement
from localnet.cluster import describe_tape
from localnet.demo import DemoTraders
from localnet.report import STALL_MAX_S, Observations, compute_report
from localnet.tally import TapeProgress
from localnet.verdicts import Verdict
from node.exit_codes import ExitCode

GOOD = Observations(
    elapsed_s=10.0,
    nodes=({"name": "node0"},),
    committed_height=100,
    blocks=90,
    instructions=1000,
    fills=50,
    envelopes_refused=2,
    stalled_s=0.1,
    contradictions=(),
    common_root=(80, b"\x01" * 32),
    unexpected_exits=(),
    halted=False,
    orders=500,
    orders_rejected=3,
    commit_latency_ms={"p50": 50.0, "p99": 90.0, "count": 500},
    receipt_latency_ms={"p50": 80.0, "p99": 150.0, "count": 500},
    tape=None,
)


def test_a_tape_has_its_own_counters() -> None:
    tape = TapeProgress(trades=500, played=312, refused=2, filled=300)
    document, code = compute_report(msgspec.structs.replace(GOOD, tape=tape))
    assert code is ExitCode.OK
    assert document["counted_from"] == "readiness"
    assert document["tape"] == {
        "trades": 500, "played": 312, "refused": 2, "filled": 300, "done": False,
    }  # fmt: skip
    assert describe_tape(tape).startswith("the tape is unfinished: 312 of 500 trades played")
    whole = TapeProgress(trades=500, played=500, filled=500, done=True)
    assert "played to its end: 500 trades, 500 filled" in describe_tape(whole)


def disagreement() -> Agreement:
    agreement = Agreement()
    agreement.observe("node0", "block", 7, b"\x0a" * 32)
    agreement.observe("node1", "block", 7, b"\x0b" * 32)
    return agreement


def test_a_good_run_reports_its_figures() -> None:
    document, code = compute_report(GOOD)
    assert code is ExitCode.OK
    assert document["state_roots_agree"] is True
    assert document["orders_executed"] == 500
    assert document["orders_per_s"] == 50.0
    assert document["envelopes_rejected"] == 2
    assert document["state_roots_height"] == 80
    assert document["committed_height"] == 100
    assert document["commit_latency_ms"]["p99"] == 90.0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"blocks": 0}, ExitCode.LIVENESS),
        ({"stalled_s": STALL_MAX_S + 1}, ExitCode.LIVENESS),
        ({"common_root": None}, ExitCode.LIVENESS),
        ({"orders": 0}, ExitCode.LIVENESS),
        ({"orders": None}, ExitCode.OK),
        ({"halted": True, "unexpected_exits": ("node1 ended",)}, ExitCode.SAFETY),
        ({"unexpected_exits": ("node1 ended",)}, ExitCode.UNEXPECTED),
        ({"unexpected_exits": ("node1 ended",), "blocks": 0}, ExitCode.UNEXPECTED),
        ({"contradictions": tuple(disagreement().contradictions)}, ExitCode.SAFETY),
        ({"contradictions": tuple(disagreement().contradictions), "blocks": 0}, ExitCode.SAFETY),
    ],
)
def test_what_went_wrong_decides_the_exit_code(changes: dict, code: ExitCode) -> None:
    document, found = compute_report(msgspec.structs.replace(GOOD, **changes))
    assert found is code
    assert Verdict(document["verdict"]).exit_code is code
    if "contradictions" in changes:
        assert not document["state_roots_agree"]
        assert "node1 says 0b0b" in document["contradictions"][0]


# ---- agreement -----------------------------------------------------------------------------


def test_nodes_that_lag_agree_at_the_highest_height_they_share() -> None:
    agreement = Agreement()
    for height in range(1, 10):
        agreement.observe("node0", "state_root", height, bytes([height]))
    for height in range(1, 6):
        agreement.observe("node1", "state_root", height, bytes([height]))
    assert agreement.highest_common("state_root", ["node0", "node1"]) == (5, b"\x05")
    assert agreement.highest_common("state_root", ["node0", "node2"]) is None
    assert agreement.highest_common("state_root", []) is None
    assert agreement.contradictions == []


def test_a_node_that_changes_its_story_contradicts_itself() -> None:
    agreement = Agreement()
    agreement.observe("node0", "block", 1, b"a")
    agreement.observe("node0", "block", 1, b"b")
    assert [each.other_node for each in agreement.contradictions] == ["node0"]


def test_blocks_and_roots_of_one_height_are_different_matters() -> None:
    agreement = Agreement()
    agreement.observe("node0", "block", 1, b"a")
    agreement.observe("node1", "state_root", 1, b"b")
    assert agreement.contradictions == []


def test_memory_of_heights_is_bounded() -> None:
    agreement = Agreement()
    for height in range(HEIGHTS_REMEMBERED_MAX + 10):
        agreement.observe("node0", "block", height, b"a")
    agreement.observe("node1", "block", 0, b"b")
    assert agreement.contradictions == [], "height 0 is forgotten"
    agreement.observe("node1", "block", 10, b"b")
    assert len(agreement.contradictions) == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 1))))
def test_disagreement_is_found_in_whatever_order_nodes_report(
    reports: list[tuple[str, int, int]],
) -> None:
    agreement = Agreement()
    for node, height, value in reports:
        agreement.observe(node, "block", height, bytes([value]))
    values: dict[int, set[int]] = {}
    for _, height, value in reports:
        values.setdefault(height, set()).add(value)
    assert bool(agreement.contradictions) == any(len(each) > 1 for each in values.values())


# ---- the traders' lines --------------------------------------------------------------------


def test_the_traders_lines_are_totals_measured_from_readiness() -> None:
    demo = DemoTraders()
    demo.read_line(b'{"orders":10,"rejected":1,"commit_latency_ms":[5.0],"quoted":true}')
    assert demo.last.quoted
    demo.begin_measuring()
    demo.read_line(b'{"orders":25,"rejected":3,"commit_latency_ms":[7.0,9.0],"more":"fields"}')
    assert (demo.orders, demo.rejected, demo.orders_per_s) == (15, 2, 15)
    assert demo.commit_latency.summary()["count"] == 2
    assert demo.commit_latency.summary()["p99"] == 9.0
    demo.read_line(b"Traceback: nonsense")
    assert demo.unreadable_lines == 1
    assert demo.orders == 15
