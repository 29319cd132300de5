"""What was measured, as Markdown for people and as JSON for programs; written anew after every case."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.cases import Row
from benchmarks.units import Measured

HEAD = (
    "method",
    "other side",
    "jaxcam, s",
    "other, s",
    "ratio",
    "difference",
    "first call: jaxcam, s",
    "other, s",
    "memory: jaxcam, GiB",
    "other, GiB",
)
LEGEND = """- ratio: the other's time by jaxcam's, medians of the calls after the first, in turns; * from a sample
- difference: of the two results, ‖a − b‖/‖b‖; of similarities of units the largest. Rounding turns some ReLUs
- memory: by how much the process grew in the first call; libraries, weights and what came before are not in it"""


@dataclasses.dataclass
class Report:
    """Everything measured so far in one run.

    Attributes:
        command: what was run.
        rows: of the table.
        units: what else is known about all units.
        rates: dense matrix products in GFLOP/s, by library.
        load: how busy the machine was before the first measurement.
    """

    command: str
    rows: list[Row] = dataclasses.field(default_factory=list)
    units: list[Measured] = dataclasses.field(default_factory=list)
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    load: float = dataclasses.field(default_factory=measuring.load)

    def write(self, folder: Path) -> None:
        """benchmarks.md and benchmarks.json in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks.md").write_text(self.markdown())
        (folder / "benchmarks.json").write_text(json.dumps(self.record(), indent=1) + "\n")

    def record(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "hardware": measuring.hardware(),
            "versions": measuring.versions(),
            "load before": self.load,
            "matmul GFLOP/s": self.rates,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "all units": [dataclasses.asdict(measured) for measured in self.units],
            "peak memory of the process, GiB": measuring.peak_memory(),
            "peak memory of the accelerator, GiB": measuring.device_memory(),
        }

    def markdown(self) -> str:
        parts = [f"`{self.command}`", table(HEAD, [cells(row) for row in self.rows])]
        parts.append(LEGEND + f"\n- {self.surroundings()}")
        return "\n\n".join([*parts, *(details(measured, self.rates) for measured in self.units)]) + "\n"

    def surroundings(self) -> str:
        """Machine, load, and the dense matrix product."""
        dense = ", ".join(f"{name} {rate:.0f}" for name, rate in self.rates.items())
        memory = {"the process": measuring.peak_memory(), **measuring.device_memory()}
        peaks = ", ".join(f"{name} {peak:.2f} GiB" for name, peak in memory.items())
        return (
            f"{measuring.machine()}; load before {self.load:.1f}; dense matrix product {dense or '—'} GFLOP/s; "
            f"peak memory {peaks}"
        )


def cells(row: Row) -> list[str]:
    stars = {"": ("", ""), "theirs": ("", "*"), "both": ("*", "*")}[row.estimated]
    return [
        row.name,
        row.other,
        _seconds(row.ours) + stars[0],
        _seconds(row.theirs) + stars[1],
        f"{row.ratio:.2f}" if row.ratio < 10 else f"{row.ratio:.1f}",
        f"{row.difference:.0e}",
        *(_seconds(value) for value in (row.ours_first, row.theirs_first)),
        *("—" if value is None else f"{value:.2f}" for value in (row.ours_memory, row.theirs_memory)),
    ]


def details(measured: Measured, rates: dict[str, float]) -> str:
    """What the table has no column for: the rate, the layers."""
    shares = ", ".join(f"{measured.rate / rate:.0%} of {name}'s" for name, rate in rates.items())
    rate = f"through the plain backward passes at {measured.rate:.0f} GFLOP/s"
    lines = [*measured.notes, f"{rate}: {shares} dense product; above 100 % means work left out" if shares else rate]
    parts = [f"## {measured.title[0].upper()}{measured.title[1:]}", "\n".join(f"- {line}" for line in lines)]
    if measured.layers:
        parts.append(table(tuple(measured.layers[0]), [[_cell(v) for v in row.values()] for row in measured.layers]))
    return "\n\n".join(parts)


def table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _seconds(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _cell(value: Any) -> str:
    if not isinstance(value, float) or not value:
        return str(value or "—")
    return f"{value:.0e}" if abs(value) < 1e-3 else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
