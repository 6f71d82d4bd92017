"""Twins: two hosts with the keys of one member, and a network that decides who hears whom.

Two honest programs that share a key are a liar that nobody had to write: between them they
propose twice, vote twice and forget what the other one did (Bano et al. 2020). A *scenario* is a
word of one letter for each round; a letter says which member leads, and which hosts hear which
about that view. Afterwards everybody hears everybody, and liveness is asked for.

Three alphabets of who hears whom, each a part of the one before:

- `masks`: any set of receivers for each sender, so sets overlap and links work one way only;
- `groups`: two sets of hosts that do not hear each other, and others that hear and are heard by
  all; these bridge the two, so that one side may learn a certificate that the other lacks;
- `halves`: every host is in one of two sets.

Scenarios that differ only in the names of members are one: honest members of equal power may be
renamed among each other, so may members with twins, and the two hosts of a member. By the lemma
that is not Burnside's the number of classes is the mean, over all renamings, of the number of
scenarios that a renaming leaves as they are; and who draws a renaming with a weight of that number,
and then one of the scenarios that it leaves, has drawn a class uniformly. Neither needs to list
anything, however large the space is.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, permutations, product
from math import prod
from random import Random
from typing import Final, NamedTuple

from localnet.sim.oracles.certificates import find_leader
from localnet.sim.schedule import CALM_VIEWS, Schedule, Traffic, TwinLinks
from localnet.sim.twin_arithmetic import (
    Cycle,
    Relation,
    count_pair_cycles,
    count_permutations,
    find_cycles,
    group_by_power,
    partitions,
    separate,
    weigh_groups,
)

ALPHABETS: Final = ("groups", "masks", "halves")

LISTED_MAX: Final = 1 << 20
"""Words that `TwinSpace.enumerate` looks at; larger spaces are sampled."""

TRAFFIC_INTERVAL_MS: Final = 120

LEADER_SEEDS_MAX: Final = 50_000_000
"""Seeds tried for one order of leaders."""


class Letter(NamedTuple):
    """One round."""

    leader: int
    relation: Relation


Word = tuple[Letter, ...]


class _Renaming(NamedTuple):
    """A kind of renaming: all of one kind leave equally many scenarios as they are."""

    multiplicity: int
    """Renamings of this kind."""
    honest_cycles: tuple[tuple[int, ...], ...]
    """For each class of honest members the lengths of the cycles."""
    member_cycles: tuple[Cycle, ...]
    """Of the members with twins."""
    host_cycles: tuple[Cycle, ...]
    """Of the hosts of those."""


class TwinSpace:
    """All scenarios of one committee, one choice of twins, one alphabet and one length."""

    def __init__(
        self,
        powers: Sequence[int],
        twins: Sequence[int],
        rounds: int,
        alphabet: str = "groups",
        span: int = 1,
    ) -> None:
        """A letter holds for `span` views, of which the leader of the first is given."""
        if alphabet not in ALPHABETS:
            raise ValueError(f"no alphabet {alphabet!r}; there are: {', '.join(ALPHABETS)}")
        if not twins:
            raise ValueError("one member has a third or more of the power: --twins 1 goes beyond f")
        if len(set(twins)) != len(twins) or max(twins) >= len(powers):
            raise ValueError(f"twins {tuple(twins)} of {len(powers)} members")
        self.powers = tuple(powers)
        self.twins = tuple(twins)
        self.rounds = rounds
        self.alphabet = alphabet
        self.span = span
        self.hosts = len(self.powers) + len(self.twins)
        self._honest = group_by_power(
            self.powers, [each for each in range(len(self.powers)) if each not in self.twins]
        )
        self._twinned = group_by_power(self.powers, self.twins)
        self._renamings = self._list_renamings()

    # ---- counting ------------------------------------------------------------------------------

    def count(self) -> int:
        """How many scenarios there are."""
        identity = [1] * self.hosts
        return int((len(self.powers) * self._count_relations(identity)) ** self.rounds)

    def count_classes(self) -> int:
        """How many there are when names do not matter."""
        total = sum(each.multiplicity * self._count_fixed(each) for each in self._renamings)
        size = sum(each.multiplicity for each in self._renamings)
        assert total % size == 0, "classes are whole"
        return total // size

    def _list_renamings(self) -> list[_Renaming]:
        honest = [list(partitions(len(members))) for members in self._honest]
        twinned = [list(self._rename_twins(members)) for members in self._twinned]
        found = []
        for lengths in product(*honest):
            count = prod(count_permutations(each) for each in lengths)
            for parts in product(*twinned):
                members = tuple(cycle for part in parts for cycle in part[0])
                hosts = tuple(cycle for part in parts for cycle in part[1])
                found.append(_Renaming(count, lengths, members, hosts))
        return found

    def _rename_twins(
        self, members: Sequence[int]
    ) -> Iterator[tuple[tuple[Cycle, ...], tuple[Cycle, ...]]]:
        """All ways to rename some members with twins, and to swap the two hosts of each."""
        for images in permutations(members):
            for flips in product((False, True), repeat=len(members)):
                mapping: dict[int, int] = {}
                for member, image, is_flipped in zip(members, images, flips, strict=True):
                    pair = (image, self._twin_of(image))
                    mapping[member], mapping[self._twin_of(member)] = (
                        pair[::-1] if is_flipped else pair
                    )
                of_members = dict(zip(members, images, strict=True))
                yield find_cycles(of_members), find_cycles(mapping)

    def _twin_of(self, member: int) -> int:
        return len(self.powers) + self.twins.index(member)

    def _count_fixed(self, renaming: _Renaming) -> int:
        """Scenarios that a renaming leaves as they are."""
        honest = [length for lengths in renaming.honest_cycles for length in lengths]
        fixed_members = honest.count(1) + sum(len(each) == 1 for each in renaming.member_cycles)
        lengths = honest + [len(cycle) for cycle in renaming.host_cycles]
        return int((fixed_members * self._count_relations(lengths)) ** self.rounds)

    def _count_relations(self, lengths: Sequence[int]) -> int:
        """Relations that a renaming of hosts with cycles of these lengths leaves as they are."""
        if self.alphabet == "masks":
            return int(2 ** count_pair_cycles(lengths))
        count = len(lengths)
        if self.alphabet == "halves":
            swapped = 2**count if all(length % 2 == 0 for length in lengths) else 0
            return int(2**count + swapped) // 2
        return sum(weigh_groups(lengths))

    # ---- sampling ------------------------------------------------------------------------------

    def sample(self, random: Random) -> Word:
        """A scenario; each class comes with the same probability."""
        weights = [each.multiplicity * self._count_fixed(each) for each in self._renamings]
        place = random.randrange(sum(weights))
        chosen = next(
            each
            for each, bound in zip(self._renamings, accumulate(weights), strict=True)
            if place < bound
        )
        cycles = list(chosen.host_cycles)
        fixed = [cycle[0] for cycle in chosen.member_cycles if len(cycle) == 1]
        for members, lengths in zip(self._honest, chosen.honest_cycles, strict=True):
            order = random.sample(members, len(members))
            start = 0
            for length in lengths:
                cycles.append(tuple(order[start : start + length]))
                start += length
            fixed += [cycle[0] for cycle in cycles[-len(lengths) :] if len(cycle) == 1]
        return tuple(
            Letter(random.choice(fixed), self._sample_relation(random, cycles))
            for _ in range(self.rounds)
        )

    def _sample_relation(self, random: Random, cycles: Sequence[Cycle]) -> Relation:
        """Any relation that a renaming with these cycles leaves as it is."""
        if self.alphabet == "masks":
            return self._sample_masks(random, cycles)
        lengths = [len(cycle) for cycle in cycles]
        everybody = range(self.hosts)
        if self.alphabet == "halves":
            is_even = all(length % 2 == 0 for length in lengths)
            if is_even and random.random() < 0.5:
                side = {each for cycle in cycles for each in cycle[random.randrange(2) :: 2]}
            else:
                side = {each for cycle in cycles if random.random() < 0.5 for each in cycle}
            return separate(self.hosts, side, set(everybody) - side)
        kept, swapped, _ = weigh_groups(lengths)
        place = random.randrange(kept + swapped + 1)
        if place == 0:
            return separate(self.hosts, set(), set())
        while True:
            sides: tuple[set[int], set[int]] = (set(), set())
            for cycle in cycles:
                if place <= kept:
                    if (chosen := random.randrange(3)) < 2:
                        sides[chosen].update(cycle)
                elif len(cycle) % 2 == 0 and (first := random.randrange(3)) < 2:
                    sides[first].update(cycle[::2])
                    sides[1 - first].update(cycle[1::2])
            if all(sides):
                return separate(self.hosts, *sides)

    def _sample_masks(self, random: Random, cycles: Sequence[Cycle]) -> Relation:
        image = {
            each: cycle[(place + 1) % len(cycle)]
            for cycle in cycles
            for place, each in enumerate(cycle)
        }
        masks = [1 << host for host in range(self.hosts)]
        decided: set[tuple[int, int]] = set()
        for pair in permutations(range(self.hosts), 2):
            if pair in decided:
                continue
            hears = random.random() < 0.5
            sender, receiver = pair
            while (sender, receiver) not in decided:
                decided.add((sender, receiver))
                masks[sender] |= hears << receiver
                sender, receiver = image[sender], image[receiver]
        return tuple(masks)

    # ---- listing -------------------------------------------------------------------------------

    def enumerate(self) -> Iterator[Word]:
        """One scenario of every class. Raises `ValueError` if the space is too large for that."""
        if self.alphabet == "masks" or self.count() > LISTED_MAX:
            raise ValueError(f"{self.count()} scenarios are too many to list: sample them")
        relations = sorted(self.list_relations())
        letters = [
            Letter(leader, relation) for leader in range(len(self.powers)) for relation in relations
        ]
        places = {letter: place for place, letter in enumerate(letters)}
        tables = [
            [places[self.rename(letter, names)] for letter in letters]
            for names in self.list_host_renamings()
        ]
        for word in product(range(len(letters)), repeat=self.rounds):
            if all(tuple(table[place] for place in word) >= word for table in tables):
                yield tuple(letters[place] for place in word)

    def list_relations(self) -> set[Relation]:
        """Every way in which hosts may hear each other during one letter; few for `halves` and
        `groups`, too many to list for `masks`."""
        sides = 2 if self.alphabet == "halves" else 3
        return {
            separate(
                self.hosts,
                {host for host, side in enumerate(colours) if side == 0},
                {host for host, side in enumerate(colours) if side == 1},
            )
            for colours in product(range(sides), repeat=self.hosts)
        }

    def list_host_renamings(self) -> Iterator[tuple[int, ...]]:
        """Every renaming, as the new name of each host."""
        honest = [list(permutations(members)) for members in self._honest]
        twinned = [list(self._rename_twins(members)) for members in self._twinned]
        for images in product(*honest):
            for parts in product(*twinned):
                names = list(range(self.hosts))
                for members, renamed in zip(self._honest, images, strict=True):
                    for member, name in zip(members, renamed, strict=True):
                        names[member] = name
                for cycle in (cycle for part in parts for cycle in part[1]):
                    for place, host in enumerate(cycle):
                        names[host] = cycle[(place + 1) % len(cycle)]
                yield tuple(names)

    def rename(self, letter: Letter, names: Sequence[int]) -> Letter:
        """The same letter when each host bears the name given for it."""
        masks = [0] * self.hosts
        for sender, mask in enumerate(letter.relation):
            renamed = sum(1 << names[each] for each in range(self.hosts) if mask >> each & 1)
            masks[names[sender]] = renamed
        speaker = names[letter.leader]
        count = len(self.powers)
        leader = speaker if speaker < count else self.twins[speaker - count]
        return Letter(leader, tuple(masks))

    # ---- schedules -----------------------------------------------------------------------------

    def make_schedule(self, word: Word, seed: int) -> Schedule:
        """The run of a scenario; `seed` decides all delays and the traffic."""
        leaders = {1 + place * self.span: letter.leader for place, letter in enumerate(word)}
        links = tuple(
            TwinLinks(view=1 + place * self.span + offset, masks=letter.relation)
            for place, letter in enumerate(word)
            for offset in range(self.span)
        )
        return Schedule(
            name=f"twins {self.alphabet} {len(self.powers)}+{len(self.twins)}",
            seed=seed,
            powers=self.powers,
            views=len(links) + CALM_VIEWS,
            leader_seed=find_leader_seed(self.powers, leaders),
            traffic=Traffic(interval_ms=TRAFFIC_INTERVAL_MS),
            twins=self.twins,
            twin_links=links,
        )


def choose_twins(powers: Sequence[int], count: int | None = None) -> tuple[int, ...]:
    """The first members that get a twin: `count` of them, or as many as stay below a third."""
    if count is not None:
        if count > len(powers):
            raise ValueError(
                f"{count} of {len(powers)} members cannot have twins: --twins is at most"
                f" {len(powers)} here"
            )
        return tuple(range(count))
    chosen: list[int] = []
    for member in range(len(powers)):
        if 3 * sum(powers[each] for each in [*chosen, member]) < sum(powers):
            chosen.append(member)
    return tuple(chosen)


def find_leader_seed(powers: Sequence[int], leaders: dict[int, int]) -> int:
    """The first seed, above 0, under which these members lead these views."""
    wanted = sorted(leaders.items())
    for seed in range(1, LEADER_SEEDS_MAX):
        encoded = seed.to_bytes(8, "big")
        if all(find_leader(powers, encoded, view) == leader for view, leader in wanted):
            return seed
    raise ValueError("no seed gives this order of leaders")
