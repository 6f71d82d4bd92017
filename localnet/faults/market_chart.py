"""The chart of a crash, as SVG, and its lines in the report."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

from localnet.crash import QUOTE_MICROQUOTE, Crash
from localnet.faults.market_record import KINDS, MarketRecord, MarketSample
from node.home import write_atomically

CHART_NAME: Final = "market.svg"
POINTS_MAX: Final = 600
"""Of one line; more blocks than that are thinned out evenly."""

_WIDTH: Final = 900
_LEFT: Final = 130
_RIGHT: Final = 20
_PLOT: Final = _WIDTH - _LEFT - _RIGHT
_TOP: Final = 46
_PANEL: Final = 130
_GAP: Final = 34
_ROW: Final = 22
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#333}.t{font-size:15px;font-weight:bold}"
    ".n{text-anchor:end}.m{text-anchor:middle}.h{font-weight:bold}"
    ".g{stroke:#ddd;stroke-width:1}.z{stroke:#999;stroke-width:1}"
    ".l{fill:none;stroke:#1f5fa8;stroke-width:1.6}.e{stroke:#b3261e;stroke-width:1.4}"
    ".f{fill:#f6dede}"
)


class _Series(NamedTuple):
    title: str
    values: Sequence[int]
    """Micro-quote."""


def render_chart(record: MarketRecord, crash: Crash) -> str:
    """Index, equity of the leveraged accounts, insurance fund and open interest over block time,
    and below when what happened. Needs a sample."""
    samples = _thin(record.samples)
    start_ms, end_ms = samples[0].time_ms, max(samples[-1].time_ms, samples[0].time_ms + 1)

    def place(time_ms: int) -> float:
        return _LEFT + _PLOT * (time_ms - start_ms) / (end_ms - start_ms)

    panels = (
        _Series(f"Index of {crash.market}, USD", [each.index_microquote for each in samples]),
        _Series(
            "Equity of the leveraged accounts, USD", [each.equity_microquote for each in samples]
        ),
        _Series("Insurance fund, USD", [each.insurance_microquote for each in samples]),
        _Series("Open interest at mark, USD", [each.open_interest_microquote for each in samples]),
    )
    rows_top = _TOP + len(panels) * (_PANEL + _GAP)
    height = rows_top + len(KINDS) * _ROW + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}"><style>{_STYLE}</style>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="t" x="{_LEFT}" y="20">{escape(crash.market)} falls by '
        f"{crash.fall_percent} % in {crash.for_s:g} s</text>",
    ]
    xs = [place(each.time_ms) for each in samples]
    for number, series in enumerate(panels):
        parts += _draw_panel(series, xs, _TOP + number * (_PANEL + _GAP))
    parts += _draw_events(record.events, place, rows_top)
    parts += _draw_axis((end_ms - start_ms) / 1_000, rows_top + len(KINDS) * _ROW + 6)
    return "\n".join([*parts, "</svg>", ""])


def _thin(samples: list[MarketSample]) -> list[MarketSample]:
    step = max(1, -(-len(samples) // POINTS_MAX))
    thinned = samples[::step]
    return thinned if thinned[-1] is samples[-1] else [*thinned, samples[-1]]


def _draw_panel(series: _Series, xs: Sequence[float], top: int) -> list[str]:
    step = _choose_step(max(series.values) - min(0, *series.values))
    low = min(0, *series.values) // step * step
    high = max(-(-max(series.values) // step) * step, low + step)

    def place(value: float) -> float:
        return top + _PANEL * (high - value) / (high - low)

    parts = [f'<text class="h" x="{_LEFT}" y="{top - 6}">{escape(series.title)}</text>']
    for value in range(low, high + 1, step):
        y = place(value)
        parts.append(f'<path class="g" d="M{_LEFT} {y:.1f}H{_LEFT + _PLOT}"/>')
        label = f"{value / QUOTE_MICROQUOTE:,.10g}"
        parts.append(f'<text class="n" x="{_LEFT - 8}" y="{y + 4:.1f}">{label}</text>')
    parts.append(f'<path class="z" d="M{_LEFT} {place(0):.1f}H{_LEFT + _PLOT}"/>')
    points = " ".join(
        f"{x:.1f},{place(value):.1f}" for x, value in zip(xs, series.values, strict=True)
    )
    parts.append(f'<polyline class="l" points="{points}"/>')
    return parts


def _choose_step(span: int) -> int:
    """A round number of which at most five make the span."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if span <= 5 * factor * step:
                return factor * step
        step *= 10


def _draw_events(events: Sequence[tuple[int, str]], place: Any, top: int) -> list[str]:
    parts = []
    for row, kind in enumerate(KINDS):
        y = top + row * _ROW
        times = [time_ms for time_ms, each in events if each == kind]
        parts.append(f'<text class="n" x="{_LEFT - 8}" y="{y + 13}">{kind}</text>')
        parts.append(f'<path class="g" d="M{_LEFT} {y + 18}H{_LEFT + _PLOT}"/>')
        strokes = "".join(f"M{place(time_ms):.1f} {y + 3}v15" for time_ms in dict.fromkeys(times))
        parts.append(f'<path class="e" d="{strokes or "M0 0"}"/>')
    return parts


def _draw_axis(length_s: float, y: int) -> list[str]:
    step_s = next((each for each in (5, 10, 20, 30, 60, 120) if length_s / each <= 12), 300)
    parts = []
    for number in range(int(length_s // step_s) + 1):
        x = _LEFT + _PLOT * number * step_s / length_s
        parts.append(f'<text class="m" x="{x:.1f}" y="{y + 10}">{number * step_s}</text>')
    middle = _LEFT + _PLOT / 2
    parts.append(f'<text class="m" x="{middle}" y="{y + 28}">seconds of block time</text>')
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
            f"({seen['insurance_paid_microquote'] / QUOTE_MICROQUOTE:,.2f} USD)",
            f"{seen['deleveragings']} deleveragings",
        )
    )
    return [
        f"- the index fell by {seen['index_fall']:g} % within a minute: {counts}",
        "",
        f"![Index, equity, insurance fund and open interest]({CHART_NAME})",
    ]
