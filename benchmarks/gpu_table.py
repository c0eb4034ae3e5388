"""What `gpu` has recorded, as lines of tables. Knows no torch."""

from __future__ import annotations

from typing import Any

HEADER = ("model", "way", "trainer", "seconds a step", "tokens a second", "peak memory", "time, transformers = 1")


def comparison_rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """The records as lines of a table; the reason stands where the figures would."""
    peers = {(r["model"], r["way"]): r.get("seconds") for r in records if r["trainer"] == "transformers"}
    rows = []
    for record in records:
        names = [record["model"], record["way"], record["trainer"]]
        if "missing" in record:
            rows.append([*names, record["missing"], "", "", ""])
            continue
        peer = peers[record["model"], record["way"]]
        memory = size(record["bytes"]) if record["bytes"] else ""
        ratio = f"{record['seconds'] / peer:.2f}" if peer else ""
        rows.append([*names, f"{record['seconds']:.3f}", f"{record['tokens_per_second']:,.0f}", memory, ratio])
    return rows


def estimate_rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """GEKO's estimate before the start against what was measured; empty without a GPU."""
    rows = []
    for record in (r for r in records if r.get("estimated_bytes")):
        estimated, found = record["estimated_bytes"], record["bytes"]
        ratio = [size(found), f"{estimated / found:.2f}"] if found else ["", ""]
        rows.append([record["model"], record["way"], size(estimated), *ratio])
    return rows


def size(count: int) -> str:
    """Bytes in GB, small ones in MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
