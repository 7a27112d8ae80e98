"""The reference models against plain oracles that are written down from their definitions."""

import math
from itertools import islice

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from worlds import small_task

from mianet.errors import DivergedError
from mianet.reference import least_squares, logistic, ranking
from mianet.reference import settings as settings_of
from mianet.reference.least_squares import moments
from mianet.reference.logistic import fit_linear
from mianet.reference.repeated import train_at_once
from mianet.scaling import FeatureScaler


def plain(task):
    """Return X, the one-hot Y, the seen classes' S, and each image's attributes, in double."""
    rows = task.train.rows
    features = task.train.features[rows].double()
    labels = task.train.labels[rows]
    onehot = (labels[:, None] == task.seen_classes).double()
    attributes = task.class_attributes[task.seen_classes].double()
    return features, onehot, attributes, task.class_attributes[labels].double()


def unscaled(task):
    return FeatureScaler.fit("none", task.train.features, task.train.rows)


def test_moments_are_sums_over_the_training_images(monkeypatch):
    task = small_task(images=53)
    monkeypatch.setattr("mianet.reference.least_squares._ROWS_AT_ONCE", 5)
    found = moments(task, unscaled(task))
    features, onehot, attributes, _ = plain(task)
    torch.testing.assert_close(found.gram, features.mT @ features)
    torch.testing.assert_close(found.class_sums, onehot.mT @ features)
    torch.testing.assert_close(found.class_counts, onehot.sum(0))
    torch.testing.assert_close(found.class_attributes, attributes)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1e3, 1e-3), (1e-2, 10.0)])
