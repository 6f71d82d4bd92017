"""Faults planted into honest nodes, each found by the oracle whose rule it breaks, by name."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

import consensus.evidence
import localnet.sim.node_world
import localnet.sim.nodes
import localnet.sim.scenario
import node.serving
from consensus.effects import Persist, Send, Sign, Signed, SignIdentity, Store, Token
from consensus.lanes import Lanes
from consensus.messages import BLOCKS_MAX_PER_RESPONSE, Ack, Message
from consensus.types import VoteData
from engine.state import EngineState
from localnet.sim.faults import LateJoinFault, WipeFault
from localnet.sim.generator import generate
from localnet.sim.mutants.plant import make_mutant, planted
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watch import WIRE_EVERY, watch_wire
from localnet.sim.oracles.wire import Wire
from localnet.sim.scenario import WEIGH_EVERY, run_schedule
from localnet.sim.schedule import Liar, Schedule, Traffic
from localnet.sim.violation import Violation
from node.core import NodeCore
from node.events import (
    BlockNotice,
    CertifiedNotice,
    DeliveredNotice,
    EnvelopesVerified,
    Execute,
    ReceiptUpdate,
)
from node.protocol import ReceiptLevel

QUIET = Schedule(seed=5, views=20)
CROWDED = Schedule(seed=8, views=20, traffic=Traffic(interval_ms=20))
"""Some orders wait until they have expired."""
BUSY = Schedule(seed=5, views=40, traffic=Traffic(interval_ms=8))
CALLED = Schedule(seed=3, views=40, traffic=Traffic(interval_ms=8))
"""With a seed whose large market calls auctions."""
PLANTED = Token("plant", 1)
"""Whatever comes back for it is nobody's."""

WAITS = (
    (localnet.sim.nodes, "ARCHIVED_MAX_MS", 2_000),
    (localnet.sim.scenario, "CATCH_UP_MAX_MS", 5_000),
    (localnet.sim.scenario, "HEAL_MAX_MS", 10_000),
    (localnet.sim.scenario, "REST_MAX_MS", 10_000),
    (localnet.sim.scenario, "VIEW_MAX_MS", 500),
)
"""How long a run waits at most: here mostly for what never comes, and each second is simulated.
What comes does so far sooner, as the tests without a fault show."""

