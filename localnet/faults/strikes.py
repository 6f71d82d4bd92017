"""Did each fault strike, and did the liars lie? Read from the journal of a run. Pure.

A fault that nobody carried out, or that found nothing to hit, shows nothing: a run is not to pass
for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from localnet.faults.model import NEED_RUNNING

_ON_FILES: Final = {"disk-full": "refused", "torn-write": "torn"}
"""The event of the node that it hits."""
_ENDS: Final = frozenset({"expired", "removed", "healed"})


class Strike(Struct, frozen=True):
    """What one fault did."""

    id: int
    kind: str
    hits: int
    """Nodes, or of faults on links: messages, pieces of a stream, or connections reset."""
    problem: str | None = None
    """Why it does not count; None: it struck, and ended."""
    files: tuple[str, ...] = ()
    """That it refused to write or tore, with their nodes."""
    reconnects: int = 0
    """Connections made while it reset them."""


class Deeds(Struct, frozen=True):
    """What a journal tells."""

    strikes: tuple[Strike, ...] = ()
    lies: tuple[tuple[str, int], ...] = ()
    """Liars that said at their end how often they had lied."""


def read_deeds(path: Path) -> Deeds:
    """Read the journal of a run that is over; without a journal nothing happened."""
    if not path.exists():
        return Deeds()
    return compute_deeds([msgspec.json.decode(each) for each in path.read_bytes().splitlines()])


def compute_deeds(lines: Sequence[Mapping[str, Any]]) -> Deeds:
    """What became of each fault that was asked for, and of the liars."""
    lies: dict[str, int] = {}
    for line in lines:
        if line["event"] == "lied":
            lies[line["by"]] = lies.get(line["by"], 0) + line["times"]
    added = [line for line in lines if line["event"] == "added"]
    strikes = [
        _read_strike(
            each["id"],
            each["fault"],
            [line for line in lines if each["id"] in (line.get("id"), *line.get("ids", ()))],
        )
        for each in added
    ]
    return Deeds(tuple(strikes), tuple(sorted(lies.items())))


def _read_strike(
    number: int, fault: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]
) -> Strike:
    kind = fault["kind"]
    nodes = [] if fault.get("links") else fault["nodes"]
    began = [line for line in lines if line["event"] == "began"]
    ended = [line for line in lines if line["event"] == "ended"]
    files: tuple[str, ...] = ()
    if nodes:
        if kind in _ON_FILES:
            struck = [line for line in lines if line["event"] == _ON_FILES[kind]]
            files = tuple(sorted({f"{line['by']}/{line['file']}" for line in struck}))
            hit = {line["by"] for line in struck}
        else:
            key = "node" if kind in NEED_RUNNING else "by"
            hit = {line[key] for line in began}
        missed = [name for name in nodes if name not in hit]
        hits = len(hit)
        problem = f"did not strike {', '.join(missed)}" if missed else None
    else:
        hits = sum(line.get("hits", 0) for line in ended)
        problem = _problem_on_links(bool(began), hits)
    if problem is None and not any(line["event"] in _ENDS for line in lines):
        problem = "did not end"
    reconnects = sum(line.get("opened", 0) for line in ended)
    return Strike(number, kind, hits, problem, files, reconnects)


def _problem_on_links(has_begun: bool, hits: int) -> str | None:
    if not has_begun:
        return "did not begin"
    return None if hits else "hit nothing"


def find_idle(strikes: Iterable[Strike], asked: int) -> list[str]:
    """What of `asked` faults did not strike, in words."""
    strikes = tuple(strikes)
    idle = [f"fault {each.id}, {each.kind}, {each.problem}" for each in strikes if each.problem]
    if len(strikes) < asked:
        idle.append(f"{asked - len(strikes)} of {asked} faults were never asked for")
    return idle
