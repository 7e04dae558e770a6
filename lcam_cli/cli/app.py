"""The command ``lcam``: its commands, and the options that may stand before them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lcam_cli.cli.clean import clean
from lcam_cli.cli.compare import compare
from lcam_cli.cli.console import Console, results_alone
from lcam_cli.cli.demo import demo
from lcam_cli.cli.diagnose import diagnose
from lcam_cli.cli.evaluate import evaluate
from lcam_cli.cli.explain import explain
from lcam_cli.cli.help import WIDTH, write_help
from lcam_cli.cli.info import info
from lcam_cli.cli.merge import merge
from lcam_cli.cli.methods import methods
from lcam_cli.cli.options import Config, Debug, Flags, Quiet
from lcam_cli.cli.sanity import sanity
from lcam_cli.cli.settings import key_of
from lcam_cli.cli.train import train
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.version import __version__

_BY_RANKS = ("train", "compare", "explain")


class Command(TyperCommand):
    """A command whose every option and argument can come from ``LCAM_<COMMAND>_<OPTION>``.

    click can name variables by itself, but after the Python parameter instead of the option
    (``--class`` cannot be called ``class``), and for options only.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for param in self.params:
            param.show_envvar = False  # type: ignore[attr-defined]
            param.envvar = f"LCAM_{self.name}_{key_of(param)}".upper()  # type: ignore[arg-type]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write ``--help``."""
        write_help(self, ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, if it can be run the way it was started.

        Raises:
            LcamError: By several ranks, which it is not made for; or a variable in the environment
                is named like an option that there is not.
        """
        rank_info = RankInfo.of_environment()
        if self.name not in _BY_RANKS and rank_info.size > 1:
            raise LcamError(
                f"lcam {self.name} runs in one process, but this is one of {rank_info.size}",
                "start it without torchrun",
            )
        self._check_variables()
        flags = ctx.ensure_object(Flags)
        params: list[Any] = list(self.params)
        used = [key_of(p).replace("_", "-") for p in params if _is_from_file(ctx, p)]
        if used:
            console = Console(flags.quiet, follows=rank_info.rank > 0)
            console.info(f"from {flags.settings}: {', '.join(used)}")
        with results_alone():
            return super().invoke(ctx)

    def _check_variables(self) -> None:
        prefix = f"LCAM_{self.name}_".upper()
        known = [str(param.envvar) for param in self.params]
        for name in os.environ:
            if name.startswith(prefix) and name not in known:
                raise LcamError(
                    f"{name} is in the environment, but lcam {self.name} has no such option",
                    did_you_mean(name, known) or f"`lcam {self.name} --help` lists them",
                )


class Commands(TyperGroup):
    """The commands, with a help page of their own."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write ``--help``."""
        write_help(self, ctx, formatter)


def _is_from_file(ctx: Any, param: Any) -> bool:
    """Whether a parameter's value stands in the settings file and nowhere nearer."""
    source = ctx.get_parameter_source(param.name)
    return source is not None and source.name == "DEFAULT_MAP"


def new_app() -> typer.Typer:
    """Return the frame of the command line, without commands."""
    frame = typer.Typer(
        name="lcam",
        cls=Commands,
        rich_markup_mode=None,  # the help is written here: in groups, plain in a pipe
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
    )
    frame.callback()(_before_the_command)
    return frame


def add_command(app: typer.Typer, function: Callable[..., None]) -> None:
    """Add a command named after its function."""
    app.command(cls=Command)(function)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"lcam {__version__}")
        raise typer.Exit


def _before_the_command(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Show the version."),
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
    config: Config = None,
) -> None:
    """Explain image classifiers in bulk: where did they look?

    New here? lcam demo shows it all. lcam COMMAND --help lists the options of a command.

    Options can also be set in lcam.toml, in [defaults] or in a section named after the command, or
    in the environment, as LCAM_<COMMAND>_<OPTION>.
    """


def lcam_app() -> typer.Typer:
    """Return the command line with all its commands, in the order a user meets them."""
    app = new_app()
    for command in (
        *(train, explain, evaluate, compare, methods, sanity, diagnose),
        *(merge, info, clean, demo),
    ):
        add_command(app, command)
    return app
