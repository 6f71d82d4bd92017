"""All behaviours by name: every module of this package that defines one is found here."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import lru_cache

import localnet.byzantine as package
from localnet.byzantine.behaviour import Behaviour


class UnknownBehaviourError(ValueError):
    """No behaviour has this name; the message lists those that exist."""


@lru_cache(maxsize=1)
def behaviours() -> dict[str, type[Behaviour]]:
    """Every behaviour by name, by rising name."""
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
    """The behaviour of a name. Raises `UnknownBehaviourError`."""
    known = behaviours()
    if name not in known:
        raise UnknownBehaviourError(f"no behaviour {name!r}; there are: {', '.join(known)}")
    return known[name]
