"""Committees of whole nodes in a virtual world, with traders that keep them busy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from consensus.chain import ARCHIVE_BLOCK_TABLE
from consensus.config import ConsensusConfig
from consensus.effects import Store, compute_key
from consensus.lane_certificates import CERTIFICATE_TABLE
from consensus.lane_limits import LanesConfig
from consensus.types import AvailabilityCertificate
from crypto.codec import decode, encode
from crypto.mock import derive_test_secret
from engine.genesis import EngineGenesis, GenesisDeposit, LiquidationParams
from engine.instructions import Bundle, Instruction, OracleReport, VolatilityReport
from engine.invariants import validate_all
from engine.state import EngineState
from localnet.byzantine import Behaviour, LyingNode, make_liar
from localnet.sim.disk import Batch, NodeDisk
from localnet.sim.joining import read_resumed
from localnet.sim.keys import Keys
from localnet.sim.node_world import NodeConditions, NodeWorld
from localnet.sim.oracles.books import Books
from localnet.sim.oracles.certificates import Judge
from localnet.sim.oracles.delivery import Delivery
from localnet.sim.oracles.door import Door
from localnet.sim.oracles.innocence import Innocence
from localnet.sim.oracles.justice import Justice
from localnet.sim.oracles.order import Expiry, OneOrder
from localnet.sim.oracles.promises import Promises
from localnet.sim.oracles.proof import Prosecutor
from localnet.sim.oracles.replay import ReplayDiffersError, validate_replay
from localnet.sim.oracles.signing import SignedOnce
from localnet.sim.oracles.trades import Trades
from localnet.sim.session_keys import SessionKeys, has_session_keys
from localnet.sim.traders import (
    BASE_PRICE_TICKS,
    FEE_TIERS,
    MARKETS,
    VOLATILITY_PPM,
    Traders,
    is_wild,
    make_markets,
)
from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict
from mempool.envelope import (
    NAMESPACE_ENGINE,
    BodyKind,
    Envelope,
    EnvelopeHeader,
    compute_body_digest,
)
from node.core import CoreFactory, NodeCore
from node.core_config import NodeCoreConfig
from node.events import EnvelopesSubmitted, OpaqueSubmitted
from node.genesis import FeeCredit, Genesis
from node.joining import Joiner
from node.recovery import recover_node

ACCOUNTS: Final = 6
CONVICTION_MAX_MS: Final = 20_000
"""From the end of all traffic to the last conviction: whoever has proof leads soon."""
ARCHIVED_MAX_MS: Final = 120_000
"""From the last certificate to the last record of what it covers: nothing waits for those, and what
a slow disk was asked for in a second may take it a minute."""
EXECUTED_MAX_MS: Final = 20_000
"""From a block's delivery to its execution somewhere: engines have little to do at rest."""
POLL_INTERVAL_MS: Final = 50
CALM_MS: Final = 100
"""What clients sent last has arrived by then."""
LANES_TICK_MS: Final = 50
"""Twice what real nodes take: a fifth of all events would be nothing but ticks."""
EXPIRY_HEIGHTS: Final = 100_000
"""Far away, so that nothing expires unless a test wants it."""

EXPIRY_SOON_HEIGHTS: Final = (2, 8)
"""From the lowest committed height on: about what it takes to be ordered, so that some of what
`trade` submits expires on its way."""


class NotAtRestError(BrokenRuleError):
    """Traffic has ended, and something still waits."""

    oracle = "rest"
    verdict = Verdict.LIVENESS


