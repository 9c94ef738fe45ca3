"""Published models → a checkpoint folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from acoustic.checkpoint_folder import CARD_FILE, Manifest
from acoustic.classify.checkpoint import save_checkpoint
from acoustic.classify.foreign import import_vit, load_state
from acoustic.classify.hub import (
    CONFIG,
    PREPROCESSOR,
    HubModel,
    find_weights,
    is_hub_folder,
    is_image_model,
    read_hub_folder,
)
from acoustic.classify.normalise import Scaling
from acoustic.errors import CheckpointError
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.pipeline import write_golden
from acoustic.postprocess.calibration import Calibration, WindowCalibration, save_calibration
from acoustic.styles import Output, Styles
from deployments.built_in import GUIDE_FRONT_END, built_in
from deployments.label_maps import OWN, load_label_map, recognise
from deployments.strict import parse_strict, read_yaml

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
OWN_THRESHOLD = 0.1
"""Score from which a label of a model without a map is listed."""

NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontEnd:
    """What bare weights of another library do not state: genres, geometry, normalisation."""

    labels: list[str]
    mel: MelConfig
    scaling: Scaling


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """What the caller decides about an import.

    Attributes:
        name: name of the model; None for that of the source.
        front_end: for a file of bare weights: labels, mel and scaling; None for the guide's.
        labels: label map by name or path, "own" for the model's own labels; None to recognise it.
        output: "softmax" or "sigmoid"; None for what the model states.
        revision: branch, tag or commit on the hub; None for the newest.
    """

    name: str | None = None
    front_end: Path | None = None
    labels: str | None = None
    output: Output | None = None
    revision: str | None = None


def import_checkpoint(source: str, out: Path, options: ImportOptions | None = None) -> Manifest:
    """Write a checkpoint folder from a published model.

    Args:
        source: folder in the layout of the Hugging Face hub, id on the hub, or file of weights.
        out: folder to write.
        options: names and choices.

    Raises:
        CheckpointError: the model cannot be used, or `out` exists.
        ConfigError: the front end or the label map cannot be used.
    """
    options = options or ImportOptions()
    if out.exists():
        raise CheckpointError(f"{out} exists already: choose a new folder")
    path = Path(source)
    if path.is_file():
        manifest = _import_weights(path, out, options)
    else:
        folder = path if path.is_dir() else _download(source, options.revision)
        if not is_hub_folder(folder):
            raise CheckpointError(
                f"{source!r} has no {CONFIG} of a transformers model; bare weights are imported "
                "as a file"
            )
        if is_image_model(folder):
            origin = _source(_origin(source, folder), _licence(folder / CARD_FILE) or NOT_STATED)
            manifest = _import_weights(find_weights(folder), out, options, origin)
        else:
            manifest = _import_folder(folder, source, out, options)
    calibration = Calibration(
        windows={1: WindowCalibration(temperature=1.0)},
        checkpoint_digest=manifest.digest,
        dataset="none: not calibrated",
        n_tracks=0,
        date=datetime.now(UTC).date().isoformat(),
    )
    save_calibration(out, calibration)
    write_golden(out)  # loads it, too
    return manifest


def _origin(source: str, folder: Path) -> str:
    """The id on the hub, or the name of the folder."""
    return (
        source if HUB_ID.fullmatch(source) and not Path(source).is_dir() else folder.resolve().name
    )


def _import_weights(
    weights: Path, out: Path, options: ImportOptions, source: dict[str, Any] | None = None
) -> Manifest:
    front_end = options.front_end or built_in(GUIDE_FRONT_END)
    settings = parse_strict(FrontEnd, read_yaml(front_end), front_end.name)
    shape = settings.scaling.resize_to or (settings.mel.n_mels, settings.mel.n_frames)
    model = import_vit(load_state(weights), input_shape=shape)
    if model.config.n_classes != len(settings.labels):
        raise CheckpointError(
            f"the weights have {model.config.n_classes} classes, {front_end.name} has "
            f"{len(settings.labels)} labels"
        )
    return save_checkpoint(
        out,
        name=options.name or "imported",
        version="imported",
        model=model,
        labels=LabelSet(_known_label(label) for label in settings.labels),
        mel=settings.mel,
        scaling=settings.scaling,
        source=source,
    )


def _import_folder(folder: Path, source: str, out: Path, options: ImportOptions) -> Manifest:
    found = read_hub_folder(folder)
    styles, labels = _labels(found, options)
    origin = _origin(source, folder)
    licence = _licence(folder / CARD_FILE) or NOT_STATED
    manifest = save_checkpoint(
        out,
        name=options.name or origin.rpartition("/")[2],
        version="imported",
        model=found.model,
        labels=labels,
        mel=found.mel,
        scaling=found.scaling,
        styles=styles,
        source=_source(origin, licence),
    )
    (out / CARD_FILE).write_text(_card(manifest, origin, licence), encoding="utf-8")
    return manifest


def _labels(found: HubModel, options: ImportOptions) -> tuple[Styles | None, LabelSet]:
    """The model's own labels with the genres they belong to, or as the genres themselves."""
    if options.labels == OWN:
        chosen = None
    elif options.labels is not None:
        chosen = load_label_map(options.labels)
    else:
        chosen = recognise(found.names)
    # published models with hundreds of labels state no problem type, and are multi-label
    output: Output = options.output or found.output or ("softmax" if chosen is None else "sigmoid")
    if chosen is not None:
        return chosen.styles(found.names, output)
    try:
        labels = LabelSet(_known_label(name) for name in found.names)
    except ValueError as error:
        raise CheckpointError(
            f"the labels cannot be genres: {error}; give --labels FILE"
        ) from error
    if output == "softmax":
        return None, labels
    return (
        Styles(
            output=output,
            names=found.names,
            genres=labels.names,
            thresholds=(OWN_THRESHOLD,) * len(found.names),
        ),
        labels,
    )


