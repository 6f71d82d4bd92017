"""Portfolio margin: against a naive reference in arbitrary precision, and against cases by hand."""

import random
from decimal import Decimal
from typing import Any

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine import margin
from engine.portfolio.fixed_point import ONE, from_ratio
from engine.portfolio.scenarios import RiskArrays
from engine.portfolio.sums import (
    PositionSums,
    compute_margin,
    compute_portfolio_margin,
    sum_positions,
)
from engine.portfolio.terms import (
    DAY_S,
    Instrument,
    InstrumentKind,
    MarketData,
    Portfolio,
    PortfolioMargin,
    PortfolioParameters,
    Scenario,
    VolShock,
)

CALL, PUT = InstrumentKind.CALL, InstrumentKind.PUT
PERP, BASE = InstrumentKind.PERP, InstrumentKind.BASE
PUBLISHED = PortfolioParameters()
TOLERANCE = mpmath.mpf("1e-10")


@pytest.fixture(autouse=True)
def precise():
    with mpmath.workdps(40):
        yield


def q64(value: Any) -> int:
    return from_ratio(*Decimal(value).as_integer_ratio())


def exact(value: int) -> mpmath.mpf:
    return mpmath.mpf(value) / ONE


# ---- a naive reference: the formulas, from decimal numbers, in 40 digits ------------------------

NUMBERS = {
    "vol_range_up": "0.6",
    "vol_range_down": "0.3",
    "vol_power_short": "0.3",
    "vol_power_long": "0.13",
    "vol_term_min_s": "86400",
    "discount": "0.95",
    "discount_rate_factor": "1",
    "discount_rate_add": "0.12",
    "basis_shock_up": "1.05",
    "basis_shock_down": "0.95",
    "basis_factor": "1",
    "basis_factor_year": "1.2",
    "static_perp": "0.03",
    "static_base": "0.03",
    "static_naked_short": "0.02",
    "im_factor": "1.25",
    "peg_threshold": "0.99",
    "peg_factor": "4",
    "confidence_threshold": "0.55",
    "confidence_factor": "1",
    "net_delta": "0",
    "hedged_delta": "0",
    "delta_maintenance": "0.5",
}
"""The published parameters, typed in a second time."""

GRID = [("1.2", 1)]
GRID += [(f"{percent / 100:.2f}", vol) for percent in range(115, 80, -5) for vol in (1, 0, -1)]
GRID += [("0.8", 1)]


