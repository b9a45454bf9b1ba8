"""Which inputs raise the loss of a classifier of quadrants, to first and to second order?"""

import torch
from torch import nn

import hessx

torch.manual_seed(0)
x = torch.randn(4000, 8)
y = 2 * (x[:, 0] > 0) + (x[:, 1] > 0)
net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for _ in range(60):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()

inputs = torch.tensor([[0.2, 0.1, 0, 0, 0, 0, 0, 0]])
H = hessx.input_hessian(net, inputs)
print("eigenvalues of H:", ", ".join(f"{value:.1f}" for value in H.eigenvalues[0].tolist()))
first = hessx.cafo(net, inputs, k=2, c1=1.0)
second = hessx.caso(net, inputs, k=2, c1=1.0)
for result in (first, second):
    x0, x1 = result.delta[0, :2].tolist()
    print(f"{result.method}: x0 {x0:+.2f}, x1 {x1:+.2f}: loss {result.loss_change.item():+.1f}")
path = hessx.caso_path(net, inputs, lambda1s=[0.0, 0.5, 1.0, 2.0], c1=1.0)
print("inputs that move, as lambda1 grows:", (path.delta[0] != 0).sum(1).tolist())
print("map:", [round(value, 1) for value in hessx.saliency_map(second.delta)[0].tolist()])
