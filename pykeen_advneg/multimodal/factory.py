"""A graph whose attribute values are entities of their own."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar, TextIO

import pandas as pd
import torch
from pykeen.datasets.base import EagerDataset
from pykeen.triples import TriplesFactory
from pykeen.typing import LongTensor, MappedTriples

from ..errors import ConfigurationError
from .attribute_file import load_attributes, save_attributes
from .attributes import Attribute
from .rows import Part, build_attributes, read_parts
from .tables import Rows, Table, Tables, Unknown, read_rows

__all__ = ["MultimodalTriplesFactory", "multimodal_dataset"]


class MultimodalTriplesFactory(TriplesFactory):
    r"""Links between entities, and attributes of entities, as triples.

    A number, a category, a text, a picture is the tail of a triple whose relation is its attribute. Ids are given in
    this order::

        entities    [ of the links | values of attribute 1 | values of attribute 2 | ... ]
        relations   [ of the links | attribute 1 | attribute 2 | ... ]

    An attribute has one id for each distinct value, so that entities with the same value have the same tail; who has no
    value has no triple. PyKEEN takes the values for entities, which is what lets its training loops, negative samplers
    and losses work on them; a model learns what they mean from :attr:`attributes`.

    With ``create_inverse_triples``, only links get inverses.
    """

    file_name_attributes: ClassVar[str] = "attributes.safetensors"

    def __init__(self, *, attributes: Sequence[Attribute] = (), **kwargs: Any) -> None:
        """Initialize the factory.

        :param attributes: the attributes, whose ids are the last ones, without gaps
        :param kwargs: keyword-based parameters of :class:`pykeen.triples.TriplesFactory`

        :raises ConfigurationError: if ids do not fit
        """
        super().__init__(**kwargs)
        self.attributes: Mapping[str, Attribute] = {attribute.name: attribute for attribute in attributes}
        stop = self.num_entities
        for attribute in reversed(attributes):
            if attribute.ids.stop != stop or attribute.name not in self.relation_to_id:
                raise ConfigurationError(f"attributes: {attribute} must end before id {stop}, and have a relation.")
            stop = attribute.start
        #: how many of the entities are no values
        self.num_link_entities: int = stop
        #: how many of the relations are no attributes
        self.num_link_relations: int = self.real_num_relations - len(attributes)

    @classmethod
    def from_tables(
        cls,
        links: Table,
        *,
        numeric: Table | None = None,
        categorical: Table | None = None,
        multi_hot: Table | None = None,
        text: Table | None = None,
        images: Table | None = None,
        entities: Iterable[str] = (),
        others: Sequence[Tables] = (),
        unknown: Unknown = "raise",
        image_size: int = 64,
        create_inverse_triples: bool = False,
    ) -> MultimodalTriplesFactory:
        """Make a factory of training triples from frames, or from files of tab-separated values.

        Numbers are standardised by the mean and the standard deviation of these rows. What the columns are is said by
        :class:`~pykeen_advneg.multimodal.tables.Tables`.

        :param links: head, relation, tail
        :param numeric: entity, attribute, number (or date, which becomes days since 1970)
        :param categorical: entity, attribute, category
        :param multi_hot: entity, attribute, one of several labels
        :param text: entity, attribute, text
        :param images: entity, attribute, path of a picture or array
        :param entities: further entities, which no link has
        :param others: tables of evaluation: what occurs in them gets ids, too, but no triples, and numbers in them have
            no say in mean and standard deviation; see :meth:`map_tables`
        :param unknown: what to do with values of entities which no link has: ``raise`` an error, or ``drop`` them
        :param image_size: the height and width which picture files are brought to
        :param create_inverse_triples: whether training has an inverse for each link

        :returns: the factory

        :raises ConfigurationError: if a table is bad; the message names row and column
        """
        tables = Tables(links, numeric, categorical, multi_hot, text, images)
        link_rows = [read_rows("links", one.links) for one in (tables, *others) if one.links is not None]
        frames = [rows.frame for rows in link_rows]
        labels = sorted({*map(str, entities), *(x for f in frames for x in (*f["head"], *f["tail"]))})
        relations = sorted({relation for frame in frames for relation in frame["relation"]})
        known = pd.Index(labels)
        training, *rest = (read_parts(one, known, unknown, image_size) for one in (tables, *others))
        attributes = build_attributes(training, rest, start=len(labels))
        _check_names(labels, relations, attributes)
        value_labels = [label for attribute in attributes for label in attribute.id_labels()]
        factory = cls(
            attributes=attributes,
            mapped_triples=torch.empty(0, 3, dtype=torch.long),
            entity_to_id={label: i for i, label in enumerate([*labels, *value_labels])},
            relation_to_id={label: i for i, label in enumerate([*relations, *(a.name for a in attributes)])},
            create_inverse_triples=create_inverse_triples,
        )
        return factory.clone_and_exchange_triples(factory._map(link_rows[0], training))

    def map_tables(self, tables: Tables, unknown: Unknown = "raise", image_size: int = 64) -> MultimodalTriplesFactory:
        """Turn other tables into triples with the same ids.

        :param tables: the tables, which :meth:`from_tables` was given among ``others``, or without anything new
        :param unknown: what to do with values of unknown entities
        :param image_size: as it was there

        :returns: a factory of these triples, without inverse triples

        :raises ConfigurationError: if a table is bad, or has an entity, relation or value without an id
        """
        links = None if tables.links is None else read_rows("links", tables.links)
        parts = read_parts(tables, pd.Index(self._link_labels()), unknown, image_size)
        return self.clone_and_exchange_triples(self._map(links, parts), create_inverse_triples=False)

    def _link_labels(self) -> list[str]:
        return [self.entity_id_to_label[i] for i in range(self.num_link_entities)]

    def _map(self, links: Rows | None, parts: Mapping[str, Part]) -> MappedTriples:
        """Turn rows into triples."""
        columns = []
        if links is not None:
            relations = {label: i for label, i in self.relation_to_id.items() if i < self.num_link_relations}
            entities = {label: self.entity_to_id[label] for label in self._link_labels()}
            maps = {"head": entities, "relation": relations, "tail": entities}
            ids = [_look_up(links, column, ids) for column, ids in maps.items()]
            columns.append(torch.stack(ids, dim=-1))
        for name, part in parts.items():
            attribute = self.attributes.get(name)
            if attribute is None or attribute.kind != part.kind:
                raise part.rows.fail(
                    0, "attribute", f"is no {part.kind} attribute of this graph", "give its table to from_tables, too"
                )
            positions = attribute.positions(part.keys(attribute))
            if (positions < 0).any():
                row = int((positions < 0).argmax())
                raise part.rows.fail(row, "value", "has no id", "give this table to from_tables(others=[...]), too")
            heads = _look_up(part.rows, "entity", self.entity_to_id)
            relation = torch.full_like(heads, self.relation_to_id[name])
            columns.append(torch.stack([heads, relation, torch.as_tensor(positions) + attribute.start], dim=-1))
        return torch.cat(columns) if columns else torch.empty(0, 3, dtype=torch.long)

    @property
    def value_ranges(self) -> dict[str, range]:
        """The ids of the values of each attribute."""
        return {name: attribute.ids for name, attribute in self.attributes.items()}

    def of_links(self) -> MappedTriples:
        """Give the triples between entities, shape: ``(n, 3)``."""
        return self.mapped_triples[self.mapped_triples[:, 1] < self.num_link_relations]

    def of_attribute(self, name: str) -> LongTensor:
        """Give the triples of an attribute.

        :param name: its name

        :returns: shape: ``(n, 3)``

        :raises ConfigurationError: if there is no such attribute
        """
        if name not in self.attributes:
            raise ConfigurationError(f"attribute {name!r} is none of {sorted(self.attributes)}.")
        return self.mapped_triples[self.mapped_triples[:, 1] == self.relation_to_id[name]]

    # docstr-coverage: inherited
    def _add_inverse_triples_if_necessary(self, mapped_triples: MappedTriples) -> MappedTriples:
        if not self.create_inverse_triples:
            return mapped_triples
        links = mapped_triples[mapped_triples[:, 1] < self.num_link_relations]
        inverter = self.relation_inverter
        # cloned, since the host inverts in place
        return torch.cat([inverter.map(batch=mapped_triples), inverter.map(batch=links.clone(), invert=True).flip(1)])

    # docstr-coverage: inherited
    def clone_and_exchange_triples(
        self,
        mapped_triples: MappedTriples,
        extra_metadata: dict[str, Any] | None = None,
        keep_metadata: bool = True,
        create_inverse_triples: bool | None = None,
    ) -> MultimodalTriplesFactory:
        """Make a factory of other triples with the same ids and attributes."""
        metadata = {**(extra_metadata or {}), **((self.metadata or {}) if keep_metadata else {})}
        return MultimodalTriplesFactory(
            attributes=list(self.attributes.values()),
            mapped_triples=mapped_triples,
            entity_to_id=self.entity_to_id,
            relation_to_id=self.relation_to_id,
            create_inverse_triples=(
                self.create_inverse_triples if create_inverse_triples is None else create_inverse_triples
            ),
            metadata=metadata,
        )

    # docstr-coverage: inherited
    def to_path_binary(self, path: str | pathlib.Path | TextIO) -> pathlib.Path:
        """Save into a folder, the attributes included."""
        folder = super().to_path_binary(path)
        # the host's tables of labels turn a label such as "NA" into a number
        labels = {
            "entities": [self.entity_id_to_label[i] for i in range(self.num_entities)],
            "relations": [self.relation_id_to_label[i] for i in range(self.real_num_relations)],
        }
        save_attributes(folder / self.file_name_attributes, list(self.attributes.values()), labels)
        return folder

    # docstr-coverage: inherited
    @classmethod
    def _from_path_binary(cls, path: pathlib.Path) -> MutableMapping[str, Any]:
        # the host would run code of the file
        data = dict(torch.load(path / cls.base_file_name, weights_only=True))
        triples = pd.read_csv(path / cls.triples_file_name, sep="\t", dtype=int)
        attributes, labels = load_attributes(path / cls.file_name_attributes)
        return {
            "attributes": attributes,
            "mapped_triples": torch.as_tensor(triples.to_numpy(), dtype=torch.long),
            "entity_to_id": {label: i for i, label in enumerate(labels["entities"])},
            "relation_to_id": {label: i for i, label in enumerate(labels["relations"])},
            "create_inverse_triples": data["create_inverse_triples"],
            "metadata": data["metadata"],
        }


def _check_names(labels: Sequence[str], relations: Sequence[str], attributes: Sequence[Attribute]) -> None:
    for attribute in attributes:
        if attribute.name in set(relations):
            raise ConfigurationError(f"attribute {attribute.name!r} is a relation of the links, too; rename one.")
    values = [label for attribute in attributes for label in attribute.id_labels()]
    seen = set(labels)
    for label in values:
        if label in seen:
            raise ConfigurationError(f"the value {label!r} has the name of an entity or of another value; rename one.")
        seen.add(label)


def _look_up(rows: Rows, column: str, ids: Mapping[str, int]) -> LongTensor:
    """Turn labels into ids."""
    found = pd.Index(list(ids)).get_indexer(pd.Index(rows.frame[column]))
    if (found < 0).any():
        raise rows.fail(
            int((found < 0).argmax()), column, "has no id", "give this table to from_tables(others=[...]), too"
        )
    return torch.as_tensor(pd.Series(list(ids.values())).to_numpy()[found], dtype=torch.long)


def multimodal_dataset(
    training: Tables, testing: Tables, validation: Tables | None = None, **kwargs: Any
) -> EagerDataset:
    """Make a data set from tables.

    :param training: the tables of training
    :param testing: those of testing
    :param validation: those of validation
    :param kwargs: further keyword-based parameters of :meth:`MultimodalTriplesFactory.from_tables`

    :returns: the data set, whose three factories have the same ids

    :raises ConfigurationError: if a table is bad
    """
    if training.links is None:
        raise ConfigurationError("training has no links; give the table of links.")
    others = [tables for tables in (testing, validation) if tables is not None]
    values: dict[str, Any] = {name: getattr(training, name) for name in training.given()}
    factory = MultimodalTriplesFactory.from_tables(**values, others=others, **kwargs)
    options = {name: kwargs[name] for name in ("unknown", "image_size") if name in kwargs}
    return EagerDataset(
        training=factory,
        testing=factory.map_tables(testing, **options),
        validation=None if validation is None else factory.map_tables(validation, **options),
    )
