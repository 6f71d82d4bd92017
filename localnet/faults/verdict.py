"""From what was seen to a verdict: named invariants, expectations, one exit code. Pure.

docs/faults.md has a table of the invariants, with the verdict of each that is broken.

An invariant for which there was nothing to look at is not judged: it neither holds nor is broken,
and the run does not pass, because something that was asked for did not come about (expectation).
`progress_after_heal` and `faults_struck` are asked only where there are faults, `liars_ran` only
where there are liars, `conservation` only in a crash and on a day of options, `settlement` only on
the latter.

The gravest verdict counts (`localnet.verdicts`).
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from localnet.agreement import Contradiction
from localnet.faults.expectations import NEED_CRASH, NEED_OPTIONS, Expectation
from localnet.faults.market_record import MarketSeen
from localnet.faults.memory import MemoryGrowth
from localnet.faults.model import parse_duration_s
from localnet.faults.options_record import OptionsSeen
from localnet.faults.orders import OrdersSeen
from localnet.faults.progress import Heal
from localnet.faults.scenario import Scenario
from localnet.faults.strikes import Strike, find_idle
from localnet.verdicts import Verdict, find_gravest

ORDERS_MIN: Final = 5
"""With fewer acknowledged orders, that none is lost says nothing."""
HEALS_JUDGED_MIN_PERCENT: Final = 80
"""Of all heals: those that saw a height, or were watched for as long as one may take."""


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
    signatures_compared: int = 0
    """Of honest nodes in certificates and blocks, each with its own record."""
    not_audited: tuple[str, ...] = ()
    """Honest nodes that signed, but of which no signature could be compared."""
    halts: tuple[str, ...] = ()
    unexpected_exits: tuple[str, ...] = ()
    replay_problem: str | None = None
    not_replayed: str | None = None
    """Why the chain was not repeated to its end; None: it was."""
    not_converged: str | None = None
    """What was missing at the end; None: nothing."""
    orders: OrdersSeen
    convictions: tuple[tuple[str, str], ...] = ()
    """Member and offence."""
    not_asked: tuple[str, ...] = ()
    """Honest nodes that did not answer when asked who was convicted."""
    strikes: tuple[Strike, ...] = ()
    lies: tuple[tuple[str, int], ...] = ()
    """How often who lied, of the liars that lived to tell."""
    liar_exits: tuple[str, ...] = ()
    """Liars that ended by themselves."""
    view_changes: int = 0
    """Views that ended without a block."""
    memory: tuple[MemoryGrowth, ...] = ()
    market: MarketSeen | None = None
    """Of a crash; None also where the chain could not be repeated."""
    options: OptionsSeen | None = None
    """Of a day of options, likewise."""


class Finding(Struct, frozen=True):
    """One invariant or expectation."""

    name: str
    holds: bool | None
    """None: there was nothing to judge it by."""
    verdict: Verdict
    """If it does not hold."""
    detail: str = ""

    @property
    def counts_as(self) -> Verdict:
        """What it means for the whole run."""
        if self.holds is None:
            return Verdict.EXPECTATION
        return Verdict.PASS if self.holds else self.verdict


def judge(scenario: Scenario, seen: Seen) -> tuple[Verdict, list[Finding]]:
    """The verdict, and all that was asked for it."""
    findings = [*_invariants(scenario, seen)]
    findings += [_expectation(each, seen) for each in scenario.expectations]
    return find_gravest(each.counts_as for each in findings), findings


def _invariants(scenario: Scenario, seen: Seen) -> list[Finding]:
    forks = [each for each in seen.contradictions if each.kind == "block"]
    forked = {each.height for each in forks}
    roots = [
        each for each in seen.contradictions if each.kind != "block" and each.height not in forked
    ]
    findings = [
        _holds("agreement", Verdict.SAFETY, forks),
        _judge_signatures(seen),
        _holds("no_halt", Verdict.SAFETY, seen.halts),
        _judge_orders(seen),
        _judge_convictions(seen),
        _holds("state_roots", Verdict.SAFETY, roots),
        _judge_replay(seen),
        _holds("no_crash", Verdict.CRASH, seen.unexpected_exits),
        _holds("convergence", Verdict.LIVENESS, [seen.not_converged] if seen.not_converged else []),
    ]
    if scenario.faults:
        findings.append(_judge_heals(scenario, seen))
        idle = find_idle(seen.strikes, len(scenario.faults))
        findings.append(_holds("faults_struck", Verdict.EXPECTATION, idle))
    if scenario.crash is not None:
        findings.append(_judge_conservation(seen.market))
    if scenario.options is not None:
        findings += [_judge_conservation(seen.options), _judge_settlement(seen.options)]
    if seen.liars:
        findings.append(_judge_liars(scenario, seen))
    return findings


def _judge_replay(seen: Seen) -> Finding:
    if seen.not_replayed is not None:
        return Finding("replay", None, Verdict.NONDETERMINISM, seen.not_replayed)
    problems = [seen.replay_problem] if seen.replay_problem else []
    return _holds("replay", Verdict.NONDETERMINISM, problems)


def _judge_conservation(market: MarketSeen | OptionsSeen | None) -> Finding:
    """Nodes check themselves in every block; here the whole sum is taken after each."""
    name = "conservation"
    if market is None:
        return Finding(name, None, Verdict.SAFETY, "the chain was not repeated")
    if market.conservation_problem is not None:
        return _holds(name, Verdict.SAFETY, [market.conservation_problem])
    return Finding(name, True, Verdict.SAFETY, f"exact after each of {market.heights} blocks")


def _judge_settlement(options: OptionsSeen | None) -> Finding:
    """To the micro-quote what an independent calculation comes to."""
    name = "settlement"
    if options is None:
        return Finding(name, None, Verdict.SAFETY, "the chain was not repeated")
    if options.settlement_problems:
        return _holds(name, Verdict.SAFETY, options.settlement_problems)
    detail = (
        f"{options.positions_settled} positions of {options.accounts_settled} accounts in "
        f"{options.expiries_settled} expiries, and {options.balances_compared} balances, as "
        "computed anew from index and trades"
    )
    return Finding(name, True if options.positions_settled else None, Verdict.SAFETY, detail)


def _judge_signatures(seen: Seen) -> Finding:
    if seen.double_signs:
        return _holds("no_double_sign", Verdict.SAFETY, seen.double_signs)
    why = f"nothing to compare of {', '.join(seen.not_audited)}" if seen.not_audited else ""
    if not seen.signatures_compared:
        why = "no signature was compared"
    detail = why or f"{seen.signatures_compared} signatures compared"
    return Finding("no_double_sign", None if why else True, Verdict.SAFETY, detail)


def _judge_orders(seen: Seen) -> Finding:
    """An order without a result is lost only if the nodes came together; else it may come yet."""
    orders = seen.orders
    if seen.not_converged is not None:
        why = f"without convergence, {len(orders.unfinished)} without a result may get one yet"
    elif orders.unfinished:
        return _holds("acknowledged_orders", Verdict.SAFETY, orders.unfinished)
    elif orders.acknowledged < ORDERS_MIN:
        why = f"only {orders.acknowledged} were acknowledged, less than {ORDERS_MIN}"
    else:
        detail = f"{orders.acknowledged} acknowledged"
        return Finding("acknowledged_orders", True, Verdict.SAFETY, detail)
    return Finding("acknowledged_orders", None, Verdict.SAFETY, why)


def _judge_convictions(seen: Seen) -> Finding:
    false = [f"{who} ({what})" for who, what in seen.convictions if who not in seen.liars]
    if false or not seen.not_asked:
        return _holds("no_false_conviction", Verdict.SAFETY, false)
    why = f"no answer from {', '.join(seen.not_asked)}"
    return Finding("no_false_conviction", None, Verdict.SAFETY, why)


def _judge_heals(scenario: Scenario, seen: Seen) -> Finding:
    """A heal that the next fault cut short says nothing, but only so many may be cut short."""
    within_s, name = scenario.heal_within_s, "progress_after_heal"
    judged, late = 0, []
    for heal in seen.heals:
        took_s = heal.watched_s if heal.progress_after_s is None else heal.progress_after_s
        if took_s > within_s:
            late.append(f"no height within {within_s:g} s after {heal.height} at {heal.at_s:.1f} s")
        judged += took_s > within_s or heal.progress_after_s is not None
    if late:
        return _holds(name, Verdict.LIVENESS, late)
    detail = f"{judged} of {len(seen.heals)} heals judged"
    is_enough = judged > 0 and 100 * judged >= HEALS_JUDGED_MIN_PERCENT * len(seen.heals)
    return Finding(name, True if is_enough else None, Verdict.LIVENESS, detail)


def _judge_liars(scenario: Scenario, seen: Seen) -> Finding:
    idle = [f"{who} told no lie" for who, times in seen.lies if not times]
    lost = sorted({liar.node for liar in scenario.liars} - {who for who, _ in seen.lies})
    mute = [f"{who} did not live to say how often it lied" for who in lost]
    finding = _holds("liars_ran", Verdict.EXPECTATION, [*seen.liar_exits, *idle, *mute])
    told = ", ".join(f"{who} lied {times} times" for who, times in seen.lies)
    return msgspec.structs.replace(finding, detail=told) if finding.holds else finding


def _holds(name: str, verdict: Verdict, problems: Any) -> Finding:
    return Finding(name, not problems, verdict, "; ".join(str(each) for each in problems)[:2_000])


def _expectation(expectation: Expectation, seen: Seen) -> Finding:
    """Exactly one key is given (`localnet.faults.scenario`)."""
    ((key, wanted),) = msgspec.to_builtins(expectation).items()
    match key:
        case "commits_within":
            found: object = f"the longest pause was {seen.longest_pause_s:.1f} s"
            holds = seen.longest_pause_s <= parse_duration_s(wanted)
        case "pause_at_least":
            found = f"the longest pause was {seen.longest_pause_s:.1f} s"
            holds = seen.longest_pause_s >= parse_duration_s(wanted)
        case "view_changes_at_least":
            found, holds = seen.view_changes, seen.view_changes >= wanted
        case "reconnects_at_least":
            reconnects = sum(each.reconnects for each in seen.strikes)
            found, holds = reconnects, reconnects >= wanted
        case "height_at_least":
            found, holds = seen.committed_height, seen.committed_height >= wanted
        case "fills_at_least":
            found, holds = seen.fills, seen.fills >= wanted
        case "evidence_against":
            found = sorted({who for who, _ in seen.convictions})
            holds = wanted in found
        case _ if key in NEED_CRASH or key in NEED_OPTIONS:
            market = seen.market if key in NEED_CRASH else seen.options
            if market is None:
                return Finding(f"{key} = {wanted}", None, Verdict.EXPECTATION, "not repeated")
            number = getattr(market, key.removesuffix("_at_least"))
            found, holds = number, number >= wanted
        case _:
            assert key == "rss_growth_below", "all keys are judged"
            worst = max((each.percent for each in seen.memory), default=None)
            found = "no node ran unbroken" if worst is None else f"{worst:g} %"
            holds = worst is not None and worst < wanted
    return Finding(f"{key} = {wanted}", holds, Verdict.EXPECTATION, f"found: {found}")
