"""Generated price paths: the same everywhere, bounded, alive."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.limits import PRICE_MAX_TICKS
from localnet.price_path import (
    BASE_PRICE_TICKS_DEFAULT,
    JUMP_MAX_PPM,
    PPM,
    RANGE_FACTOR,
    STEP_MAX_PPM,
    PricePath,
    compute_base_ticks,
)


def test_a_seed_gives_one_path_for_ever():
    path = PricePath(42, 1, 600_000)
    prices = [path.step() for _ in range(5_000)]
    assert prices[:4] == [600_085, 600_121, 600_064, 599_979]
    assert prices[-1] == 584_050


def test_seeds_and_markets_have_paths_of_their_own():
    paths = [PricePath(seed, market, 600_000) for seed in (1, 2) for market in (1, 2)]
    walks = {tuple(path.step() for _ in range(10)) for path in paths}
    assert len(walks) == 4


def test_paths_jump_now_and_then():
    path = PricePath(42, 1, 600_000)
    moves_ppm = []
    for _ in range(10_000):
        before = path.price_ticks
        moves_ppm.append(abs(path.step() - before) * PPM // before)
    assert any(move > 2 * STEP_MAX_PPM for move in moves_ppm)
    assert sum(move > 2 * STEP_MAX_PPM for move in moves_ppm) < 60


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**64), st.integers(1, 256), st.integers(1, PRICE_MAX_TICKS // RANGE_FACTOR))
def test_prices_stay_in_range_and_move_in_bounded_steps(seed, market, base):
    path = PricePath(seed, market, base)
    assert path.price_ticks == base
    for _ in range(200):
        before = path.price_ticks
        after = path.step()
        assert max(1, base // RANGE_FACTOR) <= after <= base * RANGE_FACTOR
        bound_ppm = STEP_MAX_PPM + JUMP_MAX_PPM + 2_000
        assert abs(after - before) <= before * bound_ppm // PPM + 2


def test_base_prices_are_in_ticks_of_the_market():
    assert compute_base_ticks("BTC-PERP", 100_000) == 600_000
    assert compute_base_ticks("DOGE-PERP", 10) == 20_000
    assert compute_base_ticks("UNKNOWN-PERP", 10) == BASE_PRICE_TICKS_DEFAULT
