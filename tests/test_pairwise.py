"""Whole steps at the size of a published data set against the pair-by-pair way, in fp32."""

import copy

import pytest
import torch
from pairwise import PairwiseTrainer
from test_steps import one
from worlds import small_settings

from mianet.model import build_model
from mianet.protocol import Subset, Task
from mianet.steps import Stepper


@pytest.mark.parametrize("seen", [12, 60])  # fewer and more than the images of a batch
def test_steps_equal_those_of_the_pairwise_trainer(seen):
    g = torch.Generator().manual_seed(0)
    features, attributes = torch.rand(50, 64, generator=g), torch.rand(seen + 5, 20, generator=g)
    part = Subset(features, torch.zeros(50, dtype=torch.int64), torch.arange(50))
    task = Task(attributes, torch.arange(5, seen + 5), torch.arange(5), part, part, part)
    settings = small_settings(hidden_dim=128, learning_rate=1e-3)
    model = build_model(settings, feature_dim=64, attribute_dim=20, classes=seen + 5, seed=0)
    pairwise = PairwiseTrainer(copy.deepcopy(model), settings, attributes, task.seen_classes)
    ours = Stepper([model], settings, [task])
    for _ in range(20):
        classes = torch.randint(seen, (50,), generator=g)
        other = (classes + torch.randint(1, seen, (50,), generator=g)) % seen
        theirs = pairwise.step(features, classes, other)
        torch.testing.assert_close(
            ours.step(one(features, classes, other))[0], theirs, rtol=1e-3, atol=1e-4
        )
    for (name, a), b in zip(model.named_parameters(), pairwise.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=5e-4, msg=lambda m, n=name: f"{n}: {m}")
