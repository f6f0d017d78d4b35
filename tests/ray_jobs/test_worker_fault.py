"""What is told of an error that Ray brings as text."""

import pytest

from worker_fault import worker_fault

RAISED = """\x1b[36mray::MapWorker(Map(Curator)).submit()\x1b[39m (pid=1, ip=192.0.2.2)
  File "/site-packages/ray/data/_internal/map_transformer.py", line 40, in apply
    yield from fn(blocks)
           ^^^^^^^^^^
ValueError: photos changed while it was prepared;
start again

The above exception was the direct cause of the following exception:

\x1b[36mray::MapWorker(Map(Curator)).submit()\x1b[39m (pid=1, ip=192.0.2.2)
ray.exceptions.UserCodeException: UDF failed to process a data block.
To change retry attempts, backoff, or which errors are retried, configure DataContext."""
CAUSED = """\x1b[36mray::MapWorker(Map(Spotter)).submit()\x1b[39m (pid=1, ip=192.0.2.2)
  File "/colorization/models/pretrained.py", line 30, in load_pretrained
    return dict(weights.get_state_dict(progress=False))
urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>

The above exception was the direct cause of the following exception:

\x1b[36mray::MapWorker(Map(Spotter)).submit()\x1b[39m (pid=1, ip=192.0.2.2)
  File "/colorization/mask_rcnn.py", line 40, in __init__
    state = load_pretrained(weights, OTHERWISE)
colorization.config.ConfigError: pretrained weights are not in torch's cache"""
WRAPPED = f"{CAUSED}\n\n{RAISED.partition(chr(10) * 2)[2]}"
BUILT = """The actor died because of an error raised in its creation task, \x1b[36mray::M()\x1b[39m
  File "/ray_jobs/instance_search.py", line 60, in __init__
    self._detector = MaskRCNNDetector()
colorization.config.ConfigError: pretrained weights are not in torch's cache"""
LOST = "The actor died unexpectedly before finishing this task.\n\tclass_name: MapWorker"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (RAISED, "ValueError: photos changed while it was prepared; start again"),
        (BUILT, "pretrained weights are not in torch's cache"),
        (CAUSED, "pretrained weights are not in torch's cache"),
        (WRAPPED, "pretrained weights are not in torch's cache"),
        (LOST, "The actor died unexpectedly before finishing this task. class_name: MapWorker"),
        ("", "RuntimeError"),
    ],
)
def test_it_is_what_was_raised_and_neither_its_cause_nor_rays_advice(
    told: str, expected: str
) -> None:
    assert worker_fault(RuntimeError(told)) == expected
