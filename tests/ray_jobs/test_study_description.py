"""What MLflow's page of a study says."""

from pathlib import Path

from planted_study import choose, open_planted, plant
from study_description import describe_study
from study_record import StudyRecord


def described(storage: Path) -> str:
    return describe_study(StudyRecord.open(storage, "planted"), True)


def test_it_says_the_winner_its_scores_how_to_load_it_and_what_to_type(tmp_path):
    study = open_planted(tmp_path)
    for against_gray in (0.8, 0.5):
        assert study.complete(plant(study, against_gray)) is None
    choose(study, 1, version="3", test={"ab_mae": 0.09}, test_gray={"ab_mae": 0.14})
    text = described(tmp_path)
    assert text.startswith("**The winner: trial 1 is the best in ab\\_mae and ab\\_jsd at once.")
    assert "| `ab_mae`, less is better | 0.0625 | 0.1300 |" in text
    assert "`report.html`" in text
    assert 'load_model("models:/colorizer-gan/3")' in text
    assert "| `model.lambda_l1` |" in text
    assert "-m colorization colorize" in text
    assert len(text) < 8000


def test_what_a_rule_or_a_name_holds_is_neither_html_nor_markdown(tmp_path):
    study = open_planted(tmp_path)
    assert study.complete(plant(study, 0.5)) is None
    choose(study, 0, why="<script>alert(1)</script> | [x](http://evil.example)")
    text = described(tmp_path)
    assert "<script>" not in text
    assert "[x](" not in text
