"""`rota bench keys`: every step is measured, every lie is caught, every key is handed on."""

import json

import pytest
from msgspec.structs import replace

from localnet.bench.ceremonies import CeremoniesResult, measure_ceremonies
from localnet.bench.describe import describe_result
from localnet.bench.sealing import COMMITTEES, SealingResult, SealingSteps
from node.cli.main import run


@pytest.fixture(scope="module")
def ceremonies():
    return measure_ceremonies((4,), lambda text: None)


def test_liars_are_convicted_and_the_key_is_handed_on(ceremonies):
    fresh, again = ceremonies.rows
    assert fresh.convicted == ("bad_share", "false_complaint")
    assert (fresh.tickets, fresh.threshold, fresh.dealings) == (5, 3, 2)
    assert again.is_same_key
    assert again.convicted == ()
    assert ceremonies.met


def test_a_ceremony_that_went_otherwise_is_not_as_it_should_be(ceremonies):
    fresh, again = ceremonies.rows
    assert not CeremoniesResult((replace(fresh, convicted=()), again)).met
    assert not CeremoniesResult((fresh, replace(again, is_same_key=False))).met


def test_the_command_prints_numbers_of_every_step(capsys):
    assert run(["bench", "keys", "--members", "4", "--bodies", "2", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [row["tickets"] for row in results["sealing"]["steps"]] == [4, 16, 24]
    for steps in results["sealing"]["steps"]:
        assert all(value > 0 for name, value in steps.items() if name.endswith("_us"))
    kinds = [row["kind"] for row in results["ceremonies"]["rows"]]
    assert kinds == ["fresh", "resharing"]


def test_results_are_shown_with_their_targets(ceremonies):
    steps = SealingSteps(3, 4, *[700.0] * 8)
    lines = describe_result("sealing", SealingResult(256, 4096, (steps,)))
    assert lines[-1] == "256 bodies open in 358 ms, target 200: target NOT met"
    assert describe_result("ceremonies", ceremonies)[-1] == "as it should be"
    assert len(COMMITTEES) == 3
