"""Mean average precision against slow oracles."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from mianet.inference.retrieval import average_precision, mean_average_precision, top_images


def slow_average_precision(scores, relevant):
    """Eq. 9 as it is said: at each relevant image, the share of relevant ones up to its place."""
    precisions = []
    for score, is_relevant in zip(scores, relevant, strict=True):
        if is_relevant:
            up_to_here = [r for s, r in zip(scores, relevant, strict=True) if s >= score]
            precisions.append(sum(up_to_here) / len(up_to_here))
    return sum(precisions) / len(precisions)


ranked = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()),
    min_size=1,
    max_size=30,
).filter(lambda images: any(relevant for _, relevant in images))


@given(ranked)
def test_it_is_the_slow_one_also_where_scores_are_equal(images):
    scores, relevant = (list(column) for column in zip(*images, strict=True))
    ours = average_precision(torch.tensor(scores), torch.tensor(relevant).float())
    assert ours == pytest.approx(slow_average_precision(scores, relevant))
    assert ours == pytest.approx(average_precision_score(relevant, scores))


@given(ranked, st.randoms())
def test_the_order_of_storage_decides_nothing(images, random):
    shuffled = list(images)
    random.shuffle(shuffled)
    of = [
        average_precision(torch.tensor([s for s, _ in i]), torch.tensor([float(r) for _, r in i]))
        for i in (images, shuffled)
    ]
    assert of[0] == pytest.approx(of[1])


def test_a_perfect_and_the_worst_ranking():
    scores = torch.tensor([0.9, 0.8, 0.2, 0.1])
    assert average_precision(scores, torch.tensor([1.0, 1.0, 0.0, 0.0])) == 1
    worst = average_precision(scores, torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert worst == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_a_query_without_a_relevant_image_is_refused():
    with pytest.raises(ValueError, match="must have a relevant image"):
        average_precision(torch.tensor([0.5]), torch.tensor([0.0]))


def test_the_mean_is_over_the_queries_and_not_over_the_images():
    random = np.random.default_rng(0)
    scores, labels = random.random((60, 5)), random.choice(5, 60, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    queries = [1, 3, 4]
    slow = np.mean([slow_average_precision(scores[:, c], labels == c) for c in queries])
    ours = mean_average_precision(torch.tensor(scores), torch.tensor(labels), torch.tensor(queries))
    assert ours == pytest.approx(slow)


def test_the_top_images_come_best_first_and_ties_in_order_of_storage():
    scores = torch.tensor([[0.1, 0.5], [0.9, 0.5], [0.4, 0.5], [0.8, 0.6]])
    top = top_images(scores, torch.tensor([0, 1]), 3)
    assert top.tolist() == [[1, 3, 2], [3, 0, 1]]
