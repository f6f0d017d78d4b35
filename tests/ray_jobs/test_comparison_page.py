"""What a comparison looks like on the console."""

from rich.console import Console

from comparison import Compared, Comparison
from comparison_page import comparison_tables


def test_no_number_is_broken_however_many_models_there_are() -> None:
    found = Comparison("", "test", 8, 64, "hash", True, "")
    labels = ["leave-gray", *(f"studies/a-long-name/trial-{n:04d}" for n in range(9))]
    found.models = [
        Compared(label, {"ab_mae": 0.0914 + n / 1000, "psnr": 23.15}, 41.2)
        for n, label in enumerate(labels)
    ]
    console = Console(width=80)
    with console.capture() as capture:
        for table in comparison_tables(found, console.width):
            console.print(table)
    text = capture.get()
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("ab_mae")]
    assert [row[1] for row in rows] == ["0.0914"] * 3  # leave-gray's, in each
    assert [value for row in rows for value in row[2:]] == [
        f"{0.0914 + n / 1000:.4f}" for n in range(1, 10)
    ]
