"""Train a compressed network with the Trainer of Hugging Face, by its own loss and by the dense network's answers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

import polyadic


class Classifier(nn.Module):
    """As such networks are: the loss beside the logits where labels are given."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits (N, 4)."""
        logits = self.head(self.body(pixel_values).mean((2, 3)))
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


torch.manual_seed(0)
model = Classifier().eval()  # yours is trained
pixels = torch.randn(192, 1, 12, 12)
with torch.no_grad():
    labels = model(pixels)["logits"].argmax(1)
samples = [{"pixel_values": x, "labels": y} for x, y in zip(pixels, labels, strict=True)]
train, test = samples[:128], samples[128:]


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    """On the test samples, which nothing was trained on."""
    batch = torch.utils.data.default_collate(test)
    return float((network(batch["pixel_values"])["logits"].argmax(1) == batch["labels"]).float().mean())


class DistillingTrainer(Trainer):
    """Half the network's own loss, half the distance from the dense network's logits."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The dense network is in evaluation mode and stays as it is."""
        outputs = model(**inputs)
        with torch.no_grad():
            taught = dense(inputs["pixel_values"])["logits"]
        loss = 0.5 * outputs["loss"] + 0.5 * polyadic.distillation_loss(outputs["logits"], taught, "divergence")
        return (loss, outputs) if return_outputs else loss


loader = DataLoader(train, batch_size=16)  # batches are dicts: forward takes what it asks for, but for labels
plan = polyadic.find_plan(model, loader, budget=["macs=50%"], formats=["tucker2", "svd"]).plan
smaller = polyadic.apply_plan(model, plan, inputs=loader).model

arguments = TrainingArguments(
    output_dir="runs/trainer",
    num_train_epochs=5,
    per_device_train_batch_size=16,
    learning_rate=3e-3,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
)
trainer = DistillingTrainer(model=smaller, args=arguments, train_dataset=train)
dense = model.to(arguments.device)
trainer.train()

network = trainer.accelerator.unwrap_model(trainer.model).cpu()
score = polyadic.Metric(accuracy, unit="%")
example = {"pixel_values": pixels[:1]}
polyadic.save(network, "runs/mine", plan=plan, dense=model.cpu(), example_input=example, score=score)
