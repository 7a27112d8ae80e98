"""Metrics against slow plain versions."""

import dataclasses

import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import harmonic_mean, small_settings, small_task

from mianet.evaluation import (
    Metrics,
    Scored,
    Summary,
    evaluate,
    per_class_top1,
    summarise,
)
from mianet.model import on_hypersphere
from mianet.protocol import Subset, Task
from mianet.training import train


def part_of(labels):
    """Return images of these classes, behind one that is not among them."""
    rows = torch.arange(1, len(labels) + 1)
    return Subset(torch.zeros(len(rows) + 1, 1), torch.cat([labels.new_zeros(1), labels]), rows)


labelled = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


@given(labelled)
def test_per_class_top1_is_the_mean_of_the_classes_shares(rows):
    by_class = {}
    for predicted, label in rows:
        by_class.setdefault(label, []).append(predicted == label)
    slow = sum(sum(hits) / len(hits) for hits in by_class.values()) / len(by_class)
    predicted, labels = (torch.tensor(column) for column in zip(*rows, strict=True))
    assert per_class_top1(predicted, part_of(labels)).item() == pytest.approx(slow)


def test_a_large_class_counts_no_more_than_a_small_one():
    labels = torch.tensor([0] * 99 + [1])
    assert per_class_top1(torch.zeros(100, dtype=torch.int64), part_of(labels)).item() == 0.5


@given(st.floats(0, 1), st.floats(0, 1))
def test_harmonic_mean_lies_between_and_is_symmetric(tr, ts):
    h = harmonic_mean(tr, ts)
    assert min(tr, ts) - 1e-12 <= h <= max(tr, ts) + 1e-12
    assert h == harmonic_mean(ts, tr)
    assert harmonic_mean(tr, 0.0) == 0


def test_evaluate_equals_a_plain_nearest_class_search():
    task = small_task(images=60)
    *_, epoch = train(task, small_settings(), epochs=3, seed=0)

    def nearest(row, candidates):
        v = on_hypersphere(epoch.model.embed_features(task.train.features[row][None]))
        cosines = {
            int(c): float(
                v @ on_hypersphere(epoch.model.embed_attributes(task.class_attributes[c][None])).mT
            )
            for c in candidates
        }
        return max(cosines, key=cosines.get)

    def accuracy(part, candidates):
        hits = {}
        for row in part.rows:
            label = int(part.labels[row])
            hits.setdefault(label, []).append(nearest(row, candidates) == label)
        return sum(sum(h) / len(h) for h in hits.values()) / len(hits)

    everything = range(len(task.class_attributes))
    ts = accuracy(task.heldout_unseen, everything)
    tr = accuracy(task.heldout_seen, everything)
    metrics = evaluate(epoch, task)
    t1 = accuracy(task.heldout_unseen, task.unseen_classes)
    assert dataclasses.astuple(metrics)[:4] == pytest.approx((ts, tr, harmonic_mean(tr, ts), t1))


@given(st.integers(0, 10**6))
def test_the_confusion_counts_each_image_once_among_all_classes(seed):
    g = torch.Generator().manual_seed(seed)
    classes, unseen = 6, torch.tensor([1, 4])
    seen = torch.tensor([0, 2, 3, 5])
    scores = torch.rand(40, classes, generator=g), torch.rand(20, classes, generator=g)
    of_seen = part_of(seen[torch.randint(4, (40,), generator=g)])
    of_unseen = part_of(unseen[torch.randint(2, (20,), generator=g)])
    task = Task(torch.zeros(classes, 1), seen, unseen, of_seen, of_seen, of_unseen)
    scored = Scored(*scores, task)
    labels = torch.cat([of_seen.own_labels, of_unseen.own_labels])
    predicted = torch.cat([scored.seen_scores, scored.unseen_scores]).argmax(1)
    expected = sklearn.metrics.confusion_matrix(labels, predicted, labels=range(classes))
    assert scored.confusion.tolist() == expected.tolist()
    counts = scored.confusion.sum(1)
    rates = scored.confusion.diag().double() / counts
    (metrics,) = summarise([scored.outcome]).executions
    for part, accuracy in ((unseen, metrics.unseen_accuracy), (seen, metrics.seen_accuracy)):
        assert rates[part][counts[part] > 0].mean().item() == pytest.approx(accuracy)


def test_mean_of_executions_takes_the_mean_of_their_harmonic_means():
    one, other = Metrics(0.0, 1.0, 0.0, 0.2, 0.1, 0.3), Metrics(1.0, 1.0, 1.0, 0.4, 0.2, 0.5)
    assert dataclasses.astuple(Summary(0.0, (one, other)).mean) == pytest.approx(
        (0.5, 1.0, 0.5, 0.3, 0.15, 0.4)
    )
