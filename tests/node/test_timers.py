"""Timers fire once, at their newest deadline, and not after they were cancelled."""

import pytest
import trio

from node.clock import Clock
from node.timers import Timers

START_MS = 1_000_000


class Bench:
    """Timers on virtual time; `fired` says which went off when."""

    def __init__(self):
        self.offset_ms = START_MS - trio.current_time() * 1000
        self.clock = Clock(lambda: self.offset_ms + trio.current_time() * 1000)
        self.fired = []
        self.timers = Timers(self.clock, self.on_fire)
        self.react = {}

    def on_fire(self, name):
        # To 10 ms: virtual time moves in steps of its own.
        self.fired.append((name, round(self.clock.now_ms() - START_MS, -1)))
        self.react.get(name, lambda: None)()

    def set(self, name, after_ms):
        self.timers.set(name, None if after_ms is None else START_MS + after_ms)


@pytest.fixture
async def bench(nursery):
    made = Bench()
    nursery.start_soon(made.timers.run)
    return made


async def test_timers_fire_in_the_order_of_their_deadlines_each_once(autojump_clock, bench):
    for name, after_ms in (("late", 300), ("early", 100), ("middle", 200)):
        bench.set(name, after_ms)
    await trio.sleep(10)
    assert bench.fired == [("early", 100), ("middle", 200), ("late", 300)]


async def test_a_deadline_in_the_past_fires_at_once(autojump_clock, bench):
    bench.set("due", -50)
    await trio.testing.wait_all_tasks_blocked()
    assert bench.fired == [("due", 0)]


async def test_a_timer_set_again_fires_at_its_newest_deadline_only(autojump_clock, bench):
    bench.set("later", 100)
    bench.set("later", 250)
    bench.set("sooner", 200)
    bench.set("sooner", 50)
    await trio.sleep(10)
    assert bench.fired == [("sooner", 50), ("later", 250)]


async def test_a_cancelled_timer_never_fires(autojump_clock, bench):
    bench.set("gone", 100)
    bench.set("stays", 100)
    bench.set("gone", None)
    bench.set("never there", None)
    await trio.sleep(10)
    assert bench.fired == [("stays", 100)]


async def test_what_one_timer_cancels_or_sets_anew_does_not_fire_with_it(autojump_clock, bench):
    # All three are due at once; the first one's handler changes its mind about the others.
    bench.react["a"] = lambda: (bench.set("b", None), bench.set("c", 500))
    for name in "abc":
        bench.set(name, 100)
    await trio.sleep(10)
    assert bench.fired == [("a", 100), ("c", 500)]


async def test_a_timer_may_set_itself_again_while_it_fires(autojump_clock, bench):
    bench.react["beat"] = lambda: (
        len(bench.fired) < 3 and bench.set("beat", 100 * (len(bench.fired) + 1))
    )
    bench.set("beat", 100)
    await trio.sleep(10)
    assert bench.fired == [("beat", 100), ("beat", 200), ("beat", 300)]


async def test_a_forward_step_of_the_wall_clock_does_not_shorten_a_timer(autojump_clock, bench):
    bench.set("view", 1_000)
    bench.offset_ms += 900
    bench.clock.follow_wall()
    await trio.sleep(0.9)
    assert not bench.fired
    await trio.sleep(0.2)
    assert bench.fired == [("view", 1_900)]


async def test_after_a_backward_step_no_timer_fires_before_the_core_sees_its_deadline(
    autojump_clock, bench
):
    bench.set("view", 1_000)
    bench.offset_ms -= 60_000
    bench.clock.follow_wall()
    await trio.sleep(1.9)
    assert not bench.fired
    await trio.sleep(0.2)
    assert bench.fired == [("view", 1_000)]
