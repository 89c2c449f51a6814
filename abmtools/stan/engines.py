r"""Engines: two ways to run a Stan program, behind one result.

Both run the same sampler (NUTS with a diagonal metric, adapted in warm-up, trees of at most
:math:`2^{10}` leapfrog steps) on the same program. They differ in what they need:

===========  =============================================================================
`stanli`     a wheel that contains Stan's compiler and sampler; starts in a second
`cmdstanpy`  a CmdStan installation and a C++ compiler; compiles each program once
===========  =============================================================================

An engine is a function ``(program, data, settings) -> Fit``. Nothing after it knows which one
ran.
"""

import functools
import hashlib
import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..jobs import num_cores

__all__ = [
    "ENGINES",
    "MAX_TREE_DEPTH",
    "Fit",
    "Program",
    "Settings",
    "compile_stanli",
    "run",
    "select_engine",
]

MAX_TREE_DEPTH = 10
COMPILE = """
import sys, stanli
try:
    sys.stdout.write(stanli.stan_to_mir(sys.stdin.read()))
except RuntimeError as error:
    sys.exit(str(error))
"""


class Program(NamedTuple):
    """A Stan program: its name and its code."""

    name: str
    code: str


class Fit(NamedTuple):
    """What an engine returns.

    Attributes
    ----------
    variables : dict of str to array, ``(chains, draws, *shape)``
        Every variable of the program: parameters, transformed parameters, generated quantities.
    statistics : dict of str to array, (chains, draws)
        The sampler's columns under Stan's names, such as ``lp__``.
    compile_time, sampling_time : float
        Wall-clock seconds. The second includes warm-up, and all chains.
    versions : dict of str to str
        Version of each piece of software that ran.
    """

    variables: dict
    statistics: dict
    compile_time: float
    sampling_time: float
    versions: dict


