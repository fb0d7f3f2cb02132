"""Write ``docs/results/dans.md`` from the result files of ``benchmarks/dans_claim.py``.

It works on what is finished so far, and says what is missing. A file ``docs/results/dans_reading.md`` is included if it
is there: our reading of the numbers, written by hand.

usage: python benchmarks/dans_report.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from scipy.stats import ttest_rel

import result_lines

DATASETS = {"umls": "UMLS", "wn18rr": "WN18RR", "fb15k237": "FB15k-237", "nell-995-dans": "NELL-995 (cut of DANS)"}

MODELS = {"distmult": "DistMult", "complex": "ComplEx", "rotate": "RotatE"}

ENCODERS = {"rgcn": "R-GCN + ", "none": ""}

ARMS = {
    "pretrained": "pre-trained",
    "random": "+ random",
    "selfadv": "+ random, self-adversarial loss",
    "balanced": "+ random, positives with half of the weight",
    "dans": "+ DANS",
    "entity": "+ DANS, only from entities",
    "relation": "+ DANS, only from entities and relations",
    "nofilm": "+ DANS without FiLM",
    "noaux": "+ DANS without auxiliary head",
    "attached": "+ DANS, gradient through the generators",
    "residual": "+ DANS, FiLM from doing nothing",
    "steps1": "+ DANS, 1 step of the discriminator",
    "steps2": "+ DANS, 2 steps of the discriminator",
    "steps5": "+ DANS, 5 steps of the discriminator",
    "ns5": "+ DANS, 5 negatives",
    "ns10": "+ DANS, 10 negatives",
    "ns30": "+ DANS, 30 negatives",
    "lambda1e-6": "+ DANS, λ = 1e-6",
    "lambda1e-5": "+ DANS, λ = 1e-5",
    "lambda1e-3": "+ DANS, λ = 1e-3",
}

METRICS = {"mrr": "MRR", "hits_at_1": "H@1", "ndcg_at_5": "NDCG@5"}

#: what the paper reports (random, self-adversarial, DANS), as a public collection of its tables has it; with an R-GCN
PUBLISHED: Mapping[tuple[str, str], Sequence[tuple[str, str]]] = {
    ("umls", "distmult"): [
        ("random", "- / .607 / -"),
        ("self-adversarial", ".717 / .624 / .733"),
        ("DANS", ".724 / .641 / .725"),
    ],
    ("umls", "rotate"): [("random", ".817 / .683 / .855"), ("DANS", ".833 / .716 / .866")],
    ("umls", "complex"): [
        ("random", ".898 / .822 / .920"),
        ("self-adversarial", ".908 / .844 / .925"),
        ("DANS", ".920 / .857 / .927"),
    ],
    ("wn18rr", "distmult"): [
        ("random", ".372 / .343 / .369"),
        ("self-adversarial", ".370 / .332 / .373"),
        ("DANS", ".381 / .352 / .386"),
    ],
}

#: what tells one set-up from another
SETUP = ["dataset", "encoder", "decoder", "dim", "edge_dropout", "pretraining_epochs"]

MINUS = "\N{MINUS SIGN}"

INTRODUCTION = """\
# DANS's claim, measured

Do negatives of DANS improve a pre-trained model more than as many random ones?

From the best epoch of a pre-training on 20 random negatives of each positive, each arm is trained for the same number
of further epochs by a fresh Adam (learning rate 0.01), in batches of 1,000: with 20 random negatives, with the same and
a self-adversarial loss, or with 10 random and 10 generated ones (`dans`, its defaults). Binary cross-entropy, gradients
clipped to norm 1. Validation every few epochs; test results are those of the epoch with the best validation MRR:
filtered by all splits, realistic rank, all entities, both sides. Mean ± standard deviation over seeds; differences are
paired by seed, with the 95 % interval of a paired t test.

What differs between the arms besides the negatives: the self-adversarial loss (PyKEEN's `AdversarialBCEWithLogits`)
also gives positives one half of the weight, where binary cross-entropy with 20 negatives gives them 1/21. The arm
`balanced` has that loss with an inverse temperature of 0, i.e., equal weights of the negatives: what it gains is due to
the weight of positives, and what the self-adversarial loss gains beyond it to the choice of negatives. PyKEEN's `basic`
corrupts one side in all negatives of a positive (heads in the first half of a batch, tails in the second), where each
generated negative has a random side.

What is not as in the paper: PyKEEN's R-GCN sends messages along all training triples (the authors: along a random half
of the batch), negatives are drawn from all entities (theirs: from those of the batch), and the epochs are fewer than
5,000 steps. The regulariser is 0.01 times a mean square in their code; PyKEEN's counts each look-up, so that its
factors are 0.04 for entities (heads, tails, what negatives keep, what they put there) and 0.02 for relations (of
positives and of negatives), in all arms. Without an encoder, PyKEEN's DistMult regularises relations only, and RotatE
nothing. `benchmarks/dans_claim.py` says the rest.

