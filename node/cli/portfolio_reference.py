"""Renders the page on portfolio margin: the file, the parameters and what comes out.

The words are those of the attributes' docstrings.
"""

from msgspec import structs

from engine.portfolio import terms as portfolio_terms
from engine.portfolio.terms import MarginParts, PortfolioParameters, Scenario
from node.cli import portfolio
from node.cli.docstrings import read_field_docs
from node.cli.portfolio import format_short

_FILE_CLASSES = ("_File", "_Market", "_Scenario")


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
