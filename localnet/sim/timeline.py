"""A run as one page: a lane for each host, a column for each view.

The page stands alone, so that it can be mailed and kept; its one line of script scrolls to the
failure. A block has the same colour everywhere: two colours in one column are two blocks of one
view.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import Final

from localnet.sim.faults import FOREVER_MS, TRAPS, Fault, RollbackFault, kind_of
from localnet.sim.recorder import (
    Moment,
    Recorder,
    describe_not_asked,
    describe_views,
    find_act,
)
from localnet.sim.scenario import Outcome
from localnet.sim.schedule import Schedule, encode_schedule
from localnet.sim.timeline_style import LEGEND, STYLE

VIEWS_SHOWN_MAX: Final = 250
"""The newest, where the failure is."""

HUE_STEP: Final = 137.5
"""Degrees between one new block and the next: any few in a row are far apart."""

FAILURE_ID: Final = "failure"

_SCROLL: Final = (
    f'<script>document.getElementById("{FAILURE_ID}")?.scrollIntoView('
    '{block:"nearest",inline:"center"})</script>'
)

_HIDDEN: Final = frozenset({"sent", "heard", "advance", "final", "receipt"})
"""Kinds of moments that stand in the trace only."""

_LABELS: Final = {"timeout": "T", "crash": "✝", "start": "▶", "halt": "HALT"}


@dataclass(slots=True)
class _Cell:
    chips: dict[tuple[str, bytes, str], str] = field(default_factory=dict)
    """Of what is alike the first is shown."""


def render_timeline(
    schedule: Schedule,
    outcome: Outcome,
    recorder: Recorder,
    *,
    is_minimal: bool = False,
    again: str = "",
) -> str:
    """The page as HTML. `is_minimal` says that the schedule was cut down to what fails, `again` is
    the command that repeats the run; without one the page's own copy of the schedule does."""
    return _Page(schedule, outcome, recorder, is_minimal, again).render()


