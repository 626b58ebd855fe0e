"""The command ``chamnet``: reads arguments, calls the one function that does it, prints, sets the exit status.

Commands live in ``cli_*`` modules by subject; here they are joined, and errors become one line and a status:
0 done, 1 expected error, 2 usage, 3 done in part, 4 device unavailable.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from host import (
    cli_bundle,
    cli_compare,
    cli_db,
    cli_energy,
    cli_fleet,
    cli_lut,
    cli_measure,
    cli_metering,
    cli_ops,
    cli_predict,
    cli_samples,
    cli_search,
    cli_serve,
)
from host.errors import EXIT_DONE, EXIT_ERROR, EXIT_USAGE, HostError
from host.show import errors
from lut_db.errors import LutError
from lut_db.lut import MissingOpsError
from ops_catalog.spec import SpecError
from ops_catalog.sweep import Sweep, save_sweep

MISSING = Path("missing.json")
"""Where the operators are listed that a command lacked, ready for ``chamnet profile --ops``."""

INTERRUPTED = "interrupted; what was measured is stored, the same command goes on from there"
INTERRUPT = 130
"""What typer makes of Ctrl-C."""

app: typer.Typer = typer.Typer(
    name="chamnet", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
app.command("profile")(cli_measure.profile_command)
app.command("validate")(cli_measure.validate_command)
app.command("devices")(cli_measure.devices_command)
app.command("demo")(cli_measure.demo_command)
app.command("search")(cli_search.search_command)
app.command("compare")(cli_compare.compare_command)
app.command("predict")(cli_predict.predict_command)
app.command("sample")(cli_samples.sample_command)
app.command("serve")(cli_serve.serve_command)
app.add_typer(cli_serve.app, name="token")
app.add_typer(cli_samples.app, name="samples")
app.add_typer(cli_samples.predictor, name="predictor")
cli_energy.app.command("calibrate")(cli_metering.calibrate_command)
cli_energy.app.command("validate")(cli_metering.validate_command)
cli_energy.app.command("report")(cli_metering.report_command)
app.add_typer(cli_energy.app, name="energy")
app.add_typer(cli_bundle.app, name="bundle")
app.add_typer(cli_lut.app, name="lut")
app.add_typer(cli_db.app, name="db")
app.add_typer(cli_fleet.app, name="fleet")
app.add_typer(cli_ops.app, name="ops")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process with its exit status; being told to end is like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    try:
        ended = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except HostError as error:
        return _fail(str(error), error.exit_status)
    except SpecError as error:
        return _fail(str(error), EXIT_USAGE)
    except MissingOpsError as error:
        save_sweep(MISSING, Sweep(error.operators))
        return _fail(str(error).replace("FILE", str(MISSING)), EXIT_ERROR)
    except LutError as error:
        return _fail(str(error), EXIT_ERROR)
    except (typer.Abort, KeyboardInterrupt):
        return _fail(INTERRUPTED, EXIT_ERROR)
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror}", EXIT_ERROR)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return _fail(error.format_message(), EXIT_USAGE)
    if ended == INTERRUPT:
        return _fail(INTERRUPTED, EXIT_ERROR)
    return ended if isinstance(ended, int) else EXIT_DONE


def _fail(message: str, status: int) -> int:
    errors.print(f"chamnet: {message}", markup=False, highlight=False, soft_wrap=True)
    return status
