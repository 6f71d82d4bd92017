"""Renders the page on portfolio margin: the file, the parameters, the formulas, what comes out.

The words are those of the attributes' docstrings; the formulas stand here.
"""

from typing import Final

from msgspec import structs

from engine.portfolio import terms as portfolio_terms
from engine.portfolio.terms import MarginParts, PortfolioParameters, Scenario
from node.cli import portfolio
from node.cli.docstrings import read_field_docs
from node.cli.portfolio import format_short

_FILE_CLASSES = ("_File", "_Market", "_Scenario")

FORMULAS: Final = """\
years       = max(0, expiry_s) / 31,536,000
price       call: F N(d) - K N(d - s)     put: K N(s - d) - F N(-d)        N: normal distribution
              s = vol' sqrt(years)        d = ln(F / K) / s + s / 2        no F, K or s: the payoff
shocked       F    = (forward - forward_fixed) * shock + forward_fixed
              vol' = vol * (1 + vol_range_up * P)              up
              vol' = vol * max(0, 1 - vol_range_down * P)      down
              P    = (2,592,000 / max(expiry_s, vol_term_min_s)) ^ power
              power: vol_power_short up to 2,592,000 seconds (30 days), vol_power_long beyond
V(x, v)     = sum of size * price in one expiry (one expiry_s and rate), shocked by x and v
D(V)        = V * discount * exp(-years * r) where V > 0, else V
              r = max(0, rate) * discount_rate_factor + discount_rate_add
L(x)        = perpetuals: size * forward * (x - 1); base: size * spot * x / stable_price
M           = sum of V(1, none) + L(1)                          nothing is discounted in the mark
change      = sum of D(V(x, v)) + L(x) - M                      the whole value is, if positive
basis       = sum over expiries of (basis_factor + basis_factor_year * years)
              * min(0, V(basis_shock_up, none) - V(1, none), V(basis_shock_down, none) - V(1, none))
static      = |size| * spot * static_perp of perpetuals, |size| * spot * static_base of base,
              and of each strike of an expiry max(0, -sum of sizes) * spot * static_naked_short
loss        = static - min(basis, every change)
im_multiple = im_factor + peg_factor * max(0, peg_threshold - stable_price)
confidence  = of each expiry, and of perpetuals and base together, if c < confidence_threshold:
              (1 - c) * confidence_factor * sum of |size| * spot
              c: the least confidence in the expiry, and of perpetuals and base
delta       = size * spot * N(d) of a call, * (N(d) - 1) of a put, * 1 of the others; not shocked
delta_floor = net_delta * |sum of deltas| + hedged_delta * (sum of |delta| - |sum of deltas|) / 2

mark_to_market     = M + cash
maintenance_margin = mark_to_market - max(loss, delta_maintenance * delta_floor)
initial_margin     = mark_to_market - max(loss * im_multiple, delta_floor) - confidence
"""
"""What is computed, by the names of the file. A test works it out once more from these lines."""


def render_portfolio(head: str) -> str:
    """The page's text."""
    parts = [head, "# Portfolio margin of a file", ""]
    parts += [
        "What `rota market margin --portfolio FILE` reads and prints. Numbers are JSON numbers or",
        "decimal strings and are read exactly; what is printed has twelve decimal places.",
    ]
    file_docs = read_field_docs(portfolio)
    for title, name in zip(("The file", "A market", "A scenario"), _FILE_CLASSES, strict=True):
        parts += ["", f"## {title}", "", "| field | meaning |", "|---|---|"]
        parts += [f"| `{field}` | {meaning} |" for field, meaning in file_docs[name].items()]
    term_docs = read_field_docs(portfolio_terms)
    parts += ["", "## Parameters", "", "| name | default | meaning |", "|---|---|---|"]
    defaults = structs.asdict(PortfolioParameters())
    for field, meaning in term_docs[PortfolioParameters.__name__].items():
        value = defaults[field]
        default = _show_scenarios(value) if isinstance(value, tuple) else format_short(value)
        parts.append(f"| `{field}` | {default} | {meaning} |")
    parts += ["", "## The formulas", ""]
    parts += [
        "Names are those of the file; a market without a position counts for nothing. The margins",
        "printed are within 10^-10 of these formulas (portfolios worth up to a hundred million).",
        "",
        "```text",
        FORMULAS.rstrip(),
        "```",
    ]
    parts += ["", "## What comes out", ""]
    parts += [
        "`mark_to_market`: cash and positions. `maintenance_margin` and `initial_margin`: what is",
        "left of that above the margins, so a portfolio passes unless they are negative.",
        "`scenarios`: `spot_shock`, `vol_shock`, and as `change` what the mark-to-market gains, an",
        "expiry's gains discounted. And `parts`:",
        "",
        "| part | meaning |",
        "|---|---|",
    ]
    margin_docs = term_docs[MarginParts.__name__]
    parts += [f"| `{field}` | {meaning} |" for field, meaning in margin_docs.items()]
    return "\n".join(parts) + "\n"


def _show_scenarios(scenarios: tuple[Scenario, ...]) -> str:
    """Every factor of the price once, with its shocks of volatility."""
    shocks: dict[str, list[str]] = {}
    for each in scenarios:
        shocks.setdefault(format_short(each.spot_shock), []).append(each.vol_shock.name.lower())
    return "; ".join(f"{spot} {'/'.join(vols)}" for spot, vols in shocks.items())
