"""Uploads what a study's session and its trials were run in."""

import json
import logging
import time
from pathlib import Path

import torch

from colorization.distributed import Ranks
from colorization.surroundings import FOLDER, surroundings, write_surroundings
from past_study import SPACE_FILE
from run_labels import surroundings_tags
from tracking import Tracker

log = logging.getLogger(__name__)

ARTIFACTS = "provenance"  # MLflow's folder of them


def tell_driver(tracker: Tracker, study: Path) -> None:
    """Upload what this session of a study is run in, and the space that it searches."""
    found = surroundings(Ranks(0, 1, torch.device("cpu")))  # the driver computes on no GPU
    name = time.strftime("session-%Y%m%d-%H%M%S", time.gmtime())
    for path in write_surroundings(study / FOLDER, name, found):
        tracker.file(None, path, ARTIFACTS)
    tracker.file(None, study / SPACE_FILE, "")


class TrialProvenance:
    """Uploads what trials are trained in, once for each session of a trial."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._told: dict[int, Path] = {}  # trial -> its newest session that was told

    def tell(self, number: int, run: Path) -> None:
        """Upload what `fit` wrote into a trial's directory since the last call."""
        newest = max((run / FOLDER).glob("epoch-*.json"), default=None)
        if newest is None or self._told.get(number) == newest:
            return
        self._told[number] = newest
        for path in sorted((run / FOLDER).glob("epoch-*")):
            self._tracker.file(number, path, ARTIFACTS)
        try:
            tags = surroundings_tags(json.loads(newest.read_text(encoding="utf-8")))
        except OSError as error:  # its trial was trained all the same
            log.error("%s cannot be read: %s", newest, error)
            return
        self._tracker.tags(number, tags)
