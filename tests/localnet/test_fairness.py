"""The measurement of fairness: it plays what it says, and the same seed gives the same numbers."""

import json

import pytest

from engine.genesis import Matching
from localnet.bench.describe import describe_result
from localnet.bench.fairness import SPLITS, STRATEGIES, measure_fairness
from localnet.bench.population import OWN_LOTS, Group, Trial
from node.cli.main import run


@pytest.fixture(scope="module")
def result():
    return measure_fairness(seed=3, trials=6)


def test_the_same_seed_gives_the_same_numbers_and_another_one_gives_others(result):
    assert measure_fairness(3, 6) == result
    assert measure_fairness(4, 6) != result


def test_every_way_is_measured_in_both_modes_and_honesty_gains_nothing(result):
    assert [(row.matching, row.strategy) for row in result.proposer] == [
        (mode, strategy) for mode in ("continuous", "auction") for strategy in STRATEGIES
    ]
    sizes = [(each, False) for each in SPLITS] + [(each, True) for each in SPLITS[1:]]
    assert [(row.matching, row.accounts, row.is_inflated) for row in result.splitting] == [
        (mode, *size) for mode in ("continuous", "auction") for size in sizes
    ]
    for row in (*result.proposer, *result.splitting):
        if getattr(row, "strategy", "") == "lets everybody in" or getattr(row, "accounts", 0) == 1:
            assert (row.gain.mean, row.gain.half_width_95) == (0, 0)


@pytest.mark.parametrize("matching", Matching)
def test_who_is_held_back_trades_nothing_of_the_news(matching):
    gains = []
    for number in range(6):
        trial = Trial(3, number)
        honest = trial.play(matching, [OWN_LOTS])
        alone = trial.play(matching, [OWN_LOTS], frozenset({Group.RIVALS}))
        assert alone.rivals == 0
        assert 0 <= alone.own_lots <= OWN_LOTS
        assert 0 <= alone.own <= trial.compute_prize()
        gains.append(alone.own - honest.own)
    assert sum(gains) > 0, "competition is worth something to all others"


def test_the_command_prints_what_was_measured(capsys):
    assert run(["bench", "fairness", "--trials", "2", "--seed", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["trials"], document["seed"]) == (2, 3)
    assert document["machine"]["cores"] >= 1
    lines = describe_result("fairness", measure_fairness(3, 2))
    assert len(lines) == 3
