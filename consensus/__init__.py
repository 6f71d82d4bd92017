"""Consensus: how the committee agrees on one order, and which batches that order may name.

This page is the protocol. Code cites its rules by id; a rule is changed here first.

Members have integer power; of the total T, Q = floor(2T/3) + 1 is a quorum and H = floor(T/3) + 1
contains an honest member. Less than T/3 is faulty in any way whatever, the network loses, delays,
doubles and reorders messages, and any node may lose power at any moment. Then no two nodes ever
commit different blocks at one height; and once messages arrive in time again, commits go on.

The protocol is two-chain HotStuff with timeout certificates (Jolteon, arXiv 2106.10362), with the
signed formats of MonadBFT so that re-proposing can be added. *Views* count leaders' turns and
never fall; *heights* count blocks. A *QC* proves that Q power voted for one block in one view, a
*TC* that Q power gave one view up.

A good view: its leader proposes a block that extends the newest QC; members vote, to this leader
and the next; both form the QC; the next leader's proposal carries it, and the parent commits.

Genesis and certificates (`validation`, `certificates`)

- G1 The genesis QC is one exact constant, accepted by equality. No other certificate of view 0
  exists.
- Q1 A QC signs domain, chain, epoch, view, height and block id, by Q power of distinct members.
- Q2 A TC groups its signers by what they reported (high-QC view, tip view): groups in strictly
  rising order, at most one a member, signer sets disjoint, together Q power; the QC inside is of
  the highest view that any group reported.
- Q3 Nothing acts before all its signatures hold; nothing is verified twice.

Blocks (`validation`, `payload`)

- B1 A block comes from the leader of its view and names its parent by id, by QC and by height. Its
  view is one above its QC's and it has no TC; or one above its TC's, and then its QC is at least as
  new as the TC's.
- B2 Against its parent: height one more, time and view above; each lane's tip above that lane's
  cursor; a state certificate newer than any before it and of this very chain; no lanes when
  execution lags too far behind.

Votes (`safety`)

- V1 Vote once a view, only in the current view, never at or below the last voted one.
- V2 The current view is one above the newest verified QC or TC.
- V3 The block's certificates must allow it in this view (B1 again, at the moment of voting).
- V4 A block ahead of the clock by more than the drift is voted for later; one too old is not.

Timeouts (`safety`, `pacemaker`, `votes`)

- T1 A timeout names the newest QC known, at least as new as the parent QC of every block voted for:
  that is the lock, and the TC carries its proof.
- T2 One timeout a view, and no vote in that view after it.
- T3 A timeout shows why its signer is in the view: a QC or a TC of the view before.
- T4 H power of timeouts makes everybody time out; Q power of one view makes a TC.
- T5 The same bytes are broadcast again until the view ends. The timer backs off with the views
  lost since the last commit.

Commits (`chain`)

- C1 On QC q for block b: b's parent commits iff q.view = b.qc.view + 1. Certificate views, never
  block views.
- C2 With it commit all its ancestors: oldest first, every height once, without gaps.

Leaders and aggregation (`core`, `votes`)

- L1 One proposal a view, never after giving it up.
- L2 A minimum interval between blocks under load, a longer one when idle. Something to order ends
  idling, and so does an uncommitted block that is not empty, after a short interval of its own: so
  the second certificate always follows. A state certificate rides along, it is no reason.
- A1 Votes go to the leaders of this view and the next. They are aggregated unverified, the sum is
  verified once, and whoever spoiled it is banned.
- A2 The leader who formed its view's QC broadcasts it; who forms a TC broadcasts that. The next
  leader forms the QC itself only if the current one's does not come in time.
- A3 Who speaks of a view long past is told the certificates that ended it.

Durability (`safety`, `voter`, `chain`)

- P1 A vote, timeout or proposal leaves only after its record, together with the whole safety state
  and the block itself, is durable.
- P2 Records of votes, timeouts and proposals are write-once by view.
- P3 A committed block stays in the safety store until the archive holds it for good: the host
  carries out drops only after it synced the archive (`node.durability`).

Restart (`recovery`, `voter`)

- R1 Blocks and certificates come back from disk and the commit rule runs over them again.
- R2 The view follows from the QC and the TC on disk (V2): never below where it was left.
- R3 The last vote, timeout and proposal are said again in the same bytes, to oneself as well.
- R4 An archive without a safety record is amnesia: such a member must not sign.
- R5 A certificate with a member's own vote above the last one that it remembers is amnesia, too:
  its disk was emptied or an old one restored. It halts.

Block sync (`exchange`, `sync`, `serving`)

- S1 A certified block that is missing is asked of its QC's signers, by id, and accepted by hash.
- S2 Far behind, archived blocks are asked by rising height; the commit rule is replayed from the
  QCs themselves. A responder's numbers decide nothing.

Evidence (`evidence`, `accuser`)

- E1 Two different contents signed by one member for one place convict it: votes, timeouts or
  proposals of one view, batches at one place of a lane, results of one height.

The parts: `core` composes them into `step(now_ms, event) -> effects`; `effects` is the contract
with the host; `types` and `messages` fix what is signed and sent. Lanes and availability are
described in `lanes`, state certificates in `checkpoints`.
"""

import rota_build

__path__ = rota_build.extend("consensus", __path__)
