"""Compress a network, train it in ten lines of torch, taught by the dense one, and save it with its true score."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader

import polyadic

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()
loader = DataLoader(torch.randn(128, 3, 16, 16), batch_size=16, shuffle=True)  # yours: no labels are needed
held_out = torch.randn(32, 3, 16, 16)


@torch.no_grad()
def kept(network: nn.Module) -> float:
    """How much of the dense network's answers is kept on samples that trained nothing: the score, at most 1."""
    return 1 - float(polyadic.distillation_loss(network(held_out), model(held_out)))


plan = polyadic.find_plan(model, loader, budget=["macs=50%"]).plan
smaller = polyadic.apply_plan(model, plan, inputs=loader).model
print(f"before training: {kept(smaller):.4f}")

optimizer = torch.optim.Adam(smaller.parameters(), 3e-3)
for _ in range(10):
    for x in loader:
        with torch.no_grad():
            answers = model(x)
        loss = polyadic.distillation_loss(smaller(x), answers)  # plus a loss of your own where there are labels
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

score = polyadic.Metric(kept, name="R^2 of the dense outputs")
polyadic.save(smaller, "runs/mine", plan=plan, dense=model, score=score)
print(f"loaded again: {kept(polyadic.load('runs/mine', copy.deepcopy(model))):.4f}")
