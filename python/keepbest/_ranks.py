"""Many processes of one training: rank 0 judges and writes, the others take part in gathering and get the same answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from keepbest import _tensors, errors

T = TypeVar("T")
S = TypeVar("S")


class Ranks:
    """This process alone."""

    is_first = True
    place, number = 0, 1

    @staticmethod
    def of_this_process() -> Ranks:
        """The ranks of ``torch.distributed`` where it is in use, else this process alone."""
        torch = _tensors.loaded("torch")
        if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
            if torch.distributed.get_world_size() > 1:
                return TorchRanks(torch)
        return Ranks()

    def first(self, call: str, do: Callable[[], T]) -> T | None:
        """Does something on the first rank; what it raises, all raise. ``None`` on the others."""
        return do()

    def share(self, call: str, value: T) -> T:
        """The first rank's value."""
        return value

    def all(self, call: str, do: Callable[[], T]) -> list[T]:
        """Does something on every rank; what one raises, all raise. The results by rank."""
        return [do()]

    def offer(
        self,
        call: str,
        judge: Callable[[Callable[[str], Any]], T],
        prepare: Callable[[str], S],
        copy: Callable[[S], Any],
    ) -> T:
        """Calls ``judge`` on the first rank, with what it is to call back once it knows what will be saved: all ranks ``prepare`` that, and the
        first one's is copied. What it returns, all return."""
        return judge(lambda wanted: copy(prepare(wanted)))

    def gather(self, pieces: list[_tensors.Piece]) -> None:
        """Makes whole what is sharded, on the first rank."""
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


class TorchRanks(Ranks):
    """The ranks of the default process group of ``torch.distributed``.

    All of them make the same calls in the same order. Every exchange carries what the rank is doing and what went wrong in it, so that an error
    of one is an error of all in the same call, and ranks that are out of step find out instead of taking each other's answers.
    """

    def __init__(self, torch: Any) -> None:
        self._distributed = torch.distributed
        self.place, self.number = self._distributed.get_rank(), self._distributed.get_world_size()
        self.is_first = self.place == 0

    def _exchange(self, call: str, value: Any, error: BaseException | None = None) -> list[Any]:
        """The values of all ranks. Raises this rank's own error, or :class:`OtherRankFailed` for another's."""
        words = None if error is None else f"{type(error).__name__}: {error}"
        told: list[Any] = [None] * self.number
        try:
            self._distributed.all_gather_object(told, (call, words, value))
        except RuntimeError as lost:
            if error is not None:
                raise error from lost
            raise errors.OtherRankFailed(f"another rank is gone: {lost}") from lost
        if error is not None:
            raise error
        for rank, (other, why, _) in enumerate(told):
            if other != call:
                raise errors.OtherRankFailed(
                    f"rank {rank} is at {other}, and rank {self.place} at {call}: every rank makes the same calls of a keeper in the same order"
                )
            if why is not None:
                raise errors.OtherRankFailed(f"rank {rank}: {why}")
        return [of for _, _, of in told]

    def first(self, call: str, do: Callable[[], T]) -> T | None:
        result, error = None, None
        if self.is_first:
            try:
                result = do()
            except BaseException as raised:
                error = raised
        self._exchange(call, None, error)
        return result

    def share(self, call: str, value: T) -> T:
        shared: T = self._exchange(call, value if self.is_first else None)[0]
        return shared

    def all(self, call: str, do: Callable[[], T]) -> list[T]:
        value, error = None, None
        try:
            value = do()
        except BaseException as raised:
            error = raised
        return self._exchange(call, value, error)

    def offer(
        self,
        call: str,
        judge: Callable[[Callable[[str], Any]], T],
        prepare: Callable[[str], S],
        copy: Callable[[S], Any],
    ) -> T:
        if not self.is_first:
            wanted = self._exchange(call, None)[0]
            if wanted is not None:
                prepare(wanted)
            answer: T = self._exchange(call, None)[0]
            return answer
        # Whether the others were told what will be saved; whether they failed with this rank, and wait for nothing more.
        told = failed = False

        def copy_together(wanted: str) -> Any:
            nonlocal told, failed
            told = failed = True
            self._exchange(call, wanted)
            prepared = prepare(wanted)
            failed = False
            return copy(prepared)

        result, error = None, None
        try:
            result = judge(copy_together)
        except BaseException as raised:
            if failed:
                raise
            error = raised
        if not told:
            self._exchange(call, None)
        return self._exchange(call, result, error)[0]  # type: ignore[no-any-return]
