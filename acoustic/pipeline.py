"""The three stages in one process, without Ray: what the service computes, as a library.

>>> from pathlib import Path
>>> from acoustic.pipeline import Pipeline
>>> pipeline = Pipeline.from_folder(Path("models/default"))   # doctest: +SKIP
>>> pipeline.classify_file(Path("song.mp3")).to_dict()["top_genre"]   # doctest: +SKIP
'Jazz'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from acoustic.classify.classifier import Classifier
from acoustic.classify.config import EngineConfig
from acoustic.errors import InputError
from acoustic.postprocess.postprocessor import PostprocessConfig, Postprocessor
from acoustic.postprocess.rounds import merge_rounds
from acoustic.prediction import Prediction
from acoustic.preprocess.cache import CacheConfig
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.types import Effort, TrackLogits


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """Settings of all three stages.

    Attributes:
        preprocess: stage 1; its geometry is replaced by the checkpoint's.
        cache: of features, None for no cache: most callers see a file once.
        engine: stage 2.
        postprocess: stage 3.
    """

    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    cache: CacheConfig | None = None
    engine: EngineConfig = field(default_factory=EngineConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)


class Pipeline:
    """Audio bytes to a prediction.

    Args:
        preprocessor: stage 1. classifier: stage 2. postprocessor: stage 3.
    """

    def __init__(
        self, preprocessor: Preprocessor, classifier: Classifier, postprocessor: Postprocessor
    ) -> None:
        self.preprocessor = preprocessor
        self.classifier = classifier
        self.postprocessor = postprocessor

    @classmethod
    def from_folder(cls, folder: Path, config: PipelineConfig | None = None) -> Pipeline:
        """Assemble the stages around a checkpoint folder.

        Args:
            folder: the checkpoint.
            config: settings, defaults if None.

        Raises:
            CheckpointError: the folder cannot be used.
            ConfigError: a setting does not fit this machine.
        """
        config = config or PipelineConfig()
        return cls(
            Preprocessor.from_folder(folder, config.preprocess, config.cache),
            Classifier.from_folder(folder, config.engine),
            Postprocessor.from_folder(folder, config.postprocess),
        )

    def classify(
        self,
        data: bytes,
        *,
        file: str = "",
        effort: Effort = "balanced",
        top_k: int | None = None,
        timeline: bool = False,
        coverage: float | None = None,
    ) -> Prediction:
        """Classify an audio file's bytes.

        Args:
            data: the file.
            file: its name, repeated in the reply.
            effort: how many windows are heard: fast 1, balanced 3, thorough 10; auto 3, and on
                while the answer is close.
            top_k: genres in the reply; None for five, or all where there are fewer.
            timeline: whether to list every window's own best genre.
            coverage: of the prediction set; None for the configured one.

        Raises:
            InputError: the audio or an option is at fault.
        """

        def answer() -> Prediction:
            return self.postprocessor.process(
                merge_rounds(rounds), file=file, top_k=top_k, timeline=timeline, coverage=coverage
            )

        rounds = [self._hear(data, effort, 0)]
        prediction = answer()
        while prediction.listen_on:
            try:
                rounds.append(self._hear(data, effort, len(rounds)))
            except InputError:  # the rest of the track is silent, or damaged: answer by the first
                return prediction
            prediction = answer()
        return prediction

    def _hear(self, data: bytes, effort: Effort, part: int) -> TrackLogits:
        (track,) = self.classifier.classify([self.preprocessor.process(data, effort, part)])
        return track

    def classify_file(
        self,
        path: Path,
        *,
        effort: Effort = "balanced",
        top_k: int | None = None,
        timeline: bool = False,
        coverage: float | None = None,
    ) -> Prediction:
        """Classify a file on disk; see `classify`.

        Raises:
            InputError: the audio or an option is at fault.
            OSError: the file cannot be read.
        """
        data = path.read_bytes()
        return self.classify(
            data,
            file=path.name,
            effort=effort,
            top_k=top_k,
            timeline=timeline,
            coverage=coverage,
        )
