"""Mutants: the product with one rule switched off, to see that the campaign notices.

A mutant changes the source text of one or a few functions and puts the code compiled from it in
the place of theirs; the shipped files know nothing of this, and everything is restored afterwards.
A rule that the product holds in two places is switched off in both, since one alone changes
nothing that anybody could see. So is an assertion that would stop the node first: what a mutant
has to show is that an oracle sees the harm, not that the product notices its own confusion.
"""

import __future__

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

from msgspec import Struct

from localnet.sim.violation import Violation


class Change(Struct, frozen=True):
    """Other source text for one function."""

    target: str
    """`module:function` or `module:Class.method`."""
    old: str
    """Occurs once in the function's source."""
    new: str


class Mutant(Struct, frozen=True):
    """One rule switched off."""

    name: str
    rule: str
    """What no longer holds."""
    shown_by: str
    """A regular expression for `ORACLE: DETAIL`: which violation shows this rule. Any other one is
    no kill: it shows something that follows by chance."""
    changes: tuple[Change, ...]
    first: tuple[str, ...] = ()
    """Kinds of schedule to try first (`make_schedule`)."""
    stops: str = ""
    """Why the node's own end counts, where a rule is there to prevent just that."""

    def is_shown_by(self, violation: Violation) -> bool:
        """Is this what switching the rule off must lead to?"""
        is_stop = violation.oracle == "simulator" or violation.oracle.startswith("invariant of ")
        if is_stop and not self.stops:
            return False
        said = f"{violation.oracle}: {violation.detail}"
        return re.match(self.shown_by, said, re.DOTALL) is not None


class MutantError(Exception):
    """A change does not fit the code any more: the table must follow the product."""


def make_mutant(
    name: str,
    rule: str,
    shown_by: str,
    *parts: str,
    first: tuple[str, ...] = (),
    stops: str = "",
) -> Mutant:
    """`parts` are targets, each followed by the old and the new text."""
    changes = tuple(Change(*parts[place : place + 3]) for place in range(0, len(parts), 3))
    return Mutant(name, rule, shown_by, changes, first, stops)


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Run something with a mutant's changes in force. Raises `MutantError`."""
    originals: list[tuple[FunctionType, CodeType]] = []
    try:
        sources: dict[str, str] = {}
        for change in mutant.changes:
            function = find_function(change.target)
            source = sources.get(change.target)
            if source is None:
                source = textwrap.dedent(inspect.getsource(function))
                originals.append((function, function.__code__))
            if source.count(change.old) != 1:
                found = source.count(change.old)
                raise MutantError(f"{mutant.name}: {change.old!r} occurs {found} times")
            sources[change.target] = source = source.replace(change.old, change.new)
            function.__code__ = _compile(function, source)
        yield
    finally:
        for function, code in originals:
            function.__code__ = code


def find_function(target: str) -> FunctionType:
    """The function that a target names. Raises `MutantError`."""
    module_name, _, path = target.partition(":")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        found = inspect.getattr_static(found, name, None)
    if isinstance(found, property):
        found = found.fget
    if not isinstance(found, FunctionType):
        raise MutantError(f"{target} is no function")
    return found


def _compile(function: FunctionType, source: str) -> CodeType:
    """The code of a function with other source text, its names looked up where its own are."""
    namespace = dict(function.__globals__)
    body = source[source.index("def ") :] if source.startswith("@") else source
    # Annotations name what is imported for type checkers only.
    flags = __future__.annotations.compiler_flag
    code_of_all = compile(body, f"<mutant of {function.__qualname__}>", "exec", flags)
    exec(code_of_all, namespace)
    code: CodeType = namespace[function.__name__].__code__
    if code.co_freevars != function.__code__.co_freevars:
        raise MutantError(f"{function.__qualname__} closes over something")
    return code
