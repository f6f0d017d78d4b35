"""By which rule a winner is chosen among trials that are better in one score each."""

import re
from typing import NamedTuple

KNEE = "knee"
_BEST_WITHIN = re.compile(r"best (\w+) within (\d+(?:\.\d+)?) ?% of (\w+)")


class BestWithin(NamedTuple):
    """Take the best `score` among the trials whose `anchor` is nearly the best there is."""

    score: str
    percent: float
    anchor: str

    def __str__(self) -> str:
        return f"best {self.score} within {self.percent:g}% of {self.anchor}"


def parse_rule(text: str) -> BestWithin | None:
    """Read `best ab_jsd within 5% of ab_mae`; None stands for `knee`.

    Raises ValueError for anything else.
    """
    words = " ".join(text.split())
    if words == KNEE:
        return None
    found = _BEST_WITHIN.fullmatch(words)
    if found is None:
        raise ValueError(
            f"found {text!r}; {KNEE!r} is needed, or for instance 'best ab_jsd within 5% of ab_mae'"
        )
    return BestWithin(found[1], float(found[2]), found[3])
