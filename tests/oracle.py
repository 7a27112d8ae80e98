"""MIANet written plainly, pair by pair and term by term, straight from the paper's equations.

Nothing here is shared with the package: weights are a dictionary, every pair is embedded on its
own, every sum is a loop, and the two optimisation steps each run their own forward pass.
"""

import math

import torch

FLOOR = 1e-2


def copy_weights(model):
    """Return name → detached double copy that asks for gradients."""
    return {n: p.detach().double().clone().requires_grad_() for n, p in model.named_parameters()}


def embed_feature(w, x, activation):
    hidden = torch.clamp(w["visual_hidden.weight"] @ x + w["visual_hidden.bias"], min=0)
    latent = w["visual_latent.weight"] @ hidden + w["visual_latent.bias"]
    return torch.clamp(latent, min=0) if activation == "relu" else latent


def embed_attribute(w, a, activation):
    latent = w["semantic_latent.weight"] @ a + w["semantic_latent.bias"]
    return torch.clamp(latent, min=0) if activation == "relu" else latent


def unit(z):
    norm = z.norm()
    return z / norm if norm > 1e-8 else z * 0


def rebuild_feature(w, z):
    hidden = w["visual_latent.weight"].T @ z + w["rebuilt_hidden_bias"]
    return w["visual_hidden.weight"].T @ torch.clamp(hidden, min=0) + w["rebuilt_features_bias"]


def rebuild_attribute(w, z):
    return w["semantic_latent.weight"].T @ z + w["rebuilt_attributes_bias"]


def log_or_tangent(p):
    return torch.log(p) if p >= FLOOR else math.log(FLOOR) + (p - FLOOR) / FLOOR


def discriminate(w, z):
    hidden = torch.clamp(w["discriminator.0.weight"] @ z + w["discriminator.0.bias"], min=0)
    logits = w["discriminator.2.weight"] @ hidden + w["discriminator.2.bias"]
    return torch.exp(logits) / torch.exp(logits).sum()


def pairs(x, y, other, attributes):
    """Return (image, attribute, matched) of the 2n balanced pairs."""
    positive = [(x[i], attributes[y[i]], 1.0) for i in range(len(x))]
    negative = [(x[i], attributes[other[i]], 0.0) for i in range(len(x))]
    return positive + negative


def matching(w, settings, x, y, other, seen_attributes):
    act, total, batch = settings.latent_activation, 0.0, pairs(x, y, other, seen_attributes)
    for image, attribute, m in batch:
        cosine = unit(embed_feature(w, image, act)) @ unit(embed_attribute(w, attribute, act))
        total = total + m * log_or_tangent(cosine) + (1 - m) * log_or_tangent(1 - cosine)
    return -total / len(batch)


def orthogonality(w, settings, attributes):
    total = 0.0
    latents = [embed_attribute(w, a, settings.latent_activation) for a in attributes]
    for i, first in enumerate(latents):
        for j, second in enumerate(latents):
            total = total + (first @ second - (1.0 if i == j else 0.0)) ** 2
    return total / len(latents) ** 2


def reconstruction(w, settings, x, y, seen_attributes):
    act, total, n = settings.latent_activation, torch.zeros((), dtype=torch.float64), len(x)
    for i in range(n):
        a = seen_attributes[y[i]]
        v, s = unit(embed_feature(w, x[i], act)), unit(embed_attribute(w, a, act))
        if settings.reconstruction == "cross":
            total = total + ((rebuild_attribute(w, v) - a) ** 2).mean() / n
            total = total + ((rebuild_feature(w, s) - x[i]) ** 2).mean() / n
        elif settings.reconstruction == "self":
            total = total + ((rebuild_attribute(w, s) - a) ** 2).mean() / n
            total = total + ((rebuild_feature(w, v) - x[i]) ** 2).mean() / n
    return total


def modality(w, settings, x, y, seen_attributes):
    act, total = settings.latent_activation, 0.0
    for i in range(len(x)):
        v = unit(embed_feature(w, x[i], act))
        s = unit(embed_attribute(w, seen_attributes[y[i]], act))
        total = total - torch.log(discriminate(w, v)[0]) - torch.log(discriminate(w, s)[1])
    return total / (2 * len(x))


def all_losses(w, settings, x, y, other, attributes, seen):
    """Return the four losses by name; one that takes no part is 0."""
    zero, seen_attributes = torch.zeros((), dtype=torch.float64), attributes[seen]
    constrained = seen_attributes if settings.withhold_unseen_attributes else attributes
    return {
        "matching": matching(w, settings, x, y, other, seen_attributes),
        "orthogonality": orthogonality(w, settings, constrained) if settings.orthogonal else zero,
        "reconstruction": reconstruction(w, settings, x, y, seen_attributes),
        "modality": modality(w, settings, x, y, seen_attributes)
        if settings.discriminator
        else zero,
    }


def objective(losses, settings):
    """Return eq. 7."""
    return (
        losses["matching"]
        + settings.alpha * losses["orthogonality"]
        + settings.beta * losses["reconstruction"]
        - settings.gamma * losses["modality"]
    )


class PlainTrainer:
    """The strategies of figure 7 with an Adam written out, a forward pass for each loss."""

    def __init__(self, model, settings, attributes, seen):
        self.w = copy_weights(model)
        self.settings, self.attributes, self.seen = settings, attributes.double(), seen
        self.first = {n: torch.zeros_like(p) for n, p in self.w.items()}
        self.second = {n: torch.zeros_like(p) for n, p in self.w.items()}
        self.steps = dict.fromkeys(self.w, 0)

    def losses(self, batch):
        x, y, other = batch
        return all_losses(self.w, self.settings, x, y, other, self.attributes, self.seen)

    def step(self, x, y, other):
        batch = (x.double(), y, other)
        discriminator = [n for n in self.w if n.startswith("discriminator.")]
        embedding = [n for n in self.w if n not in discriminator]
        strategy = self.settings.strategy
        if strategy == "iterative":
            if self.settings.discriminator:
                self.adam(discriminator, self.gradients(self.losses(batch)["modality"]))
            losses = self.losses(batch)
            self.adam(embedding, self.gradients(objective(losses, self.settings)))
        elif strategy == "simultaneous":
            losses = self.losses(batch)
            down = self.gradients(objective(self.losses(batch), self.settings))
            if self.settings.discriminator:
                self.adam(discriminator, self.gradients(losses["modality"]))
            self.adam(embedding, down)
        else:
            losses = self.losses(batch)
            down = self.gradients(objective(losses, self.settings))
            self.adam(embedding + discriminator, down)
        return {n: float(v) for n, v in losses.items()}

    def gradients(self, loss):
        values = torch.autograd.grad(loss, list(self.w.values()), allow_unused=True)
        return dict(zip(self.w, values, strict=True))

    def adam(self, names, gradients):
        for n in names:
            if gradients[n] is None:
                continue
            g, self.steps[n] = gradients[n], self.steps[n] + 1
            self.first[n] = 0.9 * self.first[n] + 0.1 * g
            self.second[n] = 0.999 * self.second[n] + 0.001 * g * g
            m = self.first[n] / (1 - 0.9 ** self.steps[n])
            v = self.second[n] / (1 - 0.999 ** self.steps[n])
            with torch.no_grad():
                self.w[n] -= self.settings.learning_rate * m / (v.sqrt() + 1e-8)
