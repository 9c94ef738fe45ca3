"""Review reasons: why a person should check a prediction; each is a number past its threshold.

code                 number                                       passes when
LOW_CONFIDENCE       probability of the best genre                below
CLOSE_RIVAL          best − second best probability               below
KNOWN_CONFUSION      share of such answers that were the rival    above
SEGMENTS_DISAGREE    disagreement between segments of the track   above
NOT_MUSIC            how unlike music it sounds                   above
UNFAMILIAR           distance from the training data              above
TOO_SHORT            seconds of audio                             below
MOSTLY_SILENT        share of silent frames                       above
CLIPPED              share of samples at full scale               above
NARROW_BAND          upper edge of the spectrum, Hz               below
NOISY                estimated signal-to-noise ratio, dB          below
CHANNELS_CANCEL      share of power lost in the channels' average above
LENGTH_MISMATCH      difference of stated and real length, ratio  above
OUTSIDE_TAXONOMY     probability of genres that it leaves out     above

Where the model does not tell music from other sounds, NOT_MUSIC is the distance, and there is no
UNFAMILIAR. NOT_CALIBRATED is a reason of every answer of a checkpoint without calibration.
GUIDE_UNCERTAIN (entropy, above) stands for the first three where `guide` sets its limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from acoustic.prediction import NOT_MUSIC, GenreScore, Reason, Uncertainty
from acoustic.types import TrackFacts

NOT_CALIBRATED = Reason(
    code="NOT_CALIBRATED",
    value=0,
    threshold=1,
    message="The model is not calibrated: its numbers are scores, which do not say how often it is "
    "right, and there is no prediction set; run `acousticsense calibrate`.",
)
"""Reason that every answer of an uncalibrated checkpoint has; the number is its fitted tracks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewThresholds:
    """Thresholds of the review reasons; can be changed while the service runs.

    None, null in a file, means the value fitted by the calibration: the confidence that reaches its
    review accuracy, and the disagreement and the distance that few of its tracks exceed.

    Attributes:
        min_confidence: lowest probability of the best genre, in [0, 1], or null for the
            fitted value.
        min_margin: lowest lead of the best genre over the second, probability in [0, 1].
        max_confusion: highest share of calibration answers with the best genre whose true genre
            was another one of the prediction set, in [0, 1].
        max_segment_disagreement: highest disagreement between segments, in [0, 1], or null for
            the fitted value.
        max_distance: highest distance from the training data, in [0, 1], or null for the
            fitted value.
        max_not_music: highest likeness to sounds other than music, in [0, 1], or null for the
            fitted value.
        max_silence_ratio: highest share of silent frames, in [0, 1].
        max_clipping_ratio: highest share of samples at full scale, in [0, 1].
        min_bandwidth_hz: lowest upper edge of the spectrum, Hz.
        min_snr_db: lowest signal-to-noise ratio, dB, by a rough estimate.
        max_channel_cancellation: highest share of a window's power that is lost when its channels
            are averaged, in [0, 1]; stage 1 takes one channel alone above 0.99.
        max_length_mismatch: highest difference between the length that the file's headers state
            and the length of its audio, as a share of the stated one, in [0, 1].
        max_left_out: highest probability of the genres that the taxonomy of the request leaves out.
        guide: the guide's review rule (its section 4.2): entropy in [0, 1] above which an answer
            is reviewed, 0.7 in the guide. Replaces the three reasons about the confidence; null
            keeps them.
    """

    min_confidence: float | None = None
    min_margin: float = 0.15
    max_confusion: float = 0.2
    max_segment_disagreement: float | None = None
    max_distance: float | None = None
    max_not_music: float | None = None
    max_silence_ratio: float = 0.5
    max_clipping_ratio: float = 0.01
    min_bandwidth_hz: float = 5_000.0
    min_snr_db: float = 7.7
    max_channel_cancellation: float = 0.99
    max_length_mismatch: float = 0.02
    max_left_out: float = 0.5
    guide: float | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None:
                continue
            # probabilities, shares and distances end at 1; Hz and dB have no upper limit
            if value < 0 or (not name.endswith(("_hz", "_db")) and value > 1):
                raise ValueError(
                    f"{name} is {value}, outside its range: ≥ 0, and ≤ 1 unless in Hz or dB"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the reasons are drawn from.

    Attributes:
        scores: all genres, most probable first.
        uncertainty: uncertainty of the same track.
        facts: facts of the container and quality of the sound.
        confusion: the genre of the prediction set that the best one is most often answered for,
            and the share of such answers; None if there is none.
        shortest_s: length of a track below which an answer is doubtful, seconds.
        left_out: probability of the genres that the taxonomy leaves out.
    """

    scores: tuple[GenreScore, ...]
    uncertainty: Uncertainty
    facts: TrackFacts
    confusion: tuple[str, float] | None
    shortest_s: float
    left_out: float = 0.0


def find_reasons(evidence: Evidence, limits: ReviewThresholds) -> tuple[Reason, ...]:
    """Review reasons of one track, in the order of the module's table.

    Args:
        evidence: numbers of the track.
        limits: thresholds; a reason whose threshold is None is skipped.
    """
    candidates = [*_of_the_answer(evidence, limits), *_of_the_sound(evidence, limits)]
    return tuple(reason for reason in candidates if reason is not None)


def _of_the_answer(evidence: Evidence, limits: ReviewThresholds) -> list[Reason | None]:
    best, rival = evidence.scores[0], evidence.scores[1]
    uncertainty, margin = evidence.uncertainty, best.probability - rival.probability
    # without a known confusion the share is 0, which is above no threshold
    true_genre, share = evidence.confusion or ("", 0.0)
    if limits.guide is not None:
        by_confidence = [
            _above("GUIDE_UNCERTAIN", uncertainty.entropy, limits.guide,
                   f"The genres are spread too evenly to rely on {best.genre}."),
        ]  # fmt: skip
    else:
        by_confidence = [
            _below("LOW_CONFIDENCE", best.probability, limits.min_confidence,
                   f"{best.genre} is only {best.probability:.0%} probable."),
            _below("CLOSE_RIVAL", margin, limits.min_margin,
                   f"{rival.genre} is almost as probable as {best.genre}."),
            _above("KNOWN_CONFUSION", share, limits.max_confusion,
                   f"{share:.0%} of the answers {best.genre} on known tracks were {true_genre}."),
        ]  # fmt: skip
    return [
        *by_confidence,
        _above("SEGMENTS_DISAGREE", uncertainty.segment_disagreement,
               limits.max_segment_disagreement,
               "Different parts of the track sound like different genres."),
        *_of_the_kind(uncertainty, limits),
        _above("OUTSIDE_TAXONOMY", evidence.left_out, limits.max_left_out,
               "This is probably of a genre that the taxonomy leaves out."),
    ]  # fmt: skip


def _of_the_kind(uncertainty: Uncertainty, limits: ReviewThresholds) -> list[Reason | None]:
    """Not music, or music of a kind that the model does not know."""
    if uncertainty.not_music is None:
        return [
            _above(NOT_MUSIC, uncertainty.distance, limits.max_distance,
                   "This sounds unlike the music that the model knows; it may not be music."),
        ]  # fmt: skip
    not_music = _above(
        NOT_MUSIC, uncertainty.not_music, limits.max_not_music,
        "This sounds more like speech, noise or another sound than like music.",
    )  # fmt: skip
    if not_music:
        return [not_music]
    return [
        _above("UNFAMILIAR", uncertainty.distance, limits.max_distance,
               "This is unlike the music that the model was trained on."),
    ]  # fmt: skip


def _of_the_sound(evidence: Evidence, limits: ReviewThresholds) -> list[Reason | None]:
    quality, duration_s = evidence.facts.quality, evidence.facts.info.duration_s
    stated_s = evidence.facts.info.stated_duration_s
    # the headers may state 0 s; then all of the audio is unstated
    mismatch = abs((duration_s or 0.0) - stated_s) / max(stated_s, 1e-3) if stated_s else None
    return [
        _below("TOO_SHORT", duration_s, evidence.shortest_s,
               f"There are only {duration_s or 0:.1f} s of audio."),
        _above("MOSTLY_SILENT", quality.silence_ratio, limits.max_silence_ratio,
               f"{quality.silence_ratio:.0%} of the evaluated audio is silence."),
        _above("CLIPPED", quality.clipping_ratio, limits.max_clipping_ratio,
               "The recording is distorted: many samples are at full scale."),
        _below("NARROW_BAND", quality.bandwidth_hz, limits.min_bandwidth_hz,
               f"There is no sound above {quality.bandwidth_hz:,.0f} Hz."),
        _below("NOISY", quality.snr_estimate_db, limits.min_snr_db,
               "The music hardly stands out from steady noise."),
        _above("CHANNELS_CANCEL", quality.channel_cancellation, limits.max_channel_cancellation,
               "The channels have opposite phase and cancel; one channel was evaluated alone."),
        _above("LENGTH_MISMATCH", mismatch, limits.max_length_mismatch,
               f"The headers state {stated_s or 0:,.1f} s, the file has {duration_s or 0:,.1f} s: "
               "it is joined, cut off or was changed; all that is there was evaluated."),
    ]  # fmt: skip


def _below(code: str, value: float | None, threshold: float | None, message: str) -> Reason | None:
    # a value equal to its threshold does not give a reason
    if value is None or threshold is None or value >= threshold:
        return None
    return Reason(code=code, value=value, threshold=threshold, message=message)


def _above(code: str, value: float | None, threshold: float | None, message: str) -> Reason | None:
    if value is None or threshold is None or value <= threshold:
        return None
    return Reason(code=code, value=value, threshold=threshold, message=message)
