"""Small worlds that tests train in."""

import numpy as np
import torch

from mianet.calibration import harmonic
from mianet.config import Hyperparameters
from mianet.data.search_data import SearchData
from mianet.protocol import Subset, Task
from mianet.validation import Validation


def small_task(*, seed=0, classes=6, unseen=2, images=24, width=7, attributes=5):
    """A task of random images whose features depend on their class's attributes."""
    g = torch.Generator().manual_seed(seed)
    class_attributes = torch.rand(classes, attributes, generator=g)
    order = torch.randperm(classes, generator=g)
    unseen_classes, seen_classes = order[:unseen].sort().values, order[unseen:].sort().values
    labels = (torch.arange(images) % classes)[torch.randperm(images, generator=g)]
    mixing = torch.randn(attributes, width, generator=g)
    features = class_attributes[labels] @ mixing + 0.1 * torch.randn(images, width, generator=g)
    is_seen = torch.isin(labels, seen_classes)
    seen_rows = is_seen.nonzero()[:, 0]
    part = lambda rows: Subset(features, labels, rows)  # noqa: E731
    return Task(
        class_attributes,
        seen_classes,
        unseen_classes,
        part(seen_rows[::2]),
        part(seen_rows[1::2]),
        part((~is_seen).nonzero()[:, 0]),
    )


def uneven_tasks(*, device="cpu", **shape):
    """Executions over one array of images, whose epochs in batches of 5 have 3, 5 and 4 steps."""
    tasks = [
        small_task(seed=seed, images=images, **shape) for seed, images in enumerate((36, 75, 54))
    ]
    features = torch.cat([task.train.features for task in tasks]).to(device)
    labels = torch.cat([task.train.labels for task in tasks]).to(device)
    starts = (0, 36, 111)
    return [
        on(device, task, features, labels, start) for task, start in zip(tasks, starts, strict=True)
    ]


def on(device, task, features=None, labels=None, start=0):
    """Return the task on a device; with other images, among which its own begin at ``start``."""
    if features is None:
        features, labels = task.train.features.to(device), task.train.labels.to(device)
    parts = {
        name: Subset(features, labels, (getattr(task, name).rows + start).to(device))
        for name in ("train", "heldout_seen", "heldout_unseen")
    }
    classes = {
        name: getattr(task, name).to(device)
        for name in ("class_attributes", "seen_classes", "unseen_classes")
    }
    return Task(**classes, **parts)


def small_search_data(*, seed=0, classes=8, per_class=20, width=12, attributes=6):
    """Search data with unequal classes."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class + np.arange(classes))
    class_attributes = random.random((classes, attributes), dtype=np.float32)
    mixing = random.normal(size=(attributes, width))
    noise = 0.1 * random.normal(size=(len(labels), width))
    features = (class_attributes[labels] @ mixing + noise).astype(np.float32)
    names = tuple(f"class {c}" for c in range(classes))
    return SearchData(
        name="small",
        digest="0" * 64,
        features=features,
        labels=labels.astype(np.int64),
        class_attributes=class_attributes,
        class_names=names,
        class_ids=np.arange(classes, dtype=np.int64),
    )


def small_settings(**changes):
    """Hyperparameters at which every loss matters and a step is visible."""
    base = Hyperparameters(
        alpha=20.0,
        beta=1.0,
        gamma=0.5,
        learning_rate=3e-3,
        latent_multiplier=1.5,
        hidden_dim=9,
        discriminator_dim=4,
        batch_images=5,
        feature_scaling="none",
    )
    return base.replace(**changes)


def attribute_task(*, seed=0, classes=24, unseen=4, images=1200, width=24, attributes=12):
    """A task whose classes have or lack attributes that their images show, nearly without noise."""
    random = np.random.default_rng(seed)
    has = np.unique(random.integers(0, 2, (4 * classes, attributes)), axis=0)
    has = random.permutation(has[(has.sum(1) > 2) & (has.sum(1) < attributes)])[:classes]
    class_attributes = (has / np.linalg.norm(has, axis=1, keepdims=True)).astype(np.float32)
    labels = np.arange(images) % classes
    mixing = random.normal(size=(attributes, width))
    features = class_attributes[labels] @ mixing + 0.02 * random.normal(size=(images, width))
    held = random.random(images) < 0.2

    def part(chosen):
        rows = torch.from_numpy(np.flatnonzero(chosen))
        return Subset(torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels), rows)

    seen = classes - unseen
    return Task(
        torch.from_numpy(class_attributes),
        torch.arange(seen),
        torch.arange(seen, classes),
        part((labels < seen) & ~held),
        part((labels < seen) & held),
        part(labels >= seen),
    )


def validate(data, settings, *, epochs, **options):
    """Yield the epochs of a ``Validation`` from the beginning."""
    validation = Validation(data, settings, **options)
    for _ in range(epochs):
        yield validation.epoch()


def harmonic_mean(seen_accuracy, unseen_accuracy):
    """Return H of two fractions of 1."""
    tr, ts = torch.tensor([[seen_accuracy], [unseen_accuracy]], dtype=torch.float64)
    return harmonic(tr, ts).item()
