"""Steps whose loss or gradient is not finite are not taken."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from dnl_det.engine.training.checked_step import CheckedAMPTrainer, CheckedTrainer, NotFiniteError


class Batches:
    """A loader of single numbers."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def __iter__(self):
        for index, number in enumerate(self.numbers):
            self.batch = [{"image_id": index, "file_name": f"{index}.png"}]
            yield number


class Line(nn.Module):
    """The loss ``(weight * x) ** exponent``, after a BatchNorm that sees x."""

    def __init__(self, exponent):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm1d(1)
        self.exponent = exponent

    def forward(self, x):
        self.norm(torch.tensor([[x], [0.0]]))
        return {"loss_line": (self.weight * x).abs().sum() ** self.exponent}


def trainer(*numbers, exponent=1.0, skip=0):
    model = Line(exponent)
    made = CheckedTrainer(
        model, Batches(*numbers), torch.optim.SGD(model.parameters(), lr=0.1), max_bad_steps=skip
    )
    return made, model


def run(made, steps):
    with EventStorage() as storage:
        for made.iter in range(steps):
            storage.iter = made.iter
            made.run_step()
    return storage


def test_a_loss_that_is_not_finite_stops_before_the_step():
    made, model = trainer(1.0, float("inf"))
    with pytest.raises(NotFiniteError, match=r"iteration 1: loss_line is inf.*batch: 1 \(1.png\)"):
        run(made, 2)
    assert model.weight.item() == pytest.approx(0.9)


def test_a_gradient_that_is_not_finite_while_the_loss_is():
    # The gradient of the square root at 0 is infinite, times 0 is NaN.
    made, model = trainer(0.0, exponent=0.5)
    with pytest.raises(NotFiniteError, match=r"gradients of 1 of 1 parameters are not finite"):
        run(made, 1)
    assert model.weight.item() == 1


def test_skipped_steps_leave_nothing_and_are_counted_and_saved():
    made, model = trainer(1.0, float("nan"), float("inf"), 2.0, float("nan"), skip=2)
    storage = run(made, 4)
    assert storage.latest()["bad_steps"] == (2, 2)
    good, same = trainer(1.0, 2.0)
    run(good, 2)
    for first, second in zip(model.state_dict().values(), same.state_dict().values(), strict=True):
        assert torch.equal(first, second)
    other, _ = trainer(float("nan"), skip=2)
    other.load_state_dict(made.state_dict())
    with pytest.raises(NotFiniteError, match="iteration 0: loss_line is nan"):
        run(other, 1)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")
def test_a_gradient_that_no_scale_makes_finite_does_not_go_on_for_ever():
    model = Line(0.5)
    made = CheckedAMPTrainer(
        model,
        Batches(*[0.0] * 9),
        torch.optim.SGD(model.parameters(), lr=0.1),
        max_bad_steps=1,
    )
    made.grad_scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    # Scales of 4 and 2 are lowered, 1 is the first bad step, and the second ends it.
    message = r"iteration 3: the gradient is not finite at a loss scale of 0.5. Images .*3.png"
    with pytest.raises(NotFiniteError, match=message):
        run(made, 9)
    assert made.bad_steps == 2
    assert model.weight.item() == 1