class _Page:
    def __init__(
        self,
        schedule: Schedule,
        outcome: Outcome,
        recorder: Recorder,
        is_minimal: bool,
        again: str,
    ) -> None:
        self._schedule = schedule
        self._outcome = outcome
        self._is_minimal = is_minimal
        self._again = again or "rota sim replay schedule.json  # saved from the end of this page"
        self._names = recorder.names
        self._act = find_act(recorder.moments, outcome.violation)
        shown = [
            moment
            for moment in recorder.moments
            if moment.kind not in _HIDDEN or moment is self._act
        ]
        self._entered_ms: dict[int, int] = {}
        for moment in shown:
            if moment.kind == "enter":
                self._entered_ms.setdefault(moment.view, moment.at_ms)
        self._last = max(self._entered_ms, default=1)
        self._first = max(1, self._last - VIEWS_SHOWN_MAX + 1)
        self._views = range(self._first, self._last + 1)
        self._end_view = self._find_end_view()
        self._phases = self._find_phases()
        self._hues: dict[bytes, float] = {}
        self._letters: dict[bytes, str] = {}
        self._tell_blocks_apart(shown)
        self._cells: defaultdict[tuple[int, int], _Cell] = defaultdict(_Cell)
        for moment in shown:
            self._add(moment)
        self._down = self._find_down(shown)

    # ---- what goes where -----------------------------------------------------------------------

    def _find_end_view(self) -> int | None:
        """The column of the failure: that of the act, or the newest view at that time."""
        if self._outcome.violation is None:
            return None
        if self._act is None:
            return self._find_view(self._outcome.violation.at_ms)
        return min(max(self._act.view, self._first), self._last)

    def _find_phases(self) -> dict[int, str]:
        """By the first view that was entered in it: the phases after the attack, and when they
        began."""
        found: dict[int, str] = {}
        for phase, at_ms in self._outcome.phases.items():
            later = [view for view in self._views if self._entered_ms.get(view, -1) >= at_ms]
            if later:
                words = f"{phase} {at_ms:,} ms"
                found[later[0]] = f"{found[later[0]]}, {words}" if later[0] in found else words
        return found

    def _tell_blocks_apart(self, shown: list[Moment]) -> None:
        """Each block gets a hue far from those of its neighbours, and those of one view letters."""
        of_view: defaultdict[int, list[bytes]] = defaultdict(list)
        for moment in shown:
            if moment.block_id and moment.block_id not in self._hues:
                self._hues[moment.block_id] = len(self._hues) * HUE_STEP % 360
            if moment.block_id and moment.block_id not in of_view[moment.view]:
                of_view[moment.view].append(moment.block_id)
        for blocks in of_view.values():
            for place, block_id in enumerate(blocks):
                if len(blocks) > 1:
                    self._letters.setdefault(block_id, _letter(place))

    def _add(self, moment: Moment) -> None:
        view = min(max(moment.view, 1), self._last)
        if view < self._first:
            return
        kind, label = moment.kind, self._label(moment)
        if kind == "enter":
            kind = label
        is_act = moment is self._act
        key = (kind, moment.block_id, label)
        cell = self._cells[moment.host, view]
        if key in cell.chips and not is_act:
            return
        colour = ""
        if moment.block_id:
            hue = self._hues[moment.block_id]
            colour = f' style="background:hsl({hue} 75% 84%);border-color:hsl({hue} 60% 40%)"'
        title = escape(f"{moment.at_ms} ms: {self._names[moment.host]} {moment.text}", quote=True)
        failed = " failed" if is_act else ""
        chip = f'<span class="chip {kind}{failed}"{colour} title="{title}">{escape(label)}</span>'
        if is_act and self._outcome.violation is not None:
            chip += f'<span class="why">{escape(self._outcome.violation.detail)}</span>'
        cell.chips[key] = chip

    def _label(self, moment: Moment) -> str:
        letter = self._letters.get(moment.block_id, "")
        match moment.kind:
            case "proposal":
                return f"P{letter}←{moment.number}"
            case "vote":
                return f"V{letter}"
            case "commit" | "final":
                return f"h{moment.number}{letter}"
            case "enter":
                return moment.text[-2:].lower()
            case "refused":
                return f"!{moment.number}"
            case kind:
                return _LABELS.get(kind, kind)

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
        heading = f"{title}: {_count(len(schedule.powers), 'member')}"
        if self._is_minimal:
            heading += ", cut down to what the failure needs"
        return "\n".join(
            [
                '<!doctype html><html lang="en"><head><meta charset="utf-8">',
                f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
                f"<h1>{escape(heading)}</h1>",
                self._render_verdict(),
                self._render_summary(),
                f"<p>Again: <code>{escape(self._again)}</code></p>",
                '<div class="scroll"><table>',
                self._render_head(),
                "<tbody>",
                *self._render_letters(),
                *(self._render_fault(fault) for fault in schedule.faults),
                *(self._render_lane(host) for host in sorted(self._names)),
                "</tbody></table></div>",
                '<ul class="legend">',
                *(f'<li><span class="sign">{sign}</span>{text}</li>' for sign, text in LEGEND),
                "</ul><p>A block has one colour everywhere. Point at anything for the time and the"
                " details.</p>",
                "<details><summary>The schedule</summary><pre>",
                escape(encode_schedule(schedule).decode()),
                "</pre></details>" + ("" if self._end_view is None else _SCROLL) + "</body></html>",
            ]
        )

    def _render_verdict(self) -> str:
        violation = self._outcome.violation
        if violation is None:
            words = "No violation."
            if self._outcome.not_asked:
                words += f" Not asked: {escape(describe_not_asked(self._outcome))}."
            return f'<div class="verdict">{words}</div>'
        where = ""
        if self._act is not None:
            where = f" when {escape(self._names[self._act.host])} {escape(self._act.text)}"
        return (
            f'<div class="verdict bad"><b>{escape(violation.verdict)}: '
            f"{escape(violation.oracle)}</b> at {violation.at_ms:,} ms, in the phase"
            f" <i>{escape(violation.phase)}</i>{where}<br>{escape(violation.detail)}</div>"
        )

    def _render_summary(self) -> str:
        schedule, outcome, network = self._schedule, self._outcome, self._schedule.network
        parts = [
            f"views: {describe_views(outcome, schedule)}",
            f"{_count(outcome.committed_height, 'height')},"
            f" {outcome.virtual_ms:,} ms of virtual time, trace <code>{outcome.trace_hash}</code>",
            f"every link takes {network.delay_least_ms} to {network.delay_most_ms} ms, drops"
            f" {_percent(network.drop_permille)} and doubles"
            f" {_percent(network.duplicate_permille)} of all messages",
        ]
        if len(set(schedule.powers)) > 1:
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
            phase = self._phases.get(view)
            tag = "" if phase is None else f'<span class="tag">{phase}</span>'
            mark = f' id="{FAILURE_ID}"' if view == self._end_view else ""
            cells.append(
                f'<th{self._classes(view)}{mark}><b>{view}</b><span class="small">{when}</span>'
                f"{tag}</th>"
            )
        return f'<thead><tr><th class="lane">view</th>{"".join(cells)}</tr></thead>'

    def _classes(self, view: int, *others: str) -> str:
        classes = list(others)
        if view == self._end_view:
            classes.append("end")
        if view in self._phases:
            classes.append("phase")
        return f' class="{" ".join(classes)}"' if classes else ""

    # ---- bars ----------------------------------------------------------------------------------

    def _render_letters(self) -> Iterator[str]:
        """Who hears whom, in one row for each run of views for which it is the same."""
        links = sorted(self._schedule.twin_links, key=lambda each: each.view)
        for masks, group in groupby(links, key=lambda each: each.masks):
            views = [each.view for each in group]
            first, last = max(views[0], self._first), min(views[-1], self._last)
            if first <= last:
                name = f"views {views[0]} to {views[-1]}" if len(views) > 1 else f"view {views[0]}"
                text = describe_masks(masks, len(self._schedule.powers), self._schedule.twins)
                yield self._render_bar(f"{name}: who hears whom", first, last, text, "letter", text)

    def _render_fault(self, fault: Fault) -> str:
        """A bar over the views that passed while it acted."""
        start_ms, end_ms = fault.at_ms, self._outcome.virtual_ms
        if fault.duration_ms != FOREVER_MS:
            end_ms = min(end_ms, start_ms + fault.duration_ms)
        healed_ms = self._outcome.phases.get("heal", self._outcome.virtual_ms)
        if isinstance(fault, RollbackFault):
            start_ms = end_ms
        kind = kind_of(fault)
        names = (name for name in fault.__struct_fields__ if name not in ("at_ms", "duration_ms"))
        details = " ".join(
            f"{name}={_show(getattr(fault, name))}"
            for name in names
            if getattr(fault, name) not in ((), "")
        )
        has_struck = f"fault.{kind}" in self._outcome.coverage and start_ms < healed_ms
        until = (
            "until healing" if fault.duration_ms == FOREVER_MS else f"for {fault.duration_ms} ms"
        )
        title = f"at {fault.at_ms} ms, {until}: {kind} {details}"
        # The lane's head says the kind; the label is cut where the bar ends, as the fault does.
        text = details or kind
        if not has_struck:
            text, title = f"(never struck) {text}", f"never struck: {title}"
        end_ms = start_ms if isinstance(fault, TRAPS) else min(end_ms, healed_ms)
        start = max(self._find_view(start_ms), self._first)
        end = max(self._find_view(end_ms), start)
        return self._render_bar(kind, start, end, text, "fault" if has_struck else "never", title)

    def _render_bar(
        self, name: str, first: int, last: int, text: str, kind: str, title: str
    ) -> str:
        before, after = first - self._first, self._last - last
        return (
            f'<tr><th class="lane"><span class="small">{escape(name)}</span></th>'
            + (f'<td class="bars" colspan="{before}"></td>' if before else "")
            + f'<td class="bars" colspan="{last - first + 1}">'
            f'<div class="bar {kind}" title="{escape(title, quote=True)}">{escape(text)}</div>'
            "</td>" + (f'<td class="bars" colspan="{after}"></td>' if after else "") + "</tr>"
        )

    def _render_lane(self, host: int) -> str:
        cells = []
        for view in self._views:
            cell = self._cells.get((host, view))
            chips = "".join(cell.chips.values()) if cell is not None else ""
            classes = ["down"] if (host, view) in self._down else []
            if self._act is not None and host == self._act.host and view == self._end_view:
                classes.append("act")
            cells.append(f"<td{self._classes(view, *classes)}>{chips}</td>")
        name = escape(self._names[host])
        lies = [liar.behaviour for liar in self._schedule.liars if liar.member == host]
        if lies:
            name += f'<span class="small">{escape(", ".join(lies))}</span>'
        return f'<tr><th class="lane">{name}</th>{"".join(cells)}</tr>'


