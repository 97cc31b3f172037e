"""`qbench.tune`: the fewest float nodes with which a model meets an accuracy budget."""

from dataclasses import replace
from pathlib import Path

from qbench.artifacts import sha256_bytes
from qbench.benchmarking.judging.material import Material
from qbench.benchmarking.result import Accuracy
from qbench.calibration.table import CalibrationTable, find_table
from qbench.data.labels import named_classes
from qbench.errors import CalibrationError, DataError
from qbench.model.load import Model, load
from qbench.model.save import check_output, needs_external_data, save
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Quantizer
from qbench.quantization.searching.search import BUDGETS, key_of, to_int8
from qbench.quantization.tables import TABLES, load_or_find_table
from qbench.tuning.chain import shortest_prefix, without_needless
from qbench.tuning.journal import (
    check_folder,
    journal_path,
    open_journal,
    save_journal,
    this_machine,
)
from qbench.tuning.metrics import (
    METRICS,
    TuneData,
    labels_fingerprint,
    material_of,
    spread_samples,
)
from qbench.tuning.options import TuneOptions
from qbench.tuning.ranking import ranked_nodes
from qbench.tuning.result import TuneResult
from qbench.tuning.stopwatch import Stopwatch
from qbench.tuning.trials import Trials


def tune(
    model: Model | Path | str,
    target: str,
    data: TuneData,
    options: TuneOptions,
    *,
    table: CalibrationTable | Path | str | None = None,
    output: Path | str | None = None,
) -> TuneResult:
    """Find the fewest float nodes with which a model in INT8 meets an accuracy budget.

    Starts with what `quantize` finds. Where that loses too much, nodes are freed from the one that
    disturbs the output most on; then every node goes back to INT8 that can. Each trial is judged on
    all samples (natively for `cpu`, else in exact arithmetic), timed against the float model where
    that is possible, and kept in `.qbench/tune/`: a run that is interrupted goes on from there. On
    another machine it does so, too, but times the trials again.

    Where the samples are too few to tell a loss as small as the budget, the trials that meet it are
    partly those with luck; `TuneResult.is_within_noise` says so.

    Args:
        model: A float ONNX file, or one that is loaded.
        target: `cpu` or `tensorrt`.
        data: The metric, and the samples that it is taken on.
        options: The budget, and how to tune.
        table: Calibration table or its path; None looks in `calibration/` by the model's hash.
        output: Where to write the best model, whether it meets the budget or not.

    Raises:
        ModelError: The model cannot be read, is quantized already, or has nothing to quantize.
        CalibrationError: There is no table, or it was made from another model.
        DataError: The samples or labels cannot be used.
        UsageError: Target, metric or method is unknown, or labels are missing or too many.
        StorageError: The model or the journal cannot be written.
    """
    model = model if isinstance(model, Model) else load(model)
    model.check_float()
    check_output(model, output)
    check_folder()
    known = _known_table(model, table)
    quantizer = Quantizer(model, target, known, options.int8)
    material = material_of(model, known, data)
    trials = _trials(quantizer, material, data, options)
    _check_baseline(trials.baseline())
    is_minimal = _search(trials, material, options.least_int8)
    return _outcome(
        quantizer, trials, options, is_minimal, None if output is None else Path(output)
    )


def _check_baseline(baseline: Accuracy) -> None:
    if not baseline.value:
        raise DataError(
            f"the float model itself has 0 of {baseline.metric} on these samples, so that nothing "
            "can be lost; check the labels and the recipe"
        )


def _outcome(
    quantizer: Quantizer,
    trials: Trials,
    options: TuneOptions,
    is_minimal: bool,
    output: Path | None,
) -> TuneResult:
    """Return what the trials found, with the best model written to `output`."""
    best = trials.best()
    graph = trials.graph(best.float_nodes)
    if output is not None:
        save(graph.ir, output, external=needs_external_data(quantizer.model.ir))
    return TuneResult(
        graph=graph,
        target=quantizer.target,
        options=options,
        baseline=trials.baseline(),
        best=best,
        trials=tuple(trials.seen),
        is_minimal=is_minimal,
        journal=trials.path,
        path=output,
    )


def _known_table(model: Model, table: CalibrationTable | Path | str | None) -> CalibrationTable:
    """Return `table`, or the one in `calibration/`: the samples judged on must not make it."""
    if table is None and find_table(TABLES, model.sha256) is None:
        name = model.path.name if model.path else "the model"
        raise CalibrationError(
            f"no calibration table in {TABLES}/ was made from {name}; "
            f"run `qbench calibrate {model.path or 'MODEL'} --data OTHER_IMAGES` before, or name "
            "one with --table"
        )
    return load_or_find_table(model, table)


def _trials(
    quantizer: Quantizer, material: Material, data: TuneData, options: TuneOptions
) -> Trials:
    """Return what runs trials, with those of earlier runs."""
    model, target = quantizer.model, quantizer.target
    judge = METRICS[data.metric](material)
    sample = spread_samples(material.source, 1)[0]
    start = to_int8(model, target, quantizer.table, options.int8).choice
    key = _key(quantizer, start, material, data)
    path = journal_path(model.path.stem if model.path else "model", target, key)
    return Trials(
        quantizer=quantizer,
        start=start,
        judge=judge,
        stopwatch=Stopwatch(model.ir, target, sample, options.settings),
        journal=open_journal(path, key, this_machine(), restart=options.restart),
        path=path,
        budget=options.budget,
        most=options.most_trials,
        on_trial=options.on_trial,
    )


def _search(trials: Trials, material: Material, least_int8: float) -> bool:
    """Run trials until the budget is met with as few float nodes as possible.

    Returns whether it is, and no single node can go back.
    """
    if not trials.start.float_nodes and trials.meets(()):
        return True
    order = _ranking(trials, material)
    longest = _longest_prefix(trials.quantizer, order, least_int8)
    first = min(len(trials.start.float_nodes), longest)
    found = shortest_prefix(order[:longest], first, trials.meets)
    if found is None:
        return False
    without_needless(found, trials.meets)
    return not trials.is_spent


def _ranking(trials: Trials, material: Material) -> tuple[str, ...]:
    """Return the order in which nodes are freed, from the journal where it is known."""
    journal = trials.journal
    if journal.ranking is None:
        effort = trials.quantizer.options.effort
        budget = BUDGETS.get(effort, BUDGETS["balanced"])
        samples = spread_samples(material.source, budget.samples)
        journal.ranking = tuple(ranked_nodes(trials.quantizer, trials.start, samples))
        save_journal(trials.path, journal)
    return journal.ranking


def _longest_prefix(quantizer: Quantizer, order: tuple[str, ...], least_int8: float) -> int:
    """Return how many nodes may be freed, in this order, with enough left in INT8."""
    longest = 0
    while longest < len(order) - 1:
        left = replace(quantizer.plan, quantized=order[longest + 1 :])
        if min(quantizer.work.shares_kept(left)) < least_int8:
            break
        longest += 1
    return longest


def _key(quantizer: Quantizer, start: Choice, material: Material, data: TuneData) -> str:
    """Return what a trial's outcome depends on, hashed."""
    parts = (
        key_of(quantizer),
        quantizer.model.sha256,
        repr(start),
        data.metric,
        data.decoder,
        repr(material.recipe),
        material.source.fingerprint(),
        labels_fingerprint(material.labels),
        repr(named_classes(material.labels, material.data) if data.metric == "top1" else ()),
    )
    return sha256_bytes("\n".join(parts).encode())
