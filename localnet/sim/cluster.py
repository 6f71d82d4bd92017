"""Committees of consensus cores in a virtual world, with payloads that need no mempool."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from consensus.chain import ARCHIVE_TIP_KEY, ARCHIVE_TIP_TABLE
from consensus.config import ConsensusConfig
from consensus.core import ConsensusCore
from consensus.effects import Alarm, Committed, EvidenceFound, Halt, Misbehaviour, Persist, Store
from consensus.recovery import recover
from consensus.types import AvailabilityCertificate, Block, StateCertificate
from crypto.scheme import SignatureScheme
from localnet.sim.disk import Disk
from localnet.sim.keys import CHAIN_ID, GENESIS_TIME_MS, Keys
from localnet.sim.network import Conditions, Machine, World
from localnet.sim.oracles.signing import SignedOnce
from localnet.sim.oracles.watchers import Watcher


class SimulatedPayload:
    """The world's lanes as one node sees them: everything certified is at hand at once."""

    def __init__(self) -> None:
        self.tips: dict[int, AvailabilityCertificate] = {}
        self.state_certificate: StateCertificate | None = None
        self.evidence: list[bytes] = []

    def certified_tips(self) -> Mapping[int, AvailabilityCertificate]:
        return self.tips

    def newest_state_certificate(self) -> StateCertificate | None:
        return self.state_certificate

    def pending_evidence(self) -> tuple[bytes, ...]:
        return tuple(self.evidence)


class Agreement(Watcher):
    """One block a height, for ever; each node commits every height once in each of its lives,
    rising without gaps from where its archive ends."""

    effects = (Committed,)

    def __init__(self, byzantine: frozenset[int] = frozenset()) -> None:
        self.exempt = byzantine
        self.chain: dict[int, bytes] = {}
        self.blocks: dict[int, Block] = {}
        self.heights: dict[int, int] = {}
        """Highest height committed by each machine in any of its lives."""
        self._life: dict[int, int | None] = {}
        self._archived: dict[int, int] = {}

    def on_start(self, index: int) -> None:
        self._life[index] = None

    def forget_archive(self, index: int) -> None:
        """A machine's archive was taken away: its next life starts from genesis."""
        self._archived.pop(index, None)

    def on_effect(self, index: int, effect: Any) -> None:
        if not isinstance(effect, Committed):
            return
        height = effect.block.height
        previous = self._life[index]
        expected = (self._archived.get(index, 0) if previous is None else previous) + 1
        assert height == expected, f"node {index} committed height {height} after {expected - 1}"
        self._life[index] = height
        held = self.chain.setdefault(height, effect.block_id)
        assert held == effect.block_id, (
            f"node {index} disagrees at height {height}: block {effect.block_id.hex()[:8]}, not"
            f" {held.hex()[:8]}"
        )
        self.blocks.setdefault(height, effect.block)
        assert effect.qc.block_id == effect.block_id, "a commit comes with the block's own QC"
        assert effect.block.parent_id == self.chain.get(height - 1, effect.block.parent_id)
        self.heights[index] = max(self.heights.get(index, 0), height)

    def on_durable(self, index: int, persist: Persist) -> None:
        if persist.store is Store.ARCHIVE:
            heights = [
                int.from_bytes(put.key, "big") for put in persist.puts if put.table == "block"
            ]
            self._archived[index] = max([self._archived.get(index, 0), *heights])


class Blame(Watcher):
    """Only the byzantine are ever refused, convicted, or make anybody halt."""

    effects = (Misbehaviour, EvidenceFound, Halt, Alarm)

    def __init__(self, byzantine: frozenset[int] = frozenset()) -> None:
        self.exempt = self._byzantine = byzantine
        self.refusals: list[tuple[int, int, str]] = []
        """(who refused, whom, code)."""
        self.evidence: list[EvidenceFound] = []

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case Misbehaviour(member, code, detail):
                self.refusals.append((index, member, code))
                assert member in self._byzantine, f"{index} blames {member}: {code} {detail}"
            case EvidenceFound(offender, _):
                self.evidence.append(effect)
                assert offender in self._byzantine, f"{index} convicts the honest {offender}"
            case Halt(code, detail):
                raise AssertionError(f"{index} halts: {code} {detail}")
            case Alarm(code, detail):
                raise AssertionError(f"{index} raises an alarm: {code} {detail}")
            case _:
                pass


class _Executor(Watcher):
    """Certifies the state of every so many committed heights, as soon as one node commits."""

    def __init__(self, keys: Keys, payload: SimulatedPayload, interval: int) -> None:
        self._keys = keys
        self._payload = payload
        self._interval = interval

    def on_effect(self, index: int, effect: Any) -> None:
        if not isinstance(effect, Committed) or effect.block.height % self._interval:
            return
        held = self._payload.state_certificate
        if held is None or held.header.height < effect.block.height:
            certificate = self._keys.certify_state(effect.block.height, effect.block_id)
            self._payload.state_certificate = certificate


