"""One stage of a run, from its restart to its last epoch: the training loop itself."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from colorization.color import bytes_to_ab, rgb_to_lab
from colorization.color_statistics import color_statistics
from colorization.data import PictureSet, TrainingLoader
from colorization.data.picture_sets import ColorStatistics
from colorization.distributed import (
    Ranks,
    broadcast_weights,
    mean_over_ranks,
    replicate,
    share_batch_statistics,
)
from colorization.ema import AveragedWeights
from colorization.experiment import Experiment, Stage, build_model, without_pretrained
from colorization.loss_log import LossLog
from colorization.memory_saving import checkpoint_activations
from colorization.micro_batches import (
    add_gradients,
    average_gradients,
    check_micro_batches,
)
from colorization.models.colorizer import Progress, Turn
from colorization.optimizers import adopt, build_optimizers, clip_gradients, freeze

log = logging.getLogger(__name__)


class StageRun:
    """The networks, optimizers and pictures of one stage.

    A stage's start is a restart: the model is built, loaded from the checkpoint, parts are frozen,
    averaged weights copied, networks replicated and optimizers built, in this order, for what is
    trainable is fixed at replication. Where a batch is computed in parts, networks are not
    replicated, and the ranks average the gradients of all parts at once.
    """

    def __init__(
        self,
        experiment: Experiment,
        name: str,
        stage: Stage,
        pictures: PictureSet,
        ranks: Ranks,
        state: dict[str, Any] | None,
        *,
        resumed: bool,
        statistics: ColorStatistics | None = None,
    ) -> None:
        """Prepare to train; `statistics` are those of the pictures, measured here if unknown.

        Raises ConfigError for batches that cannot be shared by the ranks, or parted, equally.
        """
        train = experiment.train
        self.experiment, self.name, self.stage, self.ranks = experiment, name, stage, ranks
        self.data = TrainingLoader(
            pictures,
            experiment.data,
            batch_size=train.batch_size,
            seed=train.seed,
            rank=ranks.rank,
            world_size=ranks.size,
        )
        check_micro_batches(train.micro_batches, train.batch_size // ranks.size)
        steps_an_epoch = len(self.data)
        self.steps = stage.steps or (stage.epochs or 0) * steps_an_epoch
        self.epochs = math.ceil(self.steps / steps_an_epoch)
        self.pictures_last_epoch = 0

        self.model = build_model(without_pretrained(experiment) if state else experiment)
        if state:
            self.model.load_state_dict(state["model"])
        self.model.to(ranks.device)
        if train.channels_last:
            self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if state is None and self.model.standardizes:
            if statistics and min(statistics.deviation) > 0:
                measured = torch.tensor(statistics.mean), torch.tensor(statistics.deviation)
            else:
                measured = color_statistics(pictures, experiment, ranks)
            self.model.standardize(*measured)
        share_batch_statistics(self.model, ranks)  # puts other norms in place: before any is frozen
        self._frozen = freeze(self.model, (*stage.freeze, *self.model.idle(stage.turns)))
        networks = {player: self.model.get_submodule(player) for player in self.model.players}
        self._averages = None
        if train.ema > 0:
            training_only = self.model.training_only
            colorizing = {p: network for p, network in networks.items() if p not in training_only}
            self._averages = AveragedWeights(colorizing, train.ema)
            if state and state["averages"]:
                self._averages.load_state_dict(state["averages"])
        if train.activation_checkpointing:
            checkpoint_activations(self.model)
        for network in networks.values():
            if train.compile:
                network.compile()
            if train.micro_batches == 1:
                replicate(network, ranks)
            else:
                broadcast_weights(network, ranks)
        self.optimizers = build_optimizers(self.model, train)
        if state and (resumed or stage.optimizers == "keep"):
            for player in self.optimizers.keys() & state["optimizers"].keys():
                adopt(self.optimizers[player], state["optimizers"][player])
        self._base_rates = {p: o.param_groups[0]["lr"] for p, o in self.optimizers.items()}

    def train_epoch(self, stage_epoch: int, epoch: int) -> dict[str, float]:
        """Train one epoch, `stage_epoch` of this stage and `epoch` of the run (from 0).

        Returns the mean of each term of the losses, and as `train/loading_share` the share of the
        time, 0 to 1, for which a rank waited for pictures (while a GPU may have gone on computing).
        Raises Diverged.
        """
        self.set_modes()
        losses = LossLog(self.name, epoch + 1, self.ranks)
        first_step = stage_epoch * len(self.data)
        self.pictures_last_epoch = 0
        unreadable: set[str] = set()
        batches = self.data.epoch(epoch)
        waited, started = 0.0, time.perf_counter()
        for step in range(first_step, min(first_step + len(self.data), self.steps)):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            for turn in self.step(self.to_lab(batch.rgb, batch.colored), step):
                losses.add(step, turn)
            self.pictures_last_epoch += len(batch.rgb) * self.ranks.size
            unreadable.update(batch.unreadable)
        if unreadable:
            log.warning(
                "epoch %d: unreadable, others trained on in their place: %s",
                epoch + 1,
                ", ".join(sorted(unreadable)),
            )
        terms = losses.means()  # waits for the device: only now the epoch is over
        share = waited / (time.perf_counter() - started)
        both = torch.tensor([len(unreadable), share], device=self.ranks.device)
        count, share = mean_over_ranks(both, self.ranks).tolist()
        terms |= {"train/unreadable": count * self.ranks.size, "train/loading_share": share}
        return terms

    def set_modes(self) -> None:
        """Put the model into training mode, what rests into evaluation mode."""
        self.model.train()
        for part in self._frozen:
            part.eval()

    def to_lab(self, rgb: Tensor, colored: Tensor | None = None) -> Tensor:
        """Convert a batch where it is trained on: receiving four times as many bytes from a loader
        process takes longer than converting them. Colors that parts have already are two channels
        more, for a model that sees them."""
        lab = rgb_to_lab(rgb.to(self.ranks.device, non_blocking=True))
        if colored is not None and self.model.sees_colors:
            there = bytes_to_ab(colored.to(self.ranks.device, non_blocking=True))
            lab = torch.cat([lab, there], dim=1)
        channels_last = self.experiment.train.channels_last
        return lab.contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )

    def step(self, lab: Tensor, step: int) -> Iterator[Turn]:
        """Train a step on this rank's share of scaled Lab pictures; yield the turns behind it."""
        train = self.experiment.train
        factor = train.schedule.factor(step, self.steps)
        for player, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = self._base_rates[player] * factor
        for turn in self.gradients(lab, step):
            optimizer = self.optimizers[turn.player]
            if train.gradient_clip is not None:
                clip_gradients(optimizer, train.gradient_clip)
            optimizer.step()
            yield turn
        if self._averages:
            self._averages.update()

    def gradients(self, lab: Tensor, step: int) -> Iterator[Turn]:
        """Yield the turns of a step, each when its player's gradients are those of all ranks.

        Players that rest whole are left out. Before the next turn is asked for, the player may
        move; the turns have no graph.
        """
        progress = Progress(self.stage.turns, step, self.steps)
        parts = self.experiment.train.micro_batches
        turns = [self._turns(part, progress) for part in lab.chunk(parts)]
        while turn := add_gradients(self.model, turns, self.optimizers):
            if turn.player not in self.optimizers:
                continue
            if parts > 1:
                average_gradients(self.model.get_submodule(turn.player), self.ranks)
            yield turn

    def _turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        """Ask for turns under autocast; what is done with a turn happens outside of it."""
        turns = self.model.turns(lab, progress)
        while True:
            with autocast(self.experiment, self.ranks.device):
                turn = next(turns, None)
            if turn is None:
                return
            yield turn

    def colorizing_weights(self) -> AbstractContextManager[None]:
        """Let the model hold the weights that colorize (the averaged ones, if any) for a while."""
        return self._averages.in_place() if self._averages else nullcontext()

    def state(self) -> dict[str, Any]:
        """Return what the next restart needs."""
        return {
            "model": self.model.state_dict(),
            "optimizers": {p: o.state_dict() for p, o in self.optimizers.items()},
            "averages": self._averages.state_dict() if self._averages else None,
        }


@contextmanager
def autocast(experiment: Experiment, device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 where the experiment says so, or says auto and the processor can."""
    precision = experiment.train.precision
    bfloat16 = precision == "bfloat16" or (precision == "auto" and computes_bfloat16(device))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        yield


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # newer than torch 2.11
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
