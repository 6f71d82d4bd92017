"""A run as one page: a lane for each host, a column for each view.

The page stands alone, without scripts, so that it can be mailed and kept. A block has the same
colour everywhere: two colours in one column are two blocks of one view.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from html import escape
from typing import Final

from localnet.sim.faults import FOREVER_MS, Fault, kind_of
from localnet.sim.recorder import Moment, Recorder
from localnet.sim.scenario import Outcome
from localnet.sim.schedule import Schedule, encode_schedule

VIEWS_SHOWN_MAX: Final = 250
"""The newest, where the failure is."""

HUES: Final = 360

_STYLE: Final = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 24px; color: #1c2430; background: #fff; }
h1 { font-size: 20px; margin: 0 0 4px; } p { margin: 4px 0; } code, pre { font: 12px monospace; }
.verdict { padding: 8px 12px; border-left: 4px solid #2b8a3e; background: #ebfbee; margin: 12px 0; }
.verdict.bad { border-color: #c92a2a; background: #fff5f5; }
.legend span.chip { margin-right: 4px; } .legend span { margin-right: 14px; white-space: nowrap; }
.scroll { overflow-x: auto; border: 1px solid #d0d7de; margin: 12px 0; }
table { border-collapse: separate; border-spacing: 0; }
th, td { border-right: 1px solid #e6e9ed; border-bottom: 1px solid #e6e9ed; padding: 3px 4px;
  min-width: 62px; vertical-align: top; text-align: left; font-weight: normal; }
th.lane { position: sticky; left: 0; background: #f6f8fa; min-width: 96px; z-index: 1;
  font-weight: 600; border-right: 2px solid #d0d7de; }
thead th { background: #f6f8fa; font-size: 12px; } thead b { font-size: 13px; }
th.end { background: #ffe3e3; } td.end { border-right: 2px solid #c92a2a; }
td.down { background: repeating-linear-gradient(45deg, #f1f3f5 0 6px, #dee2e6 6px 8px); }
.small { color: #68737f; font-size: 11px; font-weight: normal; display: block; }
.chip { display: inline-block; border-radius: 3px; padding: 0 4px; margin: 1px 1px 1px 0;
  font: 11px/17px monospace; border: 1px solid #adb5bd; background: #fff; }
.proposal { font-weight: bold; border-width: 2px; } .commit { border-radius: 9px; }
.timeout { background: #ffe8cc; border-color: #e8590c; }
.tc { background: #e8590c; color: #fff; border-color: #e8590c; } .qc { color: #868e96; }
.crash, .halt { background: #c92a2a; color: #fff; border-color: #c92a2a; }
.start { background: #2b8a3e; color: #fff; border-color: #2b8a3e; }
.refused { background: #f3d9fa; border-color: #9c36b5; }
.fault { background: #d0ebff; border: 1px solid #1c7ed6; border-radius: 3px; padding: 0 5px;
  font: 11px/16px monospace; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
td.faults { padding: 1px 0; border-right: 0; }
"""

_LEGEND: Final = (
    '<span class="chip proposal">P</span>proposes a block',
    '<span class="chip">V</span>votes',
    '<span class="chip commit">h7</span>commits height 7',
    '<span class="chip timeout">T</span>gives the view up',
    '<span class="chip qc">qc</span>enters by votes',
    '<span class="chip tc">tc</span>enters by timeouts',
    '<span class="chip crash">✝</span>is killed',
    '<span class="chip start">▶</span>starts',
    '<span class="chip refused">!</span>refuses a message',
)


@dataclass(slots=True)
class _Cell:
    chips: dict[tuple[str, bytes, str], str] = field(default_factory=dict)
    """Of what is alike the first is shown."""


def render_timeline(schedule: Schedule, outcome: Outcome, recorder: Recorder) -> str:
    """The page as HTML."""
    return _Page(schedule, outcome, recorder).render()


