"""One step against the plain oracle: every loss, every gradient, every strategy and variant."""

import copy
import dataclasses

import pytest
import torch
from oracle import PlainTrainer, all_losses, copy_weights, objective
from worlds import small_settings, small_task

from mianet.config import VARIANTS
from mianet.model import build_model
from mianet.steps import LOSSES, STRATEGIES, Batch, Step, Stepper
from mianet.weights import Weights


def stepper_of(settings, task, seed=3):
    model = build_model(
        settings,
        feature_dim=task.train.features.shape[1],
        attribute_dim=task.class_attributes.shape[1],
        classes=len(task.class_attributes),
        seed=seed,
    ).double()
    return Stepper([model], settings, [in_double(task)])


def in_double(task):
    part = lambda p: dataclasses.replace(p, features=p.features.double())  # noqa: E731
    return dataclasses.replace(
        task,
        class_attributes=task.class_attributes.double(),
        train=part(task.train),
        heldout_seen=part(task.heldout_seen),
        heldout_unseen=part(task.heldout_unseen),
    )


def one(features, classes, other):
    """Return the batch of a single execution."""
    weights = features.new_ones(1, len(features))
    return Batch(features[None], classes[None], other[None], weights)


def random_batch(task, images, seed):
    g = torch.Generator().manual_seed(seed)
    rows = task.train.rows[torch.randint(len(task.train.rows), (images,), generator=g)]
    classes = torch.searchsorted(task.seen_classes, task.train.labels[rows])
    seen = len(task.seen_classes)
    other = (classes + torch.randint(1, seen, (images,), generator=g)) % seen
    return one(task.train.features[rows].double(), classes, other)


SETTINGS = [
    pytest.param(small_settings(latent_activation=activation, **VARIANTS[variant]), id=name)
    for activation in ("relu", "linear")
    for variant in VARIANTS
    for name in [f"{variant}-{activation}"]
]


WEIGHTS = [  # of eq. 7: each loss by itself beside eq. 1, which has no weight, and all together
    pytest.param({"alpha": a, "beta": b, "gamma": c}, id=f"{a}-{b}-{c}")
    for a, b, c in [(0, 0, 0), (30, 0, 0), (0, 2, 0), (0, 0, 0.5), (30, 2, 0.5)]
]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("images", [3, 11])  # fewer and more images than seen classes
@pytest.mark.parametrize("only_present", [True, False])  # False as on a GPU
def test_losses_and_gradients_equal_the_oracle(settings, images, weights, only_present):
    settings, task = settings.replace(**weights), small_task()
    stepper = stepper_of(settings, task)
    assert stepper.only_present
    stepper.only_present = only_present
    batch = random_batch(task, images, seed=1)
    plain = copy_weights(stepper.models[0])
    theirs = all_losses(
        plain,
        settings,
        batch.features[0],
        batch.classes[0],
        batch.other_classes[0],
        task.class_attributes.double(),
        task.seen_classes,
    )
    step = Step(stepper, batch)
    output = step.discriminate() if settings.discriminator else None
    ours = step.update_embeddings(output)[0]
    wanted = [float(theirs[name].detach()) for name in LOSSES]
    assert ours.tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    compare_gradients(stepper.embedding, plain, objective(theirs, settings))
    if output:
        step.update_discriminator(output)
        compare_gradients(stepper.discriminator, plain, theirs["modality"])


