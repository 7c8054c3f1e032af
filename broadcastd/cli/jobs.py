"""`broadcastd jobs` and `job`."""

from typing import Any

import click

from broadcastd.cli.target import Target, print_json, target_options

job_argument = click.argument("job_id", metavar="JOB")


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--open", "only_open", is_flag=True, help="Only jobs that have not ended, oldest first.")
@click.option("--account", help="Only jobs of this account.")
@target_options
def jobs(target: Target, as_json: bool, limit: int, only_open: bool, account: str | None) -> None:
    """List the newest jobs."""
    from broadcastd.cli.show import console, jobs_table

    reply = target.call({"op": "jobs", "limit": limit, "open": only_open, "account": account})
    if as_json:
        print_json(reply)
    elif reply["jobs"]:
        console().print(jobs_table(reply["jobs"]))
    else:
        click.echo("no jobs")


@click.command()
@job_argument
@target_options
def job(target: Target, as_json: bool, job_id: str) -> None:
    """Show JOB and its books."""
    print_job(target.call({"op": "job", "job": job_id}), as_json)


def print_job(reply: dict[str, Any], as_json: bool) -> None:
    """A whole job, as every control answers with it."""
    from broadcastd.cli.show import console, job_table

    if as_json:
        print_json(reply)
    else:
        console().print(job_table(reply))
