"""What only a GPU can show: steps are captured, replays are the steps, and nothing waits."""

import copy
import gc
import warnings

import pytest
import torch
from test_graphs import assert_equal_states, run
from worlds import on, small_settings, small_task, uneven_tasks

from mianet import training
from mianet.config import VARIANTS
from mianet.model import build_model
from mianet.steps import Batch, Stepper
from mianet.training import Batched

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")

VARIED = [dict(settings) for settings in VARIANTS.values()]
VARIED += [{"precision": "tf32"}, {"precision": "bf16"}, {"latent_activation": "linear"}]


def uneven(settings):
    """Return a training of executions that take 3, 5 and 4 steps in an epoch."""
    return Batched(uneven_tasks(width=64, device="cuda"), settings, seeds=(5, 6, 7))


def wide(**changes):
    return small_settings(hidden_dim=128, latent_multiplier=8.0, **changes)


@pytest.mark.parametrize("changes", VARIED, ids=str)
def test_replayed_steps_are_the_steps(changes, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what could not be captured
        ours, state = run(uneven(wide(**changes)), 4)
    monkeypatch.setattr(training, "captured", lambda function, _: function)
    theirs, their_state = run(uneven(wide(**changes)), 4)
    assert ours == theirs
    assert_equal_states(state, their_state)


def test_a_graph_among_the_garbage_breaks_no_capture():
    """A collection in the middle of a capture would free it, which the capture does not survive."""
    old = uneven(wide())
    run(old, 3)
    circle = [old]
    circle.append(circle)
    del old
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            running = uneven(wide())
            running.epoch()
            del circle
            running.epoch()
    finally:
        gc.set_threshold(*thresholds)
    assert running.epoch()[0].number == 3


def test_trainings_after_one_another_take_no_more_memory():
    taken = []
    for _ in range(4):
        run(uneven(wide()), 3)
        taken.append(torch.cuda.memory_allocated())
    assert len(set(taken[1:])) == 1


def test_a_training_taken_up_again_goes_on_bit_for_bit():
    begun = uneven(wide())
    run(begun, 3)
    saved = copy.deepcopy(begun.state())
    wanted, state = run(begun, 3)
    again = uneven(wide())
    again.restore(saved)
    losses, again_state = run(again, 3)
    assert losses == wanted
    assert_equal_states(again_state, state)


def test_steps_do_not_wait_for_the_device():
    running = uneven(wide())
    running.epoch()
    running.epoch()  # captures
    torch.cuda.set_sync_debug_mode("error")
    try:
        running._train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert running._steps.total.isfinite().all()


@pytest.mark.parametrize("changes", VARIED, ids=str)
def test_a_gpu_takes_the_steps_of_a_cpu(changes):
    rounding = {"tf32": 2e-2, "bf16": 5e-2}.get(changes.get("precision"), 2e-3)
    settings = wide(**changes)
    cpu, gpu = (stepped(settings, device) for device in ("cpu", "cuda"))
    for losses, theirs in zip(cpu, gpu, strict=True):
        torch.testing.assert_close(theirs.cpu(), losses, rtol=rounding, atol=1e-4)


def stepped(settings, device):
    """Return the losses that ten steps from one start meet."""
    here = small_task(images=60, width=64)
    task = on(device, here)
    model = build_model(settings, feature_dim=64, attribute_dim=5, classes=6, seed=1).to(device)
    stepper = Stepper([model], settings, [task])
    generator = torch.Generator().manual_seed(3)
    every = []
    for _ in range(10):
        drawn = training.draw_pairs(here, generator)
        rows = drawn.rows.to(device)
        batch = Batch(
            task.train.features[rows][None],
            drawn.classes.to(device)[None],
            drawn.other_classes.to(device)[None],
            torch.ones(1, len(rows), device=device),
        )
        with training.tensor_float(settings.precision == "tf32"):
            every.append(stepper.step(batch))
    return every
