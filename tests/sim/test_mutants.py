"""Rules that are switched off are noticed; what is planted is taken out again."""

import json

import pytest
from typer.testing import CliRunner

from consensus import safety
from localnet.byzantine import behaviours
from localnet.sim.cli import app
from localnet.sim.mutant_table import MUTANTS
from localnet.sim.mutants import (
    Change,
    Mutant,
    MutantError,
    find_function,
    hunt,
    make_schedule,
    planted,
)
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
        name = kind.removeprefix("liar:").partition("+")[0]
        assert not kind.startswith("liar:") or name in behaviours()
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
    found = hunt(Mutant("harmless", "none", (harmless,)), scenarios_max=2)
    assert (found.killed, found.seed, found.scenarios) == (False, None, 2)


def test_a_change_that_does_not_fit_is_refused_and_nothing_stays_planted() -> None:
    code = safety.compute_view.__code__
    good = Change("consensus.safety:compute_view", "+ 1", "+ 2")
    for bad in (
        Change("consensus.safety:compute_view", "no such text", ""),
        Change("consensus.safety:no_such_function", "", ""),
        Change("consensus.safety:STATE_TABLE", "", ""),
    ):
        with pytest.raises(MutantError), planted(Mutant("bad", "none", (good, bad))):
            pass
        assert safety.compute_view.__code__ is code


def test_the_command_reports_what_was_killed() -> None:
    text = "mutants --only vote_again --scenarios 3 --jobs 1 --json"
    result = CliRunner().invoke(app, text.split(), obj=Output())
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["mutants"]
    assert {"name", "rule", "killed", "seed", "scenarios"} <= found.keys()
    assert (found["name"], found["killed"]) == ("vote_again", True)
    result = CliRunner().invoke(app, ["mutants", "--only", "nobody"], obj=Output())
    assert result.exit_code != ExitCode.OK
