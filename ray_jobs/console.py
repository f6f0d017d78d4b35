"""What a person sees of a study: a live table on a terminal, one plain line per event elsewhere."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

State = Literal["running", "finished", "stopped early", "failed", "killed"]

_STYLES: dict[str, str] = {
    "running": "cyan",
    "finished": "green",
    "stopped early": "yellow",
    "failed": "bold red",
    "killed": "magenta",
}
_AROUND_ROWS = 8  # lines of a screen that the table's head, its foot and messages need
_NARROW = 60  # columns below which objectives are not shown
_READABLE = 20  # columns that the settings need to say anything


@dataclass
class _Row:
    """A trial in the table."""

    settings: str
    state: State = "running"
    epoch: str = ""
    against_gray: float = math.nan
    values: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Ranked:
    """A line of the ranking: a finished trial, or with number None leaving every picture gray."""

    number: int | None
    against_gray: float
    values: Mapping[str, float]  # of the objective
    on_front: bool = False
    winner: bool = False


class StudyConsole:
    """Shows a study on a rich console; a context manager that gives the terminal back at its end.

    Never raises for odd values: NaN and missing scores are shown as "-".
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[int, _Row] = {}
        self._title, self._trials = "", 0
        self._live: Live | None = None
        self._lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self, study: str, summary: str, shape: str, trials: int) -> None:
        """Say what is searched, on what, and how many trials there will be."""
        self._title, self._trials = study, trials
        self.message(f"study {study}: {summary}")
        self.message(f"{_count(trials, 'trial')}, {shape}")
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # No thread that redraws: the table changes when something happens.
            live = Live(self._table(), console=self._console, auto_refresh=False)
            self._live = live
            self._write(live.start)

    def more_trials(self, count: int) -> None:
        """Say that so many trials come on top of those that were begun with."""
        self._trials += count

    def trial_started(self, number: int, settings: Mapping[str, Any]) -> None:
        """Show a trial and what it was given, as dotted names and values."""
        text = settings_text(settings)
        self._rows[number] = _Row(text)
        self._show(f"trial {number} started: {text}" if text else f"trial {number} started")

    def epoch(
        self,
        number: int,
        epoch: int,
        stage: str,
        against_gray: float,
        values: Mapping[str, float],
        seconds: float,
    ) -> None:
        """Show a trial's epoch: its scores, and the seconds since the trial started."""
        row = self._rows.setdefault(number, _Row(""))
        row.epoch, row.against_gray = f"{epoch} {stage}", against_gray
        row.values, row.seconds = dict(values), seconds
        scores = ", ".join(f"{name} {_score(value)}" for name, value in values.items())
        self._show(
            f"trial {number} epoch {epoch} {stage}: against gray {_score(against_gray)}, "
            f"{scores}, {seconds:.0f} s"
        )

    def trial_ended(self, number: int, state: State, reason: str = "") -> None:
        """Show how a trial ended; a failure's reason is written above the table."""
        self._rows.setdefault(number, _Row("")).state = state
        why = f": {reason.removeprefix(state).lstrip(': ')}" if reason else ""
        line = f"trial {number} {state}{why}"
        if self._live and state in ("failed", "killed"):
            self._print(line, _STYLES[state])
        self._show(line)

    def message(self, text: str) -> None:
        """Write a line of its own, above the table where there is one."""
        self._print(text)

    def table(self, table: Table, lines: Sequence[str]) -> None:
        """Show a table on a terminal, the same as plain lines elsewhere."""
        if self._console.is_terminal:
            self._write(lambda: self._console.print(table))
            return
        for line in lines:
            self._print(line)

    def finish(
        self,
        rows: Sequence[Ranked],
        settings: Mapping[str, Any],
        commands: Sequence[tuple[str, str]],
        why: str = "",
        finalists: Table | None = None,
    ) -> None:
        """Show the ranking with leave-gray in its place, the winner's settings, what to type next.

        `commands` are (what it does, the command); `why` says why the winner is the winner;
        `finalists` is a table of their own.
        """
        self.close()
        for table in filter(None, (_ranking(rows, self._console.width), finalists)):
            self._write(lambda table=table: self._console.print("\n", table, sep=""))
        if why:
            self._print(f"\n{why[0].upper()}{why[1:]}.")
        if settings:
            self._print("\nThe winner's settings:", "bold")
            for key, value in settings.items():
                self._print(f"  {key}={_value(value)}")
        if commands:
            self._print("\nNext:", "bold")
            for what, command in commands:
                self._print(f"  {what}:", "dim")
                self._print(f"    {command}", wrap=False)

    def close(self) -> None:
        """Leave the table as it is and give the terminal back; a second call does nothing."""
        live = self._live
        if live:
            self._write(lambda: live.update(self._table(), refresh=True))
            self._write(live.stop)
            self._live = None

    def _show(self, line: str) -> None:
        live = self._live
        if live:
            self._write(lambda: live.update(self._table(), refresh=True))
        else:
            self._print(line)

    def _print(self, text: str, style: str = "", wrap: bool = True) -> None:
        # Not as markup: reasons and paths hold brackets. In a file an event stays one line, and a
        # command is copied whole.
        soft_wrap = not (wrap and self._console.is_terminal)
        line = Text(text, style=style)
        self._write(lambda: self._console.print(line, soft_wrap=soft_wrap, highlight=False))

    def _write(self, write: Callable[[], object]) -> None:
        """Write unless nobody reads any more: a study goes on without its console."""
        if self._lost:
            return
        try:
            write()
        except (OSError, SystemExit):  # rich leaves the program where its pipe is broken
            self._lost = True
            self._live = None

    def _table(self) -> Table:
        width = self._console.width
        ended = sum(row.state != "running" for row in self._rows.values())
        table = Table(
            title=f"{self._title}: {ended} of {_count(self._trials, 'trial')} ended",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        names = _objective_names([row.values for row in self._rows.values()], width)
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True, min_width=len("stopped early"))
        table.add_column("epoch", no_wrap=True, overflow="ellipsis")
        for name in ("/gray", *names, "sec"):
            table.add_column(name, justify="right", no_wrap=True)
        shown = self._shown_rows()
        # Left to itself, rich would squeeze the scores to make room for the settings.
        texts = [
            "stopped early",
            "trial",
            max((r.epoch for r in shown.values()), key=len, default=""),
        ]
        texts += ["0.0000 " if len(name) < 7 else name for name in ("/gray", *names)] + ["0000"]
        room = width - sum(len(text) + 3 for text in texts) - 1
        if room >= _READABLE:
            table.add_column("settings", no_wrap=True)
        best = min((row.against_gray for row in shown.values()), default=math.nan, key=_nan_last)
        for number, row in sorted(shown.items()):
            cells = [
                Text(str(number)),
                Text(row.state, _STYLES[row.state]),
                Text(row.epoch),
                Text(_score(row.against_gray), "bold" if row.against_gray == best else ""),
                *(Text(_score(row.values.get(name, math.nan))) for name in names),
                Text(f"{row.seconds:.0f}"),
            ]
            if room >= _READABLE:
                settings = Text(row.settings)
                settings.truncate(room, overflow="ellipsis")
                cells.append(settings)
            table.add_row(*cells)
        if hidden := len(self._rows) - len(shown):
            table.caption = f"and {_count(hidden, 'trial')} that ended with worse scores"
        return table

    def _shown_rows(self) -> dict[int, _Row]:
        """Return what fits the screen: trials that run, then the best of those that ended."""
        room = max(3, self._console.height - _AROUND_ROWS)
        ordered = sorted(
            self._rows.items(),
            key=lambda item: (item[1].state != "running", _nan_last(item[1].against_gray)),
        )
        return dict(ordered[:room])


