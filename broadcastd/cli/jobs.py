"""`broadcastd jobs`, `job` and `resume`."""

from pathlib import Path

import click

from broadcastd.cli.target import find_target, print_json, target_options


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--open", "only_open", is_flag=True, help="Only jobs that have not ended, oldest first.")
@target_options
def jobs(
    config: Path | None, host: str | None, port: int | None, as_json: bool, limit: int, only_open: bool
) -> None:
    """List the newest jobs."""
    from broadcastd.cli.show import console, jobs_table

    reply = find_target(config, host, port).call({"op": "jobs", "limit": limit, "open": only_open})
    if as_json:
        print_json(reply)
    elif reply["jobs"]:
        console().print(jobs_table(reply["jobs"]))
    else:
        click.echo("no jobs")


@click.command()
@click.argument("job_id", metavar="JOB")
@target_options
def job(config: Path | None, host: str | None, port: int | None, as_json: bool, job_id: str) -> None:
    """Show JOB and its books."""
    _one("job", config, host, port, as_json, job_id)


@click.command()
@click.argument("job_id", metavar="JOB")
@target_options
def resume(config: Path | None, host: str | None, port: int | None, as_json: bool, job_id: str) -> None:
    """Let a held JOB go on."""
    _one("resume", config, host, port, as_json, job_id)


def _one(
    op: str, config: Path | None, host: str | None, port: int | None, as_json: bool, job_id: str
) -> None:
    from broadcastd.cli.show import console, job_table

    reply = find_target(config, host, port).call({"op": op, "job": job_id})
    if as_json:
        print_json(reply)
    else:
        console().print(job_table(reply))
