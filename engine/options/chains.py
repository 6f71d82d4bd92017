"""Options as the state holds them: the chains of the underlyings, their expiries, their series.

A series is a market like any other to orders, books and matching. It differs in four things only:
what it is valued at and within which band it trades (`engine.options.marks`), what margin a lot of
it needs (likewise), and that it ends (`engine.options.settlement`).

All that is committed of a chain is the surface, the samples for settlements and which series there
are. Marks are a function of these, of the index and of the block's time, and so they are caches.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from crypto.digest import Domain, digest
from engine.limits import QUOTE_MICROQUOTE
from engine.portfolio.black76 import compute_log
from engine.portfolio.fixed_point import from_ratio

if TYPE_CHECKING:
    from engine.options.params import OptionParams
    from engine.portfolio.margin import PortfolioCache
    from engine.portfolio.scenarios import RiskArrays
    from engine.trading.market import Market

_TERMS: Final = Struct(">IQQB")
_SURFACE: Final = Struct(">B")
_VOL: Final = Struct(">I")
_VOL_REPORT: Final = Struct(">32sQQ")
_EXPIRY: Final = Struct(">QQIQ")


class Series:
    """The terms of one option, and where it stands."""

    __slots__ = (
        "expiry",
        "is_call",
        "log_strike",
        "strike",
        "strike_ticks",
        "underlying",
        "vol_ppm",
    )

    def __init__(
        self, underlying: Market, expiry: Expiry, strike_ticks: int, *, is_call: bool
    ) -> None:
        self.underlying = underlying
        self.expiry = expiry
        self.strike_ticks = strike_ticks
        """In ticks of the underlying."""
        self.is_call = is_call
        self.strike = compute_price(underlying, strike_ticks, 1)
        self.log_strike = compute_log(self.strike)
        self.vol_ppm = 0
        """Cache: what the surface says, 0 before it says anything."""


class Expiry:
    """One expiry of a chain: its samples of the index and its strikes."""

    __slots__ = (
        "expiry_ms",
        "is_closed",
        "sample_count",
        "sample_due_ms",
        "sample_sum",
        "strikes",
    )

    def __init__(self, expiry_ms: int, sample_due_ms: int) -> None:
        self.expiry_ms = expiry_ms
        self.sample_due_ms = sample_due_ms
        """From this block time on the next sample is due."""
        self.sample_sum = 0
        """Of the samples, in ticks of the underlying."""
        self.sample_count = 0
        self.strikes: dict[int, tuple[Market, Market]] = {}
        """Call and put by strike in ticks, in the order of listing."""
        self.is_closed = False
        """Cache: the block time has reached the expiry, and nothing trades any more."""

    def markets(self) -> list[Market]:
        """All its series, by id."""
        return [market for pair in self.strikes.values() for market in pair]


class VolReport:
    """The latest accepted volatilities of one reporter for one underlying."""

    __slots__ = ("sequence", "source_time_ms", "vols_ppm")

    def __init__(self, vols_ppm: tuple[int, ...], sequence: int, source_time_ms: int) -> None:
        self.vols_ppm = vols_ppm
        self.sequence = sequence
        self.source_time_ms = source_time_ms


class OptionChain:
    """All options on one underlying."""

    __slots__ = (
        "arrays",
        "dirty",
        "expiries",
        "listed_key",
        "mark_key",
        "mark_time_ms",
        "params",
        "places",
        "portfolios",
        "reports",
        "reports_fresh_until_ms",
        "stale",
        "underlying",
        "unit_margins",
        "vols_ppm",
    )

    def __init__(self, underlying: Market, params: OptionParams) -> None:
        self.underlying = underlying
        self.params = params
        self.expiries: dict[int, Expiry] = {}
        """By time, in rising order."""
        self.vols_ppm: tuple[int, ...] = ()
        """The surface, row by row; empty until reports first cover a quorum."""
        self.reports: dict[bytes, VolReport] = {}
        self.reports_fresh_until_ms = -1
        """From the first block after this time some report that counted is too old."""
        self.stale = True
        self.dirty = True
        self.listed_key: tuple[int, ...] = ()
        """Cache: for what everything is listed that should be."""
        self.mark_key: tuple[object, ...] = ()
        """Cache: what the marks were computed from."""
        self.mark_time_ms = 0
        """Cache: the step of the clock that they were computed for."""
        self.arrays: RiskArrays | None = None
        """Cache of `engine.portfolio.margin`: prices in all scenarios; None after marks moved."""
        self.places: dict[int, int] = {}
        """Cache: where in them a market stands, by its id."""
        self.portfolios: dict[bytes, PortfolioCache] = {}
        """Cache: the accounts that have sums of prices in them, which go with the prices."""
        self.unit_margins: dict[int, tuple[int, int]] = {}
        """Cache: what one lot bought, and one sold, needs of initial margin by itself."""

    def count_open_samples(self, expiry: Expiry) -> int:
        """How many samples are still to come, as far as one can know: one at each interval until
        the expiry, and after it as many as a settlement still needs."""
        interval_ms = self.params.sample_interval_ms
        left_ms = 0 if expiry.is_closed else max(expiry.expiry_ms - expiry.sample_due_ms, 0)
        planned = (left_ms + interval_ms - 1) // interval_ms
        return max(planned, self.settlement_samples_min - expiry.sample_count)

    def compute_time_left_ms(self, expiry: Expiry) -> int:
        """From the step of the marks' clock to the expiry, for volatility: 0 once it is closed."""
        return 0 if expiry.is_closed else max(expiry.expiry_ms - self.mark_time_ms, 0)

    @property
    def settlement_samples_min(self) -> int:
        """More than half of the samples of a full window: with fewer nothing is settled."""
        return self.params.window_ms // self.params.sample_interval_ms // 2 + 1

    def compute_forward(self, expiry: Expiry) -> tuple[int, int]:
        """The settlement price as it is expected now, as a fraction in ticks: the samples so far,
        and the present index for each that is still to come."""
        count = self.count_open_samples(expiry)
        total = expiry.sample_sum + count * self.underlying.index_price
        return total, expiry.sample_count + count


def compute_price(underlying: Market, ticks: int, parts: int) -> int:
    """A price of `ticks / parts` ticks as a Q64 number in quote for a unit of the base asset."""
    return from_ratio(ticks * underlying.params.tick_size_microquote, parts * QUOTE_MICROQUOTE)


def encode_series(series: Series) -> bytes:
    """What the state root says of a series: it never changes."""
    return _TERMS.pack(
        series.underlying.market_id,
        series.expiry.expiry_ms,
        series.strike_ticks,
        series.is_call,
    )


def encode_chain(chain: OptionChain) -> bytes:
    """What the state root says of a chain."""
    surface = b"".join([_VOL.pack(vol) for vol in chain.vols_ppm])
    reports = b"".join(
        _VOL_REPORT.pack(key, report.sequence, report.source_time_ms)
        + b"".join([_VOL.pack(vol) for vol in report.vols_ppm])
        for key, report in sorted(chain.reports.items(), key=lambda entry: entry[0])
    )
    expiries = b"".join(
        _EXPIRY.pack(expiry.expiry_ms, expiry.sample_sum, expiry.sample_count, expiry.sample_due_ms)
        for expiry in chain.expiries.values()
    )
    return _SURFACE.pack(chain.stale) + digest(Domain.STATE, surface, reports, expiries) + expiries
