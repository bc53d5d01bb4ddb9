"""A semantic data set of random regions, and predictions that are partly wrong."""

import numpy as np
import torch
from PIL import Image

IGNORE = 255


def regions(seed, classes, size=(40, 60)):
    """Labels ``(H, W)`` of some rectangles; with a rim of ignored pixels."""
    rng = np.random.RandomState(seed)
    labels = np.zeros(size, dtype=np.uint8)
    for _ in range(12):
        y, x = rng.randint(size[0] - 8), rng.randint(size[1] - 8)
        labels[y : y + rng.randint(4, 20), x : x + rng.randint(4, 20)] = rng.choice(classes)
    labels[-3:] = labels[:, :2] = IGNORE
    return labels


def predicted(labels, seed, classes):
    """The labels moved by two pixels, other classes in places, and any where none counts."""
    rng = np.random.RandomState(seed)
    found = np.roll(labels, 2, axis=1)
    found[10:18, 5:50] = rng.choice(classes)
    return np.where(found == IGNORE, rng.choice(classes, labels.shape), found)


def logits(found, count):
    """What a model that predicts these classes gives."""
    return {
        "sem_seg": torch.nn.functional.one_hot(torch.from_numpy(found).long(), count)
        .permute(2, 0, 1)
        .float()
    }


def write(folder, labels):
    """Images of grey and the labels; detectron2's records."""
    records = []
    for index, label in enumerate(labels):
        record = {
            "file_name": str(folder / f"{index}.jpg"),
            "sem_seg_file_name": str(folder / f"{index}.png"),
            "height": label.shape[0],
            "width": label.shape[1],
        }
        Image.new("RGB", label.shape[::-1], "grey").save(record["file_name"])
        Image.fromarray(label).save(record["sem_seg_file_name"])
        records.append(record)
    return records


def plain_numbers(pairs, count):
    """IoU, boundary IoU and accuracy of each class, by a mask for each, and pixel accuracy.

    Args:
        pairs: labels and predictions.
        count: classes.
    """
    totals = np.zeros((count, 5))  # both, either, boundaries' both, either, annotated
    right = counted = 0
    for labels, found in pairs:
        valid = labels != IGNORE
        right += (valid & (labels == found)).sum()
        counted += valid.sum()
        for index in range(count):
            annotated, predicted = valid & (labels == index), valid & (found == index)
            edges = boundary(annotated), boundary(predicted)
            totals[index] += [
                (annotated & predicted).sum(),
                (annotated | predicted).sum(),
                (edges[0] & edges[1]).sum(),
                (edges[0] | edges[1]).sum(),
                annotated.sum(),
            ]
    with np.errstate(invalid="ignore"):
        iou, edge = totals[:, 0] / totals[:, 1], totals[:, 2] / totals[:, 3]
        accuracy = totals[:, 0] / totals[:, 4]
    missing = totals[:, 4] == 0
    iou[missing] = edge[missing] = np.nan
    return 100 * iou, 100 * edge, 100 * accuracy, 100 * right / counted


def boundary(mask):
    """Pixels of a mask with another or the image's edge within 2 % of the diagonal."""
    reach = max(1, round(0.02 * np.hypot(*mask.shape)))
    padded = np.pad(mask, reach)
    inner = np.ones_like(mask)
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            inner &= padded[y : y + mask.shape[0], x : x + mask.shape[1]]
    return mask & ~inner
