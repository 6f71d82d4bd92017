"""What an engine starts from: its markets and first balances, checked once."""

from enum import IntEnum
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from crypto.types import Digest
from engine.limits import (
    DEPOSITS_TOTAL_MAX_MICROQUOTE,
    FEE_EPOCHS_MAX,
    FEE_TIERS_MAX,
    FUNDING_SAMPLES_PER_INTERVAL_MAX,
    FUNDING_VOTES_PER_SAMPLE_MAX,
    MARKETS_MAX,
    OPEN_ORDERS_PER_ACCOUNT_MAX,
    OPEN_ORDERS_PER_MARKET_MAX,
    ORDER_SIZE_MAX_LOTS,
    PPM,
    SERIES_ID_FIRST,
    SERIES_MAX,
    VOLUME_MAX_MICROQUOTE,
)
from engine.options.params import OptionParams, find_option_fault


class Matching(IntEnum):
    """How the takers of one block trade."""

    CONTINUOUS = 0
    """One after the other, in turns by rank, each at the prices that it finds."""
    AUCTION = 1
    """All at once with the resting book, at one price (`engine.trading.call_auction`)."""


class GenesisError(Exception):
    """The genesis contradicts itself."""

    code = "genesis.invalid"


class FundingParams(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How longs and shorts of a perpetual pay each other (`engine.prices.funding`). Rates are for
    eight hours."""

    impact_notional_microquote: Annotated[int, Meta(ge=1, le=2**50)]
    """The size of the order whose average price a vote measures."""
    rate_max_ppm: Annotated[int, Meta(ge=1, le=PPM)]
    """Bound of the rate in both directions; dYdX takes 6 x (initial - maintenance margin)."""
    interest_ppm: Annotated[int, Meta(ge=-PPM, le=PPM)] = 100
    """What longs pay without any premium."""
    interest_clamp_ppm: Annotated[int, Meta(ge=0, le=PPM)] = 500
    """How much of the interest a premium may cancel out."""
    interval_ms: Annotated[int, Meta(ge=1_000, le=86_400_000)] = 3_600_000
    """From one payment to the next."""
    sample_interval_ms: Annotated[int, Meta(ge=1_000, le=86_400_000)] = 60_000
    """What the median of votes is taken over."""
    vote_interval_ms: Annotated[int, Meta(ge=100, le=86_400_000)] = 5_000
    """How often the book is looked at."""


class MarkParams(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How far and how fast the mark of a market may leave its index (`engine.prices.mark`)."""

    impact_notional_microquote: Annotated[int, Meta(ge=1, le=2**50)]
    """The size of the order whose average price a vote measures."""
    premium_max_ppm: Annotated[int, Meta(ge=1, le=PPM - 1)]
    """The mark is never farther from the index than this, nor does a vote count for more."""
    average_ms: Annotated[int, Meta(ge=100, le=86_400_000)] = 150_000
    """How long the moving average of the votes reaches back."""
    interval_ms: Annotated[int, Meta(ge=100, le=86_400_000)] = 1_000
    """Time between two votes."""


class OpenInterestParams(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Between which values of all open interest initial margin grows to all of the value
    (`engine.prices.open_interest`)."""

    lower_microquote: Annotated[int, Meta(ge=0, le=2**62)]
    """Up to here the market's own initial margin holds."""
    upper_microquote: Annotated[int, Meta(ge=1, le=2**62)]
    """From here on it is all of the value; more than the other."""


class LiquidationParams(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How accounts below their maintenance margin are closed (`engine.liquidation.phase`). The
    defaults are those of large exchanges: dYdX (prices), Hyperliquid (parts, backstop), Derive
    (auctions).
    """

    insurance_microquote: Annotated[int, Meta(ge=0, le=DEPOSITS_TOTAL_MAX_MICROQUOTE)] = 0
    """What the insurance fund starts with; it counts as deposited."""
    fee_ppm: Annotated[int, Meta(ge=0, le=100_000)] = 10_000
    """Of what a liquidated account trades in a book, to the insurance fund; less where the account
    would not keep its share."""
    spread_ppm: Annotated[int, Meta(ge=0, le=PPM)] = 100_000
    """Of a position's maintenance margin: what closing may cost beyond the mark at the end."""
    adjustment_ppm: Annotated[int, Meta(ge=0, le=100 * PPM)] = PPM
    """How fast the price falls to there while the margin is used up."""
    part_ppm: Annotated[int, Meta(ge=1, le=PPM)] = 200_000
    """Part of a large position that is closed at once."""
    part_min_microquote: Annotated[int, Meta(ge=0, le=2**56)] = 100_000_000_000
    """At mark: a position of this size is closed whole, and no part is smaller."""
    cooldown_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 30_000
    """After a part; in proportion, if the books took less."""
    retry_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 1_000
    """Between two looks at an account."""
    closing_max_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 120_000
    """An account that is not healthy after this long is auctioned."""
    backstop_ppm: Annotated[int, Meta(ge=0, le=PPM)] = 666_667
    """Below this part of its maintenance margin it is auctioned at once."""
    buffer_ppm: Annotated[int, Meta(ge=0, le=10 * PPM)] = 150_000
    """How far above its maintenance margin an auction may bring an account."""
    discount_start_ppm: Annotated[int, Meta(ge=0, le=PPM)] = 50_000
    """Part of the equity of what is sold that an auction offers to bidders at first."""
    discount_fast_ppm: Annotated[int, Meta(ge=0, le=PPM)] = 300_000
    """What it offers after `auction_fast_ms`."""
    auction_fast_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = 900_000
    """The first part of an auction."""
    auction_slow_ms: Annotated[int, Meta(ge=1, le=604_800_000)] = 43_200_000
    """In so much more time the offer grows to the whole equity."""
    insolvent_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 3_600_000
    """An account without equity is deleveraged after this long. Meanwhile the insurance fund offers
    what it lacks, and a premium that grows from nothing to `insured_premium_max_ppm`."""
    insured_premium_max_ppm: Annotated[int, Meta(ge=0, le=PPM)] = 100_000
    """Of the maintenance margin: the largest premium that the insurance fund pays. So much may the
    owner of an insolvent account gain who bids for it under another key."""


class MarketParams(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The parameters of one linear perpetual market.

    A price of `p` ticks means `p * tick_size_microquote` per whole unit of the base asset, and
    `lots_per_base` lots make one whole unit, so one lot at one tick is worth
    `unit_microquote = tick_size_microquote / lots_per_base`, which must be a whole number: every
    notional is then exact.
    """

    market: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    symbol: Annotated[str, Meta(min_length=1, max_length=32)]
    tick_size_microquote: Annotated[int, Meta(ge=1, le=2**48)]
    """The step of prices, for one whole unit of the base asset."""
    lots_per_base: Annotated[int, Meta(ge=1, le=2**48)]
    """One whole unit over this is the step of sizes."""
    initial_margin_ppm: Annotated[int, Meta(ge=1_000, le=PPM)]
    maintenance_margin_ppm: Annotated[int, Meta(ge=500, le=PPM)]
    maker_fee_ppm: Annotated[int, Meta(ge=-10_000, le=10_000)]
    """Negative: a rebate, paid out of the taker's fee."""
    taker_fee_ppm: Annotated[int, Meta(ge=0, le=10_000)]
    """Of the value that an incoming order trades."""
    price_band_ppm: Annotated[int, Meta(ge=1_000, le=PPM - 1)]
    """Limit prices must lie within this of the index, on both sides."""
    oracle_max_age_ms: Annotated[int, Meta(ge=1, le=86_400_000)]
    """Older reports do not count."""
    open_orders_max: Annotated[int, Meta(ge=1, le=OPEN_ORDERS_PER_MARKET_MAX)] = 100_000
    """Orders that may rest in the market at a time."""
    order_size_max_lots: Annotated[int, Meta(ge=1, le=ORDER_SIZE_MAX_LOTS)] = ORDER_SIZE_MAX_LOTS
    """The largest order."""
    funding: FundingParams | None = None
    """None: nobody ever pays for holding a position."""
    mark: MarkParams | None = None
    """None: the mark is the index."""
    matching: Matching = Matching.CONTINUOUS
    """How the takers of one block trade: one after the other, or all at one price."""
    open_interest: OpenInterestParams | None = None
    """None: initial margin does not grow with it."""
    options: OptionParams | None = None
    """None: there are no options on this market's index."""

    @property
    def unit_microquote(self) -> int:
        """The value of one lot at one tick."""
        return self.tick_size_microquote // self.lots_per_base


class FeeTier(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One step of the fee schedule."""

    volume_microquote: Annotated[int, Meta(ge=1, le=VOLUME_MAX_MICROQUOTE)]
    """From this trailing volume on it holds."""
    taker_reduction_ppm: Annotated[int, Meta(ge=0, le=10_000)]
    """So much less than each market's taker fee, in millionths of the notional."""
    maker_reduction_ppm: Annotated[int, Meta(ge=0, le=10_000)]
    """So much less than each market's maker fee, which may become a rebate."""


class FeeTiers(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Lower fees for whoever trades more (`engine.accounts.fees`)."""

    tiers: Annotated[tuple[FeeTier, ...], Meta(min_length=1, max_length=FEE_TIERS_MAX)]
    """By rising volume; without any of them a market's own fees hold."""
    epoch_ms: Annotated[int, Meta(ge=1_000, le=86_400_000)] = 86_400_000
    """How long volume is counted in one number; a tier holds for so long."""
    epochs: Annotated[int, Meta(ge=1, le=FEE_EPOCHS_MAX)] = 30
    """Full epochs before the present one whose volume counts."""


class GenesisDeposit(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A balance that exists from the start; it counts as deposited."""

    account: Digest
    amount_microquote: Annotated[int, Meta(ge=1, le=DEPOSITS_TOTAL_MAX_MICROQUOTE)]
    """What it holds at the start."""


class EngineGenesis(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The whole configuration; its digest is part of the state root."""

    markets: Annotated[tuple[MarketParams, ...], Meta(min_length=1, max_length=MARKETS_MAX)]
    deposits: tuple[GenesisDeposit, ...] = ()
    time_ms: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    account_open_orders_max: Annotated[int, Meta(ge=1, le=OPEN_ORDERS_PER_ACCOUNT_MAX)] = (
        OPEN_ORDERS_PER_ACCOUNT_MAX
    )
    """Orders of one account that may rest at a time, in all markets."""
    fee_tiers: FeeTiers | None = None
    """None: everybody pays each market's own fees."""
    withdrawal_min_microquote: Annotated[int, Meta(ge=1, le=2**40)] = 1
    """Smallest withdrawal: what L1 charges for paying one should not exceed it by far."""
    liquidation: LiquidationParams | None = None
    """None: nobody is ever liquidated."""


def validate_genesis(genesis: EngineGenesis) -> None:
    """Raise `GenesisError` unless the markets and deposits make sense together."""
    ids = [params.market for params in genesis.markets]
    if len(dict.fromkeys(ids)) != len(ids):
        raise GenesisError("two markets share one id")
    symbols = [params.symbol for params in genesis.markets]
    if len(dict.fromkeys(symbols)) != len(symbols):
        raise GenesisError("two markets share one symbol")
    for params in genesis.markets:
        if params.tick_size_microquote % params.lots_per_base:
            raise GenesisError(f"{params.symbol}: one lot at one tick is not a whole micro-quote")
        if params.maintenance_margin_ppm > params.initial_margin_ppm:
            raise GenesisError(f"{params.symbol}: maintenance margin above initial margin")
        if params.maker_fee_ppm + params.taker_fee_ppm < 0:
            raise GenesisError(f"{params.symbol}: the rebate exceeds the taker fee")
        if params.funding is not None:
            _validate_funding(params.symbol, params.funding)
        if params.mark is not None:
            _validate_mark(params, params.mark)
        interest = params.open_interest
        if interest is not None and interest.upper_microquote <= interest.lower_microquote:
            raise GenesisError(f"{params.symbol}: margin grows from a value up to none above it")
        if params.options is not None:
            fault = find_option_fault(params.options, params.lots_per_base)
            if fault:
                raise GenesisError(f"{params.symbol}: {fault}")
    _validate_series(genesis.markets)
    if genesis.fee_tiers is not None:
        _validate_fee_tiers(genesis.fee_tiers, genesis.markets)
    accounts = [deposit.account for deposit in genesis.deposits]
    if len(dict.fromkeys(accounts)) != len(accounts):
        raise GenesisError("two genesis deposits share one account")
    total = sum(deposit.amount_microquote for deposit in genesis.deposits)
    if genesis.liquidation is not None:
        total += genesis.liquidation.insurance_microquote
        if genesis.liquidation.discount_start_ppm > genesis.liquidation.discount_fast_ppm:
            raise GenesisError("the discount of an auction falls")
    if total > DEPOSITS_TOTAL_MAX_MICROQUOTE:
        raise GenesisError("the genesis deposits exceed the bound on all deposits")


def _validate_mark(params: MarketParams, mark: MarkParams) -> None:
    """A vote is a part of the average, and whoever must trade can do so at the mark."""
    if mark.interval_ms > mark.average_ms:
        raise GenesisError(f"{params.symbol}: the mark's interval is longer than its average")
    if mark.premium_max_ppm > params.price_band_ppm:
        raise GenesisError(f"{params.symbol}: the mark may leave the price band")


def _validate_series(markets: tuple[MarketParams, ...]) -> None:
    """Series have ids above all markets' ids, and their number is bounded."""
    series = sum(params.options.series_max for params in markets if params.options is not None)
    if series > SERIES_MAX:
        raise GenesisError(f"more than {SERIES_MAX} option series")
    if series and any(params.market >= SERIES_ID_FIRST for params in markets):
        raise GenesisError(f"a market id from {SERIES_ID_FIRST} on, where there are options")


def _validate_fee_tiers(fees: FeeTiers, markets: tuple[MarketParams, ...]) -> None:
    """More volume never costs more, and no rebate of any account exceeds what any other pays."""
    for lower, higher in pairwise(fees.tiers):
        if lower.volume_microquote >= higher.volume_microquote:
            raise GenesisError("the fee tiers are not in order of rising volume")
        if (
            lower.taker_reduction_ppm > higher.taker_reduction_ppm
            or lower.maker_reduction_ppm > higher.maker_reduction_ppm
        ):
            raise GenesisError("a fee tier of more volume asks for higher fees")
    best = fees.tiers[-1]
    for params in markets:
        taker_ppm = params.taker_fee_ppm - best.taker_reduction_ppm
        if taker_ppm < 0:
            raise GenesisError(f"{params.symbol}: a taker of the best fee tier would be paid")
        if taker_ppm + params.maker_fee_ppm - best.maker_reduction_ppm < 0:
            raise GenesisError(
                f"{params.symbol}: the best rebate exceeds what a taker of the best tier pays"
            )


def _validate_funding(symbol: str, funding: FundingParams) -> None:
    """Votes fill samples and samples fill intervals, without remainder and within bounds."""
    pairs = (
        (
            "votes",
            funding.vote_interval_ms,
            funding.sample_interval_ms,
            FUNDING_VOTES_PER_SAMPLE_MAX,
        ),
        (
            "samples",
            funding.sample_interval_ms,
            funding.interval_ms,
            FUNDING_SAMPLES_PER_INTERVAL_MAX,
        ),
    )
    for name, part_ms, whole_ms, most in pairs:
        if whole_ms % part_ms:
            raise GenesisError(f"{symbol}: {whole_ms} ms is no multiple of {part_ms} ms ({name})")
        if whole_ms // part_ms > most:
            raise GenesisError(f"{symbol}: more than {most} funding {name}")
