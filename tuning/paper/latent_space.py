"""Figures 9 and 10: how far apart similar classes are, in attributes and in the latent space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from mianet.inference.prediction import Classifier
from mianet.model import on_hypersphere
from tuning.paper.drawing import BLUE, GREEN, ORANGE, PURPLE, panels, readable
from tuning.paper.evidence import Evidence, NothingToShowError
from tuning.paper.findings import Findings

NAMED_PAIRS = 10
"""Most similar pairs that figure 9 names."""
DRAWN_PAIRS = 4
"""Disjoint pairs of similar classes that figure 10 draws."""
IMAGES_PER_CLASS = 60
MAX_LABELLED_CLASSES = 60
PAIR_COLORS = (BLUE, ORANGE, GREEN, PURPLE)

CONSTRAINED: Mapping[str, str] = MappingProxyType(
    {"full": "with the orthogonal constraint", "no_orthogonal": "without it"}
)
"""Figure 10: arm → panel title."""


def find_similarities(evidence: Evidence) -> Findings:
    """Return the cosine of every two classes in the attribute and in the latent space (fig. 9)."""
    names, unseen = evidence.test.class_names, set(evidence.test.unseen_classes.tolist())
    attribute = _cosines(evidence.test.class_attributes)
    latent = _cosines(_prototypes(evidence.model("full")))
    first, second = np.triu_indices(len(names), 1)
    data = pd.DataFrame(
        {
            "class_a": [names[c] for c in first],
            "class_b": [names[c] for c in second],
            "a_unseen": [c in unseen for c in first.tolist()],
            "b_unseen": [c in unseen for c in second.tolist()],
            "attribute_cosine": attribute[first, second],
            "latent_cosine": latent[first, second],
        }
    ).sort_values("attribute_cosine", ascending=False, ignore_index=True)
    pairs = data.head(NAMED_PAIRS)
    means = {s: float(data[f"{s}_cosine"].abs().mean()) for s in ("attribute", "latent")}
    top = {s: float(pairs[f"{s}_cosine"].mean()) for s in ("attribute", "latent")}
    return Findings(
        data=data,
        more={"most_similar": pairs},
        metrics={
            **{f"mean_{space}_cosine": value for space, value in means.items()},
            **{f"most_similar_{space}_cosine": value for space, value in top.items()},
        },
        sentences=(
            f"The mean absolute cosine of two classes is {means['attribute']:.2f} in attributes "
            f"and {means['latent']:.2f} in the latent space.",
            f"That of the {len(pairs)} most similar pairs is {top['attribute']:.2f} in attributes "
            f"and {top['latent']:.2f} in the latent space.",
            f"The most similar pair is {pairs['class_a'][0]} and {pairs['class_b'][0]}: "
            f"{pairs['attribute_cosine'][0]:.2f} and {pairs['latent_cosine'][0]:.2f}.",
            "The model is that of the first seed.",
        ),
    )


def draw_similarities(evidence: Evidence, findings: Findings) -> Figure:
    """Draw both matrices, and the most similar pairs by name."""
    names = [readable(name) for name in evidence.test.class_names]
    few = len(names) <= MAX_LABELLED_CLASSES
    size = max(3.8, 0.115 * len(names) + 0.8) if few else 4.6
    figure, axes = panels(1, 3, width=size, height=size)
    matrices = {
        "attribute space": _cosines(evidence.test.class_attributes),
        "latent space": _cosines(_prototypes(evidence.model("full"))),
    }
    for panel, (title, matrix) in zip(axes[0], matrices.items(), strict=False):
        image = panel.imshow(matrix, vmin=-1 if matrix.min() < -0.05 else 0, vmax=1, cmap="cividis")
        panel.set_title(f"{title}: cosine of prototypes")
        panel.spines[:].set_visible(False)
        ticks = range(len(names)) if few else []
        panel.set_xticks(ticks, names if few else [], rotation=90, fontsize=6)
        panel.set_yticks(ticks, names if few else [], fontsize=6)
        figure.colorbar(image, ax=panel, shrink=0.7, label="cosine")
    pairs = findings.more["most_similar"]
    places = np.arange(len(pairs))[::-1]
    panel = axes[0][2]
    panel.hlines(places, pairs["latent_cosine"], pairs["attribute_cosine"], color="#BBBBBB")
    panel.scatter(pairs["attribute_cosine"], places, color=ORANGE, marker="s", label="attributes")
    panel.scatter(pairs["latent_cosine"], places, color=BLUE, label="latent space", zorder=3)
    both = zip(pairs["class_a"], pairs["class_b"], strict=True)
    panel.set_yticks(places, [f"{readable(a)} – {readable(b)}" for a, b in both])
    panel.set_xlim(min(0.0, float(pairs["latent_cosine"].min()) - 0.05), 1.02)
    panel.set_xlabel("cosine")
    panel.set_title("the most similar pairs")
    panel.grid(True, axis="x")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=2)
    return figure


@dataclass(frozen=True)
class _Images:
    """Test images of similar pairs of classes: features, class of each, and the pairs."""

    features: np.ndarray
    labels: np.ndarray
    pairs: tuple[tuple[int, int], ...]


def find_map(evidence: Evidence) -> Findings:
    """Return a t-SNE map of similar pairs' images, with and without ``L_ors`` (figure 10)."""
    images = _images_of_similar_pairs(evidence)
    frames, separations = [], []
    for arm in CONSTRAINED:
        latents = _visual_latents(evidence.model(arm), images.features)
        frames.append(_map(arm, latents, images, evidence.test.class_names))
        separations += _separations(arm, latents, images, evidence.test.class_names)
    separation = pd.DataFrame(separations)
    means = separation.groupby("arm")["silhouette"].mean()
    return Findings(
        data=pd.concat(frames, ignore_index=True),
        more={"separation": separation},
        metrics={f"silhouette_{arm}": float(means[arm]) for arm in CONSTRAINED},
        sentences=(
            f"Mean silhouette of the pairs in the latent space (not in the map; 1 = apart, 0 = "
            f"mixed): {means['full']:.2f} {CONSTRAINED['full']}, {means['no_orthogonal']:.2f} "
            f"{CONSTRAINED['no_orthogonal']}.",
            "The models are those of the first seed; a map of one training shows no spread.",
        ),
    )


