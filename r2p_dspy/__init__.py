"""R2P for DSPy: personalized answers, reasoned by a checked template, with the history items that they cite."""

import warnings
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from r2p_dspy.artifact import artifact_of, load_program, save_program
from r2p_dspy.artifact_file import Artifact, read_artifact, write_artifact
from r2p_dspy.checks import BUILT_IN, Assert, Check, Suggest, Verdict
from r2p_dspy.engines.connect import connect
from r2p_dspy.errors import ArtifactError, CheckError, ConfigError, DataError, R2PError, RunError, StoreError
from r2p_dspy.modules.cross_reference import CrossReference
from r2p_dspy.modules.enforce import Enforce, optimizing
from r2p_dspy.modules.failures import AssertionFailed
from r2p_dspy.modules.justify import justifying
from r2p_dspy.modules.reason import Reason
from r2p_dspy.modules.synthesize import Synthesize
from r2p_dspy.modules.voting import Reconcile
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.prediction import Attempt, Candidate, Details, R2PPrediction, Reasoning
from r2p_dspy.profile import Item, Profile
from r2p_dspy.prompting.adapter import active_adapter
from r2p_dspy.prompting.fit import shorten
from r2p_dspy.r2p import R2P
from r2p_dspy.redaction import redacted
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.retrieval.dense import Dense
from r2p_dspy.retrieval.hybrid import Budget, Hybrid
from r2p_dspy.retrieval.retriever import Retriever
from r2p_dspy.retrieval.simple import All, Random, Recency
from r2p_dspy.scoring.composite import Composite, Score
from r2p_dspy.template import TEMPLATE, Evidence, Preference, Stage, Template, Verification
from r2p_dspy.version import __version__

__all__ = [
    "__version__",
    "All",
    "Artifact",
    "ArtifactError",
    "Assert",
    "AssertionFailed",
    "Attempt",
    "BM25",
    "BUILT_IN",
    "Budget",
    "Candidate",
    "Check",
    "CheckError",
    "ConfigError",
    "Composite",
    "CrossReference",
    "DataError",
    "Dense",
    "Details",
    "Enforce",
    "Evidence",
    "Hybrid",
    "Inputs",
    "Item",
    "Outcome",
    "Preference",
    "Profile",
    "R2P",
    "R2PError",
    "R2PPrediction",
    "Random",
    "Reason",
    "Reasoning",
    "Recency",
    "Reconcile",
    "Retriever",
    "RunError",
    "StoreError",
    "Score",
    "Stage",
    "Suggest",
    "Synthesize",
    "TEMPLATE",
    "Template",
    "Verdict",
    "Verification",
    "active_adapter",
    "artifact_of",
    "connect",
    "justifying",
    "load_program",
    "optimizing",
    "read_artifact",
    "redacted",
    "save_program",
    "shorten",
    "unshadowed",
    "write_artifact",
]

if not TYPE_CHECKING:  # else a type checker would accept any name
    _RENAMED = {
        "AssertionUnmet": ("r2p_dspy.AssertionFailed", AssertionFailed),
        "as_float": ("score.metric", attrgetter("metric")),
        "as_bool": ("score.accepts", attrgetter("accepts")),
        "as_optimizer_metric": ("score.optimizer_metric", attrgetter("optimizer_metric")),
        "as_gepa": ("score.gepa_metric", attrgetter("gepa_metric")),
        "as_reward": ("score.reward", attrgetter("reward")),
    }

    def __getattr__(name: str) -> Any:
        """Give a name of the last version, with a DeprecationWarning."""
        if name not in _RENAMED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        new, value = _RENAMED[name]
        warnings.warn(f"r2p_dspy.{name} is deprecated; use {new}", DeprecationWarning, stacklevel=2)
        return value
