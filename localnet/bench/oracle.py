"""Keeps an index price alive in benchmarks: every member reports the same constant prices."""

from typing import Final

import trio

from localnet.price_path import compute_base_ticks
from localnet.reporters import load_reporter, make_surfaces, run_reporter
from node.network import Network

REPORT_INTERVAL_S: Final = 2.0
"""Far below the age at which the engine calls a report stale."""


async def keep_index(
    network: Network, task_status: trio.TaskStatus[dict[int, int]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Report until cancelled; started, with the prices in ticks, once every member has."""
    markets = network.genesis().engine.markets
    prices = {
        params.market: compute_base_ticks(params.symbol, params.tick_size_microquote)
        for params in markets
    }
    surfaces = make_surfaces(markets)
    reporters = [load_reporter(network, node) for node in network.nodes]
    waiting = set(range(len(reporters)))
    everybody = trio.Event()

    def on_reported(index: int) -> None:
        waiting.discard(index)
        if not waiting:
            everybody.set()

    async def report(index: int) -> None:
        is_first = True

        async def await_move() -> None:
            nonlocal is_first
            if not is_first:
                await trio.sleep(REPORT_INTERVAL_S)
            is_first = False

        await run_reporter(
            reporters[index], prices, lambda: surfaces, await_move, lambda: on_reported(index)
        )

    async with trio.open_nursery() as nursery:
        for index, reporter in enumerate(reporters):
            nursery.start_soon(reporter.courier.run)
            nursery.start_soon(report, index)
        await everybody.wait()
        task_status.started(prices)
