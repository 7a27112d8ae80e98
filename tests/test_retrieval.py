"""Mean average precision against slow oracles."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mianet.evaluation import mean_average_precision, top_images


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


def average_precision(images):
    """Return the mAP of one query, from each image's score and whether it is of the class."""
    scores, relevant = zip(*images, strict=True)
    labels = torch.tensor([0 if is_relevant else 1 for is_relevant in relevant])
    return mean_average_precision(torch.tensor(scores)[:, None], labels, torch.tensor([0]))


@given(ranked, st.randoms())
def test_it_is_the_slow_one_whatever_the_order_also_where_scores_are_equal(images, random):
    shuffled = list(images)
    random.shuffle(shuffled)
    slow = slow_average_precision(*zip(*images, strict=True))
    assert average_precision(images) == pytest.approx(slow)
    assert average_precision(shuffled) == pytest.approx(slow)


def test_a_perfect_and_the_worst_ranking():
    scores = (0.9, 0.8, 0.2, 0.1)
    assert average_precision(zip(scores, (1, 1, 0, 0), strict=True)) == 1
    worst = average_precision(zip(scores, (0, 0, 1, 1), strict=True))
    assert worst == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_a_query_without_a_relevant_image_is_refused():
    with pytest.raises(ValueError, match="class 0 has none"):
        average_precision([(0.5, False)])


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