Bend = Callable[[NodeCore, list[Any]], list[Any]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `WAITS`."""
    for module, name, wait_ms in WAITS:
        assert getattr(module, name) > wait_ms
        monkeypatch.setattr(module, name, wait_ms)


@pytest.fixture
def bend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Bend], None]:
    """Lets a function change the effects of every step of every node, unless a test says of
    which."""

    def apply(change: Bend) -> None:
        start, step = NodeCore.start, NodeCore.step

        def bent_start(self: NodeCore, now_ms: int) -> list[Any]:
            return change(self, start(self, now_ms))

        def bent_step(self: NodeCore, now_ms: int, event: Any) -> list[Any]:
            if isinstance(event, Signed) and event.token == PLANTED:
                return []
            return change(self, step(self, now_ms, event))

        monkeypatch.setattr(NodeCore, "start", bent_start)
        monkeypatch.setattr(NodeCore, "step", bent_step)

    return apply


def find_violation(schedule: Schedule = QUIET) -> Violation:
    violation = run_schedule(schedule, watch_wire).violation
    assert violation is not None
    return violation


def test_nothing_is_found_where_nothing_is_planted(bend: Callable[[Bend], None]) -> None:
    bend(lambda core, effects: effects)
    assert run_schedule(QUIET, watch_wire).violation is None


# ---- the order as clients get it -----------------------------------------------------------------


def drop(*kinds: type) -> Bend:
    return lambda core, effects: [each for each in effects if not isinstance(each, kinds)]


def drop_fifth_block(core: NodeCore, effects: list[Any]) -> list[Any]:
    return [
        each
        for each in effects
        if not (core._me == 2 and isinstance(each, BlockNotice) and each.block.height == 5)
    ]


def tell_blocks_twice(core: NodeCore, effects: list[Any]) -> list[Any]:
    is_doubled = core._me == 2
    return [
        copy
        for each in effects
        for copy in [each] * (2 if is_doubled and isinstance(each, BlockNotice) else 1)
    ]


def swap_blocks() -> Bend:
    held: list[Any] = []

    def change(core: NodeCore, effects: list[Any]) -> list[Any]:
        if core._me != 2:
            return effects
        changed: list[Any] = []
        for each in effects:
            if isinstance(each, BlockNotice) and each.block.height % 2:
                held.append(each)
                continue
            changed.append(each)
            if isinstance(each, BlockNotice):
                changed += held
                held.clear()
        return changed

    return change


def execute_twice(core: NodeCore, effects: list[Any]) -> list[Any]:
    return [
        replace(each, batches=each.batches * 2) if isinstance(each, Execute) else each
        for each in effects
    ]


@pytest.mark.parametrize(
    "change",
    [drop_fifth_block, tell_blocks_twice, swap_blocks(), drop(DeliveredNotice), execute_twice],
    ids=["dropped", "doubled", "swapped", "never delivered", "executed twice"],
)
def test_an_order_with_a_gap_or_a_repetition_is_found(
    bend: Callable[[Bend], None], change: Bend
) -> None:
    bend(change)
    assert find_violation().oracle == "Delivery"


def test_batches_that_nobody_delivers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Lanes.delivery

    def forget_some(self: Lanes, height: int) -> tuple[bytes, ...] | None:
        found = delivery(self, height)
        return None if found is None else tuple(each for each in found if each[0] % 4)

    monkeypatch.setattr(Lanes, "delivery", forget_some)
    assert find_violation().oracle == "Delivery"


def test_results_that_nobody_is_told_of_are_found(bend: Callable[[Bend], None]) -> None:
    bend(drop(CertifiedNotice))
    violation = find_violation()
    assert violation.oracle == "Delivery"
    assert "never told" in violation.detail


@pytest.mark.parametrize("table", ["delivery", "envelope"])
def test_records_that_an_archive_lacks_are_found(bend: Callable[[Bend], None], table: str) -> None:
    def forget(core: NodeCore, effects: list[Any]) -> list[Any]:
        return [
            replace(each, puts=tuple(put for put in each.puts if put.table != table))
            if core._me == 2 and isinstance(each, Persist) and each.store is Store.ARCHIVE
            else each
            for each in effects
        ]

    bend(forget)
    violation = find_violation()
    assert violation.oracle == "Delivery"
    assert "node 2" in violation.detail


# ---- receipts ------------------------------------------------------------------------------------


def withhold(*levels: ReceiptLevel) -> Bend:
    return lambda core, effects: [
        each for each in effects if not (isinstance(each, ReceiptUpdate) and each.level in levels)
    ]


@pytest.mark.parametrize(
    "levels",
    [
        (ReceiptLevel.ORDERED, ReceiptLevel.EXECUTED, ReceiptLevel.REFUSED),
        (ReceiptLevel.EXECUTED,),
        (ReceiptLevel.REFUSED,),
        (ReceiptLevel.AVAILABLE,),
        tuple(ReceiptLevel),
    ],
)
def test_receipts_that_never_come_are_found(
    bend: Callable[[Bend], None], levels: Sequence[ReceiptLevel]
) -> None:
    bend(withhold(*levels))
    assert find_violation(CROWDED).oracle == "Promises"


def test_a_node_that_throws_away_what_it_was_given_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = NodeCore.step

    def refuse_all(self: NodeCore, now_ms: int, event: Any) -> list[Any]:
        if isinstance(event, EnvelopesVerified):
            event = EnvelopesVerified(event.token, (False,) * len(event.results))
        return step(self, now_ms, event)

    monkeypatch.setattr(NodeCore, "step", refuse_all)
    violation = find_violation()
    assert violation.oracle == "Door"
    assert "was not taken" in violation.detail


# ---- the door ------------------------------------------------------------------------------------


def find_planted(target: str, old: str, new: str, schedule: Schedule = QUIET) -> Violation:
    """The violation that other source text for one function leads to."""
    with planted(make_mutant("planted", "", "", target, old, new)):
        return find_violation(schedule)


ADMISSION = "mempool.admission:Admission."


@pytest.mark.parametrize(
    ("target", "old", "new", "words"),
    [
        ("_check", "if is_full:", "if True:", "not taken: pool.full"),
        ("_check", "if is_full:", "if summary.envelope_id[0] < 128:", "not taken: pool.full"),
        ("_check", "if sender is None:\n", "if True:\n        return RefusalCode.SENDER_FULL\n"
         "    if sender is None:\n", "not taken: pool.sender_full"),
        ("_check", "if refusal is not None:", "if True:\n        return RefusalCode.EXPIRED\n"
         "    if refusal is not None:", "not taken: envelope.expired"),
        ("_check", "if refusal is not None:", "if True:\n"
         "        return RefusalCode.NONCE_DUPLICATE\n    if refusal is not None:",
         "not taken: nonce.duplicate"),
        ("_check", "if pending is not None:", "if header.nonce % 5 == 0:\n"
         "        return RefusalCode.ENVELOPE_PENDING\n    if pending is not None:",
         "not taken: envelope.pending"),
        ("admit_opaque", "cost_bytes = len(data) + ITEM_OVERHEAD_BYTES",
         "return RefusalCode.POOL_FULL\n    cost_bytes = 0", "transactions were not taken"),
    ],
)  # fmt: skip
def test_a_node_that_turns_clients_away_for_a_false_reason_is_found(
    target: str, old: str, new: str, words: str
) -> None:
    violation = find_planted(ADMISSION + target, old, new)
    assert violation.oracle == "Door"
    assert words in violation.detail


def test_an_order_that_is_taken_and_dropped_is_found() -> None:
    counted = "self.pending_bytes += size_bytes\n"
    dropped = f"{counted}    if summary.envelope_id[0] < 32: self._drop(key)\n"
    violation = find_planted(f"{ADMISSION}admit", counted, dropped)
    assert violation.oracle == "Door"
    assert "neither ordered nor expired" in violation.detail


def test_a_submission_that_is_never_answered_is_found() -> None:
    violation = find_planted(
        "node.core:NodeCore._on_envelopes_verified", "out.append(reply)", "pass"
    )
    assert violation.oracle == "Door"
    assert "never answered" in violation.detail


def test_a_receipt_for_another_account_is_found() -> None:
    told = "ReceiptUpdate(envelope_id, account, level, height, None)"
    violation = find_planted(
        "node.clerk:Clerk.tell_passed", told, told.replace("account", "bytes(32)")
    )
    assert violation.oracle == "Promises"
    assert "told to another account" in violation.detail


def test_an_envelope_that_the_ledger_refuses_without_a_reason_is_found() -> None:
    violation = find_planted(
        "mempool.ledger:HeaderLedger._apply_envelope",
        "if refusal is not None:",
        "if refusal is None and envelope.header.nonce % 7 == 0:\n"
        "        refusal = RefusalCode.NONCE_DUPLICATE\n"
        "    if refusal is not None:",
    )
    assert violation.oracle in ("Delivery", "Door")


# ---- signatures ----------------------------------------------------------------------------------


def sign_another_vote(core: NodeCore, effects: list[Any]) -> list[Any]:
    vote = VoteData(0, 7, 7, bytes(32)).signing_bytes(core.chain_id)
    signs = core._me == 2 and any(isinstance(each, Sign) for each in effects)
    return [*effects, Sign(PLANTED, vote)] if signs else effects


def record_another_vote(core: NodeCore, effects: list[Any]) -> list[Any]:
    """With a record that never becomes durable, since none is written."""
    changed: list[Any] = []
    for each in effects:
        changed.append(each)
        if core._me == 2 and isinstance(each, Persist) and each.store is Store.SAFETY:
            votes = [put for put in each.puts if put.table == "vote"]
            if votes:
                rival = VoteData(0, int.from_bytes(votes[0].key, "big"), 1, bytes(32))
                changed.append(Sign(PLANTED, rival.signing_bytes(core.chain_id)))
    return changed


def sign_another_header(core: NodeCore, effects: list[Any]) -> list[Any]:
    changed = list(effects)
    for each in effects:
        if core._me == 2 and isinstance(each, SignIdentity):
            changed.append(SignIdentity(PLANTED, each.message[::-1]))
    return changed


@pytest.mark.parametrize("change", [sign_another_vote, record_another_vote, sign_another_header])
def test_a_second_signature_is_found_though_it_never_leaves(
    bend: Callable[[Bend], None], change: Bend
) -> None:
    bend(change)
    assert find_violation().oracle == "SignatureRequests"


def name_another_record(core: NodeCore, effects: list[Any]) -> list[Any]:
    return [
        replace(each, after=(PLANTED,)) if core._me == 2 and isinstance(each, Send) else each
        for each in effects
    ]


def test_a_message_that_waits_for_a_record_that_nobody_asked_for_is_found(
    bend: Callable[[Bend], None],
) -> None:
    """It never leaves, and a member that says nothing is borne; a host that only remembers what
    is not durable yet would have let it go at once."""
    bend(name_another_record)
    assert find_violation().oracle == "durable first"


# ---- the wire ------------------------------------------------------------------------------------

BEHIND = Schedule(seed=3, views=110, faults=(LateJoinFault(at_ms=0, duration_ms=5_000, host=3),))
"""Host 3 comes once there are more blocks than one answer holds."""


def test_an_answer_that_no_node_would_decode_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed from node to node as it is, and the one that lags catches up by it."""
    monkeypatch.setattr(node.serving, "BLOCKS_MAX_PER_RESPONSE", 10 * BLOCKS_MAX_PER_RESPONSE)
    assert run_schedule(BEHIND).violation is None
    violation = find_violation(BEHIND)
    assert violation.oracle == "Wire"
    assert "CommittedResponse is refused" in violation.detail


def test_a_message_that_breaks_its_own_type_is_found(
    bend: Callable[[Bend], None],
) -> None:
    """An acknowledgement whose signature is no bytes, for which nobody in the simulator cares
    before it comes to the signature."""

    def spoil(core: NodeCore, effects: list[Any]) -> list[Any]:
        return [
            replace(each, message=replace(each.message, signature=list(each.message.signature)))
            if isinstance(each, Send) and isinstance(each.message, Ack)
            else each
            for each in effects
        ]

    bend(spoil)
    assert find_violation().oracle == "Wire"


def test_one_run_in_some_is_held_to_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Message] = []
    monkeypatch.setattr(Wire, "on_sent", lambda wire, index, message: said.append(message))
    run_schedule(Schedule(seed=WIRE_EVERY + 1, views=3))
    assert not said
    run_schedule(Schedule(seed=WIRE_EVERY, views=3))
    assert said


