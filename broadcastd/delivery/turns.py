"""Whose turn it is: slices of several jobs, dealt out so that a small one is not stuck behind a large one."""

from collections.abc import Mapping, Sequence


def deal(idle: int, open_slices: Mapping[int, int], order: Sequence[int]) -> dict[int, int]:
    """Give `idle` tasks to jobs, one each in turn, until tasks or slices run out: job number to share.

    `order` says who is first; jobs without open slices are passed over.
    """
    left = {job_no: open_slices[job_no] for job_no in order if open_slices.get(job_no)}
    shares: dict[int, int] = {}
    while idle and left:
        for job_no in list(left):
            if not idle:
                break
            shares[job_no] = shares.get(job_no, 0) + 1
            idle -= 1
            left[job_no] -= 1
            if not left[job_no]:
                del left[job_no]
    return shares


def rotated(order: Sequence[int], after: Sequence[int]) -> list[int]:
    """`order`, with those that just had a turn moved to the end."""
    had = set(after)
    return [one for one in order if one not in had] + [one for one in order if one in had]
