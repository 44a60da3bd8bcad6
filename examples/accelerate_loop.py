"""Train a compressed network with accelerate, by as many processes as it was launched with, and save it once.

By one process: ``python accelerate_loop.py``; by several: ``accelerate launch accelerate_loop.py``.
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

import polyadic

accelerator = Accelerator(cpu=True)  # yours has no cpu=True
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()
loader = DataLoader(torch.randn(128, 3, 16, 16), batch_size=16)
held_out = torch.randn(32, 3, 16, 16)


@torch.no_grad()
def kept(network: nn.Module) -> float:
    """How much of the dense network's answers is kept on samples that trained nothing."""
    return 1 - float(polyadic.distillation_loss(network(held_out), dense(held_out)))


plan = polyadic.Plan((polyadic.Choice("2", "tucker2", (4, 4)),))  # or polyadic.load_plan("runs/search")
smaller = polyadic.apply_plan(model, plan, inputs=loader).model
optimizer = torch.optim.Adam(smaller.parameters(), 3e-3)
dense = model.to(accelerator.device)
smaller, optimizer, loader = accelerator.prepare(smaller, optimizer, loader)
for _ in range(5):
    for x in loader:
        with torch.no_grad():
            answers = dense(x)
        loss = polyadic.distillation_loss(smaller(x), answers)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()

if accelerator.is_main_process:
    network = accelerator.unwrap_model(smaller).cpu()
    dense = dense.cpu()
    score = polyadic.Metric(kept, name="R^2 of the dense outputs")
    polyadic.save(network, "runs/mine", plan=plan, dense=dense, score=score)
