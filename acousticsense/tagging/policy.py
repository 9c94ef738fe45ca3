"""Which genres an answer is sure enough of to be written into a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acoustic.prediction import NOT_MUSIC


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What an answer says about a file, as far as a tag needs it.

    Attributes:
        ranked: genres with their calibrated probabilities, most probable first.
        set: genres of the prediction set, most probable first; None where there is none.
        reasons: codes of the reasons for a review.
    """

    ranked: Sequence[tuple[str, float]]
    set: Sequence[str] | None
    reasons: Sequence[str]


def evidence_of(body: dict[str, Any]) -> Evidence:
    """What the JSON object of an answer says; see `acoustic.prediction.Prediction`."""
    members = body.get("prediction_set") or {}
    return Evidence(
        ranked=[(each["genre"], each["probability"]) for each in body["predictions"]],
        set=members.get("genres"),
        reasons=[each["code"] for each in body.get("reasons") or []],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """When a genre is written.

    Attributes:
        min_confidence: smallest calibrated probability of the most probable genre, in [0, 1].
        set_size: largest prediction set whose genres may all be written, where the most probable
            one alone is not sure enough; 0 for never.
        max_tags: most genres of such a set that are written, from 1; None for all.
        keep_existing: whether files that have a genre are left alone.
    """

    min_confidence: float = 0.6
    set_size: int = 0
    max_tags: int | None = None
    keep_existing: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"--min-confidence is {self.min_confidence:g}, limits are 0 to 1")
        if self.set_size < 0 or (self.max_tags is not None and self.max_tags < 1):
            raise ValueError("--set-size must not be negative, --max-tags must be 1 or more")

    def decide(self, evidence: Evidence, old: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """The genres to write, or none and why not.

        Args:
            evidence: what the answer says.
            old: genres in the file's tag now.

        Returns:
            New genres, and "" or the reason why there are none.
        """
        if NOT_MUSIC in evidence.reasons:
            return (), "not music"
        if old and self.keep_existing:
            return (), "has a genre"
        genre, confidence = evidence.ranked[0]
        new: tuple[str, ...] = ()
        if confidence >= self.min_confidence:
            new = (genre,)
        elif evidence.set and len(evidence.set) <= self.set_size:
            new = tuple(evidence.set[: self.max_tags])
        if not new:
            return (), f"unsure: {genre} {confidence:.0%}"
        if tuple(old) == new:
            return (), "has it already"
        return new, ""
