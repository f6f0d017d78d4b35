import json
from collections.abc import Callable

from colorization.config import dump, flatten
from colorization.data import DataConfig, open_data
from colorization.experiment import Experiment, Stage
from data_card import open_study_data

MakeTiny = Callable[..., Experiment]

OTHER = {"data.source": {"name": "sample", "crops": 24, "scoring_crops": 8}}
STAGES = {
    "warm_up": {"turns": "l1", "epochs": 1, "select": False, "change": OTHER},
    "mirrored": {"turns": "l1", "epochs": 1, "change": {"data.flip": False}},
    "adversarial": {"turns": "adversarial", "epochs": 1},
}


def test_parameters_tell_hash_counts_and_split_of_the_run_and_of_stages_with_other_pictures(
    tiny: MakeTiny,
):
    experiment = tiny(stages=STAGES)
    sets, data = open_study_data(experiment)
    other = open_data(experiment.at("warm_up").data)
    assert sets.fingerprint != other.fingerprint
    assert data.params == {
        "data.hash": sets.fingerprint,
        "data.counts.train": len(sets.train),
        "data.counts.validation": len(sets.validation),
        "data.counts.test": len(sets.test),
        "data.split": sets.description,
        "train.stages.warm_up.data.hash": other.fingerprint,
        "train.stages.warm_up.data.counts.train": 24,
        "train.stages.warm_up.data.counts.validation": 8,
        "train.stages.warm_up.data.counts.test": 8,
        "train.stages.warm_up.data.split": other.description,
    }
    assert data.hashes == {"": sets.fingerprint, "warm_up": other.fingerprint}


def test_no_parameter_of_the_data_has_the_key_of_a_setting(tiny: MakeTiny):
    experiment = tiny(stages=STAGES)
    _, data = open_study_data(experiment)
    assert not data.params.keys() & flatten(dump(experiment)).keys()
    assert not {"hash", "counts", "split"} & DataConfig.model_fields.keys()
    assert "data" not in Stage.model_fields


def test_datasets_are_told_apart_by_name_and_carry_hash_source_and_count(tiny: MakeTiny):
    experiment = tiny(stages=STAGES)
    sets, data = open_study_data(experiment)
    found = data.inputs("train", "validation", "test")
    assert [(one["name"], one["context"]) for one in found] == [
        ("sample-train", "training"),
        ("sample-validation", "validation"),
        ("sample-test", "test"),
        ("sample-train", "training"),  # of the stage
    ]
    assert len({(one["name"], one["digest"]) for one in found}) == 4
    assert found[0]["digest"] == sets.fingerprint
    assert json.loads(found[0]["source"]) == dump(experiment.data.source)
    assert json.loads(found[3]["source"])["crops"] == 24
    assert json.loads(found[3]["profile"])["pictures"] == 24


def test_a_trial_is_not_said_to_read_pictures_of_stages_that_it_does_not_play(tiny: MakeTiny):
    _, data = open_study_data(tiny(stages=STAGES))
    without = tiny(stages={**STAGES, "warm_up": {**STAGES["warm_up"], "epochs": 0}})
    assert data.of_trial(without).hashes.keys() == {""}
    assert data.of_trial(tiny(stages=STAGES)) == data
