"""What is said where a winner cannot be handed over."""

from types import SimpleNamespace
from typing import Any

import pytest

from colorization.config import ConfigError
from handover import _run_id


def test_a_run_that_mlflow_never_got_is_told_without_the_password():
    tracker: Any = SimpleNamespace(
        tracking_uri="http://me:secret@host:5000", run_id=lambda number: None
    )
    with pytest.raises(ConfigError, match=r"http://me:\*\*\*@host:5000 has no run of trial 3"):
        _run_id(tracker, 3, patience=0)
