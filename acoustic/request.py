"""Options of one classification: the same value through library, command line, HTTP and batch.

They are checked here, once, where they are made; what only a model can say (how many genres it
has, which coverages its calibration supports) is checked by stage 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from acoustic.errors import InvalidOptionError

Effort = Literal["fast", "balanced", "thorough", "auto"]
"""Windows evaluated per track: 1, 3 or 10; auto begins with 3 and adds rounds, up to 10 windows,
while the two best genres are close."""

EFFORTS: tuple[Effort, ...] = get_args(Effort)

COVERAGES = tuple(n / 100 for n in range(50, 100))
"""Coverages for which a calibration may hold quantiles."""

MAX_TOP_K = 1000
MAX_NAME_CHARACTERS = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestOptions:
    """What a caller may ask for.

    Attributes:
        effort: windows evaluated per track: fast 1, balanced 3, thorough 10, auto 3 to 10.
        top_k: number of genres in the answer, from 1; null for five, or all where there are fewer.
        coverage: probability that the prediction set holds the true genre, 0.50 to 0.99 in steps
            of 0.01; null for the configured one.
        timeline: whether the answer lists every window's own best genre.
        sets: whether the answer lists the prediction sets of all coverages.
        model: name of the model that answers, of those that the service runs; "" for its default.
        taxonomy: name of the taxonomy whose genres are answered; "" for the model's own.
        file: name of the audio file, repeated in the answer, at most 255 characters.

    Raises:
        InvalidOptionError: a value out of its range.
    """

    effort: Effort = "balanced"
    top_k: int | None = None
    coverage: float | None = None
    timeline: bool = False
    sets: bool = False
    model: str = ""
    taxonomy: str = ""
    file: str = ""

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise InvalidOptionError(f"effort is {self.effort!r}, known are {', '.join(EFFORTS)}")
        if self.top_k is not None and not 1 <= self.top_k <= MAX_TOP_K:
            raise InvalidOptionError(f"top_k is {self.top_k}, limits are 1 to {MAX_TOP_K}")
        if self.coverage is not None:
            check_coverage(self.coverage)
        if len(self.file) > MAX_NAME_CHARACTERS:
            raise InvalidOptionError(
                f"file has {len(self.file)} characters, limit is {MAX_NAME_CHARACTERS}"
            )

    def check_model(self, n_classes: int) -> None:
        """Reject a number of genres that a model cannot list.

        Args:
            n_classes: C, the number of the model's genres.

        Raises:
            InvalidOptionError: top_k is above C.
        """
        if self.top_k is not None and self.top_k > n_classes:
            raise InvalidOptionError(f"top_k is {self.top_k}, limits are 1 to {n_classes}")


def check_coverage(coverage: float) -> float:
    """The coverage, if a calibration may hold a quantile for it.

    Raises:
        InvalidOptionError: not within 0.50 to 0.99 in steps of 0.01.
    """
    if round(coverage, 6) not in COVERAGES:
        raise InvalidOptionError(
            f"coverage is {coverage:g}, limits are {COVERAGES[0]:.2f} to {COVERAGES[-1]:.2f} "
            "in steps of 0.01"
        )
    return coverage
