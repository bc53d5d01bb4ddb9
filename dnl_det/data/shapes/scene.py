"""One Shapes image: what is in it, where, and what it looks like.

Legend: H, W: height and width in pixels; x to the right, y down; a mask is a bool array ``(H, W)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import drawing
from .options import OUTLINES_OF_CUE, PALETTE, SPLITS, ShapesOptions

MAX_TILT = 20  # degrees either way: a square must not look like a diamond
GAP = 2  # pixels kept free around tags and the beacon


@dataclass(frozen=True)
class ShapesObject:
    """An annotated object: its class, its colour and the region ``(H, W)`` that nothing hides."""

    category: str
    colour: str
    visible: np.ndarray
    polygons: list[list[int]]  # around exactly the pixels of `visible`


@dataclass(frozen=True)
class Tag:
    """A tag: its top left pixel, its centre, and the index of its object (None: of no object)."""

    x: int
    y: int
    colour: str
    centre: str  # "black" or "white"
    owner: int | None


@dataclass(frozen=True)
class Beacon:
    """The beacon: its top left pixel and its pattern, "a" or "b"."""

    x: int
    y: int
    pattern: str


@dataclass(frozen=True)
class Scene:
    """An image, uint8 RGB ``(H, W, 3)``, and what it shows, objects from back to front."""

    image: np.ndarray
    objects: list[ShapesObject]
    tags: list[Tag]
    beacon: Beacon


@dataclass(frozen=True)
class _Layout:
    """Where things are: regions ``(H, W)`` of the objects, whole and visible; top left pixels."""

    whole: list[np.ndarray]
    visible: list[np.ndarray]
    tags: list[tuple[int, int]]
    beacon: tuple[int, int]


def make_scene(options: ShapesOptions, split: str, index: int) -> Scene:
    """Image number ``index`` of a split ("train" or "val"), the same on every machine.

    Raises:
        ValueError: the objects, the tags and the beacon do not fit into the image.
    """
    # RandomState, because its streams never change. Integers have their type stated, because the
    # default differs between systems and another type takes other values from the stream.
    rng = np.random.RandomState([options.seed, SPLITS.index(split), index])
    count = _integer(rng, options.min_objects, options.max_objects)
    limits = np.cumsum(options.shares)
    cues = [
        list(OUTLINES_OF_CUE)[int((rng.random_sample() * limits[-1] >= limits).sum())]
        for _ in range(count)
    ]
    outlines = [OUTLINES_OF_CUE[cue][_integer(rng, 0, 1)] for cue in cues]
    colours = [list(PALETTE)[k] for k in rng.permutation(len(PALETTE))]
    owners: list[int | None] = [k for k, cue in enumerate(cues) if cue == "tag"]
    if options.balance_tags and len(owners) % 2:
        owners.append(None)
    layout = _make_layout(rng, options, outlines, owners)

    # What the context says is drawn after, and apart from, how everything looks and where it lies.
    if options.balance_tags:
        white = rng.permutation(len(owners)) % 2
    else:
        white = rng.randint(2, size=len(owners), dtype=np.int64)
    tags = [
        Tag(*place, colours[count if owner is None else owner], ("black", "white")[light], owner)
        for place, owner, light in zip(layout.tags, owners, white, strict=True)
    ]
    beacon = Beacon(*layout.beacon, pattern="ab"[_integer(rng, 0, 1)])

    endings = {tag.owner: f"_{tag.centre}" for tag in tags}
    endings.update({k: f"_{beacon.pattern}" for k, cue in enumerate(cues) if cue == "beacon"})
    objects = [
        ShapesObject(outline + endings.get(k, ""), colours[k], visible, drawing.trace(visible))
        for k, (outline, visible) in enumerate(zip(outlines, layout.visible, strict=True))
    ]
    return Scene(_draw(rng, options, layout.whole, objects, tags, beacon), objects, tags, beacon)


def _integer(rng: np.random.RandomState, low: int, high: int) -> int:
    """A random integer, both ends included."""
    return int(rng.randint(low, high + 1, dtype=np.int64))


def _make_layout(
    rng: np.random.RandomState,
    options: ShapesOptions,
    outlines: Sequence[str],
    owners: Sequence[int | None],
) -> _Layout:
    """Random places for objects with the given outlines, for their tags and for the beacon."""
    for _ in range(200):
        layout = _try_layout(rng, options, outlines, owners)
        if layout is not None:
            return layout
    raise ValueError(
        f"Shapes: {len(outlines)} objects of {options.min_size} to {options.max_size} pixels, "
        f"{len(owners)} tags and the beacon do not fit into {options.image_size} x "
        f"{options.image_size} pixels: raise image_size or max_overlap, or lower max_objects, "
        "max_size, tag_size or beacon_size"
    )


def _try_layout(
    rng: np.random.RandomState,
    options: ShapesOptions,
    outlines: Sequence[str],
    owners: Sequence[int | None],
) -> _Layout | None:
    """One attempt at a layout; None where something found no place."""
    side = options.image_size
    whole: list[np.ndarray] = []
    visible: list[np.ndarray] = []
    middles: list[tuple[int, int]] = []  # in half pixels
    occupied = np.zeros((side, side), dtype=bool)
    for outline in outlines:
        size = _integer(rng, options.min_size, options.max_size)
        region = drawing.rasterise(outline, size, tilt=_integer(rng, -MAX_TILT, MAX_TILT))
        for _ in range(30):
            x, y = _integer(rng, 0, side - size), _integer(rng, 0, side - size)
            mask = np.zeros((side, side), dtype=bool)
            mask[y : y + size, x : x + size] = region
            remaining = _cover(whole, visible, mask, options.max_overlap)
            if remaining is not None:
                break
        else:
            return None
        visible = [*remaining, mask]
        whole.append(mask)
        middles.append((2 * x + size, 2 * y + size))
        # Nothing that tells the class lies within the square around an object: there, cropping
        # would show it.
        occupied[y : y + size, x : x + size] = True

    places = []
    wanted = [(None, options.beacon_size)] + [(owner, options.tag_size) for owner in owners]
    for owner, size in wanted:
        free = _free_places(occupied, size)
        if len(free) == 0:
            return None
        if owner is not None:  # a tag lies a third of the image away from its object, if it can
            distance = ((2 * free + size - np.array(middles[owner])) ** 2).sum(axis=1)
            far = free[9 * distance >= 4 * side * side]
            free = far if len(far) else free
        x, y = free[_integer(rng, 0, len(free) - 1)].tolist()
        occupied[y : y + size, x : x + size] = True
        places.append((x, y))
    return _Layout(whole, visible, tags=places[1:], beacon=places[0])


def _cover(
    whole: Sequence[np.ndarray],
    visible: Sequence[np.ndarray],
    cover: np.ndarray,
    max_overlap: float,
) -> list[np.ndarray] | None:
    """What a mask on top leaves visible of the others; None where that is too little of one.

    None, too, where it leaves a hole, which COCO polygons cannot describe: the areas of the traced
    polygons then do not add up to the area of the region.
    """
    remaining = []
    for mask, before in zip(whole, visible, strict=True):
        after = before & ~cover
        area, shown = int(mask.sum()), int(after.sum())
        if area - shown > max_overlap * area:
            return None
        if shown < before.sum() and sum(map(drawing.polygon_area, drawing.trace(after))) != shown:
            return None
        remaining.append(after)
    return remaining


def _free_places(occupied: np.ndarray, size: int) -> np.ndarray:
    """Top left pixels (x, y), ``(K, 2)``, of all squares that keep GAP from what is occupied."""
    window = size + 2 * GAP
    total = drawing.pad(occupied, GAP + 1).astype(np.int32).cumsum(axis=0).cumsum(axis=1)
    columns = total[:-1, window:-1] - total[:-1, : -window - 1]
    return np.argwhere(columns[window:] == columns[:-window])[:, ::-1]


def _draw(
    rng: np.random.RandomState,
    options: ShapesOptions,
    whole: Sequence[np.ndarray],
    objects: Sequence[ShapesObject],
    tags: Sequence[Tag],
    beacon: Beacon,
) -> np.ndarray:
    """The image, uint8 RGB ``(H, W, 3)``."""
    background = drawing.texture(rng, options.image_size, options.noise)
    image = background.copy()
    for mask, item in zip(whole, objects, strict=True):
        image[mask] = background[mask]
        image[drawing.stroke_of(mask, options.stroke)] = PALETTE[item.colour]
    patches: list[tuple[Tag | Beacon, np.ndarray]] = [
        (tag, drawing.tag_patch(options.tag_size, PALETTE[tag.colour], tag.centre)) for tag in tags
    ]
    patches.append((beacon, drawing.beacon_patch(options.beacon_size, beacon.pattern)))
    for place, patch in patches:
        image[place.y : place.y + len(patch), place.x : place.x + len(patch)] = patch
    image += rng.randint(-options.noise, options.noise + 1, size=image.shape, dtype=np.int8)
    return image.clip(0, 255).astype(np.uint8)
