"""The usual way to write a step of MIANet: every pair on its own, a forward pass for each loss.

The baseline of benchmarks, and an oracle for whole steps at full size: 300 pairs are embedded as
300 images and 300 attribute vectors, features are rebuilt for every positive pair, and each of the
two optimisation steps runs its own forward pass. Nothing is shared but the initial weights.
"""

import math

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from mianet.evaluation import evaluate
from mianet.losses import COSINE_FLOOR
from mianet.model import build_model
from mianet.scaling import FeatureScaler
from mianet.training import Epoch


class PairwiseTrainer:
    def __init__(self, model, settings, attributes, seen_classes):
        self.model, self.settings = model, settings
        self.attributes, self.seen = attributes, seen_classes
        judging = list(model.discriminator.parameters())
        embedding = [p for p in model.parameters() if not any(p is other for other in judging)]
        self.embedding = torch.optim.Adam(embedding, settings.learning_rate)
        self.discriminator = torch.optim.Adam(judging, settings.learning_rate)

    def step(self, x, y, other):
        images = torch.cat([x, x])
        pair_attributes = self.attributes[self.seen][torch.cat([y, other])]
        v, s, _ = self.forward(images, pair_attributes)
        self.discriminator.zero_grad()
        self.modality(v[: len(x)].detach(), s[: len(x)].detach()).backward()
        self.discriminator.step()
        v, s, classes = self.forward(images, pair_attributes)
        losses = self.losses(x, pair_attributes[: len(x)], v, s, classes)
        a, b, g = self.settings.alpha, self.settings.beta, self.settings.gamma
        self.embedding.zero_grad()
        (losses[0] + a * losses[1] + b * losses[2] - g * losses[3]).backward()
        self.embedding.step()
        return torch.stack(losses).detach()

    def forward(self, images, pair_attributes):
        v = F.normalize(self.model.embed_features(images), dim=1, eps=1e-8)
        s = F.normalize(self.model.embed_attributes(pair_attributes), dim=1, eps=1e-8)
        return v, s, self.model.embed_attributes(self.attributes)

    def losses(self, x, a, v, s, classes):
        n = len(x)
        cosines = (v * s).sum(1)
        matching = -(
            log_with_linear_tail(cosines[:n]).sum() + log_with_linear_tail(1 - cosines[n:]).sum()
        ) / (2 * n)
        orthogonality = (
            (classes @ classes.T - torch.eye(len(classes), device=x.device)).square().mean()
        )
        rebuilt_x = self.model.rebuild_features(s[:n])
        rebuilt_a = self.model.rebuild_attributes(v[:n])
        reconstruction = F.mse_loss(rebuilt_x, x) + F.mse_loss(rebuilt_a, a)
        return matching, orthogonality, reconstruction, self.modality(v[:n], s[:n])

    def modality(self, v, s):
        logits = self.model.discriminator(torch.cat([v, s]))
        labels = torch.tensor([0] * len(v) + [1] * len(s), device=v.device)
        return F.cross_entropy(logits, labels)


class UsualExecution:
    """One execution as a tutorial would have it written: a module, autograd, a ``DataLoader``."""

    def __init__(self, task, settings, seed, loader_workers=0):
        self.task, self.device = task, task.train.features.device
        features = task.train.features
        self.scaler = FeatureScaler.fit(settings.feature_scaling, features, task.train.rows)
        self.model = build_model(
            settings,
            feature_dim=features.shape[1],
            attribute_dim=task.class_attributes.shape[1],
            classes=len(task.class_attributes),
            seed=seed,
        ).to(self.device)
        self.trainer = PairwiseTrainer(
            self.model, settings, task.class_attributes, task.seen_classes
        )
        labels = torch.searchsorted(task.seen_classes, task.train.labels[task.train.rows])
        images = TensorDataset(self.scaler(features[task.train.rows]).cpu(), labels.cpu())
        self.loader = DataLoader(
            images,
            batch_size=settings.batch_images,
            shuffle=True,
            num_workers=loader_workers,
            persistent_workers=loader_workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def epoch(self):
        """Train one more epoch; return AUSUC, or None where the losses left the finite numbers."""
        seen = len(self.task.seen_classes)
        for images, labels in self.loader:
            x, y = (each.to(self.device, non_blocking=True) for each in (images, labels))
            other = (y + torch.randint(1, seen, y.shape, device=self.device)) % seen
            losses = self.trainer.step(x, y, other)
        if not torch.isfinite(losses).all():
            return None
        return evaluate(Epoch(0, {}, self.model, self.scaler), self.task).ausuc


def log_with_linear_tail(p):
    """As a user of autograd writes it: the tangent where the logarithm would be too steep."""
    tail = math.log(COSINE_FLOOR) + (p - COSINE_FLOOR) / COSINE_FLOOR
    return torch.where(p >= COSINE_FLOOR, p.clamp_min(COSINE_FLOOR).log(), tail)
