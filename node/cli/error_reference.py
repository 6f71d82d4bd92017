"""The reference page of stable codes, gathered from where the code itself states them.

Three sources: the words for the enumerations that clients branch on (`node.cli.reasons`), the
docstrings of exceptions, and, for codes without either, the calls that report them. The source is
parsed, not imported: packages above the node have codes of their own.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import consensus
import node
from engine.errors import ChunkError, ProofError, SolvencyError
from mempool.batch import BatchError
from node.cli.portfolio import PortfolioFileError
from node.cli.reasons import DOOR_REASONS, OUTCOME_REASONS, REFUSAL_REASONS
from node.client_stream import DoorError
from node.exit_codes import OperatorError
from node.framing import FramingError
from node.offers import OfferError
from node.storage.errors import SafetyError, StorageError
from node.transport import network
from node.transport.errors import PeerError
from node.workers.errors import EngineWorkerError, WorkerError, WorkerQueryError

_CODE: Final = re.compile(r"^[a-z_]+\.[a-z_]+$")
_ROW: Final = re.compile(r"^\s*\| ((?:`[a-z_.]+`(?:, )?)+) \| (.+) \|$")

_PEER_REPORTS: Final = frozenset(
    {"_require", "_require_epoch", "_require_power", "_decode_signers", "ValidationError"}
    | {"Misbehaviour", "refuse"}
)
"""Calls that say which rule a member broke."""

_ALARMS: Final = frozenset({"Alarm"})
_HALT_REPORTS: Final = frozenset({"halt", "_halt", "Halted"})
_OTHER_REPORTS: Final = frozenset({"KeystoreError", "RecoveryError", "_Problem"})
"""What is turned into an `OperatorError` further up, or stands for one on the wire."""

_PEER_ERRORS: Final = frozenset({"PeerError"})
_DOOR_REPORTS: Final = frozenset({"Refused", "QueryError", "WorkerQueryError"})
_PACKAGES: Final = (
    "committee",
    "consensus",
    "crypto",
    "engine",
    "localnet",
    "mempool",
    "node",
)


def render_errors(head: str) -> str:
    """The page's text."""
    root = Path(node.__file__).parent.parent
    everything = [root / package for package in _PACKAGES]
    operator_errors = _find_subclasses(everything, OperatorError.__name__)
    parts = [head, "# Stable codes", ""]
    parts += [
        "A code never changes its meaning and is never used again for something else. Texts beside",
        "codes may change at any time. Exit codes of processes have [a page of their",
        "own](exit-codes.md).",
    ]
    parts += _render_answers()
    parts += _section(
        "What ends a connection",
        "In the log of the node; `frame` codes on both ports, `peer` codes on the peer port.",
        _return_rows(Path(network.__file__))
        | _call_rows((Path(network.__file__).parent,), _PEER_ERRORS)
        | _doc_rows(FramingError, PeerError),
    )
    parts += _section(
        "What ends a node or a command",
        "In the log (`node_failed`) and on stderr, with what to do next; `bug` is an error that"
        " nobody foresaw, and has a traceback.",
        _call_rows(everything, _HALT_REPORTS | _OTHER_REPORTS, operator_errors)
        | _class_rows(everything, operator_errors.__contains__)
        | _doc_rows(PortfolioFileError, StorageError, SafetyError, WorkerError, EngineWorkerError),
    )
    parts += _render_reports()
    parts += _section(
        "Errors inside the program",
        "Of bytes or books that are not what they should be. Whoever meets one refuses, halts or"
        " reports under a code above; these stand in tracebacks and in details.",
        _class_rows(everything, lambda name: name not in operator_errors)
        | _doc_rows(ChunkError, ProofError, SolvencyError),
    )
    return "\n".join(parts) + "\n"


def _render_answers() -> list[str]:
    """What clients are answered."""
    door_codes = _call_rows((Path(node.__file__).parent,), _DOOR_REPORTS)
    return [
        *_section(
            "Envelopes that are refused",
            "In the answer to a submission (`SubmitResult.code`) or in a receipt of level"
            " `refused`. A refused envelope changes nothing and costs nothing.",
            {code.value: reason.meaning for code, reason in REFUSAL_REASONS.items()},
        ),
        *_section(
            "Outcomes of instructions",
            "In the engine's receipts and events: the envelope was ordered, this is what became"
            " of it.",
            {code.value: reason.meaning for code, reason in OUTCOME_REASONS.items()},
        ),
        *_section(
            "Requests at the order door",
            "In `Refused` frames; the connection lives on, except after `door.full` and, if it"
            " names no request, `door.forgeries`.",
            {code: DOOR_REASONS[code].meaning for code in door_codes | _doc_rows(WorkerQueryError)},
        ),
        *_section(
            "What the client library adds",
            "Raised as `DoorError`, beside the codes that the node gave.",
            _doc_rows(DoorError),
        ),
    ]


