"""Funding: the payment between longs and shorts that keeps a perpetual near its index.

    vote      once every `vote_interval_ms`: the premium of the book that the block before left
              (`engine.prices.premium`)
    sample    once every `sample_interval_ms`: the median of its votes, missing ones counted as 0
    rate      once every `interval_ms`: the mean of its samples, missing ones counted as 0, plus
              interest within a clamp, all clamped; stated for eight hours, paid for the interval

    rate    = premium + clamp(interest - premium, +-interest clamp)
    paid    = position x index x rate x interval / 8 h          by longs to shorts

(Shape of dYdX v4 for votes and samples, of Hyperliquid for the interest.) A single block's book
can move one vote; the median takes it away. What nobody voted on counts as no premium, so a
pause never makes anybody pay.

Payments go over the market's *funding index*, the sum of all that one long lot ever owed. An
account settles the difference on the first touch after the index has moved (`engine.margin`),
once, over all its markets, rounded down; the *funding pool* is the other side of every settlement
and keeps the dust, so it never owes more than it holds (tested). A stale oracle stops votes, and
what is due waits until it is fresh: then one interval is paid, however many have passed.

Units: premiums and rates in parts per 10^9 (ppb), the funding index in 10^-9 micro-quote a lot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.limits import BALANCE_ABS_MAX_MICROQUOTE
from engine.prices.premium import PPB, compute_next_due, compute_premium, divide_toward_zero
from engine.receipts import FundingEvent

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.genesis import FundingParams
    from engine.run import BlockRun
    from engine.state import EngineState
    from engine.trading.market import Market

RATE_PERIOD_MS: Final = 28_800_000
"""Rates are stated for eight hours, as at most exchanges."""

_PPB_PER_PPM: Final = 1_000


class Funding:
    """What a market with funding remembers between blocks."""

    __slots__ = (
        "due_ms",
        "index",
        "params",
        "rate_ppb",
        "sample_due_ms",
        "samples",
        "vote_due_ms",
        "votes",
    )

    def __init__(self, params: FundingParams) -> None:
        self.params = params
        self.index = 0
        """What one long lot has owed since genesis, 10^-9 micro-quote; falls while shorts pay."""
        self.rate_ppb = 0
        """The last rate, for eight hours."""
        self.votes: list[int] = []
        """Premiums of the sample under way."""
        self.samples: list[int] = []
        """Premiums of the interval under way."""
        self.vote_due_ms = 0
        """From this block time on the next vote is due; 0, like all, before the first block that
        has an index."""
        self.sample_due_ms = 0
        self.due_ms = 0


def accrue_funding(run: BlockRun) -> None:
    """System phase, after the indices: votes, samples and rates that are due by now."""
    state = run.state
    for market in state.perpetuals.values():
        if market.funding is not None and not market.stale and market.index_price:
            _accrue_market(run, market, market.funding)


def _accrue_market(run: BlockRun, market: Market, funding: Funding) -> None:
    now_ms, params = run.time_ms, funding.params
    if now_ms < funding.vote_due_ms:
        return
    market.dirty = True
    if funding.due_ms == 0:
        funding.sample_due_ms = compute_next_due(now_ms, params.sample_interval_ms)
        funding.due_ms = compute_next_due(now_ms, params.interval_ms)
    if now_ms >= funding.sample_due_ms:
        if funding.votes:
            expected = params.sample_interval_ms // params.vote_interval_ms
            funding.samples.append(compute_padded_median(funding.votes, expected))
            funding.votes = []
        funding.sample_due_ms = compute_next_due(now_ms, params.sample_interval_ms)
    if now_ms >= funding.due_ms:
        expected = params.interval_ms // params.sample_interval_ms
        premium_ppb = divide_toward_zero(sum(funding.samples), expected)
        funding.rate_ppb = compute_rate(premium_ppb, params)
        funding.samples = []
        funding.due_ms = compute_next_due(now_ms, params.interval_ms)
        funding.index += divide_toward_zero(
            funding.rate_ppb * params.interval_ms * market.index_value, RATE_PERIOD_MS
        )
        run.state.margin_epoch += 1
        run.events.append(FundingEvent(market.market_id, funding.rate_ppb, market.index_price))
    funding.votes.append(compute_premium(market, params.impact_notional_microquote))
    funding.vote_due_ms = compute_next_due(now_ms, params.vote_interval_ms)


def pack_index(index: int) -> bytes:
    """A funding index as 32 bytes, in the state root and in snapshots: it outgrows 64 bits."""
    return index.to_bytes(32, "big", signed=True)


def unpack_index(packed: bytes) -> int:
    """The funding index in its 32 bytes."""
    return int.from_bytes(packed, "big", signed=True)


def compute_padded_median(votes: list[int], expected: int) -> int:
    """The median of the votes, with zeros for those that are missing."""
    padded = sorted(votes + [0] * (expected - len(votes)))
    middle = padded[(len(padded) - 1) // 2] + padded[len(padded) // 2]
    return divide_toward_zero(middle, 2)


def compute_rate(premium_ppb: int, params: FundingParams) -> int:
    """The rate for eight hours, in ppb."""
    clamp = params.interest_clamp_ppm * _PPB_PER_PPM
    most = params.rate_max_ppm * _PPB_PER_PPM
    interest = params.interest_ppm * _PPB_PER_PPM - premium_ppb
    rate = premium_ppb + max(-clamp, min(clamp, interest))
    return max(-most, min(most, rate))


def compute_settlement(account: Account) -> int:
    """What settling would add to the balance now: one rounding, down, over all markets.

    It never takes a balance out of its bound: what would is left in the pool, or asked of it. Only
    where an index has grown by many orders of magnitude can it come to that.
    """
    owed = 0
    for exposure in account.exposures.values():
        funding = exposure.market.funding
        if funding is not None and exposure.lots:
            owed += exposure.lots * (funding.index - exposure.funding_index)
    quote = account.quote + -owed // PPB
    bound = BALANCE_ABS_MAX_MICROQUOTE
    return max(-bound, min(bound, quote)) - account.quote if owed else 0


def settle_funding(state: EngineState, account: Account) -> None:
    """Pay or receive what the account's positions owe since its last settlement."""
    change = compute_settlement(account)
    for exposure in account.exposures.values():
        funding = exposure.market.funding
        if funding is not None and exposure.funding_index != funding.index:
            exposure.funding_index = funding.index
            if exposure.lots:
                account.position_record = None
                state.mark_dirty(account)
    if change:
        account.quote += change
        state.funding_pool -= change
        state.funding_paid.append((account.account_id, change))
