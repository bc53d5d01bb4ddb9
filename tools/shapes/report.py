"""Results of the study as JSON, as a Markdown table and as a figure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

MEASURED = (
    *("tag_accuracy", "beacon_accuracy", "box_ap", "tag_ap", "beacon_ap", "plain_ap"),
    *("parameters", "seconds_per_iteration", "peak_memory_MiB"),
)
# Of `python -m dnl_det diagnose`.
DIAGNOSE = (
    *("gamma", "pairwise_distance", "pairwise_entropy", "unary_entropy"),
    *("context_distance", "context_share"),
)
PLOTTED = ("tag_accuracy", "beacon_accuracy", "plain_ap")
# By variant, by quantity: a value of each seed that has one.
Values = Mapping[str, Mapping[str, Sequence[float]]]


def write_report(output: Path, variants: Iterable[str]) -> None:
    """Write ``results.json``, ``table.md`` and ``figure.png`` of all finished runs in ``output``.

    Args:
        output: with ``VARIANT/SEED/result.json`` in it.
        variants: in the order of the table's rows.
    """
    files = {name: sorted(output.glob(f"{name}/*/result.json")) for name in variants}
    results = {
        name: [json.loads(file.read_text()) for file in found]
        for name, found in files.items()
        if found
    }
    (output / "results.json").write_text(json.dumps(results, indent=1))
    measured = {
        name: {key: [run[key] for run in runs if key in run] for key in MEASURED}
        for name, runs in results.items()
    }
    known = [key for key in MEASURED if any(row[key] for row in measured.values())]
    table = [["variant", "seeds", *map(_title, known)]]
    diagnosis = [["variant", *map(_title, DIAGNOSE)]]
    for name, runs in results.items():
        seeds = ", ".join(str(run["seed"]) for run in runs)
        table.append([name, seeds, *(_cell(measured[name][key]) for key in known)])
        if "diagnose" in runs[0]:
            diagnosis.append([name, *(_cell(_means_of_blocks(runs, key)) for key in DIAGNOSE)])
    (output / "table.md").write_text(f"{_markdown(table)}\n{_markdown(diagnosis)}")
    _draw(measured, output / "figure.png")


def _means_of_blocks(runs: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    values = [[block[key]["value"] for block in r["diagnose"].values() if block[key]] for r in runs]
    return [fmean(blocks) for blocks in values if blocks]


def _title(key: str) -> str:
    return key.replace("_", " ").replace(" ap", " AP")


def _cell(values: Sequence[float]) -> str:
    """The mean over the seeds, and their standard deviation."""
    if not values:
        return "-"
    mean = fmean(values)
    digits = 3 if abs(mean) < 1 else 1 if mean < 100 else 0
    spread = f" ± {stdev(values):.{digits}f}" if len(set(values)) > 1 else ""
    return f"{mean:,.{digits}f}{spread}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _draw(values: Values, file: Path) -> None:
    """A panel for each quantity: a dot for each seed, a line at their mean."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(PLOTTED)), PLOTTED, strict=True):
        for place, row in enumerate(values.values()):
            axes.plot([place] * len(row[key]), row[key], "o", color=f"C{place}", alpha=0.6)
            if row[key]:
                axes.hlines(fmean(row[key]), place - 0.3, place + 0.3, color=f"C{place}")
        axes.set_xticks(range(len(values)), list(values), rotation=45, ha="right")
        axes.set_title(key.replace("_", " "))
        axes.grid(True, axis="y", alpha=0.3)
        if key.endswith("_accuracy"):
            axes.axhline(50, color="grey", linestyle=":", label="chance")
            axes.set_ylim(40, 100)
            axes.legend()
    figure.savefig(file, dpi=120)
