"""Joining a chain by a snapshot: the machine of a node whose disk is empty.

    ask      every member for its newest snapshot, once a round
    choose   an offer whose signatures verify; first one that honest power gives alike, for which
             another is left at any time
    fetch    its pieces, from several members at once, each piece by its digest
    restore  the host puts them together and compares the roots with the certified ones

Nobody is believed: a piece is what its digest says, and a list of pieces leads to the roots that a
quorum signed or is a lie of those who gave it. Who lies is named and asked no more; who is silent,
or has a piece no longer, is passed over; an offer of which nobody gives a piece is dropped for what
is offered then. Whatever was fetched is kept by the host and stays of use for the next offer and in
the next life.

Such a node signs nothing, now or later (`NodeCoreConfig.is_following`). If honest power says that
there is nothing to offer, the chain is young, and the node goes through its blocks instead.

Pure, like `NodeCore`, which takes over once it is done.
"""

from typing import Final, NamedTuple

from msgspec import Struct

from committee.committee import Committee
from consensus.effects import Event, Misbehaviour, Received, Send, SetTimer, Token, Verified, Verify
from consensus.messages import (
    ChunkRequest,
    Message,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotRequest,
)
from consensus.ownership import Component, Tokens, make_timer_name
from engine.snapshots.chunks import compute_chunk_name
from node.offers import CheckedOffer, Offer, OfferError, check_offer

ROUND_MS: Final = 1_000
"""Members are asked for offers so often."""

OFFERS_WAIT_MS: Final = 3_000
"""How long an offer that honest power does not back waits for one that it does."""

CHUNK_WAIT_MS: Final = 2_000
"""For one piece; then somebody else is asked."""

JOIN_TIMER: Final = make_timer_name(Component.SNAPSHOTS, "join")


# ---- effects and events that are the joiner's own --------------------------------------------


class KeepOffer(Struct, frozen=True):
    """Remember durably which offer is being fetched."""

    offer: bytes


class KeepChunk(Struct, frozen=True):
    """Keep a piece durably, under its name."""

    name: bytes
    data: bytes


class Restore(Struct, frozen=True):
    """Put the pieces together, which were all kept, and make the stores of a node from them
    (`node.offers.restore_offer`). Answer: `Restored`."""

    token: Token
    offer: Offer


class JoinEnded(Struct, frozen=True):
    """The stores are what a node goes on from."""

    height: int
    """0: nobody had anything to offer."""


class Restored(Struct, frozen=True):
    """The answer to `Restore`."""

    token: Token
    error: str | None
    """Why the pieces are not the state that is certified."""


JoinEffect = Send | SetTimer | Verify | Misbehaviour | KeepOffer | KeepChunk | Restore | JoinEnded
JoinEvent = Event | Restored


class Resumed(NamedTuple):
    """What an earlier life kept."""

    offer: bytes | None
    held: frozenset[bytes]
    """Names of pieces whose bytes were compared with them again."""


NOTHING_KEPT: Final = Resumed(None, frozenset())


class _Candidate(NamedTuple):
    """An offer whose signatures hold."""

    checked: CheckedOffer
    name: bytes
    encoded: bytes


class _Asked(NamedTuple):
    """A piece under way."""

    name: bytes
    deadline_ms: int


