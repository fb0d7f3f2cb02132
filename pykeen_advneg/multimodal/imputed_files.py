"""What is filled in, in files: tables of tab-separated values, and grids of pictures."""

from __future__ import annotations

import pathlib
from typing import cast

import pandas as pd
import torch

__all__ = ["write_grid", "write_grids", "write_predictions"]

#: how many pictures a file has
_MOST = 64


def write_predictions(frame: pd.DataFrame, path: pathlib.Path) -> None:
    """Write a table of tab-separated values, as a whole or not at all.

    :param frame: the table
    :param path: the file
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    frame.to_csv(temporary, sep="\t", index=False)
    temporary.replace(path)


def write_grid(pictures: torch.Tensor, path: pathlib.Path, columns: int = 8) -> None:
    """Draw pictures side by side into a PNG file.

    :param pictures: bytes, shape: ``(n, 3, height, width)``
    :param path: the file
    :param columns: how many stand in a row
    """
    from PIL import Image

    height, width = cast("tuple[int, int]", tuple(pictures.shape[2:]))
    rows = -(-len(pictures) // columns)
    canvas = torch.zeros(rows * height, columns * width, 3, dtype=torch.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height, i % columns * width
        canvas[top : top + height, left : left + width] = picture.permute(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    Image.fromarray(canvas.numpy()).save(temporary, format="PNG")
    temporary.replace(path)


def write_grids(pictures: torch.Tensor, path: pathlib.Path) -> list[pathlib.Path]:
    """Draw pictures into PNG files of 64 each: picture ``i`` is at place ``i % 64`` of file ``1 + i // 64``.

    :param pictures: bytes, shape: ``(n, 3, height, width)``
    :param path: the first file; the others are ``NAME-2.png``, ``NAME-3.png`` and so on

    :returns: the files
    """
    paths = []
    for number, part in enumerate(pictures.split(_MOST), start=1):
        paths.append(path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}"))
        write_grid(part, paths[-1])
    return paths
