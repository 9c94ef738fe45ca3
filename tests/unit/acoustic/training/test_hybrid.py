"""Training on a frozen trunk: maps, the linear head, what it teaches, and the whole job."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from torch import nn
from typer.testing import CliRunner

from acoustic.checkpoint_folder import TRAINING_FILE, CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint, save_checkpoint
from acoustic.classify.mobilenet import EMBEDDING, MUSIC_CLASSES, MobileNetStem, TagHead
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS, VitConfig
from acoustic.data.dataset import Clip
from acoustic.errors import ConfigError
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.training.augment import LIGHT
from acoustic.training.batches import BatchConfig, draw_weights
from acoustic.training.hybrid import fit_kind, teach, teaching_folds
from acoustic.training.linear_head import HybridConfig, fit_linear_head
from acoustic.training.maps import (
    CropMaps,
    CropSource,
    MapBatches,
    collect_maps,
    fit_projection,
)
from acoustic.training.read_musicnn import PREFIX
from acoustic.training.recipes import HYBRID
from acoustic.training.tag_prior import AUDIOSET_GENRES, start_from_tags
from acoustic.training.trunk import FRONTS, SCALING, TRUNK
from acousticsense.cli.main import app
from tests.support.clips import write_manifest
from tests.support.paths import ROOT
from tests.support.sounds import encode, noise, tone

SMALL = replace(VARIANTS["vit_hybrid"], depth=1, width=64, heads=1)
TWO_TRUNKS = replace(VARIANTS["vit_hybrid_musicnn"], depth=1, width=64, heads=1)


def made_clips(n: int, n_collections: int, n_classes: int = 2) -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(
            log_mel=rng.integers(0, 256, (64, 500), dtype=np.uint8),
            label=i % n_classes,
            split="train",
            group=f"artist {i // 2}",
            source="made",
            collection=f"c{i % n_collections}",
        )
        for i in range(n)
    ]


def source_of(clips: list[Clip], seed: int = 0) -> CropSource:
    return CropSource(
        [clip.log_mel for clip in clips], [], scaling=SCALING, n_frames=480, config=LIGHT, seed=seed
    )


def test_both_spectrograms_of_a_window_are_changed_by_the_same_draws() -> None:
    levels = np.random.default_rng(0).integers(100, 255, 400).astype(np.uint8)
    slope = np.linspace(0, 40, 64).astype(np.uint8)[:, None]
    first = np.minimum(levels, 200)[None] + slope
    log_mel = np.concatenate([first, first[::2]])  # as if half as many bands were above
    source = CropSource(
        [log_mel], [], scaling=FRONTS["vit_hybrid_musicnn"].scaling, n_frames=288, config=LIGHT,
        seed=3, blocks=(64, 32),
    )  # fmt: skip
    crops = source.draw(0, 8)
    assert crops.shape == (8, 1, 96, 288)
    for crop in crops[:, 0]:
        along_time = [part.mean(dim=0) for part in (crop[:64], crop[64:])]
        assert torch.corrcoef(torch.stack(along_time))[0, 1] > 0.98
        ends = [part[-4:].mean() - part[:4].mean() for part in (crop[:64], crop[64:])]
        assert abs(ends[0] - ends[1]) < 0.35  # nepers: the same tilt
    assert not torch.equal(crops[6], crops[7])


def test_the_first_half_of_the_crops_is_not_augmented() -> None:
    clips = made_clips(1, 1)
    crops = source_of(clips).draw(0, 6)
    assert crops.shape == (6, 1, 64, 480)
    whole = clips[0].log_mel.astype(np.float32) / 255 * 80 - 80
    places = [whole[:, start : start + 480] for start in range(21)]
    found = [
        any(
            torch.allclose(SCALING.scale_db(torch.from_numpy(p - p.max()))[None], crop, atol=1e-4)
            for p in places
        )
        for crop in crops
    ]
    assert found == [True] * 3 + [False] * 3
    assert torch.equal(crops, source_of(clips).draw(0, 6))
    assert not torch.equal(crops, source_of(clips, seed=1).draw(0, 6))


def test_the_projection_holds_the_principal_components() -> None:
    torch.manual_seed(0)
    stem = MobileNetStem(8, 32)
    hidden = torch.randn(400, 12) * torch.linspace(3, 0.1, 12)
    rows = hidden @ torch.randn(12, EMBEDDING)
    fit_projection(stem, rows)
    with torch.no_grad():
        tokens = stem.project(rows)
    covariance = torch.cov(tokens.T)
    deviations = covariance.diagonal().sqrt()
    assert deviations[0] == pytest.approx(4, rel=1e-3)
    assert (deviations[:-1] >= deviations[1:]).all()
    assert (covariance - covariance.diagonal().diag()).abs().max() < 0.02
    assert tokens.mean(dim=0).abs().max() < 1e-3


@pytest.mark.parametrize("is_new", [True, False])
def test_scales_are_fitted_to_a_new_model_only(is_new: bool) -> None:
    torch.manual_seed(0)
    stem, tags = MobileNetStem(8, 32).eval(), TagHead(2).eval()
    before = {k: v.clone() for k, v in stem.state_dict().items()}
    clips = made_clips(6, 3)
    maps = collect_maps(stem, tags, source_of(clips), "fp32", fit=is_new)
    assert maps.tokens.shape == (72, 30, 8)
    assert maps.clip.tolist() == [i // 12 for i in range(72)]
    changed = {k for k, v in stem.state_dict().items() if not torch.equal(v, before[k])}
    fitted = {"standard.mean", "standard.deviation", "proj.weight", "proj.bias"}
    assert changed == (fitted if is_new else set())
    if is_new:
        assert maps.features.mean(dim=0).abs().max() < 0.3


def problem(n: int = 120) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, 20, generator=generator)
    labels = (features[:, 0] + 0.5 * torch.randn(n, generator=generator) > 0).long()
    return features, nn.functional.one_hot(labels, 2).float(), torch.rand(n, generator=generator)


def zero_head(n_features: int, n_classes: int) -> nn.Linear:
    head = nn.Linear(n_features, n_classes)
    nn.init.zeros_(head.weight)
    return head


def test_the_linear_head_is_the_solution_that_scikit_learn_finds() -> None:
    features, target, weights = problem()
    head = zero_head(20, 2)
    fit_linear_head(head, features, target, weights, penalty=0.1)
    shares = (weights / weights.sum()).numpy()
    # sklearn: C Σ w loss + |v|² / 2 of v = w₁ − w₀; two rows ±v/2 cost |v|² / 4: C = 1 / (λ / 2)
    reference = LogisticRegression(C=2 / 0.1, tol=1e-8).fit(
        features.numpy(), target.argmax(dim=1).numpy(), sample_weight=shares
    )
    found = (head.weight[1] - head.weight[0]).detach().numpy()
    np.testing.assert_allclose(found, reference.coef_[0], atol=2e-3)


def test_the_penalty_draws_the_head_to_what_it_knows() -> None:
    features, target, weights = problem()
    start = torch.randn(2, 20)
    distances = []
    for penalty in (0.01, 1.0, 100.0):
        head = nn.Linear(20, 2)
        with torch.no_grad():
            head.weight.copy_(start)
        fit_linear_head(head, features, target, weights, penalty)
        distances.append((head.weight - start).norm().item())
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.02


def test_features_that_are_not_finite_are_an_error() -> None:
    features, target, weights = problem()
    features[3, 4] = torch.nan
    with pytest.raises((ConfigError, RuntimeError)):
        fit_linear_head(zero_head(20, 2), features, target, weights, 0.1)


def test_folds_divide_no_group_and_no_small_collection() -> None:
    clips = made_clips(100, 25)
    folds = teaching_folds(clips)
    for name in {clip.collection for clip in clips}:
        assert len({f for f, c in zip(folds, clips, strict=True) if c.collection == name}) == 1
    one = teaching_folds([replace(clip, collection="large") for clip in clips])
    assert set(one) == {0, 1, 2, 3}
    assert all(one[i] == one[i + 1] for i in range(0, 100, 2))  # artists of two


def made_maps(clips: list[Clip], n_outliers: int = 0) -> CropMaps:
    generator = torch.Generator().manual_seed(1)
    n = len(clips) + n_outliers
    labels = torch.tensor([clip.label for clip in clips] + [0] * n_outliers)
    features = torch.randn(2 * n, 10, generator=generator)
    features[:, 0] += 2 * labels.repeat_interleave(2)
    return CropMaps(
        clip=np.repeat(np.arange(n), 2),
        augmented=np.tile([False, True], n),
        features=features,
        tokens=torch.randn(2 * n, 4, 8, generator=generator).half(),
    )


def test_the_answers_that_teach_know_nothing_of_their_own_labels() -> None:
    clips = made_clips(80, 40)
    maps = made_maps(clips, n_outliers=3)
    head = zero_head(10, 2)
    target = teach(head, maps, clips, HYBRID, 2)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(len(target)))
    fold = teaching_folds(clips)
    inside = fold == fold[0]
    flipped = [
        replace(clip, label=1 - clip.label) if each else clip
        for clip, each in zip(clips, inside, strict=True)
    ]
    other = teach(zero_head(10, 2), maps, flipped, HYBRID, 2)
    rows = np.repeat(inside, 2)
    taught = HYBRID.hybrid.taught
    own = target[: len(rows)][rows] - (1 - taught) * _one_hot(clips, rows)
    again = other[: len(rows)][rows] - (1 - taught) * _one_hot(flipped, rows)
    torch.testing.assert_close(own, again, atol=2e-2, rtol=0)
    # non-music is answered by all heads, and mixed with the uniform distribution
    assert (target[-6:].min(dim=1).values >= (1 - taught) / 2 - 1e-6).all()


def _one_hot(clips: list[Clip], rows: np.ndarray) -> torch.Tensor:
    labels = torch.tensor([clip.label for clip in clips]).repeat_interleave(2)
    return nn.functional.one_hot(labels, 2).float()[rows]


def test_music_is_told_from_other_sounds_however_few_those_are() -> None:
    clips = made_clips(80, 40)
    maps = made_maps(clips, n_outliers=4)
    features = maps.features.clone()
    features[-8:, 5] += 6
    kind = zero_head(10, 2)
    fit_kind(kind, replace(maps, features=features), clips, HYBRID)
    other, music = kind(features).unbind(1)
    assert (music > other)[:-8].float().mean() > 0.95
    assert (music < other)[-8:].all()


def test_augmented_crops_count_less_for_the_linear_head() -> None:
    """Their features say the opposite here: the head follows those that are as they were."""
    clips = made_clips(80, 40)
    maps = made_maps(clips)
    features = maps.features.clone()
    features[1::2, 0] = 2 - features[1::2, 0]
    maps = replace(maps, features=features)

    def right(augmented: float) -> float:
        head = zero_head(10, 2)
        recipe = replace(HYBRID, hybrid=replace(HYBRID.hybrid, augmented=augmented))
        teach(head, maps, clips, recipe, 2)
        labels = torch.tensor([clip.label for clip in clips])
        return float((head(features[0::2]).argmax(dim=1) == labels).float().mean())

    assert right(0.1) > 0.8 > right(1.0)


def test_a_new_head_starts_at_the_names_that_audioset_has() -> None:
    labels = LabelSet([Label(name="EDM"), Label(name="Polka"), Label(name="jazz")])
    head = zero_head(EMBEDDING + len(MUSIC_CLASSES), 3)
    start_from_tags(head, labels, 2.0)
    assert not head.weight[1].any()
    assert not head.weight[:, :EMBEDDING].any()
    torch.testing.assert_close(head.weight.sum(dim=1), torch.tensor([2.0, 0.0, 2.0]))
    place = EMBEDDING + MUSIC_CLASSES.index(230)  # "Jazz"
    assert head.weight[2, place] == 1.0


def test_the_classes_of_a_genre_are_those_of_the_label_map(data_folder: Path) -> None:
    path = data_folder / "teachers" / "yamnet_class_map.csv"
    if not path.exists():
        pytest.skip("needs YAMNet's list of classes")
    with path.open() as file:
        names = {int(row["index"]): row["display_name"] for row in csv.DictReader(file)}
    genres = yaml.safe_load((ROOT / "configs" / "labels" / "audioset.yaml").read_text())["genres"]
    expected: dict[str, set[int]] = {}
    for number, name in names.items():
        if name in genres:
            expected.setdefault(genres[name], set()).add(number)
    assert {name: set(classes) for name, classes in AUDIOSET_GENRES.items()} == expected


def test_a_genre_of_one_fold_keeps_its_labels() -> None:
    clips = made_clips(40, 20)
    clips += [replace(clips[0], label=2, collection="alone", group="alone") for _ in range(4)]
    target = teach(zero_head(10, 3), made_maps(clips), clips, HYBRID, 3)
    torch.testing.assert_close(target[-8:], nn.functional.one_hot(torch.full((8,), 2), 3).float())


def test_batches_of_tokens_are_functions_of_seed_and_step() -> None:
    clips = made_clips(40, 20)
    maps = made_maps(clips, n_outliers=4)
    target = torch.eye(2)[
        torch.tensor([*(c.label for c in clips), 0, 0, 0, 0]).repeat_interleave(2)
    ]
    config = BatchConfig(batch_size=20, outlier_ratio=0.2, mixup_alpha=0.0)
    batches = MapBatches(maps, clips, target, config=config, seed=3)
    batch = batches.draw(5)
    assert batch.x.shape == (20, 4, 8)
    assert torch.equal(batch.x, batches.draw(5).x)
    assert not torch.equal(batch.x, batches.draw(6).x)
    known = maps.tokens.float()
    rows = [int((known == x).all(dim=(1, 2)).nonzero()[0, 0]) for x in batch.x]
    assert all(row < 80 for row in rows[:16])
    assert all(row >= 80 for row in rows[16:])
    assert [each.step for each in batches.stream(2, 5)] == [2, 3, 4]


def test_a_large_collection_does_not_define_a_genre() -> None:
    clips = [
        replace(made_clips(1, 1)[0], label=0, collection=name)
        for name, n in (("large", 90), ("small", 10))
        for _ in range(n)
    ]
    for power, share in ((1.0, 0.9), (0.5, 0.75), (0.0, 0.5)):
        weights = draw_weights(clips, BatchConfig(collection_balance=power))
        assert weights[:90].sum() == pytest.approx(share)


@pytest.mark.parametrize("settings", [{"penalty": 0.0}, {"kind_penalty": 0.0}, {"taught": 1.1}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        HybridConfig(**settings)


def music(root: Path, genres: tuple[str, str], n: int = 24) -> Path:
    """Tones and noises of 7 s, of twelve collections."""
    rows = []
    root.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        sound = tone(300 + 10 * i, 7.0) if i % 2 else noise(7.0, level=0.3, seed=i)
        (root / f"{i}.wav").write_bytes(encode(sound, 22_050))
        rows.append({"file": f"{i}.wav", "genre": genres[i % 2], "label": f"shop {i // 2}"})
    write_manifest(root, rows)
    return root


def random_hybrid(config: VitConfig) -> VisionTransformer:
    """A model whose random trunk keeps the size of its input from layer to layer."""
    torch.manual_seed(0)
    model = VisionTransformer(config)
    with torch.no_grad():
        for layer in cast(MobileNetStem, model.patch_embed).trunk.layers:
            cast(nn.Conv2d, layer).weight.mul_(6**0.5)  # torch's default is made for other layers
    return model


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("variant", "config", "pretrained"),
    [("vit_hybrid", SMALL, TRUNK), ("vit_hybrid_musicnn", TWO_TRUNKS, (*TRUNK, PREFIX))],
)
def test_from_a_trunk_to_a_checkpoint_and_on_to_other_genres(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    config: VitConfig,
    pretrained: tuple[str, ...],
) -> None:
    monkeypatch.setitem(VARIANTS, variant, config)
    front = FRONTS[variant]
    trunk = tmp_path / "trunk"
    save_checkpoint(
        trunk, name="trunk", version="0", model=random_hybrid(config), labels=GENRES,
        mel=front.mel, scaling=front.scaling,
    )  # fmt: skip
    second = ("--musicnn", trunk) if config.musicnn else ()
    data = music(tmp_path / "music", ("Jazz", "Metal"))
    out = tmp_path / "duo"
    output = run(
        "train", data, "--collection", "label", "--variant", variant, "--trunk", trunk, *second,
        "--out", out, "--crops", 1920, "--threads", 1,
    )  # fmt: skip
    assert "6 of 6 valid recordings are of 3 collections that were not trained on." in output
    assert "--collection label" in output
    made = load_checkpoint(CheckpointFolder.open(out))
    assert (made.manifest.mel, made.scaling) == (front.mel, front.scaling)
    before = load_checkpoint(CheckpointFolder.open(trunk)).model.state_dict()
    after = made.model.state_dict()
    kept = [name for name in before if name.startswith(pretrained)]
    assert len(kept) == 56 + 43 * config.musicnn
    for name in kept:  # float16 in the file
        torch.testing.assert_close(after[name], before[name], atol=1e-3, rtol=1e-3)
    facts = json.loads((out / TRAINING_FILE).read_text())
    assert len(facts["train_collections"]) == 12 - facts["n_valid"] // 2
    assert facts["history"][-1]["accuracy"] == 1.0

    other = music(tmp_path / "other", ("Hum", "Hiss"))
    run("train", other, "--from", out, "--out", tmp_path / "tuned", "--crops", 960, "--threads", 1)
    tuned = load_checkpoint(CheckpointFolder.open(tmp_path / "tuned"))
    assert set(tuned.manifest.labels.names) == {"Hum", "Hiss"}
    stem = tuned.model.state_dict()
    torch.testing.assert_close(stem["patch_embed.proj.weight"], after["patch_embed.proj.weight"])
    facts = json.loads((tmp_path / "tuned" / TRAINING_FILE).read_text())
    assert facts["history"][-1]["accuracy"] == 1.0
    assert len(facts["train_collections"]) > 1
