"""Negatives which the positives of a batch share, so that to score them is a product of matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from class_resolver import HintOrType
from docdata import parse_docdata
from pykeen.sampling.filtering import Filterer
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL, BoolTensor, FloatTensor, LongTensor, MappedTriples

from ..errors import ModelRequiredError
from ..negatives import Negatives
from .base import AdversarialNegativeSampler, check_flag, whole_at_least
from .checks import check_share
from .pools import KnownAnswers
from .sides import Side, draw_columns, head_probability

__all__ = ["SharedNegativeSampler"]

#: about as many as the winners of the package's own studies had, and as many as EMU has in its paper
DEFAULT_NEGATIVES = 256

#: the slots whose entities are in the pool of a batch
SIDES = [COLUMN_HEAD, COLUMN_TAIL]


@parse_docdata
class SharedNegativeSampler(AdversarialNegativeSampler):
    r"""Random negatives, drawn once for a chunk of the batch instead of once for each positive.

    Each chunk of consecutive positives draws $k$ entities, with replacement, and each of its positives, with its own
    corrupted side, is compared with all of them. As the chunks are made anew in each epoch, each positive still meets
    independent draws of the same distribution, and the expectation of the loss is that of unshared negatives; its
    variance is higher, as the negatives of a chunk are the same. What is gained is time: $k$ entities are looked up for
    a chunk instead of for a positive, and scores are a product of matrices.

    The pool is uniform, $q_j = 1 / |E|$ as that of PyKEEN's ``basic``; or **in-batch** (``in_batch_share=1``), the
    entity of a random slot (head or tail) of the batch, thus in proportion to its degree in the training triples; or
    mixed, with that share of the $k$ draws in-batch. Frequent entities are harder negatives, and more often true
    answers: consider ``filtered``.

    **Masked**, exactly: the entity which stands in the corrupted slot of the positive itself, always; all known
    answers, if ``filtered``.

    **The correction.** A softmax over the positive and $k$ negatives estimates the softmax over all entities only if
    each score is lessened by the logarithm of how often its entity is expected among the negatives, $\log k q_j$
    (Bengio & Senécal, 2008; as for two-tower retrieval: Yi et al., 2019). Without it, training on in-batch negatives
    lowers the scores of frequent entities, and on any negatives the model learns scores relative to $k$ of them. That
    ranks the same where $q$ is uniform, and often trains better; ``log_q_correction`` is therefore off by default. It
    asks for ``loss="crossentropy"`` or ``"infonce"``.
    ---
    name: Shared negatives
    citation:
        author: Lerer
        year: 2019
        link: https://proceedings.mlsys.org/paper_files/paper/2019/hash/1eb34d662b67a14e3511d0dfd78669be-Abstract.html
        arxiv: 1903.12287
        github: facebookresearch/PyTorch-BigGraph
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = dict(
        num_negs_per_pos=dict(type=int, low=8, high=1024, log=True),
        chunk_size=dict(type=int, low=32, high=512, log=True),
        in_batch_share=dict(type=float, low=0.0, high=1.0),
    )

    corrupt_head_probability: FloatTensor
    log_frequency: FloatTensor

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        chunk_size: int | None = 128,
        in_batch_share: float = 0.0,
        side: Side = "uniform",
        log_q_correction: bool = False,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Initialize the sampler.

        :param mapped_triples: shape: ``(n, 3)``, the training triples
        :param chunk_size: how many positives share their negatives; None: the whole batch
        :param in_batch_share: the share of the negatives which are entities of the batch; 0: all are uniform
        :param side: which side is corrupted: ``uniform``, ``bernoulli``, ``head``, ``tail``
        :param log_q_correction: whether the scores in a softmax are corrected for the distribution of negatives
        :param num_entities: the number of entities; inferred from the triples if None
        :param num_relations: the number of relations; inferred from the triples if None
        :param num_negs_per_pos: the number of negatives of each positive; 256 if None: they are cheap, and the
            winners of the studies in the documentation had 160 to 216 of at most 256
        :param filtered: whether known training triples are left out
        :param filterer: how known triples are found; None: by an exact index for shared negatives
        :param filterer_kwargs: keyword-based parameters of the filterer

        :raises ConfigurationError: if a value is impossible
        """
        check_flag("filtered", filtered)
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=DEFAULT_NEGATIVES if num_negs_per_pos is None else num_negs_per_pos,
            filtered=filtered and filterer is not None,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        if chunk_size is not None:
            whole_at_least("chunk_size", chunk_size, 1)
        check_share("in_batch_share", in_batch_share)
        self.chunk_size = chunk_size
        self.log_q_correction = log_q_correction
        self.num_in_batch = round(in_batch_share * self.num_negs_per_pos)
        self.known = KnownAnswers(mapped_triples, self.num_entities) if filtered and filterer is None else None
        self.register_buffer("corrupt_head_probability", head_probability(side, mapped_triples, self.num_relations))
        self.register_buffer("log_frequency", self._log_frequency(mapped_triples), persistent=False)

    def _log_frequency(self, mapped_triples: MappedTriples) -> FloatTensor:
        """Compute the logarithm of how often each entity is expected in a row of ids, shape: ``(num_entities,)``."""
        degrees = torch.bincount(mapped_triples[:, SIDES].flatten(), minlength=self.num_entities)
        in_batch = self.num_in_batch * degrees.double() / degrees.sum()
        uniform = (self.num_negs_per_pos - self.num_in_batch) / self.num_entities
        expected = in_batch + uniform
        # an entity without training triples is met in validation only, where its logarithm has to be finite
        return expected.clamp(min=expected[expected > 0].min()).log().float()

    def propose(self, positives: LongTensor) -> Negatives:
        """Draw negatives for each chunk.

        :param positives: shape: ``(b, 3)``

        :returns: ``num_negs_per_pos`` negatives of each positive, in which its own entity is masked
        """
        chunk_size = max(1, min(self.chunk_size or len(positives), len(positives)))
        ids = self._draw_ids(positives, -(-len(positives) // chunk_size))
        column = draw_columns(self.corrupt_head_probability, positives[:, 1])
        log_q = self.log_frequency[ids] if self.log_q_correction else None
        negatives = Negatives(positives, ids, column, chunk_size=chunk_size, log_q=log_q)
        return replace(negatives, mask=_differ(negatives))

    def _draw_ids(self, positives: LongTensor, rows: int) -> LongTensor:
        """Draw the ids of each chunk, shape: ``(rows, num_negs_per_pos)``; those from the batch are the first."""
        device, num_uniform = positives.device, self.num_negs_per_pos - self.num_in_batch
        ids = torch.randint(self.num_entities, (rows, num_uniform), device=device)
        if not self.num_in_batch:
            return ids
        entities = positives[:, SIDES].flatten()
        places = torch.randint(max(1, len(entities)), (rows, self.num_in_batch), device=device)
        return torch.cat([entities[places], ids], dim=1)

    # docstr-coverage: inherited
    def draw(self, positives: LongTensor) -> Negatives:
        """Draw negatives, and mask the known triples among them if ``filtered``.

        :param positives: shape: ``(b, 3)``

        :returns: the negatives
        """
        negatives = self.propose(positives)
        assert negatives.mask is not None
        if self.known is not None:
            return replace(negatives, mask=negatives.mask & self.known(negatives))
        if self.filterer is not None:
            return replace(negatives, mask=negatives.mask & self.filterer(negatives.triples))
        return negatives

    # docstr-coverage: inherited
    def sample(self, positive_batch: LongTensor) -> tuple[LongTensor, BoolTensor | None]:
        """Draw negatives for a loop of PyKEEN, which gets the mask, too.

        :param positive_batch: shape: ``(*batch, 3)``

        :returns: the negatives, shape: ``(*batch, k, 3)``, and which of them count, shape: ``(*batch, k)``

        :raises ModelRequiredError: if scores would have to be corrected
        """
        if self.log_q_correction:
            raise ModelRequiredError(
                "log_q_correction=True changes scores, which this training loop does not hand to its sampler: use "
                "training_loop='adversarial'."
            )
        negatives = self.draw(positive_batch.reshape(-1, 3))
        shape = (*positive_batch.shape[:-1], negatives.shape[1])
        mask = negatives.mask
        return negatives.triples.view(*shape, 3), None if mask is None else mask.view(shape)


def _differ(negatives: Negatives) -> BoolTensor:
    """Return where an id is not that which its positive has in the corrupted slot, shape: ``(b, k)``."""
    if len(negatives) % negatives.chunk_size:
        return negatives.dense_ids != negatives.kept_ids
    kept = negatives.kept_ids.view(-1, negatives.chunk_size, 1)
    return (negatives.ids.unsqueeze(1) != kept).view(negatives.shape)
