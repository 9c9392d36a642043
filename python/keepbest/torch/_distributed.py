"""Many processes under ``torchrun`` that train one network: the first runs the program, the others do their part."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from keepbest import _native, errors
from keepbest.torch._device import tensor_at

TIMEOUT = "KEEPBEST_RANK_TIMEOUT"
"""Seconds that a rank waits for another one that says nothing: 1,800 by default. One that ended is missed at once."""


def main(arguments: list[str]) -> int:
    """The ``keepbest`` command as one of many ranks. Training they share; anything else the first does alone."""
    rank = int(os.environ["RANK"])
    if arguments[:1] != ["train"]:
        return _native.main(["keepbest", *arguments]) if rank == 0 else 0
    join()
    if rank == 0:
        code = _native.main(["keepbest", *arguments])
        _native.release_ranks()
    else:
        code = _follow(rank)
    sys.stdout.flush()
    sys.stderr.flush()
    # A group of which a rank is lost may wait for it where the interpreter ends.
    os._exit(code)


def _follow(rank: int) -> int:
    # The first rank is told as well, saves, and says when it is over.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    try:
        _native.follow()
    except errors.KeepbestError as error:
        print(f"keepbest: rank {rank} ended: {error}", file=sys.stderr)
        return 1
    return 0


def join() -> None:
    """Joins the other ranks: with gloo for what lies in this machine's memory, and nccl for what lies on CUDA devices."""
    seconds = float(os.environ.get(TIMEOUT, "1800"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(seconds=seconds))
    _native.join_ranks(dist.get_rank(), dist.get_world_size())


class _Group:
    """Whether another rank has been lost: then none is waited for any more."""

    lost: str | None = None


@contextlib.contextmanager
def _with_others() -> Iterator[None]:
    if _Group.lost is not None:
        raise errors.RankLost(_Group.lost)
    try:
        yield
    except RuntimeError as error:
        _Group.lost = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise errors.RankLost(_Group.lost) from error


def sum_tensors(tensors: list[Tensor]) -> None:
    """Replaces tensors of one type by their sums over all ranks, which get the same bits."""
    flat = torch.cat([each.reshape(-1) for each in tensors])
    with _with_others():
        dist.all_reduce(flat)
    at = 0
    for each in tensors:
        each.copy_(flat[at : at + each.numel()].view(each.shape))
        at += each.numel()


def sum_at(address: int, count: int, kind: str) -> None:
    """Replaces numbers that lie there by their sums over all ranks."""
    with _with_others():
        dist.all_reduce(tensor_at(address, (count,), getattr(torch, kind)))


def tell(message: bytes) -> None:
    """Says something to all other ranks."""
    with _with_others():
        dist.broadcast(torch.tensor([len(message)]), 0)
        if message:
            dist.broadcast(torch.frombuffer(bytearray(message), dtype=torch.uint8), 0)


def hear() -> bytes:
    """What the first rank says next."""
    length = torch.zeros(1, dtype=torch.int64)
    with _with_others():
        dist.broadcast(length, 0)
        message = torch.empty(int(length), dtype=torch.uint8)
        if len(message) > 0:
            dist.broadcast(message, 0)
    return message.numpy().tobytes()


def gather(address: int, count: int) -> list[list[float]]:
    """The numbers of every rank, in order, at the first one; nothing at the others."""
    own = tensor_at(address, (count,), torch.float32) if count > 0 else torch.empty(0)
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    with _with_others():
        dist.all_gather(counts, torch.tensor([count]))
        if dist.get_rank() > 0:
            if count > 0:
                dist.send(own, 0)
            return []
        found = [own]
        for rank, size in enumerate(counts[1:], start=1):
            found.append(torch.empty(int(size)))
            if int(size) > 0:
                dist.recv(found[-1], rank)
    return [each.tolist() for each in found]
