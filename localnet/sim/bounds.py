"""What a schedule file may say: the bounds of every field, and the names that there are.

A schedule may come from anybody, and a name that nothing bears would make a fault that never
strikes: both are refused when the file is read.
"""

from itertools import chain
from typing import Annotated, Final, get_args

from msgspec import Meta

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE, ARCHIVE_TIP_TABLE
from consensus.lane_certificates import CERTIFICATE_TABLE
from consensus.messages import BulkMessage, ControlMessage
from consensus.safety import (
    BLOCK_TABLE,
    PROPOSAL_TABLE,
    STATE_TABLE,
    TIMEOUT_TABLE,
    VOTE_TABLE,
)
from consensus.state_signer import STATE_VOTE_TABLE
from node.offences import EVIDENCE_TABLE
from node.recovery import (
    BLOCK_ID_TABLE,
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    DELIVERY_TABLE,
    ENVELOPE_TABLE,
    ORDER_SNAPSHOT_TABLE,
    OUTPUT_TABLE,
    REFUSED_TABLE,
)

FILE_MAX_BYTES: Final = 16 << 20
"""Of a schedule file; it holds the largest that the other bounds allow."""

NAME_MAX: Final = 120
"""Characters of a schedule's name."""

MEMBERS_MAX: Final = 100
"""Of a simulated committee."""

HOSTS_MAX: Final = 2 * MEMBERS_MAX
"""Every member may have a twin."""

TWIN_HOSTS_MAX: Final = 63
"""Hosts of a schedule that says who hears whom: a mask has one bit for each, and a JSON reader may
take no number of more than 63 bits."""

TWIN_VIEWS_MAX: Final = 10_000
"""Views for which a schedule may say who hears whom."""

VIEWS_MAX: Final = 100_000
"""Of an attack."""

FAULTS_MAX: Final = 2_000
"""Of one schedule, whoever wrote it."""

TIME_MAX_MS: Final = 86_400_000
"""A day of virtual time: no moment and no duration of a schedule is longer."""

CLOCK_STEP_MAX_MS: Final = 3_600_000
"""An hour, forward or back."""

BANDWIDTH_MAX_BYTES_PER_S: Final = 10**12

WRITES_SKIPPED_MAX: Final = 10_000
"""Writes that a crash at a write lets pass at most."""

RECORD_MAX: Final = 2**31
"""Numbers of records and bits, which are taken modulo what there is."""

KINDS: Final = frozenset(
    str(each.__struct_config__.tag)
    for each in chain(get_args(ControlMessage), get_args(BulkMessage))
)
"""Wire tags of all messages."""

TABLES: Final = frozenset(
    {
        ARCHIVE_BLOCK_TABLE,
        ARCHIVE_COMMIT_TABLE,
        ARCHIVE_TIP_TABLE,
        BLOCK_ID_TABLE,
        BLOCK_TABLE,
        CERTIFICATE_BY_HEIGHT_TABLE,
        CERTIFICATE_TABLE,
        CHECKPOINT_TABLE,
        DELIVERY_TABLE,
        ENVELOPE_TABLE,
        EVIDENCE_TABLE,
        ORDER_SNAPSHOT_TABLE,
        OUTPUT_TABLE,
        PROPOSAL_TABLE,
        REFUSED_TABLE,
        STATE_TABLE,
        STATE_VOTE_TABLE,
        TIMEOUT_TABLE,
        VOTE_TABLE,
    }
)
"""Every table that a node writes records to."""

BATCH_WRITE: Final = "batch"
SNAPSHOT_WRITE: Final = "engine_snapshot"
DROP_WRITE: Final = "drop"

DROPPING_VIEWS: Final = 80
"""A run of so many comes to dropping records, even where nothing fails."""

WRITES: Final = TABLES | {BATCH_WRITE, SNAPSHOT_WRITE, DROP_WRITE}
"""Whatever is durable when it is done: records by their table, batches, snapshots of the engine,
and the end of records that the archive holds."""

Index = Annotated[int, Meta(ge=0, lt=HOSTS_MAX)]
"""Of a host."""
Milliseconds = Annotated[int, Meta(ge=0, le=TIME_MAX_MS)]
Permille = Annotated[int, Meta(ge=0, le=1_000)]
Hosts = Annotated[tuple[Index, ...], Meta(max_length=HOSTS_MAX)]
Kinds = Annotated[tuple[str, ...], Meta(max_length=len(KINDS))]
"""Some of `KINDS`; `validate_schedule` sees to it."""
Name = Annotated[str, Meta(max_length=NAME_MAX, pattern=r"^[A-Za-z0-9 .,:;+_()-]*$")]
