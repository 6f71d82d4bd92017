"""One core among scripted peers: every effect is carried out at once, every message is recorded.

For tests of single rules. The script holds all keys, so it plays the whole rest of the committee.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from consensus.config import ConsensusConfig
from consensus.core import ConsensusCore
from consensus.effects import (
    Aggregate,
    Aggregated,
    Committed,
    Event,
    Misbehaviour,
    Persist,
    Received,
    Send,
    ServeCommitted,
    SetTimer,
    Sign,
    Signed,
    TimerFired,
    Verified,
    Verify,
)
from consensus.messages import Message, Proposal, Timeout, Vote
from consensus.types import QC, Block
from crypto.aggregation import Partial, aggregate_partials
from crypto.scheme import verify_claim
from localnet.sim.cluster import SimulatedPayload, make_core
from localnet.sim.disk import Disk
from localnet.sim.keys import Keys
from node.serving import read_committed

M = TypeVar("M")

FOLLOWER: Final = 3
"""Of four members under the default schedule, this one leads no view below 12."""


class Solo:
    """A running core, its disk and everything it ever asked for."""

    def __init__(
        self,
        keys: Keys | None = None,
        me: int = FOLLOWER,
        *,
        config: ConsensusConfig | None = None,
        start: bool = True,
    ) -> None:
        self.keys = keys if keys is not None else Keys()
        # A script cannot vote for the core under test, which would take it for amnesia.
        self.keys.voters = tuple(each for each in self.keys.everyone if each != me)
        self.me = me
        self.now_ms = 0
        self.config = config if config is not None else ConsensusConfig()
        self.disk = Disk()
        self.payload = SimulatedPayload()
        self.effects: list[Any] = []
        self.sent: list[tuple[tuple[int, ...], Message]] = []
        self.persists: list[Persist] = []
        self.verified_claims = 0
        self.holds_signatures = False
        """Leave `Sign` effects unanswered, as a crash between decision and message would."""
        self.holds_verdicts = False
        """Leave `Verify` effects unanswered, as a slow verifier would."""
        self._timers: dict[str, int] = {}
        self._events: deque[Event] = deque()
        if start:
            self.restart()

    # ---- control -----------------------------------------------------------------------------

    def restart(self) -> None:
        """Start, or crash and start again from the disk."""
        self._timers.clear()
        self._events.clear()
        self.core: ConsensusCore = make_core(
            self.config, self.keys, self.me, self.payload, self.disk
        )
        self._run(self.core.start(self.now_ms))

    def receive(self, sender: int, *messages: Message) -> None:
        """Messages arrive, one after another, from one member."""
        for message in messages:
            self._events.append(Received(sender, message))
            self._run(())

    def answer(self, event: Event) -> None:
        """A worker answers late, with what a test wants."""
        self._events.append(event)
        self._run(())

    def wait(self, duration_ms: int) -> None:
        """Let time pass; timers fire in order."""
        end_ms = self.now_ms + duration_ms
        while True:
            due = min(((at, name) for name, at in self._timers.items()), default=None)
            if due is None or due[0] > end_ms:
                break
            self.now_ms = max(self.now_ms, due[0])
            del self._timers[due[1]]
            self._events.append(TimerFired(due[1]))
            self._run(())
        self.now_ms = end_ms

    # ---- the host ----------------------------------------------------------------------------

    def _run(self, effects: Sequence[Any]) -> None:
        self._carry_out(effects)
        while self._events:
            self._carry_out(self.core.step(self.now_ms, self._events.popleft()))

    def _carry_out(self, effects: Sequence[Any]) -> None:
        scheme = self.keys.scheme
        self.effects.extend(effects)
        for effect in effects:
            match effect:
                case Persist():
                    self.persists.append(effect)
                    self.disk.apply(effect)
                    self.disk.drop(effect.store, effect.deletes)
                case Send(to, message):
                    self.sent.append((to, message))
                    if self.me in to:
                        self._events.append(Received(self.me, message))
                case ServeCommitted(to):
                    self.sent.append(((to,), read_committed(self.disk, effect)))
                case SetTimer(name, deadline_ms):
                    self._timers.pop(name, None)
                    if deadline_ms is not None:
                        self._timers[name] = deadline_ms
                case Sign(token, message) if not self.holds_signatures:
                    self._events.append(Signed(token, self.keys.sign(self.me, message)))
                case Verify(token, claims) if not self.holds_verdicts:
                    self.verified_claims += len(claims)
                    results = tuple(verify_claim(scheme, claim) for claim in claims)
                    self._events.append(Verified(token, results))
                case Aggregate(token, message, partials):
                    result = aggregate_partials(
                        scheme, message, [Partial(*partial) for partial in partials]
                    )
                    self._events.append(
                        Aggregated(token, result.signers, result.signature, result.culprits)
                    )
                case _:
                    pass  # Notices are in `effects`.

    # ---- questions ---------------------------------------------------------------------------

    def sent_of(self, kind: type[M]) -> list[M]:
        """The messages of one type that left, in order."""
        return [message for _, message in self.sent if isinstance(message, kind)]

    @property
    def voted_views(self) -> list[int]:
        """Views of the votes that left."""
        return [vote.data.view for vote in self.sent_of(Vote)]

    @property
    def timed_out_views(self) -> list[int]:
        """Views of the timeouts that left."""
        return [timeout.data.view for timeout in self.sent_of(Timeout)]

    @property
    def committed(self) -> list[int]:
        """Heights committed, in the order of delivery."""
        return [effect.block.height for effect in self.effects if isinstance(effect, Committed)]

    @property
    def refusals(self) -> list[str]:
        """Codes of everything refused."""
        return [effect.code for effect in self.effects if isinstance(effect, Misbehaviour)]

    @property
    def view(self) -> int:
        return self.core.statistics().view

    # ---- scripts -----------------------------------------------------------------------------

    def propose(self, block: Block) -> None:
        """The block's author proposes it."""
        self.receive(block.author, self.keys.make_proposal(block))

    def extend(self, qc: QC, view: int, **fields: Any) -> tuple[Block, QC]:
        """A block on `qc` is proposed by another member; returns it with its certificate."""
        block = self.keys.make_block(view, qc, **fields)
        self.propose(block)
        return block, self.keys.make_qc(block)

    def run_views(self, count: int, qc: QC | None = None) -> QC:
        """Good views one after another, from genesis or `qc` on; returns the last certificate."""
        last = self.keys.genesis if qc is None else qc
        for _ in range(count):
            _, last = self.extend(last, last.view + 1)
        return last

    def proposals(self) -> list[Proposal]:
        """The proposals that left."""
        return self.sent_of(Proposal)
