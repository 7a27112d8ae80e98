"""Training and validation: seeds, pairs, learning, divergence, and going on where it was left."""

import copy

import pytest
import torch
from worlds import small_search_data, small_settings, small_task, uneven_tasks, validate

from mianet.config import VARIANTS
from mianet.errors import DivergedError
from mianet.evaluation import evaluate
from mianet.training import Batched, InTurn, batches, begin_mianet, draw_pairs, train
from mianet.validation import Validation

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def collect_pairs(task, batch_images, seed=0):
    """Return rows, classes, other classes and weights of each step of an epoch."""
    drawn = draw_pairs(task, torch.Generator().manual_seed(seed))
    return [tuple(step[0]) for step in batches([drawn], batch_images)]


def test_an_epoch_holds_every_training_image_once_with_its_own_class():
    task = small_task(images=53)
    epoch = collect_pairs(task, 4)
    assert [len(rows) for rows, *_ in epoch[:-1]] == [4] * (len(epoch) - 1)
    rows, classes, _, weights = (torch.cat(each) for each in zip(*epoch, strict=True))
    assert (weights == 1).all()
    assert sorted(rows.tolist()) == sorted(task.train.rows.tolist())
    assert torch.equal(task.seen_classes[classes], task.train.labels[rows])


def test_negative_pairs_are_other_seen_classes_drawn_evenly():
    task = small_task(images=600)
    epochs = [b for seed in range(20) for b in collect_pairs(task, 50, seed)]
    classes, other = (torch.cat([step[part] for step in epochs]) for part in (1, 2))
    assert not (classes == other).any()
    for label in range(4):
        counts = torch.bincount(other[classes == label], minlength=4)
        assert counts[label] == 0
        expected = (classes == label).sum().item() / 3
        assert all(abs(c - expected) < 6 * expected**0.5 for c in counts[counts > 0].tolist())
        assert (counts > 0).sum() == 3


