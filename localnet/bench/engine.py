"""`rota bench engine`: the engine alone, in this process, without network or signatures.

The workload is that of `localnet.bench.workload`: 20 markets, 10,000 accounts with 4 positions each
on cross margin; of a hundred instructions 60 add liquidity, 35 cancel and 5 take. Blocks are made
before the clock starts; what is timed is `apply_block`, decoding of bundles included, and what the
engine's process does about garbage after it. Two runs over the same blocks: without roots, and with
the state and receipts root of every block. Then what the second one executed once more, out of its
log (`localnet.bench.replay`), the book alone (`localnet.bench.book`), and what accounts and orders
weigh (`localnet.bench.memory`).
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
from engine.trading import matching
from localnet.bench.book import MESSAGES_DEFAULT, BookRun, make_blocks, measure_book
from localnet.bench.memory import MemoryUse, measure_memory
from localnet.bench.portfolio import PortfolioRun, measure_portfolio
from localnet.bench.replay import Log, ReplayRun, measure_replay, open_block, store_block
from localnet.bench.workload import Workload, WorkloadConfig
from localnet.percentiles import Percentiles, compute_percentiles
from node.workers.engine_main import YOUNG_GENERATION

BLOCK_INSTRUCTIONS: Final = 1_000
"""Instructions of one block, hence between two roots."""

PASS_BLOCKS: Final = 300
"""Blocks after which a run goes on with a new state: three instructions of five add and two end
what was added, so books grow, and makers with all the open orders that they may have would be
refused, which costs little."""

WARM_UP_BLOCKS: Final = 10
"""Blocks before the measurement: books fill, caches warm."""

PURE: Final = "pure"
COMPILED: Final = "compiled"


class Targets(Struct, frozen=True):
    """What a build is meant to reach."""

    per_s: int
    with_root_per_s: int
    book_per_s: int
    replay_s_per_million: int
    arrays_ms: int = 100
    margin_us: int = 100


TARGETS: Final = {
    PURE: Targets(60_000, 40_000, 600_000, 30),
    COMPILED: Targets(200_000, 120_000, 1_000_000, 10),
}


class Goal(Struct, frozen=True):
    """One number that the build is meant to reach, and what it came to."""

    name: str
    measured: float
    target: int
    is_least: bool
    """A rate is to be at least the target; a time at most."""
    decimals: int = 0
    """For people."""

    @property
    def is_met(self) -> bool:
        """Is it reached?"""
        if self.is_least:
            return self.measured >= self.target
        return self.measured <= self.target


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
    build: str
    """`pure` if the interpreter runs the engine's sources, `compiled` if mypyc has made
    extensions of them."""
    core_share: float
    """CPU time of the process through its run time: 1 on an idle machine. With less the rates
    are lower than the machine's."""
    block_instructions: int
    instructions_per_s: float
    with_root_per_s: float
    replay_s_per_million: float
    """Seconds for a million instructions out of the log, roots included."""
    book_messages_per_s: float
    portfolio_arrays_ms: float
    """Milliseconds for the risk arrays of 200 instruments in all scenarios."""
    portfolio_margin_us: float
    """Microseconds for the margin of an account of 20 positions, out of the arrays."""
    bytes_per_account: int
    """With its positions and its leaf of the state tree."""
    bytes_per_resting_order: int
    without_root: EngineRun
    with_root: EngineRun
    replay: ReplayRun
    book: BookRun
    portfolio: PortfolioRun
    memory: MemoryUse
    goals: tuple[Goal, ...]
    met: bool


def find_build() -> str:
    """Which build of the engine this process runs."""
    return PURE if matching.__file__.endswith(".py") else COMPILED


def measure_engine(
    seconds: float, config: WorkloadConfig, book_messages: int = MESSAGES_DEFAULT
) -> EngineResult:
    """Run both passes, each about `seconds` long, the replay, the book and portfolio
    margin; weigh the state last."""
    started_s, cpu_s = time.perf_counter(), time.process_time()
    without_root = _run(seconds, config, None)
    logs: list[Log] = []
    with_root = _run(seconds, config, logs)
    with _collecting_by_hand():
        replay = measure_replay(Workload(config).genesis(), logs, _collect_young)
    del logs
    blocks = make_blocks(book_messages)
    with _collecting_by_hand():
        book = measure_book(blocks, _collect_young)
    portfolio = measure_portfolio()
    memory = measure_memory(config)
    core_share = (time.process_time() - cpu_s) / (time.perf_counter() - started_s)
    build = find_build()
    goals = _compare(TARGETS[build], without_root, with_root, replay, book, portfolio)
    return EngineResult(
        config=config,
        build=build,
        core_share=round(core_share, 3),
        block_instructions=BLOCK_INSTRUCTIONS,
        instructions_per_s=without_root.instructions_per_s,
        with_root_per_s=with_root.instructions_per_s,
        replay_s_per_million=replay.s_per_million,
        book_messages_per_s=book.messages_per_s,
        portfolio_arrays_ms=portfolio.arrays_ms,
        portfolio_margin_us=portfolio.margin_us,
        bytes_per_account=memory.bytes_per_account,
        bytes_per_resting_order=memory.bytes_per_resting_order,
        without_root=without_root,
        with_root=with_root,
        replay=replay,
        book=book,
        portfolio=portfolio,
        memory=memory,
        goals=goals,
        met=all(goal.is_met for goal in goals),
    )


