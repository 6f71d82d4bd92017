"""`rota bench fairness`: what is left to gain by omitting, delaying and splitting.

The engine orders takers by a seed that is drawn after a block's contents are fixed, so nobody gains
by where an envelope stands in it. What a proposer can still do is to leave envelopes out, or to let
them in one block later; and what a trader can still do is to send by several accounts. This plays
the population of `localnet.bench.population` against the engine, the same trials in both modes of
matching, and compares with what came of it when nobody did any of that.

Differences are taken trial by trial, so what trials have in common is not in their spread. Every
figure is a mean in quote for one trial, with the half width of its 95 % interval.
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Final

from msgspec import Struct

from engine.genesis import Matching
from engine.limits import QUOTE_MICROQUOTE
from localnet.bench.population import (
    ACCOUNTS_MAX,
    OWN_LOTS,
    Group,
    Profits,
    Trial,
)

TRIALS_DEFAULT: Final = 200
SEED_DEFAULT: Final = 1
SPLITS: Final = (1, 2, 4, 8, ACCOUNTS_MAX)
_NORMAL_95: Final = 1.96

_NOBODY: Final[frozenset[Group]] = frozenset()
_RIVALS: Final = frozenset({Group.RIVALS})
_MAKERS: Final = frozenset({Group.MAKERS})

STRATEGIES: Final = {
    "lets everybody in": (_NOBODY, _NOBODY),
    "omits rivals": (_RIVALS, _NOBODY),
    "delays rivals": (_NOBODY, _RIVALS),
    "delays makers": (_NOBODY, _MAKERS),
    "delays both": (_NOBODY, _RIVALS | _MAKERS),
}
"""What a proposer who trades, too, does to the others: whom it omits, whom it delays by a block."""


class Figure(Struct, frozen=True):
    """A mean over the trials, in quote, and how uncertain it is."""

    mean: float
    half_width_95: float


class ProposerRow(Struct, frozen=True):
    """One way to propose, in one mode."""

    matching: str
    strategy: str
    profit: Figure
    """Of the proposer as a trader."""
    gain: Figure
    """Of that, what letting everybody in would not have brought."""
    rivals_gain: Figure
    makers_gain: Figure


class SplitRow(Struct, frozen=True):
    """One way to split an order, in one mode."""

    matching: str
    accounts: int
    is_inflated: bool
    """Each account asks for the whole size, with margin for it, instead of its part."""
    profit: Figure
    gain: Figure
    """Of that, what one account would not have brought."""
    filled_lots: float


class FairnessResult(Struct, frozen=True):
    """What `rota bench fairness` prints."""

    seed: int
    trials: int
    wanted_lots: int
    prize: Figure
    """What all stale quotes together are worth to whoever could take them alone."""
    proposer: list[ProposerRow]
    splitting: list[SplitRow]


def measure_fairness(seed: int, trials: int) -> FairnessResult:
    """Play all trials in all ways; the same numbers for the same seed, on every machine."""
    assert trials >= 2, "a spread takes two"
    population = [Trial(seed, number) for number in range(trials)]
    proposer: list[ProposerRow] = []
    splitting: list[SplitRow] = []
    for matching in Matching:
        proposer += _measure_proposer(matching, population)
        splitting += _measure_splitting(matching, population)
    return FairnessResult(
        seed=seed,
        trials=trials,
        wanted_lots=OWN_LOTS,
        prize=_summarise([trial.compute_prize() for trial in population]),
        proposer=proposer,
        splitting=splitting,
    )


def _measure_proposer(matching: Matching, population: Sequence[Trial]) -> list[ProposerRow]:
    rows: list[ProposerRow] = []
    honest: list[Profits] = []
    for strategy, (omitted, delayed) in STRATEGIES.items():
        played = [trial.play(matching, [OWN_LOTS], omitted, delayed) for trial in population]
        honest = honest or played
        rows.append(
            ProposerRow(
                matching.name.lower(),
                strategy,
                _summarise([each.own for each in played]),
                _compare(played, honest, lambda each: each.own),
                _compare(played, honest, lambda each: each.rivals),
                _compare(played, honest, lambda each: each.makers),
            )
        )
    return rows


def _measure_splitting(matching: Matching, population: Sequence[Trial]) -> list[SplitRow]:
    rows: list[SplitRow] = []
    whole: list[Profits] = []
    for is_inflated in (False, True):
        for accounts in SPLITS:
            if is_inflated and accounts == 1:
                continue
            lots = OWN_LOTS if is_inflated else OWN_LOTS // accounts
            played = [trial.play(matching, [lots] * accounts) for trial in population]
            whole = whole or played
            rows.append(
                SplitRow(
                    matching.name.lower(),
                    accounts,
                    is_inflated,
                    _summarise([each.own for each in played]),
                    _compare(played, whole, lambda each: each.own),
                    round(fmean(each.own_lots for each in played), 2),
                )
            )
    return rows


def _compare(
    played: Sequence[Profits], baseline: Sequence[Profits], read: Callable[[Profits], int]
) -> Figure:
    return _summarise(
        [read(one) - read(other) for one, other in zip(played, baseline, strict=True)]
    )


def _summarise(amounts_microquote: Sequence[int]) -> Figure:
    error = stdev(amounts_microquote) / math.sqrt(len(amounts_microquote))
    return Figure(
        round(fmean(amounts_microquote) / QUOTE_MICROQUOTE, 4),
        round(_NORMAL_95 * error / QUOTE_MICROQUOTE, 4),
    )
