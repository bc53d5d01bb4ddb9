"""Matching by cases made by hand, and against the rule written as a loop."""

import pytest
import torch
from detectron2.modeling.matcher import Matcher

from dnl_det.mmdet1.matching import MMDet1Matcher


def match(overlaps, thresholds=(0.3, 0.7), labels=(0, -1, 1), **options):
    matches, labels = MMDet1Matcher(thresholds, labels, **options)(torch.tensor(overlaps))
    return matches.tolist(), labels.tolist()


def test_an_object_no_box_overlaps_enough_has_none():
    overlaps = [[0.29, 0.29, 0.0], [0.0, 0.0, 0.8]]
    assert match(overlaps)[1] == [0, 0, 1]
    theirs = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
    assert theirs(torch.tensor(overlaps))[1].tolist() == [1, 1, 1]


def test_an_object_has_its_best_boxes_from_the_lowest_threshold_on():
    assert match([[0.3, 0.3, 0.1]]) == ([0, 0, 0], [1, 1, 0])
    assert match([[0.5, 0.4, 0.1]]) == ([0, 0, 0], [1, -1, 0])


def test_the_best_box_of_an_object_is_its_own_even_if_another_overlaps_it_more():
    # Box 0 is the best of object 1, and overlaps object 0 more, whose best is box 1.
    overlaps = [[0.6, 0.9], [0.4, 0.1]]
    assert match(overlaps) == ([1, 0], [1, 1])
    theirs = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
    assert theirs(torch.tensor(overlaps))[0].tolist() == [0, 0]


def test_of_two_objects_with_the_same_best_box_the_last_has_it():
    assert match([[0.9, 0.0], [0.5, 0.0]]) == ([1, 0], [1, 0])


def test_each_object_added_to_the_proposals_is_its_own():
    # Objects 0 and 1 are the same box: the last two columns.
    overlaps = [[0.6, 1.0, 1.0], [0.6, 1.0, 1.0]]
    matches, labels = match(overlaps, (0.5,), (0, 1), with_objects=True)
    assert (matches, labels) == ([1, 0, 1], [1, 1, 1])
    # A proposal is an object's best among the proposals, whatever the object overlaps itself.
    assert match([[0.5, 1.0]], (0.5,), (0, 1), with_objects=True) == ([0, 0], [1, 1])
    assert match([[0.4, 1.0]], (0.5,), (0, 1), with_objects=True) == ([0, 0], [0, 1])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("with_objects", [False, True])
def test_no_object_or_no_box(shape, with_objects):
    objects = shape[0] if with_objects else 0
    overlaps = torch.zeros(shape[0], shape[1] + objects)
    matcher = MMDet1Matcher((0.5,), (0, 1), with_objects=with_objects)
    matches, labels = matcher(overlaps)
    assert matches.tolist() == [0] * shape[1] + list(range(objects))
    assert labels.tolist() == [0] * shape[1] + [1] * objects


def by_a_loop(overlaps, low, high):
    """The assignment of mmdetection 1.x, object by object."""
    best, matches = overlaps.max(dim=0)
    labels = torch.where(best < low, 0, torch.where(best >= high, 1, -1))
    for i, row in enumerate(overlaps):
        if row.max() >= low:
            matches[row == row.max()] = i
            labels[row == row.max()] = 1
    return matches.tolist(), labels.tolist()


def test_random_overlaps_with_ties_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        overlaps = torch.randint(0, 11, (5, 40), generator=generator) / 10
        overlaps *= torch.rand(5, 1, generator=generator) < 0.7
        assert match(overlaps.tolist()) == by_a_loop(overlaps, 0.3, 0.7)
