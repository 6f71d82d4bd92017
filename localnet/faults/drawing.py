"""Parts of a chart over block time, as SVG: panels of lines, and the axis below them."""

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple, TypeVar

from engine.limits import QUOTE_MICROQUOTE

_T = TypeVar("_T")

POINTS_MAX: Final = 600
"""Of one line; more blocks than that are thinned out evenly."""

WIDTH: Final = 900
LEFT: Final = 130
RIGHT: Final = 20
PLOT: Final = WIDTH - LEFT - RIGHT
"""The width of what is drawn over time."""
TOP: Final = 46
PANEL: Final = 130
GAP: Final = 34
ROW: Final = 22
COLOURS: Final = ("#1f5fa8", "#b3261e", "#2e7d32", "#8e5ea2", "#c77700", "#00838f", "#6d4c41")
"""Of the lines of one panel, in turn."""
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#333}.t{font-size:15px;font-weight:bold}"
    ".n{text-anchor:end}.m{text-anchor:middle}.h{font-weight:bold}"
    ".g{stroke:#ddd;stroke-width:1}.z{stroke:#999;stroke-width:1}"
    ".l{fill:none;stroke-width:1.6}.e{stroke:#b3261e;stroke-width:1.4}"
    ".w{fill:#eef2f8}.p{fill:#2e7d32}.q{fill:#b3261e}"
)


class Line(NamedTuple):
    """One line of a panel."""

    xs: Sequence[float]
    """Where, in pixels."""
    values: Sequence[int]
    name: str = ""
    """Shown where a panel has several."""
    colour: str = ""
    """The next one of those that there are, if not given."""
    is_dots: bool = False
    """Points that no line joins."""


def open_chart(title: str, height: int) -> list[str]:
    """The beginning of a picture."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}"><style>{_STYLE}</style>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="t" x="{LEFT}" y="20">{escape(title)}</text>',
    ]


def close_chart(parts: Sequence[str]) -> str:
    """The whole of it."""
    return "\n".join([*parts, "</svg>", ""])


def thin(samples: Sequence[_T]) -> list[_T]:
    """Some of them, the last one among them."""
    step = max(1, -(-len(samples) // POINTS_MAX))
    thinned = list(samples[::step])
    return thinned if thinned[-1] is samples[-1] else [*thinned, samples[-1]]


def draw_panel(
    title: str,
    lines: Sequence[Line],
    top: int,
    *,
    from_zero: bool = True,
    unit: int = QUOTE_MICROQUOTE,
) -> list[str]:
    """Lines over one scale of values, which are so many to the unit that is written beside it."""
    values = [value for line in lines for value in line.values]
    least = min(0, *values) if from_zero else min(values)
    step = choose_step(max(values) - least)
    low = least // step * step
    high = max(-(-max(values) // step) * step, low + step)

    def place(value: float) -> float:
        return top + PANEL * (high - value) / (high - low)

    parts = [f'<text class="h" x="{LEFT}" y="{top - 6}">{escape(title)}</text>']
    for value in range(low, high + 1, step):
        y = place(value)
        parts.append(f'<path class="g" d="M{LEFT} {y:.1f}H{LEFT + PLOT}"/>')
        label = f"{value / unit:,.10g}"
        parts.append(f'<text class="n" x="{LEFT - 8}" y="{y + 4:.1f}">{label}</text>')
    if low <= 0 <= high:
        parts.append(f'<path class="z" d="M{LEFT} {place(0):.1f}H{LEFT + PLOT}"/>')
    for number, line in enumerate(lines):
        colour = line.colour or COLOURS[number % len(COLOURS)]
        points = [(x, place(value)) for x, value in zip(line.xs, line.values, strict=True)]
        if line.is_dots:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in points
            ]
        else:
            text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline class="l" stroke="{colour}" points="{text}"/>')
        if line.name:
            x = LEFT + PLOT - 90 * (len(lines) - 1 - number)
            parts.append(
                f'<text class="n" style="fill:{colour}" x="{x}" y="{top - 6}">'
                f"{escape(line.name)}</text>"
            )
    return parts


def choose_step(span: int) -> int:
    """A round number of which at most five make the span."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if span <= 5 * factor * step:
                return factor * step
        step *= 10


def draw_axis(length_s: float, y: int) -> list[str]:
    """Seconds of block time."""
    step_s = next((each for each in (5, 10, 20, 30, 60, 120) if length_s / each <= 12), 300)
    parts = []
    for number in range(int(length_s // step_s) + 1):
        x = LEFT + PLOT * number * step_s / length_s
        parts.append(f'<text class="m" x="{x:.1f}" y="{y + 10}">{number * step_s}</text>')
    middle = LEFT + PLOT / 2
    parts.append(f'<text class="m" x="{middle}" y="{y + 28}">seconds of block time</text>')
    return parts
