"""The rules that a mutation test can switch off, each with the reason why it exists."""

from __future__ import annotations

from enum import StrEnum


class Rule(StrEnum):
    """One rule of the protocol. A machine made with rules switched off is a mutant that the simulation must catch."""

    VIA_SKIPS_SEEN = "what our scripts wrote is not looked up among the seen ids"
    """`publish` remembers the id before ingest sees the entry: looked up again, every published event would be lost."""
    SEEN = "a bare id that was seen is a duplicate"
    EARLY_TAKEN = "a new run takes the early events of its subject"
    EARLY_FOR_EVERY_RUN = "every run that one entry creates gets its own copy of the early events"
    KEEP_BESIDE_WAIT = "what only another subject's wait received stays early for the subject's own run"
    SUBJECT_COPIES = "every live run of the subject gets its copy"
    RESTART = "on_existing=restart and a rejected start begin a new incarnation"
    COPY_TO_ITS_RUN = "a dead letter made from a run's copy goes back to that run alone"
    ONE_READY_ENTRY = "a run that is ready already gets no second entry"
    SESSION_CHECK = "ingest refuses a session that is missing or being reaped"
    RENEW_NEVER_CREATES = "a renewal never brings a lost session back"
    RENEW_DIFFERENCE = "a renewal names the runs that the session holds without knowing it"
    NUMBERED_INGEST = "an ingest that was answered is not done again"
    OWNER_CHECK = "a commit names the session that owns the run"
    TOKEN_CHECK = "a commit carries the token of the lease"
    COMMIT_ONCE = "a commit that was accepted is not done again"
    BASE_CHAIN = "a commit names the commit it builds on"
    NAMED_MAIL = "a commit names the last mail that it took"
    MAIL_RULE = "no release and no end while mail is not taken"
    WAIT_LOOKS_EARLY = "a new wait copies what came before it"
    WAIT_KEEPS_LEASE = "a release whose new wait found early events is a keep"
    EMIT_ONCE = "an emit not above the highest one is skipped"
    EMIT_NAMES_START = "the id of an emit holds the id of the run's start event"
    RESTART_CLEARS = "continue as new leaves nothing of the old history and counts emits from one"
    ANSWERS_DROPPED = "what one run sends to another that is over is dropped"
    TOKEN_RISES = "giving a run up raises its token"
    HIGHEST_TOKEN = "a token is above all tokens of the partition"
    CANCEL_WAKES = "a cancel request ends suspension"
    LEASE_ENDS_WAKE = "a lease takes the run's wake away"