# ---- evidence ------------------------------------------------------------------------------------


def test_evidence_that_the_product_cannot_verify_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute = consensus.evidence.compute_evidence_claims

    def compute_wrong_ones(evidence: Any, committee: Any, chain_id: bytes) -> Any:
        claims = compute(evidence, committee, chain_id)
        if not isinstance(evidence, consensus.evidence.DoubleVote):
            return claims
        return tuple(replace(each, message=bytes(32)) for each in claims)

    users = [each for each in sys.modules.values() if vars(each).get(compute.__name__) is compute]
    for module in users:
        monkeypatch.setattr(module, compute.__name__, compute_wrong_ones)
    liars = (Liar(member=1, behaviour="double_vote"),)
    violation = find_violation(Schedule(seed=1, views=25, liars=liars))
    assert violation.oracle == "Justice"
    assert "refuses a signature of 1, and all were good" in violation.detail


# ---- the engine's books --------------------------------------------------------------------------


def mint(state: EngineState) -> None:
    account = next(iter(state.accounts.values()))
    account.quote += 1_000
    state.deposits_total += 1_000
    state.mark_dirty(account)


def rob(state: EngineState) -> None:
    one, other, *_ = state.accounts.values()
    one.quote += 1_000
    other.quote -= 1_000
    state.mark_dirty(one)
    state.mark_dirty(other)


