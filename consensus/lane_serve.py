"""Serving stored batches to peers, within an allowance for each.

Nothing is looked up that a peer does not name by digest, and no body passes through here: the host
reads it from the store and skips what it does not have. Over its allowance a peer gets nothing;
it asks again later, or somebody else.
"""

from collections.abc import Container
from dataclasses import dataclass, field

from consensus.effects import Effect, ServeBatches
from consensus.lane_chain import LaneChain
from consensus.lane_limits import SERVE_WINDOW_MS, LanesConfig
from consensus.messages import (
    BATCHES_MAX_PER_REQUEST,
    SYNC_RESPONSE_MAX_BYTES,
    BatchRequest,
    LaneRequest,
)
from crypto.types import BATCH_BODY_MAX_BYTES


@dataclass
class ServeMeter:
    """Counts what each peer pulled in the current window of `SERVE_WINDOW_MS`."""

    config: LanesConfig
    _windows: dict[int, tuple[int, int]] = field(default_factory=dict)

    def charge(self, now_ms: int, peer: int, size_bytes: int) -> bool:
        """Take this much from the peer's allowance; False, and nothing taken, if it is spent."""
        window = now_ms // SERVE_WINDOW_MS
        counted, used = self._windows.get(peer, (window, 0))
        if counted != window:
            used = 0
        if used + size_bytes > self.config.served_size_max_bytes_per_window:
            return False
        self._windows[peer] = (window, used + size_bytes)
        return True


class LaneServer:
    """Answers `LaneRequest` and `BatchRequest`."""

    def __init__(
        self, config: LanesConfig, chains: list[LaneChain], unsound: Container[bytes]
    ) -> None:
        """`unsound`: stored batches that failed their check."""
        self._chains = chains
        self._unsound = unsound
        self._meter = ServeMeter(config)

    def serve_lane(self, now_ms: int, peer: int, request: LaneRequest) -> list[Effect]:
        """Serve a stretch of a lane, newest first, as far as its headers are in memory; beyond
        that the tip alone, which tells the requester its parent."""
        chain = next((chain for chain in self._chains if request.tip in chain), None)
        if chain is None:
            return self._serve(now_ms, peer, [request.tip])
        ids: list[bytes] = []
        link = chain.find(request.tip)
        while link is not None and link.is_ready and link.sequence > request.above_sequence:
            if len(ids) >= BATCHES_MAX_PER_REQUEST:
                break
            ids.append(link.batch_id)
            link = chain.find(link.signed_header.header.parent)
        return self._serve(now_ms, peer, ids)

    def serve_batches(self, now_ms: int, peer: int, request: BatchRequest) -> list[Effect]:
        """Serve batches by digest, each once."""
        return self._serve(now_ms, peer, list(dict.fromkeys(request.batch_ids)))

    def _serve(self, now_ms: int, peer: int, batch_ids: list[bytes]) -> list[Effect]:
        """The response ends with the batch that reaches `SYNC_RESPONSE_MAX_BYTES`, as far as
        sizes are known here; an unknown one costs the allowance of the largest."""
        served: list[bytes] = []
        total_bytes = 0
        for batch_id in batch_ids:
            if not self._is_sound(batch_id):
                continue
            size_bytes = self._find_size_bytes(batch_id)
            cost_bytes = BATCH_BODY_MAX_BYTES if size_bytes is None else size_bytes
            if total_bytes >= SYNC_RESPONSE_MAX_BYTES:
                break
            if not self._meter.charge(now_ms, peer, cost_bytes):
                break
            served.append(batch_id)
            total_bytes += size_bytes or 0
        return [ServeBatches(peer, tuple(served))] if served else []

    def _is_sound(self, batch_id: bytes) -> bool:
        """An author may have planted a bad copy here: whoever passes it on would be blamed."""
        link = next((found for chain in self._chains if (found := chain.find(batch_id))), None)
        return batch_id not in self._unsound if link is None else link.is_ready

    def _find_size_bytes(self, batch_id: bytes) -> int | None:
        for chain in self._chains:
            link = chain.find(batch_id)
            if link is not None:
                return link.signed_header.header.size_bytes
        return None
