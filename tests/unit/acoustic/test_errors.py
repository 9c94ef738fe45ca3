"""Every error has a code, a status, a line in docs/errors.md, and survives pickling."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from acoustic.errors import AcousticError, OverloadedError
from deployments.http.errors import STATUS_BY_CODE
from tests.support.paths import ROOT


def family(cls: type[AcousticError]) -> Iterator[type[AcousticError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from family(child)


ALL = list(family(AcousticError))


def test_codes_are_unique_and_are_the_table() -> None:
    codes = [cls.code for cls in ALL]
    assert len(codes) == len(set(codes))
    assert set(codes) == set(STATUS_BY_CODE)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_it_survives_pickling_with_its_message(cls: type[AcousticError]) -> None:
    for copied in (
        pickle.loads(pickle.dumps(cls("too big: 3 > 2"))),
        copy.copy(cls("too big: 3 > 2")),
    ):
        assert type(copied) is cls
        assert copied.message == "too big: 3 > 2"


def test_extras_survive_pickling_as_well() -> None:
    error = pickle.loads(pickle.dumps(OverloadedError("busy", retry_after_s=7.0)))
    assert error.retry_after_s == 7.0


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_it_is_documented(cls: type[AcousticError]) -> None:
    documented = (ROOT / "docs" / "errors.md").read_text()
    assert f"| `{cls.code}` | {STATUS_BY_CODE[cls.code]} |" in documented
