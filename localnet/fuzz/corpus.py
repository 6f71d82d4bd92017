"""What is bent: real bytes of every kind, by kind.

A kind is a name such as `message.vote` or `record.safety`; the part after the first dot is the
wire tag where there is a tagged union. `UNIONS` names every union of the product, so that a test
can tell when a type has no entry here.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args

import committee.ceremony.faults as ceremony_faults
import committee.ceremony.transactions as ceremony_transactions
import consensus.evidence as evidence
import consensus.messages as messages
import engine.commitment.proofs as proofs
import engine.instructions as instructions
import localnet.faults.model as faults
import localnet.sim.faults as sim_faults
import mempool.keys as keys
import node.protocol as protocol
import node.workers.crypto_messages as crypto_messages
import node.workers.engine_messages as engine_messages

ENTRIES_MAX_PER_KIND: Final = 12
"""More of one kind would only repeat themselves."""

ENTRY_MAX_BYTES: Final = 64 << 10

UNIONS: Final[dict[str, Any]] = {
    "message": messages.Message,
    "evidence": evidence.Evidence,
    "ceremony_message": ceremony_transactions.CeremonyMessage,
    "ceremony_fault": ceremony_faults.CeremonyFault,
    "instruction": instructions.Instruction,
    "key_change": keys.KeyChange,
    "proof": proofs.StateProof,
    "door_request": protocol.ClientFrame,
    "door_answer": protocol.ServerFrame,
    "engine_request": engine_messages.Request,
    "engine_reply": engine_messages.Reply,
    "crypto_request": crypto_messages.Request,
    "crypto_reply": crypto_messages.Reply,
    "sim_fault": sim_faults.Fault,
    "fault": faults.Fault,
}
"""Every tagged union that is decoded anywhere, by the kind of its entries."""


def kind_of(union: str, type_: type) -> str:
    """The kind of a member of a union."""
    return f"{union}.{type_.__struct_config__.tag}"  # type: ignore[attr-defined]  # a Struct


def union_kinds() -> Iterator[str]:
    """The kind of every type of every union."""
    for name, union in UNIONS.items():
        for type_ in get_args(union):
            yield kind_of(name, type_)


class Corpus:
    """Entries by kind, a few of each, the first ones and then those of other lengths."""

    def __init__(self) -> None:
        self._entries: dict[str, list[bytes]] = {}

    def add(self, kind: str, data: bytes) -> None:
        """Keep an entry, unless there are enough like it."""
        held = self._entries.setdefault(kind, [])
        if len(data) > ENTRY_MAX_BYTES or len(held) >= ENTRIES_MAX_PER_KIND:
            return
        if data not in held and (len(held) < 3 or all(len(data) != len(each) for each in held)):
            held.append(data)

    def kinds(self) -> tuple[str, ...]:
        """All kinds of which there is an entry, in order of their names."""
        return tuple(sorted(kind for kind, held in self._entries.items() if held))

    def select(self, patterns: Iterable[str]) -> tuple[bytes, ...]:
        """The entries of some kinds; `record.*` means all that begin with `record.`."""
        chosen = []
        for pattern in patterns:
            for kind in self.kinds():
                if kind == pattern or (pattern.endswith("*") and kind.startswith(pattern[:-1])):
                    chosen.extend(self._entries[kind])
        return tuple(chosen)

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))
