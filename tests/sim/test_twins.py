"""Twins: counted exactly, drawn fairly, run without violation; and beyond f they bite."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

import localnet
from consensus.messages import Proposal
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.certificates import find_leader
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import VIEW_MAX_MS, run_schedule
from localnet.sim.schedule import CALM_VIEWS, decode_schedule, encode_schedule, validate_schedule
from localnet.sim.twin_plans import CAMPAIGN, FAULTS_EVERY, TwinPlan, generate_twins
from localnet.sim.twins import TwinSpace, choose_twins, find_leader_seed
from node.cli.main import run as run_command
from node.exit_codes import ExitCode

FOUR = (1, 1, 1, 1)
BEYOND = TwinPlan(FOUR, (0, 1), 1, "halves", 8)
"""Two of four members have a twin, and the halves hold long enough to commit in each."""


def canonicalise(space: TwinSpace, word) -> tuple:
    """The least of all names of a scenario, by trying them all."""
    renamings = list(space.list_host_renamings())
    return min(tuple(space.rename(letter, names) for letter in word) for names in renamings)


@pytest.mark.parametrize(
    ("powers", "twins", "rounds", "alphabet"),
    [
        (FOUR, (0,), 1, "groups"),
        (FOUR, (0,), 2, "halves"),
        (FOUR, (0,), 3, "halves"),
        (FOUR, (0, 2), 2, "halves"),
        (FOUR, (1, 3), 1, "groups"),
        ((3, 3, 2, 2), (1,), 2, "halves"),
        ((1, 1, 1, 1, 1), (0, 1), 1, "halves"),
    ],
)
def test_the_count_of_classes_is_the_number_of_scenarios_listed(
    powers, twins, rounds, alphabet
) -> None:
    space = TwinSpace(powers, twins, rounds, alphabet)
    words = list(space.enumerate())
    assert len(words) == len(set(words)) == space.count_classes()
    letters = len(powers) * len(space.list_relations())
    assert space.count() == letters**rounds


def test_any_masks_are_counted_without_being_listed() -> None:
    assert TwinSpace(FOUR, (0,), 3, "masks").count() == (4 * 2**20) ** 3
    small = TwinSpace((1, 1), (0,), 1, "masks")
    letters = [
        (leader, bits) for leader in range(2) for bits in range(2**6)
    ]  # Six links among three hosts; the two hosts of member 0 may be swapped.
    fixed = 2 * 2**3
    assert small.count() == len(letters)
    assert small.count_classes() == (len(letters) + fixed) // 2
    with pytest.raises(ValueError, match="too many to list"):
        next(TwinSpace(FOUR, (0,), 3, "masks").enumerate())


@pytest.mark.parametrize("alphabet", ["halves", "groups"])
def test_every_class_is_drawn_equally_often(alphabet) -> None:
    space = TwinSpace(FOUR, (0,), 1, alphabet)
    random = Random(1)
    drawn = Counter(canonicalise(space, space.sample(random)) for _ in range(6_000))
    expected = 6_000 / space.count_classes()
    assert len(drawn) == space.count_classes()
    deviation = sum((count - expected) ** 2 / expected for count in drawn.values())
    assert deviation < 2 * space.count_classes(), "chi-squared, far beyond any chance"


def test_masks_are_drawn_from_all_relations() -> None:
    space = TwinSpace((1, 1), (0,), 1, "masks")
    random = Random(2)
    drawn = Counter(canonicalise(space, space.sample(random)) for _ in range(4_000))
    assert len(drawn) == space.count_classes()
    assert max(drawn.values()) < 3 * min(drawn.values())


def test_the_leaders_asked_for_lead() -> None:
    leaders = {1: 3, 2: 3, 3: 0, 4: 6}
    seed = find_leader_seed((1,) * 7, leaders).to_bytes(8, "big")
    assert {view: find_leader((1,) * 7, seed, view) for view in leaders} == leaders


def test_the_campaign_stays_within_f_and_its_schedules_survive_a_file() -> None:
    for schedule in generate_twins(FAULTS_EVERY * len(CAMPAIGN), seed=5):
        validate_schedule(schedule)
        assert schedule.is_within_f()
        assert decode_schedule(encode_schedule(schedule)) == schedule
    assert {len(plan.powers) for plan in CAMPAIGN} >= {4, 7, 10}
    assert choose_twins((5, 4, 3, 3)) == (1,)
    assert choose_twins((1,) * 10) == (0, 1, 2)


def test_one_turn_in_four_meets_faults_that_make_nobody_guilty() -> None:
    schedules = list(generate_twins(3 * FAULTS_EVERY * len(CAMPAIGN), seed=5))
    faulty = [schedule for schedule in schedules if schedule.faults]
    assert len(faulty) * FAULTS_EVERY == len(schedules)
    assert all(schedule.name.endswith(", faults") for schedule in faulty)
    assert {len(schedule.powers) for schedule in faulty} == {4, 5, 7, 10}
    assert len({type(fault) for schedule in faulty for fault in schedule.faults}) > 8
    for schedule in faulty:
        assert schedule.byzantine() == set(schedule.twins)


@pytest.mark.parametrize("number", range(0, len(CAMPAIGN), 3))
def test_twins_among_faults_break_nothing(number: int) -> None:
    turns = generate_twins(FAULTS_EVERY * len(CAMPAIGN), seed=17)
    schedule = list(turns)[(FAULTS_EVERY - 1) * len(CAMPAIGN) + number]
    outcome = run_schedule(schedule)
    assert schedule.faults
    assert outcome.violation is None
    assert outcome.committed_height >= 3


def test_both_twins_lead() -> None:
    """The two hosts of a leader propose, each to those that hear it."""
    space = TwinSpace(FOUR, (0,), 1, "halves", span=3)
    proposers: set[int] = set()

    class Proposers(Watcher):
        messages = (Proposal,)

        def on_sent(self, index, message) -> None:
            if isinstance(message, Proposal):
                proposers.add(index)

    word = next(each for each in space.enumerate() if each[0].leader == 0)
    schedule = space.make_schedule(word, 1)
    run_schedule(schedule, lambda cluster: cluster.world.observers.append(Proposers()))
    assert {0, 4} <= proposers


@pytest.mark.parametrize("number", range(len(CAMPAIGN)))
def test_twins_within_f_break_nothing(number) -> None:
    schedule = list(generate_twins(number + 1, seed=11))[number]
    outcome = run_schedule(schedule)
    assert outcome.violation is None
    assert outcome.committed_height >= 3


def test_a_split_that_stops_all_views_ends_and_the_run_goes_on_to_its_length() -> None:
    schedule = replace(list(generate_twins(4))[3], views=30)
    outcome = run_schedule(schedule)
    assert outcome.violation is None
    attacked = len(schedule.twin_links) + CALM_VIEWS
    assert outcome.phases["heal"] == attacked * VIEW_MAX_MS, "no view ended any more"
    assert outcome.views >= schedule.views


def test_beyond_f_the_same_campaign_finds_a_fork_and_names_it() -> None:
    found = [
        outcome.violation
        for schedule in generate_twins(4, seed=1, plans=(BEYOND,))
        if (outcome := run_schedule(schedule)).violation is not None
    ]
    assert any(
        violation.oracle == "OneOrder" and "disagrees at height" in violation.detail
        for violation in found
    )


def test_scenarios_are_written_counted_and_run(run_sim) -> None:
    text = "twins generate --views 2 --alphabet halves --out drawn --count 3 --seed 4"
    code, document = run_sim(*text.split())
    assert code == 0
    assert (document["scenarios"], document["classes"], document["written"]) == (4096, 510, 3)
    code, document = run_sim(*["twins", "run", "drawn", "--jobs", "1"])
    assert (code, document["verdict"]) == (0, "pass")
    assert (document["runs"], document["violations"]) == (3, [])
    assert document["views_per_s"] > 0
    assert document["time_permille"]
    assert sum(document["kinds"].values()) == 3


def test_a_file_where_scenarios_are_to_go_is_named(run_sim, tmp_path) -> None:
    (tmp_path / "taken").touch()
    code, document = run_sim("twins", "generate", "--count", "1", "--out", "taken")
    assert (code, document["error"]["code"]) == (72, "sim.unwritable")


def test_beyond_f_the_command_names_the_fork_and_prints_the_line_that_shows_it_again(
    capsys, tmp_path
) -> None:
    keep = tmp_path / "kept here"
    space = "--nodes 4 --twins 2 --alphabet halves --views 1 --span 8 --count 1 --seed 10"
    code = run_command(["sim", "twins", "run", *space.split(), "--jobs", "1", "--keep", str(keep)])
    said = capsys.readouterr().out
    assert code == ExitCode.SAFETY
    assert "OneOrder" in said
    (folder,) = keep.iterdir()
    assert (folder / "timeline.html").exists()
    *_, last = said.splitlines()
    # As a shell of the one who pastes it, where `rota` is this checkout's.
    rota = tmp_path / "bin" / "rota"
    rota.parent.mkdir()
    rota.write_text(f'#!/bin/sh\nexec {sys.executable} -m node.cli.main "$@"\n')
    rota.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{last} --json"],
        cwd=Path(localnet.__file__).parent.parent,
        env={"PATH": f"{rota.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.SAFETY, done.stderr
    assert json.loads(done.stdout)["violation"]["oracle"] == "OneOrder"


@pytest.mark.parametrize(
    "space", ["--powers 5,x", "--nodes 3", "--nodes 4 --alphabet none", "--nodes 7 --all"]
)
def test_impossible_scenarios_are_refused(run_sim, space: str) -> None:
    code, document = run_sim("twins", "run", *space.split())
    assert (code, document["error"]["code"]) == (2, "sim.twins_invalid")


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("--nodes 4 --twins 9", "9 of 4 members cannot have twins: --twins is at most 4 here"),
        ("--nodes 3", "--twins 1 goes beyond f"),
    ],
)
def test_a_committee_that_cannot_have_the_twins_is_told_how_many(run_sim, space, words) -> None:
    _, document = run_sim("twins", "run", *space.split())
    assert document["error"]["message"].endswith(words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("drawn --nodes 7", "--nodes decides nothing about scenarios which come from files"),
        ("drawn --all", "--all decides nothing"),
        ("drawn --seed 4", "--seed decides nothing"),
        ("--views 3", "--views decides nothing about scenarios without --nodes or --powers"),
        ("--nodes 4 --powers 5,4,3,3", "--nodes and --powers both say who the members are"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(run_sim, tmp_path, options, words) -> None:
    (tmp_path / "drawn").mkdir()
    code, document = run_sim("twins", "run", *options.split())
    assert (code, document["error"]["code"]) == (2, "sim.twins_invalid")
    assert words in document["error"]["message"]


def test_scenarios_are_not_mixed_with_what_a_folder_holds(run_sim, tmp_path) -> None:
    (tmp_path / "used").mkdir()
    assert run_sim("twins", "generate", "--count", "1", "--out", "used")[0] == 0
    code, document = run_sim("twins", "generate", "--count", "1", "--out", "used")
    assert (code, document["error"]["message"]) == (2, "used is not empty")


def test_who_kills_all_hosts_kills_the_twins_too() -> None:
    cluster = NodeCluster(1, twins=(0,))
    cluster.start()
    assert all(map(cluster.world.is_running, cluster.hosts))
    cluster.crash()
    assert not any(map(cluster.world.is_running, cluster.hosts))
