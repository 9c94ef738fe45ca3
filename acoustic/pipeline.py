"""The three stages in one process, without Ray: what the service computes, as a library.

    bytes ▶ Preprocessor ▶ TrackFeatures ▶ Classifier ▶ TrackLogits ▶ Postprocessor ▶ Prediction

Read this file first: the service and the batch job are the same chain over several processes.

>>> from acoustic.pipeline import Pipeline
>>> from acoustic.request import RequestOptions
>>> pipeline = Pipeline.from_folder("models/default")   # doctest: +SKIP
>>> pipeline.classify_file("song.mp3", RequestOptions(effort="thorough")).genre   # doctest: +SKIP
'Jazz'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.classifier import Classifier
from acoustic.classify.engine_config import EngineConfig
from acoustic.content_cache import CacheConfig
from acoustic.errors import AcousticError, ClassificationError, InputError, InvalidOptionError
from acoustic.golden import EFFORT, golden_clip, save_golden
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.postprocess.rounds import RoundResult, evaluate_in_rounds, merge_rounds
from acoustic.prediction import Prediction
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.request import RequestOptions
from acoustic.types import TrackFeatures, TrackLogits

FeatureSource = Callable[[int], TrackFeatures]
"""Number of a round → its features; raises InputError."""

Classify = Callable[[Sequence[TrackFeatures]], Sequence[TrackLogits | Exception]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """Settings of all three stages.

    Attributes:
        preprocess: settings of stage 1; its geometry is replaced by the checkpoint's.
        cache: bounds of the feature cache, None for no cache: most callers see a file once.
        with_digest: whether answers have the digest of their file without a cache, too.
        engine: settings of stage 2.
        postprocess: settings of stage 3.
    """

    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    cache: CacheConfig | None = None
    with_digest: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)


class Pipeline:
    """Audio bytes to a prediction.

    Args:
        preprocessor: stage 1.
        classifier: stage 2.
        postprocessor: stage 3.
    """

    def __init__(
        self, preprocessor: Preprocessor, classifier: Classifier, postprocessor: Postprocessor
    ) -> None:
        self.preprocessor = preprocessor
        self.classifier = classifier
        self.postprocessor = postprocessor

    @classmethod
    def from_folder(
        cls, folder: CheckpointFolder | Path | str, config: PipelineConfig | None = None
    ) -> Pipeline:
        """Assemble the stages around a checkpoint folder.

        Args:
            folder: the checkpoint.
            config: settings, defaults if None.

        Raises:
            CheckpointError: the folder cannot be used.
            ConfigError: a setting does not fit this machine.
        """
        config = config or PipelineConfig()
        opened = folder if isinstance(folder, CheckpointFolder) else CheckpointFolder.open(folder)
        return cls(
            Preprocessor.from_folder(opened, config.preprocess, config.cache, config.with_digest),
            Classifier.from_folder(opened, config.engine),
            Postprocessor.from_folder(opened, config.postprocess),
        )

    def classify(self, data: bytes, options: RequestOptions | None = None) -> Prediction:
        """Classify an audio file's bytes.

        Args:
            data: content of the file.
            options: what is wanted; defaults if None.

        Raises:
            InputError: the audio or an option is at fault.
        """
        options = options or RequestOptions()
        if options.model not in ("", self.classifier.info.name):
            raise InvalidOptionError(
                f"model is {options.model!r}, this process has {self.classifier.info.name}"
            )
        options.check_model(len(self.postprocessor.labels_of(options.taxonomy)))

        def features(round_number: int) -> TrackFeatures:
            return self.preprocessor.process(data, options.effort, round_number)

        (outcome,) = evaluate_tracks(
            self.classifier.classify, self.postprocessor, [features], [options]
        )
        if isinstance(outcome, AcousticError):
            raise outcome
        return outcome

    def classify_file(self, path: Path | str, options: RequestOptions | None = None) -> Prediction:
        """Classify a file on disk; its name stands in the answer unless `options` has another.

        Raises:
            InputError: the audio or an option is at fault.
            OSError: the file cannot be read.
        """
        path, options = Path(path), options or RequestOptions()
        data = path.read_bytes()
        return self.classify(data, options if options.file else replace(options, file=path.name))


def evaluate_tracks(
    classify: Classify,
    postprocessor: Postprocessor,
    sources: Sequence[FeatureSource],
    options: Sequence[RequestOptions],
) -> list[Prediction | AcousticError]:
    """Answers about several tracks, whose windows share the model's batches, round by round.

    Args:
        classify: stage 2; an item that failed alone may come back as its exception.
        postprocessor: stage 3.
        sources: stage 1 of each track.
        options: what is wanted of each track.

    Returns:
        For each track, in order, its prediction or the error that takes its place.

    Raises:
        Exception: what `classify` raises for a whole batch.
    """
    loops = {i: evaluate_in_rounds() for i in range(len(sources))}
    wanted = {i: next(loop) for i, loop in loops.items()}
    evaluated: dict[int, list[TrackLogits]] = {i: [] for i in loops}
    answers: dict[int, Prediction | AcousticError] = {}
    while wanted:
        outcomes: dict[int, RoundResult | AcousticError] = {}
        batch: dict[int, TrackFeatures] = {}
        for i, number in wanted.items():
            try:
                batch[i] = sources[i](number)
            except AcousticError as error:
                outcomes[i] = error
        for i, logits in zip(batch, classify(list(batch.values())) if batch else (), strict=True):
            outcomes[i] = _answer(postprocessor, evaluated[i], logits, options[i])
        wanted = {}
        for i, outcome in outcomes.items():
            if isinstance(outcome, RoundResult | InputError):
                try:
                    wanted[i] = loops[i].send(outcome)
                except StopIteration as end:
                    answers[i] = end.value
                except InputError as error:
                    answers[i] = error
            else:
                answers[i] = outcome
    return [answers[i] for i in range(len(sources))]


def _answer(
    postprocessor: Postprocessor,
    evaluated: list[TrackLogits],
    logits: TrackLogits | Exception,
    options: RequestOptions,
) -> RoundResult | AcousticError:
    """Answer by one more round, which is added to those evaluated before."""
    if isinstance(logits, Exception):
        error = ClassificationError("the model failed on this track")
        error.__cause__ = logits
        return error
    evaluated.append(logits)
    try:
        return postprocessor.process_round(merge_rounds(evaluated), options)
    except AcousticError as error:
        return error


def write_golden(path: Path) -> None:
    """Store what a checkpoint's own stages make of the golden clip; see `acoustic.golden`.

    Args:
        path: the checkpoint's folder.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    folder = CheckpointFolder.open(path)
    windows = Preprocessor.from_folder(folder).process(golden_clip(), EFFORT).log_mel
    plain = EngineConfig(accelerator="cpu", precision="fp32", backend="eager")
    engine = Classifier.from_folder(folder, plain).engine
    save_golden(folder, windows, engine.logits(windows))
    engine.close()
