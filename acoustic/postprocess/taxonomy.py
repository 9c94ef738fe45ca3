"""Taxonomies: a model's genres joined, renamed or left out, as a library has them.

Joining adds probabilities, and a joined genre is in a prediction set if any of its parts is: the
set keeps its coverage. Genres that are left out are taken to be impossible: the probabilities of
the others are divided by their sum, and the prediction set holds what it would without that too.

Shapes: C genres of the model, K genres of the taxonomy.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acoustic.errors import ConfigError
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.postprocess.calibration import Probabilities

Members = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Taxonomy:
    """A library's own genres, by those of a model.

    Attributes:
        name: name under which callers ask for it.
        genres: genre of the library → genres of the model that it joins. A genre of the model that
            stands nowhere keeps its name.
        drop: genres of the model that the library does not have.
    """

    name: str
    genres: dict[str, tuple[str, ...]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        used = Counter(_known_name(each) for parts in self.genres.values() for each in parts)
        used.update(_known_name(each) for each in self.drop)
        twice = [name for name, n in used.items() if n > 1]
        if twice:
            raise ValueError(f"taxonomy {self.name!r} names {twice[0]!r} twice")
        empty = [name for name, parts in self.genres.items() if not parts or not name.strip()]
        if empty:
            raise ValueError(f"taxonomy {self.name!r}: {empty[0]!r} joins no genre")


class GenreMap:
    """A taxonomy over the genres of one model; without a taxonomy the genres themselves.

    Args:
        labels: the C genres.
        taxonomy: how they are joined; None to leave them.

    Attributes:
        labels: the K genres of the taxonomy, in the order of their first part.

    Raises:
        ConfigError: the taxonomy names a genre that is neither the model's nor a known one, or
            leaves fewer than two. A name that the model has joins that genre as well.
    """

    def __init__(self, labels: LabelSet, taxonomy: Taxonomy | None = None) -> None:
        self.taxonomy = taxonomy
        self._of_model = labels
        names: list[str | None] = list(labels.names)
        if taxonomy is not None:
            _check_known(taxonomy, labels)
            for name, parts in taxonomy.genres.items():
                for part in parts:
                    if part in labels:
                        names[labels.index(part)] = name
            for part in taxonomy.drop:
                if part in labels:
                    names[labels.index(part)] = None
        order = list(dict.fromkeys(name for name in names if name is not None))
        try:
            self.labels = LabelSet(_joined(name, names, labels) for name in order)
        except ValueError as error:
            named = taxonomy.name if taxonomy else ""
            raise ConfigError(f"taxonomy {named!r} cannot be used: {error}") from error
        target = np.array([-1 if name is None else order.index(name) for name in names])
        self._kept: Members = target >= 0
        self._member: Members = target[:, None] == np.arange(len(order))
        self._names = names

    def name_of(self, genre: str) -> str | None:
        """Name in the taxonomy of a genre of the model; None where it is left out."""
        return self._names[self._of_model.index(genre)]

    def only_part(self, name: str) -> str | None:
        """The genre of the model that a genre of the taxonomy consists of; None for several."""
        parts = [self._of_model.names[i] for i, each in enumerate(self._names) if each == name]
        return parts[0] if len(parts) == 1 else None

    def left_out(self, probabilities: Probabilities) -> float:
        """Probability of the genres that are left out, of (C,) probabilities."""
        return float(probabilities[~self._kept].sum())

    def possible(self, probabilities: Probabilities) -> Probabilities:
        """(…, C) probabilities given that the track is of no genre that is left out."""
        if self._kept.all():
            return probabilities
        # 1e-12: where nothing is left the others are alike, not undefined
        kept = np.where(self._kept, probabilities + 1e-12, 0.0)
        return np.asarray(kept / kept.sum(axis=-1, keepdims=True))

    def join(self, probabilities: Probabilities) -> Probabilities:
        """(…, K) sums of (…, C) probabilities."""
        return np.asarray(probabilities @ self._member.astype(np.float64))

    def join_scores(self, scores: Probabilities) -> Probabilities:
        """(K,) largest of the (C,) scores of each genre, where scores do not add up."""
        return np.asarray(np.where(self._member.T, scores, 0.0).max(axis=1))

    def join_set(self, members: Members) -> Members:
        """(K,) whether any part of a genre is a member, of (C,) members."""
        return np.asarray((members[:, None] & self._member).any(axis=0))


def _check_known(taxonomy: Taxonomy, labels: LabelSet) -> None:
    parts = [each for joined in taxonomy.genres.values() for each in joined]
    for genre in (*parts, *taxonomy.drop):
        if genre not in labels and genre not in GENRES:
            raise ConfigError(
                f"taxonomy {taxonomy.name!r}: unknown genre {genre!r}, the model has "
                f"{', '.join(labels.names)}"
            )


def _joined(name: str, names: list[str | None], labels: LabelSet) -> Label:
    """The label of a genre; its family is that of its parts, where they share one."""
    parts = [label for label, each in zip(labels.labels, names, strict=True) if each == name]
    if len(parts) == 1 and parts[0].name == name:
        return parts[0]
    parents = {part.parent for part in parts}
    parent = parents.pop() if len(parents) == 1 else None
    return Label(name=name, parent=None if parent == name else parent)


def _known_name(name: str) -> str:
    """The known genre of a name or alias, else the name itself."""
    return GENRES.names[GENRES.index(name)] if name in GENRES else name
