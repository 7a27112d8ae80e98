"""One step against the plain oracle: every loss, every gradient, every strategy and variant."""

import dataclasses

import pytest
import torch
from oracle import PlainTrainer, all_losses, copy_weights, objective
from worlds import small_settings, small_task

from mianet.config import VARIANTS
from mianet.model import build_model
from mianet.steps import LOSSES, STRATEGIES, Batch, Stepper


def stepper_of(settings, task, seed=3):
    model = build_model(
        settings,
        feature_dim=task.train.features.shape[1],
        attribute_dim=task.class_attributes.shape[1],
        classes=len(task.class_attributes),
        seed=seed,
    ).double()
    return Stepper(model, settings, in_double(task))


def in_double(task):
    part = lambda p: dataclasses.replace(p, features=p.features.double())  # noqa: E731
    return dataclasses.replace(
        task,
        class_attributes=task.class_attributes.double(),
        train=part(task.train),
        heldout_seen=part(task.heldout_seen),
        heldout_unseen=part(task.heldout_unseen),
    )


def random_batch(task, images, seed):
    g = torch.Generator().manual_seed(seed)
    rows = task.train.rows[torch.randint(len(task.train.rows), (images,), generator=g)]
    classes = torch.searchsorted(task.seen_classes, task.train.labels[rows])
    seen = len(task.seen_classes)
    other = (classes + torch.randint(1, seen, (images,), generator=g)) % seen
    return Batch(task.train.features[rows].double(), classes, other)


SETTINGS = [
    pytest.param(small_settings(latent_activation=activation, **VARIANTS[variant]), id=name)
    for activation in ("relu", "linear")
    for variant in VARIANTS
    for name in [f"{variant}-{activation}"]
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("images", [3, 11])  # fewer and more images than seen classes
def test_losses_and_gradients_equal_the_oracle(settings, images):
    task = small_task()
    stepper = stepper_of(settings, task)
    batch = random_batch(task, images, seed=1)
    ours = stepper.losses(batch, stepper.forward(batch))
    weights = copy_weights(stepper.model)
    theirs = all_losses(
        weights,
        settings,
        batch.features,
        batch.classes,
        batch.other_classes,
        task.class_attributes.double(),
        task.seen_classes,
    )
    for name in LOSSES:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-12)
        if not theirs[name].requires_grad:
            assert not ours[name].requires_grad or float(ours[name]) == 0
            continue
        compare_gradients(stepper.model, ours[name], weights, theirs[name])
    compare_gradients(stepper.model, stepper.objective(ours), weights, objective(theirs, settings))


def compare_gradients(model, ours, weights, theirs):
    parameters = dict(model.named_parameters())
    our_gradients = torch.autograd.grad(
        ours, list(parameters.values()), retain_graph=True, allow_unused=True
    )
    their_gradients = torch.autograd.grad(
        theirs, list(weights.values()), retain_graph=True, allow_unused=True
    )
    for name, a, b in zip(parameters, our_gradients, their_gradients, strict=True):
        a = torch.zeros_like(parameters[name]) if a is None else a
        b = torch.zeros_like(parameters[name]) if b is None else b
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("variant", ["full", "no_discriminator", "self_reconstruction"])
def test_twenty_steps_equal_the_oracle(strategy, variant):
    settings = small_settings(**{**VARIANTS[variant], "strategy": strategy})
    task = small_task()
    stepper = stepper_of(settings, task)
    plain = PlainTrainer(stepper.model, settings, task.class_attributes, task.seen_classes)
    for number in range(20):
        batch = random_batch(task, 6, seed=number)
        ours = stepper.step(batch)
        theirs = plain.step(batch.features, batch.classes, batch.other_classes)
        assert ours.tolist() == pytest.approx([theirs[name] for name in LOSSES], rel=1e-7)
    for name, parameter in stepper.model.named_parameters():
        torch.testing.assert_close(
            parameter.data,
            plain.w[name].data,
            rtol=1e-6,
            atol=1e-9,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_the_strategies_differ():
    task, ends = small_task(), {}
    for strategy in STRATEGIES:
        stepper = stepper_of(small_settings(strategy=strategy), task)
        for number in range(3):
            stepper.step(random_batch(task, 6, seed=number))
        ends[strategy] = torch.cat([p.data.flatten() for p in stepper.model.parameters()])
    assert not torch.allclose(ends["iterative"], ends["simultaneous"], atol=1e-9)
    assert not torch.allclose(ends["simultaneous"], ends["joint"], atol=1e-9)


def test_each_step_leaves_the_other_networks_weights_alone(monkeypatch):
    task = small_task()
    stepper = stepper_of(small_settings(), task)
    seen = []

    def watch(optimizer, moved, still):
        real = optimizer.step

        def step():
            before = [p.detach().clone() for p in still]
            moving = [p.detach().clone() for p in moved]
            real()
            assert all(torch.equal(a, b) for a, b in zip(before, still, strict=True))
            assert any(not torch.equal(a, b) for a, b in zip(moving, moved, strict=True))
            seen.append(optimizer)

        monkeypatch.setattr(optimizer, "step", step)

    watch(stepper.discriminator_optimizer, stepper.discriminator, stepper.embedding)
    watch(stepper.embedding_optimizer, stepper.embedding, stepper.discriminator)
    stepper.step(random_batch(task, 6, seed=0))
    assert seen == [stepper.discriminator_optimizer, stepper.embedding_optimizer]


def test_the_two_groups_are_all_the_weights_once():
    stepper = stepper_of(small_settings(), small_task())
    groups = [id(p) for p in stepper.embedding] + [id(p) for p in stepper.discriminator]
    assert sorted(groups) == sorted(id(p) for p in stepper.model.parameters())


def test_withheld_attributes_take_no_part():
    settings = small_settings(withhold_unseen_attributes=True)
    task = in_double(small_task())
    changed_attributes = task.class_attributes.clone()
    changed_attributes[task.unseen_classes] = 1e6
    changed = dataclasses.replace(task, class_attributes=changed_attributes)
    ends = []
    for world in (task, changed):
        stepper = stepper_of(settings, world)
        for number in range(3):
            stepper.step(random_batch(task, 6, seed=number))
        ends.append([p.detach() for p in stepper.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_unseen_attributes_do_take_part_otherwise():
    task = small_task()
    stepper = stepper_of(small_settings(), task)
    batch = random_batch(task, 6, seed=0)
    before = stepper.losses(batch, stepper.forward(batch))
    stepper.attributes = stepper.attributes.clone()
    stepper.attributes[task.unseen_classes] += 1
    after = stepper.losses(batch, stepper.forward(batch))
    assert before["orthogonality"] != after["orthogonality"]
    assert before["matching"] == after["matching"]
