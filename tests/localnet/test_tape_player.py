"""How a tape is cut into chunks, and when they are due."""

import math

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from engine.instructions import Side
from localnet.markets import MARKETS
from localnet.milestone import Milestone
from localnet.tape_player import CHUNK_TRADES_MAX, TapeOrder, convert_trades, play_tape
from localnet.tape_synthesis import generate_trades


def order(time_ms: int, side: Side = Side.BUY, lots: int = 1, price: int = 100) -> TapeOrder:
    return TapeOrder(side, lots, price, time_ms)


async def play(orders, *, speed: float = 1.0, max_lots: int = 1_000):
    started_at = trio.current_time()
    return [
        (round(trio.current_time() - started_at, 3), [each.time_ms for each in chunk.orders])
        async for chunk in play_tape(iter(orders), speed=speed, max_lots=max_lots)
    ]


async def test_trades_go_out_at_their_recorded_distance(autojump_clock):
    orders = [order(5_000), order(5_010), order(6_000), order(9_000)]
    assert await play(orders) == [(0, [5_000, 5_010]), (1.0, [6_000]), (4.0, [9_000])]


async def test_speed_divides_the_distance(autojump_clock):
    orders = [order(0), order(1_000), order(5_000)]
    assert await play(orders, speed=4.0) == [(0, [0]), (0.25, [1_000]), (1.25, [5_000])]


async def test_at_full_speed_everything_is_due_in_full_chunks(autojump_clock):
    orders = [order(1_000 * number) for number in range(CHUNK_TRADES_MAX + 5)]
    chunks = await play(orders, speed=math.inf)
    assert [(due, len(times)) for due, times in chunks] == [(0, CHUNK_TRADES_MAX), (0, 5)]


async def test_a_chunk_takes_no_more_than_the_bound_from_each_side(autojump_clock):
    buys = [order(0, Side.BUY, 40), order(1, Side.SELL, 90), order(2, Side.BUY, 60)]
    chunks = await play([*buys, order(3, Side.BUY, 1)], max_lots=100)
    assert [times for _, times in chunks] == [[0, 1, 2], [3]]


async def test_times_that_run_backwards_are_due_at_once(autojump_clock):
    assert await play([order(5_000), order(1_000)]) == [(0, [5_000, 1_000])]


async def test_an_empty_tape_has_no_chunks(autojump_clock):
    assert await play([]) == []


async def test_a_late_player_gets_what_has_become_due_together(autojump_clock):
    orders = [order(0), order(1_000), order(2_000), order(3_000)]
    seen = []
    async for chunk in play_tape(iter(orders), speed=1.0, max_lots=10):
        seen.append([each.time_ms for each in chunk.orders])
        if len(seen) == 1:
            await trio.sleep(2.5)
    assert seen == [[0], [1_000, 2_000], [3_000]]


@given(st.integers(1, 5_000))
def test_converted_trades_keep_side_and_order_and_the_bound(max_lots):
    trades = list(generate_trades(50, 3))
    orders = list(convert_trades(trades, MARKETS[0], max_lots))
    assert [each.side for each in orders] == [trade.taker_side for trade in trades]
    assert [each.time_ms for each in orders] == [trade.time_ms for trade in trades]
    assert all(1 <= each.lots <= max_lots for each in orders)


async def test_a_milestone_wakes_whoever_waits_for_it():
    milestone = Milestone()
    seen = []

    async def wait(value: int) -> None:
        await milestone.reached(value)
        seen.append(value)

    async with trio.open_nursery() as nursery:
        for value in (3, 1, 2):
            nursery.start_soon(wait, value)
        await trio.testing.wait_all_tasks_blocked()
        milestone.raise_by_one()
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [1]
        milestone.raise_to(0)
        assert milestone.value == 1
        milestone.raise_to(3)
    assert sorted(seen) == [1, 2, 3]
