"""``jobs`` and ``fanouts``: what was asked of devices, and what became of it."""

from __future__ import annotations

from palyra.console import models, reading
from palyra.console.routing import PAGED, WAIT_MS, Route, repeated, text, words
from palyra.core.jobs import JobState
from palyra.core.operators import Right

MAX_WAIT_MS = 60_000

ROUTES = (
    Route(
        "GET",
        "jobs",
        "list_jobs",
        "List jobs, newest first.",
        lambda of, asked: of.gateway.jobs(
            reading.job_filter(asked.request),
            reading.limit(asked.request),
            reading.cursor(asked.request),
        ),
        models.JobList,
        query=(
            *PAGED,
            repeated("state", "Only jobs in one of these states.", *words(JobState)),
            text("device", "Only jobs of this device."),
            text("capability", "Only jobs of this capability."),
            text("by", "Only jobs that this operator or client asked for."),
            text("fanout", "Only rows of this fan-out."),
        ),
        listed=True,
    ),
    Route(
        "POST",
        "jobs",
        "submit_jobs",
        "Ask many devices: answered when every target has its row on record.",
        lambda of, asked: of.gateway.submit(asked.body, asked.caller),
        models.FanoutAnswer,
        Right.SUBMIT,
        models.SubmitJobs,
        keyed=True,
        status=202,
        example={
            "capability": "system.health",
            "input_json": {},
            "where": "label.site = prague",
            "batch": "25%",
        },
    ),
    Route(
        "POST",
        "jobs/purge",
        "purge_jobs",
        "Cancel what waits for one device, or for all.",
        lambda of, asked: of.gateway.purge(asked.body, asked.caller),
        models.PurgeAnswer,
        Right.ADMINISTER,
        models.PurgeJobs,
    ),
    Route(
        "GET",
        "jobs/{target}",
        "show_job",
        "Show one job with its input and output; it may be waited for.",
        lambda of, asked: of.gateway.job(
            asked.target, min(reading.number(asked.request, "wait_ms", 0), MAX_WAIT_MS)
        ),
        models.JobAnswer,
        query=(WAIT_MS,),
    ),
    Route(
        "POST",
        "jobs/{target}/cancel",
        "cancel_job",
        "Ask for the end of a job.",
        lambda of, asked: of.gateway.cancel_job(asked.target, asked.body, asked.caller),
        models.JobAnswer,
        Right.SUBMIT,
        models.CancelJob,
    ),
    Route(
        "GET",
        "jobs/{target}/events",
        "follow_job",
        "Follow a job to its end.",
        answer=models.JobEvent,
        follow=lambda of, asked, wake: of.gateway.follow_job(asked.target, wake),
    ),
    Route(
        "GET",
        "fanouts/{target}",
        "show_fanout",
        "Show a fan-out with a page of its rows.",
        lambda of, asked: of.gateway.fanout(
            asked.target, reading.limit(asked.request), reading.cursor(asked.request)
        ),
        models.FanoutAnswer,
        query=PAGED,
    ),
    Route(
        "POST",
        "fanouts/{target}/cancel",
        "cancel_fanout",
        "Ask for the end of every row that has not ended.",
        lambda of, asked: of.gateway.cancel_fanout(asked.target, asked.body, asked.caller),
        models.FanoutAnswer,
        Right.SUBMIT,
        models.CancelJob,
    ),
    Route(
        "GET",
        "fanouts/{target}/events",
        "follow_fanout",
        "Follow a fan-out and its rows to their end.",
        answer=models.JobEvent,
        follow=lambda of, asked, wake: of.gateway.follow_fanout(asked.target, wake),
    ),
)
