"""Compiled or not, a run is the same: its roots, and every effect in its trace."""

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rota_build

RUN = """
import json
import msgspec
import rota_build
import consensus.core, engine.apply, node.core
from engine.products import LARGE_BOUND, SMALL_BOUND, multiply
from localnet.bench.fairness import measure_fairness
from localnet.sim.generator import generate
from localnet.sim.nodes import NodeCluster
from localnet.sim.scenario import run_schedule

cluster = NodeCluster(31)
cluster.start()
cluster.trade(30, 900)
cluster.run(300)
cluster.crash(2)
cluster.run(300)
cluster.start()
cluster.run(300)
cluster.settle()
edges = [0, 1, 7, SMALL_BOUND - 1, SMALL_BOUND, LARGE_BOUND - 1, LARGE_BOUND, 2**62, 2**63, 2**80]
edges += [-edge for edge in edges]
statistics = [cluster.core(index).statistics() for index in cluster.members]
outcomes = [run_schedule(generate(seed, 30, (1, 1, 1, 1))) for seed in range(1, 13)]
print(json.dumps({
    "build": rota_build.describe(),
    "files": [module.__file__ for module in (consensus.core, engine.apply, node.core)],
    "products": [multiply(left, right) - left * right for left in edges for right in edges],
    "auctions": msgspec.to_builtins(measure_fairness(seed=1, trials=20)),
    "trace": cluster.world.trace_hash,
    "roots": [(each.executed_height, each.state_root.hex()) for each in statistics],
    "outcomes": [(each.views, each.trace_hash, each.violation) for each in outcomes],
}))
"""


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """`make test` compiles while the first tests run: wait until that is done."""
    if rota_build.COMPILING.exists():
        with rota_build.COMPILING.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)


def run(pure: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=rota_build.ROOT,
        env=os.environ | {rota_build.PURE_VARIABLE: pure},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def ask_build(pure: str = "") -> str:
    return subprocess.run(
        [sys.executable, "-c", "import rota_build; print(rota_build.describe())"],
        cwd=rota_build.ROOT,
        env=os.environ | {rota_build.PURE_VARIABLE: pure},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()


def test_compiled_packages_are_whole_wherever_a_command_is_started(tmp_path):
    # As in `rota`, the project is no entry of the search path: it is installed in place.
    script = tmp_path / "names.py"
    names = [package.replace("/", ".") for package in rota_build.PACKAGES]
    script.write_text(
        "import importlib, json, node.cli.main\n"
        f"names = {names}\n"
        "print(json.dumps([importlib.import_module(name).__file__ for name in names]))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {rota_build.PURE_VARIABLE: ""},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    for package, file in zip(rota_build.PACKAGES, json.loads(done.stdout), strict=True):
        assert file is not None, f"{package} is what is compiled of it, and nothing else"
        assert file.endswith(f"{package}/__init__.py")


def test_compiled_modules_do_the_same_as_their_sources():
    # `make test` compiles first; only where there is no compiler nothing can be compared.
    if ask_build() != "compiled":
        pytest.skip(f"{ask_build()}: make compile")
    compiled, pure = run(""), run("1")
    assert all(file.endswith(".py") for file in pure.pop("files"))
    assert not any(file.endswith(".py") for file in compiled.pop("files"))
    assert compiled.pop("build") == "compiled"
    assert pure.pop("build") == "pure: ROTA_PURE is set"
    assert compiled == pure
    assert not any(pure["products"])
    assert min(height for height, _ in pure["roots"]) > 10
    assert len({root for _, root in pure["roots"]}) == 1


def test_tests_run_the_sources():
    assert rota_build.find_reason_pure() == "ROTA_PURE is set"


@pytest.fixture
def compiled_tree(tmp_path, monkeypatch):
    """A tree of one source that stands as compiled."""
    for package in rota_build.PACKAGES:
        (tmp_path / package).mkdir(parents=True)
    (tmp_path / "engine" / "apply.py").write_text("A = 1\n")
    monkeypatch.setattr(rota_build, "ROOT", tmp_path)
    monkeypatch.setattr(rota_build, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setattr(rota_build, "COMPILED", tmp_path / "compiled")
    monkeypatch.setattr(rota_build, "COMPILING", tmp_path / "build" / "compiling.lock")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(rota_build.PURE_VARIABLE)
    manifest = {
        "suffix": rota_build.EXTENSION_SUFFIXES[0],
        "sources": rota_build.compute_sources_digest(),
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    rota_build.find_reason_pure.cache_clear()
    yield tmp_path
    rota_build.find_reason_pure.cache_clear()


@pytest.fixture
def compile_script():
    path = Path(__file__).parents[2] / "scripts" / "compile.py"
    spec = importlib.util.spec_from_file_location("compile_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_compiler_one_line_says_that_the_sources_run(
    compiled_tree, compile_script, monkeypatch, capsys
):
    (compiled_tree / "engine" / "apply.py").write_text("A = 2\n")
    monkeypatch.setattr(compile_script.shutil, "which", lambda name: None)
    compile_script.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not compiled: no C compiler (")
    assert line.endswith("; Rota runs from its sources")


def test_a_compiler_that_does_not_work_is_none(compiled_tree, compile_script, monkeypatch, capsys):
    (compiled_tree / "engine" / "apply.py").write_text("A = 2\n")
    monkeypatch.setattr(compile_script.shutil, "which", lambda name: "/bin/false")
    monkeypatch.setattr(compile_script.sysconfig, "get_config_var", lambda name: "/bin/false")
    compile_script.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not compiled: ")


@pytest.mark.parametrize("pure", ["", "1"])
def test_nothing_is_compiled_while_no_source_has_changed_or_the_sources_are_wanted(
    compiled_tree, compile_script, monkeypatch, capsys, pure
):
    if pure:
        (compiled_tree / "engine" / "apply.py").write_text("A = 2\n")
        monkeypatch.setenv(rota_build.PURE_VARIABLE, "1")
    monkeypatch.setattr(compile_script, "_find_problem", lambda: "asked")
    compile_script.main()
    assert capsys.readouterr().err == ""


def test_compiled_modules_come_before_the_sources(compiled_tree):
    assert rota_build.extend("engine", ["engine"]) == [
        str(compiled_tree / "compiled" / "modules" / "engine"),
        "engine",
    ]


@pytest.mark.parametrize(
    ("name", "text"), [("engine/apply.py", "A = 2\n"), ("node/new.py", ""), ("engine/apply.py", "")]
)
def test_a_changed_or_new_source_keeps_all_compiled_modules_out(compiled_tree, name, text):
    (compiled_tree / name).write_text(text)
    assert "have changed" in rota_build.find_reason_pure()
    assert rota_build.extend("engine", ["engine"]) == ["engine"]


def test_modules_compiled_for_another_python_stay_out(compiled_tree, monkeypatch):
    monkeypatch.setattr(rota_build, "EXTENSION_SUFFIXES", [".other.so"])
    assert rota_build.describe() == "pure: compiled for another Python"


def test_nothing_compiled_is_told_as_such(compiled_tree):
    (compiled_tree / "manifest.json").unlink()
    assert rota_build.describe() == "pure: nothing is compiled"
