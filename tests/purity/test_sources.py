"""The sources of the pure packages hold nothing whose result could differ between two nodes.

The engine, whose every result is certified, holds no set at all. The others may hold sets and ask
what is in them, but never go through one unsorted: its order depends on the hash seed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import committee
import consensus
import engine
import mempool

BANNED_NAMES = {"float", "complex", "hash", "id", "open", "print", "round"}
ALLOWED_MODULES = {
    "__future__",
    "array",
    "bisect",
    "collections",
    "committee",
    "consensus",
    "crypto",
    "dataclasses",
    "engine",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "mempool",
    "msgspec",
    "mypy_extensions",
    "operator",
    "rota_build",
    "struct",
    "sys",
    "typing",
}
"""What imports what is for the import contracts; here it is that nothing else comes in."""

ALLOWED_OF_SYS = {"byteorder"}

SETS = {"set", "frozenset"}
SET_METHODS = {"union", "difference", "intersection", "symmetric_difference"}
SET_UPDATES = {"update", "difference_update", "intersection_update"}
ORDER_FREE = SETS | {"sorted", "len", "any", "all", "sum", "bool"}
"""Calls whose result does not depend on the order of what they go through."""
EXTREMES = {"min", "max"}
"""Order-free as long as no key can make two things equal that are not."""
IN_ORDER = EXTREMES | {
    "dict",
    "enumerate",
    "filter",
    "iter",
    "list",
    "map",
    "reversed",
    "tuple",
    "zip",
}
"""Calls that go through what they are given."""

Found = Iterator[tuple[ast.AST, str]]


def parse(*packages) -> dict[Path, ast.Module]:
    return {
        path: ast.parse(path.read_text())
        for package in packages
        for path in sorted(Path(package.__file__).parent.rglob("*.py"))
    }


def name_of(node) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_set_type(annotation) -> bool:
    if isinstance(annotation, ast.Subscript):
        return name_of(annotation.value) in SETS
    return name_of(annotation) in SETS


# ---- what no pure source may hold --------------------------------------------------------------


def find_impure(tree) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node, "true division"
        elif isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node, "a float"
        elif isinstance(node, ast.Name) and node.id in BANNED_NAMES:
            yield node, node.id
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] not in ALLOWED_MODULES:
                    yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] not in ALLOWED_MODULES:
                yield node, node.module or "a relative import"
        elif isinstance(node, ast.Attribute) and name_of(node.value) == "sys":
            yield from () if node.attr in ALLOWED_OF_SYS else [(node, ast.unparse(node))]


def find_sets(tree) -> Found:
    for node in ast.walk(tree):
        is_built = isinstance(node, ast.Set | ast.SetComp)
        if is_built or (isinstance(node, ast.Name) and node.id in SETS):
            yield node, "a set: its order depends on the hash seed"


# ---- going through a set -----------------------------------------------------------------------


class SetNames(ast.NodeVisitor):
    """Names that stand for sets: attributes and functions by annotation, variables by what is
    assigned. A public name that stands for a set anywhere is taken for one everywhere."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if is_set_type(node.annotation):
            self.names.add(name_of(node.target))

    def visit_arg(self, node: ast.arg) -> None:
        if node.annotation is not None and is_set_type(node.annotation):
            self.names.add(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.returns is not None and is_set_type(node.returns):
            self.names.add(node.name)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if is_set(node.value, self.names):
            self.names |= {name_of(target) for target in node.targets}


def is_set(node, names: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name() | ast.Attribute():
            return name_of(node) in names
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return is_set(node.left, names) or is_set(node.right, names)
        case ast.IfExp():
            return is_set(node.body, names) or is_set(node.orelse, names)
        case ast.Call(func=ast.Attribute(attr=method, value=value)) if method in SET_METHODS:
            return is_set(value, names)
        case ast.Call(func=function):
            return name_of(function) in SETS | names
        case _:
            return False


def is_order_free(call: ast.Call, names: set[str]) -> bool:
    name = name_of(call.func)
    if isinstance(call.func, ast.Attribute):
        return name in SET_UPDATES | SET_METHODS and is_set(call.func.value, names)
    return name in ORDER_FREE or (
        name in EXTREMES and all(each.arg != "key" for each in call.keywords)
    )


def find_unsorted(tree, names: set[str]) -> Found:
    """Every place that goes through a set where the order could show."""
    free: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.SetComp):
            free |= {id(each) for each in node.generators}
        if isinstance(node, ast.Call) and is_order_free(node, names):
            for argument in node.args:
                free.add(id(argument))
                if isinstance(argument, ast.GeneratorExp | ast.ListComp):
                    free |= {id(each) for each in argument.generators}
    for node in ast.walk(tree):
        match node:
            case ast.For(iter=source) | ast.comprehension(iter=source) | ast.Starred(value=source):
                if id(node) not in free and is_set(source, names):
                    yield source, f"goes through {ast.unparse(source)} unsorted"
            case ast.Call(func=ast.Attribute(attr="pop", value=source), args=[]):
                if is_set(source, names):
                    yield node, f"takes whatever comes first from {ast.unparse(source)}"
            case ast.Call(func=ast.Name(id=function), args=arguments) if not is_order_free(
                node, names
            ):
                for source in arguments:
                    if function in IN_ORDER and is_set(source, names):
                        yield source, f"{function} of {ast.unparse(source)} unsorted"
            case ast.Call(func=ast.Attribute(attr="join" | "extend" | "fromkeys"), args=[source]):
                if is_set(source, names):
                    yield source, f"goes through {ast.unparse(source)} unsorted"


def describe(path: Path, found: Found) -> list[str]:
    return [f"{path.name}:{node.lineno}: {what}" for node, what in found]


# ---- the rules ---------------------------------------------------------------------------------

ENGINE = parse(engine)
OTHERS = parse(committee, consensus, mempool)


def collect_set_names(trees) -> set[str]:
    collector = SetNames()
    for _ in range(2):
        # Twice, since a name may be used before the source that says what it is.
        for tree in trees:
            collector.visit(tree)
    return collector.names


PUBLIC_SETS = {name for name in collect_set_names(OTHERS.values()) if not name.startswith("_")}


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: path.stem)
def test_the_engine_holds_only_integers_and_ordered_things(path):
    tree = ENGINE[path]
    assert describe(path, find_impure(tree)) + describe(path, find_sets(tree)) == []


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_other_pure_packages_hold_no_impurity_and_go_through_no_set_unsorted(path):
    tree = OTHERS[path]
    names = PUBLIC_SETS | collect_set_names([tree])
    assert describe(path, find_impure(tree)) + describe(path, find_unsorted(tree, names)) == []


