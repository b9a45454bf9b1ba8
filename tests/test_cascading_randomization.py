"""Cascading randomisation changes copies only, layer by layer, in the order it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import hessx


class Scale(nn.Module):
    """Without ``reset_parameters``, and with a child that is a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(3 + 0.1 * torch.randn(2000))
        self.same = nn.Parameter(torch.full((2000,), 2.0))
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x)


def trained_net() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(5)
    return net.eval()


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Names of the layers of which something changed."""
    return {
        name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }


def test_layers_go_from_the_output_down():
    net = trained_net()
    before = weights(net)
    cascade = hessx.cascading_randomization(net, weights)
    assert cascade.names == ("4", "1", "0")
    assert changed(before, cascade.trained) == set()
    assert [changed(before, after) for after in cascade.results] == [
        {"4"},
        {"4", "1"},
        {"4", "1", "0"},
    ]


def test_or_from_the_input_up():
    net = trained_net()
    cascade = hessx.cascading_randomization(net, weights, order="bottom-up")
    assert cascade.names == ("0", "1", "4")
    downwards = hessx.cascading_randomization(net, weights)
    # A layer's new values do not depend on what was done before it.
    assert changed(cascade.results[-1], downwards.results[-1]) == set()


def test_chosen_layers_and_groups():
    inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net = nn.Sequential(nn.Linear(4, 4), inner, nn.Linear(4, 2))
    cascade = hessx.cascading_randomization(net, weights, layers=["0", "1"])
    assert cascade.names == ("1", "0")
    trained = cascade.trained
    assert changed(trained, cascade.results[0]) == {"1.0", "1.2"}
    assert changed(trained, cascade.results[1]) == {"0", "1.0", "1.2"}
    everything = hessx.cascading_randomization(net, weights).results[-1]
    assert torch.equal(everything["1.2.weight"], cascade.results[0]["1.2.weight"])
    at_once = hessx.cascading_randomization(net, weights, layers=[""])
    assert changed(everything, at_once.results[0]) == set()


def test_the_model_and_the_random_state_stay_as_found():
    net = trained_net().train()
    before, state = weights(net), torch.get_rng_state()
    modes = []
    hessx.cascading_randomization(net, lambda copy: modes.append(copy.training))
    assert changed(before, weights(net)) == set()
    assert torch.equal(torch.get_rng_state(), state)
    assert modes == [True] * 4
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_the_seed_decides():
    net = trained_net()
    first = hessx.cascading_randomization(net, weights, seed=3).results[-1]
    torch.manual_seed(99)
    again = hessx.cascading_randomization(
        net, lambda copy: (torch.rand(7), weights(copy))[1], seed=3
    ).results[-1]
    assert changed(first, again) == set()
    for other in (4, 3 + 2**32):
        found = hessx.cascading_randomization(net, weights, seed=other).results[-1]
        # Batch normalisation starts from constants.
        assert changed(first, found) == {"0", "4"}


def test_layers_of_torch_are_as_new():
    last = hessx.cascading_randomization(trained_net(), weights).results[-1]
    # The bound of torch's default, 1 / sqrt(fan_in).
    assert last["4.weight"].abs().max() <= 1 / 4
    assert last["4.weight"].abs().max() > 1 / 5
    torch.testing.assert_close(last["1.weight"], torch.ones(4))
    torch.testing.assert_close(last["1.running_mean"], torch.zeros(4))
    torch.testing.assert_close(last["1.running_var"], torch.ones(4))


def test_equal_layers_get_different_values():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    last = hessx.cascading_randomization(net, weights).results[-1]
    assert not torch.equal(last["0.weight"], last["1.weight"])


def test_other_tensors_keep_mean_and_deviation():
    net = Scale()
    cascade = hessx.cascading_randomization(net, weights)
    assert cascade.names == ("inner", "")
    assert changed(cascade.results[0], cascade.results[1]) == {""}
    last = cascade.results[-1]
    # 2000 draws: the mean is within 4 / sqrt(2000) deviations, the deviation within 4 / sqrt(4000).
    for name, mean, spread in (("weight", 3, 0.1), ("same", 2, 1)):
        assert last[name].mean().item() == pytest.approx(mean, abs=0.1 * spread)
        assert last[name].std().item() == pytest.approx(spread, rel=0.1)


def test_normalisation_without_parameters_is_a_layer():
    net = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1)).eval()
    net[0].running_mean.fill_(7)
    cascade = hessx.cascading_randomization(net, weights)
    assert cascade.names == ("1", "0")
    assert cascade.results[-1]["0.running_mean"].tolist() == [0, 0]


def test_memory_format_and_dtype_stay():
    net = trained_net().to(torch.float64).to(memory_format=torch.channels_last)
    seen = hessx.cascading_randomization(net, lambda copy: copy[0].weight.detach()).results[-1]
    assert seen.dtype == torch.float64
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_explanations_of_untrained_layers():
    """As in section 5.1: the gradient of a net with a new last layer is another one."""
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.ones(1, 3, requires_grad=True)

    def gradient(model: nn.Module) -> torch.Tensor:
        (found,) = torch.autograd.grad(model(x)[0, 0], x)
        return found

    cascade = hessx.cascading_randomization(net, gradient)
    assert torch.equal(cascade.trained, gradient(net))
    assert not torch.allclose(cascade.trained, cascade.results[0])


def test_explanations_by_gradients_work_under_inference_mode():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).eval()

    def gradients(model: nn.Module) -> list[torch.Tensor]:
        with torch.inference_mode(False):
            return list(torch.autograd.grad(model(torch.ones(1, 3)).sum(), model.parameters()))

    outside = hessx.cascading_randomization(net, gradients)
    with torch.inference_mode():
        inside = hessx.cascading_randomization(net, gradients)
    for expected, found in zip(outside.results, inside.results, strict=True):
        assert all(map(torch.equal, found, expected))


def tied_net() -> nn.Sequential:
    net = nn.Sequential(nn.Embedding(5, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 5)))
    net[1][1].weight = net[0].weight
    return net


@pytest.mark.parametrize("layers", [None, ["0"], ["1.1"], ["0", "1"]])
def test_tied_layers_of_different_steps_are_refused(layers):
    with pytest.raises(ValueError, match=r"layers must take .* '0' and '1.1' share one"):
        hessx.cascading_randomization(tied_net(), weights, layers=layers)


def test_tied_layers_may_go_together_or_stay():
    net = tied_net()
    together = hessx.cascading_randomization(net, weights, layers=[""])
    last = together.results[0]
    assert changed(together.trained, last) == {"0", "1.0", "1.1"}
    assert torch.equal(last["0.weight"], last["1.1.weight"])
    without = hessx.cascading_randomization(net, weights, layers=["1.0"])
    assert changed(without.trained, without.results[0]) == {"1.0"}


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_old_normalisations_are_refused_and_new_ones_taken(kind):
    old = nn.Sequential(nn.Linear(3, 3), getattr(nn.utils, kind)(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match=f"layer '1' has: use .*parametrizations.{kind}"):
        hessx.cascading_randomization(old, weights)
    new = nn.Sequential(getattr(nn.utils.parametrizations, kind)(nn.Linear(3, 3)))
    cascade = hessx.cascading_randomization(new, lambda copy: copy[0].weight.detach().clone())
    assert not torch.equal(cascade.trained, cascade.results[-1])


def test_models_that_cannot_be_copied_are_refused():
    net = trained_net()
    net.kept = net[4].weight * 2
    with pytest.raises(
        ValueError, match=r"copy.deepcopy can copy, Sequential is not: Only Tensors"
    ):
        hessx.cascading_randomization(net, weights)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(model=torch.sin), TypeError, "model must be a torch.nn.Module"),
        (dict(explain=None), TypeError, "explain must be callable"),
        (dict(layers="0"), TypeError, "layers must be a sequence of names"),
        (dict(layers=[0]), TypeError, "layers must be a sequence of names"),
        (dict(layers=0), TypeError, "layers must be a sequence of names"),
        (dict(layers=[]), ValueError, "at least one layer"),
        (dict(layers=["9"]), ValueError, "must be of model.named_modules"),
        (dict(layers=["2"]), ValueError, "must have parameters, '2' has none"),
        (dict(layers=["0", "0"]), ValueError, "named twice"),
        (dict(layers=["0", ""]), ValueError, "named twice"),
        (dict(order="up"), ValueError, "order must be one of"),
        (dict(seed=-1), ValueError, "seed must be between"),
        (dict(model=nn.ReLU()), ValueError, "model must have parameters, ReLU has none"),
    ],
)
def test_bad_calls_are_refused(change, error, message):
    call = dict(model=trained_net(), explain=weights) | change
    with pytest.raises(error, match=message):
        hessx.cascading_randomization(**call)