class Joiner:
    """See the module docstring."""

    def __init__(
        self, chain_id: bytes, committee: Committee, seat: int, resumed: Resumed = NOTHING_KEPT
    ) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._peers = tuple(index for index in range(len(committee)) if index != seat)
        self._turn = seat
        self._tokens = Tokens(Component.SNAPSHOTS)
        self._resumed = resumed
        self._held = set(resumed.held)
        self._bans: set[int] = set()
        self._verifying: dict[Token, tuple[int | None, _Candidate]] = {}
        self._offers: dict[int, _Candidate] = {}
        self._without: set[int] = set()
        """Members that have nothing to offer."""
        self._round_ms: int | None = None
        self._first_offer_ms: int | None = None
        self._chosen: _Candidate | None = None
        self._is_backed = False
        """Does honest power give the chosen offer alike? Until then others are asked for: a list of
        many pieces, each given late, would else hold a node up for hours."""
        self._sources: set[int] = set()
        """Who gave the chosen offer."""
        self._missing: dict[bytes, int] = {}
        """Pieces of the chosen offer that are not here, with their sizes."""
        self._lapses: dict[int, int] = {}
        """How often a member did not give what it was asked for."""
        self._passed: dict[bytes, set[int]] = {}
        """Who did not give a piece."""
        self._asked: dict[int, _Asked] = {}
        self._restoring: Token | None = None
        self._is_done = False
        self._out: list[JoinEffect] = []

    def start(self, now_ms: int) -> list[JoinEffect]:
        """Go on with what an earlier life kept, or begin to ask. Once."""
        if self._resumed.offer is not None:
            self._verify(None, self._resumed.offer)
        self._settle(now_ms)
        return self._take()

    def step(self, now_ms: int, event: JoinEvent) -> list[JoinEffect]:
        """Take one event; return what is to be done about it. Messages of other kinds are for the
        node that this one will be."""
        if self._is_done:
            return []
        match event:
            case Received(sender, message):
                if sender in self._peers and sender not in self._bans:
                    self._on_received(sender, message)
            case Verified(token, results):
                self._on_verified(now_ms, token, all(results))
            case Restored():
                self._on_restored(event)
        self._settle(now_ms)
        return self._take()

    def _take(self) -> list[JoinEffect]:
        out, self._out = self._out, []
        return out

    def _ban(self, member: int, code: str, detail: str) -> None:
        self._bans.add(member)
        self._offers.pop(member, None)
        self._asked.pop(member, None)
        self._out.append(Misbehaviour(member, code, detail))

    # ---- offers -----------------------------------------------------------------------------

    def _on_received(self, sender: int, message: Message) -> None:
        match message:
            case SnapshotOffer(offer) if not self._is_backed:
                held = self._offers.pop(sender, None)
                if held is not None and held.encoded == offer:
                    self._offers[sender] = held
                    return
                self._without.discard(sender)
                if offer:
                    self._verify(sender, offer)
                else:
                    self._without.add(sender)
            case SnapshotChunk():
                self._on_chunk(sender, message)
            case _:
                return

    def _verify(self, sender: int | None, encoded: bytes) -> None:
        """Have an offer's signatures verified, one offer of a member at a time."""
        if any(each == sender for each, _ in self._verifying.values()):
            return
        try:
            checked = check_offer(encoded, self._chain_id, self._committee)
        except OfferError as error:
            # One on the own disk is of an older program, or damaged: there will be others.
            if sender is not None:
                self._ban(sender, error.code, str(error))
            return
        token = self._tokens.issue()
        candidate = _Candidate(checked, checked.offer.compute_name(), encoded)
        self._verifying[token] = (sender, candidate)
        self._out.append(Verify(token, checked.claims))

    def _on_verified(self, now_ms: int, token: Token, is_valid: bool) -> None:
        sender, candidate = self._verifying.pop(token)
        if sender is None:
            if is_valid and self._chosen is None:
                self._choose(candidate)
        elif not is_valid:
            self._ban(sender, "offer.signature", "the signatures do not verify")
        elif sender not in self._bans:
            self._offers[sender] = candidate
            if self._first_offer_ms is None:
                self._first_offer_ms = now_ms

    def _find_best(self, now_ms: int) -> tuple[_Candidate | None, bool]:
        """The highest offer that honest power gives alike, and that it does. If there is none for a
        while, the highest of all: at worst it is a lie that costs its bytes, and its author is
        named then."""
        powers: dict[bytes, int] = {}
        by_name: dict[bytes, _Candidate] = {}
        for member, candidate in sorted(self._offers.items()):
            by_name[candidate.name] = candidate
            power = self._committee.power_of((member,))
            powers[candidate.name] = powers.get(candidate.name, 0) + power
        honest_power = self._committee.honest_power
        backed = [name for name, power in powers.items() if power >= honest_power]
        is_patient = self._first_offer_ms is None or now_ms < self._first_offer_ms + OFFERS_WAIT_MS
        names = backed or ([] if is_patient else list(powers))
        if not names:
            return None, False
        best = max(names, key=lambda name: (by_name[name].checked.offer.height, powers[name], name))
        return by_name[best], bool(backed)

    def _choose(self, candidate: _Candidate, *, is_backed: bool = False) -> None:
        self._is_backed = is_backed
        self._sources = {
            member for member, each in self._offers.items() if each.name == candidate.name
        }
        if self._chosen is not None and self._chosen.name == candidate.name:
            return
        self._chosen = candidate
        pieces = candidate.checked.pieces()
        self._missing = {name: pieces[name] for name in pieces if name not in self._held}
        self._passed = {}
        self._asked = {}
        self._out.append(KeepOffer(candidate.encoded))

    def _drop_chosen(self) -> None:
        """Begin again with asking; the pieces stay."""
        self._chosen = None
        self._is_backed = False
        self._missing = {}
        self._passed = {}
        self._asked = {}
        self._offers = {}
        self._without = set()
        self._first_offer_ms = None

    # ---- pieces -----------------------------------------------------------------------------

    def _on_chunk(self, sender: int, message: SnapshotChunk) -> None:
        name, data = message.name, message.data
        asked = self._asked.get(sender)
        if asked is not None and asked.name == name:
            del self._asked[sender]
        if not data:
            self._pass_over(sender, name)
            return
        if compute_chunk_name(data) != name:
            self._ban(sender, "offer.chunk_false", f"not the bytes of {name.hex()[:16]}")
            return
        # Late is as good as in time; what nobody wants is not kept.
        if self._missing.get(name) == len(data):
            del self._missing[name]
            self._held.add(name)
            self._out.append(KeepChunk(name, data))

    def _fetch(self, now_ms: int) -> None:
        """Ask for pieces that are neither here nor under way, everybody who is free for one."""
        for member, asked in sorted(self._asked.items()):
            if asked.name in self._held:
                del self._asked[member]
            elif asked.deadline_ms <= now_ms:
                del self._asked[member]
                self._pass_over(member, asked.name)
        under_way = {asked.name for asked in self._asked.values()}
        willing = [peer for peer in self._peers if peer not in self._bans]
        for name in self._missing:
            if len(self._asked) >= len(willing):
                break
            if name in under_way:
                continue
            left = [peer for peer in willing if peer not in self._passed.get(name, ())]
            if not left:
                self._drop_chosen()
                return
            free = [peer for peer in left if peer not in self._asked]
            if free:
                peer = self._pick(free)
                self._asked[peer] = _Asked(name, now_ms + CHUNK_WAIT_MS)
                self._out.append(Send((peer,), ChunkRequest(name)))
        if not willing:
            self._drop_chosen()

    def _pick(self, free: list[int]) -> int:
        """In turn, of those that have let least requests lapse."""
        least = min(self._lapses.get(peer, 0) for peer in free)
        best = [peer for peer in free if self._lapses.get(peer, 0) == least]
        self._turn += 1
        return best[self._turn % len(best)]

    def _pass_over(self, member: int, name: bytes) -> None:
        self._passed.setdefault(name, set()).add(member)
        self._lapses[member] = self._lapses.get(member, 0) + 1

    def _on_restored(self, event: Restored) -> None:
        assert event.token == self._restoring, "asked for once at a time"
        assert self._chosen is not None, "what is restored was chosen"
        self._restoring = None
        if event.error is None:
            self._is_done = True
            self._out.append(JoinEnded(self._chosen.checked.offer.height))
            return
        also = {each for each, held in self._offers.items() if held.name == self._chosen.name}
        for member in sorted(self._sources | also):
            self._ban(member, "offer.false", event.error)
        self._drop_chosen()

    # ---- everything that may be due ---------------------------------------------------------

    def _settle(self, now_ms: int) -> None:
        if self._is_done or self._restoring is not None:
            return
        if not self._is_backed:
            self._ask(now_ms)
        if self._chosen is not None:
            if self._missing:
                self._fetch(now_ms)
            else:
                self._restoring = self._tokens.issue()
                self._out.append(Restore(self._restoring, self._chosen.checked.offer))
        self._set_timer(now_ms)

    def _set_timer(self, now_ms: int) -> None:
        deadlines = [asked.deadline_ms for asked in self._asked.values()]
        if not self._is_backed and not self._is_done:
            asked_ms = now_ms if self._round_ms is None else self._round_ms
            deadlines.append(max(asked_ms + ROUND_MS, now_ms + 1))
        self._out.append(SetTimer(JOIN_TIMER, min(deadlines, default=None)))

    def _ask(self, now_ms: int) -> None:
        best, is_backed = self._find_best(now_ms)
        if best is not None and (is_backed or self._chosen is None):
            self._choose(best, is_backed=is_backed)
        if self._is_backed:
            return
        is_own_pending = any(sender is None for sender, _ in self._verifying.values())
        is_young = self._committee.power_of(sorted(self._without)) >= self._committee.honest_power
        if is_young and self._chosen is None and not self._offers and not self._verifying:
            self._is_done = True
            self._out.append(JoinEnded(0))
            return
        is_due = self._round_ms is None or now_ms >= self._round_ms + ROUND_MS
        if is_due and not is_own_pending:
            self._round_ms = now_ms
            peers = tuple(peer for peer in self._peers if peer not in self._bans)
            if peers:
                self._out.append(Send(peers, SnapshotRequest(0)))