def test_the_same_seed_gives_the_same_epochs_and_another_seed_others():
    task = small_task()
    runs = [
        [epoch.losses for epoch in train(task, small_settings(), epochs=3, seed=seed)]
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_only_the_training_part_is_read():
    task = small_task()
    spoiled = task.train.features.clone()
    held = torch.cat([task.heldout_seen.rows, task.heldout_unseen.rows])
    spoiled[held] = torch.nan
    task.train.features.copy_(spoiled)
    settings = small_settings(feature_scaling="standard")
    assert all(epoch.losses for epoch in train(task, settings, epochs=2, seed=0))


def test_stopping_is_not_asking_for_more():
    epochs = train(small_task(), small_settings(), epochs=10**9, seed=0)
    assert [next(epochs).number, next(epochs).number] == [1, 2]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns(variant):
    task = small_task(images=360, width=20, attributes=8)
    settings = small_settings(
        alpha=1.0,
        beta=0.01,
        gamma=0.01,
        hidden_dim=32,
        latent_multiplier=3.0,
        batch_images=10,
        feature_scaling="standard",
        **VARIANTS[variant],
    )
    curve = [
        evaluate(epoch, task).seen_accuracy for epoch in train(task, settings, epochs=8, seed=0)
    ]
    assert curve[0] < 0.7
    assert curve[-1] > 0.95


def test_divergence_is_an_error_that_names_the_loss():
    settings = small_settings(learning_rate=1e30)
    with pytest.raises(DivergedError, match="loss is not finite after epoch 1"):
        list(train(small_task(), settings, epochs=3, seed=0))


def test_validation_repeats_and_its_mean_is_of_the_executions():
    data = small_search_data()
    runs = [
        list(validate(data, small_settings(), epochs=2, executions=3, seed=5)) for _ in range(2)
    ]
    assert runs[0] == runs[1]
    for epoch in runs[0]:
        assert len(epoch.executions) == 3
        mean_h = sum(m.harmonic_mean for m in epoch.executions) / 3
        assert epoch.mean.harmonic_mean == pytest.approx(mean_h)


def test_executions_are_the_same_however_many_there_are():
    data = small_search_data()
    few, many = (
        next(validate(data, small_settings(), epochs=1, executions=k, seed=0)) for k in (2, 4)
    )
    assert few.executions == many.executions[:2]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_taken_up_again_goes_on_bit_for_bit(variant, tmp_path):
    data, settings = small_search_data(), small_settings(**VARIANTS[variant])
    undisturbed = list(validate(data, settings, epochs=5, executions=2, seed=3))
    first = Validation(data, settings, executions=2, seed=3)
    epochs = [first.epoch(), first.epoch()]
    torch.save(first.state(), tmp_path / "state.pt")
    again = Validation(data, settings, executions=2, seed=3)
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    epochs += [again.epoch() for _ in range(3)]
    assert epochs == undisturbed


def test_the_epochs_after_a_restore_do_not_change_the_saved_state():
    first = Validation(small_search_data(), small_settings(), executions=1)
    first.epoch()
    state = copy.deepcopy(first.state())
    outcomes = []
    for _ in range(2):
        again = Validation(small_search_data(), small_settings(), executions=1)
        again.restore(state)
        outcomes.append(again.epoch())
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("modality", ["visual", "semantic"])
def test_dead_latents_are_a_divergence(modality, monkeypatch):
    training = Batched([small_task()], small_settings(learning_rate=1e-9), seeds=[0])
    training.epoch()
    layer = getattr(training._stepper.models[0], f"{modality}_latent")
    with torch.no_grad():
        layer.bias.fill_(-1e6)
    with pytest.raises(DivergedError, match=f"all {modality} latents are zero after epoch 2"):
        training.epoch()


def test_linear_latents_do_not_die():
    settings = small_settings(learning_rate=1e-9, latent_activation="linear")
    training = Batched([small_task()], settings, seeds=[0])
    with torch.no_grad():
        training._stepper.models[0].visual_latent.bias.fill_(-1e6)
    assert training.epoch()[0].number == 1


def in_turn(tasks, settings, seeds):
    each = zip(tasks, seeds, strict=True)
    return InTurn([Batched([task], settings, seeds=[seed]) for task, seed in each])


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_batched_executions_are_what_each_is_alone(variant, activation):
    settings = small_settings(
        feature_scaling="standard", latent_activation=activation, **VARIANTS[variant]
    )
    tasks, seeds = uneven_tasks(), (5, 6, 7)
    steps = [-(-len(task.train.rows) // settings.batch_images) for task in tasks]
    assert len(set(steps)) == 3
    batched = Batched(tasks, settings, seeds=seeds)
    alone = in_turn(tasks, settings, seeds)
    for _ in range(4):
        for ours, theirs in zip(batched.epoch(), alone.epoch(), strict=True):
            assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)
            for (name, a), b in zip(
                ours.model.named_parameters(), theirs.model.parameters(), strict=True
            ):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: n + m)
            assert torch.equal(ours.scaler.shift, theirs.scaler.shift)


def test_a_batched_training_goes_on_where_one_by_one_left_off():
    tasks, seeds, settings = uneven_tasks(), (5, 6, 7), small_settings()
    alone = in_turn(tasks, settings, seeds)
    alone.epoch()
    batched = Batched(tasks, settings, seeds=seeds)
    batched.restore(copy.deepcopy(alone.state()))
    for ours, theirs in zip(batched.epoch(), alone.epoch(), strict=True):
        assert ours.number == theirs.number == 2
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)


def test_executions_are_batched_where_their_weights_are_few():
    tasks, seeds = uneven_tasks(), (5, 6, 7)
    small = begin_mianet(tasks, small_settings(), seeds=seeds)
    wide = begin_mianet(tasks, small_settings(hidden_dim=40_000), seeds=seeds)
    assert (type(small), type(wide)) == (Batched, InTurn)
