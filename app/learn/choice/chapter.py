"""Chapter 7, which one, when: the ceiling at equal price, the shipped studies, a table to decide with."""

from __future__ import annotations

import numpy as np

from app.learn import evidence, prose
from app.learn.choice.figures import RATIOS, SIDE, draw, draw_question, pair, rates_row, same_price
from app.learn.course import OURS, Chapter, Control, Equation, Question, Try, Values, page
from app.learn.evidence import ceiling

TEXT = prose.read(__file__)
STUDIES = tuple(dict.fromkeys(e.finding.study for e in evidence.findings())) or ("none",)

CONTROLS = (
    Control(7, "ratio", "r2 / r1", "slider", "4", RATIOS, views=("ceiling",)),
    Control(7, "study", "Study", "select", STUDIES[0], STUDIES, views=("studies",)),
)
_READ = (
    "rows = []\nfor path in sorted((assets_dir() / 'studies').glob('*.json')):\n"
    "    for study in json.loads(path.read_text(encoding='utf-8')).get('studies', []):\n"
    "        for f in study['findings']:\n"
    "            rows.append((study['study'], f['regime'], f['measures'], f['effect'], f['ci_low'], "
    "f['ci_high'], f['n']))\n"
)


def _formula(v: Values) -> str:
    r1, r2 = pair(v["ratio"])
    return rf"\sqrt{{\frac{{2}}{{1+(<r1:{r1}>/<r2:{r2}>)^2}}}}={ceiling(r1, r2):.3f}"


PAGES = (
    page(
        TEXT,
        "ceiling",
        code=lambda v: (
            f"r1, r2 = {pair(v['ratio'])}\nformula = np.sqrt(2 / (1 + (r1 / r2)**2))\n"
            "# the smallest number of components that costs exactly a whole number of LoRA ranks on a square layer\n"
            "r = next(r for r in range(1, 200) if r * (r1**2 + r2**2) % (2 * r1 * r2) == 0)\n"
            "rank = r * (r1**2 + r2**2) // (2 * r1 * r2)\n"
            f"mine, lora = Components(r1, r2, r), Components(1, 1, rank)\n"
            f"assert mine.num_params({SIDE}, {SIDE}) == lora.num_params({SIDE}, {SIDE})\n"
            f"formula, mine.alignment(4096) / lora.alignment(4096)"
        ),
        plot=lambda v: (
            "ratio = np.geomspace(1 / 16, 16, 100)\n"
            "lines('Alignment over LoRA at equal price, by r2/r1', {'formula': (ratio, np.sqrt(2 / (1 + ratio**-2)))})"
        ),
        source=OURS,
        focus=("ratio",),
        equation=Equation(r"\frac{\text{alignment}}{\text{LoRA's}}=\sqrt{\frac{2}{1+(<r1>/<r2>)^2}}", _formula),
        tries=(
            Try("1: no gain", {"ratio": "1"}),
            Try("4, as (2, 8)", {"ratio": "4"}),
            Try("1/4: exchanged", {"ratio": "1/4"}),
        ),
        view="ceiling",
    ),
    page(
        TEXT,
        "studies",
        code=lambda v: (
            _READ + "for row in rows:\n    print('{:14} {:9} {:60.60} {:+.3f} [{:+.3f}, {:+.3f}] {}'.format(*row))"
        ),
        plot=lambda v: (
            "bars('Effects on accuracy', {f'{r[0]} {r[1]} {r[2][:20]}': r[3] for r in rows if 'accuracy' in r[2]})"
        ),
        source=OURS,
        focus=("study",),
        view="studies",
    ),
    page(
        TEXT,
        "table",
        fields={"search": "where a learning rate cannot be searched for long, " if rates_row()[0] == "CDKA" else ""},
        code=lambda v: _READ + "open_ = [row for row in rows if row[4] <= 0 <= row[5]]\nlen(rows), len(open_)",
        plot=lambda v: (
            "bars('Findings of the shipped reports', {'decided': len(rows) - len(open_), 'not decided': len(open_)})"
        ),
        source=OURS,
        view="table",
    ),
)

SIDES = (1, 2, 3, 4, 6, 8, 12, 16)
ASKED = tuple((a, b) for a in SIDES for b in SIDES if a != b and max(a, b) <= 8 * min(a, b))
EXAMPLE_WIDTH = 12_288


def question(seed: int, values: Values) -> Question:
    """Alignment over LoRA's at equal price, by the formula, for a pair r1, r2."""
    r1, r2 = ASKED[int(np.random.default_rng([seed, 7]).integers(len(ASKED)))]
    gain = ceiling(r1, r2)

    def explain(answer: float) -> str:
        mine, lora = same_price(r1, r2)
        return TEXT.part(
            "explanation",
            r1=r1,
            r2=r2,
            answer=f"{answer:.3g}",
            width=EXAMPLE_WIDTH,
            design=f"({mine})",
            params=f"{mine.num_params(EXAMPLE_WIDTH, EXAMPLE_WIDTH):,}",
            rank=lora.r,
            mine=f"{mine.alignment(EXAMPLE_WIDTH):.3f}",
            theirs=f"{lora.alignment(EXAMPLE_WIDTH):.3f}",
        )

    def hint(prediction: float, answer: float) -> str:
        def near(value: float) -> bool:
            return abs(prediction - value) <= 0.04 * value

        if near(gain**2):
            return TEXT.part("hint: root")
        if near(ceiling(r2, r1)):
            return TEXT.part("hint: exchanged")
        return TEXT.part("hint: price" if near((r2 / r1) ** 0.5) else "hint: other")

    return Question(
        prompt=TEXT.part("question", r1=r1, r2=r2),
        answer=lambda: float(f"{gain:.4g}"),
        explain=explain,
        hint=hint,
        code=f"answer = float(f'{{np.sqrt(2 / (1 + ({r1} / {r2})**2)):.4g}}')\nanswer",
        unit="times",
        whole=False,
        high=100,
        draw=(r1, r2),
    )


SETUP = "import json\n\nimport numpy as np\n\nfrom cdka import Components\nfrom cdka.paths import assets_dir"
CHAPTER = Chapter(7, "Which one?", TEXT, 7, CONTROLS, PAGES, draw, question, draw_question, SETUP)
