"""Files that say how a library joins, renames and leaves out genres."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from acoustic.errors import ConfigError
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.taxonomy import Taxonomy
from deployments.strict import parse_strict, read_yaml

SUFFIXES = (".yaml", ".yml")
"""Endings by which a file is told from the name of a taxonomy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaxonomyFile:
    """Content of a file of a taxonomy, whose name is the file's.

    Attributes:
        genres: genre of the library → genres of the model that it joins.
        drop: genres of the model that the library does not have.
    """

    genres: dict[str, tuple[str, ...]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()


def load_taxonomy(path: Path) -> Taxonomy:
    """The taxonomy of a YAML file, named as the file without its ending.

    Raises:
        ConfigError: unreadable, an unknown key, a wrong type, or a genre that is named twice.
    """
    content = parse_strict(TaxonomyFile, read_yaml(path), path.name)
    try:
        return Taxonomy(name=path.stem, genres=content.genres, drop=content.drop)
    except ValueError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def load_taxonomies(folder: Path) -> tuple[Taxonomy, ...]:
    """All taxonomies of a folder, by name.

    Raises:
        ConfigError: there is no such folder, or a file cannot be used.
    """
    if not folder.is_dir():
        raise ConfigError(f"taxonomies: {folder} is not a folder")
    return tuple(load_taxonomy(path) for path in sorted(folder.glob("*.yaml")))


def with_taxonomy(config: PostprocessConfig, taxonomy: str) -> PostprocessConfig:
    """The settings with one more taxonomy, where it is given as a file and not by its name.

    Raises:
        ConfigError: the file cannot be used.
    """
    if not taxonomy.endswith(SUFFIXES):
        return config
    found = load_taxonomy(Path(taxonomy))
    others = (each for each in config.taxonomies if each.name != found.name)
    return replace(config, taxonomies=(*others, found))


def taxonomy_name(taxonomy: str) -> str:
    """The name by which a request asks for a taxonomy that is given by name or as a file."""
    return Path(taxonomy).stem if taxonomy.endswith(SUFFIXES) else taxonomy
