"""The studies: which claim of the paper each one tests, and by what design. Free of torch.

``arms(layers, base_params)`` gives the settings of each arm for the model at hand. Each claim names the rule in
``rules`` that turns the finished runs into a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cdka.claims import advice, bases, designs, lokr, rates
from cdka.errors import unknown
from cdka.models.shapes import LinearShape

DEFAULT_SEEDS = 5
"""Three resolve almost nothing once there are more than three arms."""
SHORT_LOW, RECIPE = "short low-rate low-alpha", "recipe"
"""The two regimes without a search, named by all that the first changes of the second."""
Arms = Callable[[Sequence[LinearShape], int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Claim:
    """One thing that can be supported or contradicted, and the rule of ``rules.RULES`` that tells which."""

    text: str
    rule: str


@dataclass(frozen=True)
class Study:
    """One study. ``regimes`` names the training regimes it runs in, ``baselines`` methods matched by parameters."""

    name: str
    title: str
    claims: tuple[Claim, ...]
    source: str
    design: str
    arms: Arms | None = None
    regimes: tuple[str, ...] = (SHORT_LOW, RECIPE)
    baselines: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    seeds: int = DEFAULT_SEEDS
    over_bases: Callable[..., list[dict[str, Any]]] | None = None
    """The arms on several base models, for a study whose unit is the base model; None where it is the seed."""
    may_diverge: bool = False
    """True where runs that diverge are part of the result, not a failure of the study."""
    needs: str = ""
    """Needs beyond linear layers: ``"context"`` for more than 8,192 positions, ``"images"``, or ``"gradients"``, which
    are measured on the task before the arms are known."""

    @property
    def claim(self) -> str:
        """All claims in one line."""
        return " ".join(claim.text for claim in self.claims)


_ALL = (
    Study(
        "bases-design",
        "Does the design matter on base models that were not chosen for it?",
        (
            Claim("At equal parameters r2 above r1 beats the same two exchanged.", "pairs_over_bases"),
            Claim("At equal parameters r1 = 2 beats r1 = 8, r2 and r held fixed.", "small_r1_over_bases"),
        ),
        "paper, key results, at equal parameters; unit: the base model",
        "Five base models of one architecture, trained alike from other seeds on other splits: two exchanged pairs and "
        "two r1 of equal cost on each. Each base gives one number, the mean over its seeds; the interval is over "
        "bases.",
        over_bases=bases.exchanged_and_equal_cost,
        seeds=2,
        regimes=(SHORT_LOW,),
    ),
    Study(
        "bases-lora",
        "Does CDKA beat LoRA on base models that were not chosen for it?",
        (
            Claim("At the parameters of LoRA rank 8, CDKA reaches a higher accuracy than LoRA.", "over_lora_8"),
            Claim("At the parameters of LoRA rank 1, CDKA reaches a higher accuracy than LoRA.", "over_lora_1"),
            Claim("An eighth of the parameters of LoRA rank 8 comes within one point of it.", "near_lora_8"),
        ),
        "paper, key results; unit: the base model",
        "Five base models of one architecture, trained alike from other seeds on other splits: CDKA (4,8,6) beside "
        "LoRA rank 8, and (16,16,1) beside LoRA rank 1, which costs the same. Every arm on every base at five learning "
        "rates a factor of 1.5 apart, chosen on that base's validation data. Each base gives one number, the mean over "
        "its seeds; the interval is over bases.",
        over_bases=bases.beside_lora,
        seeds=2,
        regimes=("short search",),
    ),
    Study(
        "bases-budget",
        "Do exchanged pairs differ on base models that were not chosen for it, from 5 to 25 % of the weights?",
        (
            Claim("At equal parameters r2 above r1 beats the same two exchanged, mean over budgets.", "budgets"),
            Claim("They differ more at the smallest budget than at the largest.", "budgets_differ"),
        ),
        "paper, key results; budgets from 5 to 25 % are ours; unit: the base model",
        "At 5, 10, 15, 20 and 25 % of the adapted weights, the best-aligned option with r2 > r1 that uses at least "
        "80 % of the budget, and the same with r1 and r2 exchanged, on five base models. Each base gives one number, "
        "the mean over its seeds; the interval is over bases.",
        over_bases=bases.budget_pairs,
        seeds=2,
    ),
    Study(
        "rates",
        "Does one learning rate fit all sizes?",
        (
            Claim("With 1/sqrt(r r2) the best rate depends less on the size than without any factor.", "one_rate_fits"),
            Claim("At equal cost and alignment CDKA trains at more rates than LoRA.", "wider_than_lora"),
        ),
        "paper, training stabilisation; the second is ours; unit: the base model",
        "Five sizes, r r2 from 2 to 128, under 1/sqrt(r r2) and under no factor, at eight rates a factor of two apart, "
        "on five base models, judged on validation data. The best rate is the vertex of the parabola through the "
        "highest accuracy and its neighbours; a rate works where it ends within 0.05 of the best. Each base gives one "
        "number; the interval is over bases.",
        over_bases=rates.sizes_under_both_rules,
        seeds=1,
        regimes=("eight rates",),
        may_diverge=True,
    ),
    Study(
        "lokr",
        "LoKr's published gain: design, rate or size?",
        (
            Claim("Of the gain of all three changes, the design (1,4,r) adds a part.", "lokr_design"),
            Claim("Of the gain of all three changes, the 32 times higher rate adds a part.", "lokr_rate"),
            Claim("Of the gain of all three changes, eight times the parameters add a part.", "lokr_size"),
            Claim("At its best rate (1,4,r) beats LoKr's near-square design of equal parameters.", "lokr_best_rates"),
        ),
        "ours, after a benchmark of PEFT's LoKr that changed all three at once; unit: the base model",
        "Both designs, LoKr's (16,16,r) and (1,4,r), at two sizes a factor of eight apart and equal parameters within "
        "6 %, at six rates a factor of two apart, on five base models. The lowest and the highest rate make the eight "
        "combinations; what a change adds is averaged over the six orders of the three. Each base gives one number; "
        "the interval is over bases.",
        over_bases=lokr.factorial,
        seeds=2,
        regimes=("six rates",),
        may_diverge=True,
    ),
    Study(
        "advice",
        "Does the advised option win?",
        (
            Claim("The advised option reaches a higher accuracy than LoRA of equal cost.", "advice_over_lora"),
            Claim("It reaches a higher accuracy than a random option of equal cost.", "advice_over_random"),
        ),
        "ours: the rule of cdka.solver.default; unit: the base model",
        "At eight budgets, from LoRA rank 1 to 16, on five base models: the option that Design and cdka solve advise, "
        "LoRA of equal cost, and a random option that uses at least four fifths of the budget, each at three rates a "
        "factor of two apart, chosen on that base's validation data. Each base gives one number, the mean over "
        "budgets where the two differ; the interval is over bases.",
        over_bases=advice.advised,
        seeds=1,
        regimes=("three rates",),
    ),
    Study(
        "from-gradients",
        "Do components per module from the gradient help?",
        (
            Claim(
                "The pattern of the gradient reaches a higher accuracy than the advised option.", "pattern_over_advised"
            ),
            Claim("It reaches a higher accuracy than LoRA everywhere.", "pattern_over_lora"),
            Claim("It reaches a higher accuracy than a random pattern.", "pattern_over_random"),
            Claim("Both started from the gradient, it beats LoRA everywhere.", "started_pattern_over_lora"),
        ),
        "ours: cdka solve --from-gradients; unit: the base model",
        "At the parameters of LoRA rank 4 on five base models: the components per module that capture most of the "
        "gradient of eight training batches, a random pattern of the same cost, the advised option and LoRA "
        "everywhere; the pattern and LoRA also started from the gradient; each at three rates a factor of two apart, "
        "chosen on that base's validation data. Each base gives one number, the mean over its seeds; the interval is "
        "over bases.",
        over_bases=advice.by_gradient,
        seeds=2,
        regimes=("three rates",),
        needs="gradients",
    ),
    Study(
        "forgetting",
        "What is kept of the old task, at equal accuracy on the new one?",
        (
            Claim("CDKA keeps more of the old task than LoRA rank 8, which costs the same.", "keeps_beyond_lora_8"),
            Claim("(16,16,1) keeps more of it than LoRA rank 1, which costs the same.", "keeps_beyond_lora_1"),
            Claim("CDKA keeps more of it than full fine-tuning.", "keeps_beyond_full"),
        ),
        "ours; unit: the base model",
        "CDKA (4,8,6) and LoRA rank 8, (16,16,1) and LoRA rank 1, and full fine-tuning on five base models at six "
        "rates a factor of two apart. After each run the base's own task is judged again on its test data. What two "
        "methods keep is compared where both first reach, along rising rates, an accuracy on the new task 0.02 below "
        "the lower of their best; read off linearly between two rates. Each base gives one number; the interval is "
        "over bases.",
        over_bases=rates.forgetting,
        seeds=1,
        regimes=("six rates",),
        settings=MappingProxyType({"retain": "digits"}),
        may_diverge=True,
    ),
    Study(
        "predictors",
        "Alignment or rank: which predicts the outcome at equal parameters?",
        (
            Claim("At equal parameters a better predicted alignment goes with a higher accuracy.", "alignment_ranks"),
            Claim("At equal parameters a higher bound on the rank goes with a higher accuracy.", "rank_ranks"),
            Claim("The predicted alignment ranks outcomes better than the bound on the rank.", "alignment_beyond_rank"),
        ),
        "ours, from the paper's explanation; unit: the base model",
        "Thirty configurations whose parameters are within 7 % of LoRA rank 8's, spread over alignment and rank, on "
        "five base models: at a low rate, and each at the better of two rates a factor of three apart, chosen on that "
        "base's validation data. Each base gives one rank correlation over its configurations; the interval is over "
        "bases.",
        over_bases=advice.at_equal_parameters,
        seeds=1,
        regimes=(SHORT_LOW, "two rates"),
        may_diverge=True,
    ),
    Study(
        "r1",
        "Does a larger r1 hurt?",
        (Claim("Increasing r1 degrades performance, r2 and r held fixed.", "falls"),),
        "paper, key results; r1 from 4 to 64 is our range",
        "One component, r2 = 4, and r1 doubling from 4 to 64 as far as the model's dimensions allow. The parameters "
        "grow along the way; the study of budgets holds them fixed.",
        designs.vary_r1,
    ),
    Study(
        "r2",
        "Does a larger r2 help?",
        (
            Claim("Increasing r2 improves performance, r1 and r held fixed.", "rises"),
            Claim("A doubling of r2 gains more than one of r1, which costs the same.", "r2_beyond_r1"),
        ),
        "paper, key results; r2 from 4 to 64 is our range",
        "One component, r1 = 4, and r2 doubling from 4 to 64 as far as the model's dimensions allow. The parameters "
        "grow along the way; so the same levels of r1 at r2 = 4 are run beside them, which cost the same where a "
        "model's matrices are square or come both ways. Only what r2 gains beyond r1 is r2's own.",
        designs.vary_r2_beside_r1,
    ),
    Study(
        "r",
        "Does r have diminishing returns?",
        (
            Claim("Increasing the number of components helps.", "rises_with_r"),
            Claim("The first doubling of r gains more than the last.", "diminishes"),
        ),
        "paper, key results; r from 1 to 8 is our range",
        "Components of (2, 4) and r = 1, 2, 4, 8: does the metric rise, and does the first doubling gain more than the "
        "last?",
        designs.vary_r,
    ),
    Study(
        "budget",
        "Do exchanged pairs differ, from 5 to 25 % of the weights?",
        (Claim("At equal parameters a small r1 with a large r2 beats the same two exchanged.", "pairs"),),
        "paper, key results; budgets from 5 to 25 % are ours",
        "At 5, 10, 15, 20 and 25 % of the adapted weights, the best-aligned option with r2 > r1 that uses at least "
        "80 % of the budget, against the same option with r1 and r2 exchanged: equal rank and, where the model's "
        "matrices are square or come both ways, equal parameters. Exchanging them changes the alignment, the factor "
        "1/sqrt(r r2) and the scale of A's initialisation at once. The verdict is on the mean over budgets.",
        designs.budget_pairs,
    ),
    Study(
        "equal-budget",
        "Does CDKA beat LoRA at equal parameters?",
        (Claim("At the parameters of LoRA rank 8, CDKA reaches a higher accuracy than LoRA.", "beats_lora"),),
        "paper, key results",
        "The solver's best-aligned option that is not LoRA itself, and the paper's default where it fits, against LoRA "
        "(rsLoRA scaling and plain), LoKr and full fine-tuning; every arm at the same seven learning rates, a factor "
        "of 1.5 apart. Rates, and the scaling of LoRA, are chosen on validation.",
        designs.lora_8,
        regimes=("searched",),
        baselines=("lora:8", "lora-plain:8", "lokr", "full"),
    ),
    Study(
        "eighth",
        "Is an eighth of LoRA's parameters enough?",
        (
            Claim("CDKA with 12.5 % of the parameters of LoRA rank 8 comes within one point of it.", "close_to_lora_8"),
            Claim("It reaches a higher accuracy than LoRA rank 1, which costs the same.", "beats_lora_1"),
        ),
        "paper, key results (natural language understanding at 12.5 %)",
        "The solver's best option other than LoRA for an eighth of the parameters of LoRA rank 8, against LoRA rank 8 "
        "itself, margin 0.01, and against LoRA rank 1, its control of equal cost; every arm at the same seven learning "
        "rates, a factor of 1.5 apart, chosen on validation.",
        designs.an_eighth,
        regimes=("searched",),
        baselines=("lora:8", "lora:1"),
    ),
    Study(
        "stabilisation",
        "What does the scaling rule change, once each has its own rate?",
        (
            Claim("Small and large components have closer best rates with 1/sqrt(r r2) than with no factor.", "nearer"),
            Claim("At the best rate of each, large components train less smoothly without the factor.", "rougher"),
        ),
        "paper, training stabilisation",
        "Large components under four scaling rules at one alpha, 1/sqrt(r r2), 1/sqrt(r), 1/r and none, and small ones "
        "under the first and the last, each at eight rates a factor of two apart: at one rate the rules differ in the "
        "effective step alone. The best rate is the vertex of the parabola through the highest validation accuracy and "
        "its neighbours. Instability (ours): how much the training loss, averaged over five steps, rises for what it "
        "falls: 0 is a smooth descent, 1 leads nowhere. A run that diverges counts as 1, and its accuracy as 0 where "
        "rates are chosen, else as missing.",
        designs.scaling_rules,
        regimes=("eight rates",),
        may_diverge=True,
    ),
    Study(
        "alignment",
        "Does predicted alignment tell the outcome?",
        (
            Claim(
                "Configurations that align better with the first full fine-tuning step end up more accurate.",
                "correlates",
            ),
        ),
        "ours, from the paper's explanation",
        "Twelve configurations that spread over r1, r2 and r: rank correlation of predicted alignment with accuracy, "
        "and that of the number of parameters beside it.",
        designs.spread,
    ),
    Study(
        "long-context",
        "Do the principles hold beyond 8,192 tokens?",
        (
            Claim("A larger r2 helps on sequences of more than 8,192 tokens.", "rises"),
            Claim("At the parameters of the largest r2, CDKA comes within one point of LoRA.", "close_to_lora"),
        ),
        "ours: the paper's claims on long sequences",
        "r2 doubling at fixed r1 and r on sequences of up to 12,288 tokens, with activations recomputed, and LoRA at "
        "the parameters of the largest. Give a task whose texts are that long.",
        designs.vary_r2,
        regimes=(RECIPE,),
        baselines=("lora",),
        needs="context",
        settings=MappingProxyType({"max_length": 12_288, "gradient_checkpointing": True, "batch_size": 1}),
    ),
    Study(
        "vision",
        "Do the principles hold for images?",
        (
            Claim("A larger r2 helps on images.", "rises"),
            Claim("At the parameters of the largest r2, CDKA comes within one point of LoRA.", "close_to_lora"),
        ),
        "ours: the paper's claims on images",
        "r2 doubling at fixed r1 and r on an image model, with LoRA at the parameters of the largest and full "
        "fine-tuning beside it.",
        designs.vary_r2,
        baselines=("lora", "full"),
        needs="images",
    ),
)

STUDIES: dict[str, Study] = {study.name: study for study in _ALL}
GROUPS: dict[str, tuple[str, ...]] = {
    "bases": ("bases-design", "bases-lora"),
    "trends": ("r1", "r2", "r"),
}
"""Several studies under one name."""


def find_study(name: str) -> Study:
    """The study called ``name``; raises CdkaError with the nearest names where there is none."""
    if name not in STUDIES:
        raise unknown("study", name, [*STUDIES, *GROUPS], next_step="List them with: cdka study list")
    return STUDIES[name]
