"""The command line: run, check, report, certify, train, distil, accept, train-corrector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from atomistic.potentials.certificate import Certificate
    from multiscale.case import Case

DISTRIBUTION = "multiscale-electrochemistry"
BAD_INPUT = 2
UNSOUND = 1

app = typer.Typer(
    name="multiscale",
    help="From atoms to a discharge curve, every number with its interval.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"multiscale {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which version."),
    ] = False,
) -> None:
    """From atoms to a discharge curve, every number with its interval."""


@app.command()
def run(
    case: Annotated[Path, typer.Argument(help="The case file (TOML).")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results, in place of the case's own.")
    ] = None,
) -> None:
    """Run a study; stages that nothing has changed for are taken from the last run."""
    import time

    from multiscale.progress import bars

    started = time.perf_counter()
    console = _console()
    with console.status("Checking the case", spinner="dots"):
        study = _read(case, output)
        # imports that take seconds belong under the spinner
        from multiscale import stages, store
        from multiscale.report import print_tables, write_html
    folder = study.output_folder
    with _one_sentence(), bars(console) as progress:
        result = stages.run(study, progress=progress)
    page = write_html(result, folder / "report.html")
    print_tables(result, console)
    console.print(f"[dim]Result  [/dim]{folder / store.RESULT}", soft_wrap=True)
    console.print(f"[dim]Report  [/dim]{page}", soft_wrap=True)
    console.print(f"[dim]Took    [/dim]{time.perf_counter() - started:.0f} s")


@app.command()
def check(case: Annotated[Path, typer.Argument(help="The case file (TOML).")]) -> None:
    """Check a case file and everything that it refers to; nothing is run or written."""
    study = _read(case, None)
    typer.echo(f"{case} is sound: {study.study.title}.")


@app.command()
def report(
    result: Annotated[Path, typer.Argument(help="A result.nc that run wrote.")],
    html: Annotated[
        Path | None, typer.Option(help="Where to write the page; beside the result if not given.")
    ] = None,
) -> None:
    """Show a result again and write its report."""
    from multiscale import store
    from multiscale.report import print_tables, write_html

    if not result.is_file():
        _stop(f"There is no result file {result}.")
    page = result.with_name("report.html") if html is None else html
    with _one_sentence():
        page.parent.mkdir(parents=True, exist_ok=True)
    try:
        tree = store.load(result)
        write_html(tree, page)
    except (OSError, ValueError, KeyError) as error:
        _stop(f"{result} is not a result of multiscale run ({error}).")
    console = _console()
    print_tables(tree, console)
    console.print(f"[dim]Report  [/dim]{page}", soft_wrap=True)


@app.command()
def certify(
    potential: Annotated[
        str,
        typer.Argument(help="Name (sevennet-0, chgnet, ...), file or package.module:factory."),
    ],
    structure: Annotated[
        Path | None,
        typer.Option(help="Periodic structure to look at, as ASE reads it; Li6PS5Cl if not given."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    only: Annotated[
        list[str] | None,
        typer.Option(help="A property, such as rotation; may be given repeatedly. All if not."),
    ] = None,
    charge: Annotated[
        list[str] | None,
        typer.Option(help="Charge of an element, by which fields act: Na=1. One for each element."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the certificate as JSON.")
    ] = None,
) -> None:
    """Look whether a potential obeys physics; the exit code is 1 if it does not."""
    from multiscale.executors import quiet_imports
    from multiscale.progress import bars

    console = _console()
    with _one_sentence():
        with console.status("Loading the potential", spinner="dots"), quiet_imports():
            from atomistic.potentials.certificate import certify as look
            from atomistic.potentials.load import load
            from atomistic.systems import argyrodite
            from multiscale.learning import read_all

            loaded = load(potential, device=device)
            atoms = argyrodite() if structure is None else read_all(structure, "structure")[-1]
            loaded.check_elements([atoms])
        charges = _charges(charge) if charge else None
        if json_file is not None:  # before the work, not after it
            json_file.parent.mkdir(parents=True, exist_ok=True)
        with bars(console) as progress:
            certificate = look(
                loaded,
                atoms,
                charges=charges,
                only=only,
                progress=lambda done, total, text: progress("certify", done, total, text),
            )
    _print_certificate(certificate, console)
    if json_file is not None:
        json_file.write_text(certificate.to_json() + "\n")
    if not certificate.sound:
        raise typer.Exit(UNSOUND)


@app.command()
def train(
    labels: Annotated[Path, typer.Argument(help="Labelled frames, in any format that ASE reads.")],
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("trained"),
    kind: Annotated[str, typer.Option(help="nep, symmetry-functions or soap.")] = "nep",
    cutoff: Annotated[float, typer.Option(help="Farthest neighbour, Å.")] = 6.0,
    members: Annotated[int, typer.Option(help="Networks of a committee.")] = 1,
    steps: Annotated[int, typer.Option(help="Gradient steps.")] = 4000,
    held_out: Annotated[float, typer.Option(help="Share of frames not learnt from.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
) -> None:
    """Train a potential on labelled frames."""
    from multiscale import learning
    from multiscale.executors import quiet_imports
    from multiscale.progress import bars

    console = _console()
    with _one_sentence(), quiet_imports(), bars(console) as progress:
        path, found = learning.train(
            labels, output=output, kind=kind, cutoff=cutoff, members=members, steps=steps,
            held_out=held_out, seed=seed,
            progress=lambda done, total, text: progress("train", done, total, text),
        )  # fmt: skip
    console.print(
        f"On {found.frames} frames held out: forces {1000 * found.force:.0f} meV/Å "
        f"({100 * found.relative_force:.0f} %), energies {1000 * found.energy:.1f} meV per atom, "
        f"stress {found.stress:.3f} GPa.",
        soft_wrap=True,
    )
    console.print(f"[dim]Potential  [/dim]{path}", soft_wrap=True)


@app.command()
def distil(
    structure: Annotated[Path, typer.Argument(help="Structures to start from.")],
    temperature: Annotated[
        list[float], typer.Option(help="Of the student's walks, K; may be given repeatedly.")
    ],
    teacher: Annotated[
        str, typer.Option(help="Name, file or package.module:factory of what labels.")
    ] = "sevennet-0",
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("student"),
    rounds: Annotated[int, typer.Option(help="Rounds of training.")] = 3,
    steps: Annotated[int, typer.Option(help="Gradient steps of each.")] = 2000,
    picoseconds: Annotated[float, typer.Option(help="Length of a walk.")] = 1.0,
    timestep: Annotated[float, typer.Option(help="Of the walks, fs.")] = 2.0,
    limit: Annotated[float, typer.Option(help="Largest relative force error.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a compact student on what it meets itself; the exit code is 1 if it is not accepted."""
    from multiscale import learning
    from multiscale.executors import quiet_imports
    from multiscale.progress import bars

    console = _console()
    with _one_sentence(), quiet_imports(), bars(console) as progress:
        path, judged = learning.distil(
            structure, teacher, output=output, temperatures=temperature, rounds=rounds,
            steps=steps, picoseconds=picoseconds, timestep=timestep, limit=limit, seed=seed,
            device=device,
            progress=lambda done, total, text: progress("distil", done, total, text),
        )  # fmt: skip
    console.print(judged.outcome, soft_wrap=True)
    console.print(f"[dim]Potential  [/dim]{path}", soft_wrap=True)
    if not judged.accepted:
        raise typer.Exit(UNSOUND)


