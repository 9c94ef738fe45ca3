"""Files that say which genre each label of a published model belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from acoustic.errors import ConfigError
from acoustic.labels import GENRES, LabelSet
from acoustic.styles import Output, Styles
from deployments.built_in import LABEL_MAPS, built_in
from deployments.strict import parse_strict, read_yaml

OWN = "own"
"""Name of no file: every label of the model is a genre."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMap:
    """Content of a file in configs/labels.

    Attributes:
        genres: pattern of labels → genre, or null for none; the first that matches counts.
        recognise: labels by which the file is chosen without being named.
        music: patterns of labels that say that it is music.
        not_music: patterns of labels that say that it is none.
        threshold: score from which a label is listed as a style, in [0, 1].
        thresholds: pattern → threshold of its own.
    """

    genres: dict[str, str | None]
    recognise: tuple[str, ...] = ()
    music: tuple[str, ...] = ()
    not_music: tuple[str, ...] = ()
    threshold: float = 0.1
    thresholds: dict[str, float] = field(default_factory=dict)

    def styles(self, names: Sequence[str], output: Output) -> tuple[Styles, LabelSet]:
        """The labels of a model with their genres, and those genres in the guide's order.

        Raises:
            ConfigError: a label matches no pattern, or fewer than two genres have a label.
        """
        genres = [self._genre(name) for name in names]
        used = {genre for genre in genres if genre is not None}
        known = [label for label in GENRES.labels if label.name in used]
        if len(known) < 2:
            raise ConfigError(f"the labels belong to {len(known)} genres, at least 2 are needed")
        styles = Styles(
            output=output,
            names=tuple(names),
            genres=tuple(genres),
            music=_matching(names, self.music),
            not_music=_matching(names, self.not_music),
            thresholds=tuple(_first(self.thresholds, name, self.threshold) for name in names),
        )
        return styles, LabelSet(known)

    def _genre(self, name: str) -> str | None:
        pattern = next((p for p in self.genres if fnmatchcase(name, p)), None)
        if pattern is None:
            raise ConfigError(f"label {name!r} matches no pattern: add one, null for no genre")
        genre = self.genres[pattern]
        if genre is None:
            return None
        if genre not in GENRES:
            raise ConfigError(f"{genre!r} is none of the genres {', '.join(GENRES.names)}")
        return GENRES.names[GENRES.index(genre)]


def load_label_map(name: str) -> LabelMap:
    """A built-in file by its name, such as "audioset", or any by its path.

    Raises:
        ConfigError: unreadable, an unknown key or a wrong type.
    """
    known = built_in(LABEL_MAPS) / f"{name}.yaml"
    path = known if known.is_file() else Path(name)
    return parse_strict(LabelMap, read_yaml(path), path.name)


def recognise(names: Sequence[str]) -> LabelMap | None:
    """The built-in file that was made for these labels; None if there is none."""
    for path in sorted(built_in(LABEL_MAPS).glob("*.yaml")):
        found = load_label_map(path.stem)
        if found.recognise and set(found.recognise) <= set(names):
            return found
    return None


def _matching(names: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if any(fnmatchcase(name, p) for p in patterns))


def _first(table: dict[str, float], name: str, default: float) -> float:
    return next((value for pattern, value in table.items() if fnmatchcase(name, pattern)), default)
