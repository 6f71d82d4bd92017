"""Faults as data: what goes wrong, where, and for how long. Strict: what is not known is refused.

docs/faults.md has a table of the kinds and of their parameters.

A link is one direction, `node0>node1` (or `0>1`); `0<>1` is both; `*` is every node. A fault of
links may also name nodes: then it is on every link from or to them, a partition on every link
between them and the others.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import combinations, permutations
from typing import Annotated, Any, Final, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from consensus.messages import BulkMessage, ControlMessage
from localnet.faults.words import Spell, as_key, describe_problem, fields_of, suggest
from node.exit_codes import ExitCode, OperatorError

DURATION_MAX_S: Final = 3_600.0
"""Of one fault; one without a duration lasts until it is removed."""
DELAY_MAX_MS: Final = 60_000
SKEW_MAX_MS: Final = 3_600_000
BANDWIDTH_MIN_BYTES_PER_S: Final = 1_000
BANDWIDTH_MAX_BYTES_PER_S: Final = 1_000_000_000
RESET_INTERVAL_MIN_MS: Final = 100
PERMILLE: Final = 1_000
TARGETS_MAX: Final = 64
"""Links, nodes or message kinds that one fault names."""

_TABLE: Final = "kinds and parameters: docs/faults.md"
_LINK: Final = re.compile(r"(?P<a>\*|[a-z0-9-]+)(?P<way><?>)(?P<b>\*|[a-z0-9-]+)")
_DURATION: Final = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,6})?)(?P<unit>ms|s|m|h)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}

Milliseconds = Annotated[int, Meta(ge=0, le=DELAY_MAX_MS)]
Permille = Annotated[int, Meta(ge=1, le=PERMILLE)]
Names = Annotated[tuple[str, ...], Meta(max_length=TARGETS_MAX)]


class FaultError(OperatorError):
    """A fault that makes no sense, or not here."""

    code = "fault.invalid"
    exit_code = ExitCode.USAGE


class Link(NamedTuple):
    """One direction between two nodes, by name."""

    sender: str
    receiver: str

    def __str__(self) -> str:
        return f"{self.sender}>{self.receiver}"


class OnLinks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A fault of links; `links` or `nodes` says which."""

    links: Names = ()
    nodes: Names = ()


