"""Steps captured as a graph: replays take the same steps, and an epoch waits for no number.

A CUDA graph repeats what the device did: the same operations with the same numbers on the same
memory. ``taken_down`` does that with PyTorch's operations, so what a capture must not contain is
found without a GPU: numbers that Python would have changed, tensors that would lie elsewhere.
"""

import copy
import gc
import warnings
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from worlds import small_settings, uneven_tasks

from mianet import training
from mianet.config import VARIANTS
from mianet.graphs import Captured
from mianet.training import Batched

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2")
"""Operations for whose result Python would wait for the device."""


class Log(TorchDispatchMode):
    """Notes every operation while it is done, and what memory held before it was written to."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.before = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info and argument.alias_info.is_write:
                self._keep(value)
        self._keep([v for n, v in kwargs.items() if n in ("out", "grad_input")])
        results = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, results))
        return results

    def _keep(self, written):
        for tensor in tensors(written):
            memory = tensor.untyped_storage()
            self.before.setdefault(memory.data_ptr(), (memory, memory.clone()))

    def undo(self):
        for memory, was in self.before.values():
            memory.copy_(was)

    def names(self):
        return {func.name().removeprefix("aten::").split(".")[0] for func, *_ in self.operations}


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@torch.no_grad()
def taken_down(call):
    """Return what repeats a call, operation by operation; leave everything as it was."""
    with Log() as log:
        call()
    log.undo()

    @torch.no_grad()
    def replay():
        for func, args, kwargs, results in log.operations:
            again = func(*args, **kwargs)
            for old, new in zip(tensors(results), tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    return replay


@pytest.fixture
def replayed(monkeypatch):
    """Have every training replay its steps; return how many were captured."""
    captures = []

    def capture(call):
        captures.append(call)
        return taken_down(call)

    monkeypatch.setattr(training, "captured", lambda function, _: Captured(function, capture))
    return captures


def uneven(settings):
    """Return a training of executions that take 3, 5 and 4 steps in an epoch."""
    return Batched(uneven_tasks(), settings, seeds=(5, 6, 7))


def run(training, epochs):
    ended = [[epoch.losses for epoch in training.epoch()] for _ in range(epochs)]
    return ended, copy.deepcopy(training.state())


def assert_equal_states(ours, theirs):
    for a, b in zip(tree_leaves(ours), tree_leaves(theirs), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


VARIED = [dict(settings) for settings in VARIANTS.values()]
VARIED += [{"precision": "bf16"}, {"latent_activation": "linear"}, {"feature_scaling": "l2"}]


@pytest.mark.parametrize("changes", VARIED, ids=str)
def test_replayed_steps_are_the_steps(changes, replayed):
    settings = small_settings(**changes)
    ours, state = run(uneven(settings), 4)
    assert len(replayed) == 3  # steps of all executions, of two, of one
    replayed.clear()
    with pytest.MonkeyPatch.context() as undone:
        undone.setattr(training, "captured", lambda function, _: function)
        theirs, their_state = run(uneven(settings), 4)
    assert not replayed
    assert ours == theirs
    assert_equal_states(state, their_state)


def test_a_replay_would_show_a_number_that_python_changes(replayed, monkeypatch):
    """The test above can fail: a step size that is another one each time stays what it was."""
    real = training.Steps.take
    sizes = iter(range(1, 10**6))

    def take(self, pairs):
        self._stepper.embedding.optimizer.param_groups[0]["lr"] = 1e-3 / next(sizes)
        real(self, pairs)

    monkeypatch.setattr(training.Steps, "take", take)
    ours, _ = run(uneven(small_settings()), 4)
    monkeypatch.setattr(training, "captured", lambda function, _: function)
    sizes = iter(range(1, 10**6))
    theirs, _ = run(uneven(small_settings()), 4)
    assert ours != theirs


def test_a_training_taken_up_again_is_captured_again(replayed):
    settings = small_settings()
    begun = uneven(settings)
    run(begun, 3)
    saved = copy.deepcopy(begun.state())
    wanted, state = run(begun, 3)
    begun.restore(saved)  # moves Adam's state to other memory
    again, again_state = run(begun, 3)
    assert again == wanted
    assert_equal_states(again_state, state)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_step_waits_for_the_device(variant, precision):
    running = uneven(small_settings(precision=precision, **VARIANTS[variant]))
    with Log() as log:
        running._train()
    assert "mm" in log.names() or "bmm" in log.names()
    assert not log.names() & set(WAITS)


def test_a_training_that_ends_leaves_no_memory_behind(replayed):
    """Nor a graph that a garbage collection would free in the middle of the next one's capture."""
    running = uneven(small_settings())
    run(running, 3)
    alive = [weakref.ref(running), weakref.ref(running._stepper), weakref.ref(running._step)]
    replayed.clear()
    gc.disable()
    try:
        del running
        assert not any(each() for each in alive)
    finally:
        gc.enable()


def test_no_garbage_is_collected_while_a_step_is_captured():
    collecting = []

    def capture(call):
        collecting.append(gc.isenabled())
        return call

    add = Captured(torch.zeros(2).add_, capture)
    for _ in range(3):
        add(torch.ones(2))
    assert collecting == [False]
    assert gc.isenabled()


def test_what_cannot_be_captured_is_run_as_it_is():
    def fails(call):
        raise RuntimeError("operation not permitted when stream is capturing")

    total = torch.zeros(2)
    add = Captured(total.add_, fails)
    add(torch.ones(2))
    with pytest.warns(RuntimeWarning, match="not be captured as a CUDA graph: operation not perm"):
        add(torch.ones(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        add(torch.full((2,), 5.0))
    assert total.tolist() == [7, 7]
