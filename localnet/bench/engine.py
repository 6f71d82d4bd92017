"""`rota bench engine`: the engine alone, in this process, without network or signatures.

The workload is that of `localnet.bench.workload`: 20 markets, 10,000 accounts with 4 positions each
on cross margin; of a hundred instructions 60 add liquidity, 35 cancel and 5 take. Blocks are made
before the clock starts; what is timed is `apply_block`, decoding of bundles included, and what the
engine's process does about garbage after it. Two runs over the same blocks: without roots, and with
the state and receipts root of every block.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from engine.apply import run_block
from engine.block import BlockInput
from engine.invariants import validate_all
from engine.state import EngineState, create_state
from localnet.bench.workload import Workload, WorkloadConfig
from localnet.percentiles import Percentiles, compute_percentiles
from node.workers.engine_main import YOUNG_GENERATION

BLOCK_INSTRUCTIONS: Final = 1_000
"""Instructions of one block, hence between two roots."""

WARM_UP_BLOCKS: Final = 10
"""Blocks before the measurement: books fill, caches warm."""

TARGET_PER_S: Final = 60_000
TARGET_WITH_ROOT_PER_S: Final = 40_000


class EngineRun(Struct, frozen=True):
    """One pass over the blocks."""

    instructions: int
    elapsed_s: float
    instructions_per_s: float
    block_ms: Percentiles
    fills: int
    refused: int


class EngineResult(Struct, frozen=True):
    """What `rota bench engine` prints."""

    config: WorkloadConfig
    block_instructions: int
    instructions_per_s: float
    with_root_per_s: float
    without_root: EngineRun
    with_root: EngineRun
    target_per_s: int
    target_with_root_per_s: int
    met: bool


def measure_engine(seconds: float, config: WorkloadConfig) -> EngineResult:
    """Run both passes, each about `seconds` long."""
    without_root = _run(seconds, config, with_roots=False)
    with_root = _run(seconds, config, with_roots=True)
    return EngineResult(
        config=config,
        block_instructions=BLOCK_INSTRUCTIONS,
        instructions_per_s=without_root.instructions_per_s,
        with_root_per_s=with_root.instructions_per_s,
        without_root=without_root,
        with_root=with_root,
        target_per_s=TARGET_PER_S,
        target_with_root_per_s=TARGET_WITH_ROOT_PER_S,
        met=without_root.instructions_per_s >= TARGET_PER_S
        and with_root.instructions_per_s >= TARGET_WITH_ROOT_PER_S,
    )


def _run(seconds: float, config: WorkloadConfig, *, with_roots: bool) -> EngineRun:
    workload = Workload(config)
    state = create_state(workload.genesis())
    for block in workload.setup_blocks():
        run_block(state, block, with_roots)
    block_ms: list[float] = []
    instructions = fills = refused = 0
    elapsed_s = 0.0
    with _collecting_by_hand():
        for _ in range(WARM_UP_BLOCKS):
            _time_block(state, workload.block(BLOCK_INSTRUCTIONS), with_roots)
        while elapsed_s < seconds:
            stats, taken_s = _time_block(state, workload.block(BLOCK_INSTRUCTIONS), with_roots)
            elapsed_s += taken_s
            block_ms.append(round(taken_s * 1_000, 3))
            instructions += stats[0]
            fills += stats[1]
            refused += stats[2]
    # Nothing was made or lost: every balance and position is summed up again.
    validate_all(state)
    return EngineRun(
        instructions=instructions,
        elapsed_s=round(elapsed_s, 3),
        instructions_per_s=round(instructions / elapsed_s, 1),
        block_ms=compute_percentiles(block_ms),
        fills=fills,
        refused=refused,
    )


def _time_block(
    state: EngineState, block: BlockInput, with_roots: bool
) -> tuple[tuple[int, int, int], float]:
    started = time.perf_counter()
    stats = run_block(state, block, with_roots).stats
    gc.collect(YOUNG_GENERATION)
    taken_s = time.perf_counter() - started
    return (stats.instructions, stats.fills, stats.refused), taken_s


@contextmanager
def _collecting_by_hand() -> Iterator[None]:
    """Garbage is collected as in the engine's process: what is young, after each block."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
