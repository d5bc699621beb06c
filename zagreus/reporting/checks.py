"""Does it learn? The answer, computed from the run's own numbers, and the numbers beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

# The last checkpoint must need at least this much less than the first one, which has itself trained
# for a third of the run.
BITS_DROP = 0.05
# ... and more than two standard errors of the difference less.
STANDARD_ERRORS = 2.0


@dataclass
class Case:
    """One comparison behind a check: what was compared, and whether it came out as it should."""

    label: str
    passed: bool
    detail: str


@dataclass
class Check:
    """A claim, whether the numbers bear it out, and the cases it rests on.

    `passed` is None where the run has no such numbers.
    """

    claim: str
    rule: str
    cases: list[Case] = field(default_factory=list)

    @property
    def passed(self) -> bool | None:
        return all(case.passed for case in self.cases) if self.cases else None

    @property
    def tally(self) -> str:
        return f"{sum(case.passed for case in self.cases)} of {len(self.cases)}"


def checks(scores: pd.DataFrame, models: pd.DataFrame) -> list[Check]:
    """Return the checks of a run from its tables of scores and models."""
    return [
        learns(scores, models),
        beats_unigram(scores, models),
        best_on_own_language(scores, models),
        ends_turns(scores),
        continues(scores, models),
    ]


def bits_per_byte(scores: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return the bits per byte of the base models on held-out text.

    Model, checkpoint, step, language, own, value, stderr, majority_baseline.

    `own` says whether the model was trained on text in the language. Rows are in the order of the
    scores.
    """
    own = {
        (row.model, language)
        for row in models.dropna(subset="text_languages").itertuples()
        for language in row.text_languages.split()
    }
    table = scores[(scores["metric"] == "bits_per_byte") & (scores["kind"] == "base")].copy()
    table["own"] = pd.array(
        [pair in own for pair in zip(table["model"], table["language"], strict=True)], dtype="bool"
    )
    return table[
        [
            "model",
            "checkpoint",
            "step",
            "language",
            "task",
            "own",
            "value",
            "stderr",
            "majority_baseline",
        ]
    ]


def learns(scores: pd.DataFrame, models: pd.DataFrame) -> Check:
    """Each base model needs far fewer bits per byte at its last checkpoint than at its first, in
    each of its languages.
    """
    check = Check(
        "The base models learn",
        f"Bits per byte on held-out text: last checkpoint at least {BITS_DROP:.0%} and more "
        "than two standard errors below the first",
    )
    bits = bits_per_byte(scores, models)
    for (model, _), rows in bits[bits["own"]].groupby(["model", "task"], sort=False):
        rows = rows.sort_values("step")
        first, last = rows.iloc[0], rows.iloc[-1]
        if first["step"] == last["step"]:
            continue
        noise = (_squared(first["stderr"]) + _squared(last["stderr"])) ** 0.5
        drop = first["value"] - last["value"]
        passed = drop >= BITS_DROP * first["value"] and drop > STANDARD_ERRORS * noise
        detail = (
            f"{first['value']:.3f} at step {first['step']}, {last['value']:.3f} at step "
            f"{last['step']} ({-drop / first['value']:+.1%})"
        )
        check.cases.append(
            Case(f"{model}, {rows['language'].iloc[0]}", bool(passed), detail.replace("-", "−"))
        )
    return check


def beats_unigram(scores: pd.DataFrame, models: pd.DataFrame) -> Check:
    """Each base model's last checkpoint beats the byte-unigram model of the training text, in each
    of its languages.
    """
    check = Check(
        "They know more than letter frequencies",
        "Bits per byte on held-out text: last checkpoint more than two standard errors below a "
        "byte-unigram model",
    )
    bits = bits_per_byte(scores, models)
    for (model, _), rows in bits[bits["own"] & bits["majority_baseline"].notna()].groupby(
        ["model", "task"], sort=False
    ):
        last = rows.sort_values("step").iloc[-1]
        passed = (
            last["value"] + STANDARD_ERRORS * _squared(last["stderr"]) ** 0.5
            < last["majority_baseline"]
        )
        check.cases.append(
            Case(
                f"{model}, {rows['language'].iloc[0]}",
                bool(passed),
                f"{last['value']:.3f} against {last['majority_baseline']:.3f}",
            )
        )
    return check


