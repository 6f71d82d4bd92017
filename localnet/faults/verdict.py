"""From what was seen to a verdict: named invariants, expectations, one exit code. Pure.

| invariant | verdict if broken |
|---|---|
| `agreement`: honest nodes tell of the same block at each height | safety |
| `no_double_sign`: durable records and archives tell one story of each honest node | safety |
| `no_halt`: no honest node stopped itself because an invariant broke | safety |
| `acknowledged_orders`: each was executed, or refused with a reason (if all converged) | safety |
| `no_false_conviction`: nobody honest was convicted | safety |
| `state_roots`: the same blocks gave the same roots | safety |
| `replay`: the chain, repeated under another hash seed, gave the same roots | nondeterminism |
| `no_crash`: no process ended unless a fault ended it | crash |
| `progress_after_heal`: a new height within the bound after each end of all faults | liveness |
| `convergence`: at the end all honest nodes came to the same height and root | liveness |

The gravest verdict counts (`localnet.verdicts`).
"""

from typing import Any

import msgspec
from msgspec import Struct

from localnet.agreement import Contradiction
from localnet.faults.memory import MemoryGrowth
from localnet.faults.model import parse_duration_s
from localnet.faults.orders import OrdersSeen
from localnet.faults.scenario import Expectation, Scenario
from localnet.verdicts import Verdict, find_gravest


class Heal(Struct, frozen=True):
    """An end of all faults."""

    at_s: float
    height: int
    progress_after_s: float | None
    """When the next height came; None: not before the next fault, or never."""
    watched_s: float
    """Until progress, the next fault or the end."""


class Seen(Struct, frozen=True, kw_only=True):
    """What was seen in one run. Only honest nodes are judged, so only they are told of here."""

    liars: tuple[str, ...] = ()
    """Nodes that lied at any time."""
    committed_height: int
    fills: int
    longest_pause_s: float
    """Between two heights."""
    heals: tuple[Heal, ...]
    contradictions: tuple[Contradiction, ...] = ()
    double_signs: tuple[str, ...] = ()
    halts: tuple[str, ...] = ()
    unexpected_exits: tuple[str, ...] = ()
    replay_problem: str | None = None
    not_converged: str | None = None
    """What was missing at the end; None: nothing."""
    orders: OrdersSeen
    convictions: tuple[tuple[str, str], ...] = ()
    """Member and offence."""
    memory: tuple[MemoryGrowth, ...] = ()


class Finding(Struct, frozen=True):
    """One invariant or expectation."""

    name: str
    holds: bool
    verdict: Verdict
    """If it does not hold."""
    detail: str = ""


def judge(scenario: Scenario, seen: Seen) -> tuple[Verdict, list[Finding]]:
    """The verdict, and all that was asked for it."""
    findings = [*_invariants(scenario, seen)]
    findings += [_expectation(each, seen) for each in scenario.expectations]
    return find_gravest(each.verdict for each in findings if not each.holds), findings


def _invariants(scenario: Scenario, seen: Seen) -> list[Finding]:
    forks = [each for each in seen.contradictions if each.kind == "block"]
    forked = {each.height for each in forks}
    roots = [
        each for each in seen.contradictions if each.kind != "block" and each.height not in forked
    ]
    slow = [
        heal
        for heal in seen.heals
        if (heal.watched_s if heal.progress_after_s is None else heal.progress_after_s)
        > scenario.heal_within_s
    ]
    false = [f"{who} ({what})" for who, what in seen.convictions if who not in seen.liars]
    progress = [
        f"no height within {scenario.heal_within_s:g} s after {heal.height} at {heal.at_s:.1f} s"
        for heal in slow
    ]
    return [
        _holds("agreement", Verdict.SAFETY, forks),
        _holds("no_double_sign", Verdict.SAFETY, seen.double_signs),
        _holds("no_halt", Verdict.SAFETY, seen.halts),
        _judge_orders(seen),
        _holds("no_false_conviction", Verdict.SAFETY, false),
        _holds("state_roots", Verdict.SAFETY, roots),
        _holds(
            "replay", Verdict.NONDETERMINISM, [seen.replay_problem] if seen.replay_problem else []
        ),
        _holds("no_crash", Verdict.CRASH, seen.unexpected_exits),
        _holds("progress_after_heal", Verdict.LIVENESS, progress),
        _holds("convergence", Verdict.LIVENESS, [seen.not_converged] if seen.not_converged else []),
    ]


def _judge_orders(seen: Seen) -> Finding:
    """An order without a result is lost only if the nodes came together; else it may come yet."""
    if seen.not_converged is None:
        return _holds("acknowledged_orders", Verdict.SAFETY, seen.orders.unfinished)
    count = len(seen.orders.unfinished)
    detail = f"{count} without a result: not judged without convergence" if count else ""
    return Finding("acknowledged_orders", True, Verdict.SAFETY, detail)


def _holds(name: str, verdict: Verdict, problems: Any) -> Finding:
    return Finding(name, not problems, verdict, "; ".join(str(each) for each in problems)[:2_000])


def _expectation(expectation: Expectation, seen: Seen) -> Finding:
    """Exactly one key is given (`localnet.faults.scenario`)."""
    ((key, wanted),) = msgspec.to_builtins(expectation).items()
    match key:
        case "commits_within":
            found: object = f"the longest pause was {seen.longest_pause_s:.1f} s"
            holds = seen.longest_pause_s <= parse_duration_s(wanted)
        case "height_at_least":
            found, holds = seen.committed_height, seen.committed_height >= wanted
        case "fills_at_least":
            found, holds = seen.fills, seen.fills >= wanted
        case "evidence_against":
            found = sorted({who for who, _ in seen.convictions})
            holds = wanted in found
        case _:
            assert key == "rss_growth_below", "all keys are judged"
            worst = max((each.percent for each in seen.memory), default=None)
            found = "no node ran unbroken" if worst is None else f"{worst:g} %"
            holds = worst is not None and worst < wanted
    return Finding(f"{key} = {wanted}", holds, Verdict.EXPECTATION, f"found: {found}")
