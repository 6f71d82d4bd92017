"""What an account and a resting order cost in memory: the engine's whole state, weighed.

The interpreter counts every allocation (tracemalloc) while a state comes to be as in
`localnet.bench.workload`: accounts with their positions, leaves of the state tree included; then
resting orders on top, with all tables in which they stand.
"""

import gc
import tracemalloc
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from engine.apply import run_block
from engine.state import EngineState, create_state
from localnet.bench.workload import Workload, WorkloadConfig

ACCOUNTS_MAX: Final = 2_500
"""Accounts that are weighed: counting makes everything several times as slow, and four times as
many come to the same within a twentieth."""

RESTING_PER_ACCOUNT: Final = 4
"""Resting orders of the population that is weighed, on average."""

BLOCK_INSTRUCTIONS: Final = 2_000


class MemoryUse(Struct, frozen=True):
    """Bytes of one account with its positions, and of one resting order."""

    accounts: int
    resting_orders: int
    bytes_per_account: int
    bytes_per_resting_order: int


def measure_memory(config: WorkloadConfig) -> MemoryUse:
    """Weigh a state with accounts as in `config` against one without any."""
    assert not tracemalloc.is_tracing(), "what traces already would be switched off"
    tracemalloc.start()
    try:
        return _measure_traced(replace(config, accounts=min(config.accounts, ACCOUNTS_MAX)))
    finally:
        tracemalloc.stop()


def _measure_traced(config: WorkloadConfig) -> MemoryUse:
    start_bytes = _count_bytes()
    empty = _build_state(Workload(replace(config, accounts=0)))
    empty_bytes = _count_bytes() - start_bytes
    del empty
    start_bytes = _count_bytes()
    workload = Workload(config)
    state = _build_state(workload)
    accounts_bytes = _count_bytes()
    for _ in range(-(-config.accounts * RESTING_PER_ACCOUNT // BLOCK_INSTRUCTIONS)):
        run_block(state, workload.resting_block(BLOCK_INSTRUCTIONS), True)
    orders_bytes = _count_bytes()
    # The workload is no part of the state; what both hold, as the accounts' names, stays counted.
    del workload
    workload_bytes = orders_bytes - _count_bytes()
    accounts_only_bytes = accounts_bytes - workload_bytes - start_bytes - empty_bytes
    return MemoryUse(
        accounts=len(state.accounts),
        resting_orders=len(state.orders),
        bytes_per_account=round(accounts_only_bytes / len(state.accounts)),
        bytes_per_resting_order=round((orders_bytes - accounts_bytes) / len(state.orders)),
    )


def _build_state(workload: Workload) -> EngineState:
    state = create_state(workload.genesis())
    for block in workload.setup_blocks():
        run_block(state, block, True)
    return state


def _count_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
