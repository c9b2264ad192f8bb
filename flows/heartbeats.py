"""An automation that ends runs whose process is gone: a killed worker would leave them "Running" for ever."""

from __future__ import annotations

from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import PrefectHTTPStatusError

NAME = "difflora: runs without a heartbeat"
SECONDS = 120
_ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def automation() -> Automation:
    """A run that does not say for two minutes that it lives, and has not ended, is marked as crashed."""
    return Automation(
        name=NAME,
        description="A killed worker or flow process leaves its run as it was; run again, it goes on where it stopped.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in _ENDS)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message="Its process is gone (no heartbeat). Run it again: it goes on from its last checkpoint.",
            )
        ],
    )


def main() -> None:
    """Makes it, unless it is there."""
    try:
        there = Automation.read(name=NAME)
    except (ValueError, PrefectHTTPStatusError):
        there = None
    if there is None:
        automation().create()


if __name__ == "__main__":
    main()
