"""The options' part of a snapshot: surfaces, samples and the list of series."""

from typing import Annotated

from msgspec import Meta, Struct

from crypto.types import Digest, Uint
from engine.errors import SnapshotError
from engine.limits import (
    EXPIRIES_MAX,
    PRICE_MAX_TICKS,
    REPORTERS_MAX,
    SERIES_ID_FIRST,
    SERIES_ID_MAX,
    STRIKES_PER_EXPIRY_MAX,
    SURFACE_KNOTS_MAX,
)
from engine.options.chains import Expiry, OptionChain, VolReport
from engine.options.listing import add_series
from engine.options.marks import update_option_marks
from engine.portfolio.margin import PortfolioCache
from engine.snapshots.checks import require_rising
from engine.state import EngineState

_Vols = Annotated[
    tuple[Annotated[int, Meta(ge=1, le=2**32 - 1)], ...], Meta(max_length=SURFACE_KNOTS_MAX)
]


class SnapshotVolatilities(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One reporter's latest surface."""

    reporter: Digest
    vols_ppm: _Vols
    sequence: Uint
    source_time_ms: Uint


class SnapshotStrike(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A call and the put beside it, whose id is the next one."""

    call: Annotated[int, Meta(ge=SERIES_ID_FIRST, le=SERIES_ID_MAX - 1)]
    strike_ticks: Annotated[int, Meta(ge=1, le=PRICE_MAX_TICKS)]


class SnapshotExpiry(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One expiry, its strikes by id."""

    expiry_ms: Uint
    sample_sum: Uint
    sample_count: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    sample_due_ms: Uint
    strikes: Annotated[tuple[SnapshotStrike, ...], Meta(max_length=STRIKES_PER_EXPIRY_MAX)]


class SnapshotChain(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The options on one underlying."""

    market: Uint
    is_stale: bool
    vols_ppm: _Vols
    reports: Annotated[tuple[SnapshotVolatilities, ...], Meta(max_length=REPORTERS_MAX)]
    expiries: Annotated[tuple[SnapshotExpiry, ...], Meta(max_length=EXPIRIES_MAX + 1)]


def pack_chains(state: EngineState) -> tuple[SnapshotChain, ...]:
    """All chains by underlying."""
    return tuple(
        SnapshotChain(
            market_id,
            chain.stale,
            chain.vols_ppm,
            tuple(
                SnapshotVolatilities(key, report.vols_ppm, report.sequence, report.source_time_ms)
                for key, report in sorted(chain.reports.items(), key=lambda entry: entry[0])
            ),
            tuple(_pack_expiry(expiry) for expiry in chain.expiries.values()),
        )
        for market_id, chain in state.chains.items()
    )


def _pack_expiry(expiry: Expiry) -> SnapshotExpiry:
    return SnapshotExpiry(
        expiry.expiry_ms,
        expiry.sample_sum,
        expiry.sample_count,
        expiry.sample_due_ms,
        tuple(
            SnapshotStrike(call.market_id, strike_ticks)
            for strike_ticks, (call, _) in expiry.strikes.items()
        ),
    )


def unpack_chains(state: EngineState, chains: tuple[SnapshotChain, ...]) -> None:
    """Rebuild chains, series and marks; the indices are there. Raises `SnapshotError`."""
    if [packed.market for packed in chains] != list(state.chains):
        raise SnapshotError("options where its genesis has none, or the other way round")
    series: list[tuple[int, OptionChain, Expiry, int]] = []
    for packed in chains:
        chain = state.chains[packed.market]
        _unpack_surface(chain, packed)
        require_rising([expiry.expiry_ms for expiry in packed.expiries], "expiries")
        for each in packed.expiries:
            expiry = Expiry(each.expiry_ms, each.sample_due_ms)
            expiry.sample_sum, expiry.sample_count = each.sample_sum, each.sample_count
            expiry.is_closed = state.time_ms >= each.expiry_ms
            chain.expiries[each.expiry_ms] = expiry
            require_rising([strike.call for strike in each.strikes], "series")
            series += [(strike.call, chain, expiry, strike.strike_ticks) for strike in each.strikes]
    series.sort(key=lambda entry: entry[0])
    require_rising([call_id // 2 for call_id, _, _, _ in series], "series")
    for call_id, chain, expiry, strike_ticks in series:
        if strike_ticks in expiry.strikes or call_id % 2 or call_id >= state.next_series_id:
            raise SnapshotError("a series that cannot be")
        add_series(state, chain, expiry, strike_ticks, call_id)
    for chain in state.chains.values():
        update_option_marks(chain, state.time_ms)


def pack_portfolios(state: EngineState) -> tuple[bytes, ...]:
    """The accounts with portfolio margin, by id."""
    return tuple(sorted(key for key, each in state.accounts.items() if each.portfolio is not None))


def unpack_portfolios(state: EngineState, accounts: tuple[bytes, ...]) -> None:
    """Give these accounts portfolio margin; they are there. Raises `SnapshotError`."""
    require_rising(accounts, "accounts with portfolio margin")
    if accounts and not state.has_portfolios:
        raise SnapshotError("portfolio margin where no market has rules for it")
    for account_id in accounts:
        account = state.accounts.get(account_id)
        if account is None:
            raise SnapshotError("portfolio margin of nobody")
        account.portfolio = PortfolioCache()


def _unpack_surface(chain: OptionChain, packed: SnapshotChain) -> None:
    knots = len(chain.params.vol_tenors_s) * len(chain.params.vol_moneyness_ppm)
    if len(packed.vols_ppm) not in (0, knots):
        raise SnapshotError("a surface of other knots than its genesis has")
    chain.stale, chain.vols_ppm = packed.is_stale, packed.vols_ppm
    require_rising([report.reporter for report in packed.reports], "reports")
    for report in packed.reports:
        if len(report.vols_ppm) != knots:
            raise SnapshotError("a report of other knots than its genesis has")
        chain.reports[report.reporter] = VolReport(
            report.vols_ppm, report.sequence, report.source_time_ms
        )
