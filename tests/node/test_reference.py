"""The reference pages say what the code says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.receipts import ReasonCode
from mempool.batch import BatchError
from mempool.refusal import RefusalCode
from node.cli.error_reference import _call_rows
from node.cli.reference import render_pages

DOCS = Path(__file__).parents[2] / "docs"
PAGES = render_pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_page_on_disk_is_what_the_code_says(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == PAGES[name], "run: python -m node.cli.reference docs"


def test_every_code_of_the_enumerations_and_of_the_door_is_on_the_page() -> None:
    page = PAGES["reference/errors.md"]
    for code in (*RefusalCode, *ReasonCode, *BatchError):
        assert f"`{code.value}`" in page
    for code in ("door.full", "frame.too_slow", "peer.tls", "storage.full", "home.other_chain"):
        assert f"`{code}`" in page
    for code in ("keystore.missing", "safety.locked", "engine.invariant", "vote.author"):
        assert f"`{code}`" in page


def test_the_pages_do_not_depend_on_where_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("ROTA_LOCALNET", "/elsewhere")
    assert render_pages() == PAGES


def test_a_name_through_which_nothing_is_reported_any_more_is_noticed() -> None:
    with pytest.raises(AssertionError, match="through gone"):
        _call_rows([DOCS.parent / "node"], frozenset({"PeerError", "gone"}))


def find_codes() -> Iterator[tuple[str, Path]]:
    """All `code = "..."` and `code="..."` of the packages."""
    packages = ("crypto", "committee", "consensus", "mempool", "engine", "node", "localnet")
    for path in (each for package in packages for each in (DOCS.parent / package).rglob("*.py")):
        for each in ast.walk(ast.parse(path.read_text())):
            match each:
                case (
                    ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code)))
                    | ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant(value=str(code)))
                    | ast.keyword(arg="code", value=ast.Constant(value=str(code)))
                ):
                    yield code, path
                case _:
                    pass


def test_every_code_that_the_code_names_is_on_the_page() -> None:
    page = PAGES["reference/errors.md"]
    found = list(find_codes())
    assert len(found) > 60
    missing = {f"{code} ({path.name})" for code, path in found if f"`{code}`" not in page}
    assert missing == set()
