"""Results as a pandas table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from acoustic.errors import AcousticError
from acoustic.prediction import Prediction, result_row

if TYPE_CHECKING:
    import pandas as pd


def to_frame(results: Iterable[Prediction | AcousticError]) -> pd.DataFrame:
    """One line per result, with the columns of the CSV output.

    Args:
        results: as `Classifier.classify_many` yields them; of an error only `file` (where it is
            known), error_code and error_message are filled.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    import pandas as pd

    return pd.DataFrame([result_row(each.file, each) for each in results])
