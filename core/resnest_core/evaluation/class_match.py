"""The classes of a model and the categories of annotations, matched by name."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resnest_core.card import ModelCard
from resnest_core.errors import ParameterError
from resnest_core.messages import named


@dataclass(frozen=True)
class ClassMatch:
    """Which of a file's categories are which of a model's classes: those of exactly the same name."""

    names: Mapping[int, str]
    """Of the classes that both have, by the file's id, in the order of the card."""
    only_in_model: tuple[str, ...]
    """Classes that the file lacks: their detections are left out."""
    only_in_file: tuple[str, ...]
    """Categories that the model lacks: their objects are left out."""
    file_ids: Mapping[int, int]
    """The file's id by the card's."""

    def with_ids_of_file(self, results: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield COCO's results with the file's category ids for the card's; of other classes none."""
        for row in results:
            if row["category_id"] in self.file_ids:
                yield {**row, "category_id": self.file_ids[row["category_id"]]}

    @property
    def difference(self) -> str | None:
        """One sentence that says which side lacks which names; None where both have the same."""
        parts = []
        if self.only_in_file:
            parts.append(f"the model lacks {named(self.only_in_file)}")
        if self.only_in_model:
            parts.append(f"the annotations lack {named(self.only_in_model)}")
        if not parts:
            return None
        count = len(self.names)
        which = f"{count} classes are evaluated, those that" if count != 1 else "1 class is evaluated, the one that"
        return f"{which} both have: {', and '.join(parts)}{_alike(self)}."


def all_classes(categories: Mapping[int, str]) -> ClassMatch:
    """Return the match of a file's categories, names by id, with themselves."""
    return ClassMatch(categories, (), (), {id_: id_ for id_ in categories})


def match_classes(categories: Mapping[int, str], card: ModelCard, source: str) -> ClassMatch:
    """Match a file's categories, names by id, with a model's classes.

    Raises:
        ParameterError: there is no common name, or the model has a name or id twice.
    """
    for what, values in (("class", card.classes), ("category id", card.category_ids)):
        twice = [one for one, count in Counter(values).items() if count > 1]
        if twice:
            raise ParameterError(
                f"The model {card.name} has the {what} {named(twice)} more than once, so that detections can't be "
                "matched with annotations: export it with --classes and --category-ids that differ."
            )
    ids = {name: id_ for id_, name in categories.items()}
    match = ClassMatch(
        names={ids[name]: name for name in card.classes if name in ids},
        only_in_model=tuple(name for name in card.classes if name not in ids),
        only_in_file=tuple(name for name in categories.values() if name not in card.classes),
        file_ids={id_: ids[name] for id_, name in zip(card.category_ids, card.classes, strict=True) if name in ids},
    )
    if not match.names:
        raise ParameterError(
            f"No category of {source} is a class of the model {card.name}: there are "
            f"{named(match.only_in_file) or 'none'} in the file, and {named(card.classes)} in the model"
            f"{_alike(match)}; rename the categories."
        )
    return match


def _alike(match: ClassMatch) -> str:
    """Return what to say of names that differ in case, spaces and the like only."""
    by_form = {_form(name): name for name in match.only_in_model}
    pairs = [f"{name!r} and {by_form[_form(name)]!r}" for name in match.only_in_file if _form(name) in by_form]
    return f" ({named(pairs)} look alike, but names are matched exactly)" if pairs else ""


def _form(name: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKC", name).casefold() if one.isalnum()) or name