def _known_label(name: str) -> Label:
    """The guide's genre of that name or alias, with its family; else a genre of its own."""
    return GENRES.labels[GENRES.index(name)] if name in GENRES else Label(name=name)


def _licence(card: Path) -> str | None:
    """`license` in the YAML between the first two lines of dashes of a model card."""
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    _, *parts = text.split("---\n", 2) if text.startswith("---\n") else ("",)
    try:
        head = yaml.safe_load(parts[0]) if parts else None
    except yaml.YAMLError:
        return None
    if not isinstance(head, dict) or not head.get("license"):
        return None
    # an unusual licence is "other", with its name beside it
    stated = [head["license"], head.get("license_name")]
    flat = [each for item in stated for each in (item if isinstance(item, list) else [item])]
    return ", ".join(str(each) for each in flat if each is not None)


def _source(origin: str, licence: str) -> dict[str, Any]:
    words = f" {re.sub('[^a-z]+', ' ', licence.lower())} "
    forbidden = (" nc ", " noncommercial ", " non commercial ")
    return {
        "name": origin,
        "licence": licence,
        "non_commercial": any(word in words for word in forbidden),
    }


def _card(manifest: Manifest, origin: str, licence: str) -> str:
    about = (
        "Its licence forbids commercial use."
        if manifest.source["non_commercial"]
        else "Its licence decides what it may be used for."
    )
    return (
        f"# {manifest.name}\n\nImported from {origin}. Licence of the weights: {licence}. {about}\n"
        "\nNot trained, tested or calibrated here: `acousticsense calibrate` fits it to labelled "
        "music, `acousticsense evaluate` says how good it is there.\n"
    )


def _download(hub_id: str, revision: str | None) -> Path:
    """Folder of a model on the Hugging Face hub, from the local cache or the network."""
    if not HUB_ID.fullmatch(hub_id):
        raise CheckpointError(
            f"{hub_id!r} is neither a file, nor a folder, nor an id on the Hugging Face hub"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"{hub_id!r} is on the hub, which needs: pip install 'acousticsense[hub]'"
        ) from error
    patterns = [CONFIG, PREPROCESSOR, "README.md", "*.safetensors", "pytorch_model.bin"]
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the library raises errors of its own, of HTTP and of the system
        raise CheckpointError(
            f"{hub_id!r} cannot be downloaded from the hub ({type(error).__name__}): check its "
            "name and the network, or give a folder"
        ) from error
