"""Train a compressed network with Lightning, taught by the dense one; a callback saves it with its true score."""

import copy

import pytorch_lightning as lightning  # or: import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import polyadic

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()
loader = DataLoader(torch.randn(128, 3, 16, 16), batch_size=16)
held_out = torch.randn(32, 3, 16, 16)


@torch.no_grad()
def kept(network: nn.Module) -> float:
    """How much of the dense network's answers is kept on samples that trained nothing."""
    return 1 - float(polyadic.distillation_loss(network(held_out), model(held_out)))


class Distilled(lightning.LightningModule):
    """A network that learns what its teacher answers."""

    def __init__(self, net: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.net, self.teacher = net, teacher.requires_grad_(False)

    def training_step(self, x: Tensor, number: int) -> Tensor:
        """Add a loss of your own where there are labels."""
        return polyadic.distillation_loss(self.net(x), self.teacher(x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of the compressed network alone."""
        return torch.optim.Adam(self.net.parameters(), 3e-3)


plan = polyadic.find_plan(model, loader, budget=["macs=50%"], formats=["tucker2"]).plan
smaller = polyadic.apply_plan(model, plan, inputs=loader).model
score = polyadic.Metric(kept, name="R^2 of the dense outputs")  # or the name of what your module logs, "val_psnr"
callback = polyadic.lightning_callback(
    "runs/mine", network="net", plan=plan, dense=model, example_input=held_out, score=score
)
trainer = lightning.Trainer(
    max_epochs=10, callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False
)
trainer.fit(Distilled(smaller, copy.deepcopy(model)), loader)
