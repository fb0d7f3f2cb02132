"""Write the page which says how each interaction is scored: ``python -m pykeen_advneg.queries > docs/forms.md``."""

from __future__ import annotations

from . import forms_table

__all__ = ["page"]

HEADER = """\
# Which form serves which interaction

Made by `python -m pykeen_advneg.queries > docs/forms.md`; a test compares this page with the code.

How `Scorer` scores triples in which a slot is replaced by many candidates:

* **product**: a query from the two other slots, and its inner product with each candidate, i.e., a product of matrices;
* **distance**: a query, and its distance to each candidate, without a tensor of shape `(batch, candidates, dim)`;
* **broadcast**: by the interaction itself, with the kept slots broadcast and not repeated.

Distances are listed with p = 2; with p = 1 they are the same, with other p they are broadcast. All forms equal
`model.score_hrt` in value and gradient (`tests/test_scoring.py`).

| interaction | head | relation | tail |
|---|---|---|---|
"""


def page() -> str:
    """Render the page."""
    return HEADER + "".join(f"| {' | '.join(row)} |\n" for row in forms_table())


if __name__ == "__main__":
    print(page(), end="")
