"""A study in words, for the page of its run in MLflow."""

from next_steps import next_commands
from pages import plain_value, score
from report_page import REPORT, Column, cautions, score_columns, score_rows, sentence
from study_record import StudyRecord

_LONGEST = 7500  # characters: a tag of MLflow holds 8000
_SHOWN = ("against_gray", "ab_mae", "ab_jsd", "psnr", "ssim", "ciede2000", "colorfulness_gap")


def describe_study(study: StudyRecord, measures_generalization: bool) -> str:
    """Describe a study in Markdown: what was searched, what won and why, how to go on.

    It is said where its pictures measure no generalization.
    """
    parts = [
        f"**{_plain(sentence(study))}**",
        *(f"> {_plain(caution)}" for caution in cautions(study, measures_generalization)),
        _scores(study),
        f"**Report:** `{REPORT}` among this run's artifacts: ranking, pictures of the best trials "
        "side by side, plots of the search, time and cost. One file; download it to zoom.",
        _searched(study),
        _loading(study),
        _next(study),
    ]
    text = "\n\n".join(part for part in parts if part)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n\n(cut; {REPORT} has it all)"


def _scores(study: StudyRecord) -> str:
    columns: list[Column] = score_columns(study)
    names = {*_SHOWN, *study.objective}
    rows = [row for row in score_rows(columns) if row["name"] in names]
    if not rows:
        return ""
    lines = [
        "| score | " + " | ".join(_plain(column.title) for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for row in rows:
        cells = " | ".join(score(cell["value"]) for cell in row["cells"])
        lines.append(f"| `{row['name']}`, {row['better']} is better | {cells} |")
    return "\n".join(lines)


def _searched(study: StudyRecord) -> str:
    best = study.best
    values = best.trial.params if best else {}
    searched = study.space.parameters()
    if not searched:
        return ""
    states: dict[str, int] = {}
    for trial in study.trials:
        states[trial.state] = states.get(trial.state, 0) + 1
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    lines = [
        f"**Searched:** {len(searched)} settings of {study.family} in {len(study.trials)} trials "
        f"({counts}), for {' and '.join(f'`{name}`' for name in study.objective)}.",
        "",
        "| setting | winner | searched |",
        "|---|---|---|",
    ]
    for name, value in values.items():
        if value is not None:
            given = searched.get(name, "")
            lines.append(f"| `{name}` | {_plain(plain_value(value))} | {_plain(str(given))} |")
    return "\n".join(lines)


def _loading(study: StudyRecord) -> str:
    version = study.choice.get("version")
    if not version:
        return ""
    uri = f"models:/colorizer-{study.family}/{version}"
    return (
        "**Load the model:** encoded pictures in, encoded pictures out.\n\n"
        "```python\n"
        "import mlflow, pandas as pd\n"
        "\n"
        f'model = mlflow.pyfunc.load_model("{uri}")\n'
        'gray = open("gray.jpg", "rb").read()\n'
        'answer = model.predict(pd.DataFrame({"picture": [gray]}))\n'
        'open("color.jpg", "wb").write(answer["picture"][0])\n'
        "```"
    )


def _next(study: StudyRecord) -> str:
    lines = [f"- {what}: `{command}`" for what, command in next_commands(study)]
    return "**Next:**\n\n" + "\n".join(lines)


def _plain(text: str) -> str:
    """Keep a text from being read as Markdown or HTML."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
