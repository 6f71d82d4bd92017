"""The chart of a day of options, as SVG, and its lines in the report."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from engine.limits import QUOTE_MICROQUOTE
from localnet.faults.drawing import (
    COLOURS,
    GAP,
    LEFT,
    PANEL,
    PLOT,
    ROW,
    TOP,
    Line,
    close_chart,
    draw_axis,
    draw_panel,
    open_chart,
    thin,
)
from localnet.faults.options_record import OptionsRecord
from localnet.faults.settlement_audit import Settlement
from node.home import write_atomically

OPTIONS_CHART_NAME: Final = "options.svg"
LINES_MAX: Final = 5
"""Strikes of one chain that are drawn: those next to where it ended."""

_Place = Callable[[int], float]


def render_options_chart(record: OptionsRecord) -> str:
    """The index with settlement windows and prices, marks of the calls of the expiry that was
    traded most, quotes, trades and volatility of one of them, and what settlements paid to whom.
    Needs a sample."""
    samples = record.samples
    start_ms, end_ms = samples[0].time_ms, max(samples[-1].time_ms, samples[0].time_ms + 1)

    def place(time_ms: int) -> float:
        return LEFT + PLOT * (time_ms - start_ms) / (end_ms - start_ms)

    due = record.compute_settlements()
    totals = record.compute_totals(due)
    tops = [TOP + number * (PANEL + GAP) for number in range(5)]
    axis_y = tops[4] - GAP + 6
    bars_top = axis_y + 64
    parts = open_chart(
        f"Options on {record.market.symbol}: listed, traded and settled within minutes",
        bars_top + (len(totals) + 1) * ROW,
    )
    parts += _draw_index(record, due, place, tops[0])
    calls = choose_chain(record, due)
    if calls:
        parts += _draw_marks(record, choose_nearest(record, calls, due), place, tops[1])
        parts += _draw_series(record, calls[0], place, tops[2:4])
    parts += draw_axis((end_ms - start_ms) / 1_000, axis_y)
    parts += _draw_payouts(totals, bars_top)
    return close_chart(parts)


def _draw_index(
    record: OptionsRecord, due: dict[int, Settlement], place: _Place, top: int
) -> list[str]:
    tick = record.market.tick_size_microquote
    parts = []
    first_ms = record.samples[0].time_ms
    for expiry_ms in due:
        left = place(max(expiry_ms - record.terms.window_ms, first_ms))
        parts.append(
            f'<rect class="w" x="{left:.1f}" y="{top}" '
            f'width="{place(expiry_ms) - left:.1f}" height="{PANEL}"/>'
        )
    samples = thin(record.samples)
    lines = [
        Line(
            [place(each.time_ms) for each in samples],
            [each.index_ticks * tick for each in samples],
        )
    ]
    for expiry_ms, settlement in due.items():
        left_ms = max(expiry_ms - record.terms.window_ms, first_ms)
        price = round(settlement.price_ticks * tick)
        lines.append(Line([place(left_ms), place(expiry_ms)], [price, price], colour=COLOURS[1]))
    title = f"Index of {record.market.symbol}, USD; shaded: settlement windows, with their means"
    return parts + draw_panel(title, lines, top, from_zero=False)


def choose_chain(record: OptionsRecord, due: dict[int, Settlement]) -> list[int]:
    """Of the expiry that was traded most, the calls that were, the most traded first. An expiry
    that has been settled is preferred, because all of it is there to be seen."""
    lots: Counter[int] = Counter()
    for trade in record.trades:
        lots[trade.market] += trade.lots
    by_expiry: Counter[int] = Counter()
    for market, size in lots.items():
        by_expiry[record.listings[market].expiry_ms] += size
    expiries = [each for each in due if by_expiry[each]] or sorted(by_expiry)
    if not expiries:
        return []
    expiry_ms = max(expiries, key=lambda each: by_expiry[each])
    calls = [
        market
        for market, listing in record.listings.items()
        if listing.is_call and listing.expiry_ms == expiry_ms and lots[market]
    ]
    return sorted(calls, key=lambda each: -lots[each])


def choose_nearest(
    record: OptionsRecord, calls: Sequence[int], due: Mapping[int, Settlement]
) -> list[int]:
    """Of traded calls of one expiry those with strikes next to the settlement price, or to the
    last index where there is none: of what is far in or out of the money the marks say little."""
    settlement = due.get(record.listings[calls[0]].expiry_ms)
    middle = record.samples[-1].index_ticks if settlement is None else settlement.price_ticks
    strikes = {each: record.listings[each].strike_ticks for each in calls}
    return sorted(calls, key=lambda each: (abs(strikes[each] - middle), each))[:LINES_MAX]


def _draw_marks(record: OptionsRecord, calls: Sequence[int], place: _Place, top: int) -> list[str]:
    options = record.market.options
    assert options is not None, "somebody has checked"
    lines = []
    for market in sorted(calls, key=lambda each: record.listings[each].strike_ticks):
        samples = thin([each for each in record.samples if market in each.series])
        strike = record.listings[market].strike_ticks * record.market.tick_size_microquote
        values = [each.series[market].mark_ticks * options.tick_size_microquote for each in samples]
        name = f"{strike / QUOTE_MICROQUOTE:,.10g} C"
        lines.append(Line([place(each.time_ms) for each in samples], values, name))
    when = say_time(record.listings[calls[0]].expiry_ms)
    return draw_panel(f"Marks of calls that expire {when}, USD", lines, top)


def _draw_series(record: OptionsRecord, market: int, place: _Place, tops: list[int]) -> list[str]:
    """One series: what was quoted and traded, and the volatility that the members say."""
    options = record.market.options
    assert options is not None, "somebody has checked"
    tick = options.tick_size_microquote
    samples = thin([each for each in record.samples if market in each.series])
    bids = [(each.time_ms, each.series[market].bid_ticks) for each in samples]
    asks = [(each.time_ms, each.series[market].ask_ticks) for each in samples]
    trades = [
        (time_ms, trade.price_ticks)
        for time_ms, trade in zip(record.trade_times_ms, record.trades, strict=True)
        if trade.market == market
    ]
    lines = []
    for name, colour, points in (
        ("bid", COLOURS[2], bids),
        ("ask", COLOURS[1], asks),
        ("trades", "#333", trades),
    ):
        given = [(place(time_ms), ticks * tick) for time_ms, ticks in points if ticks is not None]
        if given:
            at, values = zip(*given, strict=True)
            lines.append(Line(at, values, name, colour, is_dots=name == "trades"))
    symbol = record.symbols[market]
    vols = [each.series[market].vol_ppm for each in samples]
    xs = [place(each.time_ms) for each in samples]
    return [
        *(draw_panel(f"{symbol}, traded most, USD", lines, tops[0]) if lines else []),
        *draw_panel(
            f"Implied volatility of {symbol}: the median of the members' reports, % a year",
            [Line(xs, vols)],
            tops[1],
            from_zero=False,
            unit=10_000,
        ),
    ]


def _draw_payouts(totals: Sequence[tuple[str, int]], top: int) -> list[str]:
    """One bar for each account: to the right what it received, to the left what it paid."""
    parts = [
        f'<text class="h" x="{LEFT}" y="{top - 8}">'
        "Settlement payouts by account, net of all positions and expiries, USD</text>"
    ]
    if not totals:
        return parts
    most = max(1, *(abs(amount) for _, amount in totals))
    middle, reach = LEFT + PLOT / 2, PLOT / 2 - 90
    for row, (name, amount) in enumerate(totals):
        y = top + row * ROW
        length = reach * abs(amount) / most
        left = middle if amount >= 0 else middle - length
        parts.append(f'<text class="n" x="{LEFT - 8}" y="{y + 14}">{escape(name)}</text>')
        parts.append(
            f'<rect class="{"p" if amount >= 0 else "q"}" x="{left:.1f}" y="{y + 3}" '
            f'width="{length:.1f}" height="{ROW - 8}"/>'
        )
        x, side = (middle + length + 6, "") if amount >= 0 else (middle - length - 6, "n")
        parts.append(f'<text class="{side}" x="{x:.1f}" y="{y + 14}">{say_usd(amount)}</text>')
    bottom = top + len(totals) * ROW
    parts.append(f'<path class="z" d="M{middle} {top}V{bottom}"/>')
    return parts


def say_usd(amount_microquote: int) -> str:
    """To the micro-quote."""
    whole, part = divmod(abs(amount_microquote), QUOTE_MICROQUOTE)
    return f"{'-' if amount_microquote < 0 else ''}{whole:,}.{part:06}"


def say_time(time_ms: int) -> str:
    """To the second."""
    return f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%H:%M:%S} UTC"


def write_options_chart(directory: Path, record: OptionsRecord) -> None:
    """Leave the chart in a report's folder; without any index there is nothing to draw."""
    if record.samples:
        data = render_options_chart(record).encode()
        write_atomically(directory / OPTIONS_CHART_NAME, data, mode=0o644)


