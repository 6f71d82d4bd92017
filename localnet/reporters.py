"""Oracle reporters of a localnet: each member's reports, to that member's own node."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple

import trio

from engine.genesis import MarketParams
from engine.instructions import Instruction, OracleReport, VolatilityReport
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX, PPM
from engine.options.params import OptionParams
from localnet.courier import Courier
from localnet.splitmix import SplitMix
from node.envelopes import EnvelopeFactory
from node.keystores import read_password
from node.network import Network, NetworkNode

REPORT_SPACING_MIN_S: Final = 0.1
"""A reporter rests this long after each report, however fast prices move."""

SURFACE_SPACING_S: Final = 5.0
"""Volatilities are reported so often, along with the prices: far below the age at which they count
as stale."""

SURFACE_VOL_PPM: Final = 550_000
"""Of options at the money, in a localnet."""

SURFACE_SMILE_PPM: Final = 400_000
"""How much more for a strike that is as far off as the forward is high."""

VOL_STEP_MAX_PPM: Final = 60_000
"""Largest move of a member's level between two reports, either way; most are smaller."""

VOL_PULL_PPM: Final = 100_000
"""Part of the distance to the usual level that each step closes."""

_VOL_SEED: Final = 0x766F6C
"""So that volatilities do not follow the prices' random numbers."""

REPORT_PATIENCE_S: Final = 3.0
"""A report that is not ordered by then is given up for a newer one."""


class Reporter(NamedTuple):
    """One member's oracle."""

    courier: Courier
    factory: EnvelopeFactory
    power: int


def load_reporter(
    network: Network, node: NetworkNode, note: Callable[[str], None] = lambda _: None
) -> Reporter:
    """Open the oracle key in the node's home. Raises `node.exit_codes.OperatorError`."""
    home = network.home(node.name)
    keys = home.keystores.load(read_password(home.password_path), accept_weak=True)
    factory = EnvelopeFactory(keys.oracle, network.chain_id)
    courier = Courier([node.door_endpoint()], [factory.account], note=note)
    return Reporter(courier, factory, node.power)


def make_surfaces(
    markets: Iterable[MarketParams], level_ppm: int = SURFACE_VOL_PPM
) -> dict[int, tuple[int, ...]]:
    """The volatilities that a localnet's member reports, by underlying: a smile around a level."""
    return {
        each.market: make_surface(each.options, level_ppm)
        for each in markets
        if each.options is not None
    }


def make_surface(options: OptionParams, level_ppm: int) -> tuple[int, ...]:
    """One row as the other; within the bounds of what may be reported."""
    smile = [
        level_ppm + abs(moneyness_ppm - PPM) * SURFACE_SMILE_PPM // PPM
        for moneyness_ppm in options.vol_moneyness_ppm
    ]
    row = tuple(max(options.vol_min_ppm, min(vol, options.vol_max_ppm)) for vol in smile)
    return row * len(options.vol_tenors_s)


class VolWalk:
    """A member's own opinion of the volatility at the money: a seeded walk around the usual one,
    so that the members' reports differ and their median moves."""

    def __init__(self, seed: int, member: int) -> None:
        self._random = SplitMix(seed ^ _VOL_SEED ^ member << 32)
        self.level_ppm = SURFACE_VOL_PPM

    def step(self) -> int:
        """Move once; return the new level."""
        below = self._random.below
        move_ppm = below(VOL_STEP_MAX_PPM + 1) - below(VOL_STEP_MAX_PPM + 1)
        pull = (SURFACE_VOL_PPM - self.level_ppm) * VOL_PULL_PPM // PPM
        moved = self.level_ppm + self.level_ppm * move_ppm // PPM + pull
        self.level_ppm = min(max(moved, SURFACE_VOL_PPM // 2), 2 * SURFACE_VOL_PPM)
        return self.level_ppm


async def run_reporter(
    reporter: Reporter,
    prices: Mapping[int, int],
    make_reported: Callable[[], Mapping[int, tuple[int, ...]]],
    await_move: Callable[[], Awaitable[None]],
    on_reported: Callable[[], None],
) -> None:
    """Report all prices (ticks by market) whenever `await_move` returns, until cancelled, and with
    them the volatility surfaces (by underlying) that `make_reported` gives, every
    `SURFACE_SPACING_S`.

    Always the newest prices, one envelope at a time: a report that comes late helps nobody. The
    courier's own task must run beside it.
    """
    time_ms = 0
    surfaces_due_ms = 0
    while True:
        await await_move()
        time_ms = max(time_ms + 1, time.time_ns() // 1_000_000)
        reports: list[Instruction] = [
            OracleReport(market, price, time_ms, time_ms)
            for market, price in sorted(prices.items())
        ]
        if time_ms >= surfaces_due_ms:
            surfaces_due_ms = time_ms + int(1_000 * SURFACE_SPACING_S)
            reports += [
                VolatilityReport(market, surface, time_ms, time_ms)
                for market, surface in sorted(make_reported().items())
            ]
        is_ordered = True
        for start in range(0, len(reports), INSTRUCTIONS_PER_BUNDLE_MAX):
            part = reports[start : start + INSTRUCTIONS_PER_BUNDLE_MAX]
            ticket = await reporter.courier.send(reporter.factory, part)
            with trio.move_on_after(REPORT_PATIENCE_S):
                await ticket.ordered.wait()
            is_ordered = is_ordered and ticket.ordered_after_ms is not None
            # Its receipt is of no interest.
            reporter.courier.abandon(ticket)
        if is_ordered:
            on_reported()
        await trio.sleep(REPORT_SPACING_MIN_S)