class NodeCluster:
    """A committee of nodes, their world, and the oracles that watch it."""

    def __init__(
        self,
        seed: int,
        count: int = 4,
        *,
        powers: Sequence[int] = (),
        conditions: NodeConditions | None = None,
        config: NodeCoreConfig | None = None,
        guilty: Sequence[int] = (),
        liars: Mapping[int, type[Behaviour]] | None = None,
        twins: Sequence[int] = (),
        followers: Sequence[int] = (),
        keys: Keys | None = None,
    ) -> None:
        """`guilty` members may be blamed; whether they lie is up to the test. `liars` run a
        behaviour and `twins` have a second host, with index `count` and up; both are guilty.
        `followers` sign nothing and promise nothing, and nobody may blame them."""
        powers = tuple(powers) or (1,) * count
        count = len(powers)
        self.liars = dict(liars or {})
        self.lying: list[LyingNode] = []
        """The lives of liars."""
        self._seed = seed
        self.twins = tuple(twins)
        self.followers = frozenset(followers)
        self.guilty = frozenset({*guilty, *self.liars, *self.twins})
        self.config = config if config is not None else make_config()
        self.keys = keys if keys is not None else Keys(powers)
        self.identity = self.keys.identity_scheme
        self.accounts = [derive_test_secret(f"account {index}") for index in range(ACCOUNTS)]
        self.oracles = [derive_test_secret(f"node{index} oracle") for index in range(count)]
        self.genesis = self._make_genesis()
        self.chain_id = self.genesis.chain_id()
        self.world = NodeWorld(seed, self.keys.scheme, self.identity, self.chain_id, conditions)
        self.members = tuple(range(count))
        self.hosts = (*self.members, *range(count, count + len(self.twins)))
        others = self.guilty | self.followers
        self.honest = tuple(index for index in self.members if index not in others)
        """Hosts that promise everything; `guilty` members promise nothing."""
        self.exempt = frozenset(self.hosts) - frozenset(self.honest)
        """All the others: of what they do, most oracles hear nothing."""
        self.expiries: dict[bytes, int] = {}
        self.genuine: dict[bytes, EnvelopeHeader] = {}
        """Envelopes that follow all rules: the rest of those in `expiries` came from who bends
        them."""
        self._watch()
        self.submitted = 0
        self._nonces = 0
        self._sequences = [0] * count
        self._trade_until_ms = 0
        self._traders = Traders(
            seed, [self.identity.public_key(secret) for secret in self.accounts]
        )
        for index in self.hosts:
            member = self.member_of(index)
            self.world.add_node(
                index,
                self._make_factory(member),
                self.genesis.engine,
                self.keys.secrets[member],
                self.keys.identity_secrets[member],
                member,
            )

    def _watch(self) -> None:
        """Add the oracles that say whether everything has come to rest, and those that need no
        more than what nodes do. `oracles.watch` adds the rest, for the run of a schedule."""
        members, exempt = self.genesis.members, self.exempt
        self.order = OneOrder(exempt)
        sessions = [derive_test_secret(f"session {index}") for index in range(ACCOUNTS)]
        named = [self.identity.public_key(secret) for secret in sessions]
        self.session_keys = SessionKeys(sessions, named, self.order.passed)
        self.promises = Promises(self.genuine, exempt)
        self.promises.is_provable = self._is_provable
        self.judge = Judge(
            self.chain_id,
            [member.power for member in members],
            [member.consensus_key for member in members],
            self.keys.scheme,
            self.config.consensus.leader_seed,
        )
        keys = [(member.consensus_key, member.identity_key) for member in members]
        prosecutor = Prosecutor(self.chain_id, keys, (self.keys.scheme, self.identity))
        self.justice = Justice(self.guilty, exempt, prosecutor, self.judge, self.find_view)
        self.delivery = Delivery(self.world, self.chain_id, exempt)
        self.door = self._make_door()
        self.books = Books(self.world, self.genesis.engine, exempt)
        self.trades = Trades(self.world.engines, self.books, exempt)
        self.world.observers += (
            self.order,
            self.promises,
            self.door,
            self.delivery,
            self.justice,
            SignedOnce(exempt),
            Innocence(self.guilty, exempt),
            self.books,
            self.trades,
            Expiry(self.expiries, exempt),
        )

    def _make_door(self) -> Door:
        def find_time_ms(index: int) -> int:
            return self.world.now_ms + self.world.hosts[index].clock_offset_ms

        delivered = self.delivery.delivered
        return Door(
            self.config.admission,
            self.genuine,
            delivered,
            find_time_ms,
            self.exempt,
            self.session_keys.find_active_height,
            lambda index: self.core(index).ledger.height,
        )

    def _make_genesis(self) -> Genesis:
        names = [self.identity.public_key(secret) for secret in self.accounts]
        for secret in self.oracles:
            self.identity.public_key(secret)
        deposits = tuple(GenesisDeposit(name, 10**12) for name in names)
        return Genesis(
            version=1,
            chain_name="simulation",
            time_ms=0,
            seed=7,
            members=self.keys.committee.members,
            engine=EngineGenesis(
                make_markets(self._seed),
                deposits,
                fee_tiers=FEE_TIERS,
                liquidation=LiquidationParams() if is_wild(self._seed) else None,
            ),
            fee_credits=tuple(FeeCredit(name, 10**9) for name in names),
        )

    def member_of(self, host: int) -> int:
        """Whom a host speaks for."""
        return host if host < len(self.members) else self.twins[host - len(self.members)]

    def _make_factory(self, member: int) -> Callable[[NodeDisk, int], NodeCore | Joiner]:
        make_core: CoreFactory = NodeCore
        if member in self.liars:
            make_core = make_liar(
                self.liars[member],
                scheme=self.keys.scheme,
                identity_scheme=self.identity,
                secret=self.keys.secrets[member],
                identity_secret=self.keys.identity_secrets[member],
                seed=self._seed,
            )

        def make(disk: NodeDisk, engine_height: int) -> NodeCore | Joiner:
            if disk.is_joining:
                return Joiner(self.chain_id, self.keys.committee, member, read_resumed(disk))
            is_following = disk.is_following or member in self.followers
            safety = None if is_following else disk.stores[Store.SAFETY]
            recovered = recover_node(self.genesis, member, safety, disk, disk, engine_height)
            config = replace(self.config, is_following=is_following)
            node = make_core(config, self.genesis, member, recovered)
            if isinstance(node, LyingNode):
                self.lying.append(node)
            return node

        return make

    # ---- control -------------------------------------------------------------------------------

    def start(self, *indices: int) -> None:
        """Start some hosts, or all that are down."""
        for index in indices or self.hosts:
            if not self.world.is_running(index):
                self.world.start(index)

    def crash(self, *indices: int) -> None:
        """Kill some hosts, or all."""
        for index in indices or self.hosts:
            self.world.crash(index)

    def wipe(self, index: int, *, is_joining: bool = False) -> None:
        """Take everything from the disk of a host that is down and of which nothing is expected:
        what it signed is forgotten, so it only follows from now on; with a snapshot of others if
        it `is_joining`, or else from the first block on."""
        assert index in self.exempt, "oracles remember what a disk held"
        disk = self.world.hosts[index].disk = NodeDisk()
        disk.is_following, disk.is_joining = True, is_joining

    def core(self, index: int) -> NodeCore:
        """A running node."""
        machine = self.world.hosts[index].machine
        assert isinstance(machine, NodeCore), "a node that runs"
        return machine

    def find_view(self, index: int) -> int | None:
        """The view of a running node; None while it only catches up."""
        core = self.core(index)
        return None if core.is_catching_up else core.view

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        self.world.run_for(duration_ms)

    # ---- traffic -------------------------------------------------------------------------------

    def make_envelope(
        self,
        secret: bytes,
        instructions: Sequence[Instruction],
        expiry_height: int = EXPIRY_HEIGHTS,
        session: bytes | None = None,
    ) -> bytes:
        """An encoded envelope with the next nonce, signed by a session key if one is given."""
        body = encode(Bundle(tuple(instructions)))
        return self._seal(BodyKind.PLAIN, body, secret, session or secret, expiry_height)

    def _seal(
        self, kind: BodyKind, body: bytes, owner: bytes, secret: bytes, expiry_height: int
    ) -> bytes:
        self._nonces += 1
        header = EnvelopeHeader(
            chain_id=self.chain_id,
            namespace=NAMESPACE_ENGINE,
            kind=kind,
            sender=self.identity.public_key(owner),
            signer=self.identity.public_key(secret),
            nonce=1_000 + self._nonces,
            expiry_height=expiry_height,
            body_digest=compute_body_digest(body),
            body_size_bytes=len(body),
        )
        self.expiries[header.envelope_id()] = expiry_height
        self.genuine[header.envelope_id()] = header
        signature = self.identity.sign(secret, header.signing_bytes())
        return encode(Envelope(header, signature, body))

    def submit(self, envelope: bytes, *nodes: int) -> None:
        """A client hands one envelope to some nodes."""
        for index in nodes:
            self.submitted += 1
            self.world.tell(index, EnvelopesSubmitted(index, self.submitted, (envelope,)))

    def report(self, member: int, price_ticks: int) -> None:
        """A member's oracle reports, through its own node."""
        self._sequences[member] += 1
        time_ms = max(self.world.now_ms - 50, 1)
        reports = [
            OracleReport(market, price_ticks, self._sequences[member], time_ms)
            for market in MARKETS
        ]
        surfaces = [
            VolatilityReport(params.market, vols, self._sequences[member], time_ms)
            for params in self.genesis.engine.markets
            if params.options is not None
            for vols in [(VOLATILITY_PPM,) * len(params.options.vol_moneyness_ppm)]
        ]
        self.submit(self.make_envelope(self.oracles[member], (*reports, *surfaces)), member)

    def trade(self, interval_ms: int, duration_ms: int) -> None:
        """Keep all nodes busy for a while: orders around a price, some of them at two nodes at
        once, reports, and opaque transactions."""
        random, world = self.world.random, self.world
        end_ms = self._trade_until_ms = world.now_ms + duration_ms

        def again(number: int) -> None:
            if end_ms != self._trade_until_ms:
                return
            if number % 12 == 0:
                for member in self.members:
                    self.report(member, BASE_PRICE_TICKS + random.randint(-20, 20))
            count = min(2 if number % 4 == 0 else 1, len(self.members))
            chosen = random.sample(self.members, count)
            account = random.randrange(ACCOUNTS)
            secret = self.accounts[account]
            make = self._traders.make
            state = self._find_engine_state()
            orders = [make(account, world.now_ms, state) for _ in range(2 * random.randint(1, 3))]
            session = None
            if has_session_keys(self._seed):
                self._authorise(*chosen)
                session = self.session_keys.find_secret(account, self.lowest_committed())
            expiry_height = EXPIRY_HEIGHTS
            if number % 5 == 0:
                lowest = self.lowest_committed()
                expiry_height = lowest + random.randint(*EXPIRY_SOON_HEIGHTS)
            self.submit(self.make_envelope(secret, orders, expiry_height, session), *chosen)
            if number % 9 == 0:
                data = random.randbytes(64 * random.randint(1, 20))
                world.tell(chosen[0], OpaqueSubmitted(chosen[0], number, 1, 64, data))
            if world.now_ms + interval_ms <= end_ms:
                world.after(interval_ms, lambda: again(number + 1))

        again(0)

    def _authorise(self, *nodes: int) -> None:
        """The next account lets its session key sign for it."""
        account = self.session_keys.next_account()
        if account is None:
            return
        secret = self.accounts[account]
        body = self.session_keys.make_body(account, self.world.now_ms)
        envelope = self._seal(BodyKind.KEYS, body, secret, secret, EXPIRY_HEIGHTS)
        self.session_keys.note(account, decode(Envelope, envelope).header.envelope_id())
        self.submit(envelope, *nodes)

    def _find_engine_state(self) -> EngineState | None:
        """What a client might have asked an honest node for."""
        running = self.running()
        return self.world.engines[running[0]].state if running else None

    def stop_trading(self) -> None:
        """No new traffic from now on."""
        self._trade_until_ms = 0

    # ---- questions -----------------------------------------------------------------------------

    def running(self) -> tuple[int, ...]:
        """The honest hosts that run."""
        return tuple(index for index in self.honest if self.world.is_running(index))

    def lowest_committed(self) -> int:
        """The lowest committed height among the honest that run."""
        return min((self.core(index).committed_height for index in self.running()), default=0)

    def lowest_certified(self) -> int:
        """The lowest certified height among the honest that run."""
        return min((self.core(index).certified_height for index in self.running()), default=0)

    def run_until(self, is_done: Callable[[], bool], duration_max_ms: int) -> bool:
        """Let time pass until `is_done`, asked every `POLL_INTERVAL_MS`, or for the duration."""
        end_ms = self.world.now_ms + duration_max_ms
        while not is_done():
            if self.world.now_ms >= end_ms:
                return False
            self.world.run_for(min(POLL_INTERVAL_MS, end_ms - self.world.now_ms))
        return True

    def run_until_certified(self, height: int, duration_max_ms: int) -> None:
        """Run until every node that runs has a height certified; `NotAtRestError` if never."""
        if not self.run_until(lambda: self.lowest_certified() >= height, duration_max_ms):
            raise NotAtRestError(f"{self.describe()}: not certified up to {height}")

    def describe(self) -> str:
        """Where every node stands."""
        lines = []
        for index in self.running():
            each = self.core(index).statistics()
            lines.append(
                f"node{index} committed {each.committed_height} delivered"
                f" {each.delivered_height} executed {each.executed_height} certified"
                f" {each.certified_height} queued {each.queued_blocks} {each.lanes}"
            )
        return "; ".join(lines)

    def settle(self, duration_max_ms: int = 60_000) -> None:
        """With all nodes up and no new traffic: everything comes to rest, and every oracle is
        asked for its final word."""
        self.start()
        self.come_to_rest(duration_max_ms)
        _, compared = self.validate_replay()
        assert compared, "there were checkpoints"

    def come_to_rest(self, duration_max_ms: int = 60_000) -> None:
        """As `settle`, with whoever runs, and without the replay."""
        self.world.run_for(CALM_MS)
        if not self.run_until(self._is_settled, duration_max_ms):
            raise NotAtRestError(f"does not come to rest: {self.describe()}")
        running = self.running()
        # Later heights order nothing, and not each of them is certified.
        last_height = max(self.order.ordered.values(), default=0)
        self.run_until_certified(last_height, duration_max_ms)
        height = self.lowest_committed()
        unarchived = self.delivery.find_unarchived
        unrecorded, find_refusal = self.promises.find_unrecorded, self.delivery.find_refusal
        self.run_until(
            lambda: (
                not unarchived(running, last_height, self.order)
                and not unrecorded(running, find_refusal)
            ),
            ARCHIVED_MAX_MS,
        )
        self.delivery.validate(running, last_height, self.order, self.expiries, self.genuine)
        self.promises.validate(
            self.order, self.expiries, self.door.taken, height, running, find_refusal
        )
        self.door.validate(self.order, self.promises.refused, running)
        self.run_until(lambda: not self.justice.outstanding(self.convictions()), CONVICTION_MAX_MS)
        self.justice.validate(self.convictions())
        self.door.validate_opaque(self.delivery.opaque, running)
        self.trades.validate(running)
        self._validate_credit(running)
        for index in running:
            validate_all(self.world.engines[index].state)

    def _validate_credit(self, running: Sequence[int]) -> None:
        if not self.order.passed.keys() <= self.genuine.keys():
            return  # Somebody bends envelopes, and paid for them.
        given = {each.account: each.amount_microquote for each in self.genesis.fee_credits}
        # What passed is known of a height once somebody has executed it.
        self.run_until(
            lambda: all(self.core(index).ledger.height <= self.books.height for index in running),
            EXECUTED_MAX_MS,
        )
        for index in running:
            ledger = self.core(index).ledger
            left = {account: ledger.credit_of(account) for account in given}
            # Orders that came late may have reached some nodes only.
            passed = [
                self.genuine[each]
                for each, height in self.order.passed.items()
                if height <= ledger.height
            ]
            self.books.validate_credit(left, given, passed, ledger.fees, f"node {index}")

    def convictions(self) -> dict[int, tuple[tuple[int, str], ...]]:
        """Who stands convicted of what, on each honest host that runs."""
        return {index: self.core(index).statistics().convictions for index in self.running()}

    def _is_settled(self) -> bool:
        """Nothing waits anywhere: what is available is ordered, and so are all batches that any
        node holds, but for those of the guilty and the dead, who may never have them certified."""
        running = self.running()
        is_whole = len(running) == len(self.hosts)
        height = self.lowest_committed()
        if self.door.find_undelivered(self.delivery.opaque, running):
            return False
        return not self.promises.outstanding(self.order, self.expiries, height) and not any(
            each.pool_envelopes
            or each.verifying_bytes
            or each.queued_blocks
            or each.lanes.blocks_owed
            or (is_whole and each.summaries_held)
            for each in (self.core(index).statistics() for index in running)
        )

    def _is_provable(self, author: int, sequence: int) -> bool:
        """Does anybody who runs hold a certificate for a place in a lane, or can get one again?"""
        if self.world.is_running(author):
            return True
        key = compute_key(author)
        stored = (self.world.disk(each).read(CERTIFICATE_TABLE, key) for each in self.running())
        return any(
            decode(AvailabilityCertificate, each).data.sequence >= sequence
            for each in stored
            if each is not None
        )

    def validate_replay(self) -> tuple[int, int]:
        """Replay the longest archive of an honest node that runs, from genesis; returns how many
        heights there were and how many checkpoints were compared. Raises `ReplayDiffersError`."""

        def read_archive(index: int) -> Mapping[bytes, bytes]:
            return self.world.disk(index).table(Store.ARCHIVE, ARCHIVE_BLOCK_TABLE)

        longest = max(self.running(), key=lambda index: len(read_archive(index)))
        batches: dict[bytes, Batch] = {}
        # What an honest host stored counts for more than what a liar did.
        for index in (*reversed(self.hosts), *self.honest):
            batches.update(self.world.disk(index).batches)
        heights, compared = validate_replay(
            self.order,
            self.genesis,
            self.world.disk(longest),
            batches,
            self.keys.scheme,
            self.identity,
        )
        if heights != len(read_archive(longest)):
            raise ReplayDiffersError(f"node {longest} archived nothing at height {heights + 1}")
        return heights, compared


def make_config(
    snapshot_interval_blocks: int = 20,
    snapshot_interval_ms: int = 60_000,
    execution_lag_max_blocks: int = 64,
    leader_seed: bytes = b"",
) -> NodeCoreConfig:
    """Frequent snapshots, and a pace that suits virtual time."""
    return NodeCoreConfig(
        consensus=ConsensusConfig(
            leader_seed=leader_seed,
            idle_interval_ms=100,
            base_view_timeout_ms=300,
            execution_lag_max_blocks=execution_lag_max_blocks,
        ),
        lanes=LanesConfig(tick_ms=LANES_TICK_MS),
        snapshot_interval_blocks=snapshot_interval_blocks,
        snapshot_interval_ms=snapshot_interval_ms,
    )
