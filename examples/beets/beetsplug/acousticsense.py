"""A plugin for beets: `beet genres [QUERY]`, and on import where `auto` is set.

pluginpath: /path/to/examples/beets/beetsplug
plugins: acousticsense
acousticsense:
server: http://127.0.0.1:8000   # empty: the model runs in this process
min_confidence: 0.6
auto: no
overwrite: no
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from beets import ui
from beets.plugins import BeetsPlugin

from acousticsense import AcousticError, Classifier, Client


class AcousticSensePlugin(BeetsPlugin):
    """Writes a genre where the answer is sure enough, and nothing where it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.config.add({"server": "", "min_confidence": 0.6, "auto": False, "overwrite": False})
        if self.config["auto"].get(bool):
            self.import_stages = [lambda session, task: self.tag(task.imported_items())]

    def commands(self) -> list[Any]:
        """The command `beet genres`."""
        command = ui.Subcommand("genres", help="classify music by genre")
        command.func = lambda lib, options, words: self.tag(lib.items(words))
        return [command]

    def tag(self, items: Iterable[Any]) -> None:
        """Classify items of the library and store their genres."""
        overwrite = self.config["overwrite"].get(bool)
        wanted = [item for item in items if overwrite or not item.get("genres")]
        server = self.config["server"].as_str()
        limit = self.config["min_confidence"].as_number()
        with Client(server) if server else Classifier() as source:
            paths = [Path(item.filepath) for item in wanted]
            for item, result in zip(wanted, source.classify_many(paths), strict=True):
                if isinstance(result, AcousticError):
                    self._log.warning("{}: {}", item, result.message)
                elif not result.is_music or result.confidence < limit:
                    self._log.info("{}: unsure: {}", item, result)
                else:
                    item["genres"] = [result.genre]
                    item.store()
                    item.try_write()
                    self._log.info("{}: {}", item, result.genre)
