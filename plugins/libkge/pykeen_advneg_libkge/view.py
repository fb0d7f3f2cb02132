r"""A model of LibKGE, seen as one of PyKEEN: the same parameters, the same scores.

With it, whatever :class:`pykeen_advneg.scoring.Scorer` can do, it does for LibKGE's models. TransE with an L1
or L2 norm, RotatE with L2, DistMult and ComplEx get the interaction of PyKEEN which computes what their scorer does,
and with it its form as a product or a distance. All others are scored by their own scorer: candidates which
positives share by "sp_" and "_po", all others triple by triple ("spo").

What is used of LibKGE are public names only: ``get_s_embedder()``, ``get_p_embedder()``, ``get_o_embedder()``,
``get_scorer()`` of a model, ``embed()``, ``embed_all()`` of an embedder, ``score_emb()``, ``get_option()`` of a scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from docdata import parse_docdata
from pykeen.models import ERModel
from pykeen.nn.modules import (
    ComplExInteraction,
    DistMultInteraction,
    Interaction,
    RotatEInteraction,
    TransEInteraction,
)
from pykeen.nn.representation import Representation
from pykeen.triples import KGInfo
from pykeen.typing import FloatTensor, LongTensor
from pykeen.utils import NoRandomSeedNecessary
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pykeen_advneg.errors import ConfigurationError

__all__ = ["EmbedderRepresentation", "KgeView", "ScorerInteraction", "is_a", "make_view"]

Encode = Callable[[FloatTensor], FloatTensor]


def is_a(instance: object, *names: str) -> bool:
    """Return whether an object is of a class of LibKGE, or of one derived from it.

    :param instance: the object
    :param names: the names of modules with the names of classes in them

    :returns: whether its class, or one of its bases, has one of the names
    """
    return any(f"{cls.__module__}.{cls.__qualname__}" in names for cls in type(instance).__mro__)


def halves_as_complex(x: FloatTensor) -> FloatTensor:
    """Read the halves of vectors as real and imaginary parts, as LibKGE's ComplEx and RotatE do.

    :param x: shape: ``(*prefix, 2 * dim)``

    :returns: complex, shape: ``(*prefix, dim)``
    """
    return torch.complex(*(half.contiguous() for half in x.chunk(2, dim=-1)))


def phases_as_complex(x: FloatTensor) -> FloatTensor:
    """Read numbers as phases, as LibKGE's RotatE does with relations.

    :param x: shape: ``(*prefix, dim)``

    :returns: complex numbers of absolute value 1, same shape
    """
    return torch.complex(x.cos(), x.sin())


class EmbedderRepresentation(Representation):
    """An embedder of LibKGE as a representation of PyKEEN; dropout and the like are those of the embedder."""

    def __init__(self, embedder: nn.Module, count: int, encode: Encode | None = None) -> None:
        """Initialize the representation.

        :param embedder: has ``embed(indexes)`` and ``embed_all()``
        :param count: how many entities or relations it embeds
        :param encode: makes of embeddings what the interaction expects; None: nothing is to be done
        """
        kge: Any = embedder
        with torch.no_grad():
            mode = embedder.training
            embedder.eval()
            first = kge.embed(torch.zeros(1, dtype=torch.long, device=next(embedder.parameters()).device))
            embedder.train(mode)
            shape = (first if encode is None else encode(first)).shape[1:]
        super().__init__(max_id=count, shape=tuple(shape), unique=False)
        self.embedder = embedder
        self.encode = encode

    @property
    def encodes_jointly(self) -> bool:
        """Whether all ids of a batch may be asked for at once, so that there is one gradient of the table.

        Dropout falls anew for each slot, as in LibKGE, and normalisation depends on what is asked for.
        """
        return not any(
            isinstance(part, _BatchNorm) or (isinstance(part, _DropoutNd) and part.p > 0) for part in self.modules()
        )

    # docstr-coverage: inherited
    def _plain_forward(self, indices: LongTensor | None = None) -> FloatTensor:
        embedder: Any = self.embedder
        x: FloatTensor = embedder.embed_all() if indices is None else embedder.embed(indices.flatten())
        x = x if self.encode is None else self.encode(x)
        return x if indices is None else x.view(*indices.shape, *x.shape[1:])


@parse_docdata
class ScorerInteraction(Interaction[FloatTensor, FloatTensor, FloatTensor]):
    """A scorer of LibKGE as an interaction of PyKEEN.

    ---
    name: LibKGE
    citation:
        author: Broscheit
        year: 2020
        link: https://aclanthology.org/2020.emnlp-demos.22/
        github: uma-pi1/kge
    """

    entity_shape: Sequence[str] = ("d",)
    relation_shape: Sequence[str] = ("e",)

    #: candidates which positives share are cheaper scored for all of them than taken apart
    scores_chunks = True

    def __init__(self, scorer: nn.Module) -> None:
        """Initialize the interaction.

        :param scorer: has ``score_emb(s_emb, p_emb, o_emb, combine)`` for "spo", "sp_" and "_po"
        """
        super().__init__()
        self.scorer = scorer

    # docstr-coverage: inherited
    def forward(  # noqa: D102
        self, h: FloatTensor, r: FloatTensor, t: FloatTensor
    ) -> FloatTensor:
        scorer: Any = self.scorer
        prefix = torch.broadcast_shapes(h.shape[:-1], r.shape[:-1], t.shape[:-1])
        for combine, kept, candidates in (("sp_", h, t), ("_po", t, h)):
            if _are_shared(kept, r, candidates):
                h, r, t = h.flatten(1, 2), r.flatten(1, 2), t.flatten(1, 2)
                # one call for each chunk of positives, which share their candidates
                chunks = [scorer.score_emb(*parts, combine=combine) for parts in zip(h, r, t, strict=True)]
                return torch.stack(chunks).view(prefix)
        s, p, o = (x.expand(*prefix, x.shape[-1]).reshape(-1, x.shape[-1]) for x in (h, r, t))
        scores: FloatTensor = scorer.score_emb(s, p, o, combine="spo")
        return scores.view(prefix)


def _are_shared(kept: FloatTensor, relations: FloatTensor, candidates: FloatTensor) -> bool:
    """Return whether chunks of positives, shape: ``(g, c, 1, d)``, meet candidates, shape: ``(g, 1, n, d)``."""
    if any(x.ndim != 4 for x in (kept, relations, candidates)):  # noqa: PLR2004
        return False
    (groups, size, one, _), (*place, _) = kept.shape, relations.shape
    is_grid = one == 1 and place == [groups, size, 1] and candidates.shape[:2] == (groups, 1)
    return is_grid and size > 1 and candidates.shape[2] > 1


@parse_docdata
class KgeView(ERModel[Any, Any, Any]):
    """A model of LibKGE, seen as one of PyKEEN.

    ---
    name: LibKGE
    citation:
        author: Broscheit
        year: 2020
        link: https://aclanthology.org/2020.emnlp-demos.22/
        github: uma-pi1/kge
    """

    def _reset_parameters_(self) -> None:
        """Leave the parameters alone, which are LibKGE's; PyKEEN would initialise them anew."""


