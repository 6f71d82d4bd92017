"""Compile the pure packages with mypyc into `build/compiled`: `make compile`.

Without a C compiler nothing is compiled, one line says so, and the sources run as before.

Left out are modules that define msgspec structs (mypyc drops the options of such a class, which
say what a message must look like), those that mostly call libraries, and enumerations and
exceptions that mypyc does not know how to derive.
"""

import ast
import json
import shutil
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

from mypyc.build import mypycify
from setuptools import Distribution

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
        "account apply auction book cancellation clearing fees funding invariants limits "
        "liquidation listing margin mark market matching option_marks options oracle outflow "
        "placement resting run settlement state sub_accounts surface transfers withdrawals"
    ),
    "node": (
        "addresses batch_checks clerk core engine_input execution forgeries groups offences "
        "results subscriptions tracking"
    ),
}
"""By package. A module that comes to define a struct is refused below."""


def main() -> None:
    """Compile, and write the manifest last: without it nothing compiled runs."""
    if rota_build.find_reason_pure() == "":
        return
    compiler = sysconfig.get_config_var("CC").split()[0]
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    for is_there, what in (
        (shutil.which(compiler), f"C compiler ({compiler})"),
        (headers.is_file(), f"header file {headers}"),
    ):
        if not is_there:
            sys.stderr.write(f"not compiled: no {what}; Rota runs from its sources\n")
            return
    files = [f"{package}/{name}.py" for package, names in MODULES.items() for name in names.split()]
    for file in files:
        if any(_has_options(each) for each in _find_classes(file)):
            sys.exit(f"{file} defines a class of which mypyc would drop something")
    sources = rota_build.compute_sources_digest()
    shutil.rmtree(rota_build.COMPILED, ignore_errors=True)
    work = rota_build.ROOT / "build" / "mypyc"
    extensions = mypycify(
        files, opt_level="2", debug_level="0", target_dir=str(work), group_name="rota"
    )
    distribution = Distribution({"name": "rota", "ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(rota_build.COMPILED), str(work / "objects")
    command.ensure_finalized()
    command.run()
    manifest = {"suffix": EXTENSION_SUFFIXES[0], "sources": sources}
    rota_build.MANIFEST.write_text(json.dumps(manifest))
    sys.stderr.write(f"compiled {len(files)} modules into {rota_build.COMPILED}\n")


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
