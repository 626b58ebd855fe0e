"""What ``make demo`` measures: enough to see the main job done on both engines in a few minutes."""

from __future__ import annotations

from host.validate import Question

DEMO_NETWORKS = (*(f"chamnet-{letter}" for letter in "abcdef"), "mobilenet-v2")
ENGINES = ("litert", "onnxruntime")
UNSEEN = 12
CALIBRATION = 8


def demo_questions(seed: int) -> dict[str, Question]:
    """The question that each engine is asked."""
    question = Question("chamnet-mobile", UNSEEN, DEMO_NETWORKS, CALIBRATION, seed)
    return dict.fromkeys(ENGINES, question)
