"""The node's clock follows the wall clock's steps, and never runs backwards."""

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from node.clock import (
    CHECK_INTERVAL_S,
    DOUBTED_CHECKS,
    STEP_DOUBTED_MS,
    STEP_LOGGED_MS,
    Clock,
)

START_MS = 1_800_000_000_000


class Wall:
    """A wall clock that runs with trio's, and can be stepped."""

    def __init__(self):
        self.offset_ms = START_MS - trio.current_time() * 1000

    def __call__(self):
        return self.offset_ms + trio.current_time() * 1000


async def test_the_clock_runs_with_the_wall_clock(mock_clock):
    wall = Wall()
    clock = Clock(wall)
    mock_clock.jump(0.25)
    assert clock.now_ms() == pytest.approx(START_MS + 250, abs=1)
    assert clock.follow_wall() == pytest.approx(0, abs=0.01)


async def test_a_small_forward_step_is_followed_at_once_when_it_is_seen(mock_clock):
    wall = Wall()
    clock = Clock(wall)
    wall.offset_ms += STEP_DOUBTED_MS - 1
    assert clock.now_ms() == pytest.approx(START_MS, abs=1)
    assert clock.follow_wall() == pytest.approx(STEP_DOUBTED_MS - 1, abs=0.01)
    assert clock.now_ms() == pytest.approx(START_MS + STEP_DOUBTED_MS - 1, abs=1)


async def test_a_large_forward_step_is_followed_when_it_stays(mock_clock):
    wall = Wall()
    clock = Clock(wall)
    wall.offset_ms += 3_600_000
    for _ in range(DOUBTED_CHECKS - 1):
        mock_clock.jump(CHECK_INTERVAL_S)
        assert clock.follow_wall() == 0
    elapsed_ms = (DOUBTED_CHECKS - 1) * CHECK_INTERVAL_S * 1000
    assert clock.now_ms() == pytest.approx(START_MS + elapsed_ms, abs=1)
    assert clock.follow_wall() == pytest.approx(3_600_000, abs=0.01)
    assert clock.now_ms() == pytest.approx(wall(), abs=1)


async def test_a_wrong_time_that_goes_away_soon_is_never_followed(mock_clock):
    wall = Wall()
    clock = Clock(wall)
    for _ in range(3):
        wall.offset_ms += 3_600_000
        for _ in range(DOUBTED_CHECKS - 2):
            mock_clock.jump(CHECK_INTERVAL_S)
            clock.follow_wall()
        wall.offset_ms -= 3_600_000
        clock.follow_wall()
        assert clock.now_ms() == pytest.approx(wall(), abs=1)


async def test_a_backward_step_is_made_good_at_half_speed(mock_clock):
    wall = Wall()
    clock = Clock(wall)
    wall.offset_ms -= 10_000
    assert clock.follow_wall() == pytest.approx(-10_000, abs=0.01)
    assert clock.now_ms() == pytest.approx(START_MS, abs=1)
    mock_clock.jump(8)
    assert clock.now_ms() - wall() == pytest.approx(6_000, abs=1)
    assert clock.follow_wall() == pytest.approx(0, abs=0.01), "it is being made good already"
    mock_clock.jump(12)
    assert clock.now_ms() == pytest.approx(wall(), abs=1)
    mock_clock.jump(100)
    assert clock.now_ms() == pytest.approx(wall(), abs=1)


async def test_no_step_of_the_wall_clock_shows_in_the_uptime(mock_clock):
    wall = Wall()
    clock = Clock(wall)
    mock_clock.jump(2)
    wall.offset_ms -= 10_000
    clock.follow_wall()
    assert clock.uptime_ms() == 2_000


STEPS_MS = st.lists(
    st.tuples(st.integers(0, 5_000), st.one_of(st.just(0), st.integers(-20_000, 20_000))),
    max_size=12,
)


@given(STEPS_MS, st.integers(3, 60_000))
def test_time_never_runs_backwards_and_a_deadline_comes_when_it_was_said_to(steps, wait_ms):
    virtual = MockClock()

    async def check():
        wall = Wall()
        clock = Clock(wall)
        seen_ms = clock.now_ms()
        for sleep_ms, step_ms in steps:
            virtual.jump(sleep_ms / 1000)
            assert clock.now_ms() >= seen_ms
            wall.offset_ms += step_ms
            clock.follow_wall()
            assert clock.now_ms() >= seen_ms
            seen_ms = clock.now_ms()
        at_s = clock.instant_of(seen_ms + wait_ms)
        virtual.jump(at_s - trio.current_time() - 0.0015)
        assert clock.now_ms() < seen_ms + wait_ms
        virtual.jump(at_s - trio.current_time())
        assert clock.now_ms() == seen_ms + wait_ms

    trio.run(check, clock=virtual)


async def test_a_running_clock_looks_at_the_wall_and_tells_the_operator_of_a_step(
    autojump_clock, nursery
):
    wall = Wall()
    clock = Clock(wall)
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(clock.run)
        await trio.sleep(CHECK_INTERVAL_S * 1.5)
        assert not logs
        wall.offset_ms += STEP_LOGGED_MS * 2
        await trio.sleep(CHECK_INTERVAL_S)
        assert clock.now_ms() == pytest.approx(wall(), abs=1)
        await trio.sleep(CHECK_INTERVAL_S * 5)
    assert [(each["event"], each["moved_ms"]) for each in logs] == [("wall_clock_stepped", 200)]
