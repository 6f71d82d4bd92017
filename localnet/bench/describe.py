"""Results of benchmarks for people: the number, the target, where the CPU time went."""

from collections.abc import Sequence
from typing import Final

from localnet.bench.ceremonies import CeremoniesResult
from localnet.bench.cluster import CpuUse
from localnet.bench.engine import EngineResult
from localnet.bench.fairness import FairnessResult, Figure
from localnet.bench.latency import LatencyResult
from localnet.bench.ordering import OrderingResult
from localnet.bench.orders import OrdersResult
from localnet.bench.sealing import SealingResult
from localnet.machine import Machine
from localnet.percentiles import Percentiles
from node.cli.output import table

CORE_SHARE_MIN: Final = 0.9
"""Of a core that a process computes on all the time; with less its rates say little."""

Row = tuple[str, str, float | None]
"""What, how much, the target if there is one."""


def describe_machine_line(machine: Machine) -> str:
    """The machine and the moment in one line."""
    return (
        f"{machine.date}  {machine.cores} cores  {machine.processor}  {machine.python}  "
        f"{machine.system}  load {machine.load[0]:g}"
    )


def describe_result(name: str, result: object) -> list[object]:
    """A result for people: the number, the target, where the time went."""
    match result:
        case OrderingResult():
            rows: list[Row] = [
                ("transactions per second", f"{result.tx_per_s:,.0f}", result.target_tx_per_s),
                ("megabytes per second", f"{result.mb_per_s:,.1f}", None),
                ("blocks per second", f"{result.blocks_per_s:,.1f}", None),
            ]
            title = (
                f"{name}: {result.transaction_size_bytes}-byte transactions committed and held "
                f"by all of {result.nodes} nodes"
            )
            return [*_table(title, rows, result.met), *_cpu_table(result.cpu)]
        case OrdersResult():
            rows = [
                (
                    "instructions per second",
                    f"{result.instructions_per_s:,.0f}",
                    result.target_per_s,
                ),
                ("signed bundles per second", f"{result.envelopes_per_s:,.0f}", None),
                ("fills per second", f"{result.fills_per_s:,.0f}", None),
                ("blocks per second", f"{result.blocks_per_s:,.1f}", None),
            ]
            title = (
                f"{name}: bundles of {result.bundle_instructions} instructions, executed and "
                f"certified by {result.nodes} nodes"
            )
            return [*_table(title, rows, result.met), *_cpu_table(result.cpu)]
        case LatencyResult():
            rows = [
                _latency_row("commit", result.commit_latency_ms, result.target_commit_p50_ms),
                _latency_row("certified result", result.receipt_latency_ms, None),
                ("blocks per second", f"{result.blocks_per_s:,.1f}", None),
            ]
            title = f"{name}: {result.orders} single orders on {result.nodes} nodes"
            return [*_table(title, rows, result.met), *_cpu_table(result.cpu)]
        case EngineResult():
            return _describe_engine(name, result)
        case FairnessResult():
            return _describe_fairness(name, result)
        case SealingResult():
            return _describe_sealing(name, result)
        case CeremoniesResult():
            return _describe_ceremonies(name, result)
    raise AssertionError(f"no description of {type(result).__name__}")


def _describe_engine(name: str, result: EngineResult) -> list[object]:
    rows = [
        *((goal.name, f"{goal.measured:,.{goal.decimals}f}", goal.target) for goal in result.goals),
        _latency_row("block, ms", result.without_root.block_ms, None),
        _latency_row("block with root, ms", result.with_root.block_ms, None),
        ("bytes per account", f"{result.bytes_per_account:,}", None),
        ("bytes per resting order", f"{result.bytes_per_resting_order:,}", None),
    ]
    config = result.config
    title = (
        f"{name}: {config.markets} markets, {config.accounts:,} accounts with "
        f"{config.positions_per_account} positions, bundles of "
        f"{config.instructions_per_bundle}, {result.build} build"
    )
    return [*_table(title, rows, result.met), *_describe_share(result.core_share)]


def _describe_share(core_share: float) -> list[object]:
    """A warning if other programs took the core from a measurement in one process."""
    if core_share >= CORE_SHARE_MIN:
        return []
    return [
        f"this process had {100 * core_share:.0f} % of a core, other programs the rest: "
        "the rates are too low, measure again on an idle machine"
    ]


