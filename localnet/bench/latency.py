"""`rota bench latency`: how long a trader waits, with little else going on.

Real node processes on this machine. One signed order at a time, about ten a second, through the
nodes' doors in turn. Two times are taken at the client, from just before signing: until the event
says that a committed block has ordered it, and until its executed result is certified by a quorum.
"""

from collections.abc import Callable
from typing import Final

import trio
from msgspec import Struct

from engine.instructions import CancelAll, Instruction, PlaceOrder, Side
from localnet.bench.cluster import BenchCluster, CpuUse, compute_cpu_use
from localnet.bench.errors import BenchError, IdleChainError
from localnet.bench.observer import Observer
from localnet.bench.oracle import keep_index
from localnet.courier import Courier
from localnet.percentiles import Percentiles, compute_percentiles
from node.envelopes import EnvelopeFactory

WARM_UP_ORDERS: Final = 10
ORDER_INTERVAL_S: Final = 0.1
ORDER_PATIENCE_S: Final = 5.0
"""An order without result for this long means that the chain stands still."""
TARGET_COMMIT_P50_MS: Final = 60.0


class LatencyResult(Struct, frozen=True):
    """What `rota bench latency` prints."""

    nodes: int
    orders: int
    blocks_per_s: float
    commit_latency_ms: Percentiles
    receipt_latency_ms: Percentiles
    cpu: list[CpuUse]
    target_commit_p50_ms: float
    met: bool


async def measure_latency(
    cluster: BenchCluster, *, seconds: float, note: Callable[[str], None]
) -> LatencyResult:
    """Warm up, measure. Raises `IdleChainError` if an order got no result."""
    network = cluster.network
    name = next(account.name for account in network.accounts if account.is_trader)
    factory = EnvelopeFactory(network.account_secret(name), network.chain_id)
    commit_ms: list[float] = []
    receipt_ms: list[float] = []
    async with trio.open_nursery() as nursery:
        prices = await nursery.start(keep_index, network)
        couriers = [Courier([node.door_endpoint()], [factory.account]) for node in network.nodes]
        for courier in couriers:
            nursery.start_soon(courier.run)
        observer = Observer(network)
        await nursery.start(observer.run)
        market, price = next(iter(prices.items()))
        orders: list[list[Instruction]] = [
            [PlaceOrder(market, Side.BUY, price * 99 // 100, 1)],
            [CancelAll(market)],
        ]

        async def send(number: int) -> None:
            courier = couriers[number % len(couriers)]
            ticket = await courier.send(factory, orders[number // len(couriers) % 2])
            with trio.move_on_after(ORDER_PATIENCE_S):
                await ticket.done.wait()
            validate_answered(ticket.done.is_set(), ticket.refusal)
            if number >= WARM_UP_ORDERS:
                assert ticket.ordered_after_ms is not None
                assert ticket.executed_after_ms is not None
                commit_ms.append(ticket.ordered_after_ms)
                receipt_ms.append(ticket.executed_after_ms)

        note(f"sending an order every {ORDER_INTERVAL_S:g} s for {seconds:g} s")
        for number in range(WARM_UP_ORDERS):
            await send(number)
            await trio.sleep(ORDER_INTERVAL_S)
        blocks = {name: each.blocks for name, each in observer.counts.items()}
        before = cluster.read_cpu()
        started_at = trio.current_time()
        number = WARM_UP_ORDERS
        while trio.current_time() - started_at < seconds:
            await send(number)
            number += 1
            due_at = started_at + (number - WARM_UP_ORDERS) * ORDER_INTERVAL_S
            await trio.sleep_until(max(due_at, trio.current_time()))
        elapsed_s = trio.current_time() - started_at
        after = cluster.read_cpu()
        nursery.cancel_scope.cancel()
    commits = compute_percentiles(commit_ms)
    return LatencyResult(
        nodes=len(network.nodes),
        orders=len(commit_ms),
        blocks_per_s=round(
            min(each.blocks - blocks[name] for name, each in observer.counts.items()) / elapsed_s,
            1,
        ),
        commit_latency_ms=commits,
        receipt_latency_ms=compute_percentiles(receipt_ms),
        cpu=compute_cpu_use(before, after, elapsed_s),
        target_commit_p50_ms=TARGET_COMMIT_P50_MS,
        met=commits.p50 <= TARGET_COMMIT_P50_MS,
    )


def validate_answered(is_done: bool, refusal: str | None) -> None:
    """Raise `IdleChainError` without a result, `BenchError` for a refused order."""
    if not is_done:
        raise IdleChainError(
            f"an order had no result after {ORDER_PATIENCE_S:g} s",
            advice="run again with --keep and look into the nodes' logs",
        )
    if refusal is not None:
        raise BenchError(f"an order was refused: {refusal}", advice="this is a bug")