def _render_reports() -> list[str]:
    """What a node reports and goes on."""
    of_consensus, of_node = Path(consensus.__file__).parent, Path(node.__file__).parent
    return [
        *_section(
            "Rules that a member broke",
            "Counted in the status (`misbehaviours`) and logged as `peer_misbehaviour`, at the"
            " first and at every doubling.",
            _call_rows((of_consensus, of_node), _PEER_REPORTS)
            | dict.fromkeys((code.value for code in BatchError), "see `mempool.batch`")
            | _doc_rows(OfferError),
        ),
        *_section(
            "Alarms",
            "Logged as `alarm`: the node goes on, and its operator should look.",
            _call_rows((of_consensus,), _ALARMS),
        ),
    ]


def _section(title: str, text: str, rows: dict[str, str]) -> list[str]:
    assert rows, f"no codes for {title!r}"
    lines = ["", f"## {title}", "", text, ""]
    assert all(rows.values()), f"codes without a meaning for {title!r}"
    lines += ["| code | meaning |", "|---|---|"]
    return lines + [f"| `{code}` | {meaning} |" for code, meaning in sorted(rows.items())]


def _doc_rows(*errors: type[Exception]) -> dict[str, str]:
    """The codes in the tables of classes' docstrings."""
    rows: dict[str, str] = {}
    for error in errors:
        for line in (inspect.getdoc(error) or "").splitlines():
            if match := _ROW.match(line):
                rows |= dict.fromkeys(re.findall(r"`([a-z_.]+)`", match[1]), match[2])
    return rows


def _call_rows(
    folders: Iterable[Path], names: frozenset[str], others: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Codes that calls of these names are given as plain text; what they say beside it, or what the
    engine's code of that name means, or else the module that does so.

    Raises AssertionError for one of `names` that no such call has: whatever it was is called
    otherwise now, and its codes would be missing. Calls of `others` may have codes or not.
    """
    modules: dict[str, set[str]] = {}
    messages: dict[str, set[str]] = {}
    silent = set(names)
    for path, tree in _parse(folders):
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and _name(call.func) in names | others:
                for code in _codes(call):
                    modules.setdefault(code, set()).add(_module(path))
                    messages.setdefault(code, set()).update(_messages(call))
                    silent.discard(_name(call.func))
    assert not silent, f"nothing reports a code through {', '.join(sorted(silent))}"
    answers = {code.value: reason.meaning for code, reason in OUTCOME_REASONS.items()}
    return {
        code: "; ".join(sorted(messages[code]))
        or answers.get(code)
        or f"see `{'`, `'.join(sorted(where))}`"
        for code, where in modules.items()
    }


def _messages(call: ast.Call) -> Iterator[str]:
    """What a call says for people, with an ellipsis for what only the case tells."""
    for argument in call.args:
        match argument:
            case ast.Constant(value=str(text)) if " " in text:
                parts = [text]
            case ast.JoinedStr(values=values):
                parts = [
                    str(each.value) if isinstance(each, ast.Constant) else "…" for each in values
                ]
            case _:
                continue
        text = "".join(parts).strip().replace("|", "\\|")
        # One that is all ellipses or names a file alone says nothing.
        if len(re.findall(r"[a-z]+", text)) > 1:
            yield text


def _return_rows(path: Path) -> dict[str, str]:
    """Codes that the functions of one module return."""
    returns = [
        each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Return)
    ]
    return {
        ast.literal_eval(each.value): f"see `{_module(path)}`"
        for each in returns
        if each.value is not None and _is_code(each.value)
    }


def _class_rows(folders: Iterable[Path], is_wanted: Callable[[str], bool]) -> dict[str, str]:
    """The codes that classes state in their bodies, and the first line of their docstrings."""
    rows: dict[str, str] = {}
    for _, tree in _parse(folders):
        for each in ast.walk(tree):
            if isinstance(each, ast.ClassDef) and is_wanted(each.name):
                for statement in each.body:
                    match statement:
                        case (
                            ast.Assign(targets=[ast.Name(id="code")], value=value)
                            | ast.AnnAssign(target=ast.Name(id="code"), value=value)
                        ) if value is not None and _is_code(value):
                            rows[ast.literal_eval(value)] = _first_line(each)
                        case _:
                            pass
    return rows


def _first_line(each: ast.ClassDef) -> str:
    return (ast.get_docstring(each) or "").splitlines()[0]


def _find_subclasses(folders: Iterable[Path], name: str) -> frozenset[str]:
    """The names of a class and of all that derive from it, however far."""
    bases = {
        each.name: {_name(base) for base in each.bases}
        for _, tree in _parse(folders)
        for each in ast.walk(tree)
        if isinstance(each, ast.ClassDef)
    }
    found: set[str] = set()
    more = {name}
    while more:
        found |= more
        more = {each for each, parents in bases.items() if parents & found} - found
    return frozenset(found)


def _parse(folders: Iterable[Path]) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            yield path, _parse_file(path)


@cache
def _parse_file(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _name(target: ast.expr) -> str:
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def _codes(call: ast.Call) -> Iterator[str]:
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        if _is_code(argument):
            yield ast.literal_eval(argument)


def _is_code(value: ast.expr | None) -> bool:
    return (
        isinstance(value, ast.Constant)
        and isinstance(value.value, str)
        and _CODE.match(value.value) is not None
    )


def _module(path: Path) -> str:
    root = Path(node.__file__).parent.parent
    return ".".join(path.relative_to(root).with_suffix("").parts)