class OnNodes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A fault of nodes."""

    nodes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=TARGETS_MAX)]


class Delay(OnLinks, frozen=True, kw_only=True, tag="delay"):
    delay_ms: Milliseconds
    jitter_ms: Milliseconds = 0


class Bandwidth(OnLinks, frozen=True, kw_only=True, tag="bandwidth"):
    bytes_per_s: Annotated[int, Meta(ge=BANDWIDTH_MIN_BYTES_PER_S, le=BANDWIDTH_MAX_BYTES_PER_S)]


class Partition(OnLinks, frozen=True, kw_only=True, tag="partition"):
    pass


class Reset(OnLinks, frozen=True, kw_only=True, tag="reset"):
    interval_ms: Annotated[int, Meta(ge=RESET_INTERVAL_MIN_MS, le=DELAY_MAX_MS)] = 1_000


class _OnMessages(OnLinks, frozen=True, kw_only=True):
    permille: Permille
    messages: Names = ()
    """Wire tags of the messages, as `vote`; empty: all."""


class Loss(_OnMessages, frozen=True, kw_only=True, tag="loss"):
    pass


class Duplicate(_OnMessages, frozen=True, kw_only=True, tag="duplicate"):
    pass


class Reorder(_OnMessages, frozen=True, kw_only=True, tag="reorder"):
    hold_max_ms: Annotated[int, Meta(ge=1, le=DELAY_MAX_MS)] = 50


class Kill(OnNodes, frozen=True, kw_only=True, tag="kill"):
    pass


class Pause(OnNodes, frozen=True, kw_only=True, tag="pause"):
    pass


class ClockSkew(OnNodes, frozen=True, kw_only=True, tag="clock-skew"):
    offset_ms: Annotated[int, Meta(ge=-SKEW_MAX_MS, le=SKEW_MAX_MS)]


class DiskFull(OnNodes, frozen=True, kw_only=True, tag="disk-full"):
    pass


class TornWrite(OnNodes, frozen=True, kw_only=True, tag="torn-write"):
    pass


ProxyFault = Delay | Bandwidth | Partition | Reset
MessageFault = Loss | Duplicate | Reorder
LinkFault = ProxyFault | MessageFault
EndingFault = Kill | DiskFull | TornWrite
"""After these the node has to be started again."""
NodeFault = Pause | ClockSkew | EndingFault
Fault = LinkFault | NodeFault

_STRUCTS: Final = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        Delay,
        Loss,
        Duplicate,
        Reorder,
        Bandwidth,
        Partition,
        Reset,
        Kill,
        Pause,
        ClockSkew,
        DiskFull,
        TornWrite,
    )
}

KINDS: Final = tuple(_STRUCTS)


NEED_RUNNING: Final = frozenset({"kill", "pause"})
"""What does not run can neither be killed nor frozen; all else waits for a node that starts."""

MESSAGES: Final = frozenset(
    str(message.__struct_config__.tag)
    for message in (*get_args(ControlMessage), *get_args(BulkMessage))
)
"""Wire tags of all messages between nodes."""


def parameters_of(kind: str) -> tuple[list[str], list[str]]:
    """What a kind needs and what it may have besides, without where it is."""
    fields = [
        each
        for each in msgspec.structs.fields(_STRUCTS[kind])
        if each.name not in ("links", "nodes")
    ]
    return (
        [each.name for each in fields if each.required],
        [each.name for each in fields if not each.required],
    )


def is_on_links(kind: str) -> bool:
    """Is it between nodes, and not on them?"""
    return issubclass(_STRUCTS[kind], OnLinks)


def kind_of(fault: Fault) -> str:
    """The name of a fault in commands, files and reports."""
    return str(fault.__struct_config__.tag)


def decode_fault(document: dict[str, Any], nodes: Sequence[str]) -> Fault:
    """Read a fault and name its nodes and links in full. Raises `FaultError`.

    What comes back names only nodes that there are, and links one direction each.
    """
    fault = read_fault(document)
    if isinstance(fault, OnNodes):
        return msgspec.structs.replace(fault, nodes=_expand(fault.nodes, nodes))
    links = compute_links(fault, nodes)
    return msgspec.structs.replace(fault, links=tuple(map(str, links)), nodes=())


def read_fault(document: dict[str, Any], spell: Spell = as_key) -> Fault:
    """Check all of a fault that can be checked without knowing the nodes. Raises `FaultError`,
    which names parameters as `spell` does."""
    kind = validate_kind(document.get("kind"))
    known = [each for each in fields_of(_STRUCTS[kind]) if each != "kind"]
    if "links" in document and "links" not in known:
        raise FaultError(f"{kind} is on nodes: {_example(spell, 'nodes', 'node2')}", advice=_TABLE)
    try:
        fault: Fault = msgspec.convert(document, Fault)
    except msgspec.ValidationError as error:
        message = describe_problem(error, kind, known, spell)
        raise FaultError(message, advice=_TABLE) from error
    if isinstance(fault, OnLinks) and bool(fault.links) == bool(fault.nodes):
        either = f"{spell('links')} or {spell('nodes')}"
        raise FaultError(
            f"{kind} needs either {either}", advice=f"as in {_example(spell, 'links', '0>1')}"
        )
    if isinstance(fault, Delay) and fault.jitter_ms > fault.delay_ms:
        raise FaultError(
            f"{spell('jitter_ms')} {fault.jitter_ms} is above {spell('delay_ms')} {fault.delay_ms}",
            advice="nothing arrives before it was sent: the jitter is at most the delay",
        )
    if isinstance(fault, MessageFault):
        validate_messages(fault.messages)
    return fault


def validate_kind(kind: object) -> str:
    """Return the name of a kind, or raise `FaultError`."""
    if isinstance(kind, str) and kind in KINDS:
        return kind
    given = "a fault needs a kind" if kind is None else f"there is no fault {kind!r}"
    near = suggest(kind, KINDS) if isinstance(kind, str) else ""
    raise FaultError(f"{given}{near}", advice=f"kinds: {', '.join(KINDS)}")


def _example(spell: Spell, key: str, value: str) -> str:
    return f'{key} = ["{value}"]' if spell is as_key else f"{spell(key)} '{value}'"


def compute_links(fault: LinkFault, nodes: Sequence[str]) -> tuple[Link, ...]:
    """The links that a fault is on. Raises `FaultError` if there are none such."""
    everything = [Link(a, b) for a in nodes for b in nodes if a != b]
    if fault.nodes:
        named = set(_expand(fault.nodes, nodes))
        if isinstance(fault, Partition):
            found = [link for link in everything if len(named & set(link)) == 1]
        else:
            found = [link for link in everything if named & set(link)]
    else:
        wanted = {link for text in fault.links for link in _parse_links(text, nodes)}
        found = [link for link in everything if link in wanted]
    if not found and fault.nodes:
        raise FaultError(
            "a partition of all nodes cuts nothing: it is between those named and the others",
            advice="name some of the nodes, or all links: *>*",
        )
    if not found:
        raise FaultError(
            f"{kind_of(fault)} is on no link: none leads from a node to itself",
            advice=f"name two nodes, as in 0>1; {_advise(nodes)}",
        )
    return tuple(found)


def shorten_links(links: Iterable[Link], nodes: Sequence[str]) -> list[str]:
    """Exactly these links in few words, as a command takes them: `node2<>*` is every link from or
    to node2."""
    named = set(links)
    shapes = ["*>*", *(f"{node}<>*" for node in nodes)]
    shapes += [shape for node in nodes for shape in (f"{node}>*", f"*>{node}")]
    shapes += [f"{a}<>{b}" for a, b in combinations(nodes, 2)]
    shapes += [f"{a}>{b}" for a, b in permutations(nodes, 2)]
    found, left = [], set(named)
    for shape in shapes:
        covered = set(_parse_links(shape, nodes))
        if covered <= named and covered & left:
            found.append(shape)
            left -= covered
    return found


def parse_link(text: str) -> Link:
    """Read a link that `decode_fault` has written."""
    sender, receiver = text.split(">")
    return Link(sender, receiver)


def validate_messages(names: Sequence[str]) -> None:
    """Raise `FaultError` unless each is the wire tag of a message."""
    for name in names:
        if name not in MESSAGES:
            raise FaultError(f"there is no message {name!r}", advice=", ".join(sorted(MESSAGES)))


def _parse_links(text: str, nodes: Sequence[str]) -> list[Link]:
    match = _LINK.fullmatch(text)
    if match is None:
        raise FaultError(f"{text!r} is no link", advice="as in 0>1, 0<>1 or *>2")
    senders, receivers = (_expand((match[side],), nodes) for side in ("a", "b"))
    links = [Link(a, b) for a in senders for b in receivers if a != b]
    if match["way"] == "<>":
        links += [Link(b, a) for a, b in links]
    return links


def _expand(names: Sequence[str], nodes: Sequence[str]) -> tuple[str, ...]:
    """Full names, each once; raises `FaultError` for a node that there is not."""
    found: dict[str, None] = {}
    for name in names:
        full = f"node{name}" if name.isdigit() else name
        if full == "*":
            found.update(dict.fromkeys(nodes))
        elif full in nodes:
            found[full] = None
        else:
            raise FaultError(f"there is no node {name!r} here", advice=_advise(nodes))
    return tuple(found)


def _advise(nodes: Sequence[str]) -> str:
    return f"nodes: {', '.join(nodes)}"


def parse_duration_s(text: str) -> float:
    """Seconds in `30s`, `500ms`, `2m` or `1h`. Raises `FaultError`."""
    match = _DURATION.fullmatch(text)
    duration_s = float(match["number"]) * _UNIT_S[match["unit"]] if match else -1.0
    if not 0 <= duration_s <= DURATION_MAX_S:
        raise FaultError(
            f"{text!r} is no duration of up to {DURATION_MAX_S / 3_600:g} h",
            advice="as in 500ms, 30s, 2m",
        )
    return duration_s
