"""`node.toml`: what an operator may decide about one node.

Nothing here changes what the chain means: that stands in `genesis.json`. The structs below are the
only description of the file: its comments, `rota config show`, the environment names and the
reference page are all derived from them. `node.config_file` reads and writes the file.
"""

from typing import Annotated, Final, Literal, NamedTuple

from msgspec import Meta, Struct, field

from mempool.batcher import BATCH_FILL_MAX_BYTES
from node.exit_codes import ExitCode, OperatorError

CONFIG_VERSION: Final = 1
NODE_NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,31}$"
NODE_NAME_RULE: Final = "1 to 32 of a-z, 0-9 and -, the first a letter"
"""The pattern in words. A name is a table of this file and part of variables: it needs no quotes
there."""


class ConfigError(OperatorError):
    """The configuration cannot be used."""

    code = "config.invalid"
    exit_code = ExitCode.CONFIG


class Endpoint(NamedTuple):
    """A TCP address."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read `host:port` or `[v6-address]:port`; raises `ValueError` with the reason."""
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:9100")
    if not separator or not host:
        raise ValueError(f"{text!r} is not host:port")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
    return Endpoint(host, int(port))


NodeName = Annotated[str, Meta(pattern=NODE_NAME_PATTERN)]
Address = Annotated[str, Meta(min_length=3, max_length=261)]


class NodeSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who this node is."""

    name: Annotated[
        str,
        Meta(
            pattern=NODE_NAME_PATTERN,
            description="Name of this node's member in genesis.json; also in its log.",
        ),
    ]
    accept_weak_keystores: Annotated[
        bool,
        Meta(description="Open keystores with the cheap key derivation of localnets."),
    ] = False
    follow: Annotated[
        bool,
        Meta(
            description="Follow the chain and sign nothing; an empty disk joins by a snapshot of "
            "the other members."
        ),
    ] = False


class PeerSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The port for the other members."""

    listen: Annotated[
        Address, Meta(description="Address for the other members; host:port, no name lookup.")
    ] = "127.0.0.1:9100"

    def endpoint(self) -> Endpoint:
        return parse_endpoint(self.listen)


class DoorSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The port for traders and tools."""

    listen: Annotated[
        Address,
        Meta(description="Address of the order door. It is not encrypted: keep it on loopback."),
    ] = "127.0.0.1:9101"

    def endpoint(self) -> Endpoint:
        return parse_endpoint(self.listen)


class PeerEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to reach one other member."""

    address: Annotated[Address, Meta(description="Where that member listens; host:port.")]
    certificate: Annotated[
        bytes,
        Meta(description="The member's TLS certificate, DER in base64; no other is accepted."),
    ]

    def endpoint(self) -> Endpoint:
        return parse_endpoint(self.address)


class ConsensusSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One node's own pace (`consensus.config`, `consensus.lane_limits`); members may differ."""

    min_block_interval_ms: Annotated[
        int,
        Meta(ge=1, le=60_000, description="Pause between two blocks while there is work."),
    ] = 20
    idle_interval_ms: Annotated[
        int,
        Meta(ge=1, le=60_000, description="Pause between two blocks while there is none."),
    ] = 200
    base_view_timeout_ms: Annotated[
        int,
        Meta(ge=50, le=600_000, description="A leader that is silent for this long is given up."),
    ] = 1_000
    straggler_wait_ms: Annotated[
        int,
        Meta(ge=0, le=1_000, description="A quorum of votes waits this long for the other votes."),
    ] = 1
    clock_drift_ms: Annotated[
        int,
        Meta(ge=1, le=600_000, description="Blocks further ahead of this clock wait for a vote."),
    ] = 500
    block_age_max_ms: Annotated[
        int,
        Meta(ge=1, le=600_000, description="Fresh blocks older than this get no vote."),
    ] = 10_000
    sync_retry_ms: Annotated[
        int,
        Meta(ge=1, le=600_000, description="A block asked for in vain is asked of another member."),
    ] = 500
    ack_interval_ms: Annotated[
        int,
        Meta(ge=1, le=10_000, description="Least time between two acknowledgements of one lane."),
    ] = 5


class MempoolSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How envelopes become batches (`mempool.batcher`, `mempool.admission`)."""

    batch_interval_ms: Annotated[
        int, Meta(ge=1, le=10_000, description="An envelope waits at most this long for a batch.")
    ] = 2
    batch_size_bytes: Annotated[
        int,
        Meta(
            ge=70_000,
            le=BATCH_FILL_MAX_BYTES,
            description="A batch of this size leaves without waiting.",
        ),
    ] = BATCH_FILL_MAX_BYTES
    pool_count: Annotated[
        int,
        Meta(ge=1, le=1 << 22, description="Envelopes taken and not yet ordered; then no more."),
    ] = 1 << 16
    pool_size_bytes: Annotated[
        int,
        Meta(ge=1 << 20, le=1 << 34, description="The same bound in encoded bytes."),
    ] = 64 << 20


class StorageSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept on disk."""

    snapshot_interval_blocks: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="The state is saved every so many blocks."),
    ] = 1_000
    snapshot_interval_ms: Annotated[
        int,
        Meta(ge=1_000, le=86_400_000, description="And when so much time has passed on the chain."),
    ] = 60_000


class LogSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is written down."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least level that is logged."),
    ] = "info"
    format: Annotated[
        Literal["auto", "pretty", "json", "none"],
        Meta(description="Log lines on stderr; auto is pretty on a terminal, else json."),
    ] = "auto"
    file_size_max_bytes: Annotated[
        int,
        Meta(ge=1 << 16, le=1 << 34, description="log/node.jsonl is rotated at this size."),
    ] = 32 << 20
    files_max: Annotated[
        int, Meta(ge=1, le=100, description="Rotated log files kept besides the current one.")
    ] = 4


class LimitsSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds on what others can take from this node."""

    door_connections_max: Annotated[
        int, Meta(ge=1, le=100_000, description="Clients connected to the order door at once.")
    ] = 1_000
    door_send_queue_bytes: Annotated[
        int,
        Meta(
            ge=1 << 16,
            le=1 << 30,
            description="Unsent bytes per client; beyond it the client is cut off as too slow.",
        ),
    ] = 8 << 20
    door_idle_timeout_ms: Annotated[
        int,
        Meta(
            ge=1_000,
            le=86_400_000,
            description="A client without subscription that is silent for this long is cut off.",
        ),
    ] = 300_000
    crypto_workers: Annotated[
        int, Meta(ge=1, le=64, description="Processes that check signatures and batches.")
    ] = 1


class NodeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `node.toml`."""

    version: Annotated[
        int, Meta(ge=1, description="Version of this file's layout; this program reads 1.")
    ]
    node: NodeSection
    peer: PeerSection = field(default_factory=PeerSection)
    door: DoorSection = field(default_factory=DoorSection)
    consensus: ConsensusSection = field(default_factory=ConsensusSection)
    mempool: MempoolSection = field(default_factory=MempoolSection)
    storage: StorageSection = field(default_factory=StorageSection)
    log: LogSection = field(default_factory=LogSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    peers: dict[NodeName, PeerEntry] = field(default_factory=dict)