@dataclass(frozen=True)
class Settings:
    """Checked settings of a run; see `abmtools.stan.sample`.

    ``inits`` are the program's parameters where each chain starts, one dictionary for each.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

    chains: int = 4
    warmup: int = 1000
    draws: int = 1000
    seed: int = 1
    cores: int | None = None
    adapt_delta: float = 0.8
    show_progress: bool = False
    inits: list[dict] | None = None

    def __post_init__(self):
        for name, low, high in [
            ("chains", 1, np.inf),
            ("warmup", 1, np.inf),
            ("draws", 1, np.inf),
            ("seed", 0, 2**32 - 1),
        ]:
            _check_integer(name, getattr(self, name), low, high)
        if self.cores is not None:
            _check_integer("cores", self.cores, 1, np.inf)
        if not (isinstance(self.adapt_delta, Real) and 0 < self.adapt_delta < 1):
            raise ValueError(
                f"adapt_delta: expected a number between 0 and 1, got {self.adapt_delta!r}."
            )

    @property
    def parallel_chains(self) -> int:
        """Chains that run at once: `cores`, or the cores that this process may use."""
        return min(self.chains, self.cores or num_cores())


def run(engine: str, program: Program, data: Mapping, settings: Settings) -> Fit:
    """Run a program with the engine of that name (not ``"auto"``)."""
    return ENGINES[engine](program, data, settings)


def select_engine(engine: str) -> str:
    """Resolve ``"auto"``: cmdstanpy where CmdStan is installed, else stanli.

    Raises
    ------
    ValueError
        If there is no engine of that name.
    ImportError
        If ``"auto"`` finds neither.
    """
    if engine == "auto":
        return _first_installed()
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {['auto', *ENGINES]}, got {engine!r}.")
    return engine


def run_stanli(program: Program, data: Mapping, settings: Settings) -> Fit:
    """Run a program with stanli.

    Raises
    ------
    ImportError
        If stanli is not installed.
    RuntimeError
        If the program does not compile, the data do not fit it, or a chain cannot start.
    """
    stanli = _import("stanli")
    started = time.perf_counter()
    mir = compile_stanli(program.code)
    model = stanli.Model(mir=mir, data=dict(data), seed=settings.seed)
    compiled = time.perf_counter()
    inits = None
    if settings.inits is not None:
        inits = np.stack([model.unconstrain(start) for start in settings.inits])
    fit = model.sample(
        chains=settings.chains,
        seed=settings.seed,
        warmup=settings.warmup,
        samples=settings.draws,
        delta=settings.adapt_delta,
        max_depth=MAX_TREE_DEPTH,
        parallel_chains=settings.parallel_chains,
        inits=inits,
        refresh=_refresh(settings) if settings.show_progress else 0,
    )
    finished = time.perf_counter()
    return Fit(
        variables={name: fit.draws(name) for name in fit.variables},
        statistics={
            name: fit.sampler_stats[..., column]
            for column, name in enumerate(stanli.SAMPLER_COLUMNS)
        },
        compile_time=compiled - started,
        sampling_time=finished - compiled,
        versions={"stanli": stanli.__version__},
    )


@functools.lru_cache(maxsize=32)
def compile_stanli(code: str) -> str:
    """A program in the form that stanli's runtime reads, compiled in a process of its own.

    The compiler is OCaml's, with a signal stack of a fixed size. Once torch has asked Linux for the
    AMX registers of newer Intel processors, that is too small, and OCaml aborts the process.

    Raises
    ------
    RuntimeError
        If the program does not compile.
    """
    command = [sys.executable, "-X", "utf8", "-c", COMPILE]
    done = subprocess.run(command, input=code, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def run_cmdstanpy(program: Program, data: Mapping, settings: Settings) -> Fit:
    """Run a program with CmdStan, through cmdstanpy.

    The program is compiled in a folder of the user's cache that is named after the program's
    content and CmdStan's version, so that it is compiled once.

    Raises
    ------
    ImportError
        If cmdstanpy is not installed.
    RuntimeError
        If CmdStan is not installed, or the run fails.
    """
    cmdstanpy = _import("cmdstanpy")
    version = _cmdstan_version(cmdstanpy)
    started = time.perf_counter()
    with nullcontext() if settings.show_progress else cmdstanpy.disable_logging():
        model = cmdstanpy.CmdStanModel(stan_file=_cached_source(program, version))
        compiled = time.perf_counter()
        fit = model.sample(
            data=dict(data),
            chains=settings.chains,
            parallel_chains=settings.parallel_chains,
            inits=settings.inits,
            seed=settings.seed,
            iter_warmup=settings.warmup,
            iter_sampling=settings.draws,
            adapt_delta=settings.adapt_delta,
            max_treedepth=MAX_TREE_DEPTH,
            sig_figs=12,
            show_progress=settings.show_progress,
            refresh=_refresh(settings),
        )
    finished = time.perf_counter()
    return Fit(
        **_read_cmdstanpy(fit),
        compile_time=compiled - started,
        sampling_time=finished - compiled,
        versions={"cmdstanpy": cmdstanpy.__version__, "cmdstan": version},
    )


ENGINES: dict[str, Callable[[Program, Mapping, Settings], Fit]] = {
    "stanli": run_stanli,
    "cmdstanpy": run_cmdstanpy,
}


def _read_cmdstanpy(fit) -> dict:
    """Variables and statistics of a ``CmdStanMCMC``, which keeps the draws chain after chain."""
    variables = {
        name: values.reshape(fit.chains, -1, *values.shape[1:])
        for name, values in fit.stan_variables().items()
    }
    statistics = {name: values.T for name, values in fit.method_variables().items()}
    return {"variables": variables, "statistics": statistics}


def _cached_source(program: Program, version: str) -> Path:
    """Write the program where CmdStan may compile it, unless it is there."""
    import pooch

    digest = hashlib.sha256(f"{version}\n{program.code}".encode()).hexdigest()[:16]
    folder = Path(pooch.os_cache("abmtools")) / "stan" / digest
    source = folder / (re.sub(r"\W+", "_", program.name) + ".stan")
    if not source.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{source.stem}.{os.getpid()}.tmp"
        draft.write_text(program.code, encoding="utf-8")
        draft.replace(source)
    return source


def _import(package: str):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"engine: {package!r} needs the package {package}, which cannot be imported "
            f"({error}). Install it with `pip install {package}`."
        ) from error


def _cmdstan_version(cmdstanpy) -> str:
    """CmdStan's version, for example "2.38"; raises a RuntimeError where it is missing."""
    try:
        path = cmdstanpy.cmdstan_path()
    except ValueError as error:
        raise RuntimeError(
            f"engine: 'cmdstanpy' needs CmdStan, which was not found ({error}). Install it with "
            "`conda install -c conda-forge cmdstan` or `python -m cmdstanpy.install_cmdstan`, or "
            "use engine='stanli', which needs no compiler."
        ) from error
    version = cmdstanpy.cmdstan_version()
    return Path(path).name if version is None else ".".join(map(str, version))


def _first_installed() -> str:
    """The engine for ``"auto"``."""
    try:
        _cmdstan_version(_import("cmdstanpy"))
    except (ImportError, RuntimeError):
        pass
    else:
        return "cmdstanpy"
    try:
        _import("stanli")
    except ImportError as error:
        raise ImportError(
            "engine: 'auto' found neither CmdStan nor stanli. Install one of them, the "
            "second with `pip install stanli`."
        ) from error
    return "stanli"


def _refresh(settings: Settings) -> int:
    """Iterations between progress reports: ten a chain."""
    return max(1, (settings.warmup + settings.draws) // 10)


def _check_integer(name: str, value, low: float, high: float) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= value <= high:
        upper = "" if high == np.inf else f" and at most {high}"
        raise ValueError(f"{name}: expected an integer of at least {low}{upper}, got {value!r}.")
