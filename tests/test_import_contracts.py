"""The import contracts of `pyproject.toml` hold, and they bite."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import node

ROOT = Path(node.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = {contract["name"]: contract for contract in PROJECT["contracts"]}
DOWNWARDS = "Imports only point downwards"
ENGINE = "What the engine's state holds knows nothing of the rules that change it"
CORE = "The node's pure core knows nothing of the runtime around it"
PURE = "Pure code touches no clock, network, disk, thread, process, log or randomness"


@pytest.fixture
def planted(tmp_path):
    """A copy of the sources, free to be spoiled."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PROJECT["root_packages"]:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def _lint(directory):
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )


def _plant(path, line):
    path.write_text(f"{path.read_text()}\n{line}\n")


def test_all_contracts_hold():
    finished = _lint(ROOT)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_planted_imports_break_the_contracts(planted):
    plants = {
        "crypto/digest.py": "import time",
        "consensus/safety.py": "import asyncio",
        "engine/trading/book.py": "from pathlib import Path",
        "engine/trading/market.py": "import engine.trading.matching",
        "mempool/ledger.py": "import node.protocol",
        "node/clerk.py": "import queue",
        "node/core.py": "import node.storage.disk",
    }
    for path, line in plants.items():
        _plant(planted / path, line)
    finished = _lint(planted)
    assert finished.returncode == 1, finished.stderr
    for name in (DOWNWARDS, ENGINE, CORE, PURE):
        assert f"{name} BROKEN" in finished.stdout
    for culprit in (
        "crypto.digest -> time",
        "consensus.safety -> asyncio",
        "engine.trading.book -> pathlib",
        "engine.trading.market -> engine.trading.matching",
        "mempool.ledger -> node.protocol",
        "node.clerk -> queue",
        "node.core -> node.storage.disk",
    ):
        assert culprit in finished.stdout


def test_a_new_file_of_the_node_must_say_on_which_side_it_stands(planted):
    (planted / "node" / "undecided.py").write_text('"""New."""\n')
    finished = _lint(planted)
    assert finished.returncode == 1
    assert "node.undecided" in finished.stdout


def test_the_two_lists_of_pure_files_of_the_node_agree():
    pure_layer = {name.strip() for name in CONTRACTS[CORE]["layers"][-1].split(":")}
    sources = CONTRACTS[PURE]["source_modules"]
    assert pure_layer == {
        name.removeprefix("node.") for name in sources if name.startswith("node.")
    }


def test_every_module_of_the_engine_stands_in_a_layer():
    layers = {
        name.strip().replace(".", "/")
        for layer in CONTRACTS[ENGINE]["layers"]
        for name in layer.split(":")
    }
    modules = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in (ROOT / "engine").rglob("*.py")
        if path.name != "__init__.py"
    }
    modules -= {name for name in modules if name.startswith("engine/snapshots/")}
    assert modules == layers - {"engine/snapshots"}
