"""Missing values of an attribute, filled in from the embeddings of a trained model."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import pandas as pd
import torch
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL, FloatTensor, LongTensor

from ..errors import ConfigurationError
from .attributes import Attribute
from .decoders import (
    CategoricalDecoder,
    EntityDecoder,
    ImageDecoder,
    MultiHotDecoder,
    NumericDecoder,
    TextDecoder,
    check_origin,
    describe_origin,
    make_decoder,
)
from .factory import MultimodalTriplesFactory
from .mkbe import MKBE

__all__ = [
    "candidates",
    "choose_entities",
    "entity_embeddings",
    "fit_decoder",
    "predict",
]

logger = logging.getLogger(__name__)

#: in a slot of a relation which so many of its entities have the attribute in, the others lack it
_TYPICAL = 0.5


@torch.no_grad()
def entity_embeddings(model: MKBE, ids: LongTensor) -> FloatTensor:
    """Look up the embeddings of entities, as real numbers.

    :param model: the model
    :param ids: shape: ``(n,)``

    :returns: shape: ``(n, d)``, on the CPU; all representations side by side, a complex number as two
    """
    model.eval()
    ids = ids.to(model.device)
    found = []
    for representation in model.entity_representations:
        if representation.shape:
            x = representation(ids)
            found.append((torch.view_as_real(x) if x.is_complex() else x).flatten(1).cpu())
    return torch.cat(found, dim=-1).clone()


def fit_decoder(
    model: MKBE,
    training: MultimodalTriplesFactory,
    attribute: str,
    decoder: EntityDecoder | None = None,
    *,
    calibration: MultimodalTriplesFactory | None = None,
    seed: int = 0,
    use_tqdm: bool = True,
    **kwargs: Any,
) -> EntityDecoder:
    """Train a decoder of an attribute on the entities which have it.

    :param model: the model, which does not change
    :param training: the training triples
    :param attribute: the name of the attribute
    :param decoder: the decoder; None: the default one for its values
    :param calibration: triples with numbers which the model was not trained with, e.g., those of validation: intervals
        are as wide as errors on them are, see :class:`NumericDecoder`. Only those of entities without a number in
        training count; of no concern where there are none, and to other values
    :param seed: the seed of all that is random
    :param use_tqdm: whether progress is shown
    :param kwargs: further keyword-based parameters of the decoder's ``fit``

    :returns: the trained decoder

    :raises ConfigurationError: if there is no such attribute, or too few values
    """
    triples = training.of_attribute(attribute)
    described = training.attributes[attribute]
    embeddings = entity_embeddings(model, triples[:, COLUMN_HEAD])
    if decoder is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = make_decoder(described, embeddings.shape[1])
    decoder.fit(embeddings, _targets(described, triples), seed=seed, use_tqdm=use_tqdm, **kwargs)
    decoder.origin = describe_origin(model, described)
    if calibration is not None and isinstance(decoder, NumericDecoder):
        held_out = calibration.of_attribute(attribute)
        held_out = held_out[~torch.isin(held_out[:, COLUMN_HEAD], triples[:, COLUMN_HEAD])]
        if len(held_out):
            new = entity_embeddings(model, held_out[:, COLUMN_HEAD])
            decoder.calibrate_held_out(new, _targets(described, held_out))
    return decoder


def _targets(attribute: Attribute, triples: LongTensor) -> Any:
    """Give the values of triples as a decoder takes them."""
    positions = triples[:, COLUMN_TAIL] - attribute.start
    if attribute.kind == "categorical":
        return positions
    if attribute.kind == "text":
        return [attribute.labels[i] for i in positions.tolist()]
    assert attribute.values is not None
    return attribute.values[positions]


def candidates(training: MultimodalTriplesFactory, attribute: str) -> LongTensor:
    """Find the entities which lack a value that entities like them have.

    A slot of a relation (its heads, its tails) is typical of the attribute if at least half of the distinct entities
    which stand there have a value; an entity in a typical slot which has none lacks it.

    :param training: the training triples
    :param attribute: the name of the attribute

    :returns: their ids, shape: ``(n,)``

    :raises ConfigurationError: if there is no such attribute
    """
    owns = torch.zeros(training.num_entities, dtype=torch.bool)
    owns[training.of_attribute(attribute)[:, COLUMN_HEAD]] = True
    lacks = torch.zeros_like(owns)
    links = training.of_links()
    for column in (COLUMN_HEAD, COLUMN_TAIL):
        pairs = links[:, [1, column]].unique(dim=0)
        relation, entity = pairs.unbind(dim=-1)
        count = torch.bincount(relation, minlength=training.num_relations)
        with_value = torch.bincount(relation[owns[entity]], minlength=training.num_relations)
        is_typical = (with_value >= _TYPICAL * count)[relation]
        lacks[entity[is_typical]] = True
    return (lacks & ~owns).nonzero().squeeze(-1)


def predict(
    decoder: EntityDecoder,
    model: MKBE,
    training: MultimodalTriplesFactory,
    attribute: str,
    ids: LongTensor,
    *,
    alpha: float = 0.1,
    seed: int = 0,
) -> tuple[pd.DataFrame, torch.Tensor | None]:
    """Fill values in.

    :param decoder: a trained decoder
    :param model: the model
    :param training: the training triples
    :param attribute: the name of the attribute
    :param ids: the entities, shape: ``(n,)``
    :param alpha: how often the interval of a number may miss it
    :param seed: the seed of what is drawn

    :returns: a row for each entity: ``entity``, and ``prediction``, ``low``, ``high`` for numbers, ``prediction`` and
        ``probability`` for categories, ``prediction`` and ``probabilities`` for labels, ``prediction`` for texts,
        ``picture`` (its row) for pictures; and the pictures, if any

    :raises ConfigurationError: if the decoder makes other values, or was trained for another attribute or model
    """
    described = training.attributes[attribute]
    frame = pd.DataFrame({"entity": [training.entity_id_to_label[i] for i in ids.tolist()]})
    if not len(ids):
        return frame, None
    embeddings = entity_embeddings(model, ids)
    check_origin(decoder, model, described, embeddings.shape[1])
    if isinstance(decoder, NumericDecoder) and described.kind == "numeric":
        made = decoder.predict(embeddings, alpha)
        if not bool(made.high.isfinite().all()):
            logger.warning(
                "The intervals of %r are infinite: %d rows calibrate them, which are too few for alpha=%s.",
                attribute,
                len(decoder.residuals),
                alpha,
            )
        columns = {"prediction": made.value, "low": made.low, "high": made.high}
        return frame.assign(**{name: x.numpy() for name, x in columns.items()}), None
    if isinstance(decoder, CategoricalDecoder) and described.kind == "categorical":
        probability, place = decoder.predict(embeddings).max(dim=-1)
        labels = [described.labels[i] for i in place.tolist()]
        return frame.assign(prediction=labels, probability=probability.numpy()), None
    if isinstance(decoder, MultiHotDecoder) and described.kind == "multi_hot":
        return frame.assign(**_labels(described, decoder.predict(embeddings))), None
    if isinstance(decoder, TextDecoder) and described.kind == "text":
        return frame.assign(prediction=decoder.sample(embeddings, seed=seed)), None
    if isinstance(decoder, ImageDecoder) and described.kind == "images":
        return frame.assign(picture=range(len(ids))), decoder.sample(embeddings, seed=seed)
    raise ConfigurationError(
        f"decoder {decoder.name!r} makes no values of {attribute!r}, which is {described.kind}; train one for it."
    )


def _labels(attribute: Attribute, probabilities: FloatTensor) -> dict[str, list[str]]:
    """Name the labels which are likelier than not, or the likeliest one."""
    chosen = (probabilities > 0.5) | (probabilities == probabilities.amax(dim=-1, keepdim=True))  # noqa: PLR2004
    names = [[i for i, on in enumerate(row) if on] for row in chosen.tolist()]
    shown = probabilities.tolist()
    return {
        "prediction": [" | ".join(attribute.labels[i] for i in row) for row in names],
        "probabilities": [" | ".join(f"{p[i]:.3f}" for i in row) for row, p in zip(names, shown, strict=True)],
    }


def choose_entities(training: MultimodalTriplesFactory, attribute: str, labels: Collection[str] | None) -> LongTensor:
    """Choose whose values are filled in.

    :param training: the training triples
    :param attribute: the name of the attribute
    :param labels: the entities; None: those of :func:`candidates`

    :returns: their ids

    :raises ConfigurationError: if an entity is not known
    """
    if labels is None:
        return candidates(training, attribute)
    ids = [training.entity_to_id.get(label, -1) for label in labels]
    for label, i in zip(labels, ids, strict=True):
        if not 0 <= i < training.num_link_entities:
            raise ConfigurationError(f"{label!r} is no entity of the graph; correct it.")
    return torch.as_tensor(ids, dtype=torch.long)
