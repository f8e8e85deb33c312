"""`moespec verify`: the conformance suite on backends, or the suite itself on mutants."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from moespec import backend, conformance
from moespec.cli import _mutants
from moespec.cli._matrix import matrix
from moespec.conformance import saved, standing, suite
from moespec.conformance.isolated import Died, Isolated
from moespec.conformance.reproduce import recipe
from moespec.conformance.side_by_side import verify_by_dtype


def add_to(commands):
    """The command and its options."""
    verify = commands.add_parser("verify", help="run the conformance suite on every available backend, or on those named")
    verify.add_argument("backends", nargs="*", metavar="BACKEND", help='a name, or "pkg.module:OBJ"')
    verify.add_argument("--op", default="*", metavar="PATTERN", help="only ops whose name matches")
    verify.add_argument("--dtype", nargs="+", choices=conformance.DTYPES, default=conformance.DTYPES)
    verify.add_argument("--case", default="*", metavar="PATTERN", help="only cases whose name matches")
    verify.add_argument("--seed", type=int, default=0)
    verify.add_argument("--seconds", type=float, default=60.0, metavar="S", help="time limit of one call of a backend (default 60)")
    verify.add_argument("--in-process", action="store_true", help="run the backend in this process, for a debugger: a crash ends the run")
    verify.add_argument("--known-failures", "--xfails", dest="known", metavar="FILE",
                        help="ids (or shell patterns) of checks that are known to fail; one that no longer fails is an error")
    verify.add_argument("--report", metavar="FILE", help="write every result: .json, .html or .md")
    verify.add_argument("--mutants", action="store_true", help="test the suite instead: does it refuse every faulty implementation?")
    verify.set_defaults(run=run)
    report = commands.add_parser("report", help="one page of several reports: the matrix requirement x backend x dtype")
    report.add_argument("files", nargs="+", metavar="FILE.json")
    report.add_argument("--out", required=True, metavar="FILE.html|FILE.md")
    report.set_defaults(run=_report)
    table = commands.add_parser("standing", help="the table op x backend x {real, emulated, compiled}, brought up to date by reports")
    table.add_argument("files", nargs="*", metavar="FILE.json")
    table.add_argument("--record", required=True, metavar="STANDING.json", help="what is known so far; a report replaces its predecessor")
    table.add_argument("--out", required=True, metavar="FILE.md")
    table.add_argument("--requirements", metavar="REQUIREMENTS.json", help="a record of requirement x dtype too")
    table.set_defaults(run=_standing)


def run(options):
    """Verify the named backends, or all that can run here; 0 only if something ran and nothing failed."""
    if options.mutants:
        return _mutants.run(options)
    if options.report:
        saved.require_path(options.report)
    options.expected = conformance.read_known(options.known) if options.known else []
    names = options.backends or sorted({"numpy", *backend.known()})
    reports = []
    for name in names:
        try:
            reports.append(_verify_named(name, options))
        except Unavailable as error:
            if options.backends:                        # asked for: an error; otherwise said, and the others go on
                raise
            print(error)
    if options.report:
        saved.save(reports, options.report)
    return 0 if reports and all(r.ok for r in reports) else 1


def _report(options):
    saved.save([report for file in options.files for report in saved.load(file)], options.out)
    return 0


def _standing(options):
    reports = [report for file in options.files for report in saved.load(file)]
    standing.update(reports, options.record, options.out)
    if options.requirements:
        standing.update_requirements(reports, options.requirements)
    return 0


def _verify_named(name, options):
    """Every backend but the reference runs in a process of its own that does not hold what is expected; --in-process for a debugger."""
    if name == "numpy" or options.in_process:
        chosen = backend.get_backend(name)
        dtypes, device = _dtypes(chosen, options), chosen.available()[1]
        run = suite.verify if options.in_process else verify_by_dtype
        return _show(_with_bar(run, chosen if options.in_process else name, dtypes, options), name, dtypes, device, options)
    if ":" not in name and name not in backend.known():
        backend.load(name)                     # raises, naming what is installed
    try:
        with Isolated(name, options.seconds) as chosen:
            ready, device = chosen.available()
            if not ready:
                raise Unavailable(f"backend {name!r} cannot run here: {device}")
            dtypes = _dtypes(chosen, options)
    except Died as error:
        raise Unavailable(str(error)) from None
    return _show(_with_bar(verify_by_dtype, name, dtypes, options, seconds=options.seconds), name, dtypes, device, options)


class Unavailable(ValueError):
    """A backend that cannot run here."""


def _dtypes(chosen, options):
    found = [d for d in options.dtype if d in chosen.dtypes]
    if not found or not suite.chosen(options.op):
        raise ValueError(f"verify: no op matches {options.op!r} on backend {chosen.name!r} in {', '.join(options.dtype)}")
    return found


def _with_bar(run, target, dtypes, options, **rules):
    columns = (TextColumn("{task.description:40.40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(str(target), total=len(suite.chosen(options.op)) * len(dtypes), completed=-1)
        return run(target, dtypes=dtypes, op=options.op, cases=options.case, seed=options.seed,
                   progress=lambda what: bar.update(task, advance=1, description=what), **rules)


def _show(report, source, dtypes, device, options):
    """Print the matrix, the first failures and the count."""
    console = Console()
    report.expect(options.expected)
    console.print(matrix(report, dtypes))
    for failure in report.failures[:20]:
        console.print(f"[red]FAIL[/] {escape(failure.id)}: {escape(failure.message)} (seed {failure.seed})", soft_wrap=True)
    if report.failures and report.failures[0].kind in ("forward", "backward", "repeat", "requirement"):
        console.print("To see the first one:", _indented(recipe(source, report.failures[0])), sep="\n", soft_wrap=True)
    if len(report.failures) > 20:
        console.print(f"... and {len(report.failures) - 20} more")
    weak, skipped, known = (sum(r.status == s for r in report.results) for s in ("weak", "skip", "xfail"))
    console.print(f"{report.backend} ({report.where}): {report.executed} checks executed, {len(report.failures)} failed, "
                  f"{weak} weak, {skipped} not run" + (f", {known} known failures" if known else ""), soft_wrap=True)
    return report


def _indented(text):
    return escape("\n".join(f"    {line}" for line in text.splitlines()))
