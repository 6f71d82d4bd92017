"""Where the time of a run goes, by part of the system.

A profiler counts every function by itself. What the library and the interpreter's own functions
take belongs to whoever called them, so it is handed up to the callers in proportion.
"""

import cProfile
import pstats
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import localnet

ROOT: Final = str(Path(localnet.__file__).parent.parent)

_PLACES: Final = (
    ("consensus/lane", "lanes"),
    ("consensus/", "consensus"),
    ("engine/", "engine"),
    ("mempool/", "mempool"),
    ("committee/", "consensus"),
    ("crypto/", "crypto"),
    ("node/", "node"),
    ("localnet/sim/oracles/", "oracles"),
    ("localnet/sim/coverage", "oracles"),
    ("localnet/byzantine/", "lies"),
    ("localnet/", "simulator"),
)
"""Beginnings of paths and the part that they belong to; the first that fits counts."""

_HANDOVERS_MAX: Final = 40
"""Calls among library functions that are followed up; recursion would go on for ever."""

_Function = tuple[str, int, str]


def measure_parts(action: Callable[[], Any]) -> Counter[str]:
    """Seconds that each part takes while `action` runs. A profiler slows small functions more
    than large ones: good for shares, not for speeds."""
    profiler = cProfile.Profile()
    profiler.runcall(action)
    stats: dict[_Function, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]  # typeshed omits it
    return _sum_parts(stats)


def _sum_parts(stats: dict[_Function, Any]) -> Counter[str]:
    own = {function: entry[2] for function, entry in stats.items()}
    parts: Counter[str] = Counter()
    for _ in range(_HANDOVERS_MAX):
        passed_on: defaultdict[_Function, float] = defaultdict(float)
        for function, seconds in own.items():
            part = find_part(function[0])
            callers = stats[function][4] if function in stats else {}
            total = sum(calls for _, calls, _, _ in callers.values())
            if part is not None or not total:
                parts[part or "simulator"] += seconds
                continue
            for caller, (_, calls, _, _) in callers.items():
                passed_on[caller] += seconds * calls / total
        own = dict(passed_on)
        if not own:
            break
    parts["simulator"] += sum(own.values())
    return parts


def find_part(path: str) -> str | None:
    """Which part a source file belongs to; None for what is not the project's."""
    if not path.startswith(ROOT):
        return None
    place = path[len(ROOT) + 1 :]
    return next((part for start, part in _PLACES if place.startswith(start)), None)
