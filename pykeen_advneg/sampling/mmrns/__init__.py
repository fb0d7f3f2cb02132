"""MMRNS: negatives by cross-modal similarity (Xu et al., 2022).

The sampler is in :mod:`.sampler`; what it consists of, each in a module of its own: features of a graph
(:mod:`.feature_store`), attention between modalities (:mod:`.attention`, :mod:`.gated`), likeness of candidates
(:mod:`.likeness`), the distribution (:mod:`.exploration`), draws (:mod:`.gumbel`), and the contrastive loss
(:mod:`.contrast`).
"""

from .sampler import MMRNSNegativeSampler

__all__ = ["MMRNSNegativeSampler"]
