"""GitHub webhooks: one run follows each issue or pull request from opened to closed, one run handles each push.

    workflow-worker dev examples/webhooks.py
    workflow-worker publish --file EVENTS.jsonl.gz
    workflow-worker runs list --workflow follow --status waiting

Each event is ``github.<name>.<action>`` with the payload as GitHub sends it. Its subject is ``owner/repo#number`` where
the payload has an issue or a pull request, else the repository or the organisation, and its id is the delivery's:
https://docs.github.com/en/webhooks/webhook-events-and-payloads

An event about an issue whose opening was not seen yet is kept, and taken up when the run begins. Whatever has no
meaning here is noted by a run of its own: nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workflow_worker import App, wf

app = App("webhooks")

ISSUE_TYPES = (
    "github.issues.*",
    "github.issue_comment.*",
    "github.pull_request.*",
    "github.pull_request_review.*",
    "github.pull_request_review_comment.*",
    "github.pull_request_review_thread.*",
)
# Some of these names have actions (``github.star.created``), some have none (``github.fork``).
OTHER_NAMES = (
    "branch_protection_rule", "check_run", "check_suite", "code_scanning_alert", "commit_comment", "create",
    "delete", "dependabot_alert", "deploy_key", "deployment", "deployment_review", "deployment_status",
    "discussion", "discussion_comment", "fork", "github_app_authorization", "gollum", "installation",
    "installation_repositories", "label", "marketplace_purchase", "member", "membership", "merge_group", "meta",
    "milestone", "org_block", "organization", "package", "page_build", "ping", "project", "project_card",
    "project_column", "projects_v2_item", "public", "release", "repository", "repository_dispatch",
    "repository_import", "repository_vulnerability_alert", "security_advisory", "sponsorship", "star", "status",
    "team", "team_add", "watch", "workflow_dispatch", "workflow_job", "workflow_run",
)  # fmt: skip
OTHER_TYPES = [f"github.{name}{suffix}" for name in OTHER_NAMES for suffix in ("", ".*")]


@app.event("github.issues.opened", "github.pull_request.opened")
@dataclass(frozen=True, slots=True)
class Opened:
    """Somebody opened an issue or a pull request."""

    sender: dict[str, Any]


@app.event(*ISSUE_TYPES)
@dataclass(frozen=True, slots=True)
class Changed:
    """Something else happened to it; `action` says what, and ``closed`` ends the story."""

    action: str


@app.event("github.push")
@dataclass(frozen=True, slots=True)
class Pushed:
    """Commits arrived on a branch."""

    ref: str
    after: str


@app.event(*OTHER_TYPES)
@dataclass(frozen=True, slots=True)
class Other:
    """Any other delivery; many have no subject."""

    action: str | None = None


@app.action
async def start_build(ref: str, commit: str) -> str:
    """Ask the build system for a build; here it only gets a name."""
    return f"{ref.removeprefix('refs/heads/')}@{commit[:7]}"


@app.workflow(on=Opened, id="{subject}", version=1)
async def follow(opened: Opened) -> dict[str, Any]:
    """Count what happens to one issue or pull request until it is closed."""
    seen: dict[str, int] = {"opened": 1}
    while "closed" not in seen:
        wf.state(seen=seen, opened_by=opened.sender.get("login"))
        change = await wf.wait_for(Changed)
        seen[change.action] = seen.get(change.action, 0) + 1
    return {"seen": seen, "opened_by": opened.sender.get("login")}


@app.workflow(on=Pushed, version=1)
async def build(push: Pushed) -> str:
    """Build what was pushed; a deleted branch (its commit is all zeros) needs none."""
    if not push.after.strip("0"):
        return "nothing to build"
    return await start_build(push.ref, push.after)


@app.workflow(on=Other, version=1)
async def note(other: Other) -> str | None:
    """Only note that it came: its event is the run's first record."""
    return other.action
