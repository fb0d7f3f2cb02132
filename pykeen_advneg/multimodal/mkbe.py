"""MKBE: attribute values are objects of triples like entities, scored by the same interaction."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from class_resolver import HintOrType, OptionalKwargs
from docdata import parse_docdata
from pykeen.constants import DEFAULT_EMBEDDING_HPO_EMBEDDING_DIM_RANGE
from pykeen.losses import BCEWithLogitsLoss, Loss
from pykeen.models import ERModel
from pykeen.nn.init import init_phases
from pykeen.nn.modules import Interaction, RotatEInteraction, interaction_resolver
from pykeen.nn.representation import Embedding, Representation
from pykeen.triples import KGInfo
from pykeen.utils import complex_normalize

from ..errors import ConfigurationError
from .encoders import ValueEncoder
from .factory import MultimodalTriplesFactory
from .representation import MultimodalRepresentation

__all__ = ["MKBE"]

#: how relations are embedded, where an interaction is not itself without it: those of RotatE are rotations
_RELATION_DEFAULTS: Mapping[type[Interaction[Any, Any, Any]], Mapping[str, Any]] = {
    RotatEInteraction: dict(initializer=init_phases, constrainer=complex_normalize),
}


@parse_docdata
class MKBE(ERModel[Any, Any, Any]):
    r"""Multimodal knowledge base embeddings of Pezeshkpour, Chen & Singh (2018).

    The score of a triple is $\psi(e_s, r, e_o)$ with any interaction $\psi$. Subject and relation are looked up, and so
    is an object which is an entity or a category. An object which is a number, a set of labels, a text or a picture is
    *encoded*, by one network for each attribute, cf. :mod:`pykeen_advneg.multimodal.encoders`. A value is thereby an
    object like any other: it can be ranked, and it trains the entities which have it. (PyKEEN's models with literals
    mix numbers into the entity instead, where they are no objects.)

    **Paper and code.** The paper trains by binary cross-entropy over all objects, which is ``training_loop="lcwa"``
    with this model's default loss; on MovieLens, the authors' code trains by a margin of 1.5, summed, on negatives of
    the same type: ``loss="marginranking", loss_kwargs=dict(margin=1.5, reduction="sum")`` and
    ``negative_sampler="attributetyped"``. What that code gets wrong is left out, cf. the page of this model.

    Training needs a :class:`~pykeen_advneg.multimodal.factory.MultimodalTriplesFactory`, and any of PyKEEN's loops or
    ``adversarial``. ``evaluator="entityranking"`` leaves the values out of link prediction.
    ---
    name: MKBE
    citation:
        author: Pezeshkpour
        year: 2018
        link: https://aclanthology.org/D18-1359/
        arxiv: 1809.01341
        github: pouyapez/mkbe
    """

    hpo_default: ClassVar[Mapping[str, Any]] = dict(embedding_dim=DEFAULT_EMBEDDING_HPO_EMBEDDING_DIM_RANGE)
    loss_default: ClassVar[type[Loss]] = BCEWithLogitsLoss
    loss_default_kwargs: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        *,
        triples_factory: KGInfo,
        embedding_dim: int = 128,
        interaction: HintOrType[Interaction[Any, Any, Any]] = "distmult",
        interaction_kwargs: OptionalKwargs = None,
        encoders: Mapping[str, HintOrType[ValueEncoder]] | None = None,
        encoders_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        entity_kwargs: Mapping[str, Any] | None = None,
        relation_kwargs: Mapping[str, Any] | None = None,
        dims: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize the model.

        :param triples_factory: the training triples, with attributes
        :param embedding_dim: the width of all vectors
        :param interaction: the interaction
        :param interaction_kwargs: its keyword-based parameters
        :param encoders: the encoder of an attribute, by its name; what is not given is chosen by the values
        :param encoders_kwargs: the keyword-based parameters of encoders, by the names of the attributes
        :param entity_kwargs: keyword-based parameters of the embedding of entities
        :param relation_kwargs: keyword-based parameters of the embeddings of relations, over the defaults; relations of
            RotatE are rotations by default, as in PyKEEN's model
        :param dims: the sizes which an interaction has beside ``d``, by their letters; ``embedding_dim`` if not given
        :param kwargs: keyword-based parameters of :class:`pykeen.models.ERModel`

        :raises ConfigurationError: if the triples have no attributes, or if an encoder cannot work
        """
        if not isinstance(triples_factory, MultimodalTriplesFactory):
            raise ConfigurationError(
                f"model 'mkbe' needs a MultimodalTriplesFactory, got a {type(triples_factory).__name__}; make one by "
                f"MultimodalTriplesFactory.from_tables, or take a data set with attributes, e.g., 'fb15k237numeric'."
            )
        psi = make_interaction(interaction, interaction_kwargs, embedding_dim)
        dtype = torch.cfloat if psi.is_complex else None
        sizes = {"d": embedding_dim, **(dims or {})}
        attributes = list(triples_factory.attributes.values())

        def entity(symbols: str) -> Representation:
            shape = tuple(sizes.get(symbol, embedding_dim) for symbol in symbols)
            if not shape:
                return Embedding(max_id=triples_factory.num_entities, shape=(), initializer="zeros")
            if len(shape) > 1:
                raise ConfigurationError(
                    f"interaction={interaction!r} has entities of shape {symbols!r}, but values are vectors; choose "
                    f"one with vectors, e.g., 'distmult', 'complex', 'transe' or 'conve'."
                )
            return MultimodalRepresentation(
                max_id=triples_factory.num_entities,
                shape=shape[0],
                attributes=attributes,
                encoders=encoders,
                encoders_kwargs=encoders_kwargs,
                dtype=dtype,
                entity_kwargs=entity_kwargs,
            )

        def relation(symbols: str) -> Representation:
            shape = tuple(sizes.get(symbol, embedding_dim) for symbol in symbols)
            default = {"initializer": "xavier_uniform" if shape else "zeros", **_RELATION_DEFAULTS.get(type(psi), {})}
            options = {**default, **(relation_kwargs or {})}
            return Embedding(max_id=triples_factory.num_relations, shape=shape, dtype=dtype, **options)

        super().__init__(
            triples_factory=triples_factory,
            interaction=psi,
            entity_representations=[entity(symbols) for symbols in psi.entity_shape],
            relation_representations=[relation(symbols) for symbols in psi.relation_shape],
            **kwargs,
        )
        #: what :func:`pykeen_advneg.multimodal.saving.save_run` writes, if JSON can hold it
        self.settings: dict[str, Any] = dict(
            embedding_dim=embedding_dim,
            interaction=interaction,
            interaction_kwargs=interaction_kwargs,
            encoders=encoders,
            encoders_kwargs=encoders_kwargs,
            entity_kwargs=entity_kwargs,
            relation_kwargs=relation_kwargs,
            dims=dims,
        )
        #: how many of the entities are no values
        self.num_link_entities = triples_factory.num_link_entities
        #: the relation and the ids of the values of each attribute
        self.attribute_ids: dict[str, tuple[int, range]] = {
            name: (triples_factory.relation_to_id[name], attribute.ids)
            for name, attribute in triples_factory.attributes.items()
        }


def make_interaction(
    interaction: HintOrType[Interaction[Any, Any, Any]], kwargs: OptionalKwargs, embedding_dim: int
) -> Interaction[Any, Any, Any]:
    """Make an interaction; those with weights of their own are told the width.

    :param interaction: the interaction
    :param kwargs: its keyword-based parameters
    :param embedding_dim: the width

    :returns: the interaction

    :raises ConfigurationError: if its parameters do not fit
    """
    if isinstance(interaction, Interaction):
        return interaction
    cls = interaction_resolver.lookup(interaction)
    options = dict(kwargs or {})
    if "embedding_dim" in inspect.signature(cls.__init__).parameters:
        options.setdefault("embedding_dim", embedding_dim)
    try:
        made: Interaction[Any, Any, Any] = interaction_resolver.make(cls, options)
    except TypeError as error:
        raise ConfigurationError(f"interaction_kwargs={options!r} do not fit {cls.__name__}: {error}.") from error
    return made
