"""AST and MAEST folders of the hub, against transformers on the same sounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification
from typer.testing import CliRunner

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.hub import read_hub_folder
from acoustic.errors import CheckpointError
from acoustic.pipeline import Pipeline
from acoustic.postprocess.calibration import load_calibration
from acoustic.preprocess.descriptors import low_frequency_ratio
from acoustic.preprocess.mel import (
    MelSpectrogram,
    model_values,
    power_to_db,
    relative_db,
    tile_frames,
)
from acoustic.request import RequestOptions
from acousticsense.cli.main import app
from benchmarks.hub_models import ast_input, label_list, maest_input, save_ast, save_maest, tiny_ast
from deployments.importing import ImportOptions, import_checkpoint
from tests.support.sounds import encode, noise, tone

Reference = Callable[[npt.NDArray[np.float32], int, int], torch.Tensor]

RATE = 16_000
NAMES = [f"label {i}" for i in range(5)]
FRONT_ENDS = {
    "ast": (save_ast, ast_input, 128, 1024),
    "maest": (save_maest, maest_input, 96, 626),
}


def sounds(seconds: float) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    n = round(seconds * RATE)
    tone = 0.9 * np.sin(2 * np.pi * 440 * np.arange(n) / RATE)
    found = {"noise": rng.normal(0, 0.2, n), "tone": tone, "silence": np.zeros(n)}
    return {name: x.astype(np.float32) for name, x in found.items()}


@pytest.mark.parametrize("kind", FRONT_ENDS)
@pytest.mark.parametrize("seconds", [1.0, 10.0, 35.0])
def test_features_and_logits_are_those_of_transformers(
    kind: str, seconds: float, tmp_path: Path
) -> None:
    save, reference, n_mels, n_frames = FRONT_ENDS[kind]
    theirs = tiny_ast(NAMES, num_mel_bins=n_mels, max_length=n_frames)
    found = read_hub_folder(save(tmp_path / "hub", theirs))
    mel, spectrogram = found.mel, MelSpectrogram(found.mel)
    for name, waveform in sounds(seconds).items():
        wanted = reference(waveform, n_mels, n_frames)
        values = spectrogram(waveform[: mel.window_samples])[:, :n_frames]
        values = np.pad(values, ((0, 0), (0, n_frames - values.shape[1])))
        ours = found.scaling.apply(torch.from_numpy(values)[None])
        # The last frame of a centred window that is cut out of a longer sound sees zeros beyond it.
        n_same = n_frames - 1 if kind == "maest" else n_frames
        torch.testing.assert_close(
            ours[0, 0, :, :n_same], wanted[0].T[:, :n_same], rtol=0, atol=1e-5, msg=name
        )
        with torch.inference_mode():
            torch.testing.assert_close(
                found.model(wanted.transpose(1, 2)[:, None]),
                theirs(wanted).logits,
                rtol=0,
                atol=1e-4,
            )


@pytest.mark.parametrize("kind", FRONT_ENDS)
def test_what_is_served_differs_by_the_rounding_of_float16_alone(kind: str, tmp_path: Path) -> None:
    save, reference, n_mels, n_frames = FRONT_ENDS[kind]
    theirs = tiny_ast(NAMES, num_mel_bins=n_mels, max_length=n_frames)
    found = read_hub_folder(save(tmp_path / "hub", theirs))
    spectrogram = MelSpectrogram(found.mel)
    for waveform in sounds(3.0).values():
        window = model_values(spectrogram, spectrogram.power(waveform))
        assert window.dtype == np.float16
        assert window.shape == (n_mels, n_frames)
        ours = found.scaling.apply(torch.from_numpy(window)[None])[0, 0]
        wanted = reference(waveform, n_mels, n_frames)[0].T
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1.3e-3)


def test_names_in_memory_are_read_too(tmp_path: Path) -> None:
    """transformers ≥ 5 has other names in memory than on disk; some save those."""
    theirs = tiny_ast(NAMES, max_length=128, frequency_stride=16, time_stride=12)
    folder = save_ast(tmp_path / "hub", theirs)
    on_disk = read_hub_folder(folder).model.state_dict()
    save_file({k: v.clone() for k, v in theirs.state_dict().items()}, folder / "model.safetensors")
    in_memory = read_hub_folder(folder).model.state_dict()
    assert all(torch.equal(on_disk[name], in_memory[name]) for name in on_disk)
    (folder / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    pickled = read_hub_folder(folder).model.state_dict()
    assert all(torch.equal(on_disk[name], pickled[name]) for name in on_disk)


def test_a_folder_becomes_a_checkpoint_with_its_labels_and_licence(tmp_path: Path) -> None:
    folder = save_maest(
        tmp_path / "discogs-maest",
        tiny_ast(label_list("discogs_400"), num_mel_bins=96, max_length=316),
    )
    manifest = import_checkpoint(str(folder), tmp_path / "out")
    checkpoint = load_checkpoint(CheckpointFolder.open(tmp_path / "out"))
    assert len(checkpoint.manifest.labels) == 16
    assert checkpoint.manifest.styles is not None
    assert checkpoint.manifest.styles["output"] == "sigmoid"
    assert manifest.source == {
        "name": "discogs-maest", "licence": "cc-by-nc-sa-4.0", "non_commercial": True
    }  # fmt: skip
    assert "forbids commercial use" in (tmp_path / "out" / "README.md").read_text()
    assert manifest.mel.window_s == pytest.approx(5.04)


def test_a_model_of_ten_genres_keeps_its_labels(tmp_path: Path) -> None:
    names = [
        "blues",
        "classical",
        "country",
        "disco",
        "hiphop",
        "jazz",
        "metal",
        "pop",
        "reggae",
        "rock",
    ]
    theirs = tiny_ast(names, max_length=128)
    theirs.config.problem_type = "single_label_classification"
    manifest = import_checkpoint(str(save_ast(tmp_path / "hub", theirs)), tmp_path / "out")
    assert manifest.styles is None
    assert manifest.labels.names[4] == "Hip-Hop"
    assert manifest.labels.labels[4].parent == "Hip-Hop & Rap"
    assert not manifest.source["non_commercial"]


def test_a_label_map_of_ones_own(tmp_path: Path) -> None:
    folder = save_ast(
        tmp_path / "hub", tiny_ast(["a rock", "b rock", "jazz", "speech"], max_length=64)
    )
    own = tmp_path / "own.yaml"
    own.write_text("genres: {'* rock': Rock, jazz: Jazz, speech: null}\nnot_music: [speech]\n")
    options = ImportOptions(labels=str(own), output="softmax", name="mine")
    manifest = import_checkpoint(str(folder), tmp_path / "out", options)
    assert manifest.name == "mine"
    assert manifest.labels.names == ("Jazz", "Rock")
    assert manifest.styles is not None
    assert manifest.styles["genres"] == ["Rock", "Rock", "Jazz", None]


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"model_type": "clap"}, "this is CLAP"),
        ("config.json", {"model_type": "mert_model"}, "this is MERT"),
        ("config.json", {"model_type": "hubert"}, "this is HuBERT"),
        ("config.json", {"model_type": "swin"}, "a model of type 'swin'"),
        ("config.json", {"hidden_act": "relu"}, "'relu', only gelu"),
        ("config.json", {"hidden_size": 65}, "width 65 is not a multiple"),
        ("config.json", {"num_hidden_layers": 3}, "do not fit"),
        ("config.json", {"id2label": {}}, "names no labels"),
        ("config.json", {"patch_size": [16, 8]}, "only square ones"),
        ("config.json", {"patch_size": None}, "patch_size is None, a int is needed"),
        ("config.json", {"hidden_size": 64.0}, r"hidden_size is 64\.0"),
        ("config.json", {"layer_norm_eps": None}, "layer_norm_eps is None"),
        ("config.json", {"num_attention_heads": "2"}, "num_attention_heads is '2'"),
        ("preprocessor_config.json", {"mean": "x"}, "mean is 'x', a float"),
        ("preprocessor_config.json", {"std": float("nan")}, "std is nan"),
        ("preprocessor_config.json", {"do_normalize": 1}, "do_normalize is 1"),
        (
            "preprocessor_config.json",
            {"feature_extractor_type": "ClapFeatureExtractor"},
            "known are",
        ),
        ("preprocessor_config.json", {"sampling_rate": 44100}, "44100 Hz, only 16000 Hz"),
        ("preprocessor_config.json", {"max_length": 512}, "max_length is 512 in pre"),
    ],
)
def test_other_models_are_refused(
    file: str, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    folder = save_ast(tmp_path / "hub", tiny_ast(NAMES, max_length=64))
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **changes}))
    with pytest.raises(CheckpointError, match=message):
        read_hub_folder(folder)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(file: str, tmp_path: Path) -> None:
    folder = save_ast(tmp_path / "hub", tiny_ast(NAMES, max_length=64))
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        read_hub_folder(folder)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a file, nor a folder"):
        import_checkpoint("nowhere", tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        import_checkpoint(str(tmp_path), tmp_path / "out")


def test_an_id_that_cannot_be_fetched_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded .* or give a folder"):
        import_checkpoint("MIT/ast", tmp_path / "out")


def test_an_id_is_fetched_and_named_as_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_ast(tmp_path / "hub", tiny_ast(NAMES, max_length=64))
    asked: list[tuple[str, str | None]] = []

    def fetch(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert "*.py" not in allow_patterns  # no code comes along
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    manifest = import_checkpoint("MIT/ast", tmp_path / "out", ImportOptions(revision="v1"))
    assert asked == [("MIT/ast", "v1")]
    assert (manifest.name, manifest.source["name"]) == ("ast", "MIT/ast")


def test_a_code_in_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = save_ast(tmp_path / "hub", tiny_ast(NAMES, max_length=64))
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": Path("/")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="objects are refused"):
        read_hub_folder(folder)


def test_a_folder_of_a_plain_vit_is_imported_with_a_front_end(tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=128,
        image_size=224, num_labels=16,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    manifest = import_checkpoint(str(tmp_path / "vit"), tmp_path / "out")
    assert manifest.mel.n_mels == 40  # the guide's, where no other is stated
    assert len(manifest.labels) == 16


def test_an_answer_about_half_a_window_is_not_doubted_for_its_length(tmp_path: Path) -> None:
    theirs = tiny_ast(NAMES, max_length=1024, frequency_stride=16, time_stride=16)
    import_checkpoint(str(save_ast(tmp_path / "hub", theirs)), tmp_path / "out")
    pipeline = Pipeline.from_folder(tmp_path / "out")
    for seconds, is_short in ((4.0, True), (6.0, False)):
        answer = pipeline.classify(encode(noise(seconds), 22_050))
        assert ("TOO_SHORT" in {reason.code for reason in answer.reasons}) == is_short


@pytest.mark.parametrize(
    ("head", "licence", "is_forbidden"),
    [
        ("license: cc-by-nc-4.0", "cc-by-nc-4.0", True),
        ("license: Non-Commercial", "Non-Commercial", True),
        ("license: other\nlicense_name: acme-nc-1", "other, acme-nc-1", True),
        ("license: [mit, apache-2.0]", "mit, apache-2.0", False),
        ("license: 3", "3", False),
        ("tags: [music]", "not stated", False),
        ("license: [", "not stated", False),
    ],
)
def test_the_licence_is_what_the_card_says(
    head: str, licence: str, is_forbidden: bool, tmp_path: Path
) -> None:
    folder = save_ast(tmp_path / "hub", tiny_ast(NAMES, max_length=64))
    (folder / "README.md").write_text(f"---\n{head}\n---\n# Model\n")
    source = import_checkpoint(str(folder), tmp_path / "out").source
    assert (source["licence"], source["non_commercial"]) == (licence, is_forbidden)


def test_labels_that_are_one_genre_are_refused(tmp_path: Path) -> None:
    folder = save_ast(tmp_path / "hub", tiny_ast(["blues", "Blues", "c"], max_length=64))
    with pytest.raises(CheckpointError, match="cannot be genres"):
        import_checkpoint(str(folder), tmp_path / "out")


def test_noise_has_its_share_of_low_frequencies_by_every_front_end(tmp_path: Path) -> None:
    """White noise has 200 of 8,000 Hz below 200 Hz."""
    for kind, (save, _, n_mels, _) in FRONT_ENDS.items():
        theirs = tiny_ast(NAMES, num_mel_bins=n_mels, max_length=512)
        found = read_hub_folder(save(tmp_path / kind, theirs))
        spectrogram = MelSpectrogram(found.mel)
        power = spectrogram.power(sounds(5.0)["noise"])[:, : found.mel.n_frames]
        windows = model_values(spectrogram, power)[None]
        share = low_frequency_ratio(relative_db(windows, found.mel), found.mel)
        assert share == pytest.approx(0.025, abs=0.01), kind


def test_zeros_behind_a_short_track_are_not_its_sound(tmp_path: Path) -> None:
    theirs = tiny_ast(NAMES, max_length=1024, frequency_stride=16, time_stride=16)
    mel = read_hub_folder(save_ast(tmp_path / "hub", theirs)).mel
    spectrogram = MelSpectrogram(mel)
    power = spectrogram.power(sounds(3.0)["noise"])
    found = relative_db(model_values(spectrogram, power)[None], mel)
    expected = power_to_db(tile_frames(power, mel.n_frames), mel.top_db)
    np.testing.assert_allclose(found[0, 40:], expected[40:], atol=0.1)  # above the floor


def test_a_published_model_is_calibrated_and_evaluated_on_one_folder(tmp_path: Path) -> None:
    """One folder of genres is one collection; all of its tracks are used, none was trained on."""
    theirs = tiny_ast(
        label_list("audioset_527"), max_length=128, frequency_stride=16, time_stride=16
    )
    out = tmp_path / "out"
    import_checkpoint(str(save_ast(tmp_path / "hub", theirs)), out)
    for i, genre in enumerate(("Jazz", "Rock", "Folk")):
        (tmp_path / "songs" / genre).mkdir(parents=True)
        for k in range(12):
            sound = noise(2.0, seed=k) * 0.2 + tone(200.0 * (i + 1) + 7 * k, 2.0)
            (tmp_path / "songs" / genre / f"{k}.wav").write_bytes(encode(sound, 16_000))
    arguments = [str(out), str(tmp_path / "songs"), "--threads", "1"]
    result = CliRunner().invoke(app, ["calibrate", *arguments])
    assert result.exit_code == 0, result.output
    fitted = load_calibration(CheckpointFolder.open(out))
    assert (fitted.n_tracks, fitted.n_collections, len(fitted.means)) == (36, 0, 16)
    song = (tmp_path / "songs" / "Jazz" / "1.wav").read_bytes()
    answer = Pipeline.from_folder(out).classify(song, RequestOptions(coverage=0.9))
    assert answer.prediction_set is not None
    assert answer.model.calibrated
    assert sum(p.probability for p in answer.predictions) <= 1 + 1e-6
    report = ["--out", str(tmp_path / "report"), "--no-corruptions"]
    result = CliRunner().invoke(app, ["evaluate", *arguments, *report])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["rules", "fit", *arguments])
    assert result.exit_code == 0, result.output