def describe_masks(masks: tuple[int, ...], members: int, twins: tuple[int, ...]) -> str:
    """Who hears whom, in words: groups with a bar between them, bridges after a plus; what is no
    such thing is told sender by sender."""
    hosts = range(len(masks))
    names = [str(host) if host < members else f"{twins[host - members]}′" for host in hosts]
    whole = (1 << len(masks)) - 1
    if all(mask == whole for mask in masks):
        return "everybody hears everybody"

    def join(chosen: int) -> str:
        return " ".join(names[host] for host in hosts if chosen >> host & 1)

    bridges = sum(1 << host for host in hosts if masks[host] == whole)
    groups = sorted({masks[host] & ~bridges for host in hosts if not bridges >> host & 1})
    is_split = sum(groups) == whole & ~bridges and all(
        masks[host] == next((each for each in groups if each >> host & 1), 0) | bridges
        for host in hosts
        if not bridges >> host & 1
    )
    if is_split:
        words = " | ".join(join(group) for group in sorted(groups, key=lambda each: each & -each))
        return f"{words} + {join(bridges)}" if bridges else words
    return "; ".join(
        f"{names[host]} → {join(masks[host] & ~(1 << host)) or 'nobody'}" for host in hosts
    )


def _show(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _letter(place: int) -> str:
    return chr(ord("a") + min(place, 25))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _percent(permille: int) -> str:
    return f"{permille / 10:g} %"
