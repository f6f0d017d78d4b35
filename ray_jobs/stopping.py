"""Early stopping in Tune's loop."""

from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from stopping_rules import StoppingRules

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class StoppingRule(FIFOScheduler):
    """Tune's scheduler over stopping rules; it remembers whom it stopped and why."""

    def __init__(self, rules: StoppingRules, metric: str) -> None:
        super().__init__()
        self.stopped: dict[int, str] = {}  # trial number -> reason
        self._rules = rules
        self._score = f"scores/{metric}"

    def on_trial_result(
        self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]
    ) -> str:
        """Decide after an epoch; epochs of stages that do not select carry no `selecting_epoch`.

        A trial in its last epoch is not stopped, but others are compared with it.
        """
        epoch = result.get("selecting_epoch")
        number = trial.config["number"]
        if epoch is None:
            return self.CONTINUE
        reason = self._rules.record(number, epoch, result[self._score])
        if reason is None or result["last"]:
            return self.CONTINUE
        self.stopped[number] = reason
        return self.STOP