def settings_text(settings: Mapping[str, Any]) -> str:
    """Write settings on one line: `lambda_l1=37 generator.width=16 adversarial=lsgan`.

    Names are cut to their last parts, unless two would come out the same.
    """
    short = {key: _short(key) for key in settings}
    cut = list(short.values())
    return " ".join(
        f"{name if cut.count(name) == 1 else key}={_value(settings[key])}"
        for key, name in short.items()
        if settings[key] is not None
    )


def _short(key: str) -> str:
    parts = key.removesuffix(".name").split(".")
    if parts[0] in ("model", "train", "data") and len(parts) > 1:
        parts = parts[1:]
    return ".".join(parts[-2:])


def _ranking(rows: Sequence[Ranked], width: int) -> Table:
    table = Table(title="Ranking", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    names = _objective_names([row.values for row in rows], width)
    table.add_column("trial", no_wrap=True)
    for name in ("/gray", *names):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in sorted(rows, key=lambda row: _nan_last(row.against_gray)):
        marks = [mark for mark, on in (("winner", row.winner), ("front", row.on_front)) if on]
        table.add_row(
            Text("leave gray" if row.number is None else str(row.number)),
            Text(_score(row.against_gray)),
            *(Text(_score(row.values.get(name, math.nan))) for name in names),
            Text(", ".join(marks)),
            style="bold green" if row.winner else "dim" if row.number is None else "",
        )
    table.caption = "/gray: error of color as a share of leave-gray's; front: beaten by none"
    return table


def _objective_names(values: Sequence[Mapping[str, float]], width: int) -> list[str]:
    names = list(dict.fromkeys(name for row in values for name in row))
    return names if width >= _NARROW else []


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _score(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
