"""The verdict on one run of a localnet, as one JSON document and one exit code."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from localnet.agreement import Contradiction
from localnet.tally import TapeProgress
from localnet.verdicts import Verdict, find_gravest
from node.exit_codes import ExitCode

STALL_MAX_S: Final = 10.0
"""A chain that has committed nothing for this long at the end of a run has stalled."""


class Observations(Struct, frozen=True):
    """What was seen between readiness and the end, what was then in flight included."""

    elapsed_s: float
    nodes: tuple[dict[str, Any], ...]
    """Every node as in `localnet status --json`."""
    committed_height: int
    """Of the node that has committed most."""
    blocks: int
    instructions: int
    fills: int
    envelopes_refused: int
    """Envelopes in committed blocks that the header ledger refused."""
    stalled_s: float
    """Since the last new height."""
    contradictions: tuple[Contradiction, ...]
    common_root: tuple[int, bytes] | None
    """The highest height whose certified root all answering nodes reported, if there is one."""
    unexpected_exits: tuple[str, ...]
    """Processes that ended by themselves, with their exit codes in words."""
    halted: bool
    """Did a node stop itself because an invariant broke?"""
    orders: int | None
    """None without traders; so below."""
    orders_rejected: int | None
    commit_latency_ms: dict[str, Any] | None
    receipt_latency_ms: dict[str, Any] | None
    tape: TapeProgress | None
    """None without a tape."""


def compute_report(seen: Observations) -> tuple[dict[str, Any], ExitCode]:
    """Return the document and the exit code that belongs to it."""
    agree = not seen.contradictions and seen.common_root is not None
    stalled = seen.blocks == 0 or seen.stalled_s > STALL_MAX_S
    broken = {
        Verdict.SAFETY: bool(seen.contradictions) or seen.halted,
        Verdict.CRASH: bool(seen.unexpected_exits),
        Verdict.LIVENESS: stalled or seen.common_root is None or seen.orders == 0,
    }
    verdict = find_gravest(each for each, is_broken in broken.items() if is_broken)
    elapsed_s = max(seen.elapsed_s, 0.001)
    document: dict[str, Any] = {
        "verdict": verdict,
        "elapsed_s": round(seen.elapsed_s, 3),
        "counted_from": "readiness",
        "nodes": list(seen.nodes),
        "committed_height": seen.committed_height,
        "blocks_per_s": round(seen.blocks / elapsed_s, 2),
        "state_roots_agree": agree,
        "state_roots_height": seen.common_root[0] if seen.common_root else None,
        "state_root": seen.common_root[1].hex() if seen.common_root else None,
        "contradictions": [str(each) for each in seen.contradictions],
        "unexpected_exits": list(seen.unexpected_exits),
        "instructions_executed": seen.instructions,
        "fills": seen.fills,
        "fills_per_s": round(seen.fills / elapsed_s, 2),
        "orders_executed": seen.orders,
        "orders_per_s": None if seen.orders is None else round(seen.orders / elapsed_s, 2),
        "orders_rejected": seen.orders_rejected,
        "envelopes_rejected": seen.envelopes_refused,
        "commit_latency_ms": seen.commit_latency_ms,
        "receipt_latency_ms": seen.receipt_latency_ms,
        "tape": None if seen.tape is None else msgspec.structs.asdict(seen.tape),
    }
    return document, verdict.exit_code
