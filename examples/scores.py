"""Which explanation predicts best what a model does around an input, and which one stays put?"""

import torch

import hessx


def model(x):
    """Return what is explained: a wave along one number, a product of two."""
    return torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2]


def gradient(x):
    """Return the gradient of each output."""
    x = x.requires_grad_()
    return torch.autograd.grad(model(x).sum(), x)[0]


def smoothed(x):
    """Return the mean gradient nearby: SmoothGrad."""
    return hessx.smooth_explanation(gradient, x, kernel="gaussian", radius=0.5)


x = torch.tensor([[0.3, 0.5, -0.5, 0.0]])
noise = hessx.perturb.Gaussian(0.5)
optimal = hessx.optimal_explanation(model, x, perturb_func=noise, seed=1)
scores, errors = hessx.infidelity(
    model,
    noise,
    x,
    torch.stack([gradient(x), smoothed(x), optimal.attributions]),
    n_perturb_samples=4000,
    seed=0,
    return_stderr=True,
)
for name, score, error in zip(["gradient", "smoothed", "optimal"], scores, errors, strict=True):
    print(f"{name}: infidelity {score.item():.2f} +- {error.item():.2f}")
for explain in (gradient, smoothed):
    change = hessx.sensitivity_max(explain, x, perturb_radius=0.1, seed=0)
    print(f"{explain.__name__}: moves by up to {change.item():.2f} of its length")
