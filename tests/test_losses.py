"""Edges of the losses."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mianet.losses import (
    COSINE_FLOOR,
    log_with_linear_tail,
    matching,
    modality,
    orthogonality,
)
from mianet.model import on_hypersphere


@given(st.floats(COSINE_FLOOR, 1.0))
def test_log_is_the_logarithm_above_the_floor(p):
    value, slope = log_with_linear_tail(torch.tensor(p, dtype=torch.float64))
    assert float(value) == pytest.approx(math.log(p), abs=1e-12)
    assert float(slope) == pytest.approx(1 / p)


@given(st.floats(-1.0, 1.0), st.floats(1e-6, 0.5))
def test_log_rises_and_is_finite_everywhere(p, step):
    (low, high), slopes = log_with_linear_tail(torch.tensor([p, p + step], dtype=torch.float64))
    assert math.isfinite(low)
    assert low < high
    assert (slopes > 0).all()


def test_log_is_smooth_at_the_floor():
    p = torch.tensor([COSINE_FLOOR - 1e-9, COSINE_FLOOR + 1e-9], dtype=torch.float64)
    values, slopes = log_with_linear_tail(p)
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-6, atol=0)


def alone(values):
    """Return the values of a single execution's images, with weights of 1."""
    return torch.tensor([values], dtype=torch.float64)


def test_a_positive_pair_with_a_negative_cosine_is_pulled_together():
    v = torch.tensor([[1.0, 0.2]], requires_grad=True)
    s = torch.tensor([[-1.0, 0.3]], requires_grad=True)
    optimizer = torch.optim.SGD([v, s], lr=1e-3)
    cosines = []
    for _ in range(400):
        cosine = (on_hypersphere(v) * on_hypersphere(s)).sum(1)
        cosines.append(cosine.item())
        _, slope, _ = matching(cosine.detach()[None], torch.zeros(1, 1), torch.ones(1, 1))
        optimizer.zero_grad()
        cosine.backward(slope[0])
        optimizer.step()
    assert cosines[0] < -0.8
    assert cosines[1] > cosines[0]
    assert cosines[-1] > 0.5


def test_a_negative_pair_that_agrees_is_pushed_apart():
    _, _, slope = matching(alone([1.0]), alone([1.0]), alone([1.0]))
    assert slope.item() == pytest.approx(1 / COSINE_FLOOR / 2)


def test_rows_that_fill_up_a_batch_take_no_part_in_matching():
    weights = alone([1.0, 1.0, 0.0])
    filled = matching(alone([0.4, 0.7, -5.0]), alone([0.1, 0.2, 9.0]), weights)
    short = matching(alone([0.4, 0.7]), alone([0.1, 0.2]), alone([1.0, 1.0]))
    assert torch.equal(filled[0], short[0])
    for ours, theirs in zip(filled[1:], short[1:], strict=True):
        assert torch.equal(ours[:, :2], theirs)
        assert ours[0, 2] == 0


def test_orthogonality_is_zero_for_orthonormal_latents_only():
    basis = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64)).Q.mT[None]
    assert orthogonality(basis)[0].item() == pytest.approx(0, abs=1e-12)
    assert orthogonality(2 * basis)[0].item() == pytest.approx(4 * 3**2 / 4**2)


def signs(visual, semantic):
    return torch.tensor([1.0] * visual + [-1.0] * semantic)


def test_modality_loss_of_a_coin_toss_is_log_2():
    loss, _ = modality(torch.zeros(1, 10, 2), signs(5, 5), torch.full((1, 10), 0.1))
    assert loss.item() == pytest.approx(math.log(2))


def test_modality_loss_falls_as_the_right_modality_is_named():
    right = torch.tensor([[[9.0, 0.0], [0.0, 9.0]]])
    assert modality(right, signs(1, 1), torch.full((1, 2), 0.5))[0] < 1e-3
    assert modality(right.flip(-1), signs(1, 1), torch.full((1, 2), 0.5))[0] > 8
