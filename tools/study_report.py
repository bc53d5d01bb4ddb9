"""Results of the study as JSON, as a Markdown table and as a figure."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

Result = dict[str, Any]
# Key of a result: title of its column, digits, and what to multiply with.
COLUMNS = {
    "tag_accuracy": ("tag, right of two, %", 1, 1.0),
    "beacon_accuracy": ("beacon, right of two, %", 1, 1.0),
    "box_ap": ("box AP", 1, 1.0),
    "mask_ap": ("mask AP", 1, 1.0),
    "tag_ap": ("tag AP (a relation)", 1, 1.0),
    "beacon_ap": ("beacon AP (one cue)", 1, 1.0),
    "plain_ap": ("plain AP (no context)", 1, 1.0),
    "parameters": ("parameters", 0, 1.0),
    "seconds_per_iteration": ("s / iteration", 3, 1.0),
    "peak_memory": ("peak memory, MiB", 0, 2.0**-20),
}
# Of `python -m dnl_det diagnose`, the mean over the blocks of a model.
DIAGNOSE = {
    "gamma": "gamma",
    "pairwise_distance": "distance of queries' attention",
    "pairwise_entropy": "entropy, pairwise",
    "unary_entropy": "entropy, unary",
    "context_distance": "distance of contexts",
    "context_share": "context / input",
}
PLOTTED = ("tag_accuracy", "beacon_accuracy", "plain_ap")


def write_report(output: Path, variants: Iterable[str]) -> None:
    """Write ``results.json``, ``table.md`` and ``figure.png`` of all finished runs in ``output``.

    Args:
        output: with ``VARIANT/SEED/result.json`` in it.
        variants: in the order of the table's rows.
    """
    results = {
        name: [
            json.loads(file.read_text()) for file in sorted(output.glob(f"{name}/*/result.json"))
        ]
        for name in variants
    }
    results = {name: found for name, found in results.items() if found}
    (output / "results.json").write_text(json.dumps(results, indent=1))
    (output / "table.md").write_text(f"{result_table(results)}\n{diagnose_table(results)}")
    draw(results, output / "figure.png")


def result_table(results: dict[str, list[Result]]) -> str:
    """A row for each variant: mean over the seeds, and their standard deviation."""
    used = [key for key in COLUMNS if any(_values(found, key) for found in results.values())]
    head = ["variant", "seeds", *(COLUMNS[key][0] for key in used)]
    rows = [
        [
            name,
            ", ".join(str(result["seed"]) for result in found),
            *(_cell(_values(found, key), *COLUMNS[key][1:]) for key in used),
        ]
        for name, found in results.items()
    ]
    return _markdown(head, rows)


def diagnose_table(results: dict[str, list[Result]]) -> str:
    """The same of what ``diagnose`` says of the attention."""
    rows = [
        [name, *(_cell(_diagnosed(found, key), 3) for key in DIAGNOSE)]
        for name, found in results.items()
        if "diagnose" in found[0]
    ]
    return _markdown(["variant", *DIAGNOSE.values()], rows)


def draw(results: dict[str, list[Result]], file: Path) -> None:
    """What each kind of class comes to: a dot for each seed, a line at their mean."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(PLOTTED), squeeze=False)[0]
    for axes, key in zip(panels, PLOTTED, strict=True):
        for place, found in enumerate(results.values()):
            values = _values(found, key)
            axes.plot([place] * len(values), values, "o", color=f"C{place % 10}", alpha=0.6)
            if values:
                axes.hlines(fmean(values), place - 0.3, place + 0.3, color=f"C{place % 10}")
        axes.set_xticks(range(len(results)), list(results), rotation=45, ha="right")
        axes.set_title(COLUMNS[key][0])
        axes.grid(True, axis="y", alpha=0.3)
        if key.endswith("_accuracy"):
            axes.axhline(50, color="grey", linestyle=":", label="chance")
            axes.set_ylim(40, 100)
            axes.legend()
    figure.savefig(file, dpi=120)


def _values(found: Sequence[Result], key: str) -> list[float]:
    return [result[key] for result in found if result.get(key) is not None]


def _diagnosed(found: Sequence[Result], key: str) -> list[float]:
    """By seed; where a model has several blocks, their mean."""
    values = []
    for result in found:
        if means := [block[key]["value"] for block in result["diagnose"].values() if block[key]]:
            values.append(fmean(means))
    return values


def _cell(values: Sequence[float], digits: int, factor: float = 1.0) -> str:
    if not values:
        return "-"
    mean = f"{factor * fmean(values):,.{digits}f}"
    if len(values) < 2 or len(set(values)) == 1:
        return mean
    return f"{mean} ± {factor * stdev(values):.{digits}f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
