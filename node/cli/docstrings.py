"""What the source says of the fields of its classes, for the reference pages."""

import ast
import inspect
from functools import cache
from types import ModuleType


@cache
def read_field_docs(module: ModuleType) -> dict[str, dict[str, str]]:
    """The fields of every class of a module, with the docstrings that follow them ("" for none)."""
    classes: dict[str, dict[str, str]] = {}
    for each in ast.parse(inspect.getsource(module)).body:
        if isinstance(each, ast.ClassDef):
            classes[each.name] = _read_docs(each.body)
    return classes


def read_constants(module: ModuleType) -> dict[str, str]:
    """The upper-case names that a module gives a value, with the docstrings that follow them."""
    return {
        name: text
        for name, text in _read_docs(ast.parse(inspect.getsource(module)).body).items()
        if name.isupper() and not name.startswith("_")
    }


def read_block(text: str, after: str) -> str:
    """The indented block of a docstring that follows the line with these words, as it stands.

    Raises AssertionError if there is none: whoever reworded the docstring has to say where it is.
    """
    lines = inspect.cleandoc(text).splitlines()
    starts = [number for number, line in enumerate(lines) if after in line]
    assert starts, f"no docstring says {after!r} any more"
    block: list[str] = []
    for line in lines[starts[0] + 1 :]:
        if line and not line.startswith("    "):
            if block:
                break
        elif line or block:
            block.append(line)
    assert block, f"no indented block follows {after!r}"
    return inspect.cleandoc("\n".join(block))


def _read_docs(body: list[ast.stmt]) -> dict[str, str]:
    docs: dict[str, str] = {}
    name = ""
    for statement in body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                docs[name] = ""
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                docs[name] = " ".join(text.split())
                name = ""
            case _:
                name = ""
    return docs
