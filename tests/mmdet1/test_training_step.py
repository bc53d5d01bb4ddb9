"""The recorded training steps of the authors' detectors, computed by ours."""

import numpy as np
import pytest
import torch

MODELS = ("baseline", "dnl_c4c5all")


@pytest.fixture(scope="module")
def compare(load_tool):
    """``tools/training_step.py`` as a module."""
    return load_tool("training_step")


@pytest.fixture(scope="module")
def recordings(shared):
    return shared / "official_training"


def assert_first_step(compare, step, losses, norms, arrays):
    """Within relative differences of losses, gradient norms and arrays; decisions are equal."""
    recorded = step.recorded["steps"][0]
    assert step.losses[0] == pytest.approx(recorded["losses"], rel=losses)
    assert step.grad_norms[0] == pytest.approx(recorded["grad_norm"], rel=norms)
    decisions = [name for name in step.theirs if compare.is_decision(step.theirs[name])]
    decisions.remove("rpn0/anchors_inside")
    decisions.remove("rpn1/anchors_inside")
    assert len(decisions) == 20
    for name in decisions:
        np.testing.assert_array_equal(step.ours[name], step.theirs[name], err_msg=name)
    for i in range(2):
        theirs, ours = step.theirs[f"proposals{i}"], step.ours[f"proposals{i}"].numpy()
        assert len(ours) == len(theirs)
        # Recorded in float32: two with equal scores may have changed places.
        difference = np.abs(ours[:, None] - theirs).max(axis=2)
        assert difference.min(axis=0).max() < 1e-3
        assert difference.min(axis=1).max() < 1e-3
    deltas = step.theirs["box_deltas_pos"]
    np.testing.assert_allclose(step.ours["box_deltas_pos"], deltas, rtol=0, atol=arrays)

    pairs = compare.gradient_norms(step)
    assert len(pairs) > 150
    for name, (theirs, ours) in pairs.items():
        if theirs > 1e-12:
            assert ours == pytest.approx(theirs, rel=norms), name
        else:  # its exact value is 0
            assert ours < 1e-5 * step.grad_norms[0], name
    for name, theirs in step.theirs.items():
        kind, _, parameter = name.partition("/")
        entry = step.entries.get(parameter)
        if kind == "grad":
            expected = step.gradient_in_our_layout(entry, torch.from_numpy(theirs))
            ours = step.gradients[entry.ours].double()
            scale = max(expected.abs().max().item(), 1e-6)
            assert (ours - expected).abs().max() <= arrays * scale, name
        elif kind == "after":
            np.testing.assert_allclose(step.after[entry.ours], theirs, atol=arrays, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_three_steps_in_float64_are_the_authors(name, compare, recordings, official, device):
    step = compare.Step(recordings, official, name, device=device).run(3)
    assert_first_step(compare, step, losses=1e-13, norms=1e-11, arrays=1e-11)
    for number, (losses, norm) in enumerate(zip(step.losses, step.grad_norms, strict=True)):
        recorded = step.recorded["steps"][number]
        assert losses == pytest.approx(recorded["losses"], rel=1e-9)
        assert norm == pytest.approx(recorded["grad_norm"], rel=1e-8)


@pytest.fixture(scope="module")
def float32_step(compare, recordings, official):
    return compare.Step(recordings, official, "dnl_c4c5all", torch.float32).run()


def test_a_step_in_float32_decides_as_the_authors(compare, float32_step):
    assert_first_step(compare, float32_step, losses=1e-6, norms=0.05, arrays=0.05)


def test_the_report_names_what_differs(compare, float32_step, monkeypatch):
    lines = list(compare.report(float32_step))
    losses = [float(line.split()[-1]) for line in lines if line.startswith("step 1 loss")]
    assert len(losses) == 5
    assert max(losses) < 1e-6
    assert sum(line.endswith("equal") for line in lines) == 20
    assert not any("DIFFERENT" in line for line in lines)
    labels = float32_step.ours["box_labels"].clone()
    labels[0] += 1
    monkeypatch.setitem(float32_step.ours, "box_labels", labels)
    (line,) = [line for line in compare.report(float32_step) if line.endswith("DIFFERENT")]
    assert line.split()[0] == "box_labels"
