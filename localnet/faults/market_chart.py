"""The chart of a crash, as SVG, and its lines in the report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from engine.limits import QUOTE_MICROQUOTE
from localnet.crash import Crash
from localnet.faults.drawing import (
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
from localnet.faults.market_record import KINDS, MarketRecord
from node.home import write_atomically

CHART_NAME: Final = "market.svg"


def render_chart(record: MarketRecord, crash: Crash) -> str:
    """Index, equity of the leveraged accounts, insurance fund with what it would have to pay, and
    open interest over block time, and below when what happened. Needs a sample."""
    samples = thin(record.samples)
    start_ms, end_ms = samples[0].time_ms, max(samples[-1].time_ms, samples[0].time_ms + 1)

    def place(time_ms: int) -> float:
        return LEFT + PLOT * (time_ms - start_ms) / (end_ms - start_ms)

    xs = [place(each.time_ms) for each in samples]
    insurance = [
        Line(xs, [each.insurance_microquote for each in samples], "fund"),
        Line(xs, [each.lack_microquote for each in samples], "lacking"),
    ]
    panels = (
        (f"Index of {crash.market}, USD", [Line(xs, [each.index_microquote for each in samples])]),
        (
            "Equity of the leveraged accounts, USD",
            [Line(xs, [each.equity_microquote for each in samples])],
        ),
        ("Insurance fund, and what insolvent accounts lack, USD", insurance),
        (
            "Open interest at mark, USD",
            [Line(xs, [each.open_interest_microquote for each in samples])],
        ),
    )
    rows_top = TOP + len(panels) * (PANEL + GAP)
    parts = open_chart(
        f"{crash.market} falls by {crash.fall_percent} % in {crash.for_s:g} s",
        rows_top + len(KINDS) * ROW + 44,
    )
    for number, (title, lines) in enumerate(panels):
        parts += draw_panel(title, lines, TOP + number * (PANEL + GAP))
    parts += _draw_events(record.events, place, rows_top)
    parts += draw_axis((end_ms - start_ms) / 1_000, rows_top + len(KINDS) * ROW + 6)
    return close_chart(parts)


def _draw_events(
    events: Sequence[tuple[int, str]], place: Callable[[int], float], top: int
) -> list[str]:
    parts = []
    for row, kind in enumerate(KINDS):
        y = top + row * ROW
        times = [time_ms for time_ms, each in events if each == kind]
        label = f"{kind}: {len(times):,}"
        parts.append(f'<text class="n" x="{LEFT - 8}" y="{y + 13}">{label}</text>')
        parts.append(f'<path class="g" d="M{LEFT} {y + 18}H{LEFT + PLOT}"/>')
        strokes = "".join(f"M{place(time_ms):.1f} {y + 3}v15" for time_ms in dict.fromkeys(times))
        parts.append(f'<path class="e" d="{strokes or "M0 0"}"/>')
    return parts


def write_chart(directory: Path, record: MarketRecord, crash: Crash) -> None:
    """Leave the chart in a report's folder; without any index there is nothing to draw."""
    if record.samples:
        data = render_chart(record, crash).encode()
        write_atomically(directory / CHART_NAME, data, mode=0o644)


def describe_market(seen: dict[str, Any]) -> list[str]:
    """The lines of the report, the chart among them."""
    counts = ", ".join(
        (
            f"{seen['liquidations']} liquidations of {seen['accounts_liquidated']} accounts",
            f"{seen['closings']} closings in the book",
            f"{seen['auction_slices']} auction slices",
            f"{seen['insurance_payments']} insurance payments "
            f"({_say_usd(seen['insurance_paid_microquote'])} USD)",
            f"{seen['deleveragings']} deleveragings",
        )
    )
    return [
        f"- the index fell by {seen['index_fall']:g} % within a minute: {counts}",
        f"- insurance fund: {_say_usd(seen['insurance_start_microquote'])} USD at the start, "
        f"{_say_usd(seen['insurance_fees_microquote'])} received as fees, "
        f"{_say_usd(seen['insurance_paid_microquote'])} paid, "
        f"{_say_usd(seen['insurance_end_microquote'])} at the end",
        "",
        f"![Index, equity, insurance fund and open interest]({CHART_NAME})",
    ]


def _say_usd(amount_microquote: int) -> str:
    return f"{amount_microquote / QUOTE_MICROQUOTE:,.2f}"
