"""Compile the pure packages with mypyc into `build/compiled`: `make compile`, and other targets.

Nothing happens while no source has changed, or where `ROTA_PURE` asks for the sources. Without a C
compiler nothing is compiled, one line says so, and the sources run as before.

Left out are modules that define msgspec structs (mypyc drops the options of such a class, which
say what a message must look like), those that mostly call libraries, and enumerations and
exceptions that mypyc does not know how to derive.
"""

import ast
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import redirect_stdout
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))
import rota_build

MODULES: Final = {
    "crypto": "bitmap bls codec digest ed25519 mock types",
    "committee": "genesis schedule",
    "consensus": (
        "accuser backoff bans certificates chain checkpoints core exchange intake lane_acks "
        "lane_author lane_certificates lane_chain lane_delivery lane_door lane_fetch "
        "lane_intake lane_recovery lane_serve lane_targets lanes outbox ownership pacemaker "
        "payload proposals recovery serving state_signer state_votes sync validation voter "
        "votes"
    ),
    "mempool": "nonce refusal",
    "engine": (
        "apply cross_margin invariants limits margin order_phases products run schedule state"
    ),
    "engine/accounts": "account fees outflow sessions sub_accounts transfers withdrawals",
    "engine/commitment": "records root",
    "engine/liquidation": "assessment bidding deleverage distress handover phase stages",
    "engine/options": "chains listing marks settlement surface",
    "engine/portfolio": "margin modes",
    "engine/prices": "funding mark open_interest oracle premium",
    "engine/trading": "book call_auction cancellation clearing market matching placement resting",
    "engine/waiting": "dead_man orders pairs slices triggers waitlist",
    "node": (
        "addresses batch_checks clerk core engine_input execution forgeries groups offences "
        "results snapshot_schedule subscriptions tracking"
    ),
    "localnet/bench": "book_player",
}
"""By package. A module that comes to define a struct is refused below."""


def main() -> None:
    """Compile what has changed, or say in one line why the sources will run. Of two at a time the
    second waits, and finds the first one's work."""
    if os.environ.get(rota_build.PURE_VARIABLE):
        return
    rota_build.COMPILING.parent.mkdir(exist_ok=True)
    with rota_build.COMPILING.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _compile_changes()


def _compile_changes() -> None:
    if not rota_build.find_reason_pure():
        return
    problem = _find_problem()
    if problem:
        sys.stderr.write(f"not compiled: {problem}; Rota runs from its sources\n")
        return
    files = [f"{package}/{name}.py" for package, names in MODULES.items() for name in names.split()]
    for file in files:
        if any(_has_options(each) for each in _find_classes(file)):
            sys.exit(f"{file} defines a class of which mypyc would drop something")
    sys.stderr.write(
        f"compiling {len(files)} modules (one to two minutes; again only after a change)\n"
    )
    sources = rota_build.compute_sources_digest()
    work = rota_build.ROOT / "build" / "mypyc"
    new = rota_build.COMPILED.with_name("compiled.new")
    shutil.rmtree(new, ignore_errors=True)
    _compile(files, work, new)
    manifest = {"suffix": EXTENSION_SUFFIXES[0], "sources": sources}
    (new / rota_build.MANIFEST.name).write_text(json.dumps(manifest))
    # What was there stays whole until all of the new is: whoever starts meanwhile, or after this
    # was interrupted, never meets a part.
    rota_build.MANIFEST.unlink(missing_ok=True)
    shutil.rmtree(rota_build.COMPILED, ignore_errors=True)
    new.rename(rota_build.COMPILED)
    sys.stderr.write(f"compiled {len(files)} modules into {rota_build.COMPILED}\n")


def _find_problem() -> str:
    """Why nothing can be compiled here; empty if it can."""
    compiler = sysconfig.get_config_var("CC").split()
    if shutil.which(compiler[0]) is None:
        return f"no C compiler ({compiler[0]})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return f"no header file {Path(sysconfig.get_path('include')) / 'Python.h'}"
    # A compiler may be there without the C library's headers.
    probe = [*compiler, f"-I{sysconfig.get_path('include')}", "-fsyntax-only", "-xc", "-"]
    done = subprocess.run(probe, input="#include <Python.h>\n", text=True, capture_output=True)
    return f"the C compiler ({compiler[0]}) does not work" if done.returncode else ""


def _compile(files: list[str], work: Path, target: Path) -> None:
    # These take half a second to be imported: only where there is something to compile.
    from mypyc.build import mypycify
    from setuptools import Distribution

    words = io.StringIO()
    try:
        with redirect_stdout(words):
            extensions = mypycify(
                files, opt_level="2", debug_level="0", target_dir=str(work), group_name="rota"
            )
    except SystemExit:
        # Its remarks about speed are of no interest to whoever wants to run a network.
        sys.stderr.write(words.getvalue())
        raise
    distribution = Distribution({"name": "rota", "ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    modules = target / rota_build.MODULES
    command.build_lib, command.build_temp = str(modules), str(work / "objects")
    command.ensure_finalized()
    command.run()
    for library in modules.glob("*.so"):
        library.rename(target / library.name)


def _find_classes(file: str) -> list[ast.ClassDef]:
    tree = ast.parse((rota_build.ROOT / file).read_text())
    return [each for each in ast.walk(tree) if isinstance(each, ast.ClassDef)]


def _has_options(each: ast.ClassDef) -> bool:
    """Is it a struct, or anything else of which mypyc would drop something: the options of a
    class, or the defaults in the body of an exception (`code` would be missing)."""
    bases = [ast.unparse(base) for base in each.bases]
    is_exception = any(base.endswith(("Error", "Exception")) for base in bases)
    has_defaults = any(isinstance(statement, ast.Assign) for statement in each.body)
    is_struct = any(base.endswith("Struct") for base in bases)
    return bool(each.keywords) or is_struct or (is_exception and has_defaults)


if __name__ == "__main__":
    main()
