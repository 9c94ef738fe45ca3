"""One model of the service: calls to its stages, and what the ingress knows about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from acoustic.request import Effort, RequestOptions
from deployments.stages.calls import Calls


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chain:
    """One model of the service.

    Attributes:
        name: name by which requests ask for the model, "" for the one that answers by default.
        folder: its checkpoint.
        front_end_digest: digest of the settings of stage 1.
        calls: calls to its stages.
        answers: stage 3 with the settings of the file, for what can be said before it runs.
    """

    name: str
    folder: CheckpointFolder
    front_end_digest: str
    answers: Postprocessor
    calls: Calls

    def check(self, options: RequestOptions) -> None:
        """Refuse what no answer of this model can have, before anything is decoded.

        Raises:
            InvalidOptionError: an unknown taxonomy, or more genres than there are.
        """
        options.check_model(len(self.answers.labels_of(options.taxonomy)))

    def window_bytes(self, effort: Effort) -> int:
        """Most bytes of windows that a request holds between the stages."""
        return WINDOWS_BY_EFFORT[effort] * self.folder.mel.window_bytes

    def to_dict(self) -> dict[str, Any]:
        """What /v1/models says about the model."""
        manifest, mel = self.folder.manifest, self.folder.mel
        source = manifest.source
        return {
            "name": self.name or manifest.name,
            "is_default": not self.name,
            "checkpoint": manifest.name,
            "version": manifest.version,
            "digest": manifest.digest,
            "n_genres": len(manifest.labels),
            "n_styles": 0 if manifest.styles is None else len(manifest.styles["names"]),
            "window_s": round(mel.window_s, 3),
            "window_bytes": mel.window_bytes,
            "calibrated": self.answers.calibration.is_fitted,
            "licence": source.get("licence"),
            "non_commercial": bool(source.get("non_commercial", False)),
        }
