"""Edges of the losses."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mianet.losses import (
    COSINE_FLOOR,
    log_with_linear_tail,
    matching_loss,
    modality_loss,
    orthogonality_loss,
)
from mianet.model import on_hypersphere


@given(st.floats(COSINE_FLOOR, 1.0))
def test_log_is_the_logarithm_above_the_floor(p):
    value = log_with_linear_tail(torch.tensor(p, dtype=torch.float64))
    assert float(value) == pytest.approx(math.log(p), abs=1e-12)


@given(st.floats(-1.0, 1.0), st.floats(1e-6, 0.5))
def test_log_rises_and_is_finite_everywhere(p, step):
    low, high = log_with_linear_tail(torch.tensor([p, p + step], dtype=torch.float64))
    assert math.isfinite(low)
    assert low < high


def test_log_is_smooth_at_the_floor():
    p = torch.tensor(
        [COSINE_FLOOR - 1e-9, COSINE_FLOOR + 1e-9], dtype=torch.float64, requires_grad=True
    )
    values = log_with_linear_tail(p)
    slopes = torch.autograd.grad(values.sum(), p)[0]
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-6, atol=0)


def test_a_positive_pair_with_a_negative_cosine_is_pulled_together():
    v = torch.tensor([[1.0, 0.2]], requires_grad=True)
    s = torch.tensor([[-1.0, 0.3]], requires_grad=True)
    optimizer = torch.optim.SGD([v, s], lr=1e-3)
    cosines = []
    for _ in range(400):
        cosine = (on_hypersphere(v) * on_hypersphere(s)).sum(1)
        cosines.append(cosine.item())
        loss = matching_loss(cosine, torch.zeros(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert cosines[0] < -0.8
    assert cosines[1] > cosines[0]
    assert cosines[-1] > 0.5


def test_a_negative_pair_that_agrees_is_pushed_apart():
    cosine = torch.tensor([1.0], requires_grad=True)
    loss = matching_loss(torch.ones(1), cosine)
    assert torch.autograd.grad(loss, cosine)[0].item() == pytest.approx(1 / COSINE_FLOOR / 2)


def test_an_all_zero_latent_has_cosine_zero_and_a_finite_gradient():
    z = torch.zeros(2, 3, requires_grad=True)
    s = on_hypersphere(torch.ones(2, 3))
    cosines = (on_hypersphere(z) * s).sum(1)
    assert cosines.tolist() == [0, 0]
    gradient = torch.autograd.grad(matching_loss(cosines, cosines), z)[0]
    assert torch.isfinite(gradient).all()


def test_orthogonality_is_zero_for_orthonormal_latents_only():
    basis = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64)).Q.mT
    assert orthogonality_loss(basis).item() == pytest.approx(0, abs=1e-12)
    assert orthogonality_loss(2 * basis).item() == pytest.approx(4 * 3**2)


def test_modality_loss_of_a_coin_toss_is_log_2():
    logits = torch.zeros(5, 2)
    assert modality_loss(logits, logits).item() == pytest.approx(math.log(2))


def test_modality_loss_falls_as_the_right_modality_is_named():
    visual, semantic = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    assert modality_loss(visual, semantic) < 1e-3
    assert modality_loss(semantic, visual) > 8
