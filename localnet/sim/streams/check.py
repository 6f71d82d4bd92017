"""What must hold after every block of a stream, whatever was in it.

A second engine begins each block from the snapshot that the first one's state gave before it, gets
the same envelopes in another order, and has to come to the same output and the same state, byte for
byte. So what a restored node judges otherwise shows, and what hangs on an envelope's position; and
as its tree is built anew from all that there is, so does a leaf that the first one forgot.
"""

from random import Random

from msgspec.structs import replace

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput, BlockOutput
from engine.commitment.solvency import compute_solvency
from engine.errors import SnapshotError
from engine.genesis import EngineGenesis
from engine.instructions import Instruction, OnBehalf
from engine.invariants import validate_all
from engine.receipts import Status
from engine.refusals import BUNDLE_REFUSALS, EVENT_CODES, REFUSALS, SESSION_REFUSALS
from engine.schedule import decode_bundle
from engine.snapshots.whole import restore, snapshot
from engine.state import EngineState, create_state
from engine.views import view_account
from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict


class TwinError(BrokenRuleError):
    """An engine that began from the snapshot, with the envelopes in another order, differs."""

    oracle = "Twin"
    verdict = Verdict.NONDETERMINISM


class RootError(BrokenRuleError):
    """The root covers something else than the state."""

    oracle = "Root"
    verdict = Verdict.SAFETY


class CacheError(BrokenRuleError):
    """What is remembered of an account is not what it comes to."""

    oracle = "Cache"
    verdict = Verdict.SAFETY


class PoolError(BrokenRuleError):
    """A pool has paid what it never had, or a session key has spent more than it may."""

    oracle = "Pools"
    verdict = Verdict.SAFETY


class RefusalError(BrokenRuleError):
    """A code was told that the tables of the product do not know there."""

    oracle = "Refusals"
    verdict = Verdict.SAFETY


class CheckedEngine:
    """An engine, and everything that is asked of it after each block."""

    def __init__(self, genesis: EngineGenesis) -> None:
        """Raises `engine.genesis.GenesisError`."""
        self.state: EngineState = create_state(genesis)
        self._saved = snapshot(self.state)
        self._twin = _restore(self._saved, self.state.height)

    def apply(self, block: BlockInput) -> BlockOutput:
        """Carry out one block. Raises a `BrokenRuleError`, or whatever the engine raised."""
        output = apply_block(self.state, block)
        validate_all(self.state)
        before, self._saved = self._saved, snapshot(self.state)
        self._compare_twin(before, block, output)
        self._twin = _restore(self._saved, self.state.height)
        _validate_accounts(self.state)
        _validate_pools(self.state)
        validate_codes(block, output)
        _validate_references(self.state)
        compute_solvency(self.state)
        return output

    def _compare_twin(self, before: bytes, block: BlockInput, output: BlockOutput) -> None:
        """The order is another one each time, and the same whenever the block is repeated."""
        envelopes = list(block.envelopes)
        Random(block.seed).shuffle(envelopes)
        due = encode(output)
        if self._is_same(self._twin, replace(block, envelopes=tuple(envelopes)), due):
            return
        is_order = self._is_same(_restore(before, block.height - 1), block, due)
        cause = "the order of the envelopes decides" if is_order else "a restored engine differs"
        raise TwinError(f"height {block.height}: {cause}")

    def _is_same(self, twin: EngineState, block: BlockInput, due: bytes) -> bool:
        return encode(apply_block(twin, block)) == due and snapshot(twin) == self._saved


def _restore(saved: bytes, height: int) -> EngineState:
    """An engine from a snapshot. Its tree is built of all that there is, and must have the root
    that came of changes alone."""
    try:
        return restore(saved)
    except SnapshotError as error:
        raise RootError(f"height {height}: {error}") from error


def _validate_accounts(state: EngineState) -> None:
    """Equity and margin that checks go by are those that a look at all positions gives."""
    for account in state.accounts.values():
        if account.margin_epoch != state.margin_epoch:
            continue
        view = view_account(state, account.account_id)
        assert view is not None, "there is this account"
        found = (account.equity, account.im)
        due = (view.equity_microquote, view.initial_margin_microquote)
        if found != due:
            raise CacheError(f"height {state.height}: equity and margin {found}, due {due}")


def _validate_pools(state: EngineState) -> None:
    for name, amount in (
        ("settlement pool", state.settlement_pool),
        ("insurance", state.insurance),
        ("pending withdrawals", state.pending_withdrawals),
    ):
        if amount < 0:
            raise PoolError(f"height {state.height}: {name} {amount}")
    for account in state.accounts.values():
        for session in account.sessions.values():
            if session.spend_max is not None and not 0 <= session.spent <= session.spend_max:
                raise PoolError(
                    f"height {state.height}: a key spent {session.spent} of {session.spend_max}"
                )


def validate_codes(block: BlockInput, output: BlockOutput) -> None:
    """Every code is one that the tables of `engine.refusals` name for such an instruction or event.
    Raises `RefusalError`.

    The tests of the engine ask it after every block, too.
    """
    envelopes = {each.envelope_id: each for each in block.envelopes}
    bundles: dict[bytes, tuple[Instruction, ...]] = {}
    for receipt in output.receipts:
        if receipt.status is not Status.REFUSED or receipt.code in BUNDLE_REFUSALS:
            continue
        envelope = envelopes[receipt.envelope_id]
        instructions = bundles.get(receipt.envelope_id)
        if instructions is None:
            decoded = decode_bundle(envelope.body)
            assert isinstance(decoded, tuple), "it was decoded once"
            instructions = bundles[receipt.envelope_id] = decoded
        instruction = instructions[receipt.index]
        codes = REFUSALS[type(instruction)] + (SESSION_REFUSALS if envelope.signer else ())
        if isinstance(instruction, OnBehalf):
            codes += REFUSALS[type(instruction.instruction)]
        if receipt.code not in codes:
            kind = type(instruction).__name__
            raise RefusalError(
                f"height {block.height}: {kind} was refused with {receipt.code}, which REFUSALS "
                "does not have"
            )
    for event in output.events:
        known = EVENT_CODES.get(type(event))
        code = getattr(event, "code", None)
        if known is not None and code not in known:
            kind = type(event).__name__
            raise RefusalError(
                f"height {block.height}: {kind} tells {code}, which EVENT_CODES does not have"
            )


def _validate_references(state: EngineState) -> None:
    """Nothing stands in a market that is gone."""
    markets = state.markets.keys()
    found = {order.exposure.market.market_id for order in state.orders.values()}
    found |= {order.market.market_id for order in state.waiting.values()}
    found |= {market for each in state.accounts.values() for market in each.exposures}
    if not found <= markets:
        raise CacheError(f"height {state.height}: something stands in markets that are gone")