The result files, one JSON line a run, are beside this page in `dans/`. They and the page are made by

```bash
python benchmarks/dans_claim.py --dataset umls --pretraining-epochs 100 --epochs 60 --seeds 5
python benchmarks/dans_claim.py --dataset umls --pretraining-epochs 100 --epochs 60 --seeds 3 \\
    --arms balanced,attached,relation,entity,nofilm,noaux
python benchmarks/dans_report.py
```
"""


def read(folder: Path) -> pd.DataFrame:
    """Read the finished runs of all data sets; a line which is being written is left out."""
    lines: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.jsonl")):
        lines += result_lines.read(file)
    runs = pd.DataFrame(lines, columns=sorted({*SETUP, "arm", "seed", "epochs"}.union(*lines)))
    return runs.drop_duplicates([*SETUP, "arm", "seed", "epochs"], keep="last")


def settings(runs: pd.DataFrame) -> Iterator[tuple[dict[str, Any], int, pd.DataFrame]]:
    """Split runs by their set-up and the number of further epochs (0: none finished)."""
    for values, group in runs.groupby(SETUP, sort=False):
        setup = dict(zip(SETUP, values, strict=True))
        is_start = group["arm"] == "pretrained"
        for further in sorted(set(group.loc[~is_start, "epochs"])) or [0]:
            yield setup, int(further), group[is_start | (group["epochs"] == further)]


def metric(runs: pd.DataFrame, arm: str, name: str) -> pd.Series[float]:
    """Get the values of a test metric by seed."""
    rows = runs[runs["arm"] == arm]
    return pd.Series([test[name] for test in rows["test"]], index=rows["seed"], dtype=float).sort_index()


def spread(values: pd.Series[float]) -> str:
    """Format mean and standard deviation over seeds."""
    deviation = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{deviation}" if len(values) else "-"


def difference(own: pd.Series[float], base: pd.Series[float]) -> str:
    """Format the mean difference over the seeds that both have, with its interval if there are two or more."""
    own, base = own.align(base, join="inner")
    if not len(own):
        return "-"
    text = f"{(own - base).mean():+.3f}"
    if len(own) > 1:
        low, high = ttest_rel(own, base).confidence_interval(0.95)
        text += f" [{low:+.3f}, {high:+.3f}]"
    return text.replace("-", MINUS)


def table(runs: pd.DataFrame) -> str:
    """Write the table of a set-up."""
    names = " | ".join(f"test {title}" for title in METRICS.values())
    lines = [
        f"| arm | seeds | {names} | MRR less random | validation MRR | seconds, median |",
        "|---|---|" + "---|" * len(METRICS) + "---|---|---|",
    ]
    random = metric(runs, "random", "mrr")
    for arm, title in ARMS.items():
        rows = runs[runs["arm"] == arm]
        if not len(rows):
            continue
        values = " | ".join(spread(metric(runs, arm, name)) for name in METRICS)
        less = "" if arm in {"random", "pretrained"} else difference(metric(runs, arm, "mrr"), random)
        validation = spread(rows["validation_mrr"].astype(float))
        lines.append(f"| {title} | {len(rows)} | {values} | {less} | {validation} | {rows['seconds'].median():.0f} |")
    return "\n".join(lines) + "\n"


def section(setup: Mapping[str, Any], further: int, runs: pd.DataFrame) -> str:
    """Write the section of a set-up."""
    dataset, decoder = setup["dataset"], setup["decoder"]
    title = f"{DATASETS.get(dataset, dataset)}, {ENCODERS[setup['encoder']]}{MODELS[decoder]}"
    details = f"{setup['dim']} numbers for each entity; {setup['pretraining_epochs']} epochs of pre-training"
    details += f", {further} further ones" if further else "; no arm is finished"
    details += f"; {setup['edge_dropout']:.0%} of the edges dropped in each batch" if setup["edge_dropout"] else ""
    text = f"## {title}\n\n{details}.\n\n{table(runs)}"
    published = PUBLISHED.get((dataset, decoder), []) if setup["encoder"] == "rgcn" else []
    if published:
        rows = "; ".join(f"{name} {values}" for name, values in published)
        text += f"\nThe paper, MRR / H@1 / NDCG@5, as a public collection of its tables has it: {rows}.\n"
    return text


def main(out: Annotated[Path, typer.Option(help="folder of the page")] = Path("docs/results")) -> None:
    """Write the page."""
    runs = read(out / "dans")
    reading = out / "dans_reading.md"
    parts = [INTRODUCTION]
    if reading.is_file():
        parts.append(reading.read_text(encoding="utf-8"))
    parts += [section(*setting) for setting in settings(runs)]
    if not len(runs):
        parts.append("No run is finished.\n")
    (out / "dans.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
