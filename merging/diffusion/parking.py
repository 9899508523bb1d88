"""What paused forward passes hold, moved to main memory while they wait.

Of several passes that take turns one works at a time; what the others hold (skips, the states of
the current block) may not all fit on a GPU. PyTorch tells a dispatch mode of every tensor that is
made; those that are still alive when a pass pauses are what it holds.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Parking(TorchDispatchMode):
    """Keeps at most ``room`` bytes of paused passes on the device; the rest waits in main memory.

    While ``owner`` is a pass, what is made is noted as its own; while it is None, what is made
    belongs to nobody and stays where it is.
    """

    def __init__(self, room: int, shared: Iterable[Tensor]) -> None:
        """``shared`` are weights: views of them, made in a pass, are not the pass's own."""
        super().__init__()
        self.owner: Hashable | None = None
        self._room = room
        self._shared = {tensor.untyped_storage()._cdata for tensor in shared}
        self._made: dict[Hashable, list[weakref.ref[Tensor]]] = {}
        self._kept: dict[Hashable, int] = {}  # bytes on the device, by paused pass
        self._parked: dict[Hashable, list[tuple[UntypedStorage, UntypedStorage]]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do an operation, and note what it makes."""
        result = function(*args, **(kwargs or {}))
        if self.owner is not None:
            tensors = (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
            self._made.setdefault(self.owner, []).extend(map(weakref.ref, tensors))
        return result

    def park(self, one: Hashable) -> None:
        """A pass pauses: what it holds goes to main memory if there is no room for it."""
        storages = self._held(one)
        size = sum(storage.nbytes() for storage in storages)
        if sum(self._kept.values()) + size <= self._room:
            self._kept[one] = size
        else:
            self._parked[one] = [(storage, _sent_away(storage)) for storage in storages]

    def fetch(self, one: Hashable) -> None:
        """A pass goes on: all that it holds is on the device again."""
        self._kept.pop(one, None)
        for storage, away in self._parked.pop(one, ()):
            storage.resize_(away.nbytes())
            storage.copy_(away)

    def _held(self, one: Hashable) -> list[UntypedStorage]:
        """The memory of the tensors of a pass that are still alive."""
        alive = [(reference, reference()) for reference in self._made.get(one, ())]
        self._made[one] = [reference for reference, tensor in alive if tensor is not None]
        storages = [tensor.untyped_storage() for _, tensor in alive if tensor is not None]
        storages_by_key = {storage._cdata: storage for storage in storages}
        return [storage for key, storage in storages_by_key.items() if key not in self._shared]


def _sent_away(storage: UntypedStorage) -> UntypedStorage:
    """A copy in main memory; the original is emptied."""
    away = torch.empty(storage.nbytes(), dtype=torch.uint8).untyped_storage()
    away.copy_(storage)
    storage.resize_(0)
    return away
