"""Liveness bugs (L) that others of this family of protocols had: each has a test."""

import pytest

from consensus.config import ConsensusConfig
from consensus.effects import Halt, Persist, ServeCommitted, Store
from consensus.messages import (
    Advance,
    BlockRequest,
    BlockResponse,
    CommittedRequest,
    Timeout,
    Vote,
)
from consensus.pacemaker import LOST_VIEWS_PER_GROWTH
from consensus.serving import SERVE_BURST
from consensus.sync import ATTEMPTS_MAX
from localnet.sim.cluster import Cluster
from localnet.sim.links import Partition
from localnet.sim.network import Conditions, CrashPoint
from localnet.sim.solo import FOLLOWER, Solo


def test_l1_a_timeout_is_broadcast_until_its_view_ends(solo: Solo) -> None:
    solo.wait(6 * solo.config.base_view_timeout_ms)
    timeouts = solo.sent_of(Timeout)
    assert len(timeouts) >= 5
    assert len(set(timeouts)) == 1
    solo.receive(0, Advance(solo.keys.genesis, solo.keys.make_tc(1, solo.keys.genesis)))
    assert solo.view == 2
    count = len(timeouts)
    solo.wait(100)
    assert len(solo.sent_of(Timeout)) == count


def test_l1_a_committee_times_out_together_over_a_very_lossy_network() -> None:
    conditions = Conditions(drop_permille=200)
    cluster = Cluster(seed=21, conditions=conditions)
    cluster.start(0, 1, 2)
    cluster.submit_every(50, until_ms=60_000)
    cluster.run_until_height(5, 300_000, indices=(0, 1, 2))


def test_l2_a_restart_remembers_the_timeout_certificate(solo: Solo) -> None:
    solo.receive(0, Advance(solo.keys.genesis, solo.keys.make_tc(6, solo.keys.genesis)))
    assert solo.view == 7
    while not solo.timed_out_views:
        solo.wait(100)
    solo.restart()
    assert solo.view == 7
    assert solo.timed_out_views == [7, 7]


def test_l3_nodes_that_restart_in_different_views_find_each_other() -> None:
    cluster = Cluster(seed=22)
    cluster.start()
    cluster.world.run_for(600)
    for index in cluster.members:
        cluster.world.crash(index)
        cluster.world.run_for(1_700 * index)
        cluster.world.rules = [Partition(frozenset({index}))]
        cluster.start(index)
    cluster.world.rules = []
    cluster.run_until_height(cluster.lowest_height() + 5, 60_000)


def test_l4_the_own_vote_is_counted_again_after_a_restart() -> None:
    cluster = Cluster(seed=23)
    crashed: set[int] = set()

    def crash_once(index: int, persist: Persist) -> CrashPoint | None:
        is_vote = any(put.table == "vote" for put in persist.puts)
        if not is_vote or index in crashed:
            return None
        crashed.add(index)
        return CrashPoint.AFTER_DURABLE

    cluster.world.crash_at = crash_once
    cluster.start()
    assert cluster.world.run_until(lambda: len(crashed) == 4, 1_000)
    cluster.start()
    # Every vote of view 1 was durable and none had left. No timeout is needed to go on.
    assert cluster.world.run_until(lambda: cluster.core(0).statistics().high_qc_view >= 1, 400)
    assert all(cluster.core(index).statistics().timeouts_by_timer == 0 for index in range(4))


def test_l5_timeouts_of_different_views_are_not_counted_together(solo: Solo) -> None:
    keys = solo.keys
    tc1, tc2 = keys.make_tc(1, keys.genesis), keys.make_tc(2, keys.genesis)
    solo.receive(0, keys.make_timeout(0, 1, keys.genesis))
    solo.receive(1, keys.make_timeout(1, 2, keys.genesis, last_tc=tc1))
    solo.receive(2, keys.make_timeout(2, 3, keys.genesis, last_tc=tc2))
    statistics = solo.core.statistics()
    assert (statistics.view, statistics.pending_timeouts) == (3, 1)
    assert (statistics.tcs_formed, statistics.timeouts_by_amplification) == (0, 0)


def test_l6_votes_go_to_this_leader_and_the_next_and_the_timer_backs_off(solo: Solo) -> None:
    solo.run_views(3)
    leader = solo.keys.schedule.leader
    votes = [(set(to), vote.data.view) for to, vote in solo.sent if isinstance(vote, Vote)]
    assert votes == [({leader(view), leader(view + 1)}, view) for view in (1, 2, 3)]
    waits: list[int] = []
    for view in range(3, 3 + 3 * LOST_VIEWS_PER_GROWTH + 1):
        began_ms = solo.now_ms
        while solo.timed_out_views[-1:] != [view]:
            solo.wait(50)
        waits.append(solo.now_ms - began_ms)
        solo.receive(0, Advance(solo.keys.genesis, solo.keys.make_tc(view, solo.keys.genesis)))
    assert waits == sorted(waits)
    assert waits[-1] > 3 * waits[0]


