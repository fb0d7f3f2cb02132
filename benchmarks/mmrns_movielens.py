"""Prepare MovieLens-100K with posters and plot summaries for ``mmrns_claim.py``: triples and features, in a folder.

MovieLens-100K may not be passed on, so that neither the input nor what this writes belongs into a repository. The input
is the folder ``MovieLens/data`` of https://github.com/amitkaps/recommendation, with ``ratings.csv``, ``items.csv`` and
``posters/ID.jpg``.

Triples are (user, rate_1 .. rate_5, movie) and (movie, genre, a genre). Ratings are split at random, 80 : 10 : 10, by
the seed 0; genres are training triples. Text: up to four sentences of the summary. Pictures: 24 regions of a poster,
by their colours and edges (no weights).

usage: python benchmarks/mmrns_movielens.py --data MovieLens/data --out build/movielens
       python benchmarks/mmrns_claim.py --dataset build/movielens --features build/movielens/features.safetensors --arms
           "uniform;self-adversarial;mmrns, no features;mmrns, text;mmrns, pictures;mmrns, text and pictures"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from pykeen_advneg.multimodal import image_features, text_features


def triples(data: Path) -> dict[str, pd.DataFrame]:
    """Make the splits, columns head, relation, tail."""
    ratings = pd.read_csv(data / "ratings.csv")
    links = pd.DataFrame(
        {
            "head": "user/" + ratings["user_id"].astype(str),
            "relation": "rate_" + ratings["rating"].astype(str),
            "tail": "movie/" + ratings["movie_id"].astype(str),
        }
    )
    items = pd.read_csv(data / "items.csv", index_col="movie_id")
    names = items.columns[items.columns.get_loc("genre_unknown") + 1 : items.columns.get_loc("year")]
    genres = pd.DataFrame(
        [(f"movie/{i}", "genre", f"genre/{name}") for name in names for i in items.index[items[name] == 1]],
        columns=["head", "relation", "tail"],
    )
    place = np.random.default_rng(0).permutation(len(links)) / len(links)
    parts = {"train": place < 0.8, "valid": (place >= 0.8) & (place < 0.9), "test": place >= 0.9}  # noqa: PLR2004
    splits = {name: links[chosen] for name, chosen in parts.items()}
    return splits | {"train": pd.concat([splits["train"], genres])}


def main(
    data: Annotated[Path, typer.Option(help="the folder of the input")],
    out: Annotated[Path, typer.Option(help="the folder to write")] = Path("build/movielens"),
) -> None:
    """Write train.txt, valid.txt, test.txt and features.safetensors."""
    out.mkdir(parents=True, exist_ok=True)
    for name, frame in triples(data).items():
        frame.to_csv(out / f"{name}.txt", sep="\t", header=False, index=False)
    items = pd.read_csv(data / "items.csv", index_col="movie_id")
    texts = text_features({f"movie/{i}": text for i, text in items["overview"].dropna().items()})
    posters = sorted((data / "posters").glob("*.jpg"))
    features = texts.join(image_features({f"movie/{path.stem}": path for path in posters}))
    features.save(out / "features.safetensors")
    print(features)


if __name__ == "__main__":
    typer.run(main)
