"""Where something is not asked for, no violation of it can be found: the answer says so."""

from pathlib import Path

import pytest

from localnet.sim.bundle import record_run
from localnet.sim.faults import BitFlipFault, WipeFault
from localnet.sim.schedule import Liar, Schedule, Traffic, encode_schedule, save_schedule
from localnet.sim.timeline import render_timeline
from node.cli.main import run

SILENT = Schedule(
    seed=10,
    views=2,
    traffic=None,
    liars=tuple(Liar(member=member, behaviour="silent") for member in (0, 1)),
)
WHY = "node0, node1 lie, have twins or lose their memory: power 2 of 4, a third or more"


def test_a_committee_that_never_commits_is_not_told_as_proven_alive(run_sim, capsys) -> None:
    save_schedule(Path("silent.json"), SILENT)
    code, document = run_sim("replay", "silent.json")
    assert (code, document["verdict"], document["committed_height"]) == (0, "pass", 0)
    assert document["not_asked"] == {"liveness": WHY, "rest": WHY, "replay": WHY}
    assert (document["views"], document["views_asked"]) == (1, 2)
    run(["sim", "replay", "silent.json"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"not asked liveness, rest, replay: {WHY}" in words
    assert "views 1 of the 2 asked for" in words


def test_the_timeline_says_what_was_not_asked() -> None:
    page = render_timeline(SILENT, *record_run(SILENT))
    assert f"No violation. Not asked: liveness, rest, replay: {WHY}.</div>" in page
    assert "views: 1 of the 2 asked for;" in page


def test_a_campaign_counts_the_runs_that_were_asked_less(run_sim, capsys) -> None:
    Path("twins").mkdir()
    Path("twins/0.json").write_bytes(encode_schedule(SILENT))
    assert run(["sim", "twins", "run", "twins", "--jobs", "1"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "no violation (liveness not asked in 1 runs, " in words


@pytest.mark.parametrize(
    ("traffic", "faults", "why"),
    [
        (
            None,
            tuple(WipeFault(at_ms=100, duration_ms=60, host=host) for host in range(4)),
            "node0, node1, node2, node3 lie, have twins or lose their memory: power 4 of 4, ",
        ),
        (
            Traffic(),
            tuple(
                BitFlipFault(at_ms=200, duration_ms=10, host=host, of="batches", bit=77)
                for host in range(4)
            ),
            "nobody is up and honest: power 0 of 4, which is no quorum",
        ),
    ],
)
def test_without_a_quorum_nobody_is_held_to_progress(run_sim, traffic, faults, why: str) -> None:
    save_schedule(Path("lost.json"), Schedule(seed=10, views=10, traffic=traffic, faults=faults))
    code, document = run_sim("replay", "lost.json")
    assert code == 0
    assert sorted(document["not_asked"]) == ["liveness", "replay", "rest"]
    assert all(each.startswith(why) for each in document["not_asked"].values())


def test_whoever_is_held_to_everything_is_told_nothing_of_it(run_sim) -> None:
    save_schedule(Path("quiet.json"), Schedule(seed=10, views=4))
    _, document = run_sim("replay", "quiet.json")
    assert document["not_asked"] == {}
    assert not any(name.startswith("not_asked") for name in document["coverage"])
