"""Negatives of the same type: another value of the same attribute, another rating of the same film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from class_resolver import HintOrType
from docdata import parse_docdata
from pykeen.sampling.filtering import Filterer
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, FloatTensor, LongTensor, MappedTriples
from torch import nn

from ..errors import ConfigurationError
from ..negatives import Negatives
from .base import AdversarialNegativeSampler
from .checks import check_share
from .sides import Side, draw_columns, head_probability

__all__ = ["AttributeTypedNegativeSampler"]


class _Members(nn.Module):
    """The distinct entities which stand in a slot, for each relation."""

    starts: LongTensor
    keys: LongTensor

    def __init__(self, relations: LongTensor, entities: LongTensor, num_relations: int, num_entities: int) -> None:
        super().__init__()
        self.num_entities = num_entities
        keys = (relations * num_entities + entities).unique()
        counts = torch.bincount(keys.div(num_entities, rounding_mode="floor"), minlength=num_relations)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("starts", torch.cat([counts.new_zeros(1), counts.cumsum(0)]), persistent=False)

    def draw(self, relations: LongTensor, own: LongTensor, k: int) -> LongTensor:
        """Draw others, uniformly; of all entities where a relation has no other one.

        :param relations: shape: ``(b,)``
        :param own: what is not drawn, shape: ``(b,)``
        :param k: how many for each

        :returns: shape: ``(b, k)``
        """
        start, stop = self.starts[relations], self.starts[relations + 1]
        key = relations * self.num_entities + own
        place = torch.searchsorted(self.keys, key)
        is_member = (place < stop) & (self.keys[place.clamp(max=len(self.keys) - 1)] == key)
        count = stop - start - is_member.long()
        has_others = count > 0
        room = torch.where(has_others, count, self.num_entities - 1).unsqueeze(-1)
        draws = (torch.rand(len(own), k, device=own.device, dtype=torch.double) * room).long().clamp_(max=room - 1)
        # the own one is stepped over
        before = torch.where(has_others, torch.where(is_member, place - start, stop - start), own).unsqueeze(-1)
        draws += draws >= before
        members = self.keys[(start.unsqueeze(-1) + draws).clamp(max=len(self.keys) - 1)] % self.num_entities
        return torch.where(has_others.unsqueeze(-1), members, draws)


@parse_docdata
class AttributeTypedNegativeSampler(AdversarialNegativeSampler):
    r"""Negatives of the same type, as MKBE's authors train on MovieLens.

    **Entities.** The corrupted side is replaced by another one of the distinct entities which some training triple with
    this relation has there, uniformly: a user's age by another age, an occupation by another occupation, a film by
    another film. (PyKEEN's ``pseudotyped`` draws from heads and tails in proportion to how often they occur, and may
    draw the true one.) A relation with one such entity only gets any entity.

    **Relations.** A positive whose relation is in one of ``relation_groups`` has ``relation_share`` of its negatives
    (rounded up) with the relation replaced by another one of its group: the same user and film with the four other
    ratings. They come in turn from a random one on, so that with as many negatives as there are others, each is there
    once. Groups name relations by their ids in the graph; where the training triples have PyKEEN's inverse triples,
    relations and inverses are replaced each by their like.

    **Paper and code.** The paper trains on all objects, without a sampler. The code draws for a rating the four others
    (which it misaligns with their users, cf. the page of MKBE) and films; for a number, a normal random number: here,
    it is one which some entity has. It corrupts tails only: the default.
    ---
    name: Typed negatives (MKBE)
    citation:
        author: Pezeshkpour
        year: 2018
        link: https://aclanthology.org/D18-1359/
        arxiv: 1809.01341
        github: pouyapez/mkbe
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = dict(
        num_negs_per_pos=dict(type=int, low=1, high=128, log=True),
        relation_share=dict(type=float, low=0.0, high=1.0),
    )

    corrupt_head_probability: FloatTensor
    group_of: LongTensor
    place_in_group: LongTensor
    group_sizes: LongTensor
    group_members: LongTensor

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        relation_groups: Sequence[Sequence[int]] = (),
        relation_share: float = 0.5,
        side: Side = "tail",
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Initialize the sampler.

        :param mapped_triples: shape: ``(n, 3)``, the training triples
        :param relation_groups: groups of relations which exclude each other, by ids, e.g., ``[[0, 1, 2, 3, 4]]``
        :param relation_share: the share of the negatives of their triples with another relation of the group
        :param side: which side is corrupted: ``tail``, ``head``, ``uniform``, ``bernoulli``
        :param num_entities: the number of entities; inferred from the triples if None
        :param num_relations: the number of relations; inferred from the triples if None
        :param num_negs_per_pos: the number of negatives of each positive; 1 if None
        :param filtered: whether known training triples are left out
        :param filterer: how known triples are found
        :param filterer_kwargs: keyword-based parameters of the filterer

        :raises ConfigurationError: if a value is impossible
        """
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        check_share("relation_share", relation_share)
        groups = [list(group) for group in relation_groups]
        inverted = bool(groups) and _has_inverses(mapped_triples)
        self._check_groups(groups, self.num_relations // (2 if inverted else 1))
        if inverted:
            groups = [[2 * relation + i for relation in group] for group in groups for i in (0, 1)]
        self.num_relation_negatives = -int(-relation_share * self.num_negs_per_pos // 1) if groups else 0
        self.register_buffer(
            "corrupt_head_probability", head_probability(side, mapped_triples, self.num_relations), persistent=False
        )
        relations = mapped_triples[:, COLUMN_RELATION]
        self.heads, self.tails = (
            _Members(relations, mapped_triples[:, column], self.num_relations, self.num_entities)
            for column in (COLUMN_HEAD, COLUMN_TAIL)
        )
        group_of = torch.full((self.num_relations,), -1)
        place = torch.zeros(self.num_relations, dtype=torch.long)
        members = torch.zeros(len(groups), max(map(len, groups), default=0), dtype=torch.long)
        for i, group in enumerate(groups):
            group_of[group], place[group], members[i, : len(group)] = i, torch.arange(len(group)), torch.tensor(group)
        sizes = torch.tensor([len(group) for group in groups], dtype=torch.long)
        for name, value in (
            ("group_of", group_of),
            ("place_in_group", place),
            ("group_sizes", sizes),
            ("group_members", members),
        ):
            self.register_buffer(name, value, persistent=False)

    @staticmethod
    def _check_groups(groups: Sequence[Sequence[int]], num_relations: int) -> None:
        members = [relation for group in groups for relation in group]
        if any(not 0 <= relation < num_relations for relation in members):
            raise ConfigurationError(
                f"relation_groups={list(groups)!r} must hold ids of relations, 0 to {num_relations - 1}."
            )
        if len(set(members)) < len(members) or any(len(group) <= 1 for group in groups):
            raise ConfigurationError(
                f"relation_groups={list(groups)!r}: a group has at least two relations, each in one group; correct it."
            )

    def propose(self, positives: LongTensor) -> Negatives:
        """Draw negatives of the same type."""
        h, r, t = positives.unbind(dim=-1)
        k = self.num_negs_per_pos
        column = draw_columns(self.corrupt_head_probability, r)
        is_head = column == COLUMN_HEAD
        ids = self.tails.draw(r, t, k)
        if bool(is_head.any()):
            ids = torch.where(is_head, self.heads.draw(r, h, k), ids)
        if self.num_relation_negatives:
            ids, column = self._with_relations(r, ids, column)
        return Negatives(positives, ids, column)

    def _with_relations(self, r: LongTensor, ids: LongTensor, column: LongTensor) -> tuple[LongTensor, LongTensor]:
        """Replace the relation in the first negatives of each positive of a group."""
        m = self.num_relation_negatives
        group = self.group_of[r]
        grouped = (group >= 0).unsqueeze(-1)
        group = group.clamp(min=0)
        size = self.group_sizes[group].unsqueeze(-1)
        first = (torch.rand(len(r), 1, device=r.device) * (size - 1)).long()
        step = 1 + (first + torch.arange(m, device=r.device)) % (size - 1)
        other = self.group_members[group].gather(1, (self.place_in_group[r].unsqueeze(-1) + step) % size)
        column = column.expand(-1, ids.shape[1]).clone()
        column[:, :m] = torch.where(grouped, COLUMN_RELATION, column[:, :m])
        ids = ids.clone()
        ids[:, :m] = torch.where(grouped, other, ids[:, :m])
        return ids, column


def _has_inverses(mapped_triples: MappedTriples) -> bool:
    """Tell whether triples have PyKEEN's inverse ones: those of an odd relation are those of the one before, turned."""
    relations = mapped_triples[:, COLUMN_RELATION]
    is_odd = relations % 2 == 1
    turned = mapped_triples[is_odd].flip(-1)
    turned[:, COLUMN_RELATION] -= 1
    originals = mapped_triples[~is_odd & torch.isin(relations, turned[:, COLUMN_RELATION])]
    return 0 < len(turned) == len(originals) and torch.equal(turned.unique(dim=0), originals.unique(dim=0))
