"""A small graph of users and films with attributes of each kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pykeen.datasets.base import EagerDataset

from pykeen_advneg.multimodal.factory import multimodal_dataset
from pykeen_advneg.multimodal.tables import VALUE_COLUMNS, Tables

GENRES = ("comedy", "drama", "war")
WORDS = ("red", "green", "blue", "small", "large", "old", "new")


def values(rows: list[tuple[str, str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(VALUE_COLUMNS))


def tables(num_users: int = 12, num_films: int = 10, seed: int = 0, held_out: int = 3) -> tuple[Tables, Tables]:
    """Training and testing: old users like war films, young ones comedies, and who is old is in the attributes."""
    rng = np.random.default_rng(seed)
    users, films = [f"u{i}" for i in range(num_users)], [f"f{i}" for i in range(num_films)]
    age = {user: float(rng.integers(15, 80)) for user in users}
    genre = {film: GENRES[i % 3] for i, film in enumerate(films)}
    links = []
    for user in users:
        for film in films:
            likes = (genre[film] == "war") == (age[user] > 45)
            links.append((user, "likes" if likes else "dislikes", film))
    order = rng.permutation(len(links))
    seen, unseen = [links[i] for i in order[20:]], [links[i] for i in order[:20]]
    columns = ["head", "relation", "tail"]
    numbers = [(user, "age", age[user]) for user in users]
    pixels = rng.integers(0, 256, size=(num_films, 3, 8, 8), dtype=np.uint8)
    training = Tables(
        links=pd.DataFrame(seen, columns=columns),
        numeric=values(numbers[:-held_out]),
        categorical=values([(user, "job", ("smith", "clerk")[i % 2]) for i, user in enumerate(users)]),
        multi_hot=values([(f, "genre", g) for f in films for g in {genre[f], GENRES[hash_of(f) % 3]}]),
        text=values([(f, "title", f"The {WORDS[i % 7]} {genre[f]} {i}") for i, f in enumerate(films)]),
        images=values([(f, "poster", pixels[i]) for i, f in enumerate(films)]),
    )
    return training, Tables(links=pd.DataFrame(unseen, columns=columns), numeric=values(numbers[-held_out:]))


def hash_of(label: str) -> int:
    return sum(map(ord, label))


def dataset(*left_out: str, **kwargs: Any) -> EagerDataset:
    """Make the data set, without some kinds of values."""
    training, testing = (replace(each, **dict.fromkeys(left_out)) for each in tables(**kwargs))
    return multimodal_dataset(training, testing)
