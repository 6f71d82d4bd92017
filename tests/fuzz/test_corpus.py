"""Whatever is sent or read has an entry that is bent and a target that reads it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

import committee
import consensus
import crypto
import engine
import localnet.faults.model
import localnet.sim.faults
import mempool
import node
import node.protocol as protocol
from crypto.codec import decode, decode_lenient
from engine.receipts import Fill, Receipt
from localnet.fuzz.contract import Kind, find_target, judge
from localnet.fuzz.corpus import UNIONS, union_kinds
from localnet.fuzz.targets import TARGETS, prepare_corpus
from node.protocol import QUERIES

PACKAGES = (crypto, committee, consensus, mempool, engine, node)
DECODERS = {"decode", "decode_lenient"}

DECODED_ELSEWHERE = {
    "bytes": "a field of a snapshot of our own, while it is cut",
    "int": "likewise",
    "tuple[str, str]": "what a node's own child says of a save that failed",
    "type_": "one that a caller names: the codec, and a replay's records",
}
"""Types whose decoding no target names, and why."""

PARTS_OF_AN_OUTPUT = {*get_args(engine.receipts.Event), Receipt, Fill}
"""Only the engine makes them, and they are read only inside its `BlockOutput`."""


def test_every_type_of_every_union_occurs_in_the_corpus() -> None:
    missing = set(union_kinds()) - set(prepare_corpus().kinds())
    assert not missing


def test_every_tagged_type_of_the_product_belongs_to_a_union_of_the_corpus() -> None:
    known = {type_ for union in UNIONS.values() for type_ in get_args(union)}
    modules = tuple(f"{package.__name__}." for package in PACKAGES)
    stack, tagged = [msgspec.Struct], set()
    while stack:
        for type_ in stack.pop().__subclasses__():
            stack.append(type_)
            if type_.__struct_config__.tag is not None and type_.__module__.startswith(modules):
                tagged.add(type_)
    assert tagged <= known | PARTS_OF_AN_OUTPUT


def test_every_kind_of_the_corpus_is_bent_by_some_target() -> None:
    corpus = prepare_corpus()
    targets = [target for target in TARGETS if target.attack is None]
    assert all(corpus.select(target.kinds) for target in targets)
    bent = {data for target in targets for data in corpus.select(target.kinds)}
    unread = {
        kind
        for kind in corpus.kinds()
        if not bent.issuperset(corpus.select((kind,)))
        and not kind.startswith(("record.", "answer.", "certificate."))
    }
    assert not unread


def decoded_types() -> Iterator[tuple[Path, str]]:
    """Every type that the product decodes, as the sources name it."""
    for package in PACKAGES:
        for path in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            for found in ast.walk(ast.parse(path.read_text())):
                if not isinstance(found, ast.Call):
                    continue
                name = getattr(found.func, "attr", getattr(found.func, "id", ""))
                named = [each.value for each in found.keywords if each.arg == "type"]
                if name == "decode" and named:
                    yield path, ast.unparse(named[0])
                elif name in DECODERS and len(found.args) == 2:
                    yield path, ast.unparse(found.args[0])


def test_every_type_that_is_decoded_anywhere_has_a_target() -> None:
    known = {name for target in TARGETS for name in target.types} | DECODED_ELSEWHERE.keys()
    unknown = {(path.name, name) for path, name in decoded_types() if name not in known}
    assert not unknown
    used = {name for _, name in decoded_types()}
    assert DECODED_ELSEWHERE.keys() <= used


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_corpus_itself_breaks_no_contract(target) -> None:
    corpus = prepare_corpus()
    results = [judge(target, data) for data in corpus.select(target.kinds)]
    assert not [result for result in results if result.is_finding]
    if results:
        assert any(result.kind is Kind.ACCEPTED for result in results)


def test_every_query_of_a_node_is_bent_from_one_that_is_answered() -> None:
    corpus, target = prepare_corpus(), find_target(TARGETS, "queries")
    for name in QUERIES:
        results = [judge(target, data) for data in corpus.select((f"query.{name}",))]
        assert Kind.ACCEPTED in {result.kind for result in results}, name
    assert {kind for kind in corpus.kinds() if kind.startswith("query.")} == {
        f"query.{name}" for name in QUERIES
    }


def test_a_client_is_told_whatever_a_node_may_say() -> None:
    parts = [
        decode(tuple[tuple[bytes, ...], ...], data)
        for data in prepare_corpus().select(("conversation",))
    ]
    frames = {frame for conversation in parts for part in conversation for frame in part}
    told = {type(decode_lenient(protocol.ServerFrame, frame)) for frame in frames}
    assert told == set(get_args(protocol.ServerFrame))


def test_the_modules_of_faults_are_among_the_unions() -> None:
    assert UNIONS["fault"] is localnet.faults.model.Fault
    assert UNIONS["sim_fault"] is localnet.sim.faults.Fault