class Reference:
    """One portfolio's margins; positions are pairs of a market, a dictionary, and a size."""

    def __init__(
        self,
        positions: list[tuple[dict[str, str], str]],
        cash: str,
        stable: str,
        numbers: dict[str, str],
        grid: list[tuple[str, int]],
    ) -> None:
        self.p = {name: mpmath.mpf(value) for name, value in numbers.items()}
        self.stable = mpmath.mpf(stable)
        self.linear, self.expiries = [], {}
        for market, size in positions:
            held = {
                name: value if name == "kind" else mpmath.mpf(value)
                for name, value in market.items()
            } | {"size": mpmath.mpf(size)}
            if not held["size"]:
                continue
            if held["kind"] in ("perp", "base"):
                self.linear.append(held)
            else:
                key = (held["expiry_s"], held["rate"])
                self.expiries.setdefault(key, []).append(held)
        self.mark = self.value("1", 0)[0]
        self.changes = [self.value(spot, vol)[1] - self.mark for spot, vol in grid]
        self.basis = self.compute_basis()
        worst = min([*self.changes, self.basis])
        loss = self.compute_static() - worst
        lack = max(0, self.p["peg_threshold"] - self.stable)
        multiple = self.p["im_factor"] + self.p["peg_factor"] * lack
        floor = self.compute_floor()
        self.mark_to_market = self.mark + mpmath.mpf(cash)
        self.maintenance = self.mark_to_market - max(loss, self.p["delta_maintenance"] * floor)
        self.initial = self.mark_to_market - max(loss * multiple, floor) - self.compute_doubt()

    def price(self, held: dict[str, Any], spot: mpmath.mpf, vol: int) -> mpmath.mpf:
        forward = (held["forward"] - held["fixed"]) * spot + held["fixed"]
        days = max(held["expiry_s"], self.p["vol_term_min_s"]) / 86_400
        power = "vol_power_short" if held["expiry_s"] <= 30 * 86_400 else "vol_power_long"
        scale = (30 / days) ** self.p[power]
        shocked = held["vol"]
        if vol > 0:
            shocked *= 1 + self.p["vol_range_up"] * scale
        if vol < 0:
            shocked *= max(0, 1 - self.p["vol_range_down"] * scale)
        spread = shocked * mpmath.sqrt(held["expiry_s"] / (365 * 86_400))
        sign = 1 if held["kind"] == "call" else -1
        if not spread:
            return max(mpmath.mpf(0), sign * (forward - held["strike"]))
        d1 = mpmath.ln(forward / held["strike"]) / spread + spread / 2
        first = forward * mpmath.ncdf(sign * d1)
        return sign * (first - held["strike"] * mpmath.ncdf(sign * (d1 - spread)))

    def value_expiry(self, held: list[dict[str, Any]], spot: mpmath.mpf, vol: int) -> mpmath.mpf:
        return mpmath.fsum(each["size"] * self.price(each, spot, vol) for each in held)

    def value(self, spot_text: str, vol: int) -> tuple[mpmath.mpf, mpmath.mpf]:
        """Of the whole portfolio under a shock: plain, and with discounted gains."""
        spot = mpmath.mpf(spot_text)
        plain = discounted = mpmath.mpf(0)
        for (expiry_s, rate), held in self.expiries.items():
            value = self.value_expiry(held, spot, vol)
            plain += value
            loss_rate = max(0, rate) * self.p["discount_rate_factor"] + self.p["discount_rate_add"]
            discount = self.p["discount"] * mpmath.exp(-expiry_s / (365 * 86_400) * loss_rate)
            discounted += value * discount if value > 0 else value
        for each in self.linear:
            if each["kind"] == "perp":
                value = each["size"] * each["forward"] * (spot - 1)
            else:
                value = each["size"] * each["spot"] * spot / self.stable
            plain += value
            discounted += value
        return plain, discounted

    def compute_basis(self) -> mpmath.mpf:
        total = mpmath.mpf(0)
        for (expiry_s, _), held in self.expiries.items():
            value = self.value_expiry(held, mpmath.mpf(1), 0)
            up = self.value_expiry(held, self.p["basis_shock_up"], 0) - value
            down = self.value_expiry(held, self.p["basis_shock_down"], 0) - value
            factor = self.p["basis_factor"]
            factor += self.p["basis_factor_year"] * expiry_s / (365 * 86_400)
            total += min(up, down, mpmath.mpf(0)) * factor
        return total

    def compute_static(self) -> mpmath.mpf:
        total = mpmath.mpf(0)
        for each in self.linear:
            total += self.p[f"static_{each['kind']}"] * abs(each["size"]) * each["spot"]
        for held in self.expiries.values():
            for strike in {each["strike"] for each in held}:
                same = [each for each in held if each["strike"] == strike]
                short = max(0, -mpmath.fsum(each["size"] for each in same))
                total += self.p["static_naked_short"] * short * same[0]["spot"]
        return total

    def compute_doubt(self) -> mpmath.mpf:
        linear = min([each["confidence"] for each in self.linear], default=mpmath.mpf(1))
        total = mpmath.mpf(0)
        for held in [self.linear, *self.expiries.values()]:
            least = min([linear, *(each["confidence"] for each in held)])
            if least < self.p["confidence_threshold"]:
                amount = mpmath.fsum(abs(each["size"]) * each["spot"] for each in held)
                total += (1 - least) * self.p["confidence_factor"] * amount
        return total

    def compute_floor(self) -> mpmath.mpf:
        deltas = [each["size"] * each["spot"] for each in self.linear]
        for held in self.expiries.values():
            for each in held:
                spread = each["vol"] * mpmath.sqrt(each["expiry_s"] / (365 * 86_400))
                d1 = mpmath.ln(each["forward"] / each["strike"]) / spread + spread / 2
                delta = mpmath.ncdf(d1) - (each["kind"] == "put")
                deltas.append(each["size"] * delta * each["spot"])
        net = abs(mpmath.fsum(deltas))
        gross = mpmath.fsum(abs(each) for each in deltas)
        return self.p["net_delta"] * net + self.p["hedged_delta"] * (gross - net) / 2


