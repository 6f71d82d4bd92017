"""`rota bench ordering`: how many opaque transactions a second the committee orders.

Real node processes on this machine. A load process hands in 512-byte transactions of namespace 1
in frames of 256 KiB through all doors, as many as the nodes deliver. A transaction counts when a
committed block has ordered it and the node holds the batch it is in: batches are on disk at every
member that acknowledged them before a block can name them. The result is that of the slowest node.
"""

from collections.abc import Callable
from typing import Any, Final

import trio
from msgspec import Struct

from localnet.bench.cluster import BenchCluster, CpuUse, compute_cpu_use
from localnet.bench.generator import generate_load
from localnet.bench.load import NAMESPACE, TRANSACTION_SIZE_BYTES, LoadReport
from localnet.bench.observer import Observer, Window, validate_busy
from localnet.bench.stages import read_stages, subtract_stages

WARM_UP_S: Final = 3.0
TARGET_TX_PER_S: Final = 60_000


class OrderingResult(Struct, frozen=True):
    """What `rota bench ordering` prints."""

    nodes: int
    namespace: int
    transaction_size_bytes: int
    elapsed_s: float
    tx_per_s: float
    """Committed and delivered on every node."""
    mb_per_s: float
    blocks_per_s: float
    by_node: dict[str, float]
    load: LoadReport
    cpu: list[CpuUse]
    stages: dict[str, dict[str, Any]]
    target_tx_per_s: int
    met: bool


async def measure_ordering(
    cluster: BenchCluster, *, seconds: float, note: Callable[[str], None]
) -> OrderingResult:
    """Warm up, measure. Raises `IdleChainError` if nothing was delivered."""
    async with trio.open_nursery() as nursery:
        observer = Observer(cluster.network)
        await nursery.start(observer.run)
        async with generate_load(cluster, "opaque") as generator:
            note(f"warming up for {WARM_UP_S:g} s, then measuring for {seconds:g} s")
            await trio.sleep(WARM_UP_S)
            stages_before = await read_stages(cluster.network)
            before = cluster.read_cpu()
            window = await observer.measure(seconds)
            after = cluster.read_cpu()
            stages_after = await read_stages(cluster.network)
            load = await generator.stop()
        nursery.cancel_scope.cancel()
    validate_busy(window, "opaque")
    return _compute_result(
        cluster,
        window,
        load,
        compute_cpu_use(before, after, window.elapsed_s),
        subtract_stages(stages_before, stages_after),
    )


def _compute_result(
    cluster: BenchCluster,
    window: Window,
    load: LoadReport,
    cpu: list[CpuUse],
    stages: dict[str, dict[str, Any]],
) -> OrderingResult:
    tx_per_s = window.least_per_s("opaque")
    return OrderingResult(
        nodes=len(cluster.network.nodes),
        namespace=NAMESPACE,
        transaction_size_bytes=TRANSACTION_SIZE_BYTES,
        elapsed_s=round(window.elapsed_s, 3),
        tx_per_s=tx_per_s,
        mb_per_s=round(tx_per_s * TRANSACTION_SIZE_BYTES / 1e6, 1),
        blocks_per_s=window.least_per_s("blocks"),
        by_node={
            name: round(counts.opaque / window.elapsed_s, 1)
            for name, counts in window.nodes.items()
        },
        load=load,
        cpu=cpu,
        stages=stages,
        target_tx_per_s=TARGET_TX_PER_S,
        met=tx_per_s >= TARGET_TX_PER_S,
    )