class _Page:
    def __init__(self, schedule: Schedule, outcome: Outcome, recorder: Recorder) -> None:
        self._schedule = schedule
        self._outcome = outcome
        self._names = recorder.names
        self._moments = recorder.moments
        shown = [moment for moment in self._moments if moment.kind not in ("sent", "heard")]
        entered = [moment for moment in shown if moment.kind == "enter"]
        self._last = max((moment.view for moment in entered), default=1)
        self._first = max(1, self._last - VIEWS_SHOWN_MAX + 1)
        self._views = range(self._first, self._last + 1)
        self._entered_ms: dict[int, int] = {}
        for moment in entered:
            self._entered_ms.setdefault(moment.view, moment.at_ms)
        self._cells: defaultdict[tuple[int, int], _Cell] = defaultdict(_Cell)
        for moment in shown:
            self._add(moment)
        self._down = self._find_down(shown)

    # ---- what goes where -----------------------------------------------------------------------

    def _add(self, moment: Moment) -> None:
        view = max(moment.view, 1)
        if view < self._first or moment.kind == "advance":
            return
        label = {
            "proposal": "P",
            "vote": "V",
            "timeout": "T",
            "crash": "✝",
            "start": "▶",
            "halt": "HALT",
            "refused": "!",
        }.get(moment.kind, "")
        kind = moment.kind
        if kind == "enter":
            label = kind = moment.text[-2:].lower()
        elif kind == "commit":
            label = "h" + moment.text.removeprefix("commits height ").split(",")[0]
        elif kind == "refused":
            label = "!" + moment.text.removeprefix("refuses node").split(":")[0]
        key = (kind, moment.block_id, label)
        cell = self._cells[moment.host, view]
        if key in cell.chips:
            return
        colour = ""
        if moment.block_id:
            hue = int.from_bytes(moment.block_id[:4], "big") % HUES
            colour = f' style="background:hsl({hue} 75% 86%);border-color:hsl({hue} 55% 45%)"'
        title = escape(f"{moment.at_ms} ms: {self._names[moment.host]} {moment.text}", quote=True)
        cell.chips[key] = (
            f'<span class="chip {kind}"{colour} title="{title}">{escape(label)}</span>'
        )

    def _find_down(self, shown: list[Moment]) -> set[tuple[int, int]]:
        """(host, view) for the views that passed while a host was dead."""
        down: set[tuple[int, int]] = set()
        died: dict[int, int] = {}
        for moment in shown:
            if moment.kind == "crash":
                died[moment.host] = self._find_view(moment.at_ms)
            elif moment.kind == "start" and moment.host in died:
                first = died.pop(moment.host)
                down.update(
                    (moment.host, view) for view in range(first, self._find_view(moment.at_ms) + 1)
                )
        for host, first in died.items():
            down.update((host, view) for view in range(first, self._last + 1))
        return down

    def _find_view(self, at_ms: int) -> int:
        """The newest view that anybody was in."""
        views = [view for view, entered_ms in self._entered_ms.items() if entered_ms <= at_ms]
        return max(views, default=1)

    # ---- the page ------------------------------------------------------------------------------

    def render(self) -> str:
        schedule = self._schedule
        name = f" ({schedule.name})" if schedule.name else ""
        title = f"Seed {schedule.seed}{name}"
        return "\n".join(
            [
                '<!doctype html><html lang="en"><head><meta charset="utf-8">',
                f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
                f"<h1>{escape(title)}: {len(schedule.powers)} members</h1>",
                self._render_verdict(),
                self._render_summary(),
                '<p class="legend">' + "".join(f"<span>{each}</span>" for each in _LEGEND),
                "A block has one colour everywhere; hatched: the host is down; point at anything"
                " for the time and the details.</p>",
                '<div class="scroll"><table>',
                self._render_head(),
                "<tbody>",
                *(self._render_fault(fault) for fault in schedule.faults),
                *(self._render_lane(host) for host in sorted(self._names)),
                "</tbody></table></div>",
                "<details><summary>The schedule</summary><pre>",
                escape(encode_schedule(schedule).decode()),
                "</pre></details></body></html>",
            ]
        )

    def _render_verdict(self) -> str:
        violation = self._outcome.violation
        if violation is None:
            return '<div class="verdict">No violation.</div>'
        return (
            f'<div class="verdict bad"><b>{escape(violation.verdict)}: '
            f"{escape(violation.oracle)}</b> at {violation.at_ms} ms, in the phase"
            f" <i>{escape(violation.phase)}</i><br>{escape(violation.detail)}</div>"
        )

    def _render_summary(self) -> str:
        schedule, outcome = self._schedule, self._outcome
        parts = [
            f"{outcome.views} views, {outcome.committed_height} heights,"
            f" {outcome.virtual_ms:,} ms of virtual time, trace <code>{outcome.trace_hash}</code>"
        ]
        if set(schedule.powers) != {1}:
            parts.append(f"powers {', '.join(str(power) for power in schedule.powers)}")
        parts += [f"node{liar.member} lies: {escape(liar.behaviour)}" for liar in schedule.liars]
        if schedule.twins:
            parts.append("twins of " + ", ".join(f"node{index}" for index in schedule.twins))
        if self._first > 1:
            parts.append(f"views before {self._first} are left out")
        return f"<p>{'; '.join(parts)}.</p>"

    def _render_head(self) -> str:
        cells = []
        for view in self._views:
            entered_ms = self._entered_ms.get(view)
            when = "" if entered_ms is None else f"{entered_ms:,} ms"
            cells.append(
                f'<th{self._end_class(view)}><b>{view}</b><span class="small">{when}</span></th>'
            )
        return f'<thead><tr><th class="lane">view</th>{"".join(cells)}</tr></thead>'

    def _end_class(self, view: int) -> str:
        violation = self._outcome.violation
        if violation is None or view != self._find_view(violation.at_ms):
            return ""
        return ' class="end"'

    def _render_fault(self, fault: Fault) -> str:
        """A bar over the views that passed while it lasted."""
        end_ms = self._outcome.virtual_ms
        if fault.duration_ms != FOREVER_MS:
            end_ms = min(end_ms, fault.at_ms + fault.duration_ms)
        start = max(self._find_view(fault.at_ms), self._first)
        end = max(self._find_view(end_ms), start)
        names = fault.__struct_fields__
        details = " ".join(
            f"{name}={getattr(fault, name)}"
            for name in names
            if name not in ("at_ms", "duration_ms") and getattr(fault, name) not in ((), "")
        )
        until = "to the end" if fault.duration_ms == FOREVER_MS else f"for {fault.duration_ms} ms"
        text = escape(f"{kind_of(fault)} {details}")
        title = escape(f"at {fault.at_ms} ms, {until}: {kind_of(fault)} {details}", quote=True)
        before = f'<td class="faults" colspan="{start - self._first}"></td>'
        after = f'<td class="faults" colspan="{self._last - end}"></td>'
        return (
            f'<tr><th class="lane"><span class="small">{escape(kind_of(fault))}</span></th>'
            f"{before if start > self._first else ''}"
            f'<td class="faults" colspan="{end - start + 1}">'
            f'<div class="fault" title="{title}">{text}</div></td>'
            f"{after if end < self._last else ''}</tr>"
        )

    def _render_lane(self, host: int) -> str:
        cells = []
        for view in self._views:
            cell = self._cells.get((host, view))
            chips = "".join(cell.chips.values()) if cell is not None else ""
            classes = []
            if (host, view) in self._down:
                classes.append("down")
            if self._end_class(view):
                classes.append("end")
            attribute = f' class="{" ".join(classes)}"' if classes else ""
            cells.append(f"<td{attribute}>{chips}</td>")
        name = escape(self._names[host])
        lies = [liar.behaviour for liar in self._schedule.liars if liar.member == host]
        if lies:
            name += f'<span class="small">{escape(", ".join(lies))}</span>'
        return f'<tr><th class="lane">{name}</th>{"".join(cells)}</tr>'