def test_eszsl_is_where_the_gradient_of_its_objective_vanishes(gamma, lam):
    task = small_task(images=60)
    X, Y, S, _ = plain(task)

    def objective(W):
        fit = (X @ W @ S.mT - Y).square().sum()
        return (
            fit
            + gamma * (W @ S.mT).square().sum()
            + lam * (X @ W).square().sum()
            + gamma * lam * W.square().sum()
        )

    settings = settings_of.ESZSLSettings(feature_weight=gamma, attribute_weight=lam)
    solution = least_squares.solve_eszsl(moments(task, unscaled(task)), settings).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(solution), solution)
    (elsewhere,) = torch.autograd.grad(objective(solution * 1.01), solution)
    assert gradient.abs().max() < 1e-9 * max(1.0, gamma)
    assert elsewhere.abs().max() > 1e3 * gradient.abs().max()


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e3])
def test_sae_solves_its_sylvester_equation(lam):
    task = small_task(classes=9, images=80)  # as many seen classes as attributes: S is of full rank
    X, _, _, S = (part.mT for part in plain(task))
    A, B, C = S @ S.mT, lam * X @ X.mT, (1 + lam) * S @ X.mT
    solution = least_squares.solve_sae(moments(task, unscaled(task)), lam)
    torch.testing.assert_close(A @ solution + solution @ B, C, rtol=1e-9, atol=1e-9)
    expected = scipy.linalg.solve_sylvester(A.numpy(), B.numpy(), C.numpy())
    np.testing.assert_allclose(solution.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_sae_is_where_the_gradient_of_its_objective_vanishes():
    task = small_task(classes=9, images=80)
    X, _, _, S = (part.mT for part in plain(task))
    W = least_squares.solve_sae(moments(task, unscaled(task)), 0.3).requires_grad_()
    objective = (X - W.mT @ S).square().sum() + 0.3 * (W @ X - S).square().sum()
    (gradient,) = torch.autograd.grad(objective, W)
    assert gradient.abs().max() < 1e-9


def test_sae_needs_neither_as_many_classes_as_attributes_nor_features_that_vary():
    task = small_task(attributes=9, images=40)  # 4 seen classes
    task.train.features[:, 2] = 0
    X, _, _, S = (part.mT for part in plain(task))
    solution = least_squares.solve_sae(moments(task, unscaled(task)), 0.5)
    residual = S @ S.mT @ solution + 0.5 * solution @ X @ X.mT - 1.5 * S @ X.mT
    assert residual.abs().max() < 1e-9
    assert solution.abs().max() < 1e3
    assert solution[:, 2].abs().max() < 1e-12


def test_saes_two_directions_are_cosines_on_either_side():
    task = small_task()
    both = {}
    for matching in ("attributes", "features"):
        settings = settings_of.SAESettings(matching=matching, feature_scaling="none")
        (epoch,) = train_at_once(least_squares.fit_sae, task, settings, seed=0)
        both[matching] = epoch.model
    W = both["attributes"].weight.mT
    x, s = task.train.features[3], task.class_attributes[1]
    encoded = F.cosine_similarity(W @ x, s, dim=0)
    decoded = F.cosine_similarity(x, W.mT @ s, dim=0)
    for matching, expected in (("attributes", encoded), ("features", decoded)):
        found = both[matching].scores(task.train.features, task.class_attributes)[3, 1]
        assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_softmax_regression_agrees_with_another_implementation():
    task = small_task(images=200)
    X, onehot, _, _ = plain(task)
    positions, decay = onehot.argmax(1), 1e-3
    ours, loss = fit_linear(
        task, unscaled(task), 4, lambda logits: F.cross_entropy(logits, positions), decay
    )
    theirs = LogisticRegression(C=1 / (decay * len(X)), tol=1e-8, max_iter=10_000).fit(X, positions)
    probabilities = theirs.predict_proba(X)
    found = ours.logits(X.float()).softmax(-1).numpy()
    np.testing.assert_allclose(found, probabilities, atol=5e-3)
    expected = -np.log(probabilities[np.arange(len(X)), positions]).mean()
    assert loss == pytest.approx(expected, abs=1e-3)


def test_a_regression_that_is_not_finite_is_a_divergence():
    task = small_task()
    task.train.features[task.train.rows[0], 0] = torch.inf
    with pytest.raises(DivergedError, match="logistic regression is not finite"):
        list(
            train_at_once(
                logistic.fit_conse, task, settings_of.ConSESettings(feature_scaling="none"), seed=0
            )
        )


@pytest.mark.parametrize("top", [1, 2, 100])
def test_conse_is_the_cosine_with_the_best_guesses_mixture(top):
    task = small_task(images=60)
    settings = settings_of.ConSESettings(top=top, weight_decay=0.1)
    (epoch,) = train_at_once(logistic.fit_conse, task, settings, seed=0)
    features = epoch.scaler(task.train.features)
    scores = epoch.model.scores(features, task.class_attributes)
    probabilities = epoch.model.classifier.logits(features).softmax(-1)
    for image in range(0, len(features), 7):
        order = sorted(range(4), key=lambda k, i=image: -probabilities[i, k])[:top]
        total = sum(probabilities[image, k] for k in order)
        mixture = sum(
            probabilities[image, k] / total * task.class_attributes[task.seen_classes[k]]
            for k in order
        )
        for label, attributes in enumerate(task.class_attributes):
            expected = F.cosine_similarity(mixture, attributes, dim=0)
            assert scores[image, label].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("threshold", ["overall", "attribute"])
def test_dap_is_the_product_of_attribute_probabilities_over_their_priors(threshold):
    task = small_task(images=60, attributes=8)
    settings = settings_of.DAPSettings(threshold=threshold, weight_decay=0.1)
    (epoch,) = train_at_once(logistic.fit_dap, task, settings, seed=0)
    features = epoch.scaler(task.train.features)
    scores = epoch.model.scores(features, task.class_attributes)
    seen = task.class_attributes[task.seen_classes]
    cut = [(seen.mean() if threshold == "overall" else seen[:, m].mean()).item() for m in range(8)]
    prior = [sum(float(s[m] > cut[m]) for s in seen) / 4 for m in range(8)]
    kept = [m for m in range(8) if 0 < prior[m] < 1]
    assert kept == epoch.model.attributes.nonzero()[:, 0].tolist()
    probability = epoch.model.classifiers.logits(features).sigmoid()
    for image in range(0, len(features), 7):
        for label, attributes in enumerate(task.class_attributes):
            expected = 0.0
            for column, m in enumerate(kept):
                p, q = probability[image, column].item(), prior[m]
                present = attributes[m].item() > cut[m]
                expected += math.log(p / q) if present else math.log((1 - p) / (1 - q))
            assert scores[image, label].item() == pytest.approx(expected, abs=1e-3)


def test_daps_classifiers_are_independent_regularised_regressions():
    task = small_task(images=200, attributes=8)
    settings = settings_of.DAPSettings(weight_decay=1e-2, feature_scaling="none")
    (epoch,) = train_at_once(logistic.fit_dap, task, settings, seed=0)
    X, _, _, of_image = plain(task)
    seen = task.class_attributes[task.seen_classes]
    column = int(epoch.model.attributes.nonzero()[0, 0])
    present = of_image[:, column] > seen.mean()
    theirs = LogisticRegression(C=1 / (1e-2 * len(X)), tol=1e-8, max_iter=10_000).fit(X, present)
    found = epoch.model.classifiers.logits(X.float())[:, 0].sigmoid().numpy()
    np.testing.assert_allclose(found, theirs.predict_proba(X)[:, 1], atol=5e-3)


def test_dap_cannot_learn_where_all_classes_look_alike():
    task = small_task()
    task.class_attributes[:] = 0.5
    with pytest.raises(DivergedError, match="no binary attribute"):
        list(train_at_once(logistic.fit_dap, task, settings_of.DAPSettings(), seed=0))


def plain_ranking(scores, own, model):
    """Return the ranking loss of one image, from the definitions."""
    violations = [
        1 + scores[y] - scores[own] if y != own else scores[own] * 0 for y in range(len(scores))
    ]
    positive = [v for v in violations if v > 0]
    if not positive:
        return scores.sum() * 0
    if model == "sje":
        return max(positive)
    if model == "devise":
        return sum(positive)
    rank = len(positive)
    return sum(1 / i for i in range(1, rank + 1)) / rank * sum(positive)


@pytest.mark.parametrize("model", ranking.COSTS)
def test_the_gradient_of_a_ranking_loss_is_autograds(model):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    own = torch.randint(7, (40,), generator=generator)
    expected = sum(plain_ranking(scores[i], int(own[i]), model) for i in range(40)) / 40
    (slope,) = torch.autograd.grad(expected, scores)
    loss, gradient = ranking.ranking_loss(scores.detach(), own, ranking.COSTS[model])
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, slope)