@pytest.mark.parametrize(
    "line",
    [
        "x = a / b",
        "x = 0.5",
        "x = hash(a)",
        "import time",
        "from os import path",
        "import sys; x = sys.hash_info",
        "for x in {1, 2}: pass",
        "s: set[int] = f()\nx = [each for each in s]",
        "s = set(a)\nx = tuple(s)",
        "s = frozenset(a)\nx = s.pop()",
        "def s() -> set[int]: ...\nx = list(s() | t)",
        "s: set[int]\nx = min(s, key=f)",
        "s: set[int]\nf(*s)",
        "s: set[bytes]\nx = b''.join(s)",
    ],
)
def test_the_scan_finds(line):
    tree = ast.parse(line)
    assert [*find_impure(tree), *find_unsorted(tree, collect_set_names([tree]))]


@pytest.mark.parametrize(
    "line",
    [
        "s: set[int]\nx = sorted(s)",
        "s: set[int]\nx = 3 in s and len(s)",
        "s: set[int]\nx = {each for each in s}",
        "s: set[int]\nx = min(s)",
        "s: set[int]\nx = any(each > 3 for each in s)",
        "s: set[int]\nx = sorted(each for each in s if each)",
        "x = a // b",
    ],
)
def test_the_scan_lets_pass(line):
    tree = ast.parse(line)
    assert not [*find_impure(tree), *find_unsorted(tree, collect_set_names([tree]))]
