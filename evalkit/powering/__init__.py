"""What rules can decide with the samples there are, before anything is measured: the rules themselves are asked.

``estimands`` counts the samples behind every name a rule may match; ``spreads`` says how scores are taken to vary, from
assumptions or an earlier run; ``evidence`` builds what a run might find; ``hypothetical`` gives every outcome its
probability and the rule's own answer (``answers``); ``possible`` puts the extreme outcomes to it; ``rules`` turns all
that into the power of rules and gates; ``undecidable`` finds rules that no outcome could decide.
"""

from evalkit.powering.estimands import Estimand, estimands_of
from evalkit.powering.rules import power_of
from evalkit.powering.spreads import Assumptions
from evalkit.powering.undecidable import undecidable

__all__ = [
    "Assumptions",
    "Estimand",
    "estimands_of",
    "power_of",
    "undecidable",
]