def embezzle_fees(state: EngineState) -> None:
    state.fees -= 7
    state.insurance += 7


@pytest.mark.parametrize("crime", [mint, rob, embezzle_fees])
def test_cooked_books_are_found(
    monkeypatch: pytest.MonkeyPatch, crime: Callable[[EngineState], None]
) -> None:
    apply = localnet.sim.node_world.apply_block

    def apply_and_steal(state: EngineState, block: Any) -> Any:
        crime(state)
        return apply(state, block)

    monkeypatch.setattr(localnet.sim.node_world, "apply_block", apply_and_steal)
    assert find_violation().oracle == "Books"


@pytest.mark.parametrize(
    ("target", "old", "new", "words"),
    [
        ("mempool.batcher:Batcher.add_opaque", "kind = (namespace, transaction_size_bytes)\n",
         "if data[0] < 128: return\n    kind = (namespace, transaction_size_bytes)\n", "does not"),
        ("mempool.batcher:Batcher._serve_opaque",
         "filling.opaque.setdefault(flow.kind, []).append(piece)",
         "filling.opaque.setdefault(flow.kind, []).extend((piece, piece))", "ordered again"),
    ],
)  # fmt: skip
def test_opaque_transactions_that_are_lost_or_doubled_are_found(
    target: str, old: str, new: str, words: str
) -> None:
    violation = find_planted(target, old, new)
    assert violation.oracle in ("Door", "rest")
    assert words in violation.detail


