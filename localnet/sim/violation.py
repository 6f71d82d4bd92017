"""A broken rule: which one, when, and what verdict belongs to it."""

import traceback
from pathlib import Path

from msgspec import Struct

from localnet.sim.oracles.watchers import Watcher
from localnet.verdicts import Verdict

_PRODUCT: tuple[str, ...] = ("node.", "consensus.", "mempool.", "engine.", "committee.", "crypto.")


class BrokenRuleError(AssertionError):
    """A rule is broken that no `Watcher` holds; subclasses say which and what that means."""

    oracle: str
    verdict: Verdict


class Violation(Struct, frozen=True):
    """Something that must never happen, and did."""

    oracle: str
    """The name of the rule that was broken."""
    detail: str
    at_ms: int
    phase: str
    """`attack`, `heal`, `rest`, `replay` or `repetition`."""
    verdict: Verdict


def make_violation(error: BaseException, at_ms: int, phase: str) -> Violation:
    """What an error in a run means."""
    oracle, verdict = find_rule(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    detail = (
        f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno} in {last.name})"
    )
    return Violation(oracle, detail, at_ms, phase, verdict)


def find_rule(error: BaseException) -> tuple[str, Verdict]:
    """Which rule an error speaks of, and how grave that is: the oracle that raised it says so,
    else it is the part that did. A node that breaks one of its own invariants stops: a crash."""
    if isinstance(error, BrokenRuleError):
        return error.oracle, error.verdict
    found = ("simulator", Verdict.CRASH)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        module = frame.f_globals.get("__name__", "")
        if isinstance(owner, Watcher):
            found = (type(owner).__name__, owner.verdict)
        elif module == "engine.invariants":
            found = ("conservation", Verdict.SAFETY)
        elif module.startswith(_PRODUCT):
            found = (f"invariant of {module}", Verdict.CRASH)
    return found