def make_core(
    config: ConsensusConfig, keys: Keys, index: int, payload: SimulatedPayload, disk: Disk
) -> ConsensusCore:
    """A core from what is durable; an observer if `index` is beyond the committee."""
    return ConsensusCore(
        config,
        CHAIN_ID,
        keys.committee,
        index if index < len(keys.committee) else None,
        payload,
        recover(
            CHAIN_ID,
            keys.committee,
            GENESIS_TIME_MS,
            disk.stores[Store.SAFETY],
            disk.table(Store.ARCHIVE, ARCHIVE_TIP_TABLE).get(ARCHIVE_TIP_KEY),
        ),
    )


Wrap = Callable[[ConsensusCore, int], Machine]
"""Turns an honest core into something else, e.g. a byzantine one."""


class Cluster:
    """A committee of cores, their world and the oracles that watch it."""

    def __init__(
        self,
        seed: int,
        powers: Sequence[int] = (1, 1, 1, 1),
        *,
        conditions: Conditions | None = None,
        config: ConsensusConfig | None = None,
        byzantine: Mapping[int, Wrap] | None = None,
        observers: int = 0,
        certify_interval: int = 8,
        scheme: SignatureScheme | None = None,
    ) -> None:
        self.config = config if config is not None else ConsensusConfig()
        self.keys = Keys(powers, scheme, leader_seed=self.config.leader_seed)
        self.committee = self.keys.committee
        self.schedule = self.keys.schedule
        self.world = World(seed, self.keys.scheme, conditions)
        self.payload = SimulatedPayload()
        self._wraps = dict(byzantine or {})
        traitors = frozenset(self._wraps)
        self.agreement = Agreement(traitors)
        self.signed_once = SignedOnce(traitors)
        self.blame = Blame(traitors)
        executor = _Executor(self.keys, self.payload, certify_interval)
        self.world.observers += [self.agreement, self.signed_once, self.blame, executor]
        self.members = tuple(range(len(powers)))
        self.honest = tuple(index for index in self.members if index not in traitors)
        for index in range(len(powers) + observers):
            secret = self.keys.secrets[index] if index < len(powers) else b""
            self.world.add(index, self._make_factory(index), secret)

    def _make_factory(self, index: int) -> Callable[[Disk], Machine]:
        def factory(disk: Disk) -> Machine:
            core = make_core(self.config, self.keys, index, self.payload, disk)
            wrap = self._wraps.get(index)
            return core if wrap is None else wrap(core, index)

        return factory

    # ---- control -------------------------------------------------------------------------------

    def start(self, *indices: int) -> None:
        """Start some machines, or all."""
        for index in indices or tuple(self.world.hosts):
            if not self.world.is_running(index):
                self.world.start(index)

    def submit(self, author: int) -> int:
        """Certify the next batch of a lane, and tell every node; returns its sequence."""
        held = self.payload.tips.get(author)
        sequence = 1 if held is None else held.data.sequence + 1
        self.payload.tips[author] = self.keys.certify_lane(author, sequence)
        for index in self.members:
            self.world.poke(index, lambda machine: machine.on_payload(self.world.now_ms))
        return sequence

    def submit_every(self, interval_ms: int, until_ms: int) -> None:
        """Keep the lanes busy, in turn."""

        def again(number: int) -> None:
            self.submit(number % len(self.committee))
            if self.world.now_ms + interval_ms <= until_ms:
                self.world.after(interval_ms, lambda: again(number + 1))

        self.world.after(interval_ms, lambda: again(0))

    def core(self, index: int) -> ConsensusCore:
        """The running core of an honest node."""
        machine = self.world.hosts[index].machine
        assert isinstance(machine, ConsensusCore), "an honest node that runs"
        return machine

    # ---- questions -----------------------------------------------------------------------------

    def height(self, index: int) -> int:
        """What a node committed so far, in all its lives."""
        return self.agreement.heights.get(index, 0)

    def lowest_height(self, indices: Sequence[int] | None = None) -> int:
        """What all of some nodes (the honest ones) committed."""
        return min(self.height(index) for index in (indices or self.honest))

    def run_until_height(
        self, height: int, duration_max_ms: int, indices: Sequence[int] | None = None
    ) -> None:
        """Run until some nodes (the honest ones) committed a height; AssertionError if never."""
        chosen = self.honest if indices is None else indices
        done = self.world.run_until(lambda: self.lowest_height(chosen) >= height, duration_max_ms)
        heights = {index: self.height(index) for index in chosen}
        assert done, f"height {height} not reached in {duration_max_ms} ms: {heights}"
