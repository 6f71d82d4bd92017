"""The page of a report, as people read it."""

from localnet.faults.report import DETAIL_MAX_CHARS, render
from localnet.faults.words import say_count


def test_a_detail_that_is_cut_says_so():
    seen = {
        **{"heals": [{"progress_after_s": 0.5, "is_cut": False}], "liars": [], "strikes": []},
        **{"committed_height": 1, "fills": 0, "longest_pause_s": 1.0, "view_changes": 0},
        **{"convictions": [], "memory": []},
        "orders": dict.fromkeys(("sent", "acknowledged", "executed", "refused"), 0)
        | {"unfinished": []},
    }
    findings = [
        {"name": "agreement", "holds": False, "detail": "a" * (DETAIL_MAX_CHARS + 1)},
        {"name": "replay", "holds": True, "detail": "b" * DETAIL_MAX_CHARS},
    ]
    page = render(
        {
            **{"scenario": "x", "verdict": "safety", "shows": "it", "expected_verdict": "pass"},
            **{"exit_code": 20, "ended": "now", "findings": findings, "nodes": 4, "seen": seen},
            **{"run_for_s": 5.0, "faults": 1},
        }
    )
    assert f"| {'a' * DETAIL_MAX_CHARS} … (more in report.json) |" in page
    assert f"| {'b' * DETAIL_MAX_CHARS} |" in page
    assert "4 nodes, 5 s, 1 fault, liars" in page
    assert "- 1 heal, 0 cut" in page


def test_what_is_counted_is_one_or_several():
    assert [say_count(number, "fault") for number in (0, 1, 2)] == [
        "0 faults",
        "1 fault",
        "2 faults",
    ]
