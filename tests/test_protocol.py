"""The validation protocol's draws (section 4.2)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import small_search_data

from mianet.protocol import draw_validation, validation_tasks

class_sizes = st.lists(st.integers(2, 30), min_size=3, max_size=15)


@settings(max_examples=60)
@given(class_sizes, st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_a_draw_divides_the_images_as_the_paper_says(sizes, execution, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    draw = draw_validation(labels, len(sizes), execution=execution, seed=seed)
    seen, unseen = draw["seen_classes"], draw["unseen_classes"]
    assert sorted([*seen, *unseen]) == list(range(len(sizes)))
    assert len(unseen) == min(max(1, round(0.2 * len(sizes))), len(sizes) - 2)
    parts = [draw["train"], draw["heldout_seen"], draw["heldout_unseen"]]
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    assert set(labels[draw["heldout_unseen"]]) == set(unseen)
    for label in seen:
        held = np.sum(labels[draw["heldout_seen"]] == label)
        assert held == min(max(1, round(0.2 * sizes[label])), sizes[label] - 1)
        assert np.sum(labels[draw["train"]] == label) == sizes[label] - held


def test_draws_repeat_by_seed_and_differ_by_execution():
    labels = np.repeat(np.arange(20), 10)
    first, again, other, reseeded = (
        draw_validation(labels, 20, execution=e, seed=s)
        for e, s in [(0, 7), (0, 7), (1, 7), (0, 8)]
    )
    assert np.array_equal(first["train"], again["train"])
    assert not np.array_equal(first["train"], other["train"])
    assert not np.array_equal(first["train"], reseeded["train"])


def test_over_many_draws_every_class_plays_unseen():
    labels = np.repeat(np.arange(10), 5)
    drawn = [draw_validation(labels, 10, execution=e, seed=0) for e in range(60)]
    counts = np.bincount(np.concatenate([d["unseen_classes"] for d in drawn]), minlength=10)
    assert counts.min() >= 4  # 12 on average


def test_tasks_share_one_copy_of_the_images():
    data = small_search_data()
    tasks = validation_tasks(data, executions=3, seed=0, device=torch.device("cpu"))
    parts = [p for t in tasks for p in (t.train, t.heldout_seen, t.heldout_unseen)]
    assert {p.features.data_ptr() for p in parts} == {data.features.ctypes.data}


@pytest.mark.parametrize("execution", range(3))
def test_a_task_scores_only_unseen_classes_as_unseen(execution):
    data = small_search_data()
    task = validation_tasks(data, executions=3, seed=0, device=torch.device("cpu"))[execution]
    for part, classes in [
        (task.train, task.seen_classes),
        (task.heldout_seen, task.seen_classes),
        (task.heldout_unseen, task.unseen_classes),
    ]:
        assert set(part.labels[part.rows].tolist()) == set(classes.tolist())
