import os

import pytest

from colorization.worker_pool import Died, work_off
from pool_work import squares


def test_tasks_are_worked_off_by_other_processes() -> None:
    found: dict[int, list[int]] = {}
    for task, answer in work_off(squares, (1,), range(8), 2):
        assert isinstance(answer, int)
        found.setdefault(task, []).append(answer)
    assert {task: answers[0] for task, answers in found.items()} == {
        task: task**2 + 1 for task in range(8)
    }
    processes = {answers[1] for answers in found.values()}
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes


def test_a_process_that_dies_costs_its_task_alone() -> None:
    answers = list(work_off(squares, (0,), [1, 13, 2, 3], 1))
    assert [answer for task, answer in answers if task == 13] == [Died(-9)]
    assert str(Died(-9)) == "its process was ended by SIGKILL"
    assert [task for task, _ in answers] == [1, 1, 13, 2, 2, 3, 3]


def test_what_a_worker_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="planted"):
        list(work_off(squares, (0,), [1, 14, 2], 2))
