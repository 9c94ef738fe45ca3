"""Fine labels of a model, its styles, and the genre that each of them belongs to.

A published model may have hundreds of labels: AudioSet's 527 sounds, Discogs' 400 styles. Stage 2
summarises their scores to one logit per genre, so that calibration, prediction sets and rules see
genres alone; the styles themselves stay in the answer.

Shapes: L styles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Output = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Styles:
    """The fine labels of a model, stored in its config.json.

    Attributes:
        output: "softmax" where exactly one label is right, "sigmoid" where each is right or wrong.
        names: the L labels, in the order of the model's head.
        genres: genre of each label, None for no genre.
        music: labels that say that it is music.
        not_music: labels that say that it is none.
        thresholds: score from which each label is listed, in [0, 1].
    """

    output: Output
    names: tuple[str, ...]
    genres: tuple[str | None, ...]
    music: tuple[str, ...] = ()
    not_music: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.output not in get_args(Output):
            raise ValueError(f"output is {self.output!r}, known are softmax and sigmoid")
        sizes = {len(self.names), len(self.genres), len(self.thresholds)}
        if len(sizes) != 1:
            raise ValueError(f"names, genres and thresholds of styles differ in length: {sizes}")
        if unknown := set(self.music + self.not_music) - set(self.names):
            raise ValueError(f"no style is named {sorted(unknown)[0]!r}")

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Styles:
        """Styles of their JSON form."""
        fields = {k: tuple(v) for k, v in content.items() if k != "output"}
        return cls(output=content["output"], **fields)
