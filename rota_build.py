"""Which build of the pure packages runs: their sources, or what `make compile` made of them.

mypyc compiles modules of the pure packages that define no message types (`MODULES` in
`scripts/compile.py`). They land in `build/compiled`, never beside the sources, with a manifest of
the digests of all sources that they were made from. A package asks here for its search path when
it is imported; then the compiled modules come first, all of them or none:

- none where `ROTA_PURE=1` is set: for tests and mutants that replace functions;
- none where any source has changed, or the interpreter is another one.

Both builds do the same to the byte (`tests/purity/test_builds.py`).
"""

import hashlib
import json
import os
import sys
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent
COMPILED: Final = ROOT / "build" / "compiled"
MANIFEST: Final = COMPILED / "manifest.json"

COMPILING: Final = ROOT / "build" / "compiling.lock"
"""Locked (`flock`) while something is being compiled."""

MODULES: Final = "modules"
"""The folder of all compiled modules. It is never searched by itself: a folder named like a package
would be taken for it, since installed in place the real one is looked for last."""

PACKAGES: Final = (
    "crypto",
    "committee",
    "consensus",
    "mempool",
    "engine",
    "engine/accounts",
    "engine/commitment",
    "engine/liquidation",
    "engine/options",
    "engine/portfolio",
    "engine/prices",
    "engine/snapshots",
    "engine/trading",
    "engine/waiting",
    "node",
    "localnet/bench",
)
"""What is compiled, in part. Constants of the other modules in them are compiled in, too."""

PURE_VARIABLE: Final = "ROTA_PURE"
"""Set to anything but nothing, it keeps compiled modules out of this process and its children."""


def extend(package: str, path: list[str]) -> list[str]:
    """The search path of a package: its compiled modules, if they run, and its sources."""
    return path if find_reason_pure() else [str(COMPILED / MODULES / package), *path]


def describe() -> str:
    """Which build runs in this process, in words: `compiled`, or `pure: …` and the reason."""
    reason = find_reason_pure()
    return f"pure: {reason}" if reason else "compiled"


@cache
def find_reason_pure() -> str:
    """Why the sources run; empty where the compiled modules do. Decided once a process: the
    modules of two builds do not mix."""
    if os.environ.get(PURE_VARIABLE):
        return f"{PURE_VARIABLE} is set"
    if not MANIFEST.is_file():
        return "nothing is compiled"
    manifest = json.loads(MANIFEST.read_bytes())
    if manifest["suffix"] != EXTENSION_SUFFIXES[0]:
        return "compiled for another Python"
    if manifest["sources"] != compute_sources_digest():
        return "the sources have changed since they were compiled"
    # The modules share one library, which they look for at the top.
    sys.path.append(str(COMPILED))
    return ""


def compute_sources_digest() -> str:
    """A digest of every source that has a part in a compiled module, names included."""
    state = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((ROOT / package).glob("*.py")):
            data = path.read_bytes()
            state.update(f"{package}/{path.name}:{len(data)}:".encode() + data)
    return state.hexdigest()


def require_pure() -> None:
    """Start this process again without compiled modules if it runs them: for what puts other code
    in the place of a function's."""
    if not find_reason_pure():
        os.environ[PURE_VARIABLE] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