@pytest.mark.parametrize("model", ranking.COSTS)
def test_a_class_that_leads_by_the_margin_costs_nothing(model):
    scores = torch.tensor([[3.0, 1.5, 1.9]])
    loss, gradient = ranking.ranking_loss(scores, torch.tensor([0]), ranking.COSTS[model])
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    "settings", [settings_of.ALESettings, settings_of.DeViSESettings, settings_of.SJESettings]
)
def test_a_step_follows_the_gradient_of_the_loss_in_the_weights(settings):
    task = small_task(images=40)
    features, onehot, attributes, _ = plain(task)
    chosen = settings(learning_rate=0.1, batch_images=10_000, feature_scaling="none")
    weight = torch.zeros(7, 5, dtype=torch.float64, requires_grad=True)
    for epoch in islice(ranking.train(task, chosen, seed=0), 4):
        scores = features @ weight @ attributes.mT
        loss = sum(
            plain_ranking(row, int(own.argmax()), chosen.model)
            for row, own in zip(scores, onehot, strict=True)
        ) / len(features)
        assert epoch.losses["ranking"] == pytest.approx(loss.item(), rel=1e-4)
        (slope,) = torch.autograd.grad(loss, weight)
        weight = (weight - 0.1 * slope).detach().requires_grad_()
        torch.testing.assert_close(epoch.model.weight.double(), weight.detach(), atol=1e-4, rtol=0)


def test_a_ranking_that_leaves_the_finite_numbers_is_a_divergence():
    settings = settings_of.SJESettings(learning_rate=1e38, batch_images=1, feature_scaling="none")
    with pytest.raises(DivergedError, match="ranking loss is not finite after epoch 1"):
        list(ranking.train(small_task(), settings, seed=0))
