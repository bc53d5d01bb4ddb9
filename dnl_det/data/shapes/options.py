"""What a Shapes data set is made of: colours, categories, options."""

from dataclasses import dataclass, field, fields
from typing import Any

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (230, 30, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 230, 50),
    "green": (40, 190, 60),
    "cyan": (50, 220, 230),
    "blue": (40, 70, 240),
    "purple": (140, 40, 200),
    "pink": (250, 130, 200),
    "brown": (125, 65, 20),
}
"""Colours of the objects, RGB; each stands out from black and from white."""
OUTLINES_OF_CUE = {
    "tag": ("circle", "square"),
    "beacon": ("triangle", "star"),
    "plain": ("cross", "moon"),
}
"""Outlines by what their class depends on: a tag, the beacon, or nothing else."""
ENDINGS_OF_CUE = {"tag": ("_black", "_white"), "beacon": ("_a", "_b"), "plain": ("",)}
"""What a tag or the beacon adds to the outline in the name of a class."""
THING_CLASSES = tuple(
    outline + ending
    for cue, outlines in OUTLINES_OF_CUE.items()
    for outline in outlines
    for ending in ENDINGS_OF_CUE[cue]
)
"""Names of the classes, in the order of a model's."""
CATEGORY_IDS = {name: number for number, name in enumerate(THING_CLASSES, start=1)}
"""``category_id`` in the annotations by the name of the class, from 1 on."""
SPLITS = ("train", "val")
"""The parts of a data set: its folders and the ends of its names."""


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ShapesOptions:
    """The options of a Shapes data set; ``metadata["help"]`` of each field says what it means.

    Raises:
        ValueError: a value is not allowed; the message names it and what is.
    """

    image_size: int = _option(128, "height and width of the images, pixels")
    num_train: int = _option(2000, "number of training images")
    num_val: int = _option(400, "number of validation images")
    min_objects: int = _option(2, "fewest objects in an image")
    max_objects: int = _option(5, "most objects in an image")
    min_size: int = _option(24, "smallest diameter of the circle around an object, pixels")
    max_size: int = _option(40, "largest diameter of the circle around an object, pixels")
    stroke: int = _option(3, "width of the outlines, pixels")
    tag_size: int = _option(9, "side of a tag, pixels")
    beacon_size: int = _option(15, "side of the beacon, pixels")
    noise: int = _option(24, "amplitude of the noise and of the background's spots, grey levels")
    max_overlap: float = _option(0.2, "largest share of an object that others hide; 0: none")
    tag_share: float = _option(0.4, "share of objects whose class needs their tag")
    beacon_share: float = _option(0.4, "share of objects whose class needs the beacon")
    plain_share: float = _option(0.2, "share of objects whose class needs no context")
    balance_tags: bool = _option(
        True,
        "as many black as white tags in every image, with a tag of a colour that no object has "
        "where their number would be odd, so that counting tags does not help",
    )
    seed: int = _option(0, "seed; image k depends on it and on k, not on how many are made")

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if option.type is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, option.name, value)
            if type(value) is not option.type:
                kind = getattr(option.type, "__name__", option.type)
                raise ValueError(
                    f"Shapes option {option.name} is {value!r}: must be of type {kind}"
                )
        limits: dict[str, tuple[float, float]] = {
            "image_size": (32, 4096),
            "num_train": (1, 999_999),
            "num_val": (1, 999_999),
            "max_objects": (1, len(PALETTE) - 1),  # a tag without an object needs a colour too
            "min_objects": (1, self.max_objects),
            "max_size": (12, self.image_size // 2),
            "min_size": (12, self.max_size),
            "stroke": (1, self.min_size // 6),
            "tag_size": (5, self.image_size // 4),
            "beacon_size": (5, self.image_size // 4),
            "noise": (0, 64),
            "max_overlap": (0, 0.5),
            "tag_share": (0, 1000),
            "beacon_share": (0, 1000),
            "plain_share": (0, 1000),
            "seed": (0, 2**32 - 1),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(
                    f"Shapes option {name} is {value}: must be between {low} and {high}"
                )
        if not sum(self.shares) > 0:
            raise ValueError(
                "Shapes options tag_share, beacon_share and plain_share are all 0: "
                "at least one must be positive"
            )

    @property
    def shares(self) -> tuple[float, float, float]:
        """Relative frequency of the cues, in the order of OUTLINES_OF_CUE."""
        return (self.tag_share, self.beacon_share, self.plain_share)
