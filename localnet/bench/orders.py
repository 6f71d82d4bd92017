"""`rota bench orders`: how many signed instructions a second the whole system executes.

Real node processes on this machine, bundles of 20 instructions (12 orders, 7 cancels, 1 taker)
signed before the clock starts, handed in through all doors. An instruction counts when its height
is executed and certified by a quorum, on the slowest node. Every bundle's signature is verified by
every node; every node executes every instruction.
"""

from collections.abc import Callable
from typing import Any, Final

import trio
from msgspec import Struct

from localnet.bench.cluster import BenchCluster, CpuUse, compute_cpu_use
from localnet.bench.errors import BenchError
from localnet.bench.generator import generate_load
from localnet.bench.load import BUNDLE_INSTRUCTIONS, LoadReport
from localnet.bench.observer import Observer, validate_busy
from localnet.bench.oracle import keep_index
from localnet.bench.stages import read_stages, subtract_stages
from localnet.markets import TRADER_DEPOSIT_MICROQUOTE, AccountPlan

WARM_UP_S: Final = 3.0
TARGET_PER_S: Final = 10_000

PREPARED_PER_S: Final = 40_000
"""Instructions signed in advance for each second; the bench fails if they run out."""

ACCOUNTS: Final = tuple(
    AccountPlan(f"bench{number}", TRADER_DEPOSIT_MICROQUOTE, True) for number in range(100)
)


class OrdersResult(Struct, frozen=True):
    """What `rota bench orders` prints."""

    nodes: int
    accounts: int
    bundle_instructions: int
    elapsed_s: float
    instructions_per_s: float
    """Executed and certified on every node."""
    envelopes_per_s: float
    fills_per_s: float
    blocks_per_s: float
    load: LoadReport
    cpu: list[CpuUse]
    stages: dict[str, dict[str, Any]]
    target_per_s: int
    met: bool


async def measure_orders(
    cluster: BenchCluster, *, seconds: float, note: Callable[[str], None]
) -> OrdersResult:
    """Sign, warm up, measure. Raises `IdleChainError` if nothing was executed."""
    count = int(PREPARED_PER_S * (seconds + WARM_UP_S)) // BUNDLE_INSTRUCTIONS
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_index, cluster.network)
        observer = Observer(cluster.network)
        await nursery.start(observer.run)
        note(f"signing {count} bundles of {BUNDLE_INSTRUCTIONS} instructions")
        async with generate_load(cluster, "bundles", count=count) as generator:
            note(f"warming up for {WARM_UP_S:g} s, then measuring for {seconds:g} s")
            await trio.sleep(WARM_UP_S)
            stages_before = await read_stages(cluster.network)
            before = cluster.read_cpu()
            window = await observer.measure(seconds)
            after = cluster.read_cpu()
            stages_after = await read_stages(cluster.network)
            load = await generator.stop()
        nursery.cancel_scope.cancel()
    validate_busy(window, "instructions")
    if load.exhausted:
        raise BenchError(
            "all prepared bundles were sent before the end, so the rate is the load's, not the "
            "system's",
            advice="run again with fewer --seconds",
        )
    per_s = window.least_per_s("instructions")
    return OrdersResult(
        nodes=len(cluster.network.nodes),
        accounts=len(ACCOUNTS),
        bundle_instructions=BUNDLE_INSTRUCTIONS,
        elapsed_s=round(window.elapsed_s, 3),
        instructions_per_s=per_s,
        envelopes_per_s=window.least_per_s("envelopes"),
        fills_per_s=window.least_per_s("fills"),
        blocks_per_s=window.least_per_s("blocks"),
        load=load,
        cpu=compute_cpu_use(before, after, window.elapsed_s),
        stages=subtract_stages(stages_before, stages_after),
        target_per_s=TARGET_PER_S,
        met=per_s >= TARGET_PER_S,
    )
