"""One layer of the model as the solver sees it: rows in, a low-rank change out.

Linear layers and convolutions alike: a convolution's rows are its unfolded patches, so that its
weight, flattened to (out, channels · height · width), acts on rows as a Linear's does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from merging.deltas import Delta

Layer = nn.Linear | nn.Conv2d


def flat_weight(layer: Layer) -> Tensor:
    """W0 as (out, in), float64 on the CPU."""
    return layer.weight.detach().flatten(1).to("cpu", torch.float64)


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


def change(layer: Layer, x: Tensor, delta: Delta) -> Tensor:
    """What ``delta`` adds to the layer's output for input x; same shape as the output."""
    if isinstance(layer, nn.Linear):
        return F.linear(F.linear(x, delta.down), delta.up)
    kernel = delta.down.reshape(delta.rank, layer.in_channels, *layer.kernel_size)
    hidden = F.conv2d(
        x, kernel, stride=layer.stride, padding=layer.padding, dilation=layer.dilation
    )
    return F.conv2d(hidden, delta.up[:, :, None, None])


def spread(weights: Tensor, output: Tensor) -> Tensor:
    """Row weights (samples, rows) in a shape that multiplies the layer's output."""
    if output.ndim == 4:
        return weights.reshape(weights.shape[0], 1, *output.shape[2:])
    return weights.reshape(*output.shape[:-1], 1)
