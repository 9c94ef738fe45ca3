"""Genre labels of a model: names, aliases and parent families.

A genre is always found by name, never by index: two sources seldom agree on the order.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """One class of a model.

    Attributes:
        name: display name, unique in its set.
        aliases: other spellings that mean the same genre.
        parent: family that this genre shares with others, or None.
    """

    name: str
    aliases: tuple[str, ...] = ()
    parent: str | None = None

    def to_dict(self) -> dict[str, object]:
        """JSON form, as stored in a checkpoint and served at /v1/labels."""
        return {"name": self.name, "aliases": list(self.aliases), "parent": self.parent}


class LabelSet:
    """The C labels of a model, in the model's order.

    Args:
        labels: two labels or more, no two with the same name or alias.

    Raises:
        ValueError: fewer than two labels, or two that share a name or alias.

    >>> LabelSet([Label(name="Hip-Hop", aliases=("hiphop",)), Label(name="Jazz")]).index("HIPHOP")
    0
    """

    def __init__(self, labels: Iterable[Label]) -> None:
        self.labels = tuple(labels)
        if len(self.labels) < 2:
            raise ValueError(f"a label set needs two labels or more, got {len(self.labels)}")
        self.names = tuple(label.name for label in self.labels)
        self._index: dict[str, int] = {}
        for index, label in enumerate(self.labels):
            for key in {_normalise(name) for name in (label.name, *label.aliases)}:
                if key in self._index:
                    raise ValueError(f"{label.name!r} shares the name {key!r} with another label")
                self._index[key] = index

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, name: str) -> bool:
        return _normalise(name) in self._index

    def index(self, name: str) -> int:
        """Position of a genre given by name or alias, whatever its case and punctuation.

        Raises:
            KeyError: no label has this name or alias.
        """
        return self._index[_normalise(name)]


def same_genre(name: str, other: str) -> bool:
    """Whether two names differ only in case, punctuation and Unicode form."""
    return _normalise(name) == _normalise(other)


def _normalise(name: str) -> str:
    # NFKC: an accent is the same whether it is part of its letter or follows it
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(character for character in folded if character.isalnum())


GENRES = LabelSet(
    [
        Label(name="Blues", parent="Blues & Jazz"),
        Label(name="Classical"),
        Label(name="Jazz", parent="Blues & Jazz"),
        Label(name="Folk", parent="Folk & Country"),
        Label(name="Pop", parent="Pop & R&B"),
        Label(name="Electronic", aliases=("Electronica", "EDM"), parent="Dance"),
        Label(name="Disco", parent="Dance"),
        Label(name="Rock", parent="Rock & Metal"),
        Label(name="Hip-Hop", aliases=("Hip Hop",), parent="Hip-Hop & Rap"),
        Label(name="Rap", parent="Hip-Hop & Rap"),
        Label(name="Metal", aliases=("Heavy Metal",), parent="Rock & Metal"),
        Label(name="R&B", aliases=("Rhythm and Blues", "RnB"), parent="Pop & R&B"),
        Label(name="Reggae"),
        Label(name="World", aliases=("World Music",), parent="World & Latin"),
        Label(name="Latin", parent="World & Latin"),
        Label(name="Country", parent="Folk & Country"),
    ]
)
"""The guide's sixteen genres, in the order of its model.

A family (`parent`) joins genres that share instruments, singers and history, so that it can be
reported where the genre is uncertain. Classical and Reggae belong to no family.
"""
