"""A plan as JSON: what provenance.json says of it, and how a resumed run finds it again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from budget import Plan
from gpt2 import Shape, Variant

if TYPE_CHECKING:
    from machine import Machine


def plan_record(plan: Plan, machine: Machine) -> dict[str, Any]:
    """A plan as JSON, for provenance.json, the model card and a resume."""
    record = asdict(plan)
    shape = record.pop("shape")
    return {**shape, "parameters": plan.shape.parameters, **record, "machine": machine.name}


def plan_from_record(record: dict[str, Any]) -> Plan:
    """The plan that a record describes; what runs of earlier versions did not have is as they were."""
    numbers = {name: record[name] for name in Shape.__dataclass_fields__}
    shape = Shape(**{**numbers, "variant": Variant(**record["variant"])})
    rest = {name: record[name] for name in Plan.__dataclass_fields__ if name in record}
    return Plan(shape, **rest)