def test_a_refusal_that_no_archive_knows_is_found() -> None:
    told = "self._refuse(entry.envelope_id, height, code, out)"
    violation = find_planted("node.clerk:Clerk.tell_refused", f"puts.append({told})", told, BUSY)
    assert violation.oracle == "Promises"
    assert "its archive knows nothing of it" in violation.detail


@pytest.mark.parametrize("fee", ["0", "2 * fee"])
def test_a_wrong_fee_is_found(fee: str) -> None:
    charged = "account.credit_microquote -= "
    violation = find_planted(
        "mempool.ledger:HeaderLedger._apply_envelope", f"{charged}fee", f"{charged}{fee}"
    )
    assert violation.oracle == "Books"
    assert "has credit" in violation.detail


# ---- trades --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "old", "new"),
    [
        ("trading.matching:compute_threshold", "return -price if side > 0 else price",
         "return (-price if side > 0 else price) - 1_000"),
        ("trading.matching:match_order", "opposite.levels[keys[-1]].head",
         "opposite.levels[next(k for k in keys if k >= threshold)].head"),
        ("trading.matching:match_order", "opposite.levels[keys[-1]].head",
         "opposite.levels[keys[-1]].tail"),
        ("trading.matching:match_order", "if maker.exposure.account is account:", "if False:"),
        ("trading.matching:_trade", "resting = maker.lots - lots",
         "resting = maker.lots - lots + 1"),
        ("trading.matching:is_fok_fillable", "opposite = ", "return True\n    opposite = "),
        ("waiting.waitlist:cancel_everything", "remove_order(state, each)", "pass"),
        ("trading.cancellation:cancel_order", "remove_order(run.state, order)", "pass"),
        ("trading.cancellation:amend_order", "Side(order.side),", "Side(-order.side),"),
        ("trading.placement:_execute", "if tif is _IOC:", "if False:"),
        ("commitment.root:encode_account", "compute_orders_digest(account)", "bytes(32)"),
        ("commitment.root:compute_state_root",
         "changes[account_key(account.account_id)] = encode_account(account)", "pass"),
        ("order_phases:split_placements", "makers_queue.append(task)", "takers_queue.append(task)"),
        ("trading.placement:check_risk", "if account.equity + change >= im:", "if False:"),
    ],
)  # fmt: skip
def test_an_engine_that_trades_by_other_rules_is_found(target: str, old: str, new: str) -> None:
    assert find_planted(f"engine.{target}", old, new, BUSY).oracle == "Trades"


