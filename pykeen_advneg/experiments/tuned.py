"""Winners of studies: what ``advneg hpo`` found for several samplers at the same number of trials.

The JSON files ``tuned_MODEL_SAMPLER_DATASET.json`` beside this module are written from what a study has left: the best
trial by validation, trained for the epochs of the study, and evaluated on test. What it reached with other seeds is in
the comment; the settings of a study, and how to read it, are in ``docs/results/hpo.md``.

usage: python -m pykeen_advneg.experiments.tuned docs/results/hpo/codex-s docs/results/hpo/wn18rr
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["recipes"]

#: a winner with a smaller share of the best one's mean has not learnt, and is no recipe
WORTH = 0.1


def recipes(study: Path) -> dict[str, dict[str, Any]]:
    """Build the recipes of one study, by name.

    :param study: the folder which ``advneg hpo`` has written, with ``report.json`` and ``best/``

    :returns: the recipe of each sampler which has learnt something
    """
    report = json.loads((study / "report.json").read_text(encoding="utf-8"))
    built, best_mean = {}, max(winner["mean"] for winner in report["winners"])
    for winner in report["winners"]:
        if winner["mean"] < WORTH * best_mean:
            continue
        best = json.loads((study / "best" / f"{winner['sampler']}.json").read_text(encoding="utf-8"))
        pipeline = best["pipeline"]
        # of the trial, not of the setting
        del pipeline["random_seed"], pipeline["filter_validation_when_testing"]
        name = f"tuned_{pipeline['model']}_{winner['sampler']}_{pipeline['dataset']}"
        built[name] = dict(metadata=_metadata(winner, best["metadata"], pipeline), pipeline=pipeline)
    return built


def _metadata(winner: Mapping[str, Any], trial: Mapping[str, Any], pipeline: Mapping[str, Any]) -> dict[str, Any]:
    deviation = "" if winner["deviation"] is None else f" \N{PLUS-MINUS SIGN} {winner['deviation']:.4f}"
    return dict(
        title=f"Tuned: {pipeline['model']}, {winner['sampler']}, {pipeline['dataset']}",
        comments=(
            f"The best of a study by validation (MRR {trial['value']:.4f}); test MRR {winner['mean']:.4f}{deviation} "
            f"with {winner['seeds']} other seeds. See docs/results/hpo.md."
        ),
    )


def main(studies: Annotated[list[Path], typer.Argument(help="The folders of the studies.")]) -> None:
    """Write the files."""
    for study in studies:
        for name, recipe in recipes(study).items():
            text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
            Path(__file__).with_name(f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
