"""Layers of the model as the solver needs them: their input rows, and low-rank changes added.

A convolution's rows are its unfolded patches, so that its weight, flattened to (out, channels ·
height · width), acts on rows as a Linear's does. Changes of vectors (biases, and the weights of
normalisations) are only added, never solved for.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from merging.adapter import VectorDelta
from merging.linalg.delta import Delta

Layer = nn.Linear | nn.Conv2d
Module = Layer | nn.LayerNorm | nn.GroupNorm
Change = Delta | VectorDelta


def flat_weight(layer: Layer) -> Tensor:
    """W0 as (out, in), float64 on the CPU."""
    return layer.weight.detach().flatten(1).cpu().double()  # in this order: MPS has no float64


def input_rows(layer: Layer, x: Tensor) -> Tensor:
    """The layer's input as rows per sample: (samples, rows, in)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(x.shape[0], -1, x.shape[-1])
    if isinstance(layer.padding, str) or layer.groups != 1:
        raise ValueError(f"unsupported convolution {layer}")
    patches = F.unfold(
        x, layer.kernel_size, dilation=layer.dilation, padding=layer.padding, stride=layer.stride
    )
    return patches.transpose(1, 2)


def output_rows(layer: Layer, y: Tensor) -> Tensor:
    """The layer's output as rows per sample: (samples, rows, out), in the order of its inputs."""
    if isinstance(layer, nn.Linear):
        return y.reshape(y.shape[0], -1, y.shape[-1])
    return y.flatten(2).transpose(1, 2)


def output_change(module: Module, x: Tensor, change: Change) -> Tensor:
    """The change of the module's output for input x; of its shape, or broadcast to it."""
    if isinstance(change, VectorDelta):
        return _vector_output(module, x, change)
    if isinstance(module, nn.LayerNorm | nn.GroupNorm):
        raise ValueError(f"a normalisation has no weight matrix to change: {module}")
    return _delta_output(module, x, change)


def _vector_output(module: Module, x: Tensor, shift: VectorDelta) -> Tensor:
    """A layer's bias itself; for a normalisation, the normalised x times weight plus bias."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        assert shift.bias is not None  # a layer has no other vector
        return shift.bias[:, None, None] if isinstance(module, nn.Conv2d) else shift.bias
    weight = x.new_zeros(module.weight.shape) if shift.weight is None else shift.weight
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(x, module.normalized_shape, weight, shift.bias, module.eps)
    return F.group_norm(x, module.num_groups, weight, shift.bias, module.eps)


def _delta_output(layer: Layer, x: Tensor, delta: Delta) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(F.linear(x, delta.down), delta.up)
    kernel = delta.down.reshape(delta.rank, layer.in_channels, *layer.kernel_size)
    hidden = F.conv2d(
        x, kernel, stride=layer.stride, padding=layer.padding, dilation=layer.dilation
    )
    return F.conv2d(hidden, delta.up[:, :, None, None])


def broadcast_weights(weights: Tensor, output: Tensor) -> Tensor:
    """Row weights (samples, rows) in a shape that broadcasts with ``output``."""
    if output.ndim == 4:
        return weights.reshape(weights.shape[0], 1, *output.shape[2:])
    return weights.reshape(weights.shape[0], *output.shape[1:-1], 1)