@pytest.mark.parametrize("me", [0, FOLLOWER])
def test_l7_a_certificate_that_comes_after_the_timeout_is_welcome(me: int) -> None:
    solo = Solo(me=me)
    keys = solo.keys
    qc1 = solo.run_views(1)
    block2, qc2 = solo.extend(qc1, 2)
    solo.wait(solo.config.base_view_timeout_ms)
    solo.holds_signatures = True
    solo.receive(1, Advance(qc1, keys.make_tc(2, qc1)))
    assert solo.view == 3
    solo.receive(1, Advance(qc2, None))
    assert solo.committed == [1]
    solo.holds_signatures = False
    _, qc3 = (
        solo.extend(qc2, 3, time_ms=solo.now_ms)
        if me == FOLLOWER
        else (None, keys.make_qc(keys.make_block(3, qc2)))
    )
    solo.receive(1, Advance(qc3, None))
    assert solo.view == 4
    assert not [each for each in solo.effects if isinstance(each, Halt)]
    assert block2.height == 2


def test_l8_a_block_that_nobody_served_is_asked_for_again(solo: Solo) -> None:
    keys = solo.keys
    missing = keys.make_block(1, keys.genesis)
    solo.receive(0, Advance(keys.make_qc(missing), None))
    solo.wait(2 * ATTEMPTS_MAX * 6_000)
    asked = len(solo.sent_of(BlockRequest)) + len(solo.sent_of(CommittedRequest))
    assert asked > ATTEMPTS_MAX
    solo.wait(10_000)
    while not isinstance(solo.sent[-1][1], BlockRequest):
        solo.wait(1)
    (peer,) = solo.sent[-1][0]
    solo.receive(peer, BlockResponse((missing,)))
    assert solo.core.statistics().sync_targets == 0


def test_l9_who_gave_a_view_up_still_accepts_its_certificate(solo: Solo) -> None:
    qc1 = solo.run_views(1)
    block2 = solo.keys.make_block(2, qc1)
    solo.receive(0, Advance(qc1, None))
    while not solo.timed_out_views:
        solo.wait(100)
    assert solo.timed_out_views == [2]
    solo.propose(block2)
    qc2 = solo.keys.make_qc(block2, signers=(0, 1, 2))
    solo.extend(qc2, 3, time_ms=solo.now_ms)
    assert solo.voted_views == [1, 3]
    assert solo.committed == [1]


def test_l10_a_node_whose_archive_was_lost_fetches_it_again() -> None:
    cluster = Cluster(seed=24)
    cluster.start()
    cluster.submit_every(25, until_ms=20_000)
    cluster.run_until_height(200, 20_000)
    cluster.world.crash(3)
    disk = cluster.world.hosts[3].disk
    disk.stores[Store.ARCHIVE].clear()
    cluster.agreement.forget_archive(3)
    cluster.start(3)
    cluster.run_until_height(cluster.height(0) + 5, 20_000)
    assert cluster.core(3).statistics().committed_height > 200


def test_l11_the_default_pace_holds_for_many_blocks_under_load() -> None:
    cluster = Cluster(seed=25)
    cluster.start()
    cluster.submit_every(10, until_ms=20_000)
    cluster.run_until_height(300, 15_000)
    for index in cluster.members:
        assert cluster.core(index).statistics().timeouts_by_timer == 0


def test_l12_serving_others_delays_no_vote(solo: Solo) -> None:
    qc3 = solo.run_views(3)
    solo.receive(1, *[CommittedRequest(1) for _ in range(200)])
    # Archived blocks are read by the host: the core only hands the request on.
    served = [each for each in solo.effects if isinstance(each, ServeCommitted)]
    assert 0 < len(served) <= SERVE_BURST
    solo.extend(qc3, 4)
    assert solo.voted_views == [1, 2, 3, 4]


def test_l13_a_dead_leader_of_every_other_view_does_not_stretch_the_timer() -> None:
    """A block commits when two leaders in a row live. Where the dead one led every other view for
    a while, a timer that grew with every view since the last commit, those with a certificate
    too, soon took ten times its first value for each: orders that were certified available waited
    for a minute."""
    config = ConsensusConfig(leader_seed=(9_726).to_bytes(4, "big"))
    cluster = Cluster(seed=26, config=config)
    dead, living, lost_views = 3, (0, 1, 2), 6
    leads = [cluster.schedule.leader(view) == dead for view in range(1, 2 * lost_views + 3)]
    assert leads == [True, False] * lost_views + [False, False]
    cluster.start(*living)
    cluster.submit(0)
    cluster.run_until_height(
        lost_views, (lost_views + 2) * config.base_view_timeout_ms, indices=living
    )
