"""Initial margin that grows with a market's open interest: a crowded market is hard to leave.

    open interest = sum of the long positions (which is that of the short ones)
    rate = min(1, rate_base + max(0, (open interest x mark - lower) / (upper - lower))
                              x (1 - rate_base))

(Form of dYdX v4.) What is added is rounded up, to `STEP_PPM`, so that the rate moves now and then
and not with every trade: a rate that moves makes every account that acts compute its margin anew.
Maintenance margin does not grow, so nobody is liquidated because others trade.

The rate is set in the system phase, from the positions that the block before left and the mark of
this one, and holds for the whole block. So the order inside a block cannot matter, and both facts
that `engine.cross_margin` rests on stay true. What one block may add to open interest at the rate
that it found is bounded by the margin of those who add it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.limits import PPM

if TYPE_CHECKING:
    from engine.genesis import OpenInterestParams

STEP_PPM: Final = 1_000
"""Initial margin grows in steps of a tenth of a percent."""


def compute_scaled_margin(base_ppm: int, params: OpenInterestParams, value_microquote: int) -> int:
    """The rate of initial margin at this value of all open interest, in ppm."""
    excess = value_microquote - params.lower_microquote
    if excess <= 0:
        return base_ppm
    width = (params.upper_microquote - params.lower_microquote) * STEP_PPM
    steps = -(-excess * (PPM - base_ppm) // width)
    return min(base_ppm + steps * STEP_PPM, PPM)
