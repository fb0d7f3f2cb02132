"""What a sampler says of itself."""

from __future__ import annotations

import inspect

import pytest
from docdata import get_docdata

from ..errors import ConfigurationError
from ..sampling.making import keywords
from .subject import Subject

__all__ = ["DescriptionContract"]


class DescriptionContract(Subject):
    """Tests of keywords, ranges and citations."""

    def test_unknown_keyword(self) -> None:
        """A keyword which does not exist is named, before anything is built."""
        with pytest.raises(ConfigurationError, match="no_such_keyword"):
            self.run_pipeline("distmult", "adversarial", no_such_keyword=1)

    def test_impossible_number(self) -> None:
        """No negatives at all is an error."""
        with pytest.raises(ConfigurationError, match="num_negs_per_pos"):
            self.run_pipeline("distmult", "adversarial", num_negs_per_pos=0)

    def test_hpo_default(self) -> None:
        """Studies tune keywords which exist, in ranges which PyKEEN understands."""
        assert set(self.cls.hpo_default) <= keywords(self.cls)
        for name, choice in self.cls.hpo_default.items():
            if choice["type"] == "categorical":
                assert choice["choices"], name
            else:
                assert choice["type"] in {int, float, "int", "float"}, name
                assert choice["low"] < choice["high"], name

    def test_keywords_are_visible(self) -> None:
        """PyKEEN's studies look for keywords in the signatures of the class and of its first base, and no further."""
        visible = {*inspect.signature(self.cls).parameters, *inspect.signature(self.cls.__bases__[0]).parameters}
        assert keywords(self.cls) <= visible, "spell the keywords of the base out"

    def test_citation(self) -> None:
        """The docstring names the method and its source."""
        docdata = get_docdata(self.cls)
        assert docdata is not None, "add a citation to the docstring, and decorate the class by docdata.parse_docdata"
        assert docdata["name"]
        assert {"author", "year", "link"} <= set(docdata["citation"])
