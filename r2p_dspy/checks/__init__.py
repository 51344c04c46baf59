"""Checks: pure functions of (inputs, outcome), written once and used as assertion, monitor, feedback and reward."""

from r2p_dspy.checks.built_in import BUILT_IN, approved, backed, cited, labelled, parsed, quoted, stages
from r2p_dspy.checks.check import (
    PARSED,
    Answer,
    Assert,
    Check,
    CheckFunction,
    Kind,
    Suggest,
    Verdict,
    combined,
    feedback,
    judge,
    validated,
)
from r2p_dspy.checks.cited_stages import evidence_of, preferences_of, verification_of

__all__ = [
    "Answer",
    "Assert",
    "BUILT_IN",
    "Check",
    "CheckFunction",
    "Kind",
    "PARSED",
    "Suggest",
    "Verdict",
    "approved",
    "backed",
    "cited",
    "combined",
    "evidence_of",
    "feedback",
    "judge",
    "labelled",
    "parsed",
    "preferences_of",
    "quoted",
    "stages",
    "validated",
    "verification_of",
]
