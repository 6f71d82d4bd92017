"""Every decoder of outside bytes."""

from functools import lru_cache
from typing import Final

from localnet.fuzz.ceremony_targets import CEREMONY_TARGETS, harvest_ceremonies
from localnet.fuzz.cluster_targets import CLUSTER_TARGETS
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.door_targets import DOOR_TARGETS, harvest_door
from localnet.fuzz.file_targets import FILE_TARGETS
from localnet.fuzz.harvest import harvest
from localnet.fuzz.key_targets import KEY_TARGETS, harvest_keys
from localnet.fuzz.proof_targets import PROOF_TARGETS, harvest_proofs
from localnet.fuzz.stored_targets import STORED_TARGETS, wrap_records
from localnet.fuzz.stream_targets import STREAM_TARGETS, harvest_streams
from localnet.fuzz.wire_targets import WIRE_TARGETS

TARGETS: Final = (
    *WIRE_TARGETS,
    *DOOR_TARGETS,
    *STREAM_TARGETS,
    *STORED_TARGETS,
    *PROOF_TARGETS,
    *CEREMONY_TARGETS,
    *KEY_TARGETS,
    *FILE_TARGETS,
    *CLUSTER_TARGETS,
)


@lru_cache(maxsize=1)
def prepare_corpus() -> Corpus:
    """What there is to bend, once in a process."""
    corpus = harvest()
    wrap_records(corpus)
    harvest_streams(corpus)
    harvest_door(corpus)
    harvest_proofs(corpus)
    harvest_ceremonies(corpus)
    harvest_keys(corpus)
    return corpus
