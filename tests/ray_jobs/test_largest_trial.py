"""Which of a space's experiments are estimated, and taken for the largest and the smallest."""

from pathlib import Path

from largest_trial import find_largest
from space import Space

SPACE = """
experiment:
  data: {source: {name: sample, crops: 4, scoring_crops: 2}, size: 64}
  model:
    name: cvae
    network: !choice
      - {name: naive, width: 64}
      - {name: unet, width: 4}
  train:
    batch_size: 2
    stages: {vae: {turns: vae, epochs: 1}}
"""


def test_without_any_time_the_large_typical_trial_is_not_taken_for_the_smallest(tmp_path: Path):
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    space = Space.read(file, "cvae")
    found = find_largest(space.validate(), space.typical(), seconds=0)
    assert found.experiment.model.model_dump()["network"]["name"] == "naive"
    assert found.smallest.model.model_dump()["network"]["name"] == "unet"
    assert found.smallest_size < found.size
    assert (found.estimated, found.kinds) == (2, 2)