def make_view(model: nn.Module, num_entities: int, num_relations: int) -> KgeView:
    """See a model of LibKGE as one of PyKEEN.

    :param model: the model
    :param num_entities: the number of entities
    :param num_relations: the number of relations which it embeds: twice those of the data set for reciprocal relations

    :returns: the view, whose parameters are those of the model

    :raises ConfigurationError: if heads and tails have different embedders
    """
    kge: Any = model
    subjects, relations, objects = kge.get_s_embedder(), kge.get_p_embedder(), kge.get_o_embedder()
    if subjects is not objects:
        raise ConfigurationError(
            f"model {type(model).__name__} has different embedders for subjects and objects, which is not supported; "
            f"choose a model with one entity embedder."
        )
    interaction, entity, relation = _interaction(kge.get_scorer())
    view = KgeView(
        triples_factory=KGInfo(num_entities, num_relations, create_inverse_triples=False),
        interaction=interaction,
        entity_representations=EmbedderRepresentation(subjects, num_entities, entity),
        relation_representations=EmbedderRepresentation(relations, num_relations, relation),
        skip_checks=True,
        random_seed=NoRandomSeedNecessary,
    )
    view.train(model.training)
    return view


def _interaction(scorer: nn.Module) -> tuple[Interaction[Any, Any, Any], Encode | None, Encode | None]:
    """Choose the interaction, and how embeddings of entities and of relations are to be read for it.

    A class derived from a scorer is asked itself: it may compute something else.
    """
    kge: Any = scorer
    match f"{type(scorer).__module__}.{type(scorer).__qualname__}":
        case "kge.model.distmult.DistMultScorer":
            return DistMultInteraction(), None, None
        case "kge.model.complex.ComplExScorer":
            return ComplExInteraction(), halves_as_complex, halves_as_complex
        case "kge.model.transe.TransEScorer" if kge.get_option("l_norm") in {1, 2}:
            return TransEInteraction(p=int(kge.get_option("l_norm"))), None, None
        case "kge.model.rotate.RotatEScorer" if kge.get_option("l_norm") == 2:  # noqa: PLR2004
            return RotatEInteraction(p=2), halves_as_complex, phases_as_complex
    return ScorerInteraction(scorer), None, None
