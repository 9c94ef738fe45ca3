"""Records of this project go to the handlers of Serve's logger, at its level."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from deployments.telemetry.logs import OURS, SERVE_LOGGER, use_serve_logger


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Handler of Serve's logger; the loggers are restored afterwards."""
    serve = logging.getLogger(SERVE_LOGGER)
    parents = {name: logging.getLogger(name).parent for name in OURS}
    level, propagate, handler = serve.level, serve.propagate, Kept()
    serve.addHandler(handler)
    serve.setLevel(logging.INFO)
    serve.propagate = False
    yield handler
    serve.removeHandler(handler)
    serve.setLevel(level)
    serve.propagate = propagate
    for name, parent in parents.items():
        logging.getLogger(name).parent = parent


@pytest.mark.parametrize("name", [*OURS, "acoustic.preprocess.cache", "deployments.stages.x"])
def test_records_of_every_module_reach_serves_handlers(kept: Kept, name: str) -> None:
    use_serve_logger()
    logging.getLogger(name).info("code=%s", "x")
    assert kept.messages() == ["code=x"]


def test_before_the_call_nothing_is_routed(kept: Kept) -> None:
    for name in OURS:
        logging.getLogger(name).parent = logging.getLogger()
    logging.getLogger("acoustic.x").warning("lost")
    assert kept.messages() == []


def test_serves_level_applies_and_may_change(kept: Kept) -> None:
    use_serve_logger()
    log = logging.getLogger("deployments.level")
    log.debug("hidden")
    logging.getLogger(SERVE_LOGGER).setLevel(logging.DEBUG)
    log.debug("shown")
    logging.getLogger(SERVE_LOGGER).setLevel(logging.ERROR)
    log.warning("hidden again")
    assert kept.messages() == ["shown"]


def test_a_second_call_does_not_double_the_records(kept: Kept) -> None:
    use_serve_logger()
    use_serve_logger()
    logging.getLogger("acoustic").info("once")
    assert kept.messages() == ["once"]


def test_other_libraries_keep_their_loggers(kept: Kept) -> None:
    use_serve_logger()
    logging.getLogger("uvicorn.x").warning("not ours")
    logging.getLogger("acousticsense_other").warning("not ours")
    assert kept.messages() == []
