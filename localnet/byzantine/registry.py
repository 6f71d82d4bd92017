"""All behaviours by name: every module of this package that defines one is found here."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

import localnet.byzantine as package
from localnet.byzantine.behaviour import Behaviour
from localnet.byzantine.guard import FOREIGN, BehaviourFailedError, describe_failure
from node.exit_codes import ExitCode, OperatorError


class UnknownBehaviourError(OperatorError):
    """No behaviour has this name."""

    code = "byz.unknown_behaviour"
    exit_code = ExitCode.CONFIG


@lru_cache(maxsize=1)
def behaviours() -> dict[str, type[Behaviour]]:
    """Every behaviour of this package by name, by rising name."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    found = {kind.name: kind for kind in _find_kinds(Behaviour) if "name" in vars(kind)}
    return dict(sorted(found.items()))


def _find_kinds(parent: type[Behaviour]) -> Iterator[type[Behaviour]]:
    """All kinds below one, however far, of this package: a test's own are not drawn by others."""
    for kind in parent.__subclasses__():
        if kind.__module__.startswith(f"{package.__name__}."):
            yield kind
        yield from _find_kinds(kind)


def find_behaviour(name: str) -> type[Behaviour]:
    """The behaviour of a name, or that of `FILE.py:CLASS`. Raises `UnknownBehaviourError`
    and `BehaviourFailedError`."""
    path, separator, class_name = name.rpartition(".py:")
    if separator:
        return _load_behaviour(Path(f"{path}.py").resolve(), class_name)
    known = behaviours()
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise UnknownBehaviourError(
            f"there is no behaviour {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            advice="`rota byz list` prints them; name one of your own as FILE.py:CLASS",
        )
    return known[name]


@lru_cache
def _load_behaviour(path: Path, class_name: str) -> type[Behaviour]:
    """A class of somebody's own file, which is run once."""
    spec = importlib.util.spec_from_file_location(str(path), path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UnknownBehaviourError(
            f"{path} is no Python file", advice="name it as FILE.py:CLASS, from where you are"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[str(path)] = module
    try:
        spec.loader.exec_module(module)
    except FOREIGN as error:
        # It is somebody's own file: whatever it raises is for them to mend.
        raise BehaviourFailedError(describe_failure(error, path)) from error
    kind = getattr(module, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, Behaviour)):
        raise UnknownBehaviourError(
            f"{path} defines no behaviour {class_name!r}",
            advice="derive a class from localnet.byzantine.Behaviour",
        )
    if not hasattr(kind, "name"):
        kind.name = class_name
    return kind


def lie_of(kind: type[Behaviour]) -> str:
    """What a behaviour says about itself."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