def draw_map(evidence: Evidence, findings: Findings) -> Figure:
    """Draw both maps: a colour a pair, a marker for each of its classes."""
    figure, axes = panels(1, 2, width=4.4, height=4.2)
    separation = findings.more["separation"]
    for panel, (arm, title) in zip(axes[0], CONSTRAINED.items(), strict=True):
        rows = findings.data[findings.data["arm"] == arm]
        for (pair, member, name), points in rows.groupby(["pair", "member", "class"]):
            panel.scatter(
                points["x"],
                points["y"],
                s=14,
                color=PAIR_COLORS[pair % len(PAIR_COLORS)],
                marker="o" if member == 0 else "^",
                facecolors="none" if member else None,
                linewidths=0.8,
                label=readable(name),
            )
        mean = separation.loc[separation["arm"] == arm, "silhouette"].mean()
        panel.set_title(f"{title} (silhouette {mean:.2f})")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_xlabel("t-SNE 1 (no unit)")
        panel.spines[:].set_visible(True)
    axes[0][0].set_ylabel("t-SNE 2 (no unit)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(4, max(1, len(labels) // 2))
    )
    return figure


def similar_pairs(attributes: np.ndarray, count: int) -> tuple[tuple[int, int], ...]:
    """Return disjoint pairs of classes, the most similar attribute vectors first."""
    cosines = np.triu(_cosines(attributes), 1)
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for place in np.argsort(-cosines, axis=None, kind="stable"):
        first, second = divmod(int(place), len(cosines))
        if first < second and not {first, second} & taken:
            pairs.append((first, second))
            taken |= {first, second}
        if len(pairs) == count:
            break
    return tuple(pairs)


def _images_of_similar_pairs(evidence: Evidence) -> _Images:
    test = evidence.test
    pairs = similar_pairs(test.class_attributes, DRAWN_PAIRS)
    features, labels = [], []
    for label in (c for pair in pairs for c in pair):
        for part, of_part in (
            (test.test_seen_features, test.test_seen_labels),
            (test.test_unseen_features, test.test_unseen_labels),
        ):
            rows = np.flatnonzero(of_part == label)[:IMAGES_PER_CLASS]
            features.append(part[rows])
            labels.append(np.full(len(rows), label))
    return _Images(np.concatenate(features), np.concatenate(labels), pairs)


def _map(arm: str, latents: np.ndarray, images: _Images, names: tuple[str, ...]) -> pd.DataFrame:
    perplexity = min(30.0, (len(latents) - 1) / 3)
    if np.ptp(latents, axis=0).max() == 0:
        raise NothingToShowError(f"all latents of {arm} are equal")
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(latents)
    place = {c: (k, member) for k, pair in enumerate(images.pairs) for member, c in enumerate(pair)}
    return pd.DataFrame(
        {
            "arm": arm,
            "x": points[:, 0],
            "y": points[:, 1],
            "class": [names[c] for c in images.labels],
            "pair": [place[c][0] for c in images.labels.tolist()],
            "member": [place[c][1] for c in images.labels.tolist()],
        }
    )


def _separations(
    arm: str, latents: np.ndarray, images: _Images, names: tuple[str, ...]
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for first, second in images.pairs:
        of_pair = np.isin(images.labels, (first, second))
        value = silhouette_score(latents[of_pair], images.labels[of_pair], metric="cosine")
        rows.append(
            {
                "arm": arm,
                "class_a": names[first],
                "class_b": names[second],
                "silhouette": float(value),
            }
        )
    return rows


def _cosines(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(lengths, 1e-8)
    return np.asarray(unit @ unit.T)


@torch.no_grad()
def _prototypes(classifier: Classifier) -> np.ndarray:
    return classifier.model.embed_attributes(classifier.class_attributes).numpy()


@torch.no_grad()
def _visual_latents(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    scaled = classifier.scaler(torch.tensor(features))
    return on_hypersphere(classifier.model.embed_features(scaled)).numpy()
