"""The networks: tied weights, shapes, seeds."""

import pytest
import torch
from worlds import small_settings

from mianet.model import MIANet, build_model


def small_model(seed=0, **changes):
    return build_model(
        small_settings(**changes), feature_dim=7, attribute_dim=5, classes=6, seed=seed
    )


def test_latent_dimension_is_multiplier_times_classes():
    assert small_model(latent_multiplier=2.5).visual_latent.out_features == 15


def test_reconstructors_follow_the_embeddings_weights():
    model = small_model()
    latents = torch.randn(3, 9)
    with torch.no_grad():
        features, attributes = model.rebuild_features(latents), model.rebuild_attributes(latents)
        for weight in (
            model.visual_hidden.weight,
            model.visual_latent.weight,
            model.semantic_latent.weight,
        ):
            weight.mul_(2)
    torch.testing.assert_close(model.rebuild_features(latents), 4 * features)
    torch.testing.assert_close(model.rebuild_attributes(latents), 2 * attributes)


def test_reconstruction_trains_the_very_weights_of_the_embedding():
    model = small_model()
    loss = model.rebuild_features(torch.rand(3, 9)).square().sum()
    gradients = torch.autograd.grad(loss, [model.visual_hidden.weight, model.visual_latent.weight])
    assert all(g.abs().sum() > 0 for g in gradients)


def test_only_biases_belong_to_the_reconstructors():
    own = {n: p.ndim for n, p in small_model().named_parameters() if n.startswith("rebuilt")}
    assert own == {
        "rebuilt_hidden_bias": 1,
        "rebuilt_features_bias": 1,
        "rebuilt_attributes_bias": 1,
    }


@pytest.mark.parametrize(("activation", "negative"), [("relu", False), ("linear", True)])
def test_the_last_activation_decides_whether_latents_can_be_negative(activation, negative):
    model = small_model(latent_activation=activation)
    latents = model.embed_features(torch.randn(50, 7))
    assert bool((latents < 0).any()) is negative
    assert bool((model.embed_attributes(torch.randn(50, 5)) < 0).any()) is negative


def test_weights_depend_on_the_seed_alone_and_leave_the_process_as_it_was():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = small_model(seed=4)
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(99)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.parameters(), small_model(seed=4).parameters(), strict=True)
    )
    assert not torch.equal(first.visual_hidden.weight, small_model(seed=5).visual_hidden.weight)


def test_a_wrong_shape_is_refused():
    with pytest.raises(Exception, match="embed_features"):
        MIANet(feature_dim=7, attribute_dim=5, latent_dim=4).embed_features(torch.rand(7))
