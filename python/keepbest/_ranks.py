"""Many processes of one training: rank 0 judges and writes, the others take part in gathering and get the same answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from keepbest import errors
from keepbest._tensors import Piece, loaded

T = TypeVar("T")


class Ranks:
    """This process alone."""

    is_first = True

    @staticmethod
    def of_this_process() -> Ranks:
        """The ranks of ``torch.distributed`` where it is in use, else this process alone."""
        torch = loaded("torch")
        if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
            if torch.distributed.get_world_size() > 1:
                return TorchRanks(torch)
        return Ranks()

    def first(self, do: Callable[[], T]) -> T | None:
        """Does something on the first rank; what it raises, all raise. ``None`` on the others."""
        return do()

    def share(self, value: T) -> T:
        """The first rank's value."""
        return value

    def reduce(self, metrics: dict[str, float], how: str | None) -> dict[str, float]:
        """The metrics that count."""
        if how not in (None, "mean"):
            raise errors.InvalidOption(f"reduce is {how!r}, not None or 'mean'")
        return metrics

    def offer(self, offer: Callable[[Callable[[str], Any]], T], copy: Callable[[str], Any]) -> T:
        """Calls ``offer`` on the first rank with ``copy``, in which all ranks take part."""
        return offer(copy)

    def gather(self, pieces: list[Piece]) -> None:
        """Makes whole what is sharded, on the first rank."""

    def barrier(self) -> None:
        """Waits for all ranks."""


class TorchRanks(Ranks):
    """The ranks of the default process group of ``torch.distributed``."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._distributed = torch.distributed
        self.is_first = self._distributed.get_rank() == 0

    def _tell(self, value: Any) -> Any:
        values = [value]
        self._distributed.broadcast_object_list(values, src=0)
        return values[0]

    def first(self, do: Callable[[], T]) -> T | None:
        result, error = None, None
        if self.is_first:
            try:
                result = do()
            except Exception as raised:
                error = raised
        words = self._tell(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        if words is not None:
            raise errors.OtherRankFailed(words)
        return result

    def share(self, value: T) -> T:
        shared: T = self._tell(value)
        return shared

    def reduce(self, metrics: dict[str, float], how: str | None) -> dict[str, float]:
        super().reduce(metrics, how)
        if how is None:
            return metrics
        gathered: list[Any] = [None] * self._distributed.get_world_size()
        self._distributed.all_gather_object(gathered, metrics)
        names = list(gathered[0])
        if any(list(other) != names for other in gathered):
            raise errors.InvalidMetric(f"the ranks measured different metrics: {gathered}", metric="")
        return {name: sum(of[name] for of in gathered) / len(gathered) for name in names}

    def offer(self, offer: Callable[[Callable[[str], Any]], T], copy: Callable[[str], Any]) -> T:
        if self.is_first:
            return self._offer_first(offer, copy)
        wanted = self._tell(None)
        if wanted in ("weights", "everything"):
            copy(wanted)
        elif wanted != "nothing":
            raise errors.OtherRankFailed(str(wanted))
        done, result = self._tell(None)
        if not done:
            raise errors.OtherRankFailed(str(result))
        verdict: T = result
        return verdict

    def _offer_first(self, offer: Callable[[Callable[[str], Any]], T], copy: Callable[[str], Any]) -> T:
        told = False

        def copy_and_tell(wanted: str) -> Any:
            nonlocal told
            told = True
            self._tell(wanted)
            return copy(wanted)

        try:
            result = offer(copy_and_tell)
        except BaseException as error:
            words = f"{type(error).__name__}: {error}"
            self._tell((False, words) if told else words)
            raise
        self._tell((True, result))
        return result

    def gather(self, pieces: list[Piece]) -> None:
        for each in pieces:
            full = getattr(each.source, "full_tensor", None)
            if full is None:
                continue
            # One tensor at a time is whole beside its shards.
            whole = full()
            if self.is_first:
                each.source = whole.cpu()
                each.nbytes = whole.numel() * whole.element_size()
                each.address, each.strides = 0, None
            del whole

    def barrier(self) -> None:
        self._distributed.barrier()
