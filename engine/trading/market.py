"""A market at run time: its parameters unpacked, its index and mark price and its book."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.genesis import Matching
from engine.limits import PPM
from engine.prices.funding import Funding
from engine.prices.mark import Mark
from engine.trading.book import Book

if TYPE_CHECKING:
    from engine.genesis import MarketParams
    from engine.options.chains import OptionChain, Series
    from engine.waiting.orders import Watch


class Report:
    """The latest accepted oracle report of one reporter for one market."""

    __slots__ = ("price_ticks", "sequence", "source_time_ms")

    def __init__(self, price_ticks: int, sequence: int, source_time_ms: int) -> None:
        self.price_ticks = price_ticks
        self.sequence = sequence
        self.source_time_ms = source_time_ms


class Market:
    """One market: what the hot path reads is an attribute, computed once a block."""

    __slots__ = (
        "band_high",
        "band_low",
        "book",
        "chain",
        "dirty",
        "funding",
        "has_call_auctions",
        "im_rate",
        "im_rate_short",
        "index_price",
        "index_value",
        "initial_margin_ppm",
        "is_cost_kept",
        "maintenance_margin_ppm",
        "maker_fee_ppm",
        "maker_fees",
        "mark",
        "mark_price",
        "mark_value",
        "market_id",
        "mm_rate",
        "mm_rate_short",
        "open_interest",
        "open_orders_max",
        "oracle_max_age_ms",
        "order_size_max_lots",
        "params",
        "reports",
        "reports_fresh_until_ms",
        "scaled_margin_ppm",
        "series",
        "stale",
        "taker_fee_ppm",
        "taker_fees",
        "unit",
        "watch",
    )

    def __init__(self, params: MarketParams) -> None:
        self.params = params
        self.market_id = params.market
        self.unit = params.unit_microquote
        """Micro-quote per lot and tick."""
        self.initial_margin_ppm = params.initial_margin_ppm
        self.scaled_margin_ppm = params.initial_margin_ppm
        """The initial margin in force: it may grow with open interest
        (`engine.prices.open_interest`)."""
        self.maintenance_margin_ppm = params.maintenance_margin_ppm
        self.maker_fee_ppm = params.maker_fee_ppm
        self.taker_fee_ppm = params.taker_fee_ppm
        self.maker_fees = [params.maker_fee_ppm]
        """By tier of the account (`engine.accounts.fees`)."""
        self.taker_fees = [params.taker_fee_ppm]
        self.open_orders_max = params.open_orders_max
        self.order_size_max_lots = params.order_size_max_lots
        self.oracle_max_age_ms = params.oracle_max_age_ms
        self.has_call_auctions = params.matching == Matching.AUCTION
        """One price for all takers of a block (`engine.trading.call_auction`)."""
        self.book = Book()
        self.funding = None if params.funding is None else Funding(params.funding)
        self.mark = None if params.mark is None else Mark(params.mark)
        """None: the mark is the index."""
        self.chain: OptionChain | None = None
        """The options on its index, or those that it is one of."""
        self.series: Series | None = None
        """The terms of an option; None for a perpetual (`engine.options.chains`)."""
        self.is_cost_kept = False
        """Is the cost of positions part of the state? It is where there is liquidation."""
        self.watch: Watch | None = None
        """What waits in the market; None until something does."""
        self.reports: dict[bytes, Report] = {}
        self.reports_fresh_until_ms = -1
        """From the first block after this time some report that counted is too old."""
        self.stale = True
        self.dirty = True
        self.index_price = 0
        """Ticks; 0 until the first index."""
        self.index_value = 0
        """Micro-quote per lot at the index."""
        self.mark_price = 0
        """Ticks; what positions are valued and margined at. 0 until the first index."""
        self.mark_value = 0
        """Micro-quote per lot at the mark."""
        self.open_interest = 0
        """Lots of all long positions at the end of the last block (`engine.invariants`)."""
        self.im_rate = 0
        """Initial margin of one long lot, in millionths; `mark_value * scaled_margin_ppm`."""
        self.im_rate_short = 0
        """The same of one short lot: equal, but for options."""
        self.mm_rate = 0
        self.mm_rate_short = 0
        self.band_low = 0
        self.band_high = 0

    def set_index(self, price_ticks: int) -> None:
        """Move the index and the band around it, which rounds inwards."""
        self.index_price = price_ticks
        self.index_value = price_ticks * self.unit
        band = self.params.price_band_ppm
        self.band_low = -(-price_ticks * (PPM - band) // PPM)
        self.band_high = price_ticks * (PPM + band) // PPM

    def set_mark(self, price_ticks: int) -> None:
        """Move the mark and the margin rates that follow from it."""
        self.mark_price = price_ticks
        self.mark_value = price_ticks * self.unit
        self.im_rate = self.im_rate_short = self.mark_value * self.scaled_margin_ppm
        self.mm_rate = self.mm_rate_short = self.mark_value * self.maintenance_margin_ppm