def _describe_fairness(name: str, result: FairnessResult) -> list[object]:
    title = (
        f"{name}: {result.trials:,} trials of seed {result.seed}, in quote for one trial, with "
        f"95 % intervals; all stale quotes of one are worth {_figure(result.prize)}"
    )
    proposing = [
        (
            row.matching,
            row.strategy,
            _figure(row.profit),
            _figure(row.gain),
            _figure(row.rivals_gain),
            _figure(row.makers_gain),
        )
        for row in result.proposer
    ]
    splitting = [
        (
            row.matching,
            row.accounts,
            "all of it" if row.is_inflated else "its part",
            f"{row.filled_lots:.2f}",
            _figure(row.profit),
            _figure(row.gain),
        )
        for row in result.splitting
    ]
    columns = ["matching", "the proposer", "profit>", "gain>", "rivals' gain>", "makers' gain>"]
    return [
        table(columns, proposing, title=title),
        "",
        table(
            ["matching", "accounts>", "each asks for", "lots>", "profit>", "gain>"],
            splitting,
            title=f"a trader who wants {result.wanted_lots} lots and splits over accounts",
        ),
    ]


def _describe_sealing(name: str, result: SealingResult) -> list[object]:
    rows = [
        (
            f"{steps.threshold} of {steps.tickets}",
            *(
                f"{value:,.0f}"
                for value in (
                    steps.seal_us,
                    steps.check_us,
                    steps.check_with_false_us,
                    steps.share_us,
                    steps.open_us,
                    steps.open_with_bad_us,
                    steps.verify_us,
                    steps.decrypt_us,
                )
            ),
        )
        for steps in result.steps
    ]
    columns = [
        "tickets",
        "seal>",
        "check>",
        "one false>",
        "share>",
        "open>",
        "one bad>",
        "verify>",
        "decrypt>",
    ]
    title = (
        f"{name}: microseconds of one core a body, blocks of {result.bodies} bodies of "
        f"{result.body_bytes:,} bytes"
    )
    verdict = "target met" if result.met else "target NOT met"
    return [
        table(columns, rows, title=title),
        f"256 bodies open in {result.open_ms:.0f} ms, target {result.target_open_ms:.0f}: "
        f"{verdict}",
    ]


def _describe_ceremonies(name: str, result: CeremoniesResult) -> list[object]:
    rows = [
        (
            row.members,
            f"{row.threshold} of {row.tickets}",
            row.kind,
            row.dealings,
            f"{row.deal_ms:,.0f}",
            f"{row.check_ms:,.0f}",
            f"{row.receive_ms:,.0f}",
            f"{row.acknowledge_ms:,.0f}",
            f"{row.node_ms:,.0f}",
            f"{row.chain_bytes / 1000:,.0f}",
            ", ".join(row.convicted) or ("same key" if row.is_same_key else ""),
        )
        for row in result.rows
    ]
    columns = [
        "members>",
        "tickets",
        "key",
        "count>",
        "deal>",
        "check>",
        "receive>",
        "ack>",
        "node ms>",
        "chain kB>",
        "came to",
    ]
    title = f"{name}: milliseconds of one core a node; power of member i is 1/i"
    verdict = "as it should be" if result.met else "NOT as it should be"
    return [table(columns, rows, title=title), verdict]


def _figure(figure: Figure) -> str:
    return f"{round(figure.mean, 2) + 0.0:.2f} ±{figure.half_width_95:.2f}"


def _latency_row(name: str, percentiles: Percentiles, target: float | None) -> Row:
    text = f"p50 {percentiles.p50:.1f}  p99 {percentiles.p99:.1f}  max {percentiles.max:.1f}"
    return name, text, target


def _table(title: str, rows: Sequence[Row], is_met: bool) -> list[object]:
    cells = [
        (name, value, "" if target is None else f"target {target:,.0f}")
        for name, value, target in rows
    ]
    verdict = "targets met" if is_met else "targets NOT met"
    return [table(["what", "measured>", "target>"], cells, title=title), verdict]


def _cpu_table(uses: Sequence[CpuUse]) -> list[object]:
    if not uses:
        return []
    rows = [(use.name, use.processes, f"{use.cpu_s:.1f}", f"{use.share:.2f}") for use in uses]
    return [table(["process", "count>", "CPU s>", "cores>"], rows, title="where the time went")]
