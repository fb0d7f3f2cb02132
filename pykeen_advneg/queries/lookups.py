"""What looking up a representation does besides giving it."""

from __future__ import annotations

import torch
from pykeen.nn.representation import Embedding, Representation
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["depends_on_batch", "is_embedding", "is_table"]


def depends_on_batch(representation: Representation) -> bool:
    """Return whether the representation of an id depends on chance or on the other ids, now.

    :param representation: the representation, in training or evaluation mode

    :returns: whether there is dropout or batch normalisation, and it is in training mode
    """
    return any(
        module.training and (isinstance(module, _BatchNorm) or (isinstance(module, _DropoutNd) and module.p > 0))
        for module in representation.modules()
    )


def is_embedding(representation: Representation) -> bool:
    """Return whether looking up some ids gives their embeddings and does nothing else, now.

    :param representation: the representation, in training or evaluation mode

    :returns: whether it is an embedding whose regulariser, if any, does nothing
    """
    regularizer = representation.regularizer
    return type(representation) is Embedding and (
        regularizer is None or not regularizer.training or not torch.is_grad_enabled()
    )


def is_table(representation: Representation) -> bool:
    """Return whether all representations are at hand, so that it costs nothing and does nothing to ask for all.

    :param representation: the representation

    :returns: whether it is an embedding, cf. :func:`is_embedding`, without normaliser and with a dense gradient
    """
    return (
        isinstance(representation, Embedding)
        and is_embedding(representation)
        and representation.normalizer is None
        and not representation._embeddings.sparse
    )
