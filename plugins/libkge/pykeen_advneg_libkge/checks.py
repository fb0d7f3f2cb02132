"""Whether a model of LibKGE scores triples as the view of it does."""

from __future__ import annotations

from typing import Any

import torch
from pykeen.typing import LongTensor
from torch import nn

from pykeen_advneg.errors import ConfigurationError

from .modes import in_mode
from .reciprocal import RECIPROCAL, turned
from .view import KgeView, is_a

__all__ = ["MODEL", "check_scores"]

#: the class which scores triples by embedders and a scorer alone; reciprocal models do so for the turned triple
MODEL = "kge.model.kge_model.KgeModel"

#: what rounding, and an epsilon in the norm of LibKGE's TransE, may make of a score, as a share of the largest
TOLERANCE = 1e-3


def check_scores(model: nn.Module, view: KgeView, triples: LongTensor, num_relations: int) -> None:
    """Check that view and model give the same scores, asked for heads as for tails.

    :param model: the model
    :param view: as :func:`pykeen_advneg_libkge.view.make_view` gave it
    :param triples: shape: ``(n, 3)``
    :param num_relations: the number of relations of the data set

    :raises ConfigurationError: if they do not, or if the model has a way of its own to score triples, as ConvE and the
        transformer, which are for tails only
    """
    _check_class(model)
    kge: Any = model
    # a model which answers for tails only is asked for the tails of inverse relations
    heads = turned(triples, num_relations) if is_a(model, RECIPROCAL) else triples
    with in_mode(False, model, view), torch.no_grad():
        for direction, same in (("o", triples), ("s", heads)):
            expected = kge.score_spo(*triples.unbind(dim=-1), direction=direction).flatten()
            _check_same(model, view.score_hrt(same).flatten(), expected)


def _check_class(model: nn.Module) -> None:
    """Check that the class of the model has LibKGE's own way to score triples."""
    owner = next(cls for cls in type(model).__mro__ if "score_spo" in vars(cls))
    name = f"{owner.__module__}.{owner.__qualname__}"
    if name not in {MODEL, RECIPROCAL}:
        raise ConfigurationError(
            f"model {type(model).__name__} scores triples in a way of its own ({name}.score_spo), which is not "
            f"supported; wrap it in a reciprocal_relations_model, if it is for tails only, or choose another model."
        )


def _check_same(model: nn.Module, scores: torch.Tensor, expected: torch.Tensor) -> None:
    """Check that scores are the same, as far as the size of the scores lets one see."""
    tolerance = TOLERANCE * expected.abs().max().item()
    if not torch.allclose(scores, expected, rtol=0, atol=tolerance):
        raise ConfigurationError(
            f"model {type(model).__name__} does not score triples by its embedders and its scorer alone (by as much as "
            f"{(scores - expected).abs().max().item():.2g}), which is not supported; choose another model."
        )
