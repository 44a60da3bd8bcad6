"""A trainer that builds its network from a config, as many do: the compressed one is built from the saved folder."""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import polyadic


@dataclass
class Config:
    """What the trainer knows; ``compressed`` is the one field that was added to it."""

    channels: int = 8
    epochs: int = 5
    compressed: str | None = None


def build(config: Config) -> nn.Module:
    """The network of a config: its dense structure, and the compressed network of a folder where one is named."""
    width = config.channels
    network = nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU(), nn.Conv2d(width, 3, 3)
    )
    return network if config.compressed is None else polyadic.load(config.compressed, network)


class Trainer:
    """Yours: it knows nothing of Polyadic, and calls ``build`` by itself."""

    def __init__(self, config: Config) -> None:
        self.config, self.model = config, build(config)

    def fit(self, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Train."""
        optimizer = torch.optim.Adam(self.model.parameters(), 3e-3)
        for _ in range(self.config.epochs):
            for x, y in batches:
                loss = nn.functional.mse_loss(self.model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


torch.manual_seed(0)
config = Config()
model = build(config).eval()  # yours is trained
inputs, held_out = torch.randn(128, 3, 16, 16), torch.randn(32, 3, 16, 16)
with torch.no_grad():
    batches = list(DataLoader(TensorDataset(inputs, model(inputs)), batch_size=16))


@torch.no_grad()
def error(network: nn.Module) -> float:
    """On samples that nothing was trained on, where the dense network makes none."""
    return float(nn.functional.mse_loss(network(held_out), model(held_out)))


# Once: compress, without training, into a folder.
untrained = polyadic.SampleTask(model, batches, tuning=polyadic.training.DistillOptions(epochs=0))
result = polyadic.compress(model, untrained, budget=["macs=50%"], formats=["tucker2"])
polyadic.save(result, "runs/compressed")

# Then: the trainer builds the compressed network by itself.
trainer = Trainer(replace(config, compressed="runs/compressed"))
trainer.fit(batches)
plan = polyadic.load_plan("runs/compressed")
score = polyadic.Metric(error, name="error", higher_is_better=False)
polyadic.save(trainer.model, "runs/mine", plan=plan, dense=model, example_input=inputs, score=score)

# Where the network of the config has other weights by now, the plan is applied to them once more.
again = polyadic.apply_plan(model, plan, inputs=inputs).model
assert [tensor.shape for tensor in again.state_dict().values()] == [
    tensor.shape for tensor in trainer.model.state_dict().values()
]
