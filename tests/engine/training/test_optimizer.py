"""Clipping of the whole model's gradient, against the same done by hand."""

import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from dnl_det import add_dnl_config
from dnl_det.engine import build_lr_scheduler, build_optimizer
from dnl_det.engine.config.solver import check_solver
from dnl_det.layers import build_attention


def config(clip_type="full_model", value=0.5):
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.MOMENTUM = 0.0
    cfg.SOLVER.WEIGHT_DECAY = cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = value
    cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE = 2.0
    return cfg


def model_and_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model, [p.grad.clone() for p in model.parameters()]


def steps(model, optimizer_step):
    before = [p.detach().clone() for p in model.parameters()]
    optimizer_step()
    return [(b - p.detach()) / 0.1 for b, p in zip(before, model.parameters(), strict=True)]


@pytest.mark.parametrize("value", [0.5, 1e6])
def test_all_gradients_are_scaled_by_one_number(value):
    model, gradients = model_and_gradients()
    norm = torch.sqrt(sum(g.square().sum() for g in gradients))
    expected = [g * min(1.0, value / norm) for g in gradients]
    optimizer = build_optimizer(config(value=value), model)
    for actual, wanted in zip(steps(model, optimizer.step), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


def test_detectron2_s_norm_is_another_thing():
    model, gradients = model_and_gradients()
    optimizer = build_optimizer(config("norm"), model)
    for actual, gradient in zip(steps(model, optimizer.step), gradients, strict=True):
        wanted = gradient * min(1.0, 0.5 / gradient.norm())
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


def test_it_clips_what_a_gradient_scaler_has_unscaled():
    model, gradients = model_and_gradients()
    for parameter in model.parameters():
        parameter.grad *= 1024.0
    optimizer = build_optimizer(config(), model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(1))
    norm = torch.sqrt(sum(g.square().sum() for g in gradients))
    actual = steps(model, lambda: scaler.step(optimizer))
    for step, gradient in zip(actual, gradients, strict=True):
        torch.testing.assert_close(step, gradient * 0.5 / norm, rtol=1e-4, atol=1e-5)


def test_groups_keep_the_decay_of_their_kind():
    cfg = config()
    cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 1e-4, 3e-4
    model, _ = model_and_gradients()
    groups = build_optimizer(cfg, model).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decay[id(model[1].weight)] == 3e-4
    assert decay[id(model[0].weight)] == 1e-4


def test_unknown_type_is_named():
    model, _ = model_and_gradients()
    with pytest.raises(ValueError, match=r"CLIP_TYPE: 'all' is not one of value, norm, full_model"):
        build_optimizer(config("all"), model)


@pytest.mark.parametrize("clip_type", ["full_model", "norm"])
def test_adamw_with_either_clipping(clip_type):
    model, gradients = model_and_gradients()
    cfg = config(clip_type)
    add_dnl_config(cfg)
    cfg.SOLVER.OPTIMIZER = "AdamW"
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    # The first step of Adam is the sign of the gradient, however long that is.
    for actual, gradient in zip(steps(model, optimizer.step), gradients, strict=True):
        torch.testing.assert_close(actual, gradient.sign(), rtol=1e-3, atol=1e-3)
    # Clipped, the first moment is 0.1 of the clipped gradient.
    norm = torch.sqrt(sum(g.square().sum() for g in gradients))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        length = norm if clip_type == "full_model" else gradient.norm()
        wanted = 0.1 * gradient * min(1.0, 0.5 / length)
        torch.testing.assert_close(
            optimizer.state[parameter]["exp_avg"], wanted, rtol=1e-4, atol=1e-6
        )


def test_adamw_decays_apart_from_the_gradient():
    cfg = config()
    add_dnl_config(cfg)
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.WEIGHT_DECAY = "AdamW", 0.5
    model, _ = model_and_gradients()
    for parameter in model.parameters():
        parameter.grad.zero_()
    before = model[0].weight.detach().clone()
    build_optimizer(cfg, model).step()
    torch.testing.assert_close(model[0].weight.detach(), before * (1 - 0.1 * 0.5))


def test_unknown_optimizer_is_named():
    cfg = config()
    add_dnl_config(cfg)
    cfg.SOLVER.OPTIMIZER = "Adam"
    with pytest.raises(ValueError, match=r"SOLVER.OPTIMIZER: 'Adam' is not one of SGD, AdamW"):
        build_optimizer(cfg, model_and_gradients()[0])


def test_poly_schedule_with_a_floor_is_the_formula():
    cfg = config()
    add_dnl_config(cfg)
    solver = cfg.SOLVER
    solver.LR_SCHEDULER_NAME, solver.BASE_LR, solver.WARMUP_ITERS = "WarmupPolyLR", 0.01, 0
    solver.POLY_LR_FLOOR, solver.MAX_ITER = 0.01, 40
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=solver.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    for step in range(40):
        wanted = (0.01 - 1e-4) * (1 - step / 40) ** 0.9 + 1e-4
        assert scheduler.get_last_lr() == pytest.approx([wanted], rel=1e-12)
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([1e-4])


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_query_and_key_have_a_weight_decay_of_their_own(name):
    cfg = config()
    add_dnl_config(cfg)
    cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 5e-4, 5e-4
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.WEIGHT_DECAY_QUERY_KEY = name, 0.0
    model = nn.ModuleDict({"attention": build_attention("dnl", 8), "theta": nn.Linear(2, 2)})
    optimizer = build_optimizer(cfg, model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = {
        names[parameter]: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert set(decays) == set(names.values())
    for key, decay in decays.items():
        assert decay == (0.0 if "conv_query" in key or "conv_key" in key else 5e-4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("LR_SCHEDULER_NAME", "PolyLR", "'PolyLR' is not one of .*WarmupPolyLR"),
        ("POLY_LR_FLOOR", 1.5, "1.5 must be a number from 0 to 1"),
        ("POLY_LR_POWER", -1.0, "-1.0 must be a number from 0 on"),
        ("WEIGHT_DECAY_QUERY_KEY", -1.0, "-1.0 must be a number from 0 on"),
    ],
)
def test_keys_of_schedule_and_decay_are_checked(key, value, message):
    cfg = config()
    add_dnl_config(cfg)
    cfg.SOLVER[key] = value
    with pytest.raises(ValueError, match=f"SOLVER.{key}: {message}"):
        check_solver(cfg)
