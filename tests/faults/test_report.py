"""The page of a report, as people read it."""

from localnet.faults.report import DETAIL_MAX_CHARS, render
from localnet.faults.words import say_count


def make_document(heals, faults, findings=()):
    """Of a run in which nothing happened."""
    seen = {
        **{"heals": heals, "liars": [], "strikes": []},
        **{"committed_height": 1, "fills": 0, "longest_pause_s": 1.0, "view_changes": 0},
        **{"convictions": [], "memory": []},
        "orders": dict.fromkeys(("sent", "acknowledged", "executed", "refused"), 0)
        | {"unfinished": []},
    }
    return {
        **{"scenario": "x", "verdict": "safety", "shows": "it", "expected_verdict": "pass"},
        **{"exit_code": 20, "ended": "now", "findings": findings, "nodes": 4, "seen": seen},
        **{"run_for_s": 5.0, "faults": faults},
    }


def test_a_detail_that_is_cut_says_so():
    findings = [
        {"name": "agreement", "holds": False, "detail": "a" * (DETAIL_MAX_CHARS + 1)},
        {"name": "replay", "holds": True, "detail": "b" * DETAIL_MAX_CHARS},
    ]
    heals = [{"progress_after_s": 0.5, "is_cut": False}]
    page = render(make_document(heals, 1, findings))
    assert f"| {'a' * DETAIL_MAX_CHARS} … (more in report.json) |" in page
    assert f"| {'b' * DETAIL_MAX_CHARS} |" in page
    assert "4 nodes, 5 s, 1 fault, liars" in page
    assert "- 1 heal, 0 cut" in page
    assert "- 0 views without a block; hits of the faults: none" in page


def test_a_run_without_faults_says_nothing_of_heals_and_lost_views():
    page = render(make_document(heals=[], faults=0))
    assert "heal" not in page
    assert "without a block" not in page
    assert "- orders followed: 0 sent" in page


def test_what_is_counted_is_one_or_several():
    assert [say_count(number, "fault") for number in (0, 1, 2)] == [
        "0 faults",
        "1 fault",
        "2 faults",
    ]
