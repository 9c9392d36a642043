"""A CNN in PyTorch that can be interrupted at any time: start it again, and it goes on with the same bits.

usage: torch_loop.py RUN
"""

import os
import sys

import torch

import keepbest

torch.manual_seed(0)
images = torch.randn(256, 1, 12, 12)
labels = (images[:, 0, :6].mean((1, 2)) > images[:, 0, 6:].mean((1, 2))).long()
train = torch.utils.data.TensorDataset(images[:192], labels[:192])
loader = torch.utils.data.DataLoader(train, batch_size=32, shuffle=True)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Flatten(), torch.nn.Linear(800, 2)
)
optimizer = torch.optim.AdamW(model.parameters())
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)

run = sys.argv[1]
if os.path.exists(run):
    keeper = keepbest.Keeper.resume(run, model=model, optimizer=optimizer, scheduler=scheduler)
else:
    keeper = keepbest.Keeper(run, monitor="val/accuracy", tie_break="val/loss")

with keeper:
    for epoch in range(keeper.next_epoch, 5):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            logits = model(images[192:])
        metrics = {
            "val/accuracy": (logits.argmax(1) == labels[192:]).float().mean(),
            "val/loss": torch.nn.functional.cross_entropy(logits, labels[192:]),
        }
        verdict = keeper.offer(model, metrics, epoch=epoch, optimizer=optimizer, scheduler=scheduler)
        print(f"epoch {epoch}: {verdict.reason}")

best = keeper.load_best(model)
print(f"best: epoch {best.epoch}, {best.metrics}, digest {best.digest[:16]}")
