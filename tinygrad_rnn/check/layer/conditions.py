"""Under which conditions only a layer is wrong, and from which step: one thing varied a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tinygrad_rnn.check.layer.outcome import Conformance, Outcome
from tinygrad_rnn.check.layer.trials import GAIN, Trial

Met = Callable[[Trial], bool]  # does a trial meet a condition?
Condition = tuple[str, Met]
OTHERS = 3  # draws of a trial before something is said never to fail
LONGEST_SCAN = 8  # steps of a trial whose every step gets a cotangent of its own
ONLY = {
    "saturated": "only saturated",
    "logits of ±200": "only saturated: with logits of ±200",
    "logits of ±800": "only saturated: with logits of ±800",
    "kinks": "only at kinks",
    "badly scaled": "only badly scaled inputs",
}
REGIMES = [*GAIN, *ONLY]
PROTOCOL = {
    "twice": "when backward is called twice on one cache",
    "after": "after a call with other weights",
    "between": "when another forward call comes before backward",
    "between longer": "when a forward call on longer sequences comes before backward",
}


def conditions(c: Conformance, base: Trial, failed: Sequence[Outcome]) -> tuple[list[str], Trial]:
    """Return the conditions, and the trial that is closest to ``base`` among those that fail.

    A condition is not said if a trial failed that does not meet it.
    """
    found, witness = _found(c, base, failed)
    return [text for text, met in found if all(met(o.trial) for o in failed)], witness


def _found(c: Conformance, base: Trial, failed: Sequence[Outcome]) -> tuple[list[Condition], Trial]:
    if c.fails(base):
        return _necessary(c, base), base
    witness = min((o.trial for o in failed), key=lambda trial: _distance(base, trial))
    for name in base.cotangents:  # one that is None may be enough
        rest = replace(witness, cotangents=tuple(n for n in base.cotangents if n != name))
        if name not in witness.cotangents and c.fails(rest):
            witness = rest
            break
    found = []
    for name in Trial.__dataclass_fields__:
        usual, there = getattr(base, name), getattr(witness, name)
        if usual == there:
            continue
        simpler = replace(witness, **{name: usual})
        if simpler.step is not None and simpler.step > simpler.T:
            simpler = replace(simpler, step=simpler.T)
        failing = _failing(c, simpler)
        if failing:
            witness = failing
        elif name != "seed" and (name != "T" or there < usual):
            found.append((_unusual(name, usual, there), _as_in(name, usual, there)))
    return [*found, *_necessary(c, witness)], witness


def _as_in(name: str, usual: object, there: object) -> Met:
    """Return whether a trial is as unusual: of the same size, or not of the usual kind."""
    if name in ("T", "N", "D", "H"):
        return lambda trial: getattr(trial, name) == there
    if name == "scale":  # a gradient may be small for other reasons
        return lambda trial: True
    return lambda trial: getattr(trial, name) != usual


def _distance(base: Trial, trial: Trial) -> tuple[int, int]:
    """Order trials by how many things are unusual, and the regimes by how plain they are."""
    unusual = [n for n in Trial.__dataclass_fields__ if getattr(base, n) != getattr(trial, n)]
    return len(unusual), REGIMES.index(trial.regime) if "regime" in unusual else 0


def _unusual(name: str, usual: object, there: object) -> str:
    """Say what the trial has that the plain one has not."""
    match name:
        case "protocol":
            return f"only on the second call: {PROTOCOL[str(there)]}"
        case "dtype":
            return f"only {there}"
        case "regime":
            return ONLY.get(str(there), f"only for {there} weights")
        case "zero_state":
            return "only h0 = 0"
        case "contiguous":
            return "only for arrays that are not contiguous"
        case "scale":
            size = "large" if isinstance(there, float) and there > 1 else "small"
            return f"only for {size} cotangents"
        case "cotangents":
            return f"only where {_others(there)} None"
        case "step":
            return f"only for a cotangent on hs at step {there} alone"
        case _:
            return f"only {name} = {there}"


def _others(there: object) -> str:
    named = there if isinstance(there, tuple) else ()
    missing = [n for n in Trial.cotangents if n not in named]
    many = "s" if len(missing) > 1 else ""
    return f"the cotangent{many} of {' and '.join(missing)} {'are' if many else 'is'}"


def _ever(c: Conformance, trial: Trial) -> bool:
    """Whether a trial fails, or does so with other numbers: a mistake may depend on them."""
    return _failing(c, trial) is not None


def _failing(c: Conformance, trial: Trial) -> Trial | None:
    """Return the trial if it fails, else one that differs in the numbers only and does."""
    draws = (replace(trial, seed=trial.seed + k) for k in range(OTHERS))
    return next((t for t in draws if c.fails(t)), None)


def _necessary(c: Conformance, witness: Trial) -> list[Condition]:
    """Return what of a failing trial's ordinary features it takes to fail."""
    found, witness = _of_size(c, witness)
    by_size = bool(found)
    least = shortest(c, witness)
    while least > 1 and _ever(c, replace(witness, T=least - 1, step=_within(witness, least - 1))):
        least -= 1
    if least > 1:
        found.append((f"only T ≥ {least}", lambda trial: least <= trial.T))
    if witness.N > 1 and not _ever(c, replace(witness, N=1)):
        found.append(("only N > 1", lambda trial: trial.N > 1))
    for s in c.cell.state_names:
        if s not in witness.zero_state and not _ever(
            c, replace(witness, zero_state=(*witness.zero_state, s))
        ):
            found.append((f"only {s}0 ≠ 0", lambda trial, s=s: s not in trial.zero_state))  # type: ignore[misc]
    for name in witness.cotangents if len(witness.cotangents) > 1 else ():
        rest = tuple(n for n in witness.cotangents if n != name)
        if name in ("h_T", "c_T") and not c.fails(replace(witness, cotangents=rest)):
            text = f"only with a cotangent on {name}"
            found.append((text, lambda trial, n=name: n in trial.cotangents))  # type: ignore[misc]
    if witness.dtype == "float64" and not c.fails(replace(witness, dtype="float32")):
        text = "only float64: to float32's precision it is right"
        found.append((text, lambda trial: trial.dtype == "float64"))
    if (
        not by_size
        and witness.regime == "critical"
        and not _ever(c, replace(witness, regime="contractive"))
        and any(c.fails(replace(witness, regime=r)) for r in ("saturated", "expanding"))
    ):
        text = "only saturated: never with small weights"
        found.append((text, lambda trial: trial.regime != "contractive"))
    return found


