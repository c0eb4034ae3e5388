"""The fault campaign: python -m tests.faults --n 200. Needs Linux and a C compiler.

Prints a table by kind: faults tried, runs that ended like an undisturbed one, and runs that did not. Exit code 0 only where all
survived.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path

from tests.faults.server import preloaded


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Try faults against short runs.")
    parser.add_argument(
        "--n", type=int, default=200, help="how many faults, by turns of each kind; 0 for all there are"
    )
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--kind", default="", help="only kinds with this text in their name")
    parser.add_argument("--table", type=Path, help="file that the table is written to")
    options = parser.parse_args()
    preloaded()
    import torch

    from geko_engine import __version__

    torch.set_num_threads(1)
    from tests.faults.campaign import Campaign
    from tests.faults.kinds import chosen

    base = Path(tempfile.mkdtemp(prefix="geko-faults-runs-"))
    campaign = Campaign(base)
    faults = [fault for fault in campaign.faults() if options.kind.lower() in fault.kind.lower()]
    picked = chosen(faults, options.n or len(faults), options.seed)
    print(f"{len(faults):,} faults known, {len(picked):,} tried, in {base}", file=sys.stderr)
    tried: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for number, fault in enumerate(picked, 1):
        wrong = campaign.attempt(fault, number)
        tried[fault.kind] += 1
        lost[fault.kind] += bool(wrong)
        if wrong:
            print(f"LOST fault-{number:04} {fault.kind}, {fault.name}", *wrong, sep="\n    ", file=sys.stderr)
    drawn = f"{len(picked):,} of {len(faults):,} faults, seed {options.seed}, {date.today()}"
    text = f"{drawn}, GEKO {__version__}, PyTorch {torch.__version__}:\n\n{table(dict(sorted(tried.items())), lost)}"
    print(text)
    if options.table:
        options.table.write_text(text + "\n", encoding="utf-8")
    return 1 if lost.total() else 0


def table(tried: dict[str, int], lost: Counter[str]) -> str:
    """A Markdown table by kind, with the sums."""
    rows = [(kind, number, lost[kind]) for kind, number in tried.items()]
    rows.append(("**All**", sum(tried.values()), lost.total()))
    lines = [f"| {kind} | {number} | {number - gone} | {gone} |" for kind, number, gone in rows]
    return "\n".join(["| Fault | Tried | Survived | Lost |", "|---|---:|---:|---:|", *lines])


if __name__ == "__main__":
    sys.exit(main())
