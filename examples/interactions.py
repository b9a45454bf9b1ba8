"""Which inputs interact, in a ReLU network that learned ``x0 x1 - x2 x3``?"""

import torch
from torch import nn

import hessx

torch.manual_seed(0)
x = torch.randn(4000, 6)
y = x[:, :1] * x[:, 1:2] - x[:, 2:3] * x[:, 3:4]
net = nn.Sequential(nn.Linear(6, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for _ in range(400):
    optimizer.zero_grad()
    nn.functional.mse_loss(net(x), y).backward()
    optimizer.step()

H = hessx.smooth_hess(net, torch.zeros(1, 6), sigma=0.5, rtol=0.1)
value, error = H.to_dense(stderr=True)
print(H)
for i, j in [(0, 1), (2, 3), (4, 5)]:
    print(f"x{i} and x{j}: {value[0, i, j]:+.2f} +- {error[0, i, j]:.2f}")
