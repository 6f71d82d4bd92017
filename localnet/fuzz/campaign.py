"""Runs targets from seeds, and remembers what came to something new.

One seed of one target is a *block*: a fixed number of executions that depend on nothing else, so
that it can be repeated. Inside a block, an input that came to a result with a new signature (kind,
code, line that raised it, words) joins the pool from which the next ones are bent: cheap feedback
that walks from one check to the next one behind it.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from localnet.fuzz.contract import Attack, Kind, Result, Target, judge, judge_error
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.minimise import minimise
from localnet.fuzz.mutator import mutate, mutate_gently
from localnet.verdicts import Verdict, find_gravest

EXECUTIONS_PER_BLOCK: Final = 4_000
"""Of a target of weight 1; dearer ones make fewer."""
EXECUTIONS_PER_BLOCK_MIN: Final = 40
POOL_MAX: Final = 400
POOL_INPUT_MAX_BYTES: Final = 8 << 10
"""Larger ones are not bent again: they would only grow."""
FRESH_PERMILLE: Final = 300
"""Inputs bent from an entry of the corpus; the rest from one that was kept."""


class Finding(Struct, frozen=True):
    """An input that broke its target's contract."""

    target: str
    seed: int
    result: Result
    data: bytes
    """As it was found."""
    minimal: bytes


class Tally(Struct):
    """What blocks of one target came to."""

    target: str
    blocks: int = 0
    executions: int = 0
    accepted: int = 0
    rejected: dict[str, int] = {}
    """By code."""
    signatures: set[tuple[str, str, str, str]] = set()
    """All results that differ."""
    findings: list[Finding] = []
    """The first of each fault."""
    own_errors: list[str] = []
    """What broke in the fuzzer itself while it made an input or cut one down: nobody's finding.
    Each ended its block."""
    cpu_s: float = 0.0

    def add(self, other: "Tally") -> None:
        """Count other blocks, too."""
        self.blocks += other.blocks
        self.executions += other.executions
        self.accepted += other.accepted
        self.rejected = dict(Counter(self.rejected) + Counter(other.rejected))
        self.signatures |= other.signatures
        known = {finding.result.fault for finding in self.findings}
        self.findings += [each for each in other.findings if each.result.fault not in known]
        self.own_errors += other.own_errors
        self.cpu_s += other.cpu_s

    def verdict(self) -> Verdict:
        """The gravest of its findings."""
        return find_gravest(finding.result.verdict for finding in self.findings)


def count_executions(target: Target) -> int:
    """How many make a block."""
    return max(EXECUTIONS_PER_BLOCK // target.weight, EXECUTIONS_PER_BLOCK_MIN)


def run_block(
    target: Target,
    corpus: Corpus,
    seed: int,
    before: Callable[[bytes], None] = lambda data: None,
    executions_max: int = EXECUTIONS_PER_BLOCK,
) -> Tally:
    """Run one block, or its beginning. `before` is called with each input before it is given to
    the target."""
    tally = Tally(target.name, blocks=1)
    start_s = time.thread_time()
    try:
        if target.attack is not None:
            _attack(tally, target, target.attack, corpus, seed)
        else:
            _bend(tally, target, corpus, seed, before, executions_max)
    except Exception as error:
        # Whatever a target raises is judged where it is called, so this is the fuzzer's own.
        tally.own_errors.append(_describe_own(target, seed, error))
    tally.cpu_s = time.thread_time() - start_s
    return tally


def _bend(
    tally: Tally,
    target: Target,
    corpus: Corpus,
    seed: int,
    before: Callable[[bytes], None],
    executions_max: int,
) -> None:
    random = Random(f"fuzz {target.name} {seed}")
    entries = corpus.select(target.kinds)
    assert entries, f"nothing to bend for {target.name}"
    pool = list(entries)
    for number in range(min(count_executions(target), executions_max)):
        data = _draw(random, number, entries, pool, target)
        before(data)
        result = judge(target, data)
        _count(tally, result)
        if result.signature not in tally.signatures:
            tally.signatures.add(result.signature)
            if len(data) <= POOL_INPUT_MAX_BYTES:
                _keep(random, pool, data)
        if result.is_finding:
            _note_finding(tally, target, seed, result, data)


def _attack(
    tally: Tally,
    target: Target,
    attack: Callable[[int, Corpus], Attack],
    corpus: Corpus,
    seed: int,
) -> None:
    """A block of a target that makes its own inputs: one input."""
    made = attack(seed, corpus)
    tally.executions, tally.accepted = made.executions, made.accepted
    tally.rejected = made.rejected
    tally.signatures = {(Kind.REJECTED, code, "", "") for code in made.rejected}
    if made.error is not None:
        _note_finding(tally, target, seed, judge_error(made.error), made.data)


def _describe_own(target: Target, seed: int, error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{target.name} seed {seed}: {type(error).__name__}: {error} at {where}"


def _draw(
    random: Random, number: int, entries: Sequence[bytes], pool: list[bytes], target: Target
) -> bytes:
    """The next input. The first ones are the corpus itself: it must be taken as it is."""
    if number < min(len(entries), EXECUTIONS_PER_BLOCK_MIN // 2):
        return entries[number]
    is_fresh = random.randrange(1_000) < FRESH_PERMILLE
    data = random.choice(entries if is_fresh else pool)
    bend = mutate_gently if random.random() < 0.3 else mutate
    return bend(random, data, entries, target.form)[: target.size_max_bytes]


def _keep(random: Random, pool: list[bytes], data: bytes) -> None:
    if len(pool) < POOL_MAX:
        pool.append(data)
    else:
        pool[random.randrange(POOL_MAX)] = data


def _count(tally: Tally, result: Result) -> None:
    tally.executions += 1
    if result.kind is Kind.ACCEPTED:
        tally.accepted += 1
    elif result.kind is Kind.REJECTED:
        tally.rejected[result.code] = tally.rejected.get(result.code, 0) + 1


def _note_finding(tally: Tally, target: Target, seed: int, result: Result, data: bytes) -> None:
    if any(finding.result.fault == result.fault for finding in tally.findings):
        return

    def is_same(small: bytes) -> bool:
        return judge(target, small).fault == result.fault

    # Noted before it is cut down: an error there must not lose it.
    finding = Finding(target.name, seed, result, data, data)
    tally.findings.append(finding)
    if target.shrink is not None:
        minimal = target.shrink(data, is_same)
    else:
        minimal = minimise(data, target.form, is_same)
    tally.findings[-1] = msgspec.structs.replace(finding, minimal=minimal)