def compare_gradients(ours, weights, loss):
    gradients = ours.gradients(1)
    theirs = torch.autograd.grad(
        loss, [weights[name] for name in gradients], retain_graph=True, allow_unused=True
    )
    for (name, a), b in zip(gradients.items(), theirs, strict=True):
        b = torch.zeros_like(a[0]) if b is None else b
        torch.testing.assert_close(
            a[0], b, rtol=1e-7, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("variant", ["full", "no_discriminator", "self_reconstruction"])
def test_twenty_steps_equal_the_oracle(strategy, variant):
    settings = small_settings(**{**VARIANTS[variant], "strategy": strategy})
    task = small_task()
    stepper = stepper_of(settings, task)
    plain = PlainTrainer(stepper.models[0], settings, task.class_attributes, task.seen_classes)
    for number in range(20):
        batch = random_batch(task, 6, seed=number)
        ours = stepper.step(batch)[0]
        theirs = plain.step(batch.features[0], batch.classes[0], batch.other_classes[0])
        assert ours.tolist() == pytest.approx([theirs[name] for name in LOSSES], rel=1e-7)
    for name, parameter in stepper.models[0].named_parameters():
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
        ends[strategy] = torch.cat([p.data.flatten() for p in stepper.models[0].parameters()])
    assert not torch.allclose(ends["iterative"], ends["simultaneous"], atol=1e-9)
    assert not torch.allclose(ends["simultaneous"], ends["joint"], atol=1e-9)


def test_each_step_leaves_the_other_networks_weights_alone(monkeypatch):
    stepper = stepper_of(small_settings(), small_task())
    parameters = dict(stepper.models[0].named_parameters())
    seen = []

    def watch(weights):
        real, own = weights.step, weights.values(1)

        def step(models):
            before = {name: p.detach().clone() for name, p in parameters.items()}
            real(models)
            moved = {n for n, p in parameters.items() if not torch.equal(p, before[n])}
            assert moved
            assert moved <= set(own)
            seen.append(weights)

        monkeypatch.setattr(weights, "step", step)

    watch(stepper.discriminator)
    watch(stepper.embedding)
    stepper.step(random_batch(small_task(), 6, seed=0))
    assert seen == [stepper.discriminator, stepper.embedding]


def test_the_two_groups_are_all_the_weights_once():
    stepper = stepper_of(small_settings(), small_task())
    groups = [*stepper.embedding.values(1), *stepper.discriminator.values(1)]
    assert sorted(groups) == sorted(name for name, _ in stepper.models[0].named_parameters())


def test_the_models_weights_are_those_that_are_trained():
    stepper = stepper_of(small_settings(), small_task())
    for group in (stepper.embedding, stepper.discriminator):
        for name, value in group.values(1).items():
            assert dict(stepper.models[0].named_parameters())[name].data_ptr() == value.data_ptr()


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
        ends.append([p.detach() for p in stepper.models[0].parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_unseen_attributes_do_take_part_otherwise():
    task = small_task()
    batch = random_batch(task, 6, seed=0)
    before = stepper_of(small_settings(), task).step(batch)[0]
    changed = task.class_attributes.clone()
    changed[task.unseen_classes] += 1
    world = dataclasses.replace(task, class_attributes=changed)
    after = stepper_of(small_settings(), world).step(batch)[0]
    assert before[LOSSES.index("orthogonality")] != after[LOSSES.index("orthogonality")]
    assert before[LOSSES.index("matching")] == after[LOSSES.index("matching")]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_stays_on_its_device(variant, precision, monkeypatch):
    """On the device of no data, which refuses operations with tensors of the CPU."""
    monkeypatch.setattr(Weights, "step", lambda *_: None)  # Adam's kernels know real devices only
    settings, task = small_settings(precision=precision, **VARIANTS[variant]), small_task()
    classes = {n: getattr(task, n).to("meta") for n in ("seen_classes", "unseen_classes")}
    away = dataclasses.replace(task, class_attributes=task.class_attributes.to("meta"), **classes)
    models = [copy.deepcopy(stepper_of(settings, task).models[0]).float().to("meta")] * 2
    classes = torch.zeros(2, 6, dtype=torch.int64, device="meta")
    features = torch.zeros(2, 6, task.train.features.shape[1], device="meta")
    batch = Batch(features, classes, classes, torch.ones(2, 6, device="meta"))
    losses = Stepper(models, settings, [away, away]).step(batch)
    assert (losses.shape, losses.device.type) == ((2, len(LOSSES)), "meta")


def test_rounded_products_are_near_the_exact_ones():
    task, ends = small_task(images=360, width=20, attributes=8), {}
    for precision in ("fp32", "bf16"):
        settings = small_settings(precision=precision, hidden_dim=32, gamma=0.1)
        stepper = stepper_of(settings, task)
        stepper.models[0].float()
        stepper = Stepper([stepper.models[0]], settings, [task])
        losses = [
            stepper.step(Batch(b.features.float(), b.classes, b.other_classes, b.weights.float()))
            for b in (random_batch(task, 30, seed=n) for n in range(20))
        ]
        ends[precision] = torch.cat(losses)
        assert all(p.dtype == torch.float32 for p in stepper.models[0].parameters())
    assert not torch.equal(ends["fp32"], ends["bf16"])
    torch.testing.assert_close(ends["bf16"], ends["fp32"], rtol=0.03, atol=0.01)
