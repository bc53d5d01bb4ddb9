"""What a check of a data set found: collected, counted, written as text and as JSON.

``FAULTS.md`` has every fault that can be found, and what happens then.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...text import printable

ERROR, REPAIRED, SKIPPED, NOTE = "error", "repaired", "skipped", "note"
KINDS = (ERROR, SKIPPED, REPAIRED, NOTE)  # in the order of a report


class Fault(NamedTuple):
    """One row of ``FAULTS.md``: what is found, its kind in each use, and what happens."""

    what: str
    in_training: str
    in_evaluation: str
    action: str


def _read_faults() -> dict[str, Fault]:
    faults = {}
    for line in Path(__file__).with_name("FAULTS.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            code, *rest, _why = (cell.strip() for cell in line.split("|")[1:-1])
            faults[code.strip("`")] = Fault(*rest)
    return faults


FAULTS = _read_faults()
"""The rows of ``FAULTS.md`` by their codes."""
# Images are converted each time they are read; the annotations stay as they are.
_ON_READING = {
    *("image-rotated", "image-grey", "image-alpha", "image-cmyk", "image-16-bit"),
    "mask-rle",
}


class DataError(ValueError):
    """A data set that cannot be used. The message has all its findings."""


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        detail: values, in words.
        file: of the image.
        image_id, annotation_id: as the JSON has them.
    """

    detail: str = ""
    file: str = ""
    image_id: Any = None
    annotation_id: Any = None

    def __str__(self) -> str:
        ids = (("annotation", self.annotation_id), ("image", self.image_id))
        where = [f"{name} {printable(value)}" for name, value in ids if value is not None]
        if self.file:
            where.append(printable(self.file))
        return ", ".join(where) + (": " if where and self.detail else "") + self.detail


@dataclass
class Report:
    """The findings of one data set.

    Attributes:
        name: of the data set.
        evaluation: AP is computed on it, so that no image may be left out.
        images, annotations, categories: how many there are, before any is left out.
    """

    name: str
    evaluation: bool = False
    images: int = 0
    annotations: int = 0
    categories: int = 0
    findings: dict[tuple[str, str], list[Finding]] = field(default_factory=dict)

    def add(self, code: str, detail: str = "", kind: str = "", **where: Any) -> None:
        """Note a finding; ``kind`` only where it is another than the code's own."""
        fault = FAULTS[code]
        kind = kind or (fault.in_evaluation if self.evaluation else fault.in_training)
        self.findings.setdefault((kind, code), []).append(Finding(detail, **where))

    def count(self, kind: str, code: str = "") -> int:
        """How many findings there are of a kind, and of a code if one is given."""
        groups = self.findings.items()
        return sum(len(v) for key, v in groups if key[0] == kind and code in ("", key[1]))

    @property
    def has_errors(self) -> bool:
        """Whether the data cannot be used."""
        return self.count(ERROR) > 0

    @property
    def changes_annotations(self) -> bool:
        """Whether what is trained on differs from the JSON."""
        return any(
            kind in (REPAIRED, SKIPPED) and code not in _ON_READING for kind, code in self.findings
        )

    def groups(self) -> Iterator[tuple[str, str, list[Finding]]]:
        """Kind, code and findings; errors first."""
        order = list(FAULTS)
        for kind, code in sorted(
            self.findings, key=lambda key: (KINDS.index(key[0]), order.index(key[1]))
        ):
            yield kind, code, self.findings[kind, code]

    def text(self, examples: int | None = 5) -> str:
        """The report for people, at most ``examples`` findings of a code; all if None."""
        lines = [
            f"data set {self.name}: {self.images:,} images, {self.annotations:,} annotations, "
            f"{self.categories:,} categories"
        ]
        for kind, code, found in self.groups():
            fault = FAULTS[code]
            lines.append(f"  {kind:<9}{code} x {len(found):,}: {fault.what}; {fault.action}")
            shown = found[:examples]
            lines += [f"           {text}" for finding in shown if (text := str(finding))]
            if len(found) > len(shown):
                lines.append(f"           ... and {len(found) - len(shown):,} more")
        counts = ", ".join(f"{self.count(kind):,} {kind}" for kind in KINDS)
        lines.append(f"  in all:  {counts}" if self.findings else "  nothing found")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The same for programs, with every finding."""
        return {
            "name": self.name,
            "evaluation": self.evaluation,
            "images": self.images,
            "annotations": self.annotations,
            "categories": self.categories,
            "counts": {kind: self.count(kind) for kind in KINDS},
            "findings": [
                {
                    "kind": kind,
                    "code": code,
                    "count": len(found),
                    "what": FAULTS[code].what,
                    "action": FAULTS[code].action,
                    "where": [_as_json(finding) for finding in found],
                }
                for kind, code, found in self.groups()
            ],
        }


def _as_json(finding: Finding) -> dict[str, Any]:
    ids = {"image_id": finding.image_id, "annotation_id": finding.annotation_id}
    found = {key: _plain(value) for key, value in ids.items() if value is not None}
    for key in ("file", "detail"):
        if text := getattr(finding, key):
            found[key] = text
    return found


def _plain(value: Any) -> Any:
    whole = isinstance(value, int) and abs(value) < 2**63
    return value if whole else printable(value)