@app.command()
def accept(
    student: Annotated[str, typer.Argument(help="What is judged.")],
    structure: Annotated[Path, typer.Option(help="Structures to start from.")],
    temperature: Annotated[
        list[float], typer.Option(help="Of the production planned, K; may be given repeatedly.")
    ],
    teacher: Annotated[str, typer.Option(help="By what it is judged.")] = "sevennet-0",
    picoseconds: Annotated[float, typer.Option(help="Length of a run.")] = 2.0,
    frames: Annotated[int, typer.Option(help="Frames of each run that are relabelled.")] = 4,
    timestep: Annotated[float, typer.Option(help="Of the runs, fs.")] = 2.0,
    limit: Annotated[float, typer.Option(help="Largest relative force error.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Judge a potential on frames of its own runs; the exit code is 1 if it is not accepted."""
    from multiscale import learning
    from multiscale.executors import quiet_imports
    from multiscale.progress import bars

    console = _console()
    with _one_sentence(), quiet_imports(), bars(console) as progress:
        judged = learning.accept(
            student, teacher, structure, temperatures=temperature, picoseconds=picoseconds,
            frames=frames, timestep=timestep, limit=limit, seed=seed, device=device,
            progress=lambda done, total, text: progress("accept", done, total, text),
        )  # fmt: skip
    console.print(judged.outcome, soft_wrap=True)
    if not judged.accepted:
        raise typer.Exit(UNSOUND)


@app.command("train-corrector")
def train_corrector(
    case: Annotated[
        Path,
        typer.Argument(
            help="A TOML file with a table \\[corrector]: name, highest_c_rate, and parameter_set "
            "(a name of PyBaMM's) or bpx (a file)."
        ),
    ],
) -> None:
    """Train a residual corrector, SPMe to P2D, for a cell of one's own."""
    from multiscale.executors import quiet_imports
    from multiscale.progress import bars

    console = _console()
    with _one_sentence(), quiet_imports():
        from multiscale.correctors import read_wanted, train

        wanted = read_wanted(case)
        with bars(console) as progress:
            path, judged = train(wanted, case.parent, progress=progress)
    _print_judged(judged, console)
    console.print(f"[dim]Corrector  [/dim]{path}", soft_wrap=True)


def _print_judged(judged: dict[str, Any], console: Console) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="Voltage against P2D, mV, profiles not learnt from")
    table.add_column("profiles")
    for heading in ("SPMe", "student", "ensemble", "largest", "covered", "abstained"):
        table.add_column(heading, justify="right")
    for name, found in judged.items():
        best = found["ensemble"]
        table.add_row(
            name,
            f"{best['spme_rms']:.2f}",
            f"{found['student']['rms']:.2f}",
            f"{best['rms']:.2f}",
            f"{best['max']:.1f}",
            f"{100 * best['covered']:.0f} %",
            f"{100 * best['abstained']:.1f} %",
        )
    console.print(table)


def _print_certificate(certificate: Certificate, console: Console) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=f"{certificate.potential} in {certificate.formula}")
    for heading in ("property", "violation", "limit", "unit", ""):
        table.add_column(heading, justify="right" if heading in ("violation", "limit") else "left")
    for finding in certificate.findings:
        verdict = "holds" if finding.passed else f"[red]FAILS: {finding.meaning}"
        if not finding.applies:
            verdict = "not given"
        table.add_row(
            finding.name.replace("_", " "),
            f"{finding.measured:.2g}",
            f"{finding.limit:.2g}",
            finding.unit,
            verdict,
        )
    console.print(table)
    console.print(certificate.outcome, soft_wrap=True)


def _charges(given: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(size) for name, size in (one.split("=") for one in given)}
    except ValueError:
        raise ValueError(
            f"The charges {', '.join(given)} cannot be read; give each as Na=1."
        ) from None


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Say what was wrong with the input, or kept it from being done, and leave with code 2."""
    try:
        yield
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        _stop(str(error))


def _console() -> Console:
    """Return the terminal; where it is none, with room for the tables."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 112))


def _read(path: Path, output: Path | None) -> Case:
    from multiscale.case import read
    from multiscale.executors import quiet_imports

    with _one_sentence(), quiet_imports():
        return read(path, output=output)


def _stop(sentence: str) -> NoReturn:
    typer.secho(sentence, fg=typer.colors.RED, err=True)
    raise typer.Exit(BAD_INPUT)
