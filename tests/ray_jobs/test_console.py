import io
import math
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from console import Ranked, StudyConsole, settings_text

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"

SETTINGS = {
    "model.lambda_l1": 37.1234,
    "model.generator.width": 16,
    "model.adversarial": "penalty",
    "model.adversarial.penalty.gradient_penalty": 3.2,
    "train.learning_rate": 1.2e-5,
}
RANKING = [
    Ranked(0, 0.51, {"ab_mae": 0.098, "ab_jsd": 0.1466}, on_front=True, winner=True),
    Ranked(5, 1.2, {"ab_mae": 0.14, "ab_jsd": 0.6}),
    Ranked(None, 1.0, {"ab_mae": 0.1298, "ab_jsd": 0.5839}),
    Ranked(2, 0.49, {"ab_mae": 0.11, "ab_jsd": 0.12}, on_front=True),
]


def screen(
    width: int = 80, height: int = 24, terminal: bool = False
) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        height=height,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        _environ={"TERM": "xterm"},
    )
    return console, file


def play(console: Console, trials: int = 3) -> StudyConsole:
    """Trial 0 finishes, 1 is stopped, 2 fails, the others still run."""
    shown = StudyConsole(console)
    shown.begin("gan-1", "5 settings searched; crops", "1 worker, 2 at once", trials)
    for number in range(trials):
        shown.trial_started(number, SETTINGS)
        values = {"ab_mae": 0.1 + number / 100, "ab_jsd": 0.25}
        shown.epoch(number, 3, "adversarial", 0.9 + number / 100, values, 12.4)
    shown.trial_ended(0, "finished")
    shown.trial_ended(1, "stopped early", "place 3 of 3")
    shown.trial_ended(2, "failed", "Diverged: [adversarial] loss is nan")
    return shown


def last_frame(text: str) -> list[str]:
    """The lines of the last table drawn, without escape codes."""
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text).replace("\r", "")
    return plain[plain.rindex("gan-1: ") :].splitlines()


def test_a_file_gets_one_plain_line_an_event():
    console, file = screen()
    play(console)
    lines = file.getvalue().splitlines()
    assert lines[:2] == ["study gan-1: 5 settings searched; crops", "3 trials, 1 worker, 2 at once"]
    assert lines[2] == (
        "trial 0 started: lambda_l1=37.1 generator.width=16 adversarial=penalty "
        "penalty.gradient_penalty=3.2 learning_rate=1.2e-05"
    )
    assert lines[3] == (
        "trial 0 epoch 3 adversarial: against gray 0.9000, ab_mae 0.1000, ab_jsd 0.2500, 12 s"
    )
    assert lines[-3:] == [
        "trial 0 finished",
        "trial 1 stopped early: place 3 of 3",
        "trial 2 failed: Diverged: [adversarial] loss is nan",
    ]
    assert len(lines) == 2 + 3 * 2 + 3


def test_a_file_gets_no_escape_codes():
    console, file = screen()
    play(console).finish(RANKING, {"model.lambda_l1": 37.1}, [("see the trials", "make ui")])
    assert "\x1b" not in file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_line_of_the_ranking_is_wider_than_the_screen(width):
    console, file = screen(width)
    StudyConsole(console).finish(RANKING, {}, [])
    assert max(cell_len(line) for line in file.getvalue().splitlines()) <= width
    assert "winner" in file.getvalue()