def _compare(
    targets: Targets,
    without_root: EngineRun,
    with_root: EngineRun,
    replay: ReplayRun,
    book: BookRun,
    portfolio: PortfolioRun,
) -> tuple[Goal, ...]:
    """What was measured beside what is meant to be reached."""
    arrays = f"ms for risk arrays of {portfolio.instruments} instruments"
    margin = f"us for the margin of {portfolio.positions} positions"
    rates = (
        ("instructions per second", without_root.instructions_per_s, targets.per_s),
        (
            f"... with a root each {BLOCK_INSTRUCTIONS:,}",
            with_root.instructions_per_s,
            targets.with_root_per_s,
        ),
        ("book messages per second", book.messages_per_s, targets.book_per_s),
    )
    times = (
        ("seconds to replay a million", replay.s_per_million, targets.replay_s_per_million, 2),
        (arrays, portfolio.arrays_ms, targets.arrays_ms, 1),
        (margin, portfolio.margin_us, targets.margin_us, 1),
    )
    return (
        *(Goal(name, measured, target, is_least=True) for name, measured, target in rates),
        *(Goal(*each[:3], is_least=False, decimals=each[3]) for each in times),
    )


class _Tally:
    """What the passes of one run have come to."""

    def __init__(self) -> None:
        self.block_ms: list[float] = []
        self.instructions = self.fills = self.refused = 0
        self.elapsed_s = 0.0

    def add(self, stats: tuple[int, int, int], taken_s: float) -> None:
        self.elapsed_s += taken_s
        self.block_ms.append(round(taken_s * 1_000, 3))
        self.instructions += stats[0]
        self.fills += stats[1]
        self.refused += stats[2]


def _run(seconds: float, config: WorkloadConfig, logs: list[Log] | None) -> EngineRun:
    """Passes, each on a state of its own, until they come to so much time; with logs they compute
    roots, and write down what they execute and come to."""
    tally = _Tally()
    while tally.elapsed_s < seconds:
        log = None
        if logs is not None:
            log = Log()
            logs.append(log)
        _run_pass(seconds, config, log, tally)
    return EngineRun(
        instructions=tally.instructions,
        elapsed_s=round(tally.elapsed_s, 3),
        instructions_per_s=round(tally.instructions / tally.elapsed_s, 1),
        block_ms=compute_percentiles(tally.block_ms),
        fills=tally.fills,
        refused=tally.refused,
    )


def _run_pass(seconds: float, config: WorkloadConfig, log: Log | None, tally: _Tally) -> None:
    workload = Workload(config)
    state = create_state(workload.genesis())
    for block in workload.setup_blocks():
        run_block(state, _note(block, log), log is not None)
    with _collecting_by_hand():
        for _ in range(WARM_UP_BLOCKS):
            _time_block(state, _note(workload.block(BLOCK_INSTRUCTIONS), log), log)
        for _ in range(PASS_BLOCKS):
            block = _note(workload.block(BLOCK_INSTRUCTIONS), log)
            tally.add(*_time_block(state, block, log))
            if tally.elapsed_s >= seconds:
                break
    # Nothing was made or lost: every balance and position is summed up again.
    validate_all(state)


def _note(block: BlockInput, log: Log | None) -> BlockInput:
    """The block as the log gives it back; without a log as it is."""
    if log is None:
        return block
    log.blocks.append(store_block(block))
    return open_block(log.blocks[-1])


def _time_block(
    state: EngineState, block: BlockInput, log: Log | None
) -> tuple[tuple[int, int, int], float]:
    started = time.perf_counter()
    output = run_block(state, block, log is not None)
    if log is not None:
        log.state_root, log.receipts_root = output.state_root, output.receipts_root
    stats = output.stats
    del output
    _collect_young()
    taken_s = time.perf_counter() - started
    return (stats.instructions, stats.fills, stats.refused), taken_s


def _collect_young() -> None:
    gc.collect(YOUNG_GENERATION)


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
