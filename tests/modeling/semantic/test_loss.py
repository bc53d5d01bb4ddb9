"""The loss of semantic segmentation against the same sum written as a loop."""

import math

import pytest
import torch
import torch.nn.functional as F

from dnl_det.modeling.semantic.loss import SemSegLoss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, 6, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 6, 8), generator=generator)
    labels[0, :2] = 255
    return logits.requires_grad_(), labels


def pixels(logits, labels):
    """Probability of the class and loss of every labelled pixel, one by one."""
    found = []
    for n, row, column in (labels != 255).nonzero().tolist():
        scores = logits[n, :, row, column].tolist()
        label = labels[n, row, column].item()
        chance = math.exp(scores[label]) / sum(map(math.exp, scores))
        found.append((chance, -math.log(chance), label))
    return found


@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 3.0)])
@pytest.mark.parametrize("mean", ["all", "labelled"])
def test_the_mean_is_over_all_pixels_or_the_labelled_ones(batch, mean, weights):
    logits, labels = batch
    found = pixels(*batch)
    weight = dict(enumerate(weights or (1, 1, 1)))
    total = sum(loss * weight[label] for _, loss, label in found)
    count = labels.numel() if mean == "all" else sum(weight[label] for *_, label in found)
    loss = SemSegLoss(mean=mean, class_weights=weights)(logits, labels)
    assert loss.item() == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize(("threshold", "min_pixels"), [(0.5, 5), (0.05, 30), (0.9, 1000)])
def test_ohem_learns_from_hard_pixels(batch, threshold, min_pixels):
    logits, labels = batch
    found = sorted(pixels(*batch))
    limit = max(threshold, found[min(min_pixels, len(found) - 1)][0])
    hard = [loss for chance, loss, _ in found if chance < limit]
    assert 0 < len(hard) < len(found)
    loss = SemSegLoss(ohem=True, threshold=threshold, min_pixels=min_pixels)(logits, labels)
    assert loss.item() == pytest.approx(sum(hard) / len(hard), rel=1e-12)
    loss.backward()
    assert logits.grad[:, :, :2][0].abs().max() == 0  # ignored
    assert (logits.grad.abs().sum(dim=1) > 0).sum() == len(hard)


@pytest.mark.parametrize("options", [{}, {"mean": "labelled"}, {"ohem": True}])
def test_without_a_labelled_pixel_it_is_0(batch, options):
    logits, labels = batch
    loss = SemSegLoss(**options)(logits, torch.full_like(labels, 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_resized_to_the_labels(batch, align_corners):
    logits, _ = batch
    labels = torch.zeros(2, 11, 13, dtype=torch.int64)
    large = F.interpolate(logits, (11, 13), mode="bilinear", align_corners=align_corners)
    loss = SemSegLoss(align_corners=align_corners)(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(large, labels), rtol=1e-12, atol=0)


def test_weights_are_no_part_of_a_checkpoint():
    assert not SemSegLoss(class_weights=[1.0, 2.0]).state_dict()
