"""`rota market margin` against the formulas of docs/reference/portfolio.md, line by line.

What is computed here is written from that page's block alone, in 40 digits; a line that is reworded
there is to be reworded here.
"""

import json
from pathlib import Path
from typing import Any

import mpmath
import pytest
from mpmath import mpf

from node.cli.main import run

DAY_S = 86_400
NEAR = {"expiry_s": DAY_S // 2, "forward": "60100", "forward_fixed": "20000", "rate": "0.04"}
FAR = {"expiry_s": 60 * DAY_S, "forward": "61500.5", "rate": "-0.02", "confidence": "0.4"}
MARKETS: dict[str, dict[str, Any]] = {
    "near call": {"kind": "call", "strike": "60000", "vol": "0.75", **NEAR},
    "near put": {"kind": "put", "strike": "60000", "vol": "0.8", "confidence": "0.5", **NEAR},
    "far call": {"kind": "call", "strike": "70000", "vol": "0.61", **FAR},
    "far put": {"kind": "put", "strike": "50000", "vol": "0.66", **FAR},
    "nobody's": {"kind": "put", "strike": "9", "vol": "1", "confidence": "0", **NEAR},
    "perp": {"kind": "perp", "forward": "60010", "confidence": "0.9"},
    "base": {"kind": "base"},
}
SIZES = {"near call": 3, "near put": -5, "far call": -2, "far put": 4, "perp": "1.5", "base": -1}
PARAMETERS = {
    "vol_range_up": "0.6", "vol_range_down": "0.3", "vol_power_short": "0.3",
    "vol_power_long": "0.13", "vol_term_min_s": "86400", "discount": "0.95",
    "discount_rate_factor": "1", "discount_rate_add": "0.12", "basis_shock_up": "1.05",
    "basis_shock_down": "0.95", "basis_factor": "1", "basis_factor_year": "1.2",
    "static_perp": "0.03", "static_base": "0.03", "static_naked_short": "0.02",
    "im_factor": "1.25", "peg_threshold": "0.99", "peg_factor": "4",
    "confidence_threshold": "0.55", "confidence_factor": "1", "net_delta": "0.02",
    "hedged_delta": "0.01", "delta_maintenance": "0.5",
}  # fmt: skip
SCENARIOS = [("1.2", "up"), ("1.05", "down"), ("1", "none"), ("0.9", "up"), ("0.8", "up")]

Held = dict[str, Any]


def recompute(positions: dict[str, Any], stable_price: Any, cash: Any, given: Any) -> Any:
    """The block, from `years` down to `initial_margin`."""
    p = {name: mpf(value) for name, value in given.items()}
    stable = mpf(stable_price)
    held: list[Held] = []
    for name, size in positions.items():
        market = {"spot": "60000", "rate": "0", "confidence": "1", "forward_fixed": "0"}
        market |= MARKETS[name]
        kind = market.pop("kind")
        held.append({"kind": kind, "size": mpf(size), **{k: mpf(v) for k, v in market.items()}})
    linear = [each for each in held if each["kind"] in ("perp", "base")]
    expiries: dict[Any, list[Held]] = {}
    for each in held:
        if each["kind"] in ("call", "put"):
            expiries.setdefault((each["expiry_s"], each["rate"]), []).append(each)

    def years(expiry_s: Any) -> Any:
        return max(mpf(0), expiry_s) / 31_536_000

    def find_s_and_d(each: Held, forward: Any, vol: Any) -> Any:
        s = vol * mpmath.sqrt(years(each["expiry_s"]))
        return s, mpmath.ln(forward / each["strike"]) / s + s / 2

    def price(each: Held, x: Any, v: str) -> Any:
        forward = (each["forward"] - each["forward_fixed"]) * x + each["forward_fixed"]
        power = "vol_power_short" if each["expiry_s"] <= 2_592_000 else "vol_power_long"
        big_p = (2_592_000 / max(each["expiry_s"], p["vol_term_min_s"])) ** p[power]
        vol = each["vol"]
        if v == "up":
            vol *= 1 + p["vol_range_up"] * big_p
        if v == "down":
            vol *= max(0, 1 - p["vol_range_down"] * big_p)
        strike = each["strike"]
        s, d = find_s_and_d(each, forward, vol) if vol else (0, 0)
        if not s:
            return max(mpf(0), forward - strike if each["kind"] == "call" else strike - forward)
        if each["kind"] == "call":
            return forward * mpmath.ncdf(d) - strike * mpmath.ncdf(d - s)
        return strike * mpmath.ncdf(s - d) - forward * mpmath.ncdf(-d)

    def value(options: list[Held], x: Any, v: str) -> Any:
        return mpmath.fsum(each["size"] * price(each, x, v) for each in options)

    def discounted(amount: Any, expiry_s: Any, rate: Any) -> Any:
        a_year = max(0, rate) * p["discount_rate_factor"] + p["discount_rate_add"]
        factor = p["discount"] * mpmath.exp(-years(expiry_s) * a_year)
        return amount * factor if amount > 0 else amount

    def value_linear(x: Any) -> Any:
        perps = [a["size"] * a["forward"] * (x - 1) for a in linear if a["kind"] == "perp"]
        base = [a["size"] * a["spot"] * x / stable for a in linear if a["kind"] == "base"]
        return mpmath.fsum(perps + base)

    marks = {key: value(options, mpf(1), "none") for key, options in expiries.items()}
    mark = mpmath.fsum(marks.values()) + value_linear(mpf(1))
    changes = []
    for shock, v in SCENARIOS:
        x = mpf(shock)
        values = [discounted(value(each, x, v), *key) for key, each in expiries.items()]
        changes.append(mpmath.fsum(values) + value_linear(x) - mark)
    basis = mpf(0)
    for key, options in expiries.items():
        up, down = (value(options, p[f"basis_shock_{side}"], "none") for side in ("up", "down"))
        factor = p["basis_factor"] + p["basis_factor_year"] * years(key[0])
        basis += min(0, up - marks[key], down - marks[key]) * factor
    static = mpmath.fsum(abs(a["size"]) * a["spot"] * p[f"static_{a['kind']}"] for a in linear)
    for options in expiries.values():
        for strike in {each["strike"] for each in options}:
            size = mpmath.fsum(each["size"] for each in options if each["strike"] == strike)
            static += max(0, -size) * 60_000 * p["static_naked_short"]
    loss = static - min(basis, *changes)
    im_multiple = p["im_factor"] + p["peg_factor"] * max(0, p["peg_threshold"] - stable)
    confidence = mpf(0)
    for group in (linear, *expiries.values()):
        c = min([mpf(1), *(each["confidence"] for each in [*group, *linear])])
        if c < p["confidence_threshold"]:
            amount = mpmath.fsum(abs(each["size"]) * each["spot"] for each in group)
            confidence += (1 - c) * p["confidence_factor"] * amount
    deltas = []
    for each in held:
        unit = mpf(1)
        if each not in linear:
            _, d = find_s_and_d(each, each["forward"], each["vol"])
            unit = mpmath.ncdf(d) - (each["kind"] == "put")
        deltas.append(each["size"] * each["spot"] * unit)
    net = abs(mpmath.fsum(deltas))
    floor = p["net_delta"] * net
    floor += p["hedged_delta"] * (mpmath.fsum(abs(each) for each in deltas) - net) / 2
    mark_to_market = mark + mpf(cash)
    return {
        "mark_to_market": mark_to_market,
        "maintenance_margin": mark_to_market - max(loss, p["delta_maintenance"] * floor),
        "initial_margin": mark_to_market - max(loss * im_multiple, floor) - confidence,
    }, changes


@pytest.mark.parametrize(
    ("sizes", "stable_price", "given"),
    [
        (SIZES, "0.98", {}),
        ({name: size for name, size in SIZES.items() if "call" in name}, "1", {"discount": "0.5"}),
        ({"near put": 2, "perp": -2}, "1.01", {"net_delta": "2", "vol_range_down": "0.9"}),
    ],
    ids=["all kinds and every charge", "a doubtful calendar spread", "the floor on deltas"],
)
def test_the_formulas_on_the_page_are_what_is_computed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sizes: dict[str, Any],
    stable_price: str,
    given: dict[str, str],
) -> None:
    parameters = PARAMETERS | given
    path = tmp_path / "portfolio.json"
    grid = [{"spot_shock": shock, "vol_shock": vol} for shock, vol in SCENARIOS]
    markets = {name: {"spot": "60000", **market} for name, market in MARKETS.items()}
    file = {"markets": markets, "positions": {**sizes, "nobody's": 0}, "cash": "12345.678901"}
    file |= {"stable_price": stable_price, "parameters": {**parameters, "scenarios": grid}}
    path.write_text(json.dumps(file))
    assert run(["market", "margin", "--portfolio", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    with mpmath.workdps(40):
        margins, changes = recompute(sizes, stable_price, "12345.678901", parameters)
        for name, expected in margins.items():
            assert abs(mpf(document[name]) - expected) < mpf("1e-10"), name
        for found, expected in zip(document["scenarios"], changes, strict=True):
            assert abs(mpf(found["change"]) - expected) < mpf("1e-10")
