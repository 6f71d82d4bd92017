"""The blocks of a stream, drawn one by one: what comes next hangs on what the engine holds."""

from random import Random
from typing import Final

from crypto.codec import encode
from crypto.digest import Domain, digest
from engine.block import (
    BlockInput,
    Deposit,
    EngineEnvelope,
    SessionGrant,
    SessionRevocation,
    SessionScope,
    WithdrawalSettlement,
)
from engine.genesis import EngineGenesis
from engine.instructions import Bundle, Instruction, OracleReport, VolatilityReport
from engine.state import EngineState
from localnet.sim.streams.conditions import (
    ACCOUNTS,
    PERPETUALS,
    PRICE_START_TICKS,
    REPORTERS,
    START_MS,
    SUB_ACCOUNTS,
    TEMPERS,
    make_genesis,
)
from localnet.sim.streams.hands import Hands

ENVELOPES_MOST: Final = 7
"""Of traders, in one block."""
INSTRUCTIONS_MOST: Final = 6
"""In one bundle."""
PRICE_LEAST_TICKS: Final = 3
"""Where prices fall to in the worst case."""
PRICE_USUAL_LEAST_TICKS: Final = 300


class Draw:
    """A stream's source of chance."""

    def __init__(self, seed: int) -> None:
        self._random = random = Random(f"engine stream {seed}")
        self._temper = TEMPERS[seed % len(TEMPERS)]
        self.genesis: EngineGenesis = make_genesis(random, self._temper)
        self._hands = Hands(random, self._temper)
        self._time_ms = START_MS
        self._count = 0
        """Of everything that needs a name of its own."""
        self._sequence = 0
        self._prices = dict.fromkeys(PERPETUALS, PRICE_START_TICKS)
        self._keys: list[tuple[bytes, bytes]] = []
        """Owners and their session keys, also those whose time is over."""
        self._volatilities_from = random.choice((0, 0, 10, 30))
        """Before this height nobody reports any."""

    def next_block(self, state: EngineState) -> BlockInput:
        """What the engine shall do next."""
        random, temper = self._random, self._temper
        is_jump = random.randrange(1_000) < temper.jump_permille
        self._time_ms += random.choice(temper.jumps_ms if is_jump else temper.steps_ms)
        envelopes = [self._trade(state) for _ in range(random.randint(0, ENVELOPES_MOST))]
        if random.random() < 0.85:
            envelopes += self._report(state)
        random.shuffle(envelopes)
        return BlockInput(
            state.height + 1,
            self._time_ms,
            digest(Domain.SEED, random.randbytes(8)),
            tuple(envelopes),
            self._open() if state.height == 0 else self._deposit(),
            REPORTERS if random.random() < 0.97 else REPORTERS[:1],
            tuple(
                WithdrawalSettlement(number, random.random() < 0.5)
                for number in list(state.withdrawals)
                if random.random() < 0.3
            ),
            self._grant(),
            self._revoke(),
        )

    def _name(self, purpose: bytes) -> bytes:
        self._count += 1
        return digest(Domain.SEED, purpose + self._count.to_bytes(8, "big"))

    def _seal(
        self, sender: bytes, instructions: list[Instruction], signer: bytes = b""
    ) -> EngineEnvelope:
        random = self._random
        body = encode(Bundle(tuple(instructions)))
        if random.random() < 0.01:
            body = body[:-1] + random.randbytes(1)
        # Nonces repeat: ties are broken by the envelope's id.
        return EngineEnvelope(self._name(b"envelope"), sender, random.randint(0, 3), body, signer)

    def _trade(self, state: EngineState) -> EngineEnvelope:
        random = self._random
        count = random.randint(1, INSTRUCTIONS_MOST)
        instructions = [self._hands.draw(state) for _ in range(count)]
        sender, signer = random.choice(ACCOUNTS), b""
        if self._keys and random.random() < 0.15:
            sender, signer = random.choice(self._keys)
        return self._seal(sender, instructions, signer)

    def _report(self, state: EngineState) -> list[EngineEnvelope]:
        random = self._random
        for market in self._prices:
            if random.random() < 0.35:
                self._move(market)
        self._sequence += 1
        now = (self._sequence, self._time_ms)
        envelopes = []
        for reporter in REPORTERS:
            reports: list[Instruction] = [
                OracleReport(market, price, *now)
                for market, price in self._prices.items()
                if random.random() < 0.95
            ]
            if state.height >= self._volatilities_from and random.random() < 0.8:
                first = random.choice((50_000, 500_000, 5_000_000, 5_000_001))
                reports += [
                    VolatilityReport(market, (first, 400_000), *now) for market in state.chains
                ]
            if reports:
                envelopes.append(self._seal(reporter.key, reports))
        return envelopes

    def _move(self, market: int) -> None:
        random, temper = self._random, self._temper
        is_leap = random.randrange(1_000) < temper.leap_permille
        drift = random.choice((0.002, 0.002, 0.03))
        factor = random.choice(temper.leaps) if is_leap else random.uniform(1 - drift, 1 + drift)
        is_worst = random.random() < 0.02
        least = PRICE_LEAST_TICKS if is_worst else PRICE_USUAL_LEAST_TICKS
        price = max(int(self._prices[market] * factor), least)
        self._prices[market] = min(price, temper.price_most)

    def _open(self) -> tuple[Deposit, ...]:
        """Sub-accounts, most of them."""
        random = self._random
        return tuple(
            Deposit(account, random.choice(self._temper.deposits), self._name(b"deposit"))
            for account in SUB_ACCOUNTS
            if random.randrange(4)
        )

    def _deposit(self) -> tuple[Deposit, ...]:
        random = self._random
        count = random.choice((*[0] * 9, 1, 2))
        return tuple(
            Deposit(
                random.choice((*ACCOUNTS, *SUB_ACCOUNTS)),
                random.choice((1, 1_000, 100_000, 1_000_000)),
                self._name(b"deposit"),
            )
            for _ in range(count)
        )

    def _grant(self) -> tuple[SessionGrant, ...]:
        random = self._random
        if random.random() >= 0.05:
            return ()
        owner, key = random.choice(ACCOUNTS), self._name(b"key")
        self._keys.append((owner, key))
        return (
            SessionGrant(
                owner,
                key,
                random.choice(tuple(SessionScope)),
                self._time_ms + random.choice((0, 10_000, 10**6, 10**8)),
                random.choice(((), (), (1, 2))),
                random.choice(((), (), (0, 1))),
                random.choice((None, 0, 10**6, 10**7)),
            ),
        )

    def _revoke(self) -> tuple[SessionRevocation, ...]:
        random = self._random
        if not self._keys or random.random() >= 0.02:
            return ()
        return (SessionRevocation(*random.choice(self._keys)),)
