"""Feature scaling is fitted on training images only."""

from typing import get_args

import pytest
import torch

from mianet.config import FeatureScaling
from mianet.scaling import FeatureScaler

FEATURES = 5 * torch.randn(9000, 4, generator=torch.Generator().manual_seed(0)) + 2
ROWS = torch.arange(0, 9000, 2)


@pytest.mark.parametrize("kind", get_args(FeatureScaling))
def test_other_rows_change_nothing(kind):
    spoiled = FEATURES.clone()
    spoiled[1::2] = torch.nan
    clean, other = (FeatureScaler.fit(kind, f, ROWS)(FEATURES) for f in (FEATURES, spoiled))
    assert torch.equal(clean, other)


def test_standard_gives_mean_zero_and_deviation_one():
    scaled = FeatureScaler.fit("standard", FEATURES, ROWS)(FEATURES)[ROWS]
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(4))


def test_minmax_gives_zero_to_one():
    scaled = FeatureScaler.fit("minmax", FEATURES, ROWS)(FEATURES)[ROWS]
    torch.testing.assert_close(scaled.amin(0), torch.zeros(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(scaled.amax(0), torch.ones(4))


def test_l2_gives_unit_norm_and_none_gives_the_same():
    scaled = FeatureScaler.fit("l2", FEATURES, ROWS)(FEATURES)
    torch.testing.assert_close(scaled.norm(dim=1), torch.ones(9000))
    assert FeatureScaler.fit("none", FEATURES, ROWS)(FEATURES) is FEATURES


def test_global_keeps_the_features_proportions():
    wide = FEATURES * torch.tensor([1.0, 2.0, 3.0, 4.0])
    scaled = FeatureScaler.fit("global", wide, ROWS)(wide)[ROWS]
    deviation = scaled.std(0, correction=0)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(deviation.square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(
        deviation / deviation[0], wide[ROWS].std(0) / wide[ROWS].std(0)[0], rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("kind", ["standard", "minmax", "global"])
def test_a_constant_feature_is_shifted_and_stays_finite(kind):
    features = torch.full((10, 2), 3.0)
    assert FeatureScaler.fit(kind, features, torch.arange(10))(features).abs().sum() == 0
