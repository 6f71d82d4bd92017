"""Random numbers for prices, traders and benchmarks: the same for the same seed, for ever."""

from typing import Final

_WORD: Final = 2**64 - 1


class SplitMix:
    """The SplitMix64 generator (Steele, Lea and Flood, 2014): integers, no state but a counter."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _WORD

    def below(self, bound: int) -> int:
        """A number from 0 to `bound - 1`; the bias is far below what a benchmark can see."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _WORD
        word = self._state
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
        return (word ^ (word >> 31)) % bound
