import copy
import math

import torch

from colorization.distributed import Ranks
from colorization.surroundings import surroundings
from drift import Drift, differences, drifts, largest


def test_equal_numbers_have_no_drift_not_a_number_and_infinity_among_them() -> None:
    for value in (0.0, 1.5, math.nan, math.inf, -math.inf):
        drift = Drift(1, "psnr", value, value)
        assert drift.absolute == drift.relative == 0


def test_drift_is_a_distance_and_a_share_of_the_number_then() -> None:
    drift = Drift(1, "psnr", 20.0, 21.0)
    assert (drift.absolute, drift.relative) == (1.0, 0.05)
    assert Drift(1, "x", 0.0, 1.0).relative == math.inf
    assert Drift(1, "x", 1.0, math.nan).absolute == math.inf


def test_what_tells_of_the_machine_is_not_compared_and_what_is_missing_drifts() -> None:
    then = {"psnr": 20.0, "fid": 3.0, "seconds": 1.0, "system/disk_usage_percentage": 3.0}
    found = drifts(2, then, {"psnr": 20.0, "seconds": 2.0, "ssim": 0.5})
    assert [drift.name for drift in found] == ["psnr", "fid"]
    worst = largest(found)
    assert worst is not None
    assert worst.name == "fid"


def test_the_largest_is_the_relatively_largest() -> None:
    found = [Drift(1, "a", 100.0, 101.0), Drift(2, "b", 0.1, 0.2), Drift(3, "c", 1.0, 1.0)]
    assert largest(found) == found[1]
    assert largest(found[2:]) is None


def test_differing_surroundings_are_named_and_when_and_where_are_not() -> None:
    now = surroundings(Ranks(0, 1, torch.device("cpu")))
    then = copy.deepcopy(now)
    assert differences(then, now) == []
    assert differences({**then, "environment": {}}, {**now, "environment": {}}) == []
    then["time"] = "earlier"
    then["machines"][0]["host"] = "another"
    assert differences(then, now) == []
    then["torch"]["threads"] = 99
    then["packages"]["torch"] = "0.1"
    then["environment"]["OMP_NUM_THREADS"] = "98"
    then["machines"][0]["cpu"] = "Z80"
    then["ranks"] = 2
    then["code"] = {"commit": "1234", "diff_hash": "", "untracked": ["new.py"]}
    found = {difference.what: difference for difference in differences(then, now)}
    assert found["torch.threads"].then == "99"
    assert found["package torch"].then == "0.1"
    assert found["environment.OMP_NUM_THREADS"].then == "98"
    assert found["machine.cpu"].then == "Z80"
    assert found["ranks"].now == "1"
    assert found["commit"].then == "1234"
    assert found["files not in git"].then == "new.py"