def describe_options(seen: dict[str, Any]) -> list[str]:
    """The lines of the report, the chart among them."""
    lines = [
        f"- {seen['series_listed']} series listed, {seen['series_quoted']} of them quoted on both "
        f"sides; {seen['option_trades']} trades for {say_usd(seen['premium_microquote'])} USD",
        f"- {seen['expiries_settled']} expiries settled: {seen['positions_settled']} positions of "
        f"{seen['accounts_settled']} accounts, {say_usd(seen['paid_microquote'])} USD paid out, "
        f"{seen['pool_microquote']} micro-quote left by rounding",
        f"- spreads: {seen['spreads_accepted']} accepted under portfolio margin, "
        f"{seen['spreads_refused']} refused under cross margin",
        "",
        "| spread by | bought | sold against it | lots | code | sold |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each['account']} | {each['bought']} | {each['sold']} | {each['lots']} "
        f"| `{each['code'] or 'in no block'}` | {each['filled_lots']} |"
        for each in seen["spreads"]
    ]
    lines += [
        "",
        "| expiry | samples | settlement price, ticks | in USD | series | positions "
        "| paid out, USD |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {say_time(each['expiry_ms'])} | {each['samples']} | {each['price_ticks']} "
        f"| {say_usd(each['price_microquote'])} "
        f"| {each['series']} | {each['positions']} | {say_usd(each['paid_microquote'])} |"
        for each in seen["expiries"]
    ]
    return [*lines, "", f"![Index, marks, volatility and payouts]({OPTIONS_CHART_NAME})"]
