"""Studies of hyper-parameters which really tune the sampler."""

from .pipeline import hpo_pipeline
from .result import StudyResult

__all__ = ["StudyResult", "hpo_pipeline"]
