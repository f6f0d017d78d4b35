import json
import tracemalloc
from pathlib import Path

import pytest

from colorization.config import ConfigError
from event_queue import EventQueue
from full_disk import full_disk


def open_queue(folder: Path, messages: list[str] | None = None) -> EventQueue:
    return EventQueue(folder, (messages if messages is not None else []).append)


def take(queue: EventQueue) -> list[int]:
    """Send all that waits; return the steps."""
    steps = []
    while waiting := queue.first(timeout=0):
        steps.append(waiting.event["step"])
        queue.sent()
    return steps


def append(queue: EventQueue, *steps: int) -> None:
    for step in steps:
        queue.append({"kind": "metrics", "id": f"0/{step}", "step": step})


def test_what_was_not_sent_waits_in_order_after_a_restart(tmp_path):
    queue = open_queue(tmp_path)
    append(queue, 1, 2, 3)
    assert queue.first(timeout=0) == queue.first(timeout=0)
    queue.sent()
    queue.remember()
    queue.close()
    again = open_queue(tmp_path)
    append(again, 4)
    assert len(again) == 3
    assert take(again) == [2, 3, 4]


def test_an_event_with_a_known_id_is_dropped_whether_sent_or_not_and_after_a_restart(tmp_path):
    queue = open_queue(tmp_path)
    append(queue, 1, 1)
    assert take(queue) == [1]
    append(queue, 1, 2)
    queue.remember()
    queue.close()
    again = open_queue(tmp_path)
    append(again, 1, 2, 3)
    assert take(again) == [2, 3]
    assert len(again.path.read_bytes().splitlines()) == 3


def test_an_event_without_an_id_may_come_again(tmp_path):
    queue = open_queue(tmp_path)
    for _ in range(2):
        queue.append({"kind": "started", "step": 0})
    assert take(queue) == [0, 0]


def test_what_was_sent_and_not_remembered_is_sent_again(tmp_path):
    queue = open_queue(tmp_path)
    append(queue, 1, 2)
    take(queue)
    queue.close()
    assert take(open_queue(tmp_path)) == [1, 2]


def test_half_a_line_of_a_killed_writer_is_overwritten(tmp_path):
    queue = open_queue(tmp_path)
    append(queue, 1)
    queue.close()
    with queue.path.open("a") as file:
        file.write('{"kind": "metrics", "id": "0/2", "st')
    again = open_queue(tmp_path)
    append(again, 2)
    assert take(again) == [1, 2]
    assert [json.loads(line)["step"] for line in again.path.open()] == [1, 2]


def test_a_damaged_line_is_said_and_costs_only_itself(tmp_path):
    queue = open_queue(tmp_path)
    append(queue, 1, 2, 3)
    queue.close()
    lines = queue.path.read_bytes().splitlines(keepends=True)
    queue.path.write_bytes(lines[0] + b"\0" * (len(lines[1]) - 1) + b"\n" + lines[2])
    messages: list[str] = []
    again = open_queue(tmp_path, messages)
    assert take(again) == [1, 3]
    assert len(again) == 0
    assert len(messages) == 1
    assert "1 damaged" in messages[0]


@pytest.mark.parametrize("content", ["", "[3]", "null"])
def test_a_damaged_count_is_refused_by_name(content, tmp_path):
    (tmp_path / "mlflow-sent.json").write_text(content)
    with pytest.raises(ConfigError, match=r"mlflow-sent\.json"):
        open_queue(tmp_path)


def test_a_full_disk_keeps_events_in_memory_in_order_and_writes_them_later(tmp_path):
    messages: list[str] = []
    queue = open_queue(tmp_path, messages)
    append(queue, 1)
    with full_disk(queue.path.stat().st_size + 10):  # the next line fits by half
        append(queue, 2, 3)
        assert len(messages) == 1
        assert "cannot be written" in messages[0]
        assert [event["step"] for event in queue.events("metrics")] == [1, 2, 3]
        first = queue.first(timeout=0)
        queue.sent()
        second = queue.first(timeout=0)
        assert first is not None
        assert second is not None
        assert [first.event["step"], second.event["step"]] == [1, 2]
        assert queue.at(second.start) == second.event
        queue.sent()
    append(queue, 4)
    assert [json.loads(line)["step"] for line in queue.path.open()] == [1, 2, 3, 4]
    assert take(queue) == [3, 4]
    assert len(messages) == 1


def test_what_was_sent_from_memory_and_never_written_counts_for_nothing_after_a_restart(tmp_path):
    queue = open_queue(tmp_path)
    append(queue, 1)
    with full_disk(queue.path.stat().st_size):
        append(queue, 2)
        take(queue)
    queue.remember()
    again = open_queue(tmp_path)  # the first one was killed, so to say
    append(again, 2, 3)
    assert take(again) == [2, 3]


def test_events_that_the_disk_never_took_are_said_to_be_lost(tmp_path):
    messages: list[str] = []
    queue = open_queue(tmp_path, messages)
    with full_disk(10):
        append(queue, 1, 2)
        assert queue.first(timeout=0)
        queue.sent()
        queue.close()
    assert "1 events for MLflow are lost" in messages[-1]


def test_after_rewinding_events_wait_again_from_there(tmp_path):
    queue = open_queue(tmp_path)
    append(queue, 1, 2)
    take(queue)
    append(queue, 3)
    third = queue.first(timeout=0)
    assert third is not None
    take(queue)
    queue.rewind(third.start)
    assert len(queue) == 1
    assert take(queue) == [3]
    queue.rewind()
    assert len(queue) == 3
    assert take(queue) == [1, 2, 3]


def test_events_are_found_by_their_kind_all_or_waiting(tmp_path):
    queue = open_queue(tmp_path)
    for step, kind in enumerate(["file", "metrics", "file"]):
        queue.append({"kind": kind, "step": step, "text": '"kind": "file"'})
    assert queue.first(timeout=0)
    queue.sent()
    assert [event["step"] for event in queue.events("file")] == [0, 2]
    assert [event["step"] for event in queue.events("file", waiting=True)] == [2]


def test_a_long_queue_is_not_held_in_memory(tmp_path):
    queue = open_queue(tmp_path)
    queue.close()
    with queue.path.open("w") as file:
        for step in range(3000):
            event = {"kind": "metrics", "id": f"0/{step}", "step": step, "text": "x" * 2000}
            file.write(json.dumps(event) + "\n")
    tracemalloc.start()
    try:
        long = open_queue(tmp_path)
        assert take(long) == list(range(3000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < long.path.stat().st_size / 5
