"""The reference pages say what the code says."""

from pathlib import Path

import pytest

from node.cli.reference import render_pages

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", sorted(render_pages()))
def test_the_page_on_disk_is_what_the_code_says(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == render_pages()[name], "run: python -m node.cli.reference docs"


def test_the_pages_do_not_depend_on_where_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    before = render_pages()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("ROTA_LOCALNET", "/elsewhere")
    assert render_pages() == before
