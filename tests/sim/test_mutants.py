"""Rules that are switched off are noticed; what is planted is taken out again."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consensus import safety
from localnet.byzantine import behaviours
from localnet.sim.cli import app
from localnet.sim.mutants import conjuncts
from localnet.sim.mutants.conjuncts import (
    ELSEWHERE,
    EQUIVALENT,
    find_codes,
    find_conjuncts,
    find_uncovered,
)
from localnet.sim.mutants.hunt import hunt
from localnet.sim.mutants.plant import (
    Change,
    Mutant,
    MutantError,
    find_function,
    make_mutant,
    planted,
)
from localnet.sim.mutants.schedules import make_schedule
from localnet.sim.mutants.table import MUTANTS
from localnet.sim.mutants_cli import UnknownMutantError, choose_mutants
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import validate_schedule
from node.cli.output import Output
from node.exit_codes import ExitCode

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}

FASTEST = (
    "commit_on_one_certificate",
    "vote_leaves_at_once",
    "tc_without_quorum",
    "votes_by_anybody",
    "nonce_again",
)


def test_the_table_names_each_rule_once_and_fits_the_code() -> None:
    assert len(BY_NAME) == len(MUTANTS) >= 25
    for mutant in MUTANTS:
        functions = {find_function(change.target) for change in mutant.changes}
        before = {function: function.__code__ for function in functions}
        with planted(mutant):
            assert all(function.__code__ is not before[function] for function in functions)
        assert all(function.__code__ is before[function] for function in functions)


def test_all_kinds_of_schedule_exist_and_stay_within_f() -> None:
    for kind in {kind for mutant in MUTANTS for kind in mutant.first}:
        _, is_liar, name = kind.partition(":")
        assert not is_liar or name.partition("+")[0] in behaviours()
        schedule = make_schedule(kind, 3)
        validate_schedule(schedule)
        assert schedule.is_within_f()
        assert schedule == make_schedule(kind, 3)


@pytest.mark.parametrize("name", FASTEST)
def test_a_rule_that_is_off_is_noticed(name: str) -> None:
    found = hunt(BY_NAME[name], scenarios_max=6)
    assert found.killed, found
    assert run_schedule(make_schedule(found.schedule, 0)).violation is None


def test_the_flaw_of_fast_hotstuff_is_found_by_the_general_campaign() -> None:
    mutant = BY_NAME["fast_hotstuff"]
    assert mutant.first == (), "no schedule is made for it"
    found = hunt(mutant, scenarios_max=20)
    assert found.killed, found


def test_a_change_that_changes_nothing_survives() -> None:
    harmless = Change("consensus.safety:compute_view", "+ 1", "+ 2 - 1")
    found = hunt(Mutant("harmless", "none", "", (harmless,)), scenarios_max=2)
    assert (found.killed, found.seed, found.scenarios) == (False, None, 2)


def test_a_change_that_does_not_fit_is_refused_and_nothing_stays_planted() -> None:
    code = safety.compute_view.__code__
    good = Change("consensus.safety:compute_view", "+ 1", "+ 2")
    for bad in (
        Change("consensus.safety:compute_view", "no such text", ""),
        Change("consensus.safety:no_such_function", "", ""),
        Change("consensus.safety:STATE_TABLE", "", ""),
    ):
        with pytest.raises(MutantError), planted(Mutant("bad", "none", "", (good, bad))):
            pass
        assert safety.compute_view.__code__ is code


def test_every_condition_is_switched_off_by_a_mutant_or_said_to_make_no_difference() -> None:
    assert find_uncovered() == set()
    assert len(find_codes()) > 45
    known = find_codes() | find_conjuncts()
    assert EQUIVALENT.keys() | ELSEWHERE.keys() <= known, "no reason outlives its condition"
    assert not EQUIVALENT.keys() & ELSEWHERE.keys()


def test_a_condition_without_a_mutant_is_found(monkeypatch) -> None:
    monkeypatch.setattr(conjuncts, "MUTANTS", MUTANTS[1:])
    assert find_uncovered() == {"is_safe_to_vote: block.epoch == state.epoch", "proposal.epoch"}


LOCK = ("consensus.safety:apply_vote", "max(state.one_chain_view, block.qc.view)", "0")
STOP = ("consensus.pacemaker:Pacemaker.enter_view", "view > self.view", "view < self.view")


def test_a_violation_of_another_rule_is_no_kill() -> None:
    shown = make_mutant("lock", "", "SigningRules: .* the lock", *LOCK, first=("quiet",))
    assert hunt(shown, scenarios_max=1).killed
    other = make_mutant("lock", "", "OneOrder: ", *LOCK, first=("quiet",))
    found = hunt(other, scenarios_max=1)
    assert not found.killed
    assert found.detail.startswith("SigningRules: ")


def test_a_node_that_stops_itself_is_a_kill_only_with_a_reason() -> None:
    pattern = "invariant of consensus.pacemaker"
    assert not hunt(make_mutant("stop", "", pattern, *STOP), scenarios_max=1).killed
    defence = make_mutant("stop", "", pattern, *STOP, stops="that is its purpose")
    assert hunt(defence, scenarios_max=1).killed


def test_what_is_chosen_for_a_mutant_is_told_apart_from_what_is_not() -> None:
    unchosen = hunt(BY_NAME["votes_short_of_a_quorum"], scenarios_max=3, is_general=True)
    assert (unchosen.killed, unchosen.general) == (True, True)
    assert hunt(BY_NAME["vote_again"], scenarios_max=1).general is None


def test_a_kill_leaves_a_folder_to_look_at(run_sim) -> None:
    name = "vote_again"
    code, document = run_sim("mutants", "--only", name, "--jobs", "1", "--keep", "kept")
    (folder,) = map(Path, document["bundles"])
    assert (code, folder.parent.name) == (0, "kept")
    assert f"safety: {document['mutants'][0]['oracle']}" in (folder / "trace.txt").read_text()
    again = "rota sim mutants --only vote_again"
    assert f"<code>{again}</code>" in (folder / "timeline.html").read_text()
    words = (folder / "README.md").read_text()
    assert f"The rule `{name}` was off: `{again}` shows it again." in words
    code, document = run_sim("replay", str(folder / "schedule.json"))
    assert (code, document["violation"]) == (0, None)


def test_the_command_reports_what_was_killed() -> None:
    text = "mutants --only vote_again --scenarios 3 --jobs 1 --json"
    result = CliRunner().invoke(app, text.split(), obj=Output())
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["mutants"]
    assert {"name", "rule", "killed", "seed", "scenarios"} <= found.keys()
    assert (found["name"], found["killed"]) == ("vote_again", True)
    result = CliRunner().invoke(app, ["mutants", "--only", "nobody"], obj=Output())
    assert result.exit_code != ExitCode.OK
    result = CliRunner().invoke(app, ["mutants", "--list", "--json"], obj=Output())
    assert len(json.loads(result.stdout)["mutants"]) == len(MUTANTS)
    with pytest.raises(UnknownMutantError) as unknown:
        choose_mutants(["vote_agan"])
    assert "vote_again" in str(unknown.value.advice)