def to_instrument(market: dict[str, str]) -> Instrument:
    kind = InstrumentKind(market["kind"])
    return Instrument(
        kind,
        q64(market["spot"]),
        q64(market["forward"]),
        time_s=q64(market["expiry_s"]),
        strike=q64(market["strike"]),
        vol=q64(market["vol"]),
        rate=q64(market["rate"]),
        confidence=q64(market["confidence"]),
        forward_fixed=q64(market["fixed"]),
    )


def draw_market(rng: random.Random, spot: int, terms: list[tuple[str, str, str, str]]) -> Any:
    kind = rng.choice(("call", "put", "call", "put", "call", "put", "perp", "base"))
    expiry_s, rate, forward, fixed = rng.choice(terms)
    return {
        "kind": kind,
        "spot": str(spot),
        "forward": str(spot + 3) if kind == "perp" else forward,
        "fixed": fixed,
        "expiry_s": expiry_s,
        "rate": rate,
        "strike": str(spot * rng.choice((50, 80, 95, 100, 103, 120, 200)) // 100 or 1),
        "vol": str(Decimal(rng.randint(100, 2_500)) / 1_000),
        "confidence": rng.choice(("1", "1", "0.9", "0.54", "0.3", "0")),
    }


def draw_terms(rng: random.Random, spot: int) -> list[tuple[str, str, str, str]]:
    terms = []
    for _ in range(3):
        expiry_s = rng.choice((600, 3_600, 86_400, 30 * 86_400, 30 * 86_400 + 1, 10**7, 6 * 10**7))
        forward = Decimal(spot) + Decimal(rng.randint(-500, 900)) / 100
        forward = max(forward, Decimal(spot) / 2)
        fixed = forward / 4 if expiry_s < 1_800 else Decimal(0)
        rate = Decimal(rng.randint(-3, 15)) / 100
        terms.append((str(expiry_s), str(rate), str(forward), str(fixed)))
    return terms


@pytest.mark.parametrize("seed", range(24))
def test_margins_of_random_portfolios_are_those_of_the_formulas(seed: int) -> None:
    rng = random.Random(seed)
    spot = rng.choice((1, 150, 1_500, 60_000))
    terms = draw_terms(rng, spot)
    markets = [draw_market(rng, spot, terms) for _ in range(rng.randint(1, 10))]
    most = 200_000 // spot
    sizes = [str(Decimal(rng.randint(-most * 100, most * 100)) / 100) for _ in markets]
    cash, stable = str(rng.randint(-10_000, 10**6)), rng.choice(("1", "0.985", "0.9", "1.01"))
    numbers, grid = dict(NUMBERS), list(GRID)
    if seed % 3:
        for name in rng.sample(sorted(set(NUMBERS) - {"vol_term_min_s"}), 8):
            more = Decimal(numbers[name]) * 7 / 5
            numbers[name] = rng.choice(("0", str(min(more, 1) if name == "discount" else more)))
        numbers |= {"net_delta": rng.choice(("0.02", "0.9")), "hedged_delta": "0.01"}
        grid = rng.sample(GRID, rng.randint(0, 23))

    expected = Reference(list(zip(markets, sizes, strict=True)), cash, stable, numbers, grid)
    parameters = PortfolioParameters(
        scenarios=tuple(Scenario(q64(shock), VolShock(vol)) for shock, vol in grid),
        **{name: q64(value) for name, value in numbers.items()},
    )
    portfolio = Portfolio(tuple(enumerate(map(q64, sizes))), q64(cash))
    data = MarketData(tuple(map(to_instrument, markets)), q64(stable))
    found = compute_portfolio_margin(portfolio, data, parameters)
    assert abs(exact(found.mark_to_market) - expected.mark_to_market) < TOLERANCE
    assert abs(exact(found.maintenance_margin) - expected.maintenance) < TOLERANCE
    assert abs(exact(found.initial_margin) - expected.initial) < TOLERANCE
    assert abs(exact(found.parts.basis_change) - expected.basis) < TOLERANCE
    for change, reference in zip(found.scenario_changes, expected.changes, strict=True):
        assert abs(exact(change) - reference) < TOLERANCE


def test_the_defaults_are_the_published_ones() -> None:
    for name, value in NUMBERS.items():
        assert getattr(PUBLISHED, name) == q64(value), name
    assert PUBLISHED.scenarios == tuple(Scenario(q64(spot), VolShock(vol)) for spot, vol in GRID)
    assert len(PUBLISHED.scenarios) == 23


# ---- by hand -------------------------------------------------------------------------------------

FLOOR = PortfolioParameters(net_delta=from_ratio(2, 100), hedged_delta=from_ratio(1, 100))
"""Paradex's."""


def ask(
    *positions: tuple[Instrument, Any],
    cash: Any = 0,
    stable: Any = 1,
    parameters: PortfolioParameters = PUBLISHED,
) -> PortfolioMargin:
    instruments = tuple(instrument for instrument, _ in positions)
    sizes = tuple((place, q64(size)) for place, (_, size) in enumerate(positions))
    data = MarketData(instruments, q64(stable))
    return compute_portfolio_margin(Portfolio(sizes, q64(cash)), data, parameters)


def near(value: int, expected: Any) -> bool:
    """Equal but for last bits: charges of a hundredth and the like are not exact."""
    return abs(value - q64(expected)) <= 1 << 20


def expired(kind: InstrumentKind, strike: int, **more: int) -> Instrument:
    """An option at its expiry, at a price of 100: it is worth what it pays."""
    return Instrument(kind, 100 * ONE, 100 * ONE, strike=strike * ONE, vol=ONE, **more)


def perp(mark: int = 100, **more: int) -> Instrument:
    return Instrument(PERP, 100 * ONE, mark * ONE, **more)


def base(**more: int) -> Instrument:
    return Instrument(BASE, 100 * ONE, 0, **more)


def test_cash_alone_is_its_own_margin() -> None:
    found = ask(cash=-7)
    assert found.mark_to_market == found.maintenance_margin == found.initial_margin == -7 * ONE
    assert found.scenario_changes == (0,) * 23
    assert found.parts.worst_scenario == -1


def test_a_perpetual_loses_the_worst_shock_of_its_mark_and_pays_the_charge_at_spot() -> None:
    found = ask((perp(110), 2), cash=100)
    assert found.mark_to_market == 100 * ONE
    # 20 % of 2 x 110 is 44; 3 % of 2 x 100 is 6.
    assert near(found.parts.worst_change, -44)
    assert found.parts.worst_scenario == 22
    assert near(found.maintenance_margin, 50)
    assert near(found.initial_margin, Decimal("37.5"))
    short = ask((perp(110), -2), cash=100)
    assert short.parts.worst_scenario == 0
    assert near(short.maintenance_margin, 50)


def test_spot_counts_with_its_value_in_the_stable_asset() -> None:
    found = ask((base(), 1), stable="0.5")
    assert near(found.mark_to_market, 200)
    # Loses 40; 3 % of 100; the multiple is 1.25 + 4 (0.99 - 0.5).
    assert near(found.maintenance_margin, 200 - 43)
    assert near(found.parts.im_multiple, "3.21")
    assert near(found.initial_margin, Decimal(200) - 43 * Decimal("3.21"))


def test_a_short_option_pays_for_being_naked() -> None:
    found = ask((expired(CALL, 90), -1))
    # Owes 10; owes 30 at 120; 2 % of 100.
    assert near(found.mark_to_market, -10)
    assert near(found.parts.basis_change, -5)
    assert near(found.maintenance_margin, -10 - 20 - 2)
    assert near(found.initial_margin, Decimal(-10) - 22 * Decimal("1.25"))


def test_gains_of_an_expiry_are_discounted_and_losses_are_not() -> None:
    found = ask((expired(CALL, 90), 1))
    assert near(found.mark_to_market, 10)
    assert near(found.scenario_changes[0], Decimal("0.95") * 30 - 10)
    assert near(found.scenario_changes[11], Decimal("0.95") * 10 - 10)
    assert near(found.scenario_changes[22], -10)
    later = ask((expired(CALL, 90, rate=ONE), 1), (expired(CALL, 90), -1))
    # Of another rate, so of another expiry: the gain is discounted though the loss is as large.
    assert near(later.scenario_changes[0], Decimal("0.95") * 30 - 30)


def test_the_basis_is_charged_for_each_expiry_by_itself() -> None:
    found = ask((expired(CALL, 90, rate=ONE), 1), (expired(CALL, 90), -1))
    # One expiry loses 5 at 95, the other 5 at 105.
    assert near(found.parts.basis_change, -10)
    assert ask((expired(CALL, 90), 1), (expired(CALL, 90), -1)).parts.basis_change == 0
    year = ask(
        (Instrument(CALL, 100 * ONE, 100 * ONE, time_s=365 * DAY_S, strike=90 * ONE), -1),
    )
    assert near(year.parts.basis_change, -5 * Decimal("2.2"))


def test_calls_and_puts_of_a_strike_cover_each_other() -> None:
    for sizes, naked in (
        ((-3, 1), 2),
        ((-1, -2), 3),
        ((-2, 5), 0),
        ((1, 1), 0),
        ((2, -3), 1),
    ):
        found = ask((expired(CALL, 100), sizes[0]), (expired(PUT, 100), sizes[1]))
        assert near(found.parts.static_naked_short, naked * 2), sizes
    apart = ask((expired(CALL, 100), -1), (expired(CALL, 101), 1))
    assert near(apart.parts.static_naked_short, 2)


def test_doubt_costs_initial_margin_of_what_hangs_on_the_doubted_prices() -> None:
    sure = ask((expired(CALL, 90), 1), (expired(CALL, 80, time_s=DAY_S), 1), (perp(), 1))
    for confidences, doubt in (
        # The least of an expiry's; the other expiry and the perpetual stay as they are.
        ((q64("0.5"), ONE, ONE), 50),
        ((q64("0.55"), ONE, ONE), 0),
        ((0, q64("0.1"), ONE), 100 + 90),
        # Doubt in the perpetual is doubt in all.
        ((ONE, ONE, q64("0.5")), 150),
    ):
        found = ask(
            (expired(CALL, 90, confidence=confidences[0]), 1),
            (expired(CALL, 80, time_s=DAY_S, confidence=confidences[1]), 1),
            (perp(confidence=confidences[2]), 1),
        )
        assert near(found.parts.confidence, doubt)
        assert near(sure.initial_margin - found.initial_margin, doubt)
        assert sure.maintenance_margin == found.maintenance_margin


def test_what_no_shock_moves_is_left_as_it_is() -> None:
    found = ask((expired(CALL, 90, forward_fixed=75 * ONE), -1))
    # A quarter of 100 moves by 20 %.
    assert near(found.scenario_changes[0], -5)
    assert near(found.parts.basis_change, Decimal("-1.25"))


def test_the_floor_under_the_margin_holds_where_the_scenarios_see_nothing() -> None:
    box = (
        (expired(CALL, 90), -1),
        (expired(PUT, 90), 1),
        (expired(CALL, 110), 1),
        (expired(PUT, 110), -1),
    )
    # Owes 20 whatever happens; moves 100 with the price and 100 against it.
    found = ask(*box, parameters=FLOOR)
    assert near(found.mark_to_market, -20)
    assert near(found.parts.worst_change, 0)
    assert near(found.parts.net_delta, 0)
    assert near(found.parts.hedged_delta, 100)
    assert near(found.initial_margin, -21)
    assert near(found.maintenance_margin, Decimal("-20.5"))
    assert near(ask(*box).initial_margin, -20)
    steep = PortfolioParameters(net_delta=ONE, delta_maintenance=ONE)
    assert near(ask((perp(), -2), parameters=steep).maintenance_margin, -200)
    assert near(ask((perp(), -2), parameters=steep).initial_margin, -200)


def test_every_charge_may_be_zero() -> None:
    nothing = PortfolioParameters(
        scenarios=(),
        **dict.fromkeys((name for name in NUMBERS if name != "vol_term_min_s"), 0),
    )
    found = ask(
        (expired(CALL, 90, confidence=0), -1),
        (perp(confidence=0), 5),
        (base(confidence=0), 1),
        cash=3,
        stable="0.5",
        parameters=nothing,
    )
    assert found.mark_to_market == found.maintenance_margin == found.initial_margin == 193 * ONE
    assert found.scenario_changes == ()


def test_volatilities_are_shocked_by_their_term_and_never_below_zero() -> None:
    def shocks(days: int, **more: int) -> dict[VolShock, int]:
        parameters = PortfolioParameters(**more)
        option = Instrument(CALL, ONE, ONE, time_s=days * DAY_S, strike=ONE, vol=ONE)
        return RiskArrays(MarketData((option,)), parameters).expiries[0].vol_multiples

    assert near(shocks(30)[VolShock.UP], "1.6")
    assert near(shocks(30)[VolShock.DOWN], "0.7")
    assert shocks(0) == shocks(1)
    assert abs(exact(shocks(10)[VolShock.UP]) - 1 - mpmath.mpf("0.6") * 3 ** mpmath.mpf("0.3")) < (
        mpmath.mpf("1e-18")
    )
    assert shocks(1, vol_range_down=ONE)[VolShock.DOWN] == 0
    longer = exact(shocks(60)[VolShock.UP])
    assert abs(longer - 1 - mpmath.mpf("0.6") * 2 ** mpmath.mpf("-0.13")) < mpmath.mpf("1e-18")


# ---- properties ----------------------------------------------------------------------------------

MARKET = MarketData(
    (
        perp(),
        base(),
        *(
            Instrument(
                kind, 100 * ONE, q64(forward), time_s=days * DAY_S, strike=strike * ONE, vol=ONE
            )
            for days, forward in ((2, "100.5"), (60, "103"))
            for strike in (80, 100, 130)
            for kind in (CALL, PUT)
        ),
    )
)
ARRAYS = RiskArrays(MARKET, FLOOR)
sizes = st.lists(
    st.tuples(
        st.integers(0, len(MARKET.instruments) - 1),
        st.integers(-(10**6), 10**6).map(lambda thousandths: from_ratio(thousandths, 1_000)),
    ),
    max_size=12,
)


@settings(max_examples=80)
@given(positions=sizes, cash=st.integers(-(10**6), 10**6))
def test_the_parts_make_up_the_margins(positions: list[tuple[int, int]], cash: int) -> None:
    found = compute_margin(ARRAYS, positions, cash * ONE)
    parts = found.parts
    static = parts.static_perp + parts.static_base + parts.static_naked_short
    loss = static - parts.worst_change
    maintenance = max(loss, parts.delta_floor >> 1)
    initial = max(loss * parts.im_multiple >> 64, parts.delta_floor) + parts.confidence
    last_bits = 8
    assert found.mark_to_market == pytest.approx(
        parts.cash + parts.option_value + parts.base_value, rel=0, abs=last_bits
    )
    assert abs(found.mark_to_market - found.maintenance_margin - maintenance) <= last_bits
    assert abs(found.mark_to_market - found.initial_margin - initial) <= last_bits
    assert parts.worst_change == min([parts.basis_change, *found.scenario_changes])
    assert found.initial_margin <= found.maintenance_margin <= found.mark_to_market


@settings(max_examples=60)
@given(positions=sizes, rng=st.randoms(use_true_random=False))
def test_order_and_splits_of_positions_do_not_matter(
    positions: list[tuple[int, int]], rng: random.Random
) -> None:
    shuffled = [
        (place, part) for place, size in positions for part in (size // 3, size - size // 3)
    ]
    rng.shuffle(shuffled)
    assert compute_margin(ARRAYS, shuffled, 0) == compute_margin(ARRAYS, positions, 0)


@settings(max_examples=60)
@given(positions=sizes, threshold=st.sampled_from((0, from_ratio(9, 10))))
def test_sums_that_change_are_those_from_nothing(
    positions: list[tuple[int, int]], threshold: int
) -> None:
    parameters = replace(FLOOR, confidence_threshold=threshold, confidence_factor=from_ratio(7, 10))
    doubted = [
        replace(each, confidence=from_ratio(8 + place % 3, 10))
        for place, each in enumerate(MARKET.instruments)
    ]
    arrays = RiskArrays(MarketData(tuple(doubted)), parameters)
    kept = PositionSums(arrays)
    held: dict[int, int] = {}
    # All come, in part, and go again: every state on the way is one that may be asked about.
    for place, size in [*positions, *[(place, -size) for place, size in reversed(positions)]]:
        kept.change(place, size)
        held[place] = held.get(place, 0) + size
        assert kept.compute_needs() == sum_positions(arrays, held.items()).compute_needs()
        mark, initial, maintenance = kept.compute_needs()
        whole = compute_margin(arrays, held.items(), 0)
        assert mark == whole.mark_to_market
        assert mark - initial == whole.initial_margin
        assert mark - maintenance == whole.maintenance_margin
    assert kept.compute_needs() == (0, 0, 0)


def test_the_margin_module_has_the_pure_function() -> None:
    assert margin.compute_portfolio_margin is compute_portfolio_margin
