"""What a region of a picture looks like, in numbers which need no trained weights."""

from __future__ import annotations

import math

import torch
from pykeen.typing import FloatTensor
from torch.nn import functional

__all__ = ["GRID", "REGION_SIZE", "WIDTH", "region_descriptor"]

#: rows and columns of regions: 24, as many as MMRNS has
GRID = (4, 6)

#: the side of a region, in pixels of the picture as it is resized
REGION_SIZE = 24

#: bins of the histograms of hue and of the directions of edges
_BINS = 8

#: numbers of a region
WIDTH = 3 * 2 + _BINS + _BINS + 3


def region_descriptor(pictures: FloatTensor, grid: tuple[int, int] = GRID) -> FloatTensor:
    r"""Describe the regions of pictures: colours and edges.

    For each region: mean and standard deviation of red, green and blue (6 numbers); the histogram of hues, each pixel
    weighted by its chroma $\max - \min$ (8); the histogram of the directions of edges in $[0, \pi)$, weighted by their
    strength (8; cf. Dalal & Triggs, 2005); mean strength, its standard deviation, and mean chroma (3). Histograms are
    divided by the number of pixels, not by their sum, so that a grey and flat region has no hue and no edges.

    :param pictures: values from 0 to 1, shape: ``(n, 3, height, width)``; height and width are multiples of the grid
    :param grid: rows and columns of regions

    :returns: shape: ``(n, rows * columns, 25)``, regions row by row
    """
    rows, columns = grid
    n, _, height, width = pictures.shape
    regions = pictures.view(n, 3, rows, height // rows, columns, width // columns)
    pixels = regions.permute(0, 2, 4, 1, 3, 5).reshape(n * rows * columns, 3, -1)
    strength, direction = (_in_regions(x, grid) for x in _edges(pictures.mean(dim=1)))
    chroma, hue = _hue(pixels)
    parts = [
        pixels.mean(dim=-1),
        pixels.std(dim=-1, unbiased=False),
        _histogram(hue, chroma),
        _histogram(direction, strength),
        torch.stack([strength.mean(-1), strength.std(-1, unbiased=False), chroma.mean(-1)], dim=-1),
    ]
    return torch.cat(parts, dim=-1).view(n, rows * columns, WIDTH)


def _edges(grey: FloatTensor) -> tuple[FloatTensor, FloatTensor]:
    """Compute the strength of the edge at each pixel, and its direction as a share of half a turn."""
    padded = functional.pad(grey.unsqueeze(1), (1, 1, 1, 1), mode="replicate").squeeze(1)
    dy, dx = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2, (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    return torch.hypot(dx, dy), torch.remainder(torch.atan2(dy, dx) / math.pi, 1.0)


def _hue(pixels: FloatTensor) -> tuple[FloatTensor, FloatTensor]:
    """Compute chroma and hue (as a share of a turn) of pixels, shape: ``(m, 3, k)``."""
    red, green, blue = pixels.unbind(dim=1)
    chroma = pixels.amax(dim=1) - pixels.amin(dim=1)
    angle = torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)
    return chroma, torch.remainder(angle / (2 * math.pi), 1.0)


def _in_regions(x: FloatTensor, grid: tuple[int, int]) -> FloatTensor:
    """Cut maps, shape ``(n, height, width)``, into regions: ``(n * regions, pixels)``."""
    n, height, width = x.shape
    rows, columns = grid
    regions = x.view(n, rows, height // rows, columns, width // columns)
    return regions.permute(0, 1, 3, 2, 4).reshape(n * rows * columns, -1)


def _histogram(share: FloatTensor, weight: FloatTensor) -> FloatTensor:
    """Sum up weights by the bin of a cyclic value from 0 to 1, shape: ``(m, k)`` to ``(m, bins)``."""
    bins = (share * _BINS).long().clamp_(max=_BINS - 1)
    return torch.zeros(len(share), _BINS, dtype=weight.dtype).scatter_add_(1, bins, weight) / share.shape[1]