def _of_size(c: Conformance, witness: Trial) -> tuple[list[Condition], Trial]:
    """Return whether it takes large or small cotangents, and a trial with such.

    What else it takes is asked there: beside a threshold it would depend on chance.
    """
    if witness.scale != 1:
        return [], witness
    if not c.fails(replace(witness, scale=2.0**-40)):
        larger = replace(witness, scale=2.0**10)
        met: Met = lambda trial: trial.scale >= 1  # noqa: E731
        return [("only for large cotangents", met)], larger if c.fails(larger) else witness
    if not c.fails(replace(witness, scale=2.0**20)):
        met = lambda trial: trial.scale <= 2.0**10  # noqa: E731
        return [("only for small cotangents", met)], replace(witness, scale=2.0**-40)
    return [], witness


def _within(witness: Trial, T: int) -> int | None:
    return None if witness.step is None else min(witness.step, T)


def shortest(c: Conformance, witness: Trial) -> int:
    """Return the smallest T at which the trial still fails."""
    for T in range(1, witness.T):
        if c.fails(replace(witness, T=T, step=_within(witness, T))):
            return T
    return witness.T


def first_wrong_step(c: Conformance, witness: Trial) -> int | None:
    """Return the smallest s such that a cotangent on h_s alone finds a wrong gradient.

    For a wrong forward pass, it is the first step at which hs is wrong.
    """
    outcome = c.run(witness)
    if "outputs" in outcome.wrong:
        reference = outcome.reference
        if reference is None or not outcome.outputs:
            return None
        wrong = reference.outputs[0].wrong(outcome.outputs[0]).any(axis=(1, 2))
        return int(wrong.argmax()) + 1 if wrong.any() else None
    T = witness.T if witness.T <= LONGEST_SCAN else shortest(c, witness)
    for s in range(1, T + 1):
        for scale in (1.0, 2.0**10, 2.0**-40):  # one step's gradient may be too small, or too large
            own = scale * witness.scale
            if c.run(replace(witness, T=T, step=s, cotangents=("hs",), scale=own)).wrong:
                return s
    return None
