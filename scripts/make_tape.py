"""Write a synthetic tape of trades, in the layout that `rota localnet up --tape` replays.

python scripts/make_tape.py 50000 --seed 7 > tape.csv
"""

import argparse
import sys

from localnet.tape import HEADER, format_trade
from localnet.tape_synthesis import generate_trades


def main() -> None:
    """Write the tape to standard output."""
    parser = argparse.ArgumentParser(description="Write a synthetic tape of trades.")
    parser.add_argument("trades", type=int, help="how many trades")
    parser.add_argument("--seed", type=int, default=42, help="the same seed gives the same tape")
    arguments = parser.parse_args()
    sys.stdout.write(f"{HEADER}\n")
    for trade in generate_trades(arguments.trades, arguments.seed):
        sys.stdout.write(f"{format_trade(trade)}\n")


if __name__ == "__main__":
    main()