@pytest.mark.parametrize(
    ("target", "old", "new"),
    [
        ("clearing:clear", "min(max(reference, floor), ceiling)", "floor"),
        ("clearing:_share_out", "margin[position].filled += 1",
         "margin[-1 - position].filled += 1"),
        ("call_auction:CallAuction._charge", "if offer.is_taker:",
         "if offer.is_taker and offer.order.side > 0:"),
        ("resting:prevent_self_trade",
         "return lots if mode == SelfTradeMode.CANCEL_MAKER else 0",
         "return 0 if mode == SelfTradeMode.CANCEL_TAKER else lots"),
    ],
)  # fmt: skip
def test_an_engine_that_calls_auctions_by_other_rules_is_found(
    target: str, old: str, new: str
) -> None:
    assert find_planted(f"engine.trading.{target}", old, new, CALLED).oracle == "Trades"


# ---- memory, lost and held -----------------------------------------------------------------------

WIPED = Schedule(seed=3, views=30, faults=(WipeFault(at_ms=300, duration_ms=100, host=3),))
LATE = Schedule(seed=3, views=30, faults=(LateJoinFault(at_ms=0, duration_ms=400, host=3),))


def count_lives_of_last(monkeypatch: pytest.MonkeyPatch, dead_from_life: int) -> None:
    """From one of its lives on, host 3 starts and does nothing."""
    start, step = NodeCore.start, NodeCore.step
    lives: list[NodeCore] = []

    def is_dead(core: NodeCore) -> bool:
        return core in lives[dead_from_life - 1 :]

    def start_and_count(self: NodeCore, now_ms: int) -> list[Any]:
        if self._me == 3:
            lives.append(self)
        return [] if is_dead(self) else start(self, now_ms)

    def step_if_alive(self: NodeCore, now_ms: int, event: Any) -> list[Any]:
        return [] if is_dead(self) else step(self, now_ms, event)

    monkeypatch.setattr(NodeCore, "start", start_and_count)
    monkeypatch.setattr(NodeCore, "step", step_if_alive)


def test_a_node_with_an_emptied_disk_comes_to_where_the_others_are() -> None:
    outcome = run_schedule(WIPED)
    assert outcome.violation is None
    assert outcome.coverage["joined.amnesiac"] == 1


def test_a_node_with_an_emptied_disk_that_never_catches_up_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count_lives_of_last(monkeypatch, 2)
    assert find_violation(WIPED).oracle == "Joining"


def test_a_node_that_comes_late_promises_as_much_as_all_others() -> None:
    found: list[NodeCluster] = []
    outcome = run_schedule(LATE, found.append)
    assert outcome.violation is None
    assert outcome.coverage["joined.late"] == outcome.coverage["fault.late_join"] == 1
    assert found[0].running() == (0, 1, 2, 3)
    assert found[0].delivery.noticed[3] > 0


def test_a_node_that_comes_late_and_stays_behind_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count_lives_of_last(monkeypatch, 1)
    assert find_violation(LATE).oracle == "liveness"


def test_the_generator_lets_some_come_late_who_are_not_guilty() -> None:
    schedules = [generate(seed) for seed in range(200)]
    late = [
        (fault.host, schedule)
        for schedule in schedules
        for fault in schedule.faults
        if isinstance(fault, LateJoinFault)
    ]
    assert late
    assert all(host not in schedule.byzantine() for host, schedule in late)


def test_what_no_statistics_count_is_weighed(bend: Callable[[Bend], None]) -> None:
    """Each event leaves a kilobyte behind."""

    def leak(core: NodeCore, effects: list[Any]) -> list[Any]:
        core.__dict__.setdefault("_leak", []).append(bytes(1_000))
        return effects

    assert QUIET.seed % WEIGH_EVERY == 0
    assert run_schedule(QUIET).coverage["memory.weighed"] == 1
    bend(leak)
    assert find_violation().oracle == "MemoryWeight"