def test_the_ranking_is_sorted_with_leave_gray_in_its_place():
    console, file = screen()
    StudyConsole(console).finish(RANKING, {}, [])
    rows = [line.split() for line in file.getvalue().splitlines()]
    found = [row for row in rows if row and (row[0].isdigit() or row[0] == "leave")]
    assert found == [
        ["2", "0.4900", "0.1100", "0.1200", "front"],
        ["0", "0.5100", "0.0980", "0.1466", "winner,", "front"],
        ["leave", "gray", "1.0000", "0.1298", "0.5839"],
        ["5", "1.2000", "0.1400", "0.6000"],
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_winners_settings_and_whole_commands_are_written(terminal):
    console, file = screen(40, terminal=terminal)
    command = "python ray_jobs/train.py runs/studies/a-study-of-a-long-name/best.yaml [train]"
    StudyConsole(console).finish(RANKING, SETTINGS, [("train it longer", command)])
    assert f"    {command}\n" in file.getvalue()
    assert "  model.lambda_l1=37.1\n" in file.getvalue()


def test_a_terminal_gets_a_table_with_every_trials_state():
    console, file = screen(120, terminal=True)
    play(console, trials=4).close()
    rows = {line.split()[0]: line for line in last_frame(file.getvalue()) if line.split()}
    assert "finished" in rows["0"]
    assert "stopped early" in rows["1"]
    assert "failed" in rows["2"]
    assert "running" in rows["3"]
    assert "3 adversarial" in rows["3"]
    assert "0.9300   0.1300   0.2500    12" in rows["3"]
    assert "lambda_l1=37.1" in rows["3"]


def test_a_failure_is_written_above_the_table():
    console, file = screen(120, terminal=True)
    play(console).close()
    assert "trial 2 failed: Diverged: [adversarial] loss is nan" in file.getvalue()


@pytest.mark.parametrize("width", [30, 50, 79, 80, 100, 200])
def test_the_table_fits_narrow_and_wide_terminals(width):
    console, file = screen(width, terminal=True)
    play(console).close()
    frame = last_frame(file.getvalue())
    assert max(cell_len(line) for line in frame) <= width
    assert any("running" in line or "finished" in line for line in frame)


def test_scores_are_whole_where_settings_have_no_room():
    console, file = screen(80, terminal=True)
    play(console).close()
    frame = "\n".join(last_frame(file.getvalue()))
    assert "0.9100   0.1100   0.2500" in frame
    assert "lambda_l1" not in frame


def test_a_table_of_many_trials_stays_on_the_screen_and_keeps_running_and_best_ones():
    console, file = screen(100, height=20, terminal=True)
    shown = StudyConsole(console)
    shown.begin("gan-1", "", "", 50)
    for number in range(50):
        shown.trial_started(number, {})
        shown.epoch(number, 1, "adversarial", 1 + (number - 30) ** 2, {}, 1.0)
        if number < 49:
            shown.trial_ended(number, "finished")
    shown.close()
    frame = last_frame(file.getvalue())
    numbers = [line.split()[0] for line in frame if line.split() and line.split()[0].isdigit()]
    assert len(frame) <= 20
    assert {"30", "29", "31", "49"} <= set(numbers)
    assert "0" not in numbers
    assert any(f"and {50 - len(numbers)} trials" in line for line in frame)


def test_the_terminals_cursor_comes_back_after_an_error():
    console, file = screen(terminal=True)

    def run() -> None:
        with StudyConsole(console) as shown:
            shown.begin("gan-1", "", "", 2)
            raise RuntimeError("the driver fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        run()
    assert file.getvalue().rindex(SHOW_CURSOR) > file.getvalue().rindex(HIDE_CURSOR)


def test_scores_that_are_no_numbers_are_shown_as_a_dash():
    console, file = screen()
    shown = StudyConsole(console)
    shown.epoch(0, 1, "l1", math.nan, {"ab_mae": math.inf}, 1.0)
    shown.finish([Ranked(0, math.nan, {}), Ranked(1, 0.5, {"ab_mae": 0.1})], {}, [])
    text = file.getvalue()
    assert "against gray -, ab_mae -" in text
    assert text.index("0.5000") < text.index("\n 0 ")


def test_settings_that_would_be_cut_to_the_same_name_keep_their_whole_names():
    settings = {
        "train.stages.one.change.train.learning_rate": 1,
        "train.learning_rate": 2,
        "data.stages.one.change.train.learning_rate": 3,
    }
    assert settings_text(settings) == (
        "train.stages.one.change.train.learning_rate=1 learning_rate=2 "
        "data.stages.one.change.train.learning_rate=3"
    )


def test_settings_of_other_branches_are_left_out():
    assert settings_text({"model.adversarial.name": "lsgan", "model.adversarial.margin": None}) == (
        "adversarial=lsgan"
    )
