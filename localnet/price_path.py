"""Seeded price paths for the demo markets: integers only, so a seed gives one path everywhere.

A path is a random walk with small steps, rare jumps and a pull towards its base price, which
keeps demo accounts solvent and prices readable for as long as anybody lets it run.
"""

from typing import Final

from engine.limits import PPM, PRICE_MAX_TICKS, QUOTE_MICROQUOTE
from localnet.splitmix import SplitMix

STEP_MAX_PPM: Final = 300
"""Largest ordinary move of one step, either way; most are smaller (triangular distribution)."""

JUMP_ONE_IN: Final = 500
"""One step in so many jumps."""

JUMP_MIN_PPM: Final = 1_000
JUMP_MAX_PPM: Final = 6_000
"""Size of a jump, either way: well inside every market's price band."""

PULL_PPM: Final = 100
"""Part of the distance to the base price that each step closes."""

RANGE_FACTOR: Final = 2
"""The price stays between base / factor and base * factor."""

FRACTION_BITS: Final = 20
"""Prices are kept in 2^-20 of a tick, so that cheap assets move too."""

BASE_PRICES_MICROQUOTE: Final = {
    "BTC-PERP": 60_000 * QUOTE_MICROQUOTE,
    "ETH-PERP": 3_000 * QUOTE_MICROQUOTE,
    "SOL-PERP": 150 * QUOTE_MICROQUOTE,
    "DOGE-PERP": 200_000,
}
"""Where the demo markets start, per whole unit of the base asset."""

BASE_PRICE_TICKS_DEFAULT: Final = 100_000
"""Where a market that is not in the table starts."""


class PricePath:
    """One market's path; `price_ticks` is where it stands."""

    def __init__(self, seed: int, market: int, base_ticks: int) -> None:
        """`base_ticks` is the first price and the one that the path is pulled to."""
        assert 1 <= base_ticks <= PRICE_MAX_TICKS // RANGE_FACTOR
        self._random = SplitMix(seed ^ market << 32)
        self._base = base_ticks << FRACTION_BITS
        self._low = max(self._base // RANGE_FACTOR, 1 << FRACTION_BITS)
        self._high = self._base * RANGE_FACTOR
        self._price = self._base

    @property
    def price_ticks(self) -> int:
        return self._price >> FRACTION_BITS

    def step(self) -> int:
        """Move once; return the new price in ticks."""
        below = self._random.below
        move_ppm = below(STEP_MAX_PPM + 1) - below(STEP_MAX_PPM + 1)
        if below(JUMP_ONE_IN) == 0:
            jump_ppm = JUMP_MIN_PPM + below(JUMP_MAX_PPM - JUMP_MIN_PPM + 1)
            move_ppm += jump_ppm if below(2) else -jump_ppm
        pull = (self._base - self._price) * PULL_PPM // PPM
        moved = self._price + self._price * move_ppm // PPM + pull
        self._price = min(max(moved, self._low), self._high)
        return self.price_ticks


def compute_base_ticks(symbol: str, tick_size_microquote: int) -> int:
    """The first price of a demo market, in its ticks."""
    price_microquote = BASE_PRICES_MICROQUOTE.get(symbol)
    if price_microquote is None:
        return BASE_PRICE_TICKS_DEFAULT
    return max(1, price_microquote // tick_size_microquote)
