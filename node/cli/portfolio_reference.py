"""Renders the page on portfolio margin: the file, the parameters and what comes out.

The words are those of the attributes' docstrings.
"""

import ast
import inspect

from msgspec import structs

from engine import portfolio_terms
from engine.portfolio_terms import MarginParts, PortfolioParameters, Scenario
from node.cli import portfolio
from node.cli.portfolio import format_short

_FILE_CLASSES = ("_File", "_Market", "_Scenario")


def render_portfolio(head: str) -> str:
    """The page's text."""
    parts = [head, "# Portfolio margin of a file", ""]
    parts += [
        "What `rota market margin --portfolio FILE` reads and prints. Numbers are JSON numbers or",
        "decimal strings and are read exactly; what is printed has twelve decimal places.",
    ]
    file_docs = _read_docs(inspect.getsource(portfolio))
    for title, name in zip(("The file", "A market", "A scenario"), _FILE_CLASSES, strict=True):
        parts += ["", f"## {title}", "", "| field | meaning |", "|---|---|"]
        parts += [f"| `{field}` | {meaning} |" for field, meaning in file_docs[name].items()]
    term_docs = _read_docs(inspect.getsource(portfolio_terms))
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


def _read_docs(source: str) -> dict[str, dict[str, str]]:
    """The fields of every class with the docstrings that follow them."""
    classes: dict[str, dict[str, str]] = {}
    for each in ast.parse(source).body:
        if isinstance(each, ast.ClassDef):
            fields = classes.setdefault(each.name, {})
            field = ""
            for statement in each.body:
                match statement:
                    case ast.AnnAssign(target=ast.Name(id=field)):
                        fields[field] = ""
                    case ast.Expr(value=ast.Constant(value=str(text))) if field:
                        fields[field] = " ".join(text.split())
                    case _:
                        pass
    return classes
