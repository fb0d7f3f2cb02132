"""From the positives of a batch to generated negatives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pykeen.typing import BoolTensor, FloatTensor

from ...scoring import Scorer
from .conditions import choose_condition, relation_condition
from .networks import Generator, Networks, Sizes
from .proposals import HEAD_SIDE, TAIL_SIDE
from .settings import Settings
from .views import ModelView

__all__ = ["MANY", "Generation"]

#: batch normalisation needs more than one positive
MANY = 2


class Generation:
    """What is generated for a model: from which conditions, and as which representations."""

    def __init__(self, scorer: Scorer, settings: Settings) -> None:
        """Look at a model.

        :param scorer: gives the scores of the model
        :param settings: how many entities are generated, and from what

        :raises ConfigurationError: if these do not fit the model
        """
        self.settings = settings
        self.view = ModelView(scorer)
        entity, relation = self.view.entity, self.view.relation
        family = choose_condition(scorer.model.interaction, entity, relation, settings.condition)
        self._of_tails, self._of_heads = relation_condition(family, settings.inverse)
        both = entity.dim + relation.dim if family == "concatenation" else entity.dim
        dims = {"entity": entity.dim, "relation": both}
        dtype = str(self.view.dtype).removeprefix("torch.")
        self.sizes = Sizes(entity.dim, {name: dims[name] for name in settings.numbers}, dtype)

    def conditions(self, heads: FloatTensor, relations: FloatTensor, tails: FloatTensor) -> dict[str, FloatTensor]:
        """Compute what the generators start from.

        :param heads: shape: ``(b, dim)``
        :param relations: shape: ``(b, relation_dim)``
        :param tails: shape: ``(b, dim)``

        :returns: for each generator by name, for tails and for heads, shape: ``(b, 2, condition_dim)``
        """
        conditions = {}
        if "entity" in self.settings.numbers:
            conditions["entity"] = torch.stack([heads, tails], dim=1)
        if "relation" in self.settings.numbers:
            pair = self._of_tails(heads, relations), self._of_heads(tails, relations)
            conditions["relation"] = torch.stack(pair, dim=1)
        return conditions

    def __call__(self, networks: Networks, conditions: Mapping[str, FloatTensor], is_head: BoolTensor) -> FloatTensor:
        """Generate entities; the networks do not remember anything of it.

        :param networks: the networks
        :param conditions: as :meth:`conditions` gives them
        :param is_head: whether a head is generated, shape: ``(b, n)``

        :returns: shape: ``(b, n, dim)``
        """
        b, n = is_head.shape
        if not n or not b:
            return next(iter(conditions.values())).new_zeros(b, n, self.sizes.dim)
        numbers = self.settings.numbers
        first = 2 * torch.arange(b, device=is_head.device).unsqueeze(-1)
        sides = (first + torch.where(is_head, HEAD_SIDE, TAIL_SIDE)).split(list(numbers.values()), dim=1)
        results = []
        for name, rows in zip(numbers, sides, strict=True):
            generator = networks.generators[name]
            assert isinstance(generator, Generator)
            # copies of a condition have the same modulation: it is computed once for each side
            condition, index = conditions[name].flatten(end_dim=1), rows.flatten()
            modulation = generator.modulation(condition)
            x = condition.index_select(0, index)
            x = torch.add(x, torch.randn_like(x), alpha=self.settings.noise)
            modulation = None if modulation is None else modulation.rows(index)
            fakes = generator(x, modulation, "batch" if b >= MANY else "remembered")
            results.append(fakes.unflatten(0, rows.shape))
        return torch.cat(results, dim=1)
