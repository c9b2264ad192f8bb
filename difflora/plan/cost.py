"""What a network costs, counted on the meta device: no weight is made, no number computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_VIEWS = ("view", "reshape", "expand", "transpose", "permute", "t.", "slice", "split", "chunk", "unsqueeze", "squeeze")
_FREE = (*_VIEWS, "select", "unbind", "detach", "alias", "empty", "new_empty", "as_strided", "unfold", "is_same_size")
"""Operations that move no bytes: views and allocations."""


@dataclass(frozen=True)
class Cost:
    """Of one pass, forward or forward and backward.

    Attributes:
        flops: floating-point operations; a multiplication and an addition are two.
        bytes: read and written by activations, each operation by itself, as without fusion.
        weight_bytes: of weights that are read, each time they are; the same for a batch of any size.
        saved: bytes that the forward pass keeps for the backward pass, weights left out.
        largest: bytes of the operation that touches most; a pass without gradients needs about twice that.
    """

    flops: float = 0.0
    bytes: float = 0.0
    weight_bytes: float = 0.0
    saved: float = 0.0
    largest: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.weight_bytes + other.weight_bytes,
            max(self.saved, other.saved),
            max(self.largest, other.largest),
        )

    def times(self, passes: float, batch: int = 1) -> Cost:
        """Of ``passes`` passes of ``batch`` samples each, where this is the cost of one sample."""
        samples = passes * batch
        return Cost(
            self.flops * samples,
            self.bytes * samples,
            self.weight_bytes * passes,
            self.saved * batch,
            self.largest * batch,
        )


def count(run: Callable[[], Tensor], network: nn.Module, *, backward: bool = False) -> Cost:
    """Counts a pass.

    Attention counts as a fused kernel: its scores are neither stored nor moved.

    Args:
        run: the forward pass of one sample, on the meta device.
        network: whose weights are told apart from activations.
        backward: whether the backward pass is counted too.
    """
    with ExitStack() as stack:
        if not backward:
            stack.enter_context(torch.no_grad())
        traffic = stack.enter_context(_counted(network))
        output = run()
        if backward:
            output.sum().backward()
    saved = sum(storage.nbytes() for storage in traffic.kept.values())
    return Cost(
        float(traffic.flops), float(traffic.moved), float(traffic.weights), float(saved), float(traffic.largest)
    )


@contextmanager
def _counted(network: nn.Module) -> Iterator[_Traffic]:
    flops, traffic = FlopCounterMode(display=False), _Traffic(network)
    with flops, traffic, _FusedAttention(traffic), saved_tensors_hooks(traffic.keep, lambda tensor: tensor):
        yield traffic
    traffic.flops += flops.get_total_flops()


class _Traffic(TorchDispatchMode):
    """Bytes that operations read and write."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        tensors = [*network.parameters(), *network.buffers()]
        self._owned = {_storage(tensor) for tensor in tensors}
        self.kept: dict[int, Any] = {}
        self.flops, self.moved, self.weights, self.largest = 0.0, 0.0, 0.0, 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().removeprefix("aten::") + "."
        if not name.startswith(_FREE) and not name.startswith(tuple(f"_{free}" for free in _FREE)):
            self.add(*tree_leaves((args, kwargs, result)))
        return result

    def add(self, *values: Any) -> None:
        """Counts the tensors among these as moved once, by one operation."""
        moved = 0
        for value in values:
            if isinstance(value, Tensor):
                size = value.numel() * value.element_size()
                if _storage(value) in self._owned:
                    self.weights += size
                else:
                    moved += size
        self.moved += moved
        self.largest = max(self.largest, moved)

    def keep(self, tensor: Tensor) -> Tensor:
        """Notes what autograd saves; the storages stay alive, so that their ids do not come twice."""
        if _storage(tensor) not in self._owned:
            self.kept[_storage(tensor)] = tensor.untyped_storage()
        return tensor


class _FusedAttention(TorchFunctionMode):
    """Puts the cost of a fused kernel in the place of attention."""

    def __init__(self, traffic: _Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            values = dict(zip(("query", "key", "value"), args, strict=False)) | dict(kwargs or {})
            return _Fused.apply(values["query"], values["key"], values["value"], self._traffic)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


class _Fused(torch.autograd.Function):
    """Two products forward, five backward (the scores are made again)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, traffic: _Traffic) -> Tensor:
        """(B, H, T, C), (B, H, S, C), (B, H, S, C) -> (B, H, T, C)."""
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, output)
        ctx.traffic, ctx.product = traffic, 2 * query.numel() * key.shape[-2]
        traffic.flops += 2 * ctx.product
        traffic.add(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of the three."""
        query, key, value, output = ctx.saved_tensors
        ctx.traffic.flops += 5 * ctx.product
        ctx.traffic.add(query, key, value, output, gradient, query, key, value)
        return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape), None


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
