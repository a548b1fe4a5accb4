"""Run what was asked for, and what that needs, seed by seed."""

from collections.abc import Callable, Iterable, Mapping

from flowhmr.experiments.lab import NETWORK, Lab, Results, Task


def in_order(wanted: Iterable[str], runs: Mapping[str, Task]) -> list[str]:
    """Names of runs, each once and after those whose networks it starts from.

    Raises:
        ValueError: a run is asked for or needed that there is not, or one needs itself.
    """
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in order:
            return
        if name not in runs:
            by = f"needed by {above[-1]!r}" if above else "asked for"
            raise ValueError(
                f"run {name!r}: got no such run, {by}; expected one of {', '.join(runs)}"
            )
        if name in above:
            circle = " -> ".join((*above[above.index(name) :], name))
            raise ValueError(
                f"run {name!r}: got a circle ({circle}, each starts from the next); expected runs "
                "that start from others; change what one of them starts from"
            )
        for needed in runs[name].needs:
            visit(needed, (*above, name))
        order.append(name)

    for name in wanted:
        visit(name, ())
    return order


def perform_all(
    lab: Lab,
    wanted: Iterable[str],
    seeds: Iterable[int],
    runs: Mapping[str, Task],
    say: Callable[[str], None],
) -> None:
    """Perform runs for each seed; one that is done is left alone.

    A network that a run starts from is trained again where only its scores are left (a fresh
    checkout keeps scores, not networks), and so is what that one starts from.

    Args:
        lab: where.
        wanted: names of runs.
        seeds: which; all runs of one seed come before those of the next.
        runs: what they are.
        say: told what was done.

    Raises:
        ValueError: no such run, or a folder that holds results of other settings.
    """
    order = in_order(wanted, runs)
    for seed in seeds:
        for name in order:
            lab.check(name, runs[name], seed)
        # From the last back to what they start from.
        starts: set[str] = set()
        for name in reversed(order):
            if name in starts and not (lab.folder(name, seed) / NETWORK).exists():
                lab.forget(name, seed)
            if not lab.finished(name, seed):
                starts.update(runs[name].needs)
        for name in order:
            if not lab.finished(name, seed):
                found = lab.perform(name, runs[name], seed)
                say(f"{name}, seed {seed}: {_brief(found['results'])}")


def _brief(results: Results) -> str:
    shown = []
    for split, scores in results.items():
        metrics = scores.get("metrics", {}) if isinstance(scores, dict) else {}
        if "pa_mpjpe" in metrics:
            shown.append(
                f"{split} PA-MPJPE {metrics['pa_mpjpe']:.1f} mm, "
                f"accel. error {metrics['accel_error']:.1f} mm/frame²"
            )
    return "; ".join(shown) or "done"