def best_on_own_language(scores: pd.DataFrame, models: pd.DataFrame) -> Check:
    """On a language that one base model alone was trained for, that model needs the fewest bits per
    byte of all base models.
    """
    check = Check(
        "Each bilingual model is best on its own language",
        "Fewest bits per byte of all base models, at the last checkpoints, on the language that "
        "it alone was trained for",
    )
    bits = bits_per_byte(scores, models)
    bits = bits[
        ~bits["model"].isin(models.loc[models["parent"].notna(), "model"])
    ]  # it adds to the languages of another
    last = bits.sort_values("step", kind="stable").groupby(["model", "task"], sort=False).tail(1)
    for _, rows in last.groupby("task", sort=False):
        owner = rows[rows["own"]]
        others = rows[~rows["own"]]
        if len(owner) != 1 or others.empty:
            continue
        own_row, best = owner.iloc[0], others.loc[others["value"].idxmin()]
        detail = f"{own_row['value']:.3f}; the next best, {best['model']}: {best['value']:.3f}"
        check.cases.append(
            Case(
                f"{own_row['model']}, {own_row['language']}",
                bool(own_row["value"] < best["value"]),
                detail,
            )
        )
    return check


def continues(scores: pd.DataFrame, models: pd.DataFrame) -> Check:
    """Each base model that continues another one keeps that one's languages, and gains on those
    that are new to it.
    """
    check = Check(
        "A continued model keeps its old languages and gains on the new text",
        "Bits per byte on held-out text against the model that it continues: at most "
        f"{BITS_DROP:.0%} more on that one's languages, at "
        f"least {BITS_DROP:.0%} and more than two standard errors fewer on the new ones",
    )
    bits = bits_per_byte(scores, models)
    last = (
        bits.sort_values("step", kind="stable")
        .groupby(["model", "task"], sort=False)
        .tail(1)
        .set_index(["model", "task"])
    )
    for model in models[models["parent"].notna() & (models["kind"] == "base")].itertuples():
        for (_, task), after in last[
            last["own"] & (last.index.get_level_values("model") == model.model)
        ].iterrows():
            if (model.parent, task) not in last.index:
                continue
            before = last.loc[(model.parent, task)]
            change = after["value"] / before["value"] - 1
            noise = (_squared(after["stderr"]) + _squared(before["stderr"])) ** 0.5
            gained = (
                change <= -BITS_DROP and before["value"] - after["value"] > STANDARD_ERRORS * noise
            )
            passed = change <= BITS_DROP if before["own"] else gained
            kind = "old" if before["own"] else "new"
            detail = f"{before['value']:.3f} before, {after['value']:.3f} after ({change:+.1%})"
            check.cases.append(
                Case(
                    f"{model.model}, {after['language']} ({kind})",
                    bool(passed),
                    detail.replace("-", "−"),
                )
            )
    return check


def ends_turns(scores: pd.DataFrame) -> Check:
    """Each post-trained model ends more than half of its turns, by more than two standard errors,
    in the form that it was trained on.
    """
    check = Check(
        "Post-training makes the chat format appear",
        "Share of answers that end with the end-of-turn token, over the tasks with questions or "
        "over those with tools, whichever is higher "
        "(a model is trained on one of the two): more than one half by more than two standard "
        "errors",
    )
    rows = scores[(scores["metric"] == "ends_turn") & (scores["kind"] == "posttrained")]
    tools = set(scores.loc[scores["metric"] == "valid_call", "task"])
    for (model, checkpoint), tasks in rows.groupby(["model", "checkpoint"], sort=False):
        forms = []
        for form, group in tasks.groupby(
            tasks["task"].isin(tools).map({True: "tool calls", False: "answers"}), sort=False
        ):
            answers = int(group["n"].sum())
            share = float((group["value"] * group["n"]).sum()) / answers
            noise = (
                sum(_squared(row.stderr) * row.n**2 for row in group.itertuples()) ** 0.5 / answers
            )
            forms.append(
                (share, share - STANDARD_ERRORS * noise > 0.5, f"{share:.0%} of {answers} {form}")
            )
        _, passed, _ = max(forms)
        check.cases.append(
            Case(f"{model}, {checkpoint}", passed, ", ".join(detail for *_, detail in forms))
        )
    return check


def _squared(stderr: float | None) -> float:
    return 0.0 if stderr is None or pd.isna(stderr) else float(stderr) ** 2
