"""A loop of torch with a DataLoader and dropout, as its user would write it: run by the tests, killed, and run again.

usage: torch_loop.py RUN EPOCHS [--sleep SECONDS] [--ranks] [--workers N]
       torch_loop.py --serve    runs one for each line of arguments (JSON) on stdin, in a fork of a process that has imported torch already
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback

import torch
from torch.utils.data import DataLoader, TensorDataset

import keepbest


def serve() -> None:
    """Saves each loop the seconds that importing torch takes. Output goes to the file named first; the process's number is printed."""
    for line in sys.stdin:
        output, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            sys.argv[1:] = arguments
            try:
                main()
                sys.stdout.flush()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("epochs", type=int)
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--ranks", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()

    if options.ranks:
        torch.distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(96, 1, 8, 8)
    labels = (images.mean((1, 2, 3)) > 0).long()
    data = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True, num_workers=options.workers)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 36, 2),
    )
    train_model = torch.nn.parallel.DistributedDataParallel(model) if options.ranks else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)

    if os.path.exists(options.run):
        keeper = keepbest.Keeper.resume(options.run, model=model, optimizer=optimizer, scheduler=scheduler)
    else:
        if options.ranks:
            torch.distributed.barrier()
        keeper = keepbest.Keeper(options.run, "val/accuracy", tie_break="val/loss")
    with keeper:
        for epoch in range(keeper.next_epoch, options.epochs):
            model.train()
            for x, y in data:
                loss = torch.nn.functional.cross_entropy(train_model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scheduler.step()
            model.eval()
            with torch.no_grad():
                logits = model(images)
            metrics = {
                "val/accuracy": (logits.argmax(1) == labels).float().mean(),
                "val/loss": torch.nn.functional.cross_entropy(logits, labels),
            }
            keeper.offer(model, metrics, epoch=epoch, optimizer=optimizer, scheduler=scheduler)
            if keeper._ranks.is_first:
                print(f"epoch {epoch}", flush=True)
            time.sleep(options.sleep)
    if keeper._ranks.is_first:
        print("best", keepbest.load(options.run).digest, "last", keepbest.load(f"{options.run}@last").digest)
    if options.ranks:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
