"""A fit of Lightning: two lines keep the best, and make every checkpoint durable.

usage: lightning_fit.py RUN
"""

import sys

import torch
from lightning.pytorch import LightningModule, Trainer

import keepbest
from keepbest.lightning import KeepBest, KeepBestIO


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))

    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch):
        logits = self.layers(batch[0])
        self.log("val/accuracy", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


torch.manual_seed(0)
x = torch.randn(128, 1, 8, 8)
data = torch.utils.data.TensorDataset(x, (x.mean((1, 2, 3)) > 0).long())
loader = torch.utils.data.DataLoader(data, batch_size=32)
run = sys.argv[1]
trainer = Trainer(
    max_epochs=3,
    logger=False,
    accelerator="cpu",
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
    callbacks=[KeepBest(run, monitor="val/accuracy")],
    plugins=[KeepBestIO()],
)
trainer.fit(Classifier(), loader, loader)
best = keepbest.load(run)
print(f"best: epoch {best.epoch}, {best.metrics}")
